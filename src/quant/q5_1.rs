//! Q5_1: 32 elements in 24 bytes, a scale, a minimum and 5-bit integers.
//!
//! ggml's `block_q5_1`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16 |
//! | 2..4 | `m`, F16 |
//! | 4..8 | `qh`, 32 bits: bit `j` is the fifth bit of element `j` |
//! | 8..24 | `qs`: byte `j` holds the other bits of element `j` (low four) and of element `j + 16` (high four) |
//!
//! `x = d · q + m`, `q` from 0 to 31.

use super::{half_at, half_is_finite};

/// The definition of the format.
pub fn decode_block(block: &[u8; 24], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let m = half_at(block, 2);
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for (j, q) in block[8..].iter().enumerate() {
        let low = q & 15 | ((high >> j & 1) << 4) as u8;
        let upper = q >> 4 | ((high >> (j + 16) & 1) << 4) as u8;
        out[j] = f32::from(low) * d + m;
        out[j + 16] = f32::from(upper) * d + m;
    }
}

/// Bits per 32 elements in each plane of [`repack`]: `qs`, `qh`, `d` and `m`.
pub const PLANES: &[u32] = &[128, 32, 32];

/// The block in the planes that `q5_1.wgsl` reads.
pub fn repack(block: &[u8; 24], planes: &mut [Vec<u8>]) {
    planes[0].extend_from_slice(&block[8..]);
    planes[1].extend_from_slice(&block[4..8]);
    planes[2].extend_from_slice(&block[..4]);
}

/// Whether scale and minimum are finite.
pub fn is_finite(block: &[u8; 24]) -> bool {
    half_is_finite(block, 0) && half_is_finite(block, 2)
}
