//! The products with relaxed SIMD's dot of signed bytes and 7-bit bytes: sixteen multiplications in one instruction.
//!
//! Weights are the 7-bit operand (nibbles are at most 15, those of Q6_K 63), so what engines may choose to do differently
//! never happens. Bytes of 8 bits are split into their low seven bits and the top one.

use super::simd::offset;
use super::{Block, QUAD, Quant};
use crate::backend::cpu::lanes::{
    add, and, dot_bytes_add, load_splat, mul_add_float, mul_float, shl, shr_16, splat, splat_float, store, sub, to_float,
};
use crate::backend::cpu::quantize_activations::SHIFT;

/// As [`super::simd::multiply`].
///
/// # Safety
/// `quad` points at `n_blocks · Q::BYTES` bytes, `x` at `(T − 1) · stride + n_blocks · Q::GROUPS` blocks.
#[inline(never)]
pub unsafe fn multiply<Q: Quant, const T: usize>(
    quad: *const u8,
    n_blocks: usize,
    x: *const Block<i8>,
    stride: usize,
    out: &mut [[f32; QUAD]; T],
) {
    const { assert!(!(Q::IS_WIDE && Q::HAS_HALF_SCALES), "wide weights use both sums for themselves") };
    let mut y = [splat(0); T];
    for b in 0..n_blocks {
        for g in 0..Q::GROUPS {
            // SAFETY: all of it is within what the caller vouches for.
            unsafe {
                let block = quad.add(b * Q::BYTES);
                let x = x.add(b * Q::GROUPS + g);
                // Sums of the two halves of the group or, of wide weights, of their low and top bits.
                let mut sums = [[splat(0); 2]; T];
                for v in 0..4 {
                    let (low, high) = Q::pair(block, g, v);
                    if Q::IS_WIDE {
                        let (seven, one) = (splat(0x7f7f_7f7f), splat(0x0101_0101));
                        for (w, at) in [(low, 4 * v), (high, 16 + 4 * v)] {
                            let (bits, top) = (and(w, seven), and(shr_16::<7>(w), one));
                            for (t, sums) in sums.iter_mut().enumerate() {
                                let q = load_splat((*x.add(t * stride)).q.as_ptr().add(at));
                                sums[0] = dot_bytes_add(q, bits, sums[0]);
                                sums[1] = dot_bytes_add(q, top, sums[1]);
                            }
                        }
                    } else {
                        for (t, sums) in sums.iter_mut().enumerate() {
                            let q = (*x.add(t * stride)).q.as_ptr();
                            sums[0] = dot_bytes_add(load_splat(q.add(4 * v)), low, sums[0]);
                            sums[1] = dot_bytes_add(load_splat(q.add(16 + 4 * v)), high, sums[1]);
                        }
                    }
                }
                let scale = Q::scale_lanes(block, g, 0);
                for t in 0..T {
                    let x = &*x.add(t * stride);
                    let d = load_splat(&raw const x.scale);
                    let [first, second] = sums[t];
                    if Q::HAS_HALF_SCALES {
                        let second_sum = load_splat(&raw const x.second_sum);
                        let first_sum = sub(load_splat(&raw const x.sum), second_sum);
                        let (first, second) = (offset::<Q>(first, first_sum), offset::<Q>(second, second_sum));
                        let second = mul_float(to_float(second), Q::scale_lanes(block, g, 1));
                        let mut sum = mul_add_float(to_float(first), scale, second);
                        if Q::HAS_MIN {
                            sum = mul_add_float(to_float(first_sum), Q::min_lanes(block, g, 0), sum);
                            sum = mul_add_float(to_float(second_sum), Q::min_lanes(block, g, 1), sum);
                        }
                        y[t] = mul_add_float(sum, d, y[t]);
                        continue;
                    }
                    let sum = add(first, if Q::IS_WIDE { shl::<7>(second) } else { second });
                    let sum = offset::<Q>(sum, load_splat(&raw const x.sum));
                    y[t] = mul_add_float(to_float(sum), mul_float(scale, d), y[t]);
                    if Q::HAS_MIN {
                        y[t] = mul_add_float(Q::min_lanes(block, g, 0), load_splat(&raw const x.scaled_sum), y[t]);
                    }
                }
            }
        }
    }
    for (y, out) in y.into_iter().zip(out) {
        // SAFETY: `out` has room for four floats.
        unsafe { store(out.as_mut_ptr(), mul_float(y, splat_float(SHIFT))) };
    }
}
