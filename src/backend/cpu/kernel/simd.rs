//! The products with multiplications of 16-bit lanes, which all vector instruction sets have: SSE2's `pmaddwd`, `simd128`'s
//! `i32x4.dot_i16x8_s`.
//!
//! The even and the odd bytes of a vector of weights are its 16-bit lanes masked and shifted: no widening, one instruction
//! each. So a dot takes elements 0 and 2, or 1 and 3, of each four, and the activations are kept in that order. They come as
//! 32 bits in every lane, which costs a load and no arithmetic.

use super::{Block, Lanes, QUAD, Quant};
use crate::backend::cpu::lanes::{
    add, and, dot, load_splat, mul_add_float, mul_float, shl, shr_16, splat, splat_float, store, sub, to_float,
};
use crate::backend::cpu::quantize_activations::SHIFT;

/// `out[t][r] = Σ_k w[r, k] · x[t, k]` for the rows of a quad and `T` rows of activations, `stride` blocks apart.
///
/// A function of its own, called once per quad and tile: an engine's first compiler makes slow code of a loop, and the
/// better code of its second takes effect at the next call, never within one (measured: 3.4 times).
///
/// # Safety
/// `quad` points at `n_blocks · Q::BYTES` bytes, `x` at `(T − 1) · stride + n_blocks · Q::GROUPS` blocks.
#[inline(never)]
pub unsafe fn multiply<Q: Quant, const T: usize>(
    quad: *const u8,
    n_blocks: usize,
    x: *const Block<i16>,
    stride: usize,
    out: &mut [[f32; QUAD]; T],
) {
    let mut y = [splat(0); T];
    let even = splat(0x00ff_00ff);
    for b in 0..n_blocks {
        for g in 0..Q::GROUPS {
            // SAFETY: all of it is within what the caller vouches for.
            unsafe {
                let block = quad.add(b * Q::BYTES);
                let x = x.add(b * Q::GROUPS + g);
                let mut first = [splat(0); T];
                let mut second = [splat(0); T];
                for v in 0..4 {
                    let (low, high) = Q::pair(block, g, v);
                    let low = (and(low, even), shr_16::<8>(low));
                    let high = (and(high, even), shr_16::<8>(high));
                    for t in 0..T {
                        let q = (*x.add(t * stride)).q.as_ptr();
                        let from_low = add(dot(low.0, load_splat(q.add(4 * v))), dot(low.1, load_splat(q.add(4 * v + 2))));
                        let from_high =
                            add(dot(high.0, load_splat(q.add(16 + 4 * v))), dot(high.1, load_splat(q.add(18 + 4 * v))));
                        first[t] = add(first[t], from_low);
                        let sum = if Q::HAS_HALF_SCALES { &mut second } else { &mut first };
                        sum[t] = add(sum[t], from_high);
                    }
                }
                let scale = Q::scale_lanes(block, g, 0);
                for t in 0..T {
                    let x = &*x.add(t * stride);
                    let d = load_splat(&raw const x.scale);
                    let (first, second) = (first[t], second[t]);
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
                    let sum = first;
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

/// `sum − OFFSET · x_sum`
#[inline(always)]
pub(super) fn offset<Q: Quant>(sum: Lanes, x_sum: Lanes) -> Lanes {
    match Q::OFFSET_LOG2 {
        None => sum,
        Some(2) => sub(sum, shl::<2>(x_sum)),
        Some(3) => sub(sum, shl::<3>(x_sum)),
        Some(4) => sub(sum, shl::<4>(x_sum)),
        Some(5) => sub(sum, shl::<5>(x_sum)),
        Some(7) => sub(sum, shl::<7>(x_sum)),
        Some(_) => unreachable!("no format has another offset"),
    }
}
