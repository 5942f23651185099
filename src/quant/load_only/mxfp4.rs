//! MXFP4: 32 elements in 17 bytes, 4-bit floats and a power of two as their scale. The format is that of the OCP Microscaling Formats
//! specification, version 1.0.
//!
//! ggml's `block_mxfp4`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0 | `e`, E8M0: an exponent alone |
//! | 1..17 | `qs`: byte `j` holds element `j` in its low and element `j + 16` in its high four bits |
//!
//! `x = 2^(e − 128) · VALUES[q]` with the doubled values of E2M1. The specification's 255, not a number, is one more exponent to ggml.

use super::fp4::VALUES;
use crate::quant::quantize::{push_fifth_bits, push_half, push_nibbles};

/// `2^(e − 128)`.
fn scale(block: &[u8; 17]) -> f32 {
    // Below the least exponent of normal numbers they go on by bits of the mantissa.
    f32::from_bits(if block[0] < 2 { 0x0020_0000 << block[0] } else { u32::from(block[0] - 1) << 23 })
}

/// The doubled values, in the order of the elements.
fn values(block: &[u8; 17]) -> [i8; 32] {
    std::array::from_fn(|j| VALUES[usize::from(block[1 + j % 16] >> (4 * (j / 16)) & 15)])
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 17], out: &mut [f32; 32]) {
    let scale = scale(block);
    for (x, value) in out.iter_mut().zip(values(block)) {
        *x = scale * f32::from(value);
    }
}

/// Appends the block in Q5_0, whose 32 integers hold all the values: exact where a half float holds the power of two, from 2⁻²⁴ to 2¹⁵.
/// Weights that need a smaller one are multiples of 2⁻²⁴ then.
pub fn convert(block: &[u8; 17], out: &mut Vec<u8>) {
    const LEAST: f32 = 1.0 / (1 << 24) as f32;
    let (mut scale, mut values) = (scale(block), values(block));
    if scale < LEAST {
        values = values.map(|value| (f32::from(value) * (scale / LEAST)).round() as i8);
        scale = LEAST;
    }
    let q = values.map(|value| (value + 16) as u8);
    push_half(scale, out);
    push_fifth_bits(&q, out);
    push_nibbles(&q, out);
}

/// Whether no element is beyond the 32-bit floats.
pub fn is_finite(block: &[u8; 17]) -> bool {
    let scale = scale(block);
    values(block).iter().all(|value| (scale * f32::from(*value)).is_finite())
}
