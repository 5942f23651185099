//! Golden data, models and engines for the tests that run a whole model.

#![allow(dead_code, reason = "no test binary uses all of it")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use llava_web::backend::cpu::Cpu;
use llava_web::backend::{Backend, KvFormat};
use llava_web::gguf::source::FileSource;
use llava_web::gguf::{MemorySource, RangedSource};
use llava_web::image::RgbImage;
use llava_web::runtime::engine::{Engine, Event, FinishReason, ImageInput, LoadOptions, Usage};
use llava_web::runtime::request;

use super::safetensors::Safetensors;

/// A file under `tests/golden`.
pub fn golden(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

/// The bytes of a golden file.
pub fn golden_bytes(path: &str) -> Vec<u8> {
    std::fs::read(golden(path)).unwrap_or_else(|e| panic!("tests/golden/{path}: {e}"))
}

/// A golden JSON file.
pub fn golden_json(path: &str) -> serde_json::Value {
    serde_json::from_slice(&golden_bytes(path)).unwrap_or_else(|e| panic!("tests/golden/{path}: {e}"))
}

/// A real model that `./build.sh fetch-models` puts into place.
pub fn fetched_model(name: &str) -> PathBuf {
    let folder = std::env::var_os("LLAVA_WEB_MODELS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models"), PathBuf::from);
    let path = folder.join(name);
    assert!(path.exists(), "{} is not there; run ./build.sh fetch-models first", path.display());
    path
}

/// Arrays of a safetensors file as floats, with their shapes.
pub fn tensors(path: &str) -> HashMap<String, (Vec<f32>, Vec<usize>)> {
    let all = Safetensors::open(&format!("tests/golden/{path}"));
    all.names().into_iter().map(|name| (name.to_string(), (all.numbers(name), all.shape(name)))).collect()
}

/// A golden picture.
pub fn picture(name: &str) -> RgbImage {
    llava_web::image::decode(&golden_bytes(&format!("images/{name}"))).expect("a sound picture")
}

/// A file as a source.
pub fn file(path: PathBuf) -> Vec<Box<dyn RangedSource>> {
    vec![Box::new(FileSource::open(path).expect("the file is there"))]
}

/// Bytes as a source.
pub fn memory(name: &str, bytes: Vec<u8>) -> Vec<Box<dyn RangedSource>> {
    vec![Box::new(MemorySource::new(name, bytes))]
}

/// Milliseconds since the first call.
pub fn now() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

/// Options that leave everything to the model, with exact keys and values.
pub fn options() -> LoadOptions {
    LoadOptions { kv_format: KvFormat::F32, ..LoadOptions::new(now) }
}

/// The golden tiny LLaVA with this language file and vision file.
pub fn tiny_llava(model: &str, mmproj: &str, options: LoadOptions) -> llava_web::Result<Engine<Cpu>> {
    tiny_llava_on(Cpu::new(), model, mmproj, options)
}

/// The same on any backend.
pub fn tiny_llava_on<B: Backend>(backend: B, model: &str, mmproj: &str, options: LoadOptions) -> llava_web::Result<Engine<B>> {
    let mmproj = if mmproj.contains('/') { golden(mmproj) } else { golden("tiny-llava").join(mmproj) };
    pollster::block_on(Engine::load(backend, file(golden("tiny-llava").join(model)), Some(file(mmproj)), options, &mut |_| {}))
}

/// All that came of a generation.
#[derive(Debug, Default)]
pub struct Answer {
    pub text: String,
    pub ids: Vec<u32>,
    pub logprobs: Vec<llava_web::runtime::engine::TokenLogprob>,
    pub finish_reason: Option<FinishReason>,
    pub usage: Usage,
    pub stages: Vec<(&'static str, usize, usize)>,
}

/// Runs the generation under way to its end.
pub fn finish<B: Backend>(engine: &mut Engine<B>) -> llava_web::Result<Answer> {
    let mut answer = Answer::default();
    loop {
        match pollster::block_on(engine.step())? {
            Event::Progress { stage, done, total } => answer.stages.push((stage, done, total)),
            Event::Token { text, token_ids, logprobs, .. } => {
                answer.text += &text;
                answer.ids.extend(token_ids);
                answer.logprobs.extend(logprobs.into_iter().flatten());
            }
            Event::Done { text, finish_reason, usage, .. } => {
                answer.text += &text;
                answer.finish_reason = Some(finish_reason);
                answer.usage = usage;
                return Ok(answer);
            }
        }
    }
}

/// Pictures as a request takes them.
pub fn inputs(images: &[RgbImage]) -> Vec<ImageInput> {
    images.iter().cloned().map(ImageInput::Pixels).collect()
}

/// Asks for a chat completion.
pub fn chat<B: Backend>(engine: &mut Engine<B>, request: serde_json::Value, images: &[RgbImage]) -> llava_web::Result<Answer> {
    engine.start_chat(&request::parse(&request.to_string())?, &inputs(images))?;
    finish(engine)
}

/// Asks for a raw completion.
pub fn complete<B: Backend>(
    engine: &mut Engine<B>,
    request: serde_json::Value,
    images: &[RgbImage],
) -> llava_web::Result<Answer> {
    engine.start_completion(&request::parse(&request.to_string())?, &inputs(images))?;
    finish(engine)
}

/// Cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The largest absolute difference.
pub fn max_diff(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The natural logarithms of the probabilities.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|v| (f64::from(*v) - max).exp()).sum();
    logits.iter().map(|v| f64::from(*v) - max - sum.ln()).collect()
}
