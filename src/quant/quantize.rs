//! From floats to blocks, with the rounding of ggml's reference quantizers (`quantize_row_*_ref`): the same bytes.

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::quant::Format;

/// Elements in a block of each of the quantized formats here.
const LEN: usize = 32;

/// Appends `row` in `format`, one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0. What `out` held stays.
///
/// # Errors
/// `invalid_gguf` where a number is not finite or too large for the format; `internal` for a format that has no quantizer
/// here or a row that is not whole blocks.
pub fn quantize_row(format: Format, row: &[f32], out: &mut Vec<u8>) -> Result<()> {
    if !row.len().is_multiple_of(format.block_len()) {
        return Err(Error::internal(format!(
            "A row of {} elements was to be quantized to {}, which takes multiples of {}.",
            row.len(),
            format.name(),
            format.block_len()
        )));
    }
    let start = out.len();
    out.reserve(format.row_bytes(row.len()));
    let blocks = row.as_chunks::<LEN>().0;
    match format {
        Format::F32 => out.extend(row.iter().flat_map(|x| x.to_le_bytes())),
        Format::F16 => out.extend(row.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
        Format::BF16 => out.extend(row.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes())),
        Format::Q4_0 => blocks.iter().for_each(|x| q4_0(x, out)),
        Format::Q4_1 => blocks.iter().for_each(|x| q4_1(x, out)),
        Format::Q5_0 => blocks.iter().for_each(|x| q5_0(x, out)),
        Format::Q5_1 => blocks.iter().for_each(|x| q5_1(x, out)),
        Format::Q8_0 => blocks.iter().for_each(|x| q8_0(x, out)),
        _ => return Err(Error::internal(format!("There is no quantizer for {}.", format.name()))),
    }
    // The bytes alone do not tell: an element that is not a number leaves no trace in a block's scale.
    if !row.iter().all(|x| x.is_finite()) || !format.check_finite(&out[start..]) {
        out.truncate(start);
        return Err(Error::invalid_gguf(format!(
            "The weights hold a number that is not finite or too large for {}. The file is damaged.",
            format.name()
        )));
    }
    Ok(())
}

/// `1 / d`, and 0 for a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The element farthest from zero, with its sign; the first of several.
fn farthest(x: &[f32; LEN]) -> f32 {
    x.iter().fold(0.0, |far: f32, v| if v.abs() > far.abs() { *v } else { far })
}

/// The least and the greatest element.
fn range(x: &[f32; LEN]) -> (f32, f32) {
    x.iter().fold((f32::MAX, f32::MIN), |(min, max), v| (if *v < min { *v } else { min }, if *v > max { *v } else { max }))
}

/// Appends the F16 closest to `x`.
pub(super) fn push_half(x: f32, out: &mut Vec<u8>) {
    out.extend(f16::from_f32(x).to_le_bytes());
}

/// Appends the low four bits of 32 integers, element `j` beside element `j + 16`.
pub(super) fn push_nibbles(q: &[u8; LEN], out: &mut Vec<u8>) {
    out.extend((0..LEN / 2).map(|j| q[j] & 15 | q[j + 16] << 4));
}

/// Appends the fifth bits of 32 integers.
pub(super) fn push_fifth_bits(q: &[u8; LEN], out: &mut Vec<u8>) {
    let bits = q.iter().enumerate().fold(0, |bits, (j, q)| bits | u32::from(q >> 4 & 1) << j);
    out.extend(bits.to_le_bytes());
}

fn q4_0(x: &[f32; LEN], out: &mut Vec<u8>) {
    // The element farthest from zero becomes exactly −8, the end of the range that has no opposite.
    let d = farthest(x) / -8.0;
    let id = inverse(d);
    let q = x.map(|v| ((v * id + 8.5) as u8).min(15));
    push_half(d, out);
    push_nibbles(&q, out);
}

fn q4_1(x: &[f32; LEN], out: &mut Vec<u8>) {
    let (min, max) = range(x);
    let d = (max - min) / 15.0;
    let id = inverse(d);
    let q = x.map(|v| (((v - min) * id + 0.5) as u8).min(15));
    push_half(d, out);
    push_half(min, out);
    push_nibbles(&q, out);
}

fn q5_0(x: &[f32; LEN], out: &mut Vec<u8>) {
    let d = farthest(x) / -16.0;
    let id = inverse(d);
    let q = x.map(|v| ((v * id + 16.5) as u8).min(31));
    push_half(d, out);
    push_fifth_bits(&q, out);
    push_nibbles(&q, out);
}

fn q5_1(x: &[f32; LEN], out: &mut Vec<u8>) {
    let (min, max) = range(x);
    let d = (max - min) / 31.0;
    let id = inverse(d);
    let q = x.map(|v| (((v - min) * id + 0.5) as u8).min(31));
    push_half(d, out);
    push_half(min, out);
    push_fifth_bits(&q, out);
    push_nibbles(&q, out);
}

pub(super) fn q8_0(x: &[f32; LEN], out: &mut Vec<u8>) {
    let d = farthest(x).abs() / 127.0;
    let id = inverse(d);
    push_half(d, out);
    // `round` takes halves away from zero, as C's `roundf`.
    out.extend(x.map(|v| (v * id).round() as i8 as u8));
}
