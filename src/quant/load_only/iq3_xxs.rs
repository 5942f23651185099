//! IQ3_XXS: 256 elements in 98 bytes, four at a time from a codebook of 256, eight groups of 32 with a 4-bit scale each.
//!
//! ggml's `block_iq3_xxs`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16, the scale of the scales |
//! | 2..66 | `qs`: 64 indices into the codebook |
//! | 66..98 | 32 bits per group: from the lowest on four times the seven signs of eight elements, and the scale |
//!
//! `x = d / 4 · (2 scale + 1) · code`, the code being one of [`VALUES`] with its sign.

use super::groups::{Groups, even_signs, twice_four_of, u32_at, with_signs};
use crate::quant::{half_at, half_is_finite};

/// The codebook, ggml's `iq3xxs_grid`: each entry four indices into [`VALUES`] of four bits each, the first in the lowest.
static GRID: &[u8; 512] = include_bytes!("iq3_xxs.grid");

/// The magnitudes: odd multiples of 4, but the last.
pub const VALUES: [i8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];

fn groups(block: &[u8; 98]) -> Groups {
    let mut codes = [0; 256];
    for (k, eight) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let signs = even_signs((u32_at(block, 66, k / 4) >> (7 * (k % 4)) & 127) as u8);
        let indices = [block[2 + 2 * k].into(), block[3 + 2 * k].into()];
        *eight = with_signs(twice_four_of(GRID, indices, VALUES), signs);
    }
    let scales = std::array::from_fn(|g| (u32_at(block, 66, g / 2) >> 28) as u8 * 2 + 1);
    Groups { d: half_at(block, 0) / 4.0, scales, codes }
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 98], out: &mut [f32; 256]) {
    groups(block).decode(out);
}

/// Appends the block in Q4_K. The odd multiples of 4.02 are nearest to the magnitudes. Adds 2.1·10⁻⁴ to an error of 0.032.
pub fn convert(block: &[u8; 98], out: &mut Vec<u8>) {
    groups(block).push_equal(4.02, |code| code / 4, out);
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 98]) -> bool {
    half_is_finite(block, 0)
}
