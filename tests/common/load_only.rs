//! Random blocks of the formats that are converted when they are loaded.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use half::f16;
use llava_web::quant::LoadOnly;

use super::random::Random;

/// Puts a block's scale, or the scale of its scales, to `d`; of the 4-bit floats, each scale to one near it.
pub fn set_scale(format: LoadOnly, block: &mut [u8], d: f32, random: &mut Random) {
    let bits = f16::from_f32(d).to_bits();
    let at = match format {
        LoadOnly::MXFP4 => {
            block[0] = (d.log2().round() as i32 + 127 + random.below(3) as i32).clamp(0, 255) as u8;
            return;
        }
        LoadOnly::NVFP4 => {
            let exponent = (d.log2().round() as i32 + 7).max(0);
            block[..4].fill_with(|| ((exponent + random.below(2) as i32) as u8) << 3 | random.below(8) as u8);
            return;
        }
        LoadOnly::IQ1_M => {
            for i in 0..4 {
                let high = (bits >> (4 * i) & 15) as u8;
                block[49 + 2 * i] = block[49 + 2 * i] & 15 | high << 4;
            }
            return;
        }
        LoadOnly::TQ1_0 | LoadOnly::TQ2_0 => block.len() - 2,
        _ => 0,
    };
    block[at..at + 2].copy_from_slice(&bits.to_le_bytes());
}

/// `n` elements of any bits whose root mean square is about `rms`.
pub fn row(format: LoadOnly, n: usize, rms: f32, random: &mut Random) -> Vec<u8> {
    let mut bytes = random.bytes(n / format.block_len() * format.block_bytes());
    let mut values = vec![0.0; format.block_len()];
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        set_scale(format, block, 1.0, random);
        format.decode_row(block, &mut values);
        let mean = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
        set_scale(format, block, rms / mean.sqrt(), random);
    }
    bytes
}

/// The mean square error of `got`, normalized by the mean square of `want`.
pub fn nmse(want: &[f32], got: &[f32]) -> f64 {
    assert_eq!(want.len(), got.len());
    let sum = |of: &dyn Fn(f64, f64) -> f64| want.iter().zip(got).map(|(a, b)| of((*a).into(), (*b).into())).sum::<f64>();
    sum(&|a, b| (a - b).powi(2)) / sum(&|a, _| a * a)
}
