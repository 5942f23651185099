//! The products with multiplications of 16-bit lanes, which all vector instruction sets have: SSE2's `pmaddwd`, `simd128`'s
//! `i32x4.dot_i16x8_s`.
//!
//! The even and the odd bytes of a vector of weights are its 16-bit lanes masked and shifted: no widening, one instruction
//! each. So a dot takes elements 0 and 2, or 1 and 3, of each four, and the activations are kept in that order. They come as
//! 32 bits in every lane, which costs a load and no arithmetic.

use super::{Block, Lanes, QUAD, Quant};
use crate::backend::cpu::lanes::{
    add, and, dot, load, load_splat, mul_add_float, mul_float, shl, shr_16, splat, splat_float, store, sub, to_float,
};
use crate::backend::cpu::quantize_activations::SHIFT;

/// `out[t][r][i] = Σ_k w[r, i, k] · x[t, k]` for the rows `i` of `R` quads that follow each other and `T` rows of activations,
/// `stride` blocks apart.
///
/// A function of its own, called once per tile: an engine's first compiler makes slow code of a loop, and the better code of
/// its second takes effect at the next call, never within one (measured: 3.4 times). Several quads share the loads of the
/// activations; the sums of whole rows are kept in memory, for registers go to those of a group.
///
/// # Safety
/// `quads` points at `R · n_blocks · Q::BYTES` bytes, `x` at `(T − 1) · stride + n_blocks · Q::GROUPS` blocks.
#[inline(never)]
pub unsafe fn multiply<Q: Quant, const R: usize, const T: usize>(
    quads: *const u8,
    n_blocks: usize,
    x: *const Block<i16>,
    stride: usize,
    out: &mut [[[f32; QUAD]; R]; T],
) {
    let even = splat(0x00ff_00ff);
    let quad_bytes = n_blocks * Q::BYTES;
    *out = [[[0.0; QUAD]; R]; T];
    for b in 0..n_blocks {
        for g in 0..Q::GROUPS {
            // SAFETY: all of it is within what the caller vouches for.
            unsafe {
                let block = quads.add(b * Q::BYTES);
                let x = x.add(b * Q::GROUPS + g);
                let pair = |r: usize, v: usize| Q::pair(block.add(r * quad_bytes), g, v);
                // Adds the dots of one vector of weights of each quad.
                let add_dots = |sums: &mut [[Lanes; R]; T], weights: [Lanes; R], at: usize| {
                    let weights = weights.map(|weights| (and(weights, even), shr_16::<8>(weights)));
                    for (t, sums) in sums.iter_mut().enumerate() {
                        let q = (*x.add(t * stride)).q.as_ptr().add(at);
                        let (first, second) = (load_splat(q), load_splat(q.add(2)));
                        for (sum, (even, odd)) in sums.iter_mut().zip(weights) {
                            *sum = add(*sum, add(dot(even, first), dot(odd, second)));
                        }
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
                        let mut sums: [[Lanes; R]; T] = std::array::from_fn(|t| [offset_of(Q::OFFSET_LOG2, x_sum(t)); R]);
                        for v in 0..4 {
                            let weights = std::array::from_fn(|r| if half == 1 { pair(r, v).1 } else { pair(r, v).0 });
                            add_dots(&mut sums, weights, 16 * half + 4 * v);
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
                    std::array::from_fn(|t| [offset_of(Q::OFFSET_LOG2, load_splat(&raw const (*x.add(t * stride)).sum)); R]);
                for v in 0..4 {
                    let weights: [(Lanes, Lanes); R] = std::array::from_fn(|r| pair(r, v));
                    add_dots(&mut sums, weights.map(|(low, _)| low), 4 * v);
                    add_dots(&mut sums, weights.map(|(_, high)| high), 16 + 4 * v);
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

/// `y += a b`
#[inline(always)]
pub(super) fn add_product(y: &mut [f32; QUAD], a: Lanes, b: Lanes) {
    // SAFETY: `y` is four floats.
    unsafe { store(y.as_mut_ptr(), mul_add_float(a, b, load(y.as_ptr().cast()))) };
}

/// What the offset of the weights takes from the sum: `−2^log2 · x_sum`.
#[inline(always)]
pub(super) fn offset_of(log2: Option<u32>, x_sum: Lanes) -> Lanes {
    let offset = match log2 {
        None => return splat(0),
        Some(2) => shl::<2>(x_sum),
        Some(3) => shl::<3>(x_sum),
        Some(4) => shl::<4>(x_sum),
        Some(5) => shl::<5>(x_sum),
        Some(7) => shl::<7>(x_sum),
        Some(_) => unreachable!("no format has another offset"),
    };
    sub(splat(0), offset)
}
