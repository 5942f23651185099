//! IQ1_S: 256 elements in 50 bytes, eight at a time from a codebook of 2048, eight groups of 32 with a 3-bit scale and a shift each.
//!
//! ggml's `block_iq1_s`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16, the scale of the scales |
//! | 2..34 | `qs`: the low eight bits of 32 indices into the codebook |
//! | 34..50 | `qh`, 16 bits per group: from the lowest on four times the upper three bits of an index, the scale (three bits), and whether the shift is −⅛ (it is ⅛ otherwise) |
//!
//! `x = d · (2 scale + 1) · (code + shift)`, the code being −1, 0 or 1.

use super::groups::{Groups, eight_of, u16_at};
use crate::quant::{half_at, half_is_finite, q2_k};

/// The codebook, ggml's `iq1s_grid`: each entry eight codes of two bits each plus one, the first in the lowest.
pub(super) static GRID: &[u8; 4096] = include_bytes!("iq1_s.grid");

/// Eight times a code; nothing has the fourth index.
pub(super) const VALUES: [i8; 4] = [-8, 0, 8, 0];

fn groups(block: &[u8; 50]) -> Groups {
    let mut codes = [0; 256];
    for (k, eight) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = u16_at(block, 34, k / 4);
        let index = usize::from(block[2 + k]) | usize::from(high >> (3 * (k % 4)) & 7) << 8;
        let shift = if high >> 15 == 1 { -1 } else { 1 };
        *eight = eight_of(GRID, index, VALUES).map(|code| code + shift);
    }
    let scales = std::array::from_fn(|g| (u16_at(block, 34, g / 2) >> 12 & 7) as u8 * 2 + 1);
    Groups { d: half_at(block, 0) / 8.0, scales, codes }
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 50], out: &mut [f32; 256]) {
    groups(block).decode(out);
}

/// Appends the block in Q2_K: three of its four levels, a scale apart, and a minimum of ⅞ or 9/8 of the scale. In units of 9/8 that is the
/// scale itself or 7/9 of it, rounded to an integer. Adds 9·10⁻⁴ to an error of 0.202.
pub fn convert(block: &[u8; 50], out: &mut Vec<u8>) {
    let Groups { d, scales, codes } = groups(block);
    let scales_mins = std::array::from_fn(|g| {
        let scale = scales[g];
        let is_below = codes[16 * g].rem_euclid(8) == 7;
        (scale, if is_below { scale } else { (14 * scale + 9) / 18 })
    });
    q2_k::push_block(8.0 * d, 9.0 * d, scales_mins, &codes.map(|code| ((code + 12) / 8) as u8), out);
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 50]) -> bool {
    half_is_finite(block, 0)
}
