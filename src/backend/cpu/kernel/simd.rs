//! The products with multiplications of 16-bit lanes, which all vector instruction sets have: SSE2's `pmaddwd`, `simd128`'s
//! `i32x4.dot_i16x8_s`.
//!
//! The even and the odd bytes of a vector of weights are its 16-bit lanes masked and shifted: no widening, one instruction
//! each. So a dot takes elements 0 and 2, or 1 and 3, of each four, and the activations are kept in that order. They come as
//! 32 bits in every lane, which costs a load and no arithmetic.

#![allow(clippy::needless_range_loop, reason = "arrays of vectors stay in registers where loops over them are plain")]

use super::{Block, Lanes, QUAD, QUADS, Quant};
use crate::backend::cpu::lanes::{
    add, and, dot, load, load_splat, mul_add_float, mul_float, shl, shr_16, splat, splat_float, store, sub, to_float,
};

/// Pairs of a group.
static N_PAIRS: usize = 4;

/// [`N_PAIRS`], read as if it could change, so that no compiler unrolls the loop over a group's pairs. Unrolled, the dots of a group become one
/// nested expression whose loads all come before its first dot, and most go through memory from there. Measured in Chromium, one token, in
/// ms for 4096 × 4096, unrolled and so: Q4_0 0.85 and 0.74, Q4_1 1.25 and 0.85, Q8_0 1.9 and 0.71, IQ4_NL 1.8 and 1.1; with relaxed SIMD,
/// Q4_0 read from memory, 23 and 27 GB/s.
#[inline(always)]
pub(super) fn n_pairs() -> usize {
    // SAFETY: it is there to be read.
    unsafe { (&raw const N_PAIRS).read_volatile() }
}

/// `out[t][r][i] = Σ_k w[r, i, k] · x[t, k]` for the rows `i` of `R` quads that lie beside each other (one may be either of the two)
/// and `T` rows of activations, `stride` blocks apart.
///
/// A function of its own, called once per tile: an engine's first compiler makes slow code of a loop, and the better code of
/// its second takes effect at the next call, never within one (measured: 3.4 times). Several quads share the loads of the
/// activations; the sums of whole rows are kept in memory, for registers go to those of a group.
///
/// # Safety
/// `quads` points at the first of `n_blocks` blocks of the first quad, the others follow [`QUADS`] blocks apart; `x` points at `(T − 1) · stride + n_blocks · Q::GROUPS` blocks.
#[inline(never)]
pub unsafe fn multiply<Q: Quant, const R: usize, const T: usize>(
    quads: *const u8,
    n_blocks: usize,
    x: *const Block<i16>,
    stride: usize,
    out: &mut [[[f32; QUAD]; R]; T],
) {
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
                        let mut sums = [[[splat(0); 1]; T]; 2];
                        for t in 0..T {
                            let x_sums = half_sums(x.add(t * stride));
                            for half in 0..2 {
                                sums[half][t] = [offset_of(Q::OFFSET_LOG2, x_sums[half])];
                            }
                        }
                        unrolled!(v => {
                            let (low, high) = Q::pair(block, g, v);
                            add_dots(&mut sums[0], [low], x, stride, 4 * v);
                            add_dots(&mut sums[1], [high], x, stride, 16 + 4 * v);
                        });
                        for t in 0..T {
                            add_halves::<Q, _>(&mut out[t][r], [sums[0][t][0], sums[1][t][0]], block, g, x.add(t * stride));
                        }
                    }
                    continue;
                }
                let mut sums = [[splat(0); R]; T];
                for t in 0..T {
                    sums[t] = [offset_of(Q::OFFSET_LOG2, load_splat(&raw const (*x.add(t * stride)).sum)); R];
                }
                if Q::IS_UNIFORM {
                    for v in 0..n_pairs {
                        add_pairs::<Q, R, T>(&mut sums, block, g, v, x, stride);
                    }
                } else {
                    unrolled!(v => add_pairs::<Q, R, T>(&mut sums, block, g, v, x, stride));
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
unsafe fn add_pairs<Q: Quant, const R: usize, const T: usize>(
    sums: &mut [[Lanes; R]; T],
    block: *const u8,
    group: usize,
    v: usize,
    x: *const Block<i16>,
    stride: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let (low, high) = pairs::<Q, R>(block, group, v);
        add_dots(sums, low, x, stride, 4 * v);
        add_dots(sums, high, x, stride, 16 + 4 * v);
    }
}

/// Vectors `v` and `v + 4` of a group of each of `R` quads.
///
/// # Safety
/// `block` points at a block of the first quad; the same blocks of the others follow it.
#[inline(always)]
pub(super) unsafe fn pairs<Q: Quant, const R: usize>(block: *const u8, group: usize, v: usize) -> ([Lanes; R], [Lanes; R]) {
    let (mut low, mut high) = ([splat(0); R], [splat(0); R]);
    for r in 0..R {
        // SAFETY: the caller's.
        (low[r], high[r]) = unsafe { Q::pair(block.add(r * Q::BYTES), group, v) };
    }
    (low, high)
}

/// The sums of the two halves of a group's activations.
///
/// # Safety
/// `x` points at a block.
#[inline(always)]
pub(super) unsafe fn half_sums<E>(x: *const Block<E>) -> [Lanes; 2] {
    // SAFETY: the caller's.
    unsafe {
        let second = load_splat(&raw const (*x).second_sum);
        [sub(load_splat(&raw const (*x).sum), second), second]
    }
}

/// Adds what the two halves of a group give, each with its scale and minimum.
///
/// # Safety
/// `block` points at a block of weights, `x` at one of activations.
#[inline(always)]
pub(super) unsafe fn add_halves<Q: Quant, E>(
    y: &mut [f32; QUAD],
    sums: [Lanes; 2],
    block: *const u8,
    group: usize,
    x: *const Block<E>,
) {
    // SAFETY: the caller's.
    unsafe {
        let second = mul_float(to_float(sums[1]), Q::scale_lanes(block, group, 1));
        let mut sum = mul_add_float(to_float(sums[0]), Q::scale_lanes(block, group, 0), second);
        if Q::HAS_MIN {
            let x_sums = half_sums(x);
            sum = mul_add_float(to_float(x_sums[0]), Q::min_lanes(block, group, 0), sum);
            sum = mul_add_float(to_float(x_sums[1]), Q::min_lanes(block, group, 1), sum);
        }
        add_product(y, sum, load_splat(&raw const (*x).scale));
    }
}

/// Adds the dots of a vector of weights of each quad with the four activations from `at` on. A function with plain loops, not
/// a closure: arrays of vectors that go through one came out tens of times slower, unrolled by nobody.
///
/// # Safety
/// `x` points at `T` blocks, `stride` apart.
#[inline(always)]
unsafe fn add_dots<const R: usize, const T: usize>(
    sums: &mut [[Lanes; R]; T],
    weights: [Lanes; R],
    x: *const Block<i16>,
    stride: usize,
    at: usize,
) {
    let (mut even, mut odd) = ([splat(0); R], [splat(0); R]);
    for r in 0..R {
        even[r] = and(weights[r], splat(0x00ff_00ff));
        odd[r] = shr_16::<8>(weights[r]);
    }
    for t in 0..T {
        // SAFETY: the caller's.
        unsafe {
            let q = (*x.add(t * stride)).q.as_ptr().add(at);
            let (first, second) = (load_splat(q), load_splat(q.add(2)));
            for r in 0..R {
                sums[t][r] = add(sums[t][r], add(dot(even[r], first), dot(odd[r], second)));
            }
        }
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
