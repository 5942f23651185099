//! Ops that treat every element alike.

use super::math::{exp, gelu as gelu_one, gelu_tanh as gelu_tanh_one};
use crate::backend::{Epilogue, Gating};

/// `x += y`
pub fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// `gate = gating(gate) · up`
pub fn gate_mul(gating: Gating, gate: &mut [f32], up: &[f32]) {
    match gating {
        Gating::Silu => silu_mul(gate, up),
        Gating::GeluTanh => gelu_tanh_mul(gate, up),
    }
}

/// `gate = silu(gate) · up`, `silu(x) = x / (1 + e⁻ˣ)`
#[inline(never)]
fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// `gate = gelu_tanh(gate) · up`
#[inline(never)]
fn gelu_tanh_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = gelu_tanh_one(*gate) * up;
    }
}

/// `x = cap · tanh(x / cap)`
pub fn soft_cap(x: &mut [f32], cap: f32) {
    for x in x {
        *x = cap * (*x / cap).tanh();
    }
}

/// `out = out/2 · (1 + erf(out/√2))`
#[inline(never)]
fn gelu(out: &mut [f32]) {
    for out in out {
        *out = gelu_one(*out);
    }
}

/// `out = gelu_tanh(out)`
#[inline(never)]
fn gelu_tanh(out: &mut [f32]) {
    for out in out {
        *out = gelu_tanh_one(*out);
    }
}

/// `out = out · sigmoid(1.702 out)`
#[inline(never)]
fn quick_gelu(out: &mut [f32]) {
    for out in out {
        *out /= 1.0 + exp(-1.702 * *out);
    }
}

/// `clamp(x + 3, 0, 6) / 6`. Beyond ±3 it is 0 or 1 exactly, also where `6 x` would overflow.
#[inline(always)]
fn hard_sigmoid_one(x: f32) -> f32 {
    (x + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0)
}

/// `out = clamp(out + 3, 0, 6) / 6`
fn hard_sigmoid(out: &mut [f32]) {
    for out in out {
        *out = hard_sigmoid_one(*out);
    }
}

/// `x = x · clamp(x + 3, 0, 6) / 6`
pub fn hard_swish(x: &mut [f32]) {
    for x in x {
        *x *= hard_sigmoid_one(*x);
    }
}

/// `x[i] = x[i] ⊙ scale`; `x [n, cols]`, `scale [cols]`.
pub fn mul_rows(x: &mut [f32], scale: &[f32]) {
    for x in x.chunks_exact_mut(scale.len()) {
        x.iter_mut().zip(scale).for_each(|(x, scale)| *x *= scale);
    }
}

/// Ends a row of a linear layer: `out` is the product or, for [`Epilogue::Add`], what was there plus the product.
pub fn epilogue(out: &mut [f32], bias: Option<&[f32]>, epilogue: Epilogue) {
    if let Some(bias) = bias {
        add(out, bias);
    }
    match epilogue {
        Epilogue::Store | Epilogue::Add => {}
        Epilogue::Gelu => gelu(out),
        Epilogue::GeluTanh => gelu_tanh(out),
        Epilogue::QuickGelu => quick_gelu(out),
        Epilogue::Relu => out.iter_mut().for_each(|out| *out = out.max(0.0)),
        Epilogue::HardSigmoid => hard_sigmoid(out),
    }
}

/// `x[i] += scale ⊙ y[i]`; `x, y [n, cols]`, `scale [cols]`.
pub fn add_scaled(x: &mut [f32], scale: &[f32], y: &[f32]) {
    for (x, y) in x.chunks_exact_mut(scale.len()).zip(y.chunks_exact(scale.len())) {
        for ((x, y), scale) in x.iter_mut().zip(y).zip(scale) {
            *x += scale * y;
        }
    }
}

/// `out[i] = factor · mean(x[k·i], …, x[k·i+k−1])`; `x [k · n, cols]`, `out [n, cols]`.
pub fn mean_rows(x: &[f32], k: usize, factor: f32, cols: usize, out: &mut [f32]) {
    let factor = factor / k as f32;
    for (x, out) in x.chunks_exact(k * cols).zip(out.chunks_exact_mut(cols)) {
        out.fill(0.0);
        for x in x.chunks_exact(cols) {
            out.iter_mut().zip(x).for_each(|(out, x)| *out += x);
        }
        out.iter_mut().for_each(|out| *out *= factor);
    }
}
