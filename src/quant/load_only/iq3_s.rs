//! IQ3_S: 256 elements in 110 bytes, four at a time from a codebook of 512, eight groups of 32 with a 4-bit scale each.
//!
//! ggml's `block_iq3_s`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16, the scale of the scales |
//! | 2..66 | `qs`: the low eight bits of 64 indices into the codebook |
//! | 66..74 | `qh`: the ninth bit of index `k` is bit `k mod 8` of byte `k / 8` |
//! | 74..106 | `signs`: bit `j` of byte `k` is set where element `8 k + j` is negative |
//! | 106..110 | the scales of the groups, two in a byte, the first in its low half |
//!
//! `x = d · (2 scale + 1) · code`, the code being odd, 1 to 15, with its sign.

use super::groups::{Groups, nibble_at, twice_four_of, with_signs};
use crate::quant::{half_at, half_is_finite};

/// The codebook, ggml's `iq3s_grid`: each entry four indices into [`VALUES`] of four bits each, the first in the lowest.
static GRID: &[u8; 1024] = include_bytes!("iq3_s.grid");

/// The magnitudes.
const VALUES: [i8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];

fn groups(block: &[u8; 110]) -> Groups {
    let mut codes = [0; 256];
    let index = |k: usize| usize::from(block[2 + k]) | usize::from(block[66 + k / 8] >> (k % 8) & 1) << 8;
    for (k, eight) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *eight = with_signs(twice_four_of(GRID, [index(2 * k), index(2 * k + 1)], VALUES), block[74 + k]);
    }
    Groups { d: half_at(block, 0), scales: std::array::from_fn(|g| 2 * nibble_at(block, 106, g / 2) + 1), codes }
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 110], out: &mut [f32; 256]) {
    groups(block).decode(out);
}

/// Appends the block in Q4_K, whose 16 levels are just these magnitudes and their opposites. Adds 3·10⁻⁷ to an error of 0.017.
pub fn convert(block: &[u8; 110], out: &mut Vec<u8>) {
    groups(block).push_equal(1.0, |code| code, out);
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 110]) -> bool {
    half_is_finite(block, 0)
}
