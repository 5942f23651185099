//! The ops of a generated token and of long prompts, on any backend: norms in front of products, keys in several parts, products of many
//! rows, and choosing a token.

use std::ops::Range;

use llava_web::backend::choice::{Choice, choose};
use llava_web::backend::{
    AttentionOp, Backend, Epilogue, GateUp, Gating, Heads, KvFormat, KvPlace, KvSource, KvSpec, Linear, Mask, MatrixSpec, Qkv,
    RmsNorm, RopeStyle,
};
use llava_web::quant::Format;

use crate::ops::{self, Random, Test, assert_near, full};

/// Everything but products of many rows, each test on a fresh backend.
pub fn tests<'a, B: Backend + 'a>(make: &'a impl Fn() -> B) -> Vec<Test<'a>> {
    let mut all = vec![
        Test::new("keys_in_parts", async { keys_in_parts(&mut make()).await }),
        Test::new("wide_heads", async { wide_heads(&mut make()).await }),
        Test::new("masks", async { masks(&mut make()).await }),
        Test::new("spans", async { spans(&mut make()).await }),
        Test::new("many_heads_share_keys", async { many_heads_share_keys(&mut make()).await }),
        Test::new("choices", async { choices(&mut make()).await }),
        Test::new("choices_of_vocabularies", async { choices_of_vocabularies(&mut make()).await }),
    ];
    for (format, other) in Format::ALL.into_iter().map(|format| (format, format)).chain([(Format::Q4_K, Format::Q6_K)]) {
        let name = format!("normed {} {}", format.name(), other.name());
        all.push(Test::new(name, async move { normed(&mut make(), format, other).await }));
    }
    all
}

/// Products of many rows, in every format; `nmse` and `max` bound their error, see [`many_rows`].
#[allow(dead_code, reason = "only a backend that computes them in several ways is asked for them")]
pub fn products<'a, B: Backend + 'a>(make: &'a impl Fn() -> B, nmse: f64, max: f64) -> Vec<Test<'a>> {
    let test = |format: Format| {
        Test::new(format!("many_rows {}", format.name()), async move { many_rows(&mut make(), format, nmse, max).await })
    };
    Format::ALL.into_iter().map(test).collect()
}

async fn read<B: Backend>(backend: &mut B, x: &B::Tensor, n: usize) -> Vec<f32> {
    ops::read(backend, x, 0, n).await
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

pub fn filled<B: Backend>(backend: &mut B, cols: usize, data: &[f32]) -> B::Tensor {
    let mut x = backend.tensor(data.len() / cols, cols).expect("tensor");
    backend.write(&mut x, 0, data);
    x
}

fn linear<B: Backend>(
    backend: &mut B,
    format: Format,
    n_in: usize,
    n_out: usize,
    bytes: &[u8],
    bias: Option<&[f32]>,
) -> Linear<B> {
    let spec = MatrixSpec { name: "w".into(), format, n_in, n_out };
    let mut builder = backend.matrix_begin(&spec).expect("matrix_begin");
    backend.matrix_rows(&mut builder, bytes).expect("matrix_rows");
    let weight = backend.matrix_end(builder).expect("matrix_end");
    Linear { weight, bias: bias.map(|bias| filled(backend, n_out, bias)) }
}

/// Products, projections and gates of a normed input in one go are what the plain ops give one after the other.
pub async fn normed<B: Backend>(backend: &mut B, format: Format, other: Format) {
    let mut random = Random::new(31);
    let heads = Heads { n_heads: 6, n_kv_heads: 2, head_dim: 16 };
    let (n_embd, n_q, n_kv, n_ctx) = (256, 96, 32, 9);
    let (nmse, max) = (1e-11, 1e-5);
    for (cache_format, style, n_rot, has_bias) in [
        (KvFormat::F32, RopeStyle::Adjacent, 16, false),
        (KvFormat::F16, RopeStyle::Halves, 16, true),
        (KvFormat::F16, RopeStyle::Adjacent, 8, false),
        (KvFormat::F32, RopeStyle::Halves, 8, true),
        (KvFormat::Q8_0, RopeStyle::Halves, 16, true),
    ] {
        for n in [1, 3] {
            let mut layer = |backend: &mut B, format: Format, n_out: usize, has_bias: bool| {
                let (bytes, bias) = (random.matrix(format, n_embd, n_out), random.floats(n_out));
                linear(backend, format, n_embd, n_out, &bytes, has_bias.then_some(&bias[..]))
            };
            let q = layer(backend, format, n_q, has_bias);
            let k = layer(backend, format, n_kv, has_bias);
            // Some files have biases for some of them alone.
            let v = layer(backend, other, n_kv, has_bias && n == 1);
            let (gate, up) = (layer(backend, format, n_q, false), layer(backend, other, n_q, false));
            let x = filled(backend, n_embd, &random.floats(n * n_embd));
            let weight = filled(backend, n_embd, &random.floats(n_embd));
            let rope = filled(backend, n_rot, &random.floats(n_ctx * n_rot));
            // Which activation the gate has makes no difference to the rest.
            let gating = if has_bias { Gating::GeluTanh } else { Gating::Silu };
            let gate_up = GateUp { gate: &gate, up: &up, gating };
            let mut results = Vec::new();
            for is_fused in [true, false] {
                let mut cache = backend
                    .kv_cache(&KvSpec { n_layers: 2, n_ctx, n_kv, head_dim: heads.head_dim, format: cache_format })
                    .expect("kv_cache");
                let tensor = |backend: &mut B, cols| backend.tensor(n, cols).expect("tensor");
                let (mut qt, mut kt, mut vt) = (tensor(backend, n_q), tensor(backend, n_kv), tensor(backend, n_kv));
                let (mut out, mut scratch) = (tensor(backend, n_q), tensor(backend, n_embd));
                let layers = Qkv { q: &q, k: &k, v: &v, qk_norm: None };
                for position in [0, n] {
                    let place = KvPlace { cache: &mut cache, layer: 1, position, rope: &rope, style, heads };
                    if is_fused {
                        let norm = RmsNorm { weight: &weight, eps: 1e-5, scratch: &mut scratch };
                        backend.norm_qkv_rope_kv(&x, norm, &layers, place, &mut qt, &mut kt, &mut vt, n);
                    } else {
                        backend.rms_norm(&x, &weight, 1e-5, &mut scratch, n);
                        backend.qkv_rope_kv(&scratch, &layers, place, &mut qt, &mut kt, &mut vt, n);
                    }
                }
                backend.attention(
                    &AttentionOp { scale: 0.25, ..AttentionOp::causal(heads) },
                    &qt,
                    KvSource::Cache { cache: &cache, layer: 1, first: n, ends: None },
                    &mut out,
                    n,
                );
                let (mut a, mut b, mut c) = (tensor(backend, n_q), tensor(backend, n_q), tensor(backend, n_q));
                if is_fused {
                    let norm = RmsNorm { weight: &weight, eps: 1e-5, scratch: &mut scratch };
                    backend.norm_gate_up(&x, norm, &gate_up, &mut a, &mut b, n);
                    let norm = RmsNorm { weight: &weight, eps: 1e-5, scratch: &mut scratch };
                    backend.norm_linear(&x, norm, &q, &mut c, n, Epilogue::Gelu);
                } else {
                    backend.rms_norm(&x, &weight, 1e-5, &mut scratch, n);
                    backend.gate_up(&scratch, &gate_up, &mut a, &mut b, n);
                    backend.linear(&scratch, &q, &mut c, n, Epilogue::Gelu);
                }
                results.push([read(backend, &out, n).await, read(backend, &a, n).await, read(backend, &c, n).await]);
            }
            let what = format!("{} {} {cache_format:?} {style:?} {n_rot}, {n} rows", format.name(), other.name());
            let [fused, plain] = &results[..] else { unreachable!("two results") };
            // A difference in a key's last bit may round it to the next half, or to the next of 255 steps.
            let of_cache = match cache_format {
                KvFormat::F32 => (nmse, max),
                KvFormat::F16 => (1e-7, 1e-3),
                KvFormat::Q8_0 => (1e-5, 1e-2),
            };
            assert_near(&format!("norm_qkv_rope_kv {what}"), &fused[0], &wide(&plain[0]), of_cache.0, of_cache.1);
            assert_near(&format!("norm_gate_up {what}"), &fused[1], &wide(&plain[1]), nmse, max);
            assert_near(&format!("norm_linear {what}"), &fused[2], &wide(&plain[2]), nmse, max);
        }
    }
}

/// Products of so many rows that they come in large tiles, which they do not fill.
#[allow(dead_code, reason = "see products")]
pub async fn many_rows<B: Backend>(backend: &mut B, format: Format, nmse: f64, max: f64) {
    let mut random = Random::new(32 + format as u64);
    let n_in = if format.block_len() == 1 { 100 } else { 256 };
    for (n_out, n) in [(5, 33), (64, 64), (70, 130)] {
        let bytes = random.matrix(format, n_in, n_out);
        let mut weights = vec![0.0; n_in * n_out];
        format.decode_row(&bytes, &mut weights);
        let (data, bias) = (random.floats(n * n_in), random.floats(n_out));
        let layer = linear(backend, format, n_in, n_out, &bytes, Some(&bias));
        let x = filled(backend, n_in, &data);
        let mut out = backend.tensor(n + 1, n_out).expect("tensor");
        backend.linear(&x, &layer, &mut out, n, Epilogue::Store);
        let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
        let want: Vec<f64> = data
            .chunks(n_in)
            .flat_map(|x| weights.chunks(n_in).zip(&bias).map(move |(w, b)| dot(x, w) + f64::from(*b)))
            .collect();
        let got = read(backend, &out, n + 1).await;
        assert_near(&format!("{} [{n_out}, {n_in}], {n} rows", format.name()), &got[..n * n_out], &want, nmse, max);
        assert!(got[n * n_out..].iter().all(|y| *y == 0.0), "{}: a row beyond the last was written", format.name());
    }
}

/// One query of one head: `softmax(scale · q Kᵀ) V` of keys and values `[keys, cols]`, the head beginning at `first`.
fn attend(q: &[f64], keys: &[f64], values: &[f64], cols: usize, first: usize, scale: f64) -> Vec<f64> {
    let head = first..first + q.len();
    let scores: Vec<f64> =
        keys.chunks(cols).map(|k| scale * q.iter().zip(&k[head.clone()]).map(|(q, k)| q * k).sum::<f64>()).collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut out = vec![0.0; q.len()];
    for (weight, v) in weights.iter().zip(values.chunks(cols)) {
        let share = weight / total;
        out.iter_mut().zip(&v[head.clone()]).for_each(|(out, v)| *out += share * v);
    }
    out
}

/// A cache of thousands of positions, of which few, some and all are filled.
pub async fn keys_in_parts<B: Backend>(backend: &mut B) {
    let mut random = Random::new(33);
    let heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim: 20 };
    let (cols, n_kv, n_ctx) = (80, 40, 2600);
    for format in KvFormat::ALL {
        let (nmse, max) = ops::of_cache(format);
        let mut cache =
            backend.kv_cache(&KvSpec { n_layers: 1, n_ctx, n_kv, head_dim: heads.head_dim, format }).expect("kv_cache");
        let (k, v) = (random.floats(n_ctx * n_kv), random.floats(n_ctx * n_kv));
        let (kt, vt) = (filled(backend, n_kv, &k), filled(backend, n_kv, &v));
        backend.kv_write(&mut cache, 0, 0, &kt, &vt, n_ctx);
        for (position, n) in [(0, 1), (64, 1), (700, 2), (2598, 2)] {
            let q = random.floats(n * cols);
            let (qt, mut out) = (filled(backend, cols, &q), backend.tensor(n, cols).expect("tensor"));
            backend.attention(
                &AttentionOp { scale: 0.5, ..AttentionOp::causal(heads) },
                &qt,
                KvSource::Cache { cache: &cache, layer: 0, first: position, ends: None },
                &mut out,
                n,
            );
            let [k, v] = [&k, &v].map(|x| ops::kept(format, heads.head_dim, x));
            let mut want = Vec::new();
            for (i, row) in wide(&q).chunks(cols).enumerate() {
                let seen = (position + i + 1) * n_kv;
                for (h, q) in row.chunks(heads.head_dim).enumerate() {
                    want.extend(attend(q, &k[..seen], &v[..seen], n_kv, h / 2 * heads.head_dim, 0.5));
                }
            }
            let what = format!("attention in parts {format:?} at {position}, {n} rows");
            assert_near(&what, &read(backend, &out, n).await, &want, nmse, max);
        }
    }
}

/// Heads of every width that tiles come in, and wider ones.
pub async fn wide_heads<B: Backend>(backend: &mut B) {
    let mut random = Random::new(34);
    for head_dim in [32, 36, 80, 128, 132, 256] {
        let (n, n_heads) = (37, 2);
        let cols = n_heads * head_dim;
        let [q, k, v] = [(); 3].map(|()| random.floats(n * cols));
        let [qt, kt, vt] = [&q, &k, &v].map(|x| filled(backend, cols, x));
        let mut out = backend.tensor(n, cols).expect("tensor");
        backend.attention(&full(n_heads, head_dim, 0.3), &qt, KvSource::Rows { k: &kt, v: &vt }, &mut out, n);
        let (k, v) = (wide(&k), wide(&v));
        let want: Vec<f64> = wide(&q)
            .chunks(cols)
            .flat_map(|row| row.chunks(head_dim).enumerate().map(|(h, q)| (h, q.to_vec())).collect::<Vec<_>>())
            .flat_map(|(h, q)| attend(&q, &k, &v, cols, h * head_dim, 0.3))
            .collect();
        assert_near(&format!("attention_rows, heads of {head_dim}"), &read(backend, &out, n).await, &want, 1e-11, 1e-5);
    }
}

/// Attention by its definition: `q [n, n_heads · head_dim]`, of which the first stands at slot `first` of `k, v [keys, n_kv]`; slots of one
/// of `spans` see each other.
fn attention(op: &AttentionOp, q: &[f64], k: &[f64], v: &[f64], first: usize, spans: &[Range<usize>]) -> Vec<f64> {
    let Heads { n_heads, n_kv_heads, head_dim } = op.heads;
    let n_kv = n_kv_heads * head_dim;
    let mut out = Vec::new();
    for (i, row) in q.chunks(n_heads * head_dim).enumerate() {
        let slot = first + i;
        let is_behind = |key: usize| key <= slot || spans.iter().any(|span| span.contains(&key) && span.contains(&slot));
        let seen: Vec<usize> = (0..k.len() / n_kv)
            .filter(|key| match op.mask {
                Mask::Full => true,
                Mask::Causal => is_behind(*key),
                Mask::Window(width) => is_behind(*key) && slot < key + width,
            })
            .collect();
        for (h, q) in row.chunks(head_dim).enumerate() {
            let at = |key: usize| key * n_kv + h * n_kv_heads / n_heads * head_dim;
            let score = |key: &usize| {
                let product: f64 = q.iter().zip(&k[at(*key)..]).map(|(q, k)| q * k).sum();
                let score = f64::from(op.scale) * product;
                op.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
            };
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut sum = vec![0.0; head_dim];
            for (key, weight) in seen.iter().zip(&weights) {
                let share = weight / total;
                sum.iter_mut().zip(&v[at(*key)..]).for_each(|(sum, v)| *sum += share * v);
            }
            out.extend(sum);
        }
    }
    out
}

/// Every mask, with and without a soft cap, over a cache and over rows; windows that begin and end within tiles, blocks and parts of keys
/// and on their borders.
pub async fn masks<B: Backend>(backend: &mut B) {
    let mut random = Random::new(37);
    let n_ctx = 1600;
    for (n_heads, n_kv_heads, head_dim) in [(4, 2, 16), (3, 1, 33)] {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        let (cols, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let (k, v) = (random.floats(n_ctx * n_kv), random.floats(n_ctx * n_kv));
        let (kt, vt) = (filled(backend, n_kv, &k), filled(backend, n_kv, &v));
        for format in KvFormat::ALL {
            let (nmse, max) = ops::of_cache(format);
            let [wide_k, wide_v] = [&k, &v].map(|x| ops::kept(format, head_dim, x));
            let mut cache = backend.kv_cache(&KvSpec { n_layers: 1, n_ctx, n_kv, head_dim, format }).expect("kv_cache");
            backend.kv_write(&mut cache, 0, 0, &kt, &vt, n_ctx);
            for (mask, softcap) in [
                (Mask::Full, None),
                (Mask::Full, Some(1.5)),
                (Mask::Causal, Some(0.7)),
                (Mask::Window(1), None),
                (Mask::Window(31), None),
                (Mask::Window(64), Some(2.0)),
                (Mask::Window(129), None),
                (Mask::Window(1100), None),
            ] {
                let op = AttentionOp { mask, softcap, ..AttentionOp::causal(heads) };
                for (first, n) in [(0, 1), (0, 70), (63, 1), (130, 3), (200, 40), (1599, 1), (1300, 2), (1100, 5)] {
                    let q: Vec<f32> = random.floats(n * cols).iter().map(|x| 4.0 * x).collect();
                    let (qt, mut out) = (filled(backend, cols, &q), backend.tensor(n, cols).expect("tensor"));
                    let len = (first + n) * n_kv;
                    let want = attention(&op, &wide(&q), &wide_k[..len], &wide_v[..len], first, &[]);
                    backend.attention(&op, &qt, KvSource::Cache { cache: &cache, layer: 0, first, ends: None }, &mut out, n);
                    let what = format!("{op:?} over {format:?} at {first}, {n} rows");
                    assert_near(&what, &read(backend, &out, n).await, &want, nmse, max);
                    if first == 0 && format == KvFormat::F32 {
                        backend.attention(&op, &qt, KvSource::Rows { k: &kt, v: &vt }, &mut out, n);
                        assert_near(&format!("{op:?} over {n} rows"), &read(backend, &out, n).await, &want, nmse, max);
                    }
                }
            }
        }
    }
}

/// Spans of slots that see each other, beside each other and apart, in every mask that goes by slots; begun and ended within tiles and blocks
/// of keys. All of a span at once, and single rows of one whose keys are all there.
pub async fn spans<B: Backend>(backend: &mut B) {
    let mut random = Random::new(39);
    let n_ctx = 700;
    let spans = [5..21, 21..40, 100..356, 400..401, 530..690];
    let mut ends = vec![0.0; n_ctx];
    spans.iter().for_each(|span| ends[span.clone()].fill(span.end as f32));
    let ends = filled(backend, n_ctx, &ends);
    for (n_heads, n_kv_heads, head_dim) in [(4, 2, 16), (3, 1, 33), (2, 1, 256)] {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        let (cols, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let (k, v) = (random.floats(n_ctx * n_kv), random.floats(n_ctx * n_kv));
        let (kt, vt) = (filled(backend, n_kv, &k), filled(backend, n_kv, &v));
        for format in KvFormat::ALL {
            let (nmse, max) = ops::of_cache(format);
            let [wide_k, wide_v] = [&k, &v].map(|x| ops::kept(format, head_dim, x));
            let mut cache = backend.kv_cache(&KvSpec { n_layers: 1, n_ctx, n_kv, head_dim, format }).expect("kv_cache");
            backend.kv_write(&mut cache, 0, 0, &kt, &vt, n_ctx);
            for mask in [Mask::Causal, Mask::Window(1), Mask::Window(24), Mask::Window(129), Mask::Window(400)] {
                let op = AttentionOp { mask, ..AttentionOp::causal(heads) };
                for (first, n) in
                    [(0, 60), (90, 300), (5, 16), (21, 19), (528, 172), (150, 1), (355, 3), (400, 1), (401, 1), (680, 4)]
                {
                    let q: Vec<f32> = random.floats(n * cols).iter().map(|x| 4.0 * x).collect();
                    let (qt, mut out) = (filled(backend, cols, &q), backend.tensor(n, cols).expect("tensor"));
                    let want = attention(&op, &wide(&q), &wide_k, &wide_v, first, &spans);
                    let kv = KvSource::Cache { cache: &cache, layer: 0, first, ends: Some(&ends) };
                    backend.attention(&op, &qt, kv, &mut out, n);
                    let what = format!("{op:?} with spans over {format:?} at {first}, {n} rows");
                    assert_near(&what, &read(backend, &out, n).await, &want, nmse, max);
                }
            }
        }
    }
}

/// More query heads to one of keys and values than any tile holds.
pub async fn many_heads_share_keys<B: Backend>(backend: &mut B) {
    let mut random = Random::new(38);
    let heads = Heads { n_heads: 142, n_kv_heads: 2, head_dim: 8 };
    let (cols, n_kv, n_ctx, first) = (1136, 16, 300, 290);
    let (k, v) = (random.floats(n_ctx * n_kv), random.floats(n_ctx * n_kv));
    let (kt, vt) = (filled(backend, n_kv, &k), filled(backend, n_kv, &v));
    let mut cache = backend.kv_cache(&KvSpec { n_layers: 1, n_ctx, n_kv, head_dim: 8, format: KvFormat::F32 }).expect("kv_cache");
    backend.kv_write(&mut cache, 0, 0, &kt, &vt, n_ctx);
    let op = AttentionOp::causal(heads);
    for n in [1, 3, 10] {
        let q = random.floats(n * cols);
        let (qt, mut out) = (filled(backend, cols, &q), backend.tensor(n, cols).expect("tensor"));
        backend.attention(&op, &qt, KvSource::Cache { cache: &cache, layer: 0, first, ends: None }, &mut out, n);
        let len = (first + n) * n_kv;
        let want = attention(&op, &wide(&q), &wide(&k[..len]), &wide(&v[..len]), first, &[]);
        assert_near(&format!("{heads:?}, {n} rows"), &read(backend, &out, n).await, &want, 1e-11, 1e-5);
    }
}

/// The token that is chosen is that of the definition, whatever the logits, the rule and the random number.
pub async fn choices<B: Backend>(backend: &mut B) {
    let mut random = Random::new(35);
    let mut tokens = Vec::new();
    for n in [1, 3, 257, 2048, 2049, 9001] {
        let mut data: Vec<f32> = random.floats(n).iter().map(|x| 6.0 * x).collect();
        let half = n / 2;
        // Of equals the lowest id is the likeliest.
        data[half] = 7.0;
        data[n - 1] = 7.0;
        let logits = filled(backend, n, &data);
        let token = backend.choose(&logits, &Choice::GREEDY, 0.0);
        assert_eq!(backend.chosen(token).await.expect("chosen"), Some(half as u32), "the likeliest of {n}");
        let base = Choice::default();
        for choice in [
            base,
            Choice { temperature: 0.7, ..base },
            Choice { temperature: 1.8, top_k: 5, ..base },
            Choice { top_p: 0.6, ..base },
            Choice { temperature: 1.3, min_p: 0.2, ..base },
            Choice { temperature: 0.9, top_k: 40, top_p: 0.9, min_p: 0.05 },
            Choice { top_p: 0.0, ..base },
            Choice { top_k: 1, ..base },
        ] {
            for unit in [0.0, 0.03, 0.31, 0.5, 0.77, 0.9999] {
                let token = backend.choose(&logits, &choice, unit);
                let got = backend.chosen(token).await.expect("chosen");
                assert_eq!(got, choose(&data, &choice, unit, &mut tokens), "{choice:?} by {unit} of {n}");
            }
        }
        let table_bytes = Random::new(36).matrix(Format::F32, 32, n);
        let table = linear(backend, Format::F32, 32, n, &table_bytes, None);
        let mut rows = backend.tensor(2, 32).expect("tensor");
        let token = backend.choose(&logits, &Choice::GREEDY, 0.0);
        backend.embed_chosen(&table.weight, &mut rows);
        drop(token);
        let mut row = vec![0.0; 32];
        Format::F32.decode_row(&table_bytes[half * 128..(half + 1) * 128], &mut row);
        assert_eq!(read(backend, &rows, 1).await, row, "the embedding of the token chosen last");
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let mut data = random.floats(3000);
        data[2999] = bad;
        let logits = filled(backend, data.len(), &data);
        for choice in [Choice::GREEDY, Choice::default(), Choice { top_k: 7, top_p: 0.5, ..Choice::default() }] {
            let token = backend.choose(&logits, &choice, 0.5);
            assert_eq!(backend.chosen(token).await.expect("chosen"), None, "{bad} among the logits");
        }
    }
}

/// Vocabularies as models have them, and logits of every kind: as a model gives them, all equal, few kinds, ruled out, close to each other
/// beyond what a distance tells, huge and subnormal.
pub async fn choices_of_vocabularies<B: Backend>(backend: &mut B) {
    let mut random = Random::new(37);
    let mut tokens = Vec::new();
    // Sums of uniform numbers are nearly normal.
    let mut model = |n: usize| -> Vec<f32> { (0..n).map(|_| (0..6).map(|_| 2.0 * random.float()).sum()).collect() };
    let mut kinds: Vec<(&str, Vec<f32>)> = [5000, 32_064, 151_936].map(|n| ("like a model's", model(n))).into_iter().collect();
    kinds.push(("all equal", vec![-3.25; 32_000]));
    kinds.push(("of five kinds", (0..32_000).map(|i| (i * 7919 % 5) as f32).collect()));
    let mut masked = model(32_000);
    masked.iter_mut().enumerate().filter(|(i, _)| i % 1000 != 7).for_each(|(_, l)| *l = f32::NEG_INFINITY);
    kinds.push(("mostly ruled out", masked));
    kinds.push(("ruled out but for one", (0..5000).map(|i| if i == 4097 { -80.0 } else { f32::NEG_INFINITY }).collect()));
    kinds.push(("within a distance", (0..5000).map(|i| 1.0 + (i * 37 % 11) as f32 * f32::EPSILON).collect()));
    kinds.push(("huge", (0..5000).map(|i| ((i * 37 % 101) as f32 - 50.0) * 6e36).collect()));
    kinds.push(("subnormal", (0..5000).map(|i| f32::from_bits(1 + i * 37 % 11) * if i % 2 == 0 { 1.0 } else { -1.0 }).collect()));
    let mut peaked = model(32_000);
    peaked[31_999] = 60.0;
    kinds.push(("with one far above", peaked));
    let base = Choice::default();
    for (what, data) in &kinds {
        let logits = filled(backend, data.len(), data);
        for choice in [
            Choice::GREEDY,
            Choice { temperature: 0.7, ..base },
            Choice { top_k: 40, ..base },
            Choice { temperature: 2.0, top_k: 3000, ..base },
            Choice { top_p: 0.9, ..base },
            Choice { temperature: 0.3, top_p: 0.95, min_p: 0.01, ..base },
            Choice { temperature: 1.6, top_k: 64, top_p: 0.95, ..base },
            Choice { top_k: data.len() + 1, top_p: 0.999, ..base },
        ] {
            for unit in [0.0, 0.123, 0.5, 0.876, 1.0 - f64::EPSILON] {
                let token = backend.choose(&logits, &choice, unit);
                let got = backend.chosen(token).await.expect("chosen");
                let want = choose(data, &choice, unit, &mut tokens);
                assert_eq!(got, want, "{choice:?} by {unit} of {} logits, {what}", data.len());
            }
        }
    }
}
