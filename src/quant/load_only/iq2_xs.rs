//! IQ2_XS: 256 elements in 74 bytes, eight at a time from a codebook of 512, sixteen groups of 16 with a 4-bit scale each.
//!
//! ggml's `block_iq2_xs`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16, the scale of the scales |
//! | 2..66 | 32 numbers of 16 bits: the index into the codebook in the low nine, seven signs in the others |
//! | 66..74 | the scales of the groups, two in a byte, the first in its low half |
//!
//! `x = d / 8 · (2 scale + 1) · code`, the code being 8, 25 or 43 with its sign.

use super::groups::{Groups, eight_of, even_signs, nibble_at, u16_at, with_signs};
use super::iq2_xxs::{PAIRS, VALUES};
use crate::quant::{half_at, half_is_finite};

/// The codebook, ggml's `iq2xs_grid`, packed as that of IQ2_XXS.
static GRID: &[u8; 1024] = include_bytes!("iq2_xs.grid");

fn groups(block: &[u8; 74]) -> Groups {
    let mut codes = [0; 256];
    for (k, eight) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let q = u16_at(block, 2, k);
        *eight = with_signs(eight_of(GRID, usize::from(q & 511), VALUES), even_signs((q >> 9) as u8));
    }
    Groups { d: half_at(block, 0) / 8.0, scales: std::array::from_fn(|g| 2 * nibble_at(block, 66, g) + 1), codes }
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 74], out: &mut [f32; 256]) {
    groups(block).decode(out);
}

/// Appends the block in Q4_K. Adds 4.4·10⁻³ to an error of 0.081.
pub fn convert(block: &[u8; 74], out: &mut Vec<u8>) {
    groups(block).push_pairs(&PAIRS, out);
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 74]) -> bool {
    half_is_finite(block, 0)
}
