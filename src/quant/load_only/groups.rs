//! What the formats with codebooks (ggml's `grid`s) share: a super-block in integers, and how it becomes one of Q4_K.

use crate::quant::q4_k;

/// A super-block of 256 elements: `x = d · scale · code`, with the scale of the group of 16 that the element is in. All products are exact in
/// 32-bit floats: 11 bits of `d`, 5 of a scale, 6 of a code.
pub(super) struct Groups {
    /// The block's `d` times the power of two that makes all else integers.
    pub(super) d: f32,
    /// `2 s + 1` of what is stored, so odd, up to 31.
    pub(super) scales: [u8; 16],
    pub(super) codes: [i8; 256],
}

impl Groups {
    pub(super) fn decode(&self, out: &mut [f32; 256]) {
        for (g, group) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let scale = self.d * f32::from(self.scales[g]);
            for (x, code) in group.iter_mut().zip(&self.codes[16 * g..]) {
                *x = scale * f32::from(*code);
            }
        }
    }

    /// Appends a super-block of Q4_K whose groups of 32 have the given scale, and whose elements are `step · (2 q − 15) · scale` in units of
    /// `d`: 16 levels, as many above zero as below.
    fn push_levels(&self, step: f32, scales: [u8; 8], levels: &[u8; 256], out: &mut Vec<u8>) {
        let (d, dmin) = (2.0 * step * self.d, 15.0 * step * self.d);
        q4_k::push_block(d, dmin, scales.map(|scale| (scale, scale)), levels, out);
    }

    /// Appends the super-block in Q4_K where both halves of every 32 elements have the same scale; `level` says which of the levels
    /// −15, −13 … 15 a code becomes, each `step` times that in units of `d`.
    pub(super) fn push_equal(&self, step: f32, level: impl Fn(i8) -> i8, out: &mut Vec<u8>) {
        let levels = self.codes.map(|code| ((15 + level(code)) / 2) as u8);
        self.push_levels(step, std::array::from_fn(|g| self.scales[2 * g]), &levels, out);
    }

    /// Appends the super-block in Q4_K where the halves of 32 elements may have scales of their own.
    pub(super) fn push_pairs(&self, pairs: &Pairs, out: &mut Vec<u8>) {
        let mut levels = [0; 256];
        let mut scales = [0; 8];
        for (g, group) in levels.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let pair = pairs.of(self.scales[2 * g], self.scales[2 * g + 1]);
            scales[g] = pair.scale;
            for (i, (q, code)) in group.iter_mut().zip(&self.codes[32 * g..]).enumerate() {
                // 15 less the level where the code is negative: its opposite. Signs are at random, and branches on them slow.
                let is_negative = (code >> 7) as u8 & 15;
                *q = pair.levels[i / 16][usize::from(code.unsigned_abs())] ^ is_negative;
            }
        }
        self.push_levels(pairs.step, scales, &levels, out);
    }
}

/// The greatest magnitude of a code in [`Pairs`].
const MAX_CODE: usize = 43;

/// How two groups of 16 with different scales fit into one of Q4_K's groups of 32, which has one: of its 63 scales the one whose levels are
/// nearest to the codes of both, and the level of each code.
pub(super) struct Pairs {
    /// A level's distance from zero per unit of scale, in units of `d`.
    step: f32,
    /// By the halves' scales, `2 s + 1` and `2 t + 1`: `[s][t]`.
    pairs: Vec<Pair>,
}

#[derive(Clone)]
struct Pair {
    scale: u8,
    /// Of each half, by a code's magnitude: the level of that code, 8 to 15. Its opposite has the opposite level.
    levels: [[u8; MAX_CODE + 1]; 2],
}

const N_SCALES: usize = 16;

impl Pairs {
    /// For codes of these magnitudes, each with how often it occurs; `step` gives the scales 63 and less the range of the sums that occur.
    pub(super) fn new(step: f32, magnitudes: &[(u8, f32)]) -> Self {
        let of = |scales: [f32; 2]| {
            let error = |scale: u8| -> f32 {
                let unit = step * f32::from(scale);
                let of_half = |s: f32| -> f32 {
                    magnitudes
                        .iter()
                        .map(|(m, share)| share * (s * f32::from(*m) - unit * f32::from(level(s, *m, unit))).powi(2))
                        .sum()
                };
                scales.map(of_half).iter().sum()
            };
            let scale = (1..=63).min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(1);
            let mut levels = [[8; MAX_CODE + 1]; 2];
            for (half, s) in levels.iter_mut().zip(scales) {
                for (m, _) in magnitudes {
                    half[usize::from(*m)] = (15 + level(s, *m, step * f32::from(scale))) / 2;
                }
            }
            Pair { scale, levels }
        };
        let scales = || (0..N_SCALES).map(|s| (2 * s + 1) as f32);
        Self { step, pairs: scales().flat_map(|a| scales().map(move |b| of([a, b]))).collect() }
    }

    fn of(&self, a: u8, b: u8) -> &Pair {
        &self.pairs[usize::from(a / 2) * N_SCALES + usize::from(b / 2)]
    }
}

/// The odd number up to 15 that is nearest to `scale · magnitude` in units of `unit`.
fn level(scale: f32, magnitude: u8, unit: f32) -> u8 {
    let half = (scale * f32::from(magnitude) / unit - 1.0) / 2.0;
    // As a byte it is neither negative nor beyond what can be compared.
    2 * (half.round() as u8).min(7) + 1
}

/// The signs of eight elements from seven bits, one each, set for minus: the eighth makes their number even. ggml's `ksigns_iq2xs`.
pub(super) fn even_signs(seven: u8) -> u8 {
    seven | ((seven.count_ones() as u8 & 1) << 7)
}

/// Puts the signs of `bits`, set for minus, on eight codes.
pub(super) fn with_signs(mut codes: [i8; 8], bits: u8) -> [i8; 8] {
    for (j, code) in codes.iter_mut().enumerate() {
        // All ones or none: the two's complement, or the code.
        let minus = -((bits >> j & 1) as i8);
        *code = (*code ^ minus) - minus;
    }
    codes
}

/// Entry `index` of a codebook of eight elements of two bits each, element `j` from bit `2 j` on.
pub(super) fn eight_of(grid: &[u8], index: usize, values: [i8; 4]) -> [i8; 8] {
    let packed = u16::from_le_bytes([grid[2 * index], grid[2 * index + 1]]);
    std::array::from_fn(|j| values[usize::from(packed >> (2 * j) & 3)])
}

/// Entries `indices` of a codebook of four elements of four bits each, element `j` from bit `4 j` on, one behind the other.
pub(super) fn twice_four_of(grid: &[u8], indices: [usize; 2], values: [i8; 8]) -> [i8; 8] {
    std::array::from_fn(|j| {
        let index = 2 * indices[j / 4] + j % 4 / 2;
        values[usize::from(grid[index] >> (4 * (j % 2)) & 7)]
    })
}

/// The `i`th 16-bit number from byte `at` of a block on.
pub(super) fn u16_at(block: &[u8], at: usize, i: usize) -> u16 {
    u16::from_le_bytes([block[at + 2 * i], block[at + 2 * i + 1]])
}

/// The `i`th 32-bit number from byte `at` of a block on.
pub(super) fn u32_at(block: &[u8], at: usize, i: usize) -> u32 {
    u32::from(u16_at(block, at, 2 * i)) | u32::from(u16_at(block, at, 2 * i + 1)) << 16
}

/// The `i`th four bits from byte `at` of a block on, low halves first.
pub(super) fn nibble_at(block: &[u8], at: usize, i: usize) -> u8 {
    block[at + i / 2] >> (4 * (i % 2)) & 15
}
