//! Q2_K: 256 elements in 84 bytes, sixteen groups of 16 with a 4-bit scale and a 4-bit minimum each.
//!
//! ggml's `block_q2_K`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..16 | `scales`: byte `g` holds the scale of group `g` in its low and the minimum in its high four bits |
//! | 16..80 | `qs`: byte `32 h + l` holds elements `128 h + 32 j + l` for `j` from 0 to 3 in its bits `2 j` and `2 j + 1` |
//! | 80..82 | `d`, F16, the scale of the scales |
//! | 82..84 | `dmin`, F16, the scale of the minima |
//!
//! `x = d · scale · q − dmin · min` with the group `element / 16`, `q` from 0 to 3.

use super::q6_k::repack_pairs;
use super::quantize::push_half;
use super::{half_at, half_is_finite, push_floats};

/// The definition of the format.
pub fn decode_block(block: &[u8; 84], out: &mut [f32; 256]) {
    let d = half_at(block, 80);
    let dmin = half_at(block, 82);
    for (g, group) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[g] & 15);
        let min = dmin * f32::from(block[g] >> 4);
        // Eight groups share 32 bytes: groups 2 j and 2 j + 1 of a half are bits 2 j of its first and last 16 bytes.
        let (half, j, odd) = (g / 8, g / 2 % 4, g % 2);
        let qs = &block[16 + 32 * half + 16 * odd..][..16];
        for (x, q) in group.iter_mut().zip(qs) {
            *x = scale * f32::from(q >> (2 * j) & 3) - min;
        }
    }
}

/// Appends a block: the groups' scales and minima, from 0 to 15, and the elements, from 0 to 3.
pub(super) fn push_block(d: f32, dmin: f32, scales_mins: [(u8, u8); 16], q: &[u8; 256], out: &mut Vec<u8>) {
    out.extend(scales_mins.map(|(scale, min)| scale | min << 4));
    for half in q.as_chunks::<128>().0 {
        out.extend((0..32).map(|l| half[l] | half[32 + l] << 2 | half[64 + l] << 4 | half[96 + l] << 6));
    }
    push_half(d, out);
    push_half(dmin, out);
}

/// Bits per 32 elements in each plane of [`repack`]: the elements (`e` at bit `2 e`), scales and minima of both groups, `d` and `dmin`
/// as 32-bit floats.
pub const PLANES: &[u32] = &[64, 16, 8];

/// The block in the planes that `q2_k.wgsl` reads.
pub fn repack(block: &[u8; 84], planes: &mut [Vec<u8>]) {
    for b in 0..8 {
        repack_pairs(&block[16 + 32 * (b / 4)..][..32], 2 * (b % 4), &mut planes[0]);
    }
    planes[1].extend_from_slice(&block[..16]);
    push_floats(block, [80, 82], &mut planes[2]);
}

/// Whether the scales of the scales and of the minima are finite.
pub fn is_finite(block: &[u8; 84]) -> bool {
    half_is_finite(block, 80) && half_is_finite(block, 82)
}
