//! Normalization of rows.

use super::math::{sum, sum_of_squares};

/// `out[i] = x[i] / √(mean(x[i]²) + eps) · weight`; `x, out [n, cols]`, `weight [cols]`.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let cols = weight.len();
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
        let scale = 1.0 / (sum_of_squares(x) / cols as f32 + eps).sqrt();
        for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * w;
        }
    }
}

/// `x[i] = x[i] / √(mean(x[i]²) + eps) · weight` in place; `x [heads, head_dim]`, `weight [head_dim]`.
pub fn head_norm(x: &mut [f32], weight: &[f32], eps: f32) {
    for x in x.chunks_exact_mut(weight.len()) {
        let scale = 1.0 / (sum_of_squares(x) / weight.len() as f32 + eps).sqrt();
        x.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * scale * w);
    }
}

/// `out[i] = (x[i] − mean) / √(var + eps) · weight + bias`; `x, out [n, cols]`, `weight, bias [cols]`. The variance is
/// taken of the differences, in a second pass: `mean(x²) − mean²` loses the digits that a large mean has in common.
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let cols = weight.len();
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
        let mean = sum(x) / cols as f32;
        for (out, x) in out.iter_mut().zip(x) {
            *out = x - mean;
        }
        let scale = 1.0 / (sum_of_squares(out) / cols as f32 + eps).sqrt();
        for ((out, w), b) in out.iter_mut().zip(weight).zip(bias) {
            *out = *out * scale * w + b;
        }
    }
}
