//! Q4_K: 256 elements in 144 bytes, eight groups of 32 with a 6-bit scale and a 6-bit minimum each.
//!
//! ggml's `block_q4_K`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16, the scale of the scales |
//! | 2..4 | `dmin`, F16, the scale of the minima |
//! | 4..16 | scales and minima of the groups, 6 bits each, packed as [`scales_mins`] unpacks them |
//! | 16..144 | `qs`: byte `32 p + l` holds element `64 p + l` in its low and element `64 p + 32 + l` in its high four bits |
//!
//! `x = d · scale · q − dmin · min` with the group `element / 32`, `q` from 0 to 15.

use super::quantize::push_half;
use super::{half_at, half_is_finite, push_floats};

/// The groups' scales and minima, from 0 to 63; Q5_K packs its own in the same way. Of the first four groups, scale `g`
/// is the low six bits of byte `g` and minimum `g` those of byte `4 + g`. Of the last four, the low four bits are in byte
/// `4 + g` (scale in its low half, minimum in its high half), the high two are the upper two bits of the bytes of group
/// `g − 4`.
#[inline(always)]
pub(crate) fn scales_mins(packed: &[u8; 12]) -> [(u8, u8); 8] {
    std::array::from_fn(|g| {
        if g < 4 {
            (packed[g] & 63, packed[g + 4] & 63)
        } else {
            let scale = packed[g + 4] & 15 | packed[g - 4] >> 6 << 4;
            let min = packed[g + 4] >> 4 | packed[g] >> 6 << 4;
            (scale, min)
        }
    })
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 144], out: &mut [f32; 256]) {
    let d = half_at(block, 0);
    let dmin = half_at(block, 2);
    let scales_mins = scales_mins(block[4..16].as_array().expect("12 bytes"));
    for (g, group) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales_mins[g].0);
        let min = dmin * f32::from(scales_mins[g].1);
        let (pair, odd) = (g / 2, g % 2);
        for (x, q) in group.iter_mut().zip(&block[16 + 32 * pair..]) {
            *x = scale * f32::from(q >> (4 * odd) & 15) - min;
        }
    }
}

/// Appends a block: the groups' scales and minima, from 0 to 63, and the elements, from 0 to 15.
pub(super) fn push_block(d: f32, dmin: f32, scales_mins: [(u8, u8); 8], q: &[u8; 256], out: &mut Vec<u8>) {
    push_half(d, out);
    push_half(dmin, out);
    let (first, last) = scales_mins.split_at(4);
    out.extend(first.iter().zip(last).map(|(g, h)| g.0 | h.0 >> 4 << 6));
    out.extend(first.iter().zip(last).map(|(g, h)| g.1 | h.1 >> 4 << 6));
    out.extend(last.iter().map(|h| h.0 & 15 | h.1 << 4));
    for pair in q.as_chunks::<64>().0 {
        out.extend((0..32).map(|l| pair[l] | pair[32 + l] << 4));
    }
}

/// Bits per 32 elements in each plane of [`repack`]: low halves as Q4_0 has them, scale and minimum of the group, `d` and `dmin`
/// as 32-bit floats.
pub const PLANES: &[u32] = &[128, 16, 8];

/// The low four bits of Q4_K's and Q5_K's elements, group by group in Q4_0's order: byte `j` of a group holds its elements `j` and
/// `j + 16`.
pub(crate) fn repack_low(qs: &[u8], plane: &mut Vec<u8>) {
    for g in 0..8 {
        let (pair, shift) = (&qs[32 * (g / 2)..][..32], 4 * (g % 2));
        plane.extend((0..16).map(|j| (pair[j] >> shift & 15) | (pair[j + 16] >> shift & 15) << 4));
    }
}

/// The block in the planes that `q4_k.wgsl` reads.
pub fn repack(block: &[u8; 144], planes: &mut [Vec<u8>]) {
    repack_low(&block[16..], &mut planes[0]);
    for (scale, min) in scales_mins(block[4..16].as_array().expect("12 bytes")) {
        planes[1].extend([scale, min]);
    }
    push_floats(block, [0, 2], &mut planes[2]);
}

/// Whether the scales of the scales and of the minima are finite.
pub fn is_finite(block: &[u8; 144]) -> bool {
    half_is_finite(block, 0) && half_is_finite(block, 2)
}
