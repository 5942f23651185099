//! Q8_0: 32 elements in 34 bytes, a scale and 8-bit integers.
//!
//! ggml's `block_q8_0`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16 |
//! | 2..34 | `qs`, signed bytes |
//!
//! `x = d · q`.

use super::{half_at, half_is_finite};

/// The definition of the format.
pub fn decode_block(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (x, q) in out.iter_mut().zip(&block[2..]) {
        *x = f32::from(*q as i8) * d;
    }
}

/// Bits per 32 elements in each plane of [`repack`]: `qs`, `d`.
pub const PLANES: &[u32] = &[256, 16];

/// The block in the planes that `q8_0.wgsl` reads.
pub fn repack(block: &[u8; 34], planes: &mut [Vec<u8>]) {
    planes[0].extend_from_slice(&block[2..]);
    planes[1].extend_from_slice(&block[..2]);
}

/// Whether the scale is finite.
pub fn is_finite(block: &[u8; 34]) -> bool {
    half_is_finite(block, 0)
}
