//! TQ1_0: 256 elements in 54 bytes, each −1, 0 or 1 times a scale.
//!
//! ggml's `block_tq1_0`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..32 | `qs`: byte `m` holds elements `32 n + m` for `n` from 0 to 4 |
//! | 32..48 | `qs`: byte `32 + m` holds elements `160 + 16 n + m` for `n` from 0 to 4 |
//! | 48..52 | `qh`: byte `m` holds elements `240 + 4 n + m` for `n` from 0 to 3 |
//! | 52..54 | `d`, F16 |
//!
//! A byte is a fraction of 256 in base 3, its elements plus one being the digits: digit `n` is the integer part of three times what is left
//! of the fraction after it was multiplied by 3ⁿ. `x = d · (digit − 1)`.

use crate::quant::{half_at, half_is_finite, q2_k};

/// The digits, 0 to 2, in the order of the elements.
fn digits(block: &[u8; 54]) -> [u8; 256] {
    let mut digits = [0; 256];
    // Where the bytes begin, how many there are, and where their elements begin.
    for (at, n, first) in [(0, 32, 0), (32, 16, 160), (48, 4, 240)] {
        for (m, byte) in block[at..at + n].iter().enumerate() {
            let mut fraction = *byte;
            for digit in digits[first + m..].iter_mut().step_by(n).take(if n == 4 { 4 } else { 5 }) {
                *digit = ((u16::from(fraction) * 3) >> 8) as u8;
                fraction = fraction.wrapping_mul(3);
            }
        }
    }
    digits
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 54], out: &mut [f32; 256]) {
    let d = half_at(block, 52);
    for (x, digit) in out.iter_mut().zip(digits(block)) {
        *x = d * (f32::from(digit) - 1.0);
    }
}

/// Appends the block in Q2_K, exactly: its scales and minima are all 1.
pub fn convert(block: &[u8; 54], out: &mut Vec<u8>) {
    let d = half_at(block, 52);
    q2_k::push_block(d, d, [(1, 1); 16], &digits(block), out);
}

/// Whether the scale is finite.
pub fn is_finite(block: &[u8; 54]) -> bool {
    half_is_finite(block, 52)
}
