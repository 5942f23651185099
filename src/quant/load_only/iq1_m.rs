//! IQ1_M: 256 elements in 56 bytes, eight at a time from IQ1_S's codebook with a shift each, sixteen groups of 16 with a 3-bit scale each.
//!
//! ggml's `block_iq1_m`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..32 | `qs`: the low eight bits of 32 indices into the codebook |
//! | 32..48 | `qh`: four bits for each index, two in a byte, the first in its low half: its upper three bits, and whether the shift is −⅛ (it is ⅛ otherwise) |
//! | 48..56 | four numbers of 16 bits: each has the scales of four groups, three bits each from the lowest on, and in its highest four bits those of `d`, F16, the scale of the scales (the lowest four in the first number) |
//!
//! `x = d · (2 scale + 1) · (code + shift)`, the code being −1, 0 or 1.

use std::sync::LazyLock;

use half::f16;

use super::groups::{Groups, Pairs, eight_of, nibble_at, u16_at};
use super::iq1_s::{GRID, VALUES};

/// How the halves of 32 elements come together. The levels 1, 7 and 9 are just the magnitudes.
static PAIRS: LazyLock<Pairs> = LazyLock::new(|| Pairs::new(0.5, &[(1, 0.38), (7, 0.31), (9, 0.31)]));

/// The scale of the scales.
fn d(block: &[u8; 56]) -> f16 {
    f16::from_bits((0..4).fold(0, |bits, i| bits | (u16_at(block, 48, i) >> 12) << (4 * i)))
}

fn groups(block: &[u8; 56]) -> Groups {
    let mut codes = [0; 256];
    for (k, eight) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = nibble_at(block, 32, k);
        let index = usize::from(block[k]) | usize::from(high & 7) << 8;
        let shift = if high >> 3 == 1 { -1 } else { 1 };
        *eight = eight_of(GRID, index, VALUES).map(|code| code + shift);
    }
    let scales = std::array::from_fn(|g| (u16_at(block, 48, g / 4) >> (3 * (g % 4)) & 7) as u8 * 2 + 1);
    Groups { d: d(block).to_f32() / 8.0, scales, codes }
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 56], out: &mut [f32; 256]) {
    groups(block).decode(out);
}

/// Appends the block in Q4_K. Q2_K has no room for two shifts in a group of 16 (0.017 more). Adds 2.2·10⁻³ to an error of 0.173.
pub fn convert(block: &[u8; 56], out: &mut Vec<u8>) {
    groups(block).push_pairs(&PAIRS, out);
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 56]) -> bool {
    d(block).is_finite()
}
