//! Activations in 8 bits, quantized once per op and used by every row of its matrices.

/// Elements that share a scale.
pub const BLOCK: usize = 32;

/// Half of the exponent by which scales read by [`super::lanes::load_halves`] are too small. The scales of the activations
/// bear one half of it and the finished sums the other, so that neither leaves the range of a float.
pub const SHIFT: f32 = f32::from_bits((127 + 56) << 23);

/// 32 activations `x ≈ d · q`, `q` from −127 to 127, `d` the largest absolute value / 127.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(16))]
pub struct Block<E> {
    /// In order for 8-bit elements, in pairs of every other for 16-bit ones: `0, 2, 1, 3, 4, 6, 5, 7, …` (see
    /// [`super::kernel::simd`]).
    pub q: [E; BLOCK],
    /// `d` · [`SHIFT`]
    pub scale: f32,
    /// `d · Σ q` · [`SHIFT`]
    pub scaled_sum: f32,
    /// `Σ q`
    pub sum: i32,
    /// `Σ q` of the second half.
    pub second_sum: i32,
}

/// An element of quantized activations.
pub trait Element: Copy + Default + Send + Sync {
    /// The index at which element `i` of a block is kept.
    fn place(i: usize) -> usize;
    /// From a number between −127 and 127.
    fn new(q: i32) -> Self;
}

impl Element for i8 {
    #[inline(always)]
    fn place(i: usize) -> usize {
        i
    }

    #[inline(always)]
    fn new(q: i32) -> Self {
        q as Self
    }
}

impl Element for i16 {
    #[inline(always)]
    fn place(i: usize) -> usize {
        i & !3 | (i & 1) << 1 | (i >> 1) & 1
    }

    #[inline(always)]
    fn new(q: i32) -> Self {
        q as Self
    }
}

/// Quantizes one block. If any input is infinite or NaN, the block's scale becomes infinite or NaN and poisons every product.
#[inline(always)]
fn quantize_block<E: Element>(x: &[f32; BLOCK]) -> Block<E> {
    // As integers, the bits of absolute values are in the order of the values, and "not a number" is above infinity.
    let largest = x.iter().fold(0, |largest, x| largest.max((x.to_bits() & 0x7fff_ffff) as i32));
    let d = f32::from_bits(largest as u32) / 127.0;
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    // Adding 1.5·2²³ rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let q: [i32; BLOCK] = std::array::from_fn(|i| (x[i] * inverse + ROUND).to_bits() as i32 - ROUND.to_bits() as i32);
    // The `q` of a NaN is some 2³⁰, so sums of several wrap; what they become is multiplied with a scale that is NaN too.
    let sum = |half: &[i32]| half.iter().fold(0, |sum: i32, q| sum.wrapping_add(*q));
    let (first, second) = (sum(&q[..BLOCK / 2]), sum(&q[BLOCK / 2..]));
    let mut block = Block { scale: d * SHIFT, sum: first.wrapping_add(second), second_sum: second, ..Block::default() };
    block.scaled_sum = block.scale * block.sum as f32;
    for (i, q) in q.into_iter().enumerate() {
        block.q[E::place(i)] = E::new(q);
    }
    block
}

/// Quantizes rows of whole blocks.
#[inline(never)]
pub fn quantize<E: Element>(x: &[f32], out: &mut [Block<E>]) {
    for (x, out) in x.as_chunks::<BLOCK>().0.iter().zip(out) {
        *out = quantize_block(x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_at_most_half_a_step_and_sums_are_right() {
        let x: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 20.0) * 0.1).collect();
        let mut blocks = [Block::<i16>::default(); 2];
        quantize(&x, &mut blocks);
        for (x, block) in x.chunks(BLOCK).zip(&blocks) {
            let d = block.scale / SHIFT;
            for (i, x) in x.iter().enumerate() {
                let q = block.q[i16::place(i)];
                assert!((f32::from(q) * d - x).abs() <= d * 0.500_01);
            }
            assert_eq!(block.sum, block.q.iter().map(|q| i32::from(*q)).sum::<i32>());
            assert_eq!(block.second_sum, block.q[16..].iter().map(|q| i32::from(*q)).sum::<i32>());
        }
    }

    #[test]
    fn extremes_stay_what_they_are() {
        let mut out = [Block::<i8>::default()];
        quantize(&[0.0; BLOCK], &mut out);
        assert!(out[0].scale == 0.0 && out[0].q == [0; BLOCK]);
        quantize(&[1e-42; BLOCK], &mut out);
        assert!(out[0].scale.is_finite() && out[0].scaled_sum.is_finite());
        quantize(&[-3e37; BLOCK], &mut out);
        assert_eq!(out[0].q, [-127; BLOCK]);
        let mut x = [1.0; BLOCK];
        x[5] = f32::NAN;
        quantize(&x, &mut out);
        assert!(out[0].scale.is_nan());
    }

    #[test]
    fn what_is_no_number_poisons_its_block_and_overflows_nothing() {
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for n in [1, 3, 16, BLOCK] {
                let mut block = [1.0; BLOCK];
                block[..n].fill(x);
                let (mut bytes, mut words) = ([Block::<i8>::default()], [Block::<i16>::default()]);
                quantize(&block, &mut bytes);
                quantize(&block, &mut words);
                assert!(!bytes[0].scale.is_finite() && !words[0].scale.is_finite(), "{n} of {x}");
                assert!(!bytes[0].scaled_sum.is_finite() && !words[0].scaled_sum.is_finite(), "{n} of {x}");
            }
        }
    }
}
