//! What a file's metadata says of its network is computed as it says, or the file is refused: sliding windows, scales and soft caps
//! against plain loops in double precision; every other key by its name; and shapes that a device has no kernel for, before any memory
//! is taken for them.

use crate::common;
#[cfg(feature = "gpu")]
use crate::gpu;

use std::collections::HashMap;

use common::gguf_writer::{GgufWriter, Val};
use common::llava::{complete, file, golden, memory, options, picture};
use common::random::Random;
use llava_web::backend::cpu::{Cpu, Pool};
#[cfg(feature = "gpu")]
use llava_web::backend::gpu::{DeviceOptions, Gpu};
use llava_web::backend::{AttentionOp, Backend, Heads, Memory};
use llava_web::gguf::Gguf;
use llava_web::runtime::engine::{Engine, LoadOptions};
use llava_web::runtime::request;
use serde_json::json;

const N_EMBD: usize = 32;
const N_FF: usize = 48;
const N_VOCAB: usize = 40;
const N_LAYERS: usize = 2;
const N_CTX: usize = 512;
const EPS: f64 = 1e-5;
/// Weights of 32-bit floats, and activations likewise.
const LOGITS: f64 = 1e-3;

/// A language model of random floats whose layout is Phi-3's (`fused`: projections one below the other) or LLaMA's.
struct Tiny {
    architecture: &'static str,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Tiny {
    fn new(architecture: &'static str, n_heads: usize, n_kv_heads: usize, head_dim: usize) -> Self {
        let mut random = Random::new(5);
        let mut tensors = Vec::new();
        let (n_q, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let mut matrix = |name: &str, n_in: usize, n_out: usize, size: f32| {
            // Of a size that keeps activations near 1.
            let size = size / (n_in as f32).sqrt();
            let values: Vec<f32> = (0..n_in * n_out).map(|_| size * random.float()).collect();
            tensors.push((format!("{name}.weight"), vec![n_in, n_out], values));
        };
        // Embeddings differ much, and scores with them: a key that is seen or not makes a difference.
        matrix("token_embd", N_EMBD, N_VOCAB, 8.0);
        matrix("output", N_EMBD, N_VOCAB, 3.0);
        for layer in 0..N_LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            if architecture == "phi3" {
                matrix(&name("attn_qkv"), N_EMBD, n_q + 2 * n_kv, 3.0);
                matrix(&name("ffn_up"), N_EMBD, 2 * N_FF, 2.0);
            } else {
                matrix(&name("attn_q"), N_EMBD, n_q, 3.0);
                matrix(&name("attn_k"), N_EMBD, n_kv, 3.0);
                matrix(&name("attn_v"), N_EMBD, n_kv, 3.0);
                matrix(&name("ffn_gate"), N_EMBD, N_FF, 2.0);
                matrix(&name("ffn_up"), N_EMBD, N_FF, 2.0);
            }
            matrix(&name("attn_output"), n_q, N_EMBD, 3.0);
            matrix(&name("ffn_down"), N_FF, N_EMBD, 2.0);
        }
        let norms = (0..N_LAYERS).flat_map(|layer| ["attn_norm", "ffn_norm"].map(|norm| format!("blk.{layer}.{norm}")));
        for norm in norms.chain(["output_norm".to_string()]) {
            tensors.push((format!("{norm}.weight"), vec![N_EMBD], vec![1.0; N_EMBD]));
        }
        Self { architecture, n_heads, n_kv_heads, head_dim, tensors }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn writer(&self) -> GgufWriter {
        let letters: Vec<String> = (0..N_VOCAB as u8 - 4).map(|i| char::from(b'A' + i).to_string()).collect();
        let tokens = ["<unk>", "<s>", "</s>", "▁"].into_iter().chain(letters.iter().map(String::as_str));
        let number = |n: usize| Val::U32(n as u32);
        let mut writer = GgufWriter::new()
            .kv("general.architecture", Val::str(self.architecture))
            .kv(&self.key("block_count"), number(N_LAYERS))
            .kv(&self.key("context_length"), number(N_CTX))
            .kv(&self.key("embedding_length"), number(N_EMBD))
            .kv(&self.key("feed_forward_length"), number(N_FF))
            .kv(&self.key("attention.head_count"), number(self.n_heads))
            .kv(&self.key("attention.head_count_kv"), number(self.n_kv_heads))
            .kv(&self.key("attention.key_length"), number(self.head_dim))
            .kv(&self.key("attention.value_length"), number(self.head_dim))
            .kv(&self.key("rope.dimension_count"), number(self.head_dim))
            .kv(&self.key("attention.layer_norm_rms_epsilon"), Val::F32(EPS as f32))
            .kv("tokenizer.ggml.model", Val::str("llama"))
            .kv("tokenizer.ggml.tokens", Val::strings(tokens))
            .kv("tokenizer.ggml.unknown_token_id", Val::U32(0))
            .kv("tokenizer.ggml.bos_token_id", Val::U32(1))
            .kv("tokenizer.ggml.eos_token_id", Val::U32(2))
            .kv("tokenizer.ggml.scores", Val::floats((0..N_VOCAB).map(|i| -(i as f32))))
            .kv("tokenizer.ggml.token_type", Val::ints((0..N_VOCAB).map(|i| if i < 3 { 3 } else { 1 })));
        for (name, dims, values) in &self.tensors {
            writer = writer.floats(name, dims, values);
        }
        writer
    }

    fn load<B: Backend>(&self, backend: B, writer: &GgufWriter, options: LoadOptions) -> llava_web::Result<Engine<B>> {
        let source = memory(&format!("{}.gguf", self.architecture), writer.finish());
        pollster::block_on(Engine::load(backend, source, None, options, &mut |_| {}))
    }

    /// The logits behind the last of these tokens, in double precision, one plain loop for each formula.
    fn logits(&self, ids: &[u32], attention: &Plain) -> Vec<f64> {
        let tensors: HashMap<&str, Vec<f64>> =
            self.tensors.iter().map(|(name, _, x)| (name.as_str(), x.iter().copied().map(f64::from).collect())).collect();
        let linear = |name: &str, from: usize, n_out: usize, x: &[f64]| -> Vec<f64> {
            let rows = tensors[format!("{name}.weight").as_str()].chunks(x.len()).skip(from).take(n_out);
            rows.map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
        };
        // All norms' weights are 1.
        let normed = |x: &[f64]| -> Vec<f64> {
            let size = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + EPS).sqrt();
            x.iter().map(|x| x / size).collect()
        };
        let turned = |mut x: Vec<f64>, position: usize| -> Vec<f64> {
            for head in x.chunks_mut(self.head_dim) {
                for i in 0..self.head_dim / 2 {
                    let (a, b) = if self.architecture == "llama" { (2 * i, 2 * i + 1) } else { (i, i + self.head_dim / 2) };
                    let angle = position as f64 * 10000f64.powf(-2.0 * i as f64 / self.head_dim as f64);
                    (head[a], head[b]) =
                        (head[a] * angle.cos() - head[b] * angle.sin(), head[a] * angle.sin() + head[b] * angle.cos());
                }
            }
            x
        };
        let (n_q, n_kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let is_fused = self.architecture == "phi3";
        let table = &tensors["token_embd.weight"];
        let mut h: Vec<Vec<f64>> = ids.iter().map(|id| table[*id as usize * N_EMBD..][..N_EMBD].to_vec()).collect();
        for layer in 0..N_LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let part = |fused: &str, from: usize, own: &str, n_out: usize, x: &[f64]| {
                if is_fused { linear(&name(fused), from, n_out, x) } else { linear(&name(own), 0, n_out, x) }
            };
            let x: Vec<Vec<f64>> = h.iter().map(|h| normed(h)).collect();
            let q: Vec<_> = x.iter().enumerate().map(|(i, x)| turned(part("attn_qkv", 0, "attn_q", n_q, x), i)).collect();
            let k: Vec<_> = x.iter().enumerate().map(|(i, x)| turned(part("attn_qkv", n_q, "attn_k", n_kv, x), i)).collect();
            let v: Vec<_> = x.iter().map(|x| part("attn_qkv", n_q + n_kv, "attn_v", n_kv, x)).collect();
            for (i, h) in h.iter_mut().enumerate() {
                let mut out = vec![0.0; n_q];
                let from = attention.window.map_or(0, |window| (i + 1).saturating_sub(window));
                for head in 0..self.n_heads {
                    let (at, kv) = (head * self.head_dim, head * self.n_kv_heads / self.n_heads * self.head_dim);
                    let scores = (from..=i).map(|key| {
                        let product: f64 = (0..self.head_dim).map(|d| q[i][at + d] * k[key][kv + d]).sum();
                        let score = product * attention.scale.unwrap_or(1.0 / (self.head_dim as f64).sqrt());
                        attention.softcap.map_or(score, |cap| cap * (score / cap).tanh())
                    });
                    let weights: Vec<f64> = scores.map(f64::exp).collect();
                    let total: f64 = weights.iter().sum();
                    for (key, weight) in (from..=i).zip(&weights) {
                        (0..self.head_dim).for_each(|d| out[at + d] += weight / total * v[key][kv + d]);
                    }
                }
                let out = linear(&name("attn_output"), 0, N_EMBD, &out);
                h.iter_mut().zip(out).for_each(|(h, x)| *h += x);
                let x = normed(h);
                let gate = part("ffn_up", 0, "ffn_gate", N_FF, &x);
                let up = part("ffn_up", N_FF, "ffn_up", N_FF, &x);
                let gated: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                let out = linear(&name("ffn_down"), 0, N_EMBD, &gated);
                h.iter_mut().zip(out).for_each(|(h, x)| *h += x);
            }
        }
        linear("output", 0, N_VOCAB, &normed(&h[ids.len() - 1]))
    }
}

/// What the metadata says of attention.
#[derive(Debug, Clone, Copy, Default)]
struct Plain {
    window: Option<usize>,
    scale: Option<f64>,
    softcap: Option<f64>,
}

fn ids(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 3 + i.wrapping_mul(2_654_435_761) % (N_VOCAB as u32 - 3)).collect()
}

fn evaluate<B: Backend>(engine: &mut Engine<B>, ids: &[u32]) -> Vec<f32> {
    let request = request::parse(&json!({ "tokens": ids }).to_string()).expect("sound");
    pollster::block_on(engine.evaluate(&request, &[])).expect("evaluates").0
}

fn difference(got: &[f32], want: &[f64]) -> f64 {
    got.iter().zip(want).map(|(got, want)| (f64::from(*got) - want).abs()).fold(0.0, f64::max)
}

/// Prompts, and answers token by token, with what the metadata says of attention; and that leaving it out would be seen.
fn attention_is_that_of_the_metadata<B: Backend>(make: impl Fn() -> B) {
    for architecture in ["phi3", "llama"] {
        let tiny = Tiny::new(architecture, 4, 2, 8);
        for plain in [
            Plain { window: Some(20), ..Plain::default() },
            Plain { window: Some(1), ..Plain::default() },
            Plain { scale: Some(0.9), ..Plain::default() },
            Plain { softcap: Some(0.8), window: Some(70), ..Plain::default() },
        ] {
            let mut writer = tiny.writer();
            if let Some(window) = plain.window {
                writer = writer.kv(&tiny.key("attention.sliding_window"), Val::U32(window as u32));
            }
            if let Some(scale) = plain.scale {
                writer = writer.kv(&tiny.key("attention.scale"), Val::F32(scale as f32));
            }
            if let Some(cap) = plain.softcap {
                writer = writer.kv(&tiny.key("attn_logit_softcapping"), Val::F32(cap as f32));
            }
            let mut engine = tiny.load(make(), &writer, options()).expect("loads");
            for n in [1, 2, 20, 21, 22, 75, 150] {
                let (got, want) = (evaluate(&mut engine, &ids(n)), tiny.logits(&ids(n), &plain));
                let (diff, without) = (difference(&got, &want), difference(&got, &tiny.logits(&ids(n), &Plain::default())));
                println!("{architecture} {plain:?}, {n} tokens: {diff:.1e}, {without:.1e} if it were left out");
                assert!(diff < LOGITS, "{architecture} {plain:?}, {n} tokens: {diff}");
                assert!(n < 75 || without > 100.0 * LOGITS, "{architecture} {plain:?}, {n} tokens: {without}");
            }
            // Token by token, from a prompt that is shorter than the window to an answer beyond it; the likeliest by far, or either.
            let prompt: String = (0..15).map(|i| char::from(b'A' + i)).collect();
            let ask = |engine: &mut Engine<B>, text: &str, n: usize| {
                let request = json!({ "prompt": text, "max_tokens": n, "temperature": 0, "logit_bias": { "2": -100 } });
                complete(engine, request, &[]).expect("answers")
            };
            engine.reset();
            let (_, asked) = pollster::block_on(
                engine.evaluate(&request::parse(&json!({ "prompt": prompt }).to_string()).expect("sound"), &[]),
            )
            .expect("evaluates");
            let mut all: Vec<u32> = asked.into_iter().flatten().collect();
            let answer = ask(&mut engine, &prompt, 24);
            for (i, id) in answer.ids.iter().enumerate() {
                let want = tiny.logits(&all, &plain);
                let best = want.iter().enumerate().filter(|(id, _)| *id != 2).map(|(_, x)| *x).fold(f64::MIN, f64::max);
                assert!(want[*id as usize] > best - 2.0 * LOGITS, "{architecture} {plain:?}, token {i}");
                all.push(*id);
            }
            // The same question again finds its prompt in the context, and goes on as it did.
            let again = ask(&mut engine, &prompt, 24);
            assert_eq!(again.ids, answer.ids, "{architecture} {plain:?}");
            assert!(again.usage.cached_tokens > 0 && again.usage.cached_tokens + 1 >= answer.usage.prompt_tokens);
        }
    }
}

#[test]
fn attention_is_that_of_the_metadata_on_the_cpu() {
    attention_is_that_of_the_metadata(|| Cpu::new().with_pool(Pool::new(2)));
}

#[test]
#[cfg(feature = "gpu")]
fn attention_is_that_of_the_metadata_on_the_gpu() {
    if gpu::is_missing() {
        return;
    }
    attention_is_that_of_the_metadata(gpu::float_backends());
}

/// A window that all positions fit into, and numbers that stand for "as usual".
#[test]
fn what_changes_nothing_is_taken() {
    let tiny = Tiny::new("llama", 4, 2, 8);
    let usual = evaluate(&mut tiny.load(Cpu::new(), &tiny.writer(), options()).expect("loads"), &ids(90));
    for (name, value) in [
        ("attention.sliding_window", Val::U32(0)),
        ("attention.sliding_window", Val::U32(N_CTX as u32)),
        ("attention.scale", Val::F32(0.0)),
        ("attn_logit_softcapping", Val::F32(0.0)),
        ("final_logit_softcapping", Val::F32(0.0)),
        ("attention.causal", Val::Bool(true)),
        ("attention.sliding_window_pattern", Val::U32(1)),
        ("use_parallel_residual", Val::Bool(false)),
        ("residual_scale", Val::F32(1.0)),
        ("logit_scale", Val::F32(1.0)),
        ("rope.dimension_sections", Val::ints([0, 0, 0, 0])),
        ("expert_count", Val::U32(0)),
        ("expert_used_count", Val::U32(2)),
        ("vocab_size", Val::U32(N_VOCAB as u32)),
        ("tensor_data_layout", Val::str("Meta AI original pth")),
        ("rope.scaling.finetuned", Val::Bool(true)),
        ("pooling_type", Val::U32(0)),
    ] {
        let writer = tiny.writer().set(&tiny.key(name), value.clone());
        let mut engine = tiny.load(Cpu::new(), &writer, options()).unwrap_or_else(|e| panic!("{name} {value:?}: {e}"));
        assert_eq!(evaluate(&mut engine, &ids(90)), usual, "{name} {value:?}");
    }
}

fn refused<T>(result: llava_web::Result<T>, what: &str) -> llava_web::Error {
    match result {
        Ok(_) => panic!("{what} is taken"),
        Err(error) => error,
    }
}

#[test]
fn keys_that_change_the_language_model_are_refused_by_name() {
    for architecture in ["llama", "qwen2", "phi3"] {
        let tiny = Tiny::new(architecture, 4, 2, 8);
        for (name, value, code) in [
            ("final_logit_softcapping", Val::F32(30.0), "unsupported_architecture"),
            ("attention.causal", Val::Bool(false), "unsupported_architecture"),
            ("attention.clamp_kqv", Val::F32(8.0), "unsupported_architecture"),
            ("attention.max_alibi_bias", Val::F32(8.0), "unsupported_architecture"),
            ("attention.sliding_window_pattern", Val::U32(6), "unsupported_architecture"),
            ("attention.key_length_swa", Val::U32(8), "unsupported_architecture"),
            ("rope.dimension_sections", Val::ints([2, 1, 1, 0]), "unsupported_architecture"),
            ("rope.freq_base_swa", Val::F32(10000.0), "unsupported_architecture"),
            ("rope.scaling.yarn_log_multiplier", Val::F32(0.1), "unsupported_architecture"),
            ("logit_scale", Val::F32(0.0625), "unsupported_architecture"),
            ("residual_scale", Val::F32(0.22), "unsupported_architecture"),
            ("embedding_scale", Val::F32(12.0), "unsupported_architecture"),
            ("use_parallel_residual", Val::Bool(true), "unsupported_architecture"),
            ("expert_shared_count", Val::U32(1), "unsupported_architecture"),
            ("shortconv.l_cache", Val::U32(3), "unsupported_architecture"),
            ("a_key_of_next_year", Val::str("on"), "unsupported_architecture"),
            ("attention.sliding_window", Val::F32(20.5), "invalid_gguf"),
            ("attention.sliding_window", Val::I32(-5), "invalid_gguf"),
            ("attention.scale", Val::F32(-1.0), "invalid_gguf"),
            ("attn_logit_softcapping", Val::F32(f32::NAN), "invalid_gguf"),
        ] {
            let key = tiny.key(name);
            let error = refused(tiny.load(Cpu::new(), &tiny.writer().set(&key, value), options()), &key);
            assert_eq!(error.code(), code, "{error}");
            assert!(error.message().contains(&format!("{architecture}.{name}")), "{error}");
        }
    }
}

fn golden_gguf(path: &str) -> Gguf {
    pollster::block_on(Gguf::open(file(golden(path)))).expect("opens")
}

#[test]
fn keys_that_change_the_vision_model_are_refused_by_name() {
    let load = |mmproj: &str, key: &str, value: Option<Val>| {
        let mut writer = GgufWriter::copy_of(&golden_gguf(mmproj));
        if let Some(value) = value {
            writer = writer.set(key, value);
        }
        let (model, mmproj) = (file(golden("tiny-llava/tiny-llava-f16.gguf")), memory("mmproj.gguf", writer.finish()));
        pollster::block_on(Engine::load(Cpu::new(), model, Some(mmproj), options(), &mut |_| {}))
    };
    let (plain, tiles) = ("tiny-llava/mmproj-legacy-f16.gguf", "tiny-llava-next/mmproj-legacy-f16.gguf");
    for mmproj in [plain, tiles] {
        load(mmproj, "", None).expect("loads as it is");
        for (key, value) in [
            ("clip.use_silu", Val::Bool(true)),
            ("clip.has_audio_encoder", Val::Bool(true)),
            ("clip.vision.projector.scale_factor", Val::U32(2)),
            ("clip.vision.spatial_merge_size", Val::U32(2)),
            ("clip.vision.n_wa_pattern", Val::U32(8)),
            ("clip.vision.mm_projector_type", Val::str("mlp2x_relu")),
            ("clip.minicpmv_version", Val::U32(3)),
        ] {
            let error = refused(load(mmproj, key, Some(value)), key);
            assert_eq!(error.code(), "unsupported_architecture", "{error}");
            assert!(error.message().contains(key), "{error}");
        }
        for (key, value) in [
            ("clip.use_silu", Val::Bool(false)),
            ("clip.has_audio_encoder", Val::Bool(false)),
            ("clip.text.context_length", Val::U32(77)),
            ("clip.vision.mm_projector_type", Val::str("mlp2x_gelu")),
        ] {
            load(mmproj, key, Some(value)).unwrap_or_else(|e| panic!("{key}: {e}"));
        }
    }
    // How tiles are put together matters only where there are any.
    const MERGE: &str = "clip.vision.mm_patch_merge_type";
    load(plain, MERGE, Some(Val::str("flat"))).expect("one tile");
    for merge in ["flat", "spatial"] {
        let error = refused(load(tiles, MERGE, Some(Val::str(merge))), merge);
        assert!(error.code() == "unsupported_architecture" && error.message().contains(MERGE), "{error}");
    }
    // Grids of at most three tiles.
    const RATIO: &str = "clip.vision.image_aspect_ratio";
    load(tiles, RATIO, Some(Val::str("anyres_max_9"))).expect("no grid is beyond nine tiles");
    let error = refused(load(tiles, RATIO, Some(Val::str("anyres_max_2"))), RATIO);
    assert!(error.code() == "unsupported_architecture" && error.message().contains("anyres_max_2"), "{error}");
}

/// A vision file of zeros: four patches, one block, rows for the golden language model of 256 columns.
fn tower(n_embd: usize, n_heads: usize) -> GgufWriter {
    let number = |n: usize| Val::U32(n as u32);
    let mut writer = GgufWriter::new()
        .kv("general.architecture", Val::str("clip"))
        .kv("clip.has_vision_encoder", Val::Bool(true))
        .kv("clip.projector_type", Val::str("mlp"))
        .kv("clip.vision.image_size", number(28))
        .kv("clip.vision.patch_size", number(14))
        .kv("clip.vision.embedding_length", number(n_embd))
        .kv("clip.vision.feed_forward_length", number(32))
        .kv("clip.vision.block_count", number(1))
        .kv("clip.vision.attention.head_count", number(n_heads));
    let mut tensors = vec![
        ("v.patch_embd.weight".to_string(), vec![14, 14, 3, n_embd]),
        ("v.position_embd.weight".into(), vec![n_embd, 4]),
        ("mm.0.weight".into(), vec![n_embd, 256]),
        ("v.blk.0.ffn_up.weight".into(), vec![n_embd, 32]),
        ("v.blk.0.ffn_down.weight".into(), vec![32, n_embd]),
    ];
    tensors
        .extend(["attn_q", "attn_k", "attn_v", "attn_out"].map(|part| (format!("v.blk.0.{part}.weight"), vec![n_embd, n_embd])));
    tensors.extend(["ln1", "ln2"].map(|part| (format!("v.blk.0.{part}.weight"), vec![n_embd])));
    for (name, dims) in tensors {
        writer = writer.floats(&name, &dims, &vec![0.0; dims.iter().product()]);
    }
    writer
}

/// Shapes that would have met an assertion when the loaded model was asked something.
#[test]
#[cfg(feature = "gpu")]
fn shapes_that_the_gpu_has_no_kernel_for_are_refused_before_memory_is_taken() {
    if gpu::is_missing() {
        return;
    }
    // Not enough for either model: whoever asks for memory first is told that there is none.
    let backend =
        || Gpu::new(gpu::device(DeviceOptions { memory_limit: Some(1 << 20), ..DeviceOptions::default() })).expect("a backend");
    let said = |error: llava_web::Error, words: [&str; 3]| {
        assert_eq!(error.code(), "unsupported_architecture", "{error}");
        assert!(words.iter().all(|word| error.message().contains(word)), "{error}");
    };
    let wide = Tiny::new("llama", 1, 1, 260);
    said(refused(wide.load(backend(), &wide.writer(), options()), "heads of 260"), ["260", "llama.gguf", "\"cpu\""]);
    let files = |writer: GgufWriter| (file(golden("tiny-llava/tiny-llava-f16.gguf")), memory("mmproj.gguf", writer.finish()));
    let (model, mmproj) = files(tower(264, 1));
    let loaded = pollster::block_on(Engine::load(backend(), model, Some(mmproj), options(), &mut |_| {}));
    said(refused(loaded, "a tower with heads of 264"), ["264", "mmproj.gguf", "\"cpu\""]);
    let many = AttentionOp::causal(Heads { n_heads: 65536, n_kv_heads: 1, head_dim: 2 });
    said(refused(backend().supports(&many), "65536 heads"), ["65536", "65535", "\"cpu\""]);

    // The CPU takes them all.
    let mut cpu = wide.load(Cpu::new(), &wide.writer(), options()).expect("loads");
    for n in [1, 30] {
        let diff = difference(&evaluate(&mut cpu, &ids(n)), &wide.logits(&ids(n), &Plain::default()));
        assert!(diff < LOGITS, "{n} tokens: {diff}");
    }
    for (n_embd, n_heads) in [(264, 1), (512, 512)] {
        let (model, mmproj) = files(tower(n_embd, n_heads));
        let mut engine =
            pollster::block_on(Engine::load(Cpu::new(), model, Some(mmproj), options(), &mut |_| {})).expect("loads");
        let (rows, shape) = pollster::block_on(engine.embed_image(&picture("astronaut.png"))).expect("embeds");
        assert!(shape == [4, 256] && rows.iter().all(|x| *x == 0.0));
    }
}

#[test]
fn any_number_of_heads_may_share_keys() {
    let many = Tiny::new("llama", 70, 1, 4);
    let plain = Plain::default();
    let check = |got: Vec<f32>, n: usize, on: &str| {
        let diff = difference(&got, &many.logits(&ids(n), &plain));
        assert!(diff < LOGITS, "{n} tokens on the {on}: {diff}");
    };
    let mut cpu = many.load(Cpu::new().with_pool(Pool::new(2)), &many.writer(), options()).expect("loads");
    #[cfg(feature = "gpu")]
    let mut gpu = (!gpu::is_missing()).then(|| many.load(gpu::float_backends()(), &many.writer(), options()).expect("loads"));
    for n in [1, 2, 40] {
        check(evaluate(&mut cpu, &ids(n)), n, "CPU");
        #[cfg(feature = "gpu")]
        if let Some(gpu) = &mut gpu {
            check(evaluate(gpu, &ids(n)), n, "GPU");
        }
    }
}

/// Whatever a vision file says of its pictures, it is refused or a picture of any shape goes through it.
#[test]
fn numbers_that_decide_how_pictures_are_cut_are_refused_or_computed() {
    let load = |family: &str, key: &str, value: Val| {
        let (mmproj, model) = match family.split_once('.') {
            // A variant of the vision file alone.
            Some((folder, variant)) => (format!("{folder}/mmproj-{variant}-f16.gguf"), "tiny-llava/tiny-llava-q4_0.gguf".into()),
            None => (format!("{family}/mmproj-f16.gguf"), format!("{family}/{family}-q4_0.gguf")),
        };
        let writer = GgufWriter::copy_of(&golden_gguf(&mmproj)).set(key, value);
        let (model, mmproj) = (file(golden(&model)), memory("mmproj.gguf", writer.finish()));
        pollster::block_on(Engine::load(Cpu::new(), model, Some(mmproj), options(), &mut |_| {}))
    };
    // One that is longer than any tile and of one line, and a plain one.
    let shapes = [(700, 1), (40, 30)].map(|(width, height)| {
        let data = (0..width * height * 3).map(|i| (i * 7) as u8).collect();
        llava_web::image::RgbImage::new(width, height, data).expect("a picture")
    });
    let mut computed = 0;
    for family in [
        "tiny-smolvlm",
        "tiny-lfm2vl",
        "tiny-internvl3",
        "tiny-qwen2vl",
        "tiny-qwen25vl",
        "tiny-qwen3vl",
        "tiny-gemma3",
        "tiny-mobilevlm.ldp",
        "tiny-mobilevlm.ldpv2",
    ] {
        for key in [
            "image_size",
            "patch_size",
            "projector.scale_factor",
            "spatial_merge_size",
            "attention.head_count",
            "block_count",
            "feed_forward_length",
            "preproc_image_size",
            "preproc_min_tiles",
            "preproc_max_tiles",
            "image_min_pixels",
            "image_max_pixels",
            "n_wa_pattern",
            "embedding_length",
        ] {
            for value in [0, 1, 3, 48, 2048, u32::MAX] {
                let key = format!("clip.vision.{key}");
                match load(family, &key, Val::U32(value)) {
                    Ok(mut engine) => {
                        computed += 1;
                        for shape in &shapes {
                            match pollster::block_on(engine.embed_image(shape)) {
                                Ok((rows, _)) => assert!(rows.iter().all(|x| x.is_finite()), "{family} {key} {value}"),
                                Err(error) => assert_eq!(error.code(), "out_of_memory", "{family} {key} {value}: {error}"),
                            }
                        }
                    }
                    Err(error) => assert!(
                        ["invalid_gguf", "unsupported_architecture", "mmproj_mismatch", "out_of_memory"].contains(&error.code()),
                        "{family} {key} {value}: {error}"
                    ),
                }
            }
        }
    }
    assert!(computed > 10, "some of them change nothing that must be refused: {computed}");
}

/// What MobileVLM's projectors need of their file: tensors of the right shapes, and a grid of which a quarter is left.
#[test]
fn projectors_that_convolve_are_refused_where_their_file_cannot_be_right() {
    let load = |writer: GgufWriter| {
        let (model, mmproj) = (file(golden("tiny-llava/tiny-llava-q4_0.gguf")), memory("mmproj.gguf", writer.finish()));
        pollster::block_on(Engine::load(Cpu::new(), model, Some(mmproj), options(), &mut |_| {}))
    };
    let [ldp, v2] =
        ["ldp", "ldpv2"].map(|kind| GgufWriter::copy_of(&golden_gguf(&format!("tiny-mobilevlm/mmproj-{kind}-f16.gguf"))));
    let block = |part: &str| format!("mm.model.mb_block.1.block.{part}.weight");
    let peg = "mm.model.peg.0.weight";
    for (what, writer, words) in [
        ("a kernel of too few columns", ldp.clone().reshaped(&block("0.0"), &[3, 3, 255]), "[3, 3, 255] instead of [3, 3, 256]"),
        ("a kernel of too many", ldp.clone().reshaped(&block("0.0"), &[3, 3, 288]), "instead of [3, 3, 256]"),
        ("a kernel of 5 by 5", ldp.clone().reshaped(&block("0.0"), &[5, 5, 256]), "[5, 5, 256] instead of [3, 3, 256]"),
        ("a kernel of one tap", ldp.clone().reshaped(&block("0.0"), &[1, 1, 256]), "[1, 1, 256] instead of [3, 3, 256]"),
        ("a kernel of none", ldp.clone().reshaped(&block("0.0"), &[0, 3, 256]), "mb_block.1.block.0.0"),
        ("a kernel turned about", ldp.clone().reshaped(&block("0.0"), &[256, 3, 3]), "[256, 3, 3] instead of [3, 3, 256]"),
        ("no squeeze", ldp.clone().reshaped(&block("1.fc1"), &[256, 0]), "mb_block.1.block.1.fc1"),
        ("an excess of it", ldp.clone().reshaped(&block("1.fc1"), &[1, 1 << 18]), "mb_block.1.block.1.fc1"),
        ("another width of it", ldp.clone().reshaped(&block("1.fc1"), &[256, 63]), "mb_block.1.block.1.fc1.bias"),
        ("a pointwise layer that widens", ldp.clone().reshaped(&block("2.0"), &[256, 512]), "mb_block.1.block.2.0"),
        ("a norm of other columns", ldp.clone().reshaped(&block("0.1"), &[255]), "mb_block.1.block.0.1"),
        ("no second block", ldp.clone().without("mm.model.mb_block.2.block.2.0.weight"), "mb_block.2.block.2.0"),
        ("another one's metadata", v2.clone().set("clip.projector_type", Val::str("ldp")), "mm.model.mlp.1.weight"),
        ("the other way about", ldp.clone().set("clip.projector_type", Val::str("ldpv2")), "mm.model.mlp.0.weight"),
        ("no convolution", v2.clone().without(peg), "mm.model.peg.0.weight"),
        ("one of too few columns", v2.clone().reshaped(peg, &[3, 3, 128]), "[3, 3, 128] instead of [3, 3, 256]"),
        ("a bias of too few", v2.clone().reshaped("mm.model.peg.0.bias", &[128]), "mm.model.peg.0.bias"),
        ("a grid of an odd side", v2.clone().set("clip.vision.image_size", Val::U32(161)), "23 in a line"),
        ("the same of the first kind", ldp.clone().set("clip.vision.image_size", Val::U32(161)), "23 in a line"),
        ("a grid of one patch", v2.clone().set("clip.vision.image_size", Val::U32(7)), "1 in a line"),
        ("the same of the first kind", ldp.clone().set("clip.vision.image_size", Val::U32(7)), "1 in a line"),
    ] {
        let error = refused(load(writer), what);
        assert_eq!(error.code(), "invalid_gguf", "{what}: {error}");
        assert!(error.message().contains(words), "{what}: {error}");
    }
    let peg2 = "mm.model.peg.2.weight";
    for (what, writer, words) in [
        ("a third kind", v2.clone().set("clip.projector_type", Val::str("ldpv3")), "'ldpv3'"),
        ("one convolution more", v2.clone().floats(peg2, &[3, 3, 256], &[0.0; 9 * 256]), peg2),
        ("blocks that join", ldp.clone().set("clip.vision.spatial_merge_size", Val::U32(2)), "spatial_merge_size"),
    ] {
        let error = refused(load(writer), what);
        assert!(error.code() == "unsupported_architecture" && error.message().contains(words), "{what}: {error}");
    }
    for (writer, own, other) in [(&ldp, "ldpnet", "ldpnetv2"), (&v2, "ldpnetv2", "ldpnet")] {
        let named = |name| writer.clone().set("clip.vision.mm_projector_type", Val::str(name));
        load(named(own)).expect("what it is called where it was trained");
        assert_eq!(refused(load(named(other)), other).code(), "unsupported_architecture");
    }
    // The smallest grid that there can be: one row is left of it. Of no square picture either.
    for writer in [ldp, v2] {
        let writer = writer.set("clip.vision.image_size", Val::U32(14)).reshaped("v.position_embd.weight", &[64, 5]);
        let mut engine = load(writer).expect("loads");
        for name in ["astronaut.png", "chelsea.png"] {
            let (rows, shape) = pollster::block_on(engine.embed_image(&picture(name))).expect("embeds");
            assert!(shape == [1, 256] && rows.iter().all(|x| x.is_finite()), "{shape:?}");
        }
    }
}

/// What only Gemma 3's files say of their network is computed, or refused by its name.
#[test]
fn gemma3_is_as_its_metadata_says_or_refused() {
    let load = |changes: &[(&str, Val)]| {
        let writer = GgufWriter::copy_of(&golden_gguf("tiny-gemma3/tiny-gemma3-q4_0.gguf"));
        let writer = changes.iter().fold(writer, |writer, (key, value)| writer.set(&format!("gemma3.{key}"), value.clone()));
        let model = memory("gemma3.gguf", writer.finish());
        pollster::block_on(Engine::load(Cpu::new(), model, None, options(), &mut |_| {}))
    };
    let ids: Vec<u32> = (0..90).map(|i| 300 + i * 7 % 500).collect();
    let logits = |changes: &[(&str, Val)]| evaluate(&mut load(changes).unwrap_or_else(|e| panic!("{changes:?}: {e}")), &ids);
    let usual = logits(&[]);
    const PATTERN: &str = "attention.sliding_window_pattern";
    const BASE: &str = "rope.freq_base_swa";
    const CAP: &str = "final_logit_softcapping";
    const WINDOW: &str = "attention.sliding_window";
    let listed = |all: [i32; 7]| Val::ints(all);
    for same in [
        &[(PATTERN, Val::U32(6))][..],
        &[(PATTERN, listed([1, 1, 1, 1, 1, 0, 1]))],
        &[(BASE, Val::F32(10_000.0))],
        &[(CAP, Val::F32(0.0))],
        &[("attention.scale", Val::F32(0.0))],
    ] {
        assert_eq!(logits(same), usual, "{same:?}");
    }
    // All layers global, all but one, and a window that hides nothing: local layers keep their own angles.
    let all_global = logits(&[(PATTERN, Val::U32(1))]);
    assert_eq!(logits(&[(PATTERN, listed([0; 7]))]), all_global);
    let no_window = logits(&[(WINDOW, Val::U32(4096))]);
    for (a, b) in [(&all_global, &usual), (&no_window, &usual), (&all_global, &no_window)] {
        assert!(difference(a, &b.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()) > 0.1);
    }
    for changed in
        [&[(BASE, Val::F32(500.0))][..], &[(PATTERN, Val::U32(3))], &[(WINDOW, Val::U32(25))], &[(WINDOW, Val::U32(1))]]
    {
        let got = logits(changed);
        assert!(got.iter().all(|x| x.is_finite()) && got != usual, "{changed:?}");
    }
    let capped: Vec<f64> = usual.iter().map(|x| 1.5 * (f64::from(*x) / 1.5).tanh()).collect();
    assert!(difference(&logits(&[(CAP, Val::F32(1.5))]), &capped) < 1e-5);

    for (key, value, code) in [
        (WINDOW, Val::U32(0), "invalid_gguf"),
        (WINDOW, Val::I32(-24), "invalid_gguf"),
        (WINDOW, Val::F32(24.0), "invalid_gguf"),
        (PATTERN, Val::U32(0), "invalid_gguf"),
        (PATTERN, Val::str("6"), "invalid_gguf"),
        (PATTERN, Val::ints([1, 0, 1]), "invalid_gguf"),
        (PATTERN, listed([2, 1, 1, 1, 1, 0, 1]), "invalid_gguf"),
        (BASE, Val::F32(0.0), "invalid_gguf"),
        (BASE, Val::F32(f32::NAN), "invalid_gguf"),
        (CAP, Val::F32(-30.0), "invalid_gguf"),
        (CAP, Val::F32(f32::INFINITY), "invalid_gguf"),
        ("attention.head_count", Val::U32(0), "invalid_gguf"),
        ("attention.key_length_swa", Val::U32(32), "unsupported_architecture"),
        ("altup.num_inputs", Val::U32(4), "unsupported_architecture"),
    ] {
        let error = refused(load(&[(key, value)]), key);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(key), "{error}");
    }
}
