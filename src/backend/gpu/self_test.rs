//! What every adapter's drivers are asked before a model is trusted to them: small cases of every kernel against plain loops. Drivers
//! compile shaders wrongly more often than CPUs compute wrongly, and the first sign would otherwise be an answer that makes no sense.

use super::attention::SPLIT_KEYS;
use super::kernels::{Products, Variant};
use super::products::MAX_TILE32_ROWS;
use super::{Gpu, Tensor};
use crate::backend::choice::{Choice, choose};
use crate::backend::{
    AttentionOp, Choose, DepthwiseConv, Epilogue, GateUp, Gating, Heads, KvFormat, KvPlace, KvSource, KvSpec, Linear, MatrixSpec,
    Memory, Ops, Qkv, Queue, RmsNorm, RopeStyle, conv_state_rows,
};
use crate::error::{Error, Result};
use crate::quant::Format;

/// Largest error relative to the largest element: sums of a few hundred 32-bit terms, far from what a wrong kernel gives.
const TOLERANCE: f64 = 1e-4;
/// The same where keys and values have 16 bits.
const TOLERANCE_HALF: f64 = 1e-2;
/// With keys and values in 8 bits.
const TOLERANCE_BYTES: f64 = 5e-2;
/// The same of products whose operands have 16 bits, and 8.
const TOLERANCE_PRODUCTS: [(Products, f64); 3] = [(Products::Float, TOLERANCE), (Products::Half, 2e-3), (Products::Bytes, 3e-2)];
/// Scales of blocks: what most numbers of a model have; the scale of the scales of a K-quant of small weights, which is a subnormal half; and
/// the smallest of all halves. Drivers may take subnormal halves for zero.
const SCALES: [f32; 3] = [0.01, 1e-5, 6e-8];
/// Formats of weights that are tried: each way in which fragments read their planes is in one of them.
const FORMATS: [Format; 4] = [Format::Q6_K, Format::Q4_K, Format::Q4_0, Format::F16];

pub(super) async fn run(gpu: &mut Gpu, kv_format: KvFormat) -> Result<()> {
    loop {
        // What few kernels make comes first: where one of those is wrong, the others need not be compiled to say so.
        let wrong = match rest(gpu, kv_format).await? {
            None => products(gpu).await?,
            wrong => wrong,
        };
        let Some(wrong) = wrong else { return Ok(()) };
        let variant = gpu.device.variant();
        let is_wide = wrong.starts_with("mat_mul of many rows");
        let (plainer, with) = match variant {
            Variant { products: Products::Half, .. } if is_wide => {
                (Variant { products: Products::Float, ..variant }, "16-bit floats")
            }
            Variant { products: Products::Bytes, .. } if is_wide => {
                (Variant { products: Products::Float, ..variant }, "packed bytes")
            }
            Variant { lanes: 1.., .. } if !is_wide => (Variant { lanes: 0, ..variant }, "subgroups"),
            _ => {
                return Err(Error::unsupported_browser(format!(
                    "The GPU {} computes {wrong} wrongly. Update the browser or the graphics driver, or use device \"cpu\".",
                    gpu.device.name()
                )));
            }
        };
        gpu.device.replace(plainer, format!("The GPU computes {wrong} wrongly with {with}; they are not used."));
    }
}

/// A seeded generator (xorshift).
struct Numbers(u32);

impl Numbers {
    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Between −1 and 1.
    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.bits() as f32 / 2_147_483_648.0 - 1.0).collect()
    }

    /// Rows of any bits, but for the scales: each row's are about the next of `steps`. Floats are all about the first.
    fn matrix(&mut self, format: Format, n_in: usize, n_out: usize, steps: &[f32]) -> Vec<u8> {
        let row_bytes = format.row_bytes(n_in);
        let mut bytes: Vec<u8> = (0..n_out * row_bytes).map(|_| self.bits() as u8).collect();
        let places: &[usize] = match format {
            Format::Q4_K => &[0, 2],
            Format::Q6_K => &[208],
            _ => &[0],
        };
        for (row, bytes) in bytes.chunks_exact_mut(row_bytes).enumerate() {
            let step = if format.is_quantized() { steps[row % steps.len()] } else { steps[0] };
            for block in bytes.chunks_exact_mut(format.block_bytes()) {
                for at in places {
                    let scale = step * (1.0 + (self.bits() & 15) as f32 * 0.1);
                    block[*at..at + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
                }
            }
        }
        bytes
    }
}

fn filled(gpu: &mut Gpu, cols: usize, data: &[f32]) -> Result<Tensor> {
    let mut tensor = gpu.tensor(data.len() / cols, cols)?;
    gpu.write(&mut tensor, 0, data);
    Ok(tensor)
}

fn layer(gpu: &mut Gpu, format: Format, n_in: usize, n_out: usize, bytes: &[u8]) -> Result<Linear<Gpu>> {
    let spec = MatrixSpec { name: "self-test".into(), format, n_in, n_out };
    let mut builder = gpu.matrix_begin(&spec)?;
    gpu.matrix_rows(&mut builder, bytes)?;
    Ok(Linear { weight: gpu.matrix_end(builder)?, bias: None })
}

/// Whether the first rows of `x` are `want`.
async fn is_near(gpu: &mut Gpu, x: &Tensor, want: &[f64], tolerance: f64) -> Result<bool> {
    is_near_by_scale(gpu, x, want, tolerance, &SCALES[..1], |_| 0).await
}

/// The same, where an element's weights have the scales `scale_of(its index)`: each against those of the same scales, and only those of
/// `scales`.
async fn is_near_by_scale(
    gpu: &mut Gpu,
    x: &Tensor,
    want: &[f64],
    tolerance: f64,
    scales: &[f32],
    scale_of: impl Fn(usize) -> usize,
) -> Result<bool> {
    let mut got = Vec::new();
    gpu.read(x, 0, want.len() / x.cols, &mut got).await?;
    let mut largest = [0.0_f64; SCALES.len()];
    for (i, w) in want.iter().enumerate() {
        largest[scale_of(i)] = largest[scale_of(i)].max(w.abs());
    }
    Ok(got.iter().zip(want).enumerate().all(|(i, (g, w))| {
        let scale = scale_of(i);
        scale >= scales.len() || (f64::from(*g) - w).abs() <= tolerance * largest[scale]
    }))
}

fn product(weights: &[f32], x: &[f32], n_in: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks(n_in).flat_map(|x| weights.chunks(n_in).map(move |w| dot(x, w))).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn gelu_tanh(x: f64) -> f64 {
    x * (1.0 + (0.797_884_560_8 * (x + 0.044715 * x.powi(3))).tanh()) / 2.0
}

fn rms(row: &[f32], eps: f64) -> f64 {
    (row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / row.len() as f64 + eps).sqrt()
}

/// Tries everything that reads weights; gives the name of what is wrong.
async fn products(gpu: &mut Gpu) -> Result<Option<String>> {
    let mut numbers = Numbers(7);
    // More than 16 blocks, so that every thread has some and not all as many; rows that fill no workgroup, and no tile.
    let (n_in, n_out, n, eps) = (768, 39, MAX_TILE32_ROWS + 2, 1e-5);
    let data = numbers.floats(n * n_in);
    let norm = numbers.floats(n_in);
    let (x, norm_weight) = (filled(gpu, n_in, &data)?, filled(gpu, n_in, &norm)?);
    let normed: Vec<f32> =
        data[..n_in].iter().zip(&norm).map(|(x, w)| (f64::from(x * w) / rms(&data[..n_in], eps)) as f32).collect();
    let mut scratch = gpu.tensor(1, n_in)?;
    for format in FORMATS {
        let [bytes, other] = [(); 2].map(|()| numbers.matrix(format, n_in, n_out, &SCALES));
        let (mut weights, mut others) = (vec![0.0; n_in * n_out], vec![0.0; n_in * n_out]);
        format.decode_row(&bytes, &mut weights);
        format.decode_row(&other, &mut others);
        let first = layer(gpu, format, n_in, n_out, &bytes)?;
        let second = layer(gpu, format, n_in, n_out, &other)?;
        let mut out = gpu.tensor(n, n_out)?;
        let mut unused = gpu.tensor(1, n_out)?;
        let want = product(&weights, &data, n_in);

        let column_scale = |i: usize| i % n_out % SCALES.len();
        gpu.linear(&x, &first, &mut out, 1, Epilogue::Store);
        if !is_near_by_scale(gpu, &out, &want[..n_out], TOLERANCE, &SCALES, column_scale).await? {
            return Ok(Some(format!("mat_vec {}", format.name())));
        }
        if format == Format::F16
            && let Some(wrong) = activations(gpu, &x, &first, &want[..n_out]).await?
        {
            return Ok(Some(wrong));
        }
        let norm = RmsNorm { weight: &norm_weight, eps: eps as f32, scratch: &mut scratch };
        gpu.norm_linear(&x, norm, &first, &mut out, 1, Epilogue::Store);
        let of_normed = product(&weights, &normed, n_in);
        if !is_near_by_scale(gpu, &out, &of_normed, TOLERANCE, &SCALES, column_scale).await? {
            return Ok(Some(format!("mat_vec {} with its norm", format.name())));
        }
        gpu.linear(&x, &first, &mut out, 5, Epilogue::Store);
        if !is_near_by_scale(gpu, &out, &want[..5 * n_out], TOLERANCE, &SCALES, column_scale).await? {
            return Ok(Some(format!("mat_mul {}", format.name())));
        }
        gpu.linear(&x, &first, &mut out, n, Epilogue::Store);
        let products = gpu.device.variant().products;
        let tolerance = TOLERANCE_PRODUCTS.iter().find(|(p, _)| *p == products).map_or(TOLERANCE, |(_, t)| *t);
        // In halves weights are rounded as such, whole elements: only those of super-blocks stay normal with a subnormal scale, not the least.
        let scales = match products {
            Products::Half if format.block_len() == 256 => &SCALES[..2],
            Products::Half => &SCALES[..1],
            Products::Float | Products::Bytes => &SCALES,
        };
        if !is_near_by_scale(gpu, &out, &want, tolerance, scales, column_scale).await? {
            return Ok(Some(format!("mat_mul of many rows {}", format.name())));
        }
        let norm = RmsNorm { weight: &norm_weight, eps: eps as f32, scratch: &mut scratch };
        let layers = GateUp { gate: &first, up: &second, gating: Gating::Silu };
        gpu.norm_gate_up(&x, norm, &layers, &mut out, &mut unused, 1);
        let up = product(&others, &normed, n_in);
        let gated: Vec<f64> = of_normed.iter().zip(&up).map(|(g, u)| silu(*g) * u).collect();
        if !is_near_by_scale(gpu, &out, &gated, TOLERANCE, &SCALES, column_scale).await? {
            return Ok(Some(format!("gate_up {}", format.name())));
        }
        let ids = [36, 37, 38, 3];
        let mut rows = gpu.tensor(ids.len(), n_in)?;
        gpu.embed(&first.weight, &ids, &mut rows, 0);
        let looked_up: Vec<f64> =
            ids.iter().flat_map(|id| &weights[*id as usize * n_in..][..n_in]).map(|w| f64::from(*w)).collect();
        let row_scale = |i: usize| ids[i / n_in] as usize % SCALES.len();
        if !is_near_by_scale(gpu, &rows, &looked_up, TOLERANCE, &SCALES, row_scale).await? {
            return Ok(Some(format!("embed {}", format.name())));
        }
    }
    Ok(None)
}

/// What a linear layer may do with its result, where that is `y` for the first row of `x`. All kernels have it from one fragment.
async fn activations(gpu: &mut Gpu, x: &Tensor, layer: &Linear<Gpu>, y: &[f64]) -> Result<Option<String>> {
    let epilogues = [Epilogue::Gelu, Epilogue::GeluTanh, Epilogue::QuickGelu, Epilogue::Relu, Epilogue::HardSigmoid];
    let (mut one, mut all) = (gpu.tensor(1, y.len())?, gpu.tensor(epilogues.len(), y.len())?);
    let mut want = Vec::new();
    for (row, epilogue) in epilogues.into_iter().enumerate() {
        gpu.linear(x, layer, &mut one, 1, epilogue);
        gpu.copy_rows(&one, 0, &mut all, row, 1);
        want.extend(y.iter().map(|y| match epilogue {
            Epilogue::Gelu => y * one_plus_erf(y * std::f64::consts::FRAC_1_SQRT_2) / 2.0,
            Epilogue::GeluTanh => gelu_tanh(*y),
            Epilogue::QuickGelu => y / (1.0 + (-1.702 * y).exp()),
            Epilogue::Relu => y.max(0.0),
            Epilogue::HardSigmoid => (y + 3.0).clamp(0.0, 6.0) / 6.0,
            Epilogue::Store | Epilogue::Add => *y,
        }));
    }
    Ok(if is_near(gpu, &all, &want, TOLERANCE).await? { None } else { Some("activations".into()) })
}

/// `1 + erf(x)`, summed up from far below on.
fn one_plus_erf(x: f64) -> f64 {
    let (from, steps) = (-6.0, 2000);
    let width = (x.clamp(-6.0, 6.0) - from) / f64::from(steps);
    (0..steps).map(|i| (-(from + width * (f64::from(i) + 0.5)).powi(2)).exp()).sum::<f64>()
        * width
        * std::f64::consts::FRAC_2_SQRT_PI
}

/// Tries everything else.
async fn rest(gpu: &mut Gpu, kv_format: KvFormat) -> Result<Option<String>> {
    let mut numbers = Numbers(8);
    let (n, cols) = (3, 96);
    let [a, b, w] = [n * cols, n * cols, cols].map(|n| numbers.floats(n));
    let (x, y) = (filled(gpu, cols, &a)?, filled(gpu, cols, &b)?);
    let weight = filled(gpu, cols, &w)?;
    let mut out = gpu.tensor(n, cols)?;
    let wide = |x: &[f32]| x.iter().copied().map(f64::from).collect::<Vec<f64>>();

    gpu.gather_rows(&x, &[[2, 0], [0, 1], [1, 2]], &mut out);
    let gathered: Vec<f64> = [2, 0, 1].into_iter().flat_map(|row| wide(&a[row * cols..][..cols])).collect();
    if !is_near(gpu, &out, &gathered, 0.0).await? {
        return Ok(Some("gather_rows".into()));
    }
    // Rows that do not fill their padding, so that those that are joined do not lie side by side already.
    let (narrow, k) = (cols / 8, 4);
    let parts = filled(gpu, narrow, &a)?;
    let mut joined = gpu.tensor(2, k * narrow)?;
    gpu.join_rows(&parts, 1, k, &mut joined, 2);
    if !is_near(gpu, &joined, &wide(&a[narrow..][..2 * k * narrow]), 0.0).await? {
        return Ok(Some("join_rows".into()));
    }
    gpu.copy_rows(&x, 0, &mut out, 0, n);
    gpu.add_rows(&mut out, 0, &y, n);
    let sum: Vec<f64> = wide(&a).iter().zip(wide(&b)).map(|(a, b)| a + b).collect();
    if !is_near(gpu, &out, &sum, TOLERANCE).await? {
        return Ok(Some("copy_rows or add_rows".into()));
    }
    gpu.gate_mul(Gating::Silu, &mut out, &x, n);
    let gated: Vec<f64> = sum.iter().zip(wide(&a)).map(|(g, u)| silu(*g) * u).collect();
    if !is_near(gpu, &out, &gated, TOLERANCE).await? {
        return Ok(Some("gate_mul".into()));
    }
    let (mut rms, mut normed) = (Vec::new(), Vec::new());
    for row in wide(&a).chunks(cols) {
        let mean = row.iter().sum::<f64>() / cols as f64;
        let square = row.iter().map(|x| x * x).sum::<f64>() / cols as f64;
        let scale = (square - mean * mean + 1e-5).sqrt();
        rms.extend(row.iter().zip(&w).map(|(x, w)| x / (square + 1e-5).sqrt() * f64::from(*w)));
        normed.extend(row.iter().zip(&w).map(|(x, w)| (x - mean) / scale * f64::from(*w) + f64::from(*w)));
    }
    gpu.rms_norm(&x, &weight, 1e-5, &mut out, n);
    if !is_near(gpu, &out, &rms, TOLERANCE).await? {
        return Ok(Some("rms_norm".into()));
    }
    gpu.layer_norm(&x, &weight, &weight, 1e-5, &mut out, n);
    if !is_near(gpu, &out, &normed, TOLERANCE).await? {
        return Ok(Some("layer_norm".into()));
    }
    if let Some(wrong) = choice(gpu, &mut numbers).await? {
        return Ok(Some(wrong));
    }
    if let Some(wrong) = of_families(gpu, &mut numbers).await? {
        return Ok(Some(wrong));
    }
    for case in [
        AttentionCase { head_dim: 16, style: RopeStyle::Adjacent, has_bias: false, formats: &[KvFormat::F32, KvFormat::F16] },
        AttentionCase { head_dim: 64, style: RopeStyle::Halves, has_bias: true, formats: &[KvFormat::F16] },
        AttentionCase { head_dim: 128, style: RopeStyle::Adjacent, has_bias: false, formats: &[KvFormat::F16] },
        // Heads of a block and of several, in rows with whole words of scales and without, where they are to be used at all.
        AttentionCase { head_dim: 16, style: RopeStyle::Adjacent, has_bias: false, formats: &[KvFormat::Q8_0] },
        AttentionCase { head_dim: 96, style: RopeStyle::Halves, has_bias: true, formats: &[KvFormat::Q8_0] },
    ] {
        if case.formats == [KvFormat::Q8_0] && kv_format != KvFormat::Q8_0 {
            continue;
        }
        if let Some(wrong) = attention(gpu, &mut numbers, case).await? {
            return Ok(Some(wrong));
        }
    }
    Ok(None)
}

/// Ops that only some families of models take.
async fn of_families(gpu: &mut Gpu, numbers: &mut Numbers) -> Result<Option<String>> {
    let (n, cols, head_dim) = (3, 96, 32);
    let [a, b, w, s] = [n * cols, n * cols, head_dim, cols].map(|n| numbers.floats(n));
    let wide = |x: &[f32]| x.iter().copied().map(f64::from).collect::<Vec<f64>>();
    let (mut x, y) = (filled(gpu, cols, &a)?, filled(gpu, cols, &b)?);
    let (weight, scale) = (filled(gpu, head_dim, &w)?, filled(gpu, cols, &s)?);
    gpu.head_norm(&mut x, &weight, 1e-5, n);
    let norm = |head: &[f64]| {
        let square = head.iter().map(|x| x * x).sum::<f64>() / head_dim as f64;
        head.iter().zip(&w).map(|(x, w)| x / (square + 1e-5).sqrt() * f64::from(*w)).collect::<Vec<f64>>()
    };
    let mut want: Vec<f64> = wide(&a).chunks_exact(head_dim).flat_map(norm).collect();
    if !is_near(gpu, &x, &want, TOLERANCE).await? {
        return Ok(Some("head_norm".into()));
    }
    gpu.add_scaled(&mut x, &scale, &y, n);
    want.iter_mut().enumerate().for_each(|(i, x)| *x += f64::from(s[i % cols]) * f64::from(b[i]));
    if !is_near(gpu, &x, &want, TOLERANCE).await? {
        return Ok(Some("add_scaled".into()));
    }
    gpu.soft_cap(&mut x, 0.7, n);
    want.iter_mut().for_each(|x| *x = 0.7 * (*x / 0.7).tanh());
    if !is_near(gpu, &x, &want, TOLERANCE).await? {
        return Ok(Some("soft_cap".into()));
    }
    gpu.gate_mul(Gating::GeluTanh, &mut x, &y, n);
    want.iter_mut().zip(&b).for_each(|(x, y)| *x = gelu_tanh(*x) * f64::from(*y));
    if !is_near(gpu, &x, &want, TOLERANCE).await? {
        return Ok(Some("gate_mul".into()));
    }
    let mut mean = gpu.tensor(1, cols)?;
    gpu.mean_rows(&x, n, 2.0, &mut mean, 1);
    let means: Vec<f64> = (0..cols).map(|i| 2.0 / 3.0 * (want[i] + want[cols + i] + want[2 * cols + i])).collect();
    if !is_near(gpu, &mean, &means, TOLERANCE).await? {
        return Ok(Some("mean_rows".into()));
    }
    gpu.mul_rows(&mut x, &scale, n);
    want.iter_mut().enumerate().for_each(|(i, x)| *x *= f64::from(s[i % cols]));
    if !is_near(gpu, &x, &want, TOLERANCE).await? {
        return Ok(Some("mul_rows".into()));
    }
    gpu.hard_swish(&mut x, n);
    want.iter_mut().for_each(|x| *x *= (*x + 3.0).clamp(0.0, 6.0) / 6.0);
    if !is_near(gpu, &x, &want, TOLERANCE).await? {
        return Ok(Some("hard_swish".into()));
    }
    if let Some(wrong) = depthwise_conv(gpu, numbers).await? {
        return Ok(Some(wrong));
    }
    // Two rows, then one that looks for their products where they were kept.
    let cols = cols / 3;
    let kernel = filled(gpu, cols, &s)?;
    let (mut state, mut out) = (gpu.tensor(conv_state_rows(n), cols)?, gpu.tensor(2, cols)?);
    let last = filled(gpu, 3 * cols, &b[2 * 3 * cols..])?;
    gpu.short_conv(&y, &kernel, &mut state, 0, &mut out, 2);
    gpu.short_conv(&last, &kernel, &mut state, 2, &mut out, 1);
    let product = |row: usize, i: usize| f64::from(b[row * 3 * cols + i]) * f64::from(b[row * 3 * cols + 2 * cols + i]);
    let convolved: Vec<f64> = (0..cols)
        .map(|i| {
            let sum: f64 = (0..3).map(|tap| f64::from(s[tap * cols + i]) * product(tap, i)).sum();
            sum * f64::from(b[2 * 3 * cols + cols + i])
        })
        .collect();
    let mut first = gpu.tensor(1, cols)?;
    gpu.copy_rows(&out, 0, &mut first, 0, 1);
    if !is_near(gpu, &first, &convolved, TOLERANCE).await? {
        return Ok(Some("short_conv".into()));
    }
    Ok(None)
}

/// A convolution over a grid that is no square, of every place and of every second one.
async fn depthwise_conv(gpu: &mut Gpu, numbers: &mut Numbers) -> Result<Option<String>> {
    let (height, width, cols) = (3, 4, 40);
    let [data, taps, b] = [height * width * cols, 9 * cols, cols].map(|n| numbers.floats(n));
    let x = filled(gpu, cols, &data)?;
    for (stride, has_bias) in [(1, true), (2, false)] {
        let bias = if has_bias { Some(filled(gpu, cols, &b)?) } else { None };
        let conv = DepthwiseConv::<Gpu> { kernel: filled(gpu, cols, &taps)?, bias, stride };
        let [rows, columns] = conv.output([height, width]);
        let mut out = gpu.tensor(rows * columns, cols)?;
        gpu.depthwise_conv(&x, [height, width], &conv, &mut out);
        let at = |y: usize, x: usize, i: usize| -> f64 {
            let tap = |tap: usize| {
                let y = (stride * y + tap / 3).checked_sub(1).filter(|y| *y < height)?;
                let x = (stride * x + tap % 3).checked_sub(1).filter(|x| *x < width)?;
                Some(f64::from(taps[tap * cols + i]) * f64::from(data[(y * width + x) * cols + i]))
            };
            (0..9).filter_map(tap).sum::<f64>() + if has_bias { f64::from(b[i]) } else { 0.0 }
        };
        let want: Vec<f64> = (0..rows * columns * cols).map(|i| at(i / cols / columns, i / cols % columns, i % cols)).collect();
        if !is_near(gpu, &out, &want, TOLERANCE).await? {
            return Ok(Some("depthwise_conv".into()));
        }
    }
    Ok(None)
}

/// Tokens chosen from several parts of logits by every rule: those that the host chooses.
async fn choice(gpu: &mut Gpu, numbers: &mut Numbers) -> Result<Option<String>> {
    let mut data = numbers.floats(5000);
    (data[4321], data[17], data[3]) = (9.0, 8.0, f32::NEG_INFINITY);
    // More of the likeliest of equals than top-k keeps, in another part.
    for id in [40, 41, 2050, 4999] {
        data[id] = 7.5;
    }
    let logits = filled(gpu, data.len(), &data)?;
    let mut tokens = Vec::new();
    for choice in [
        Choice::GREEDY,
        Choice { temperature: 0.7, ..Choice::default() },
        Choice { min_p: 0.1, ..Choice::default() },
        Choice { top_k: 4, ..Choice::default() },
        Choice { top_p: 0.9, ..Choice::default() },
        Choice { temperature: 1.5, top_k: 700, top_p: 0.97, min_p: 0.0 },
        Choice { temperature: 1.0, top_k: 3, top_p: 0.99, min_p: 0.3 },
    ] {
        for unit in [0.0, 0.25, 0.5, 0.8, 0.999] {
            let token = gpu.choose(&logits, &choice, unit);
            if gpu.chosen(token).await? != choose(&data, &choice, unit, &mut tokens) {
                return Ok(Some("choose".into()));
            }
        }
    }
    Ok(None)
}

/// What an attention layer is like.
struct AttentionCase {
    head_dim: usize,
    style: RopeStyle,
    has_bias: bool,
    /// How keys and values may be kept.
    formats: &'static [KvFormat],
}

/// The front half of an attention layer in one go and in pieces, then attention; keys beyond one tile, and in several parts.
async fn attention(gpu: &mut Gpu, numbers: &mut Numbers, case: AttentionCase) -> Result<Option<String>> {
    let AttentionCase { head_dim, style, has_bias, formats } = case;
    let heads = Heads { n_heads: 2, n_kv_heads: 1, head_dim };
    // Two parts of keys, the first of them of two tiles.
    let (n_embd, n_keys, eps) = (32, 140, 1e-5);
    let (n_q, n_kv, n_rot) = (2 * head_dim, head_dim, head_dim);
    let widths = [n_q, n_kv, n_kv];
    let bytes = widths.map(|n_out| numbers.matrix(Format::Q4_0, n_embd, n_out, &SCALES[..1]));
    let biases = widths.map(|n_out| if has_bias { numbers.floats(n_out) } else { vec![0.0; n_out] });
    let mut layers = Vec::new();
    for ((bytes, bias), n_out) in bytes.iter().zip(&biases).zip(widths) {
        let layer = layer(gpu, Format::Q4_0, n_embd, n_out, bytes)?;
        layers.push(Linear { bias: if has_bias { Some(filled(gpu, n_out, bias)?) } else { None }, ..layer });
    }
    let [q, k, v] = &layers[..] else { unreachable!("three layers") };
    let data = numbers.floats(n_keys * n_embd);
    // A norm that makes keys of the second tile, and parts, outweigh those before: what was summed up before them must fade.
    let norm_data: Vec<f32> = numbers.floats(n_embd).iter().map(|x| 4.0 * x).collect();
    let norm_weight = filled(gpu, n_embd, &norm_data)?;
    let normed: Vec<f32> = data
        .chunks(n_embd)
        .flat_map(|row| row.iter().zip(&norm_data).map(move |(x, w)| (f64::from(*x) * f64::from(*w) / rms(row, eps)) as f32))
        .collect();
    let angles: Vec<f32> = (0..n_keys).flat_map(|p| (0..n_rot).map(move |i| ((p + i) as f32).sin())).collect();
    let rope = filled(gpu, n_rot, &angles)?;
    // Row by row on the host.
    let turned = |rows: &mut Vec<f64>, cols: usize| {
        for (p, row) in rows.chunks_mut(cols).enumerate() {
            for head in row.chunks_mut(head_dim) {
                for i in 0..n_rot / 2 {
                    let (c, s) = (f64::from(angles[p * n_rot + i]), f64::from(angles[p * n_rot + n_rot / 2 + i]));
                    let (first, second) = match style {
                        RopeStyle::Adjacent => (2 * i, 2 * i + 1),
                        RopeStyle::Halves => (i, i + n_rot / 2),
                    };
                    let (a, b) = (head[first], head[second]);
                    (head[first], head[second]) = (a * c - b * s, a * s + b * c);
                }
            }
        }
    };
    let [mut queries, mut keys, values] = std::array::from_fn(|i| {
        let mut weights = vec![0.0; n_embd * widths[i]];
        Format::Q4_0.decode_row(&bytes[i], &mut weights);
        let mut rows = product(&weights, &normed, n_embd);
        rows.iter_mut().zip(biases[i].iter().cycle()).for_each(|(x, bias)| *x += f64::from(*bias));
        rows
    });
    let narrow = |x: &[f64]| x.iter().map(|x| *x as f32).collect::<Vec<_>>();
    let [plain_q, plain_k, plain_v] = [&queries, &keys, &values].map(|x| narrow(x));
    let (mut plain_q, mut plain_k) = (filled(gpu, n_q, &plain_q)?, filled(gpu, n_kv, &plain_k)?);
    let plain_v = filled(gpu, n_kv, &plain_v)?;
    gpu.rope(&mut plain_q, &rope, style, 2, head_dim, 0, n_keys);
    gpu.rope(&mut plain_k, &rope, style, 1, head_dim, 0, n_keys);
    turned(&mut queries, n_q);
    turned(&mut keys, n_kv);
    let last = n_keys - 1;
    // Scores as large as those of heads of 16.
    let scale = 8.0 / head_dim as f64;
    let attended = |row: usize, end: usize| -> Vec<f64> {
        let mut want = Vec::new();
        for head in queries[n_q * row..n_q * (row + 1)].chunks(head_dim) {
            let score = |key: &[f64]| scale * head.iter().zip(key).map(|(q, k)| q * k).sum::<f64>();
            let scores: Vec<f64> = keys.chunks(n_kv).take(end).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            want.extend(
                (0..head_dim).map(|d| weights.iter().zip(values.chunks(n_kv)).map(|(w, v)| w / total * v[d]).sum::<f64>()),
            );
        }
        want
    };
    let op = AttentionOp { scale: scale as f32, ..AttentionOp::causal(heads) };
    let many: Vec<f64> = (0..last).flat_map(|row| attended(row, row + 1)).collect();
    let one = attended(last, last + 1);
    // Some that see each other, beyond a tile of keys.
    let span = 20..90;
    let both_ways: Vec<f64> =
        (0..last).flat_map(|row| attended(row, if span.contains(&row) { span.end } else { row + 1 })).collect();
    for format in formats {
        let tolerance = match format {
            KvFormat::F32 => 5.0 * TOLERANCE,
            KvFormat::F16 => TOLERANCE_HALF,
            KvFormat::Q8_0 => TOLERANCE_BYTES,
        };
        // With room for so many keys they are cut into parts.
        let mut cache = gpu.kv_cache(&KvSpec { n_layers: 1, n_ctx: 2 * SPLIT_KEYS, n_kv, head_dim, format: *format })?;
        let mut out = gpu.tensor(n_keys, n_q)?;
        // Many rows take the plain kernels, one the fused one.
        gpu.kv_write(&mut cache, 0, 0, &plain_k, &plain_v, last);
        gpu.attention(&op, &plain_q, KvSource::Cache { cache: &cache, layer: 0, first: 0, ends: None }, &mut out, last);
        if !is_near(gpu, &out, &many, tolerance).await? {
            return Ok(Some(format!("attention of many rows over {format:?}, heads of {head_dim}")));
        }
        if head_dim == 16 {
            let mut ends = vec![0.0; 2 * SPLIT_KEYS];
            ends[span.clone()].fill(span.end as f32);
            let ends = filled(gpu, ends.len(), &ends)?;
            let kv = KvSource::Cache { cache: &cache, layer: 0, first: 0, ends: Some(&ends) };
            gpu.attention(&op, &plain_q, kv, &mut out, last);
            if !is_near(gpu, &out, &both_ways, tolerance).await? {
                return Ok(Some(format!("attention of spans over {format:?}")));
            }
        }
        let x = filled(gpu, n_embd, &data[last * n_embd..])?;
        let [qt, kt, vt, scratch] = [n_q, n_kv, n_kv, n_embd].map(|cols| gpu.tensor(1, cols));
        let (mut qt, mut kt, mut vt, mut scratch) = (qt?, kt?, vt?, scratch?);
        let place = KvPlace { cache: &mut cache, layer: 0, position: last, rope: &rope, style, heads };
        let norm = RmsNorm { weight: &norm_weight, eps: eps as f32, scratch: &mut scratch };
        gpu.norm_qkv_rope_kv(&x, norm, &Qkv { q, k, v, qk_norm: None }, place, &mut qt, &mut kt, &mut vt, 1);
        gpu.attention(&op, &qt, KvSource::Cache { cache: &cache, layer: 0, first: last, ends: None }, &mut out, 1);
        if !is_near(gpu, &out, &one, tolerance).await? {
            return Ok(Some(format!("attention over {format:?}, heads of {head_dim}")));
        }
    }
    Ok(None)
}
