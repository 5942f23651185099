//! The products with relaxed SIMD's dot of signed bytes and 7-bit bytes: sixteen multiplications in one instruction.
//!
//! Weights are the 7-bit operand (nibbles are at most 15, those of Q6_K 63), for which every engine gives the same result. What the dot makes
//! of bit 7 of that operand is implementation-defined but constant: [`wide_operand`] probes it once, and 8-bit weights use the dot only if it is
//! exactly signed or exactly unsigned. Otherwise the products of [`super::simd`] compute them.

#![allow(clippy::needless_range_loop, reason = "arrays of vectors stay in registers where loops over them are plain")]

use super::simd::{add_halves, add_product, half_sums, n_pairs, offset_of, pairs};
use super::{Block, Lanes, QUAD, QUADS, Quant};
use crate::backend::cpu::lanes::{dot_bytes_add, load, load_splat, mul_float, splat, splat_float, store, to_float, xor};

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
/// As of [`super::simd::multiply`].
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
    *out = [[[0.0; QUAD]; R]; T];
    let n_pairs = n_pairs();
    for b in 0..n_blocks {
        for g in 0..Q::GROUPS {
            // SAFETY: all of it is within what the caller vouches for.
            unsafe {
                let block = quads.add(b * QUADS * Q::BYTES);
                let x = x.add(b * Q::GROUPS + g);
                if Q::HAS_HALF_SCALES {
                    for r in 0..R {
                        let block = block.add(r * Q::BYTES);
                        // Of the two halves.
                        let mut sums = [[splat(0); 2]; T];
                        for t in 0..T {
                            let x_sums = half_sums(x.add(t * stride));
                            for half in 0..2 {
                                sums[t][half] = offset_of(offset_log2, x_sums[half]);
                            }
                        }
                        unrolled!(v => {
                            let (low, high) = Q::pair(block, g, v);
                            for t in 0..T {
                                let q = (*x.add(t * stride)).q.as_ptr();
                                sums[t][0] = dot_bytes_add(load_splat(q.add(4 * v)), low, sums[t][0]);
                                sums[t][1] = dot_bytes_add(load_splat(q.add(16 + 4 * v)), high, sums[t][1]);
                            }
                        });
                        for t in 0..T {
                            add_halves::<Q, _>(&mut out[t][r], sums[t], block, g, x.add(t * stride));
                        }
                    }
                    continue;
                }
                let mut sums = [[splat(0); R]; T];
                for t in 0..T {
                    sums[t] = [offset_of(offset_log2, load_splat(&raw const (*x.add(t * stride)).sum)); R];
                }
                if Q::IS_UNIFORM && T == 1 {
                    for step in 0..n_pairs / 2 {
                        add_pairs::<Q, R, T, SIGNED>(&mut sums, block, g, 2 * step, x, stride);
                        add_pairs::<Q, R, T, SIGNED>(&mut sums, block, g, 2 * step + 1, x, stride);
                    }
                } else if Q::IS_UNIFORM {
                    for v in 0..n_pairs {
                        add_pairs::<Q, R, T, SIGNED>(&mut sums, block, g, v, x, stride);
                    }
                } else {
                    unrolled!(v => add_pairs::<Q, R, T, SIGNED>(&mut sums, block, g, v, x, stride));
                }
                for r in 0..R {
                    let block = block.add(r * Q::BYTES);
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
        unsafe { store(out.as_mut_ptr(), mul_float(load(out.as_ptr().cast()), splat_float(Q::FINISH))) };
    }
}

/// Adds the dots of vectors `v` and `v + 4` of a group of each of `R` quads.
///
/// # Safety
/// As of [`multiply`], within it.
#[inline(always)]
unsafe fn add_pairs<Q: Quant, const R: usize, const T: usize, const SIGNED: bool>(
    sums: &mut [[Lanes; R]; T],
    block: *const u8,
    group: usize,
    v: usize,
    x: *const Block<i8>,
    stride: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let (mut low, mut high) = pairs::<Q, R>(block, group, v);
        if Q::IS_WIDE && SIGNED {
            let top = splat(0x8080_8080_u32 as i32);
            for r in 0..R {
                (low[r], high[r]) = (xor(low[r], top), xor(high[r], top));
            }
        }
        for t in 0..T {
            let q = (*x.add(t * stride)).q.as_ptr();
            let (first, second) = (load_splat(q.add(4 * v)), load_splat(q.add(16 + 4 * v)));
            for r in 0..R {
                sums[t][r] = dot_bytes_add(first, low[r], sums[t][r]);
                sums[t][r] = dot_bytes_add(second, high[r], sums[t][r]);
            }
        }
    }
}
