//! What the formats of 4-bit floats share.

/// What the 16 codes of E2M1 (sign, two bits of exponent, one of mantissa) stand for, doubled so that they are integers: ggml's
/// `kvalues_mxfp4`.
pub(super) const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
