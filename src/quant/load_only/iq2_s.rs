//! IQ2_S: 256 elements in 82 bytes, eight at a time from a codebook of 1024, sixteen groups of 16 with a 4-bit scale each.
//!
//! ggml's `block_iq2_s`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16, the scale of the scales |
//! | 2..34 | `qs`: the low eight bits of 32 indices into the codebook |
//! | 34..66 | `signs`: bit `j` of byte `k` is set where element `8 k + j` is negative |
//! | 66..74 | `qh`: the upper two bits of index `k` are bits `2 (k mod 4)` and the next of byte `k / 4` |
//! | 74..82 | the scales of the groups, two in a byte, the first in its low half |
//!
//! `x = d / 8 · (2 scale + 1) · code`, the code being 8, 25 or 43 with its sign.

use super::groups::{Groups, eight_of, nibble_at, with_signs};
use super::iq2_xxs::{PAIRS, VALUES};
use crate::quant::{half_at, half_is_finite};

/// The codebook, ggml's `iq2s_grid`, packed as that of IQ2_XXS.
static GRID: &[u8; 2048] = include_bytes!("iq2_s.grid");

fn groups(block: &[u8; 82]) -> Groups {
    let mut codes = [0; 256];
    for (k, eight) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let upper = usize::from(block[66 + k / 4] >> (2 * (k % 4)) & 3);
        let index = usize::from(block[2 + k]) | upper << 8;
        *eight = with_signs(eight_of(GRID, index, VALUES), block[34 + k]);
    }
    Groups { d: half_at(block, 0) / 8.0, scales: std::array::from_fn(|g| 2 * nibble_at(block, 74, g) + 1), codes }
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 82], out: &mut [f32; 256]) {
    groups(block).decode(out);
}

/// Appends the block in Q4_K. Adds 4.1·10⁻³ to an error of 0.058.
pub fn convert(block: &[u8; 82], out: &mut Vec<u8>) {
    groups(block).push_pairs(&PAIRS, out);
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 82]) -> bool {
    half_is_finite(block, 0)
}
