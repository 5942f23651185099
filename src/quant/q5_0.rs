//! Q5_0: 32 elements in 22 bytes, a scale and 5-bit integers about zero.
//!
//! ggml's `block_q5_0`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16 |
//! | 2..6 | `qh`, 32 bits: bit `j` is the fifth bit of element `j` |
//! | 6..22 | `qs`: byte `j` holds the other bits of element `j` (low four) and of element `j + 16` (high four) |
//!
//! `x = d · (q − 16)`, `q` from 0 to 31.

use super::{half_at, half_is_finite};

/// The definition of the format.
pub fn decode_block(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for (j, q) in block[6..].iter().enumerate() {
        let low = q & 15 | ((high >> j & 1) << 4) as u8;
        let upper = q >> 4 | ((high >> (j + 16) & 1) << 4) as u8;
        out[j] = f32::from(low as i8 - 16) * d;
        out[j + 16] = f32::from(upper as i8 - 16) * d;
    }
}

/// Bits per 32 elements in each plane of [`repack`]: `qs`, `qh`, `d`.
pub const PLANES: &[u32] = &[128, 32, 16];

/// The block in the planes that `q5_0.wgsl` reads.
pub fn repack(block: &[u8; 22], planes: &mut [Vec<u8>]) {
    planes[0].extend_from_slice(&block[6..]);
    planes[1].extend_from_slice(&block[2..6]);
    planes[2].extend_from_slice(&block[..2]);
}

/// Whether the scale is finite.
pub fn is_finite(block: &[u8; 22]) -> bool {
    half_is_finite(block, 0)
}
