//! Q4_1: 32 elements in 20 bytes, a scale, a minimum and 4-bit integers.
//!
//! ggml's `block_q4_1`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16 |
//! | 2..4 | `m`, F16 |
//! | 4..20 | `qs`: byte `j` holds element `j` in its low and element `j + 16` in its high four bits |
//!
//! `x = d · q + m`, `q` from 0 to 15.

use super::{half_at, half_is_finite};

/// The definition of the format.
pub fn decode_block(block: &[u8; 20], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let m = half_at(block, 2);
    for (j, q) in block[4..].iter().enumerate() {
        out[j] = f32::from(q & 15) * d + m;
        out[j + 16] = f32::from(q >> 4) * d + m;
    }
}

/// Bits per 32 elements in each plane of [`repack`]: `qs`, `d` and `m`.
pub const PLANES: &[u32] = &[128, 32];

/// The block in the planes that `q4_1.wgsl` reads.
pub fn repack(block: &[u8; 20], planes: &mut [Vec<u8>]) {
    planes[0].extend_from_slice(&block[4..]);
    planes[1].extend_from_slice(&block[..4]);
}

/// Whether scale and minimum are finite.
pub fn is_finite(block: &[u8; 20]) -> bool {
    half_is_finite(block, 0) && half_is_finite(block, 2)
}
