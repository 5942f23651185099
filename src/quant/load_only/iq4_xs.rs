//! IQ4_XS: 256 elements in 136 bytes, eight groups of 32 with a 6-bit scale each, and 4-bit indices into IQ4_NL's table.
//!
//! ggml's `block_iq4_xs`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | `d`, F16, the scale of the scales |
//! | 2..4 | `scales_h`: the upper two bits of the scale of group `g` are bits `2 g` and `2 g + 1` |
//! | 4..8 | `scales_l`: the low four bits of the scales, two in a byte, the first in its low half |
//! | 8..136 | `qs`: byte `16 g + j` holds element `j` of group `g` in its low and element `j + 16` in its high four bits |
//!
//! `x = d · (scale − 32) · VALUES[q]` with the table of [`iq4_nl`].

use super::groups::{nibble_at, u16_at};
use crate::quant::quantize::push_half;
use crate::quant::{half_at, half_is_finite, iq4_nl};

/// The scale of group `g`.
fn scale(block: &[u8; 136], g: usize) -> f32 {
    let scale = nibble_at(block, 4, g) | ((u16_at(block, 2, 0) >> (2 * g) & 3) as u8) << 4;
    half_at(block, 0) * (f32::from(scale) - 32.0)
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 136], out: &mut [f32; 256]) {
    for (g, group) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = scale(block, g);
        for (j, q) in block[8 + 16 * g..][..16].iter().enumerate() {
            group[j] = scale * f32::from(iq4_nl::VALUES[usize::from(q & 15)]);
            group[j + 16] = scale * f32::from(iq4_nl::VALUES[usize::from(q >> 4)]);
        }
    }
}

/// Appends the block as eight of IQ4_NL, exact but for the rounding of scales (3·10⁻⁸).
pub fn convert(block: &[u8; 136], out: &mut Vec<u8>) {
    for g in 0..8 {
        push_half(scale(block, g), out);
        out.extend_from_slice(&block[8 + 16 * g..][..16]);
    }
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 136]) -> bool {
    half_is_finite(block, 0)
}
