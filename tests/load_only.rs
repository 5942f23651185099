//! Models in formats that are converted when they are loaded: on both backends they answer as the same weights in 32-bit floats do, within
//! what converting adds; they take the memory of what they become; and what is wrong with them is said.

use crate::common;
#[cfg(feature = "gpu")]
use crate::gpu;

use common::gguf_writer::{GgufWriter, Val};
use common::llava::options;
use common::load_only::{nmse, row, set_scale};
use common::random::Random;
use llava_web::backend::Backend;
use llava_web::backend::cpu::Cpu;
#[cfg(feature = "gpu")]
use llava_web::backend::gpu::kernels::Products;
#[cfg(feature = "gpu")]
use llava_web::backend::gpu::{DeviceOptions, Gpu};
use llava_web::gguf::{MemorySource, RangedSource};
use llava_web::quant::LoadOnly;
use llava_web::runtime::engine::Engine;
use llava_web::runtime::request;
use serde_json::json;

/// A super-block, so that every matrix can be in every format.
const N_EMBD: usize = 256;
const HEAD_DIM: usize = 64;
const N_KV: usize = 128;
const N_VOCAB: usize = 40;

/// The matrices with their rows' lengths and numbers.
const MATRICES: [(&str, usize, usize); 8] = [
    ("token_embd", N_EMBD, N_VOCAB),
    ("blk.0.attn_q", N_EMBD, N_EMBD),
    ("blk.0.attn_k", N_EMBD, N_KV),
    ("blk.0.attn_v", N_EMBD, N_KV),
    ("blk.0.attn_output", N_EMBD, N_EMBD),
    ("blk.0.ffn_gate", N_EMBD, 2 * N_EMBD),
    ("blk.0.ffn_up", N_EMBD, 2 * N_EMBD),
    ("blk.0.ffn_down", 2 * N_EMBD, N_EMBD),
];

/// A LLaMA of one layer without its matrices.
fn without_matrices() -> GgufWriter {
    let letters: Vec<String> = (0..N_VOCAB as u8 - 4).map(|i| char::from(b'A' + i).to_string()).collect();
    let tokens = ["<unk>", "<s>", "</s>", "▁"].into_iter().chain(letters.iter().map(String::as_str));
    let number = |n: usize| Val::U32(n as u32);
    let mut writer = GgufWriter::new()
        .kv("general.architecture", Val::str("llama"))
        .kv("llama.block_count", number(1))
        .kv("llama.context_length", number(64))
        .kv("llama.embedding_length", number(N_EMBD))
        .kv("llama.feed_forward_length", number(2 * N_EMBD))
        .kv("llama.attention.head_count", number(N_EMBD / HEAD_DIM))
        .kv("llama.attention.head_count_kv", number(N_KV / HEAD_DIM))
        .kv("llama.attention.layer_norm_rms_epsilon", Val::F32(1e-5))
        .kv("llama.rope.dimension_count", number(HEAD_DIM))
        .kv("tokenizer.ggml.model", Val::str("llama"))
        .kv("tokenizer.ggml.tokens", Val::strings(tokens))
        .kv("tokenizer.ggml.scores", Val::floats((0..N_VOCAB).map(|i| -(i as f32))))
        .kv("tokenizer.ggml.token_type", Val::ints((0..N_VOCAB).map(|i| if i < 3 { 3 } else { 1 })))
        .kv("tokenizer.ggml.bos_token_id", Val::U32(1))
        .kv("tokenizer.ggml.eos_token_id", Val::U32(2));
    for norm in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"] {
        writer = writer.floats(&format!("{norm}.weight"), &[N_EMBD], &[1.0; N_EMBD]);
    }
    writer
}

/// The same model three times: in a format, in the one that it is kept in, and in 32-bit floats.
struct Model {
    stored: GgufWriter,
    kept: GgufWriter,
    floats: GgufWriter,
}

fn model(format: LoadOnly) -> Model {
    let mut random = Random::new(format as u64);
    let [mut stored, mut kept, mut floats] = [(); 3].map(|()| without_matrices());
    for (name, n_in, n_out) in MATRICES {
        let (name, dims) = (format!("{name}.weight"), [n_in, n_out]);
        let bytes = row(format, n_in * n_out, 1.0 / (n_in as f32).sqrt(), &mut random);
        let (mut values, mut converted) = (vec![0.0; n_in * n_out], Vec::new());
        format.decode_row(&bytes, &mut values);
        format.convert(&bytes, &mut converted);
        floats = floats.floats(&name, &dims, &values);
        kept = kept.tensor(&name, format.kept_as(), &dims, converted);
        stored = stored.tensor(&name, format, &dims, bytes);
    }
    Model { stored, kept, floats }
}

fn load<B: Backend>(backend: B, files: Vec<Vec<u8>>) -> llava_web::Result<Engine<B>> {
    let source = |bytes| Box::new(MemorySource::new("model.gguf", bytes)) as Box<dyn RangedSource>;
    pollster::block_on(Engine::load(backend, files.into_iter().map(source).collect(), None, options(), &mut |_| {}))
}

/// Logits behind a dozen tokens.
fn logits<B: Backend>(engine: &mut Engine<B>) -> Vec<f32> {
    let tokens: Vec<usize> = (0..12).map(|i| 3 + 7 * i % (N_VOCAB - 3)).collect();
    let request = request::parse(&json!({ "tokens": tokens }).to_string()).expect("sound");
    pollster::block_on(engine.evaluate(&request, &[])).expect("evaluates").0
}

/// What converting adds to the weights, as a normalized mean square error.
fn added(format: LoadOnly) -> f64 {
    use LoadOnly::*;
    match format {
        // Sums in another order.
        TQ1_0 | TQ2_0 | MXFP4 => 1e-9,
        IQ4_XS => 1e-7,
        IQ3_S => 3e-7,
        NVFP4 => 4e-5,
        IQ3_XXS => 3e-4,
        IQ2_XXS => 6e-4,
        IQ1_S => 1e-3,
        IQ1_M => 3.5e-3,
        IQ2_S | IQ2_XS => 4e-3,
    }
}

/// Asserts that logits are as far from those of the floats as the weights are: eight matrices add their errors, and the attention sharpens
/// them; measured 8 to 17 times. `other` is what the backend's own arithmetic adds.
fn assert_near(format: LoadOnly, floats: &[f32], got: &[f32], other: f64) {
    let (error, bound) = (nmse(floats, got), 20.0 * added(format) + other);
    println!("{format:?} as {:?}: {error:.1e} of {bound:.0e}", format.kept_as());
    assert!(error < bound, "{format:?}: {error:.1e} of {bound:.0e}");
}

#[test]
fn the_cpu_answers_as_with_the_same_weights_in_floats() {
    for format in LoadOnly::ALL {
        let Model { stored, kept, floats } = model(format);
        let mut engine = load(Cpu::new(), vec![stored.finish()]).unwrap_or_else(|e| panic!("{format:?}: {e}"));
        assert_eq!(engine.info().quantization, format.name());
        let got = logits(&mut engine);
        // Matrices are kept to the bit as if the file had had that format, and take as much memory.
        let mut as_kept = load(Cpu::new(), vec![kept.finish()]).expect("loads");
        assert_eq!(got, logits(&mut as_kept), "{format:?}");
        assert_eq!(engine.info().bytes.weights, as_kept.info().bytes.weights, "{format:?}");
        // And so in however many files.
        let mut split = load(Cpu::new(), stored.split(3)).expect("loads");
        assert_eq!(got, logits(&mut split), "{format:?}");
        assert_eq!(split.info().quantization, format.name());
        // The CPU rounds activations to 8 bits.
        assert_near(format, &logits(&mut load(Cpu::new(), vec![floats.finish()]).expect("loads")), &got, 1e-3);
    }
}

#[cfg(feature = "gpu")]
#[test]
fn the_gpu_answers_as_with_the_same_weights_in_floats() {
    if gpu::is_missing() {
        return;
    }
    let options = DeviceOptions { products: Some(Products::Float), ..DeviceOptions::default() };
    let device = gpu::device(options);
    for format in LoadOnly::ALL {
        let Model { stored, floats, .. } = model(format);
        let load = |file: &GgufWriter| load(Gpu::new(device.clone()).expect("a backend"), vec![file.finish()]).expect("loads");
        let mut engine = load(&stored);
        assert_eq!(engine.info().quantization, format.name());
        assert_near(format, &logits(&mut load(&floats)), &logits(&mut engine), 0.0);
    }
}

/// Where a file would fit and what it becomes does not, that is said before a weight is read.
#[test]
fn memory_is_reckoned_with_what_a_format_becomes() {
    let Model { stored, kept, .. } = model(LoadOnly::IQ2_XXS);
    let need = |file: &GgufWriter| {
        let error = load(Cpu::with_memory_limit(1000), vec![file.finish()]).err().expect("it does not fit");
        assert_eq!(error.code(), "out_of_memory");
        let (_, rest) = error.message().split_once(" needs ").expect("how many");
        rest.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_else(|| panic!("{error}"))
    };
    let n_bytes = need(&stored);
    assert_eq!(n_bytes, need(&kept));
    assert!(load(Cpu::with_memory_limit(n_bytes), vec![stored.finish()]).is_ok());
    assert_eq!(load(Cpu::with_memory_limit(n_bytes - 1), vec![stored.finish()]).err().map(|e| e.code()), Some("out_of_memory"));
    // The file's own size is far below.
    assert!(stored.finish().len() as u64 + 300_000 < n_bytes);
}

#[test]
fn what_is_wrong_with_a_block_is_said() {
    let mut random = Random::new(3);
    let name = "blk.0.ffn_down.weight";
    let (n_in, n_out) = (2 * N_EMBD, N_EMBD);
    for (format, d, what) in [
        (LoadOnly::IQ3_S, f32::INFINITY, "not numbers"),
        (LoadOnly::IQ1_M, f32::NAN, "not numbers"),
        (LoadOnly::TQ2_0, f32::NEG_INFINITY, "not numbers"),
        (LoadOnly::MXFP4, f32::MAX, "not numbers"),
        // Fifteen times that is no half float.
        (LoadOnly::IQ3_S, 6e4, "too large"),
        (LoadOnly::IQ4_XS, 6e4, "too large"),
        (LoadOnly::MXFP4, 1e9, "too large"),
    ] {
        let mut bytes = row(format, n_in * n_out, 0.05, &mut random);
        let block = format.block_bytes();
        set_scale(format, &mut bytes[5 * block..6 * block], d, &mut random);
        let file = model(format).stored.without(name).tensor(name, format, &[n_in, n_out], bytes);
        let error = load(Cpu::new(), vec![file.finish()]).err().expect("it is refused");
        assert_eq!(error.code(), "invalid_gguf", "{format:?} {d}: {error}");
        assert!(error.message().contains(what) && error.message().contains(name), "{format:?} {d}: {error}");
    }
}

/// NVIDIA's files have a number beside each matrix that all of it is multiplied by, and one for activations of 4 bits, which these are not.
#[test]
fn matrices_of_nvfp4_are_multiplied_by_their_factors() {
    let format = LoadOnly::NVFP4;
    let mut random = Random::new(9);
    let [mut stored, mut floats] = [(); 2].map(|()| without_matrices());
    for (i, (name, n_in, n_out)) in MATRICES.into_iter().enumerate() {
        let (factor, dims) = (2.0_f32.powi(-6) * (1.0 + i as f32 / 7.0), [n_in, n_out]);
        let bytes = row(format, n_in * n_out, 1.0 / (n_in as f32).sqrt() / factor, &mut random);
        let mut values = vec![0.0; n_in * n_out];
        format.decode_row(&bytes, &mut values);
        values.iter_mut().for_each(|x| *x *= factor);
        floats = floats.floats(&format!("{name}.weight"), &dims, &values);
        // Before the matrix, behind it, and nowhere.
        let scale = |file: GgufWriter| file.floats(&format!("{name}.scale"), &[1], &[factor]);
        stored = if i % 2 == 0 { scale(stored) } else { stored };
        stored = stored.tensor(&format!("{name}.weight"), format, &dims, bytes);
        stored = if i % 2 == 1 { scale(stored) } else { stored };
        stored = stored.floats(&format!("{name}.input_scale"), &[1], &[0.01]);
    }
    let mut engine = load(Cpu::new(), vec![stored.finish()]).expect("loads");
    let want = logits(&mut load(Cpu::new(), vec![floats.finish()]).expect("loads"));
    assert_near(format, &want, &logits(&mut engine), 1e-3);
    // Each of them counts.
    let name = "blk.0.ffn_up.scale";
    let mut without = load(Cpu::new(), vec![stored.clone().without(name).finish()]).expect("loads");
    assert!(nmse(&want, &logits(&mut without)) > 0.1);
    for (dims, values, what) in [(vec![2], vec![1.0; 2], "[2] instead of [1]"), (vec![1], vec![f32::NAN], "not numbers")] {
        let file = stored.clone().without(name).floats(name, &dims, &values);
        let error = load(Cpu::new(), vec![file.finish()]).err().expect("it is refused");
        assert!(error.code() == "invalid_gguf" && error.message().contains(name) && error.message().contains(what), "{error}");
    }
    // Beside a matrix of another format it means something else.
    let file = model(LoadOnly::MXFP4).stored.floats(name, &[1], &[1.0]);
    let error = load(Cpu::new(), vec![file.finish()]).err().expect("it is refused");
    assert!(error.code() == "unsupported_architecture" && error.message().contains(name), "{error}");
}

/// Vectors and tables may be in such a format too; they are floats in memory.
#[test]
fn norms_may_be_in_any_format() {
    let Model { stored, .. } = model(LoadOnly::TQ1_0);
    let name = "output_norm.weight";
    // Ones: the greatest digit, with a scale of one.
    let mut block = vec![255; LoadOnly::TQ1_0.block_bytes()];
    set_scale(LoadOnly::TQ1_0, &mut block, 1.0, &mut Random::new(1));
    let other = stored.clone().without(name).tensor(name, LoadOnly::TQ1_0, &[N_EMBD], block);
    let of = |file: &GgufWriter| logits(&mut load(Cpu::new(), vec![file.finish()]).expect("loads"));
    assert_eq!(of(&other), of(&stored));
}
