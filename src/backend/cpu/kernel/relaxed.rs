//! The products with relaxed SIMD's dot of signed bytes and 7-bit bytes: sixteen multiplications in one instruction.
//!
//! Weights are the 7-bit operand (nibbles are at most 15, those of Q6_K 63), so what engines may choose to do differently
//! never happens. Weights of 8 bits are left to that choice where it is exact: what an engine does with the top bit it
//! does always, so [`wide_operand`] asks once. Where it is not, the products of [`super::simd`] compute them.

use super::simd::{add_product, offset_of};
use super::{Block, QUAD, Quant};
use crate::backend::cpu::lanes::{
    Lanes, dot_bytes_add, load, load_splat, mul_add_float, mul_float, splat, splat_float, store, sub, to_float, xor,
};
use crate::backend::cpu::quantize_activations::SHIFT;

/// What the dot makes of a byte whose top bit is set, in its second operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WideOperand {
    /// A number from 128 to 255.
    Unsigned,
    /// A negative number.
    Signed,
    /// Sums that are cut off.
    Inexact,
}

/// Asks the processor, by way of the engine.
pub fn wide_operand() -> WideOperand {
    let dot = |x: u8, y: u8| {
        let [x, y] = std::hint::black_box([[x; 4], [y; 4]]).map(i32::from_le_bytes);
        let mut sums = [0.0; 4];
        // SAFETY: there is room for four floats.
        unsafe { store(sums.as_mut_ptr(), to_float(dot_bytes_add(splat(x), splat(y), splat(0)))) };
        sums
    };
    // 4 · 127 · 255 or 4 · 127 · −1, 4 · 127 · ±128; instructions that add pairs in 16 bits end at 65534.
    match (dot(127, 255), dot(127, 128)) {
        (a, b) if a == [129_540.0; 4] && b == [65_024.0; 4] => WideOperand::Unsigned,
        (a, b) if a == [-508.0; 4] && b == [-65_024.0; 4] => WideOperand::Signed,
        _ => WideOperand::Inexact,
    }
}

/// As [`super::simd::multiply`]. Of wide weights, `SIGNED` says which kind of operand they are.
///
/// # Safety
/// `quads` points at `R · n_blocks · Q::BYTES` bytes, `x` at `(T − 1) · stride + n_blocks · Q::GROUPS` blocks.
#[inline(never)]
pub unsafe fn multiply<Q: Quant, const R: usize, const T: usize, const SIGNED: bool>(
    quads: *const u8,
    n_blocks: usize,
    x: *const Block<i8>,
    stride: usize,
    out: &mut [[[f32; QUAD]; R]; T],
) {
    const { assert!(!(Q::IS_WIDE && Q::HAS_HALF_SCALES), "no format is both") };
    let offset_log2 = if Q::IS_WIDE && SIGNED { None } else { Q::OFFSET_LOG2 };
    let quad_bytes = n_blocks * Q::BYTES;
    *out = [[[0.0; QUAD]; R]; T];
    for b in 0..n_blocks {
        for g in 0..Q::GROUPS {
            // SAFETY: all of it is within what the caller vouches for.
            unsafe {
                let block = quads.add(b * Q::BYTES);
                let x = x.add(b * Q::GROUPS + g);
                let pair = |r: usize, v: usize| {
                    let (low, high) = Q::pair(block.add(r * quad_bytes), g, v);
                    if Q::IS_WIDE && SIGNED {
                        let top = splat(0x8080_8080_u32 as i32);
                        (xor(low, top), xor(high, top))
                    } else {
                        (low, high)
                    }
                };
                if Q::HAS_HALF_SCALES {
                    // One half after the other, so that there is one sum to keep for each row and token.
                    for half in 0..2 {
                        let x_sum = |t: usize| {
                            let x = x.add(t * stride);
                            let second = load_splat(&raw const (*x).second_sum);
                            if half == 1 { second } else { sub(load_splat(&raw const (*x).sum), second) }
                        };
                        let mut sums: [[Lanes; R]; T] = std::array::from_fn(|t| [offset_of(offset_log2, x_sum(t)); R]);
                        for v in 0..4 {
                            let weights: [Lanes; R] =
                                std::array::from_fn(|r| if half == 1 { pair(r, v).1 } else { pair(r, v).0 });
                            for (t, sums) in sums.iter_mut().enumerate() {
                                let q = load_splat((*x.add(t * stride)).q.as_ptr().add(16 * half + 4 * v));
                                for (sum, weights) in sums.iter_mut().zip(weights) {
                                    *sum = dot_bytes_add(q, weights, *sum);
                                }
                            }
                        }
                        for r in 0..R {
                            let block = block.add(r * quad_bytes);
                            let scale = Q::scale_lanes(block, g, half);
                            for (t, out) in out.iter_mut().enumerate() {
                                let d = load_splat(&raw const (*x.add(t * stride)).scale);
                                let mut sum = mul_float(to_float(sums[t][r]), scale);
                                if Q::HAS_MIN {
                                    sum = mul_add_float(to_float(x_sum(t)), Q::min_lanes(block, g, half), sum);
                                }
                                add_product(&mut out[r], sum, d);
                            }
                        }
                    }
                    continue;
                }
                let mut sums: [[Lanes; R]; T] =
                    std::array::from_fn(|t| [offset_of(offset_log2, load_splat(&raw const (*x.add(t * stride)).sum)); R]);
                for v in 0..4 {
                    let weights: [(Lanes, Lanes); R] = std::array::from_fn(|r| pair(r, v));
                    for (t, sums) in sums.iter_mut().enumerate() {
                        let q = (*x.add(t * stride)).q.as_ptr();
                        let (first, second) = (load_splat(q.add(4 * v)), load_splat(q.add(16 + 4 * v)));
                        for (sum, (low, high)) in sums.iter_mut().zip(weights) {
                            *sum = dot_bytes_add(first, low, *sum);
                            *sum = dot_bytes_add(second, high, *sum);
                        }
                    }
                }
                for r in 0..R {
                    let block = block.add(r * quad_bytes);
                    let scale = Q::scale_lanes(block, g, 0);
                    for (t, out) in out.iter_mut().enumerate() {
                        let x = x.add(t * stride);
                        add_product(&mut out[r], to_float(sums[t][r]), mul_float(scale, load_splat(&raw const (*x).scale)));
                        if Q::HAS_MIN {
                            add_product(&mut out[r], Q::min_lanes(block, g, 0), load_splat(&raw const (*x).scaled_sum));
                        }
                    }
                }
            }
        }
    }
    for out in out.iter_mut().flatten() {
        // SAFETY: `out` is four floats.
        unsafe { store(out.as_mut_ptr(), mul_float(load(out.as_ptr().cast()), splat_float(SHIFT))) };
    }
}
