//! Q5_K: 256 elements in 176 bytes, eight groups of 32 with a 6-bit scale and a 6-bit minimum each.
//!
//! ggml's `block_q5_K`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16, the scale of the scales |
//! | 2..4 | `dmin`, F16, the scale of the minima |
//! | 4..16 | scales and minima of the groups, 6 bits each, packed as in Q4_K |
//! | 16..48 | `qh`: bit `g` of byte `l` is the fifth bit of element `32 g + l` |
//! | 48..176 | `qs`: byte `32 p + l` holds the other bits of element `64 p + l` (low four) and `64 p + 32 + l` (high four) |
//!
//! `x = d · scale · q − dmin · min` with the group `element / 32`, `q` from 0 to 31.

use super::q4_k::{repack_low, scales_mins};
use super::{half_at, half_is_finite, push_floats};

/// The definition of the format.
pub fn decode_block(block: &[u8; 176], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let dmin = half_at(block, 2);
    let scales_mins = scales_mins(block[4..16].as_array().expect("12 bytes"));
    for (g, group) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales_mins[g].0);
        let min = dmin * f32::from(scales_mins[g].1);
        let (pair, odd) = (g / 2, g % 2);
        for ((x, q), h) in group.iter_mut().zip(&block[48 + 32 * pair..]).zip(&block[16..48]) {
            let q = q >> (4 * odd) & 15 | (h >> g & 1) << 4;
            *x = scale * f32::from(q) - min;
        }
    }
}

/// Bits per 32 elements in each plane of [`repack`]: low halves and fifth bits as Q5_0 has them, scale and minimum of the group, `d`
/// and `dmin` as 32-bit floats.
pub const PLANES: &[u32] = &[128, 32, 16, 8];

/// The block in the planes that `q5_k.wgsl` reads.
pub fn repack(block: &[u8; 176], planes: &mut [Vec<u8>]) {
    repack_low(&block[48..], &mut planes[0]);
    for g in 0..8 {
        let high = block[16..48].iter().enumerate().fold(0, |bits, (l, h)| bits | u32::from(h >> g & 1) << l);
        planes[1].extend(high.to_le_bytes());
    }
    for (scale, min) in scales_mins(block[4..16].as_array().expect("12 bytes")) {
        planes[2].extend([scale, min]);
    }
    push_floats(block, [0, 2], &mut planes[3]);
}

/// Whether the scales of the scales and of the minima are finite.
pub fn is_finite(block: &[u8; 176]) -> bool {
    half_is_finite(block, 0) && half_is_finite(block, 2)
}
