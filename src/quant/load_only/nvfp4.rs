//! NVFP4: 64 elements in 36 bytes, 4-bit floats, four groups of 16 with an 8-bit float as their scale each.
//!
//! ggml's `block_nvfp4`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | the scales, E4M3 whose sign means nothing; 127, not a number, is zero |
//! | 4..36 | `qs`: byte `8 g + j` holds element `j` of group `g` in its low and element `j + 8` in its high four bits |
//!
//! `x = scale / 2 · VALUES[q]` with the doubled values of E2M1.

use super::fp4::VALUES;
use crate::quant::quantize::q8_0;

/// Half the scale of group `g`.
fn half_scale(block: &[u8; 36], g: usize) -> f32 {
    const NAN: u8 = 127;
    let (exponent, mantissa) = (block[g] >> 3 & 15, f32::from(block[g] & 7));
    match (block[g], exponent) {
        (NAN, _) => 0.0,
        (_, 0) => mantissa / 1024.0,
        // A mantissa in eighths over a bias of 7, halved: all exact.
        _ => (8.0 + mantissa) * (1 << exponent) as f32 / 2048.0,
    }
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 36], out: &mut [f32; 64]) {
    for (g, group) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = half_scale(block, g);
        for (j, x) in group.iter_mut().enumerate() {
            let q = block[4 + 8 * g + j % 8] >> (4 * (j / 8)) & 15;
            *x = scale * f32::from(VALUES[usize::from(q)]);
        }
    }
}

/// Appends the block as two of Q8_0. (Q5_0, with one scale for 32, adds 1.8·10⁻³, a fifth of the format's own error.) Adds 3·10⁻⁵ to an
/// error of 0.009.
pub fn convert(block: &[u8; 36], out: &mut Vec<u8>) {
    let mut values = [0.0; 64];
    decode_block(block, &mut values);
    values.as_chunks().0.iter().for_each(|half| q8_0(half, out));
}

/// Every scale is finite.
pub fn is_finite(_: &[u8; 36]) -> bool {
    true
}
