//! Q4_0: 32 elements in 18 bytes, a scale and 4-bit integers about zero.
//!
//! ggml's `block_q4_0`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16 |
//! | 2..18 | `qs`: byte `j` holds element `j` in its low and element `j + 16` in its high four bits |
//!
//! `x = d · (q − 8)`, `q` from 0 to 15.

use super::{half_at, half_is_finite};

/// The definition of the format.
pub fn decode_block(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (j, q) in block[2..].iter().enumerate() {
        out[j] = f32::from((q & 15) as i8 - 8) * d;
        out[j + 16] = f32::from((q >> 4) as i8 - 8) * d;
    }
}

/// Bits per 32 elements in each plane of [`repack`]: `qs`, `d`.
pub const PLANES: &[u32] = &[128, 16];

/// The block in the planes that `q4_0.wgsl` reads.
pub fn repack(block: &[u8; 18], planes: &mut [Vec<u8>]) {
    planes[0].extend_from_slice(&block[2..]);
    planes[1].extend_from_slice(&block[..2]);
}

/// Whether the scale is finite.
pub fn is_finite(block: &[u8; 18]) -> bool {
    half_is_finite(block, 0)
}
