//! TQ2_0: 256 elements in 66 bytes, each −1, 0 or 1 times a scale.
//!
//! ggml's `block_tq2_0`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..64 | `qs`: byte `32 h + m` holds elements `128 h + 32 l + m` for `l` from 0 to 3 in its bits `2 l` and `2 l + 1` |
//! | 64..66 | `d`, F16 |
//!
//! `x = d · (q − 1)`.

use crate::quant::{half_at, half_is_finite, q2_k};

/// The integers, 0 to 3, in the order of the elements.
fn digits(block: &[u8; 66]) -> [u8; 256] {
    std::array::from_fn(|e| block[32 * (e / 128) + e % 32] >> (2 * (e / 32 % 4)) & 3)
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 66], out: &mut [f32; 256]) {
    let d = half_at(block, 64);
    for (x, digit) in out.iter_mut().zip(digits(block)) {
        *x = d * (f32::from(digit) - 1.0);
    }
}

/// Appends the block in Q2_K, exactly: its scales and minima are all 1.
pub fn convert(block: &[u8; 66], out: &mut Vec<u8>) {
    let d = half_at(block, 64);
    q2_k::push_block(d, d, [(1, 1); 16], &digits(block), out);
}

/// Whether the scale is finite.
pub fn is_finite(block: &[u8; 66]) -> bool {
    half_is_finite(block, 64)
}
