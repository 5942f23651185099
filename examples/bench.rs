//! Measures a model on this machine, natively, on the CPU or on a GPU over Vulkan:
//!
//! ```sh
//! cargo run --release --example bench -- --device gpu --shape 7b --mmproj vit-l
//! cargo run --release --example bench -- --device cpu --model smollm2.gguf --prompt 128
//! ```
//!
//! `--shape 1b` (TinyLlama's) and `--shape 7b` (LLaMA's) are made of noise in Q4_0 while they are read, so that no file is needed: how long
//! a model takes does not depend on what it says. `--mmproj vit-l` is CLIP's ViT-L/14 at 336 pixels in F16 with a projector, likewise.

#![allow(clippy::pedantic, reason = "casts: an example is not the place to show how they are avoided")]

use std::process::ExitCode;
use std::time::Instant;

use llava_web::backend::cpu::{Cpu, Pool};
use llava_web::backend::gpu::{Device, DeviceOptions, Gpu};
use llava_web::backend::{Backend, KvFormat};
use llava_web::gguf::source::{FileSource, past_the_end};
use llava_web::gguf::{LocalFuture, RangedSource};
use llava_web::image::RgbImage;
use llava_web::quant::Format;
use llava_web::runtime::engine::{Engine, LoadOptions};
use llava_web::{Error, Result};

const USAGE: &str = "usage: bench [--device cpu|gpu] [--shape 1b|7b | --model FILE.gguf] [--mmproj vit-l|FILE.gguf]
             [--prompt N] [--generate N] [--runs N] [--threads N] [--kv f16|q8_0|f32]";

/// A language model's shape.
struct Shape {
    n_layers: usize,
    n_embd: usize,
    n_ff: usize,
    n_heads: usize,
    n_kv_heads: usize,
}

const SHAPES: [(&str, Shape); 2] = [
    ("1b", Shape { n_layers: 22, n_embd: 2048, n_ff: 5632, n_heads: 32, n_kv_heads: 4 }),
    ("7b", Shape { n_layers: 32, n_embd: 4096, n_ff: 11008, n_heads: 32, n_kv_heads: 32 }),
];
const N_VOCAB: usize = 32000;
const ALIGNMENT: usize = 32;

/// A GGUF file whose weights are made up while it is read.
struct Noise {
    name: String,
    header: Vec<u8>,
    /// Where each tensor begins, its bytes and its format; in order.
    tensors: Vec<(u64, u64, Format)>,
    length: u64,
    /// Whole blocks of noise, by format.
    blocks: Vec<(Format, Vec<u8>)>,
}

/// Writes the header of a GGUF file.
#[derive(Default)]
struct Header {
    pairs: Vec<u8>,
    n_pairs: u64,
    list: Vec<u8>,
    n_tensors: u64,
    tensors: Vec<(u64, u64, Format)>,
    data_bytes: u64,
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl Header {
    /// A pair of a key and a value that is written as GGUF's type `kind`.
    fn pair(&mut self, key: &str, kind: u32, value: &[u8]) {
        string(key, &mut self.pairs);
        self.pairs.extend(kind.to_le_bytes());
        self.pairs.extend(value);
        self.n_pairs += 1;
    }

    fn number(&mut self, key: &str, value: usize) {
        self.pair(key, 4, &(value as u32).to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.pair(key, 6, &value.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        string(value, &mut bytes);
        self.pair(key, 8, &bytes);
    }

    fn array(&mut self, key: &str, kind: u32, n: usize, values: &[u8]) {
        let count = (n as u64).to_le_bytes();
        self.pair(key, 9, &[&kind.to_le_bytes()[..], &count, values].concat());
    }

    fn tensor(&mut self, name: &str, format: Format, dims: &[usize]) {
        string(name, &mut self.list);
        self.list.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|n| self.list.extend((*n as u64).to_le_bytes()));
        self.list.extend((format as u32).to_le_bytes());
        self.list.extend(self.data_bytes.to_le_bytes());
        let n_bytes = format.row_bytes(dims.iter().product()) as u64;
        self.tensors.push((self.data_bytes, n_bytes, format));
        self.data_bytes = (self.data_bytes + n_bytes).next_multiple_of(ALIGNMENT as u64);
        self.n_tensors += 1;
    }

    fn finish(mut self, name: &str) -> Noise {
        let mut header = b"GGUF\x03\0\0\0".to_vec();
        header.extend(self.n_tensors.to_le_bytes());
        header.extend(self.n_pairs.to_le_bytes());
        header.extend(&self.pairs);
        header.extend(&self.list);
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        let first = header.len() as u64;
        self.tensors.iter_mut().for_each(|(start, ..)| *start += first);
        let blocks = [Format::F32, Format::F16, Format::Q4_0].map(|format| (format, noise(format))).into();
        Noise { name: name.into(), length: first + self.data_bytes, header, tensors: self.tensors, blocks }
    }
}

/// Half a megabyte or so of blocks of small numbers.
fn noise(format: Format) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let mut bytes = Vec::new();
    while bytes.len() < 1 << 19 {
        let small = (f32::from(next() as u8) - 127.5) / 4096.0;
        match format {
            Format::F32 => bytes.extend(small.to_le_bytes()),
            Format::F16 => bytes.extend(half::f16::from_f32(small).to_le_bytes()),
            _ => {
                bytes.extend(half::f16::from_f32(0.004).to_le_bytes());
                bytes.extend((2..format.block_bytes()).map(|_| next() as u8));
            }
        }
    }
    bytes
}

impl RangedSource for Noise {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> Option<u64> {
        Some(self.length)
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        let end = offset + out.len() as u64;
        if end > self.length {
            return Box::pin(std::future::ready(Err(past_the_end(&self.name, offset, out.len(), self.length))));
        }
        out.fill(0);
        let header = &self.header[(offset as usize).min(self.header.len())..(end as usize).min(self.header.len())];
        out[..header.len()].copy_from_slice(header);
        for (start, n_bytes, format) in &self.tensors {
            let (from, until) = (offset.max(*start), end.min(start + n_bytes));
            let noise = self.blocks.iter().find(|(f, _)| f == format).map_or(&[][..], |(_, bytes)| bytes);
            let mut at = from;
            while at < until && !noise.is_empty() {
                let phase = ((at - start) % noise.len() as u64) as usize;
                let n = ((until - at) as usize).min(noise.len() - phase);
                out[(at - offset) as usize..][..n].copy_from_slice(&noise[phase..phase + n]);
                at += n as u64;
            }
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

fn language_model(name: &str, shape: &Shape) -> Noise {
    let mut h = Header::default();
    let Shape { n_layers, n_embd, n_ff, n_heads, n_kv_heads } = *shape;
    h.text("general.architecture", "llama");
    h.text("general.name", &format!("noise in the shape of {name}"));
    for (key, value) in [
        ("block_count", n_layers),
        ("context_length", 4096),
        ("embedding_length", n_embd),
        ("feed_forward_length", n_ff),
        ("attention.head_count", n_heads),
        ("attention.head_count_kv", n_kv_heads),
    ] {
        h.number(&format!("llama.{key}"), value);
    }
    h.float("llama.attention.layer_norm_rms_epsilon", 1e-5);
    h.text("tokenizer.ggml.model", "llama");
    let (mut tokens, mut scores, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for id in 0..N_VOCAB {
        let (text, kind) = match id {
            0 => ("<unk>".to_string(), 2i32),
            1 => ("<s>".to_string(), 3),
            2 => ("</s>".to_string(), 3),
            3..=258 => (format!("<0x{:02X}>", id - 3), 6),
            _ => (format!("w{id}"), 1),
        };
        string(&text, &mut tokens);
        scores.extend((-(id as f32)).to_le_bytes());
        kinds.extend(kind.to_le_bytes());
    }
    h.array("tokenizer.ggml.tokens", 8, N_VOCAB, &tokens);
    h.array("tokenizer.ggml.scores", 6, N_VOCAB, &scores);
    h.array("tokenizer.ggml.token_type", 5, N_VOCAB, &kinds);
    h.number("tokenizer.ggml.bos_token_id", 1);
    h.number("tokenizer.ggml.eos_token_id", 2);
    let n_kv = n_embd / n_heads * n_kv_heads;
    h.tensor("token_embd.weight", Format::Q4_0, &[n_embd, N_VOCAB]);
    for i in 0..n_layers {
        for (part, dims) in [
            ("attn_q", [n_embd, n_embd]),
            ("attn_k", [n_embd, n_kv]),
            ("attn_v", [n_embd, n_kv]),
            ("attn_output", [n_embd, n_embd]),
            ("ffn_gate", [n_embd, n_ff]),
            ("ffn_up", [n_embd, n_ff]),
            ("ffn_down", [n_ff, n_embd]),
        ] {
            h.tensor(&format!("blk.{i}.{part}.weight"), Format::Q4_0, &dims);
        }
        h.tensor(&format!("blk.{i}.attn_norm.weight"), Format::F32, &[n_embd]);
        h.tensor(&format!("blk.{i}.ffn_norm.weight"), Format::F32, &[n_embd]);
    }
    h.tensor("output_norm.weight", Format::F32, &[n_embd]);
    h.tensor("output.weight", Format::Q4_0, &[n_embd, N_VOCAB]);
    h.finish(name)
}

/// ViT-L/14 at 336 pixels, the 23 blocks that LLaVA runs, and its projector to rows of `n_out`.
fn vision_model(n_out: usize) -> Noise {
    let mut h = Header::default();
    let (n, n_ff, n_layers) = (1024, 4096, 23);
    h.text("general.architecture", "clip");
    h.text("clip.projector_type", "mlp");
    for (key, value) in [
        ("image_size", 336),
        ("patch_size", 14),
        ("embedding_length", n),
        ("feed_forward_length", n_ff),
        ("attention.head_count", 16),
        ("block_count", n_layers),
    ] {
        h.number(&format!("clip.vision.{key}"), value);
    }
    h.float("clip.vision.attention.layer_norm_epsilon", 1e-5);
    let floats = |all: [f32; 3]| all.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    h.array("clip.vision.image_mean", 6, 3, &floats([0.48, 0.46, 0.41]));
    h.array("clip.vision.image_std", 6, 3, &floats([0.27, 0.26, 0.28]));
    h.tensor("v.class_embd", Format::F32, &[n]);
    h.tensor("v.patch_embd.weight", Format::F16, &[14, 14, 3, n]);
    h.tensor("v.position_embd.weight", Format::F32, &[n, 577]);
    let norm = |h: &mut Header, name: &str| {
        h.tensor(&format!("{name}.weight"), Format::F32, &[n]);
        h.tensor(&format!("{name}.bias"), Format::F32, &[n]);
    };
    let linear = |h: &mut Header, name: &str, n_in: usize, n_out: usize| {
        h.tensor(&format!("{name}.weight"), Format::F16, &[n_in, n_out]);
        h.tensor(&format!("{name}.bias"), Format::F32, &[n_out]);
    };
    norm(&mut h, "v.pre_ln");
    for i in 0..n_layers {
        norm(&mut h, &format!("v.blk.{i}.ln1"));
        norm(&mut h, &format!("v.blk.{i}.ln2"));
        for part in ["attn_q", "attn_k", "attn_v", "attn_out"] {
            linear(&mut h, &format!("v.blk.{i}.{part}"), n, n);
        }
        linear(&mut h, &format!("v.blk.{i}.ffn_up"), n, n_ff);
        linear(&mut h, &format!("v.blk.{i}.ffn_down"), n_ff, n);
    }
    linear(&mut h, "mm.0", n, n_out);
    linear(&mut h, "mm.2", n_out, n_out);
    h.finish("vit-l")
}

/// Milliseconds since the first call.
fn now() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

struct Arguments {
    device: String,
    shape: String,
    model: Option<String>,
    mmproj: Option<String>,
    prompt: usize,
    generate: usize,
    runs: usize,
    threads: usize,
    kv: KvFormat,
}

fn arguments() -> Option<Arguments> {
    let mut a = Arguments {
        device: "cpu".into(),
        shape: "1b".into(),
        model: None,
        mmproj: None,
        prompt: 512,
        generate: 128,
        runs: 3,
        threads: 1,
        kv: KvFormat::F16,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--device" if ["cpu", "gpu"].contains(&value.as_str()) => a.device = value,
            "--shape" => a.shape = value,
            "--model" => a.model = Some(value),
            "--mmproj" => a.mmproj = Some(value),
            "--prompt" => a.prompt = value.parse().ok()?,
            "--generate" => a.generate = value.parse().ok()?,
            "--threads" => a.threads = value.parse().ok()?,
            "--kv" => a.kv = KvFormat::ALL.into_iter().find(|format| format.name() == value)?,
            "--runs" => a.runs = value.parse().ok()?,
            _ => return None,
        }
    }
    SHAPES.iter().any(|(name, _)| *name == a.shape).then_some(a)
}

fn one(source: impl RangedSource + 'static) -> Vec<Box<dyn RangedSource>> {
    vec![Box::new(source)]
}

async fn measure<B: Backend>(backend: B, a: &Arguments) -> Result<Engine<B>> {
    let shape = SHAPES.iter().find(|(name, _)| *name == a.shape).ok_or_else(|| Error::invalid_request("no such shape"))?;
    let model = match &a.model {
        Some(path) => one(FileSource::open(path)?),
        None => one(language_model(shape.0, &shape.1)),
    };
    let mmproj = match a.mmproj.as_deref() {
        Some("vit-l") => Some(one(vision_model(shape.1.n_embd))),
        Some(path) => Some(one(FileSource::open(path)?)),
        None => None,
    };
    let options = LoadOptions { context_size: Some(a.prompt + a.generate), kv_format: a.kv, ..LoadOptions::new(now) };
    let start = now();
    let mut engine = Engine::load(backend, model, mmproj, options, &mut |_| {}).await?;
    println!("load          {:10.1} ms, {} MB of weights", now() - start, engine.info().bytes.weights / 1_000_000);
    if let Some(vision) = engine.info().vision.clone() {
        // A picture that was seen is not computed again, so each is another one.
        let side = vision.image_size as u32;
        let mut times = Vec::new();
        let mut launches = engine.backend().launches();
        for i in 0..=a.runs {
            let mut pixels = vec![128; (side * side * 3) as usize];
            pixels[0] = i as u8;
            let pixels = RgbImage::new(side, side, pixels)?;
            launches = engine.backend().launches();
            let start = now();
            engine.embed_image(&pixels).await?;
            times.push(now() - start);
        }
        let mut counted = times.split_off(1);
        counted.sort_by(f64::total_cmp);
        let after = engine.backend().launches();
        println!(
            "picture       {:10.1} ms, {} dispatches, {} submits",
            counted[counted.len() / 2],
            after.dispatches - launches.dispatches,
            after.submits - launches.submits
        );
    }
    let r = engine.benchmark(a.prompt, a.generate, a.runs).await?;
    println!("prefill       {:10.1} tokens/s ({} tokens)", r.prefill_tokens_per_second, a.prompt);
    println!(
        "decode        {:10.1} tokens/s ({} tokens), {:.1} GB/s of weights",
        r.decode_tokens_per_second,
        a.generate,
        r.bytes_per_second / 1e9
    );
    println!("per token     {:10.1} dispatches, {} submits", r.dispatches_per_token, r.submits_per_token);
    Ok(engine)
}

fn run(a: &Arguments) -> Result<()> {
    if a.device == "cpu" {
        println!("on the CPU, {} threads", a.threads);
        return pollster::block_on(measure(Cpu::new().with_pool(Pool::new(a.threads.max(1))), a)).map(drop);
    }
    pollster::block_on(async {
        let device = Device::open(DeviceOptions::default()).await?;
        let mut gpu = Gpu::new(device.clone())?;
        println!("on {}, with {:?}", device.name(), device.features());
        let start = now();
        gpu.self_test(KvFormat::F16).await?;
        println!("self-test     {:10.1} ms {:?}", now() - start, device.notes());
        measure(gpu, a).await.map(drop)
    })
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
