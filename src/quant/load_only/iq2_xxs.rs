//! IQ2_XXS: 256 elements in 66 bytes, eight at a time from a codebook of 256, eight groups of 32 with a 4-bit scale each.
//!
//! ggml's `block_iq2_xxs`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16, the scale of the scales |
//! | 2..66 | eight bytes per group: four indices into the codebook of a byte each, then 32 bits: from the lowest on four times the seven signs of eight elements, and the scale |
//!
//! `x = d / 8 · (2 scale + 1) · code`, the code being 8, 25 or 43 with its sign.

use std::sync::LazyLock;

use super::groups::{Groups, Pairs, eight_of, even_signs, u32_at, with_signs};
use crate::quant::{half_at, half_is_finite};

/// The codebook, ggml's `iq2xxs_grid`: each entry eight indices into [`VALUES`] of two bits each, the first in the lowest.
static GRID: &[u8; 512] = include_bytes!("iq2_xxs.grid");

/// The magnitudes of IQ2_XXS, IQ2_XS and IQ2_S; nothing has the fourth index.
pub(super) const VALUES: [i8; 4] = [8, 25, 43, 0];

/// How the three formats become Q4_K. The levels 1, 3 and 5 times 8.4 are nearest to the magnitudes.
pub(super) static PAIRS: LazyLock<Pairs> = LazyLock::new(|| Pairs::new(4.2, &[(8, 0.55), (25, 0.3), (43, 0.15)]));

fn groups(block: &[u8; 66]) -> Groups {
    let mut codes = [0; 256];
    for (k, eight) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let (g, l) = (k / 4, k % 4);
        let signs = even_signs((u32_at(block, 6 + 8 * g, 0) >> (7 * l) & 127) as u8);
        *eight = with_signs(eight_of(GRID, block[2 + 8 * g + l].into(), VALUES), signs);
    }
    let scales = std::array::from_fn(|g| (u32_at(block, 6 + 8 * (g / 2), 0) >> 28) as u8 * 2 + 1);
    Groups { d: half_at(block, 0) / 8.0, scales, codes }
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 66], out: &mut [f32; 256]) {
    groups(block).decode(out);
}

/// Appends the block in Q4_K. Adds 5.5·10⁻⁴ to an error of 0.108.
pub fn convert(block: &[u8; 66], out: &mut Vec<u8>) {
    groups(block).push_pairs(&PAIRS, out);
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 66]) -> bool {
    half_is_finite(block, 0)
}
