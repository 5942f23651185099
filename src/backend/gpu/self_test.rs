//! What every adapter's drivers are asked before a model is trusted to them: small cases of every kernel against plain loops. Drivers
//! compile shaders wrongly more often than CPUs compute wrongly, and the first sign would otherwise be an answer that makes no sense.

use super::{Backend, Gpu, Tensor};
use crate::backend::{Epilogue, Heads, KvFormat, KvPlace, KvSpec, Linear, MatrixSpec, Qkv, RopeStyle};
use crate::error::{Error, Result};
use crate::quant::Format;

/// Largest error relative to the largest element: sums of a few hundred 32-bit terms, far from what a wrong kernel gives.
const TOLERANCE: f64 = 1e-4;
/// The same where keys and values have 16 bits.
const TOLERANCE_HALF: f64 = 1e-2;
/// Formats of weights that are tried: each way in which fragments read their planes is in one of them.
const FORMATS: [Format; 4] = [Format::F16, Format::Q4_0, Format::Q4_K, Format::Q6_K];

pub(super) async fn run(gpu: &mut Gpu) -> Result<()> {
    if gpu.device.variant() != super::kernels::Variant::default()
        && let Some(wrong) = products(gpu).await?
    {
        let note = format!("The GPU computes {wrong} wrongly with subgroups; they are not used.");
        gpu.device.use_plain_kernels(note);
    }
    let wrong = match products(gpu).await? {
        None => rest(gpu).await?,
        wrong => wrong,
    };
    match wrong {
        None => Ok(()),
        Some(wrong) => Err(Error::unsupported_browser(format!(
            "The GPU {} computes {wrong} wrongly. Update the browser or the graphics driver, or use device \"cpu\".",
            gpu.device.name()
        ))),
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

    /// A matrix of any bits, but for the scales, which are small.
    fn matrix(&mut self, format: Format, n: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..format.row_bytes(n)).map(|_| self.bits() as u8).collect();
        let scales: &[usize] = match format {
            Format::Q4_K => &[0, 2],
            Format::Q6_K => &[208],
            _ => &[0],
        };
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for at in scales {
                let scale = 0.01 + (self.bits() & 15) as f32 * 0.001;
                block[*at..at + 2].copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
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
    let mut got = Vec::new();
    gpu.read(x, 0, want.len() / x.cols, &mut got).await?;
    let largest = want.iter().fold(0.0, |largest: f64, w| largest.max(w.abs()));
    Ok(got.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() <= tolerance * largest))
}

fn product(weights: &[f32], x: &[f32], n_in: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks(n_in).flat_map(|x| weights.chunks(n_in).map(move |w| dot(x, w))).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// Tries everything that reads weights; gives the name of what is wrong.
async fn products(gpu: &mut Gpu) -> Result<Option<String>> {
    let mut numbers = Numbers(7);
    // More than 16 blocks, so that every thread has some and not all as many; rows that fill no workgroup.
    let (n_in, n_out, n) = (768, 39, 5);
    for format in FORMATS {
        let [bytes, other] = [(); 2].map(|()| numbers.matrix(format, n_in * n_out));
        let (mut weights, mut others) = (vec![0.0; n_in * n_out], vec![0.0; n_in * n_out]);
        format.decode_row(&bytes, &mut weights);
        format.decode_row(&other, &mut others);
        let data = numbers.floats(n * n_in);
        let (first, x) = (layer(gpu, format, n_in, n_out, &bytes)?, filled(gpu, n_in, &data)?);
        let second = layer(gpu, format, n_in, n_out, &other)?;
        let mut out = gpu.tensor(n, n_out)?;
        let mut scratch = gpu.tensor(n, n_out)?;
        let want = product(&weights, &data, n_in);

        gpu.linear(&x, &first, &mut out, 1, Epilogue::Store);
        if !is_near(gpu, &out, &want[..n_out], TOLERANCE).await? {
            return Ok(Some(format!("mat_vec {}", format.name())));
        }
        gpu.linear(&x, &first, &mut out, n, Epilogue::Store);
        if !is_near(gpu, &out, &want, TOLERANCE).await? {
            return Ok(Some(format!("mat_mul {}", format.name())));
        }
        gpu.gate_up(&x, &first, &second, &mut out, &mut scratch, 1);
        let up = product(&others, &data[..n_in], n_in);
        let gated: Vec<f64> = want.iter().zip(&up).map(|(g, u)| silu(*g) * u).collect();
        if !is_near(gpu, &out, &gated, TOLERANCE).await? {
            return Ok(Some(format!("gate_up {}", format.name())));
        }
        let mut rows = gpu.tensor(2, n_in)?;
        gpu.embed(&first.weight, &[38, 3], &mut rows, 0);
        let looked_up: Vec<f64> = [38, 3].iter().flat_map(|id| &weights[id * n_in..][..n_in]).map(|w| f64::from(*w)).collect();
        if !is_near(gpu, &rows, &looked_up, TOLERANCE).await? {
            return Ok(Some(format!("embed {}", format.name())));
        }
    }
    Ok(None)
}

/// Tries everything else.
async fn rest(gpu: &mut Gpu) -> Result<Option<String>> {
    let mut numbers = Numbers(8);
    let (n, cols) = (3, 96);
    let [a, b, w] = [n * cols, n * cols, cols].map(|n| numbers.floats(n));
    let (x, y) = (filled(gpu, cols, &a)?, filled(gpu, cols, &b)?);
    let weight = filled(gpu, cols, &w)?;
    let mut out = gpu.tensor(n, cols)?;
    let wide = |x: &[f32]| x.iter().copied().map(f64::from).collect::<Vec<f64>>();

    gpu.copy_rows(&x, 0, &mut out, 0, n);
    gpu.add_rows(&mut out, 0, &y, n);
    let sum: Vec<f64> = wide(&a).iter().zip(wide(&b)).map(|(a, b)| a + b).collect();
    if !is_near(gpu, &out, &sum, TOLERANCE).await? {
        return Ok(Some("copy_rows or add_rows".into()));
    }
    gpu.silu_mul(&mut out, &x, n);
    let gated: Vec<f64> = sum.iter().zip(wide(&a)).map(|(g, u)| silu(*g) * u).collect();
    if !is_near(gpu, &out, &gated, TOLERANCE).await? {
        return Ok(Some("silu_mul".into()));
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
    attention(gpu, &mut numbers).await
}

/// The front half of an attention layer in one go and in pieces, then attention; keys beyond one tile.
async fn attention(gpu: &mut Gpu, numbers: &mut Numbers) -> Result<Option<String>> {
    let heads = Heads { n_heads: 2, n_kv_heads: 1, head_dim: 16 };
    let (n_embd, n_keys, n_rot) = (32, 70, 16);
    let bytes = [32, 16, 16].map(|n_out| numbers.matrix(Format::Q4_0, n_embd * n_out));
    let weights = bytes.each_ref().map(|bytes| {
        let mut weights = vec![0.0; bytes.len() / 18 * 32];
        Format::Q4_0.decode_row(bytes, &mut weights);
        weights
    });
    let [q, k, v] =
        [(&bytes[0], 32), (&bytes[1], 16), (&bytes[2], 16)].map(|(bytes, n_out)| layer(gpu, Format::Q4_0, n_embd, n_out, bytes));
    let (q, k, v) = (q?, k?, v?);
    let mut data = numbers.floats(n_keys * n_embd);
    // The keys of the second tile outweigh those of the first: what was summed up before them must fade.
    data[64 * n_embd..].iter_mut().for_each(|x| *x *= 4.0);
    let angles: Vec<f32> = (0..n_keys).flat_map(|p| (0..n_rot).map(move |i| ((p + i) as f32).sin())).collect();
    let rope = filled(gpu, n_rot, &angles)?;
    // Row by row on the host.
    let turned = |rows: &mut Vec<f64>, cols: usize| {
        for (p, row) in rows.chunks_mut(cols).enumerate() {
            for head in row.chunks_mut(heads.head_dim) {
                for i in 0..n_rot / 2 {
                    let (c, s) = (f64::from(angles[p * n_rot + i]), f64::from(angles[p * n_rot + n_rot / 2 + i]));
                    let (a, b) = (head[2 * i], head[2 * i + 1]);
                    (head[2 * i], head[2 * i + 1]) = (a * c - b * s, a * s + b * c);
                }
            }
        }
    };
    let [mut queries, mut keys, values] = weights.each_ref().map(|weights| product(weights, &data, n_embd));
    turned(&mut queries, 32);
    turned(&mut keys, 16);
    let last = n_keys - 1;
    let mut want = Vec::new();
    for head in queries[32 * last..].chunks(16) {
        let score = |key: &[f64]| 0.5 * head.iter().zip(key).map(|(q, k)| q * k).sum::<f64>();
        let scores: Vec<f64> = keys.chunks(16).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
        want.extend(
            (0..16).map(|d| scores.iter().zip(values.chunks(16)).map(|(s, v)| (s - largest).exp() / total * v[d]).sum::<f64>()),
        );
    }
    for (format, tolerance) in [(KvFormat::F32, TOLERANCE), (KvFormat::F16, TOLERANCE_HALF)] {
        let mut cache = gpu.kv_cache(&KvSpec { n_layers: 1, n_ctx: n_keys, n_kv: 16, format })?;
        let layers = Qkv { q: &q, k: &k, v: &v };
        let style = RopeStyle::Adjacent;
        // Many rows take the plain kernels, one the fused one.
        for (from, n) in [(0, last), (last, 1)] {
            let x = filled(gpu, n_embd, &data[from * n_embd..][..n * n_embd])?;
            let [qt, kt, vt, out] = [32, 16, 16, 32].map(|cols| gpu.tensor(n, cols));
            let (mut qt, mut kt, mut vt, mut out) = (qt?, kt?, vt?, out?);
            let place = KvPlace { cache: &mut cache, layer: 0, position: from, rope: &rope, style, heads };
            gpu.qkv_rope_kv(&x, &layers, place, &mut qt, &mut kt, &mut vt, n);
            gpu.attention(&qt, &cache, 0, from, heads, 0.5, &mut out, n);
            if n == 1 && !is_near(gpu, &out, &want, tolerance).await? {
                return Ok(Some(format!("attention over {format:?}")));
            }
        }
    }
    Ok(None)
}
