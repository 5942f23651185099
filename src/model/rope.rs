//! The angles of rotary position embedding, as a table that a backend can look up.
//!
//! Plain RoPE: Su et al. 2021 (arXiv 2104.09864). Linear scaling divides positions. YaRN: Peng et al. 2023 (arXiv 2309.00071).
//! LLaMA 3 and LongRoPE (arXiv 2402.13753) divide each frequency by a factor of its own, which the file carries as a tensor.

use std::f64::consts::PI;

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
}

/// The angles of one turn of each pair per position, and the magnitude of cosines and sines.
pub struct Angles {
    frequencies: Vec<f64>,
    magnitude: f64,
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
    Angles { frequencies, magnitude }
}

impl Angles {
    /// A position's row of the table, `[n_rot]`: as many cosines as pairs, then as many sines.
    pub fn row(&self, position: usize, row: &mut [f32]) {
        let (cos, sin) = row.split_at_mut(self.frequencies.len());
        for (i, frequency) in self.frequencies.iter().enumerate() {
            let angle = position as f64 * frequency;
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
        RopeConfig { n_rot, freq_base: 10000.0, scaling: RopeScaling::None, factors: None, magnitude: 1.0 }
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
    fn factors_divide_frequencies() {
        let mut scaled = plain(4);
        scaled.factors = Some(vec![1.0, 8.0]);
        let (a, b) = (table(&scaled, 9), table(&plain(4), 2));
        assert!((a[8 * 4 + 1] - b[4 + 1]).abs() < 1e-7);
    }
}
