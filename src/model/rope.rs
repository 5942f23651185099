//! The angles of rotary position embedding, as a table that a backend can look up.
//!
//! Plain RoPE: Su et al. 2021 (arXiv 2104.09864). Linear scaling divides positions. YaRN: Peng et al. 2023 (arXiv 2309.00071).
//! LLaMA 3 and LongRoPE (arXiv 2402.13753) divide each frequency by a factor of its own, which the file carries as a tensor.
//! Multimodal RoPE: Wang et al. 2024 (arXiv 2409.12191); its interleaved form is Qwen3-VL's (Bai et al. 2025, arXiv 2511.21631).

use std::f64::consts::PI;

use crate::model::positions::Position;

/// How positions beyond those of the training are reached.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions are divided by the factor.
    Linear {
        /// ≥ 1
        factor: f64,
    },
    /// Low frequencies are divided by the factor, high ones kept, those between mixed.
    Yarn {
        /// ≥ 1
        factor: f64,
        /// Positions of the original training.
        original_context: f64,
        /// Strength of the extrapolating part, normally 1.
        ext_factor: f64,
        /// Further factor on the magnitude, normally 1.
        attn_factor: f64,
        /// Turns over the original context above which a frequency is kept.
        beta_fast: f64,
        /// Turns below which it is divided by the whole factor.
        beta_slow: f64,
    },
}

/// Which of a position's three numbers (time, height, width) turns which pairs of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sections {
    /// The first so many pairs by time, then by height, then by width.
    InTurn([usize; 3]),
    /// Time, height and width by turns while height and width have pairs left, then time.
    Interleaved([usize; 3]),
}

impl Sections {
    /// Of the three numbers the one that turns pair `i`.
    fn axis(self, i: usize) -> usize {
        match self {
            Self::InTurn([time, height, _]) => usize::from(i >= time) + usize::from(i >= time + height),
            Self::Interleaved([_, height, width]) => match i % 3 {
                1 if i < 3 * height => 1,
                2 if i < 3 * width => 2,
                _ => 0,
            },
        }
    }
}

/// Everything that decides the angles.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Elements of a head that are turned.
    pub n_rot: usize,
    /// The base of the geometric row of frequencies.
    pub freq_base: f64,
    /// The scaling.
    pub scaling: RopeScaling,
    /// A divisor per frequency (`n_rot/2`), from the file.
    pub factors: Option<Vec<f32>>,
    /// A factor on cosines and sines.
    pub magnitude: f64,
    /// Where positions have three numbers, which of them turns what.
    pub sections: Option<Sections>,
}

/// The angles of one turn of each pair per position, and the magnitude of cosines and sines.
pub struct Angles {
    frequencies: Vec<f64>,
    magnitude: f64,
    /// Which of a position's numbers turns each pair; empty where a position is one number.
    axes: Vec<usize>,
}

/// Works out the frequencies.
pub fn angles(config: &RopeConfig) -> Angles {
    let half = config.n_rot / 2;
    let mut magnitude = config.magnitude;
    let frequencies: Vec<f64> = (0..half)
        .map(|i| {
            let factor = config.factors.as_ref().map_or(1.0, |f| f64::from(f[i]));
            let plain = config.freq_base.powf(-2.0 * i as f64 / config.n_rot as f64) / factor;
            match config.scaling {
                RopeScaling::None => plain,
                RopeScaling::Linear { factor } => plain / factor,
                RopeScaling::Yarn { factor, original_context, ext_factor, beta_fast, beta_slow, .. } => {
                    // The index of the frequency that makes `turns` turns over the original context.
                    let index = |turns: f64| {
                        config.n_rot as f64 * (original_context / (turns * 2.0 * PI)).ln() / (2.0 * config.freq_base.ln())
                    };
                    let low = index(beta_fast).floor().max(0.0);
                    let high = index(beta_slow).ceil().min(config.n_rot as f64 - 1.0);
                    let ramp = 1.0 - ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                    let keep = ramp * ext_factor;
                    plain / factor * (1.0 - keep) + plain * keep
                }
            }
        })
        .collect();
    if let RopeScaling::Yarn { factor, ext_factor, attn_factor, .. } = config.scaling {
        magnitude *= attn_factor;
        if ext_factor != 0.0 {
            magnitude *= 1.0 + 0.1 * factor.ln();
        }
    }
    let axes = config.sections.map_or(Vec::new(), |sections| (0..half).map(|i| sections.axis(i)).collect());
    Angles { frequencies, magnitude, axes }
}

impl Angles {
    /// A position's row of the table, `[n_rot]`: as many cosines as pairs, then as many sines.
    pub fn row(&self, position: usize, row: &mut [f32]) {
        self.row_at([position; 3], row);
    }

    /// [`Self::row`] of a position in time, height and width.
    #[expect(clippy::cast_possible_truncation, reason = "angles are computed in f64, and rounded at the end")]
    pub fn row_at(&self, position: Position, row: &mut [f32]) {
        let (cos, sin) = row.split_at_mut(self.frequencies.len());
        for (i, frequency) in self.frequencies.iter().enumerate() {
            let axis = self.axes.get(i).copied().unwrap_or(0);
            let angle = position[axis] as f64 * frequency;
            cos[i] = (angle.cos() * self.magnitude) as f32;
            sin[i] = (angle.sin() * self.magnitude) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(config: &RopeConfig, n_ctx: usize) -> Vec<f32> {
        let mut out = vec![0.0; n_ctx * config.n_rot];
        let angles = angles(config);
        out.chunks_exact_mut(config.n_rot).enumerate().for_each(|(position, row)| angles.row(position, row));
        out
    }

    fn plain(n_rot: usize) -> RopeConfig {
        RopeConfig { n_rot, freq_base: 10000.0, scaling: RopeScaling::None, factors: None, magnitude: 1.0, sections: None }
    }

    #[test]
    fn first_position_is_not_turned_and_the_first_frequency_is_one() {
        let t = table(&plain(8), 3);
        assert_eq!(t[..8], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert!((t[16] - 2f32.cos()).abs() < 1e-7 && (t[20] - 2f32.sin()).abs() < 1e-7);
    }

    #[test]
    fn linear_scaling_by_two_halves_positions() {
        let mut scaled = plain(8);
        scaled.scaling = RopeScaling::Linear { factor: 2.0 };
        assert_eq!(table(&scaled, 9)[8 * 8..], table(&plain(8), 5)[4 * 8..]);
    }

    #[test]
    fn yarn_keeps_the_highest_frequency_and_divides_the_lowest() {
        let n_rot = 64;
        let mut scaled = plain(n_rot);
        scaled.scaling = RopeScaling::Yarn {
            factor: 4.0,
            original_context: 2048.0,
            ext_factor: 1.0,
            attn_factor: 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
        };
        let magnitude = 1.0 + 0.1 * 4f64.ln();
        let t = table(&scaled, 5);
        let row = &t[4 * n_rot..];
        assert!((f64::from(row[0]) - 4f64.cos() * magnitude).abs() < 1e-6);
        let lowest = 10000f64.powf(-62.0 / 64.0);
        assert!((f64::from(row[n_rot - 1]) - lowest.sin() * magnitude).abs() < 1e-6, "position 4 divided by 4");
    }

    #[test]
    fn sections_say_which_number_turns_a_pair() {
        let axes = |sections: Sections, n| (0..n).map(|i| sections.axis(i)).collect::<Vec<_>>();
        assert_eq!(axes(Sections::InTurn([2, 3, 3]), 8), [0, 0, 1, 1, 1, 2, 2, 2]);
        assert_eq!(axes(Sections::Interleaved([5, 2, 2]), 9), [0, 1, 2, 0, 1, 2, 0, 0, 0]);
        let config = RopeConfig { sections: Some(Sections::InTurn([1, 2, 1])), ..plain(8) };
        let (mut row, plain) = (vec![0.0; 8], table(&plain(8), 8));
        angles(&config).row_at([3, 5, 7], &mut row);
        let want: Vec<f32> = [(3, 0), (5, 1), (5, 2), (7, 3)].iter().map(|(p, i)| plain[p * 8 + i]).collect();
        assert_eq!(row[..4], want);
    }

    #[test]
    fn factors_divide_frequencies() {
        let mut scaled = plain(4);
        scaled.factors = Some(vec![1.0, 8.0]);
        let (a, b) = (table(&scaled, 9), table(&plain(4), 2));
        assert!((a[8 * 4 + 1] - b[4 + 1]).abs() < 1e-7);
    }
}
