//! Whole models of a few kilobytes: what the targets load, and the seeds of what they mutate.

use llava_web::backend::cpu::Cpu;
use llava_web::gguf::{Gguf, MemorySource, RangedSource};
use llava_web::quant::{Format, LoadOnly, Stored};
use llava_web::runtime::engine::{Engine, Event, ImageInput, LoadOptions};
use llava_web::runtime::request;
use llava_web::text::Tokenizer;

use super::gguf_writer::{GgufWriter, Val};
use super::random::Random;

/// Widths of the language models. The feed-forward layer is as wide as a super-block where one is wanted.
const N_EMBD: usize = 32;

/// Finite blocks of any format: the scales are small positive halves, all else is noise.
fn blocks(format: impl Into<Stored>, n: usize, random: &mut Random) -> Vec<u8> {
    let format = format.into();
    let value = |random: &mut Random| random.float() * 0.2;
    let format = match format {
        Stored::Kept(Format::F32) => return (0..n).flat_map(|_| value(random).to_le_bytes()).collect(),
        Stored::Kept(Format::F16) => return (0..n).flat_map(|_| half(value(random)).to_le_bytes()).collect(),
        Stored::Kept(Format::BF16) => {
            return (0..n).flat_map(|_| ((value(random).to_bits() >> 16) as u16).to_le_bytes()).collect();
        }
        Stored::Kept(format) => format,
        Stored::Converted(format) => return load_only_blocks(format, n, random),
    };
    let mut all = Vec::new();
    for _ in 0..n / format.block_len() {
        let mut block = random.bytes(format.block_bytes());
        // Scales stand in front, or behind where a format has them there; small numbers in both places do no harm.
        let end = block.len();
        for at in [0, 2, end - 4, end - 2] {
            if at == 0 || at == end - 2 || !matches!(format, Format::Q4_0 | Format::Q8_0 | Format::Q5_0 | Format::IQ4_NL) {
                block[at..at + 2].copy_from_slice(&half(0.01).to_le_bytes());
            }
        }
        all.extend(block);
    }
    all
}

fn load_only_blocks(format: LoadOnly, n: usize, random: &mut Random) -> Vec<u8> {
    let mut all = random.bytes(n / format.block_len() * format.block_bytes());
    let scale = half(0.01).to_le_bytes();
    for block in all.chunks_exact_mut(format.block_bytes()) {
        match format {
            // An eighth, as a power of two and as floats of 8 bits.
            LoadOnly::MXFP4 => block[0] = 124,
            LoadOnly::NVFP4 => block[..4].fill(0x20),
            // Four bits in each of four numbers: what is left of the exponent is small.
            LoadOnly::IQ1_M => (0..4).for_each(|i| block[49 + 2 * i] &= [15, 15, 15, 0x2f][i]),
            LoadOnly::TQ1_0 => block[52..].copy_from_slice(&scale),
            LoadOnly::TQ2_0 => block[64..].copy_from_slice(&scale),
            _ => block[..2].copy_from_slice(&scale),
        }
    }
    all
}

/// A half float, without rounding.
fn half(x: f32) -> u16 {
    let bits = x.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32 - 112;
    if exponent <= 0 {
        return 0;
    }
    (bits >> 16 & 0x8000) as u16 | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16
}

/// The pieces of a SentencePiece vocabulary: structure, a few bytes, letters and words.
fn spm_pieces() -> Vec<(String, f32, i32)> {
    let mut all = vec![("<unk>".to_owned(), 0.0, 2), ("<s>".to_owned(), 0.0, 3), ("</s>".to_owned(), 0.0, 3)];
    all.extend([b'\n', b'"', b'{', b'}'].map(|b| (format!("<0x{b:02X}>"), 0.0, 6)));
    let words = ["▁", "a", "b", "e", "l", "o", ":", "▁a", "▁b", "el", "lo", "ello", "USER", "▁b:", "<|user|>"];
    all.extend(words.iter().enumerate().map(|(i, w)| ((*w).to_owned(), -(i as f32), if w.starts_with('<') { 4 } else { 1 })));
    all
}

/// A LLaMA of one layer. `formats` are taken in turn by its matrices; `n_ff` 256 lets formats of super-blocks in.
pub fn llama<F: Into<Stored> + Copy>(architecture: &str, formats: &[F], n_ff: usize) -> GgufWriter {
    let mut random = Random::new(n_ff as u64 + formats.len() as u64);
    let pieces = spm_pieces();
    let key = |name: &str| format!("{architecture}.{name}");
    let (n_heads, n_kv_heads, head_dim) = (2, 1, 16);
    let (n_q, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
    let mut file = GgufWriter::new()
        .kv("general.architecture", Val::str(architecture))
        .kv("general.name", Val::str("fuzz"))
        .kv(&key("block_count"), Val::U32(1))
        .kv(&key("context_length"), Val::U32(32))
        .kv(&key("embedding_length"), Val::U32(N_EMBD as u32))
        .kv(&key("feed_forward_length"), Val::U32(n_ff as u32))
        .kv(&key("attention.head_count"), Val::U32(n_heads as u32))
        .kv(&key("attention.head_count_kv"), Val::U32(n_kv_heads as u32))
        .kv(&key("attention.key_length"), Val::U32(head_dim as u32))
        .kv(&key("attention.value_length"), Val::U32(head_dim as u32))
        .kv(&key("attention.layer_norm_rms_epsilon"), Val::F32(1e-5))
        .kv(&key("rope.dimension_count"), Val::U32(head_dim as u32))
        .kv(&key("rope.freq_base"), Val::F32(10000.0))
        .kv("tokenizer.ggml.model", Val::str("llama"))
        .kv("tokenizer.ggml.tokens", Val::strings(pieces.iter().map(|p| p.0.as_str())))
        .kv("tokenizer.ggml.scores", Val::floats(pieces.iter().map(|p| p.1)))
        .kv("tokenizer.ggml.token_type", Val::ints(pieces.iter().map(|p| p.2)))
        .kv("tokenizer.ggml.bos_token_id", Val::U32(1))
        .kv("tokenizer.ggml.eos_token_id", Val::U32(2))
        .kv("tokenizer.ggml.add_bos_token", Val::Bool(true));
    let mut formats = formats.iter().cycle();
    let mut matrix = |file: GgufWriter, name: &str, n_in: usize, n_out: usize| {
        let mut next = || -> Stored { (*formats.next().expect("at least one")).into() };
        let mut format = next();
        while !n_in.is_multiple_of(format.block_len()) {
            format = next();
        }
        let data = blocks(format, n_in * n_out, &mut random);
        file.tensor(name, format, &[n_in, n_out], data)
    };
    file = matrix(file, "token_embd.weight", N_EMBD, pieces.len());
    let block = |name: &str| format!("blk.0.{name}.weight");
    if architecture == "phi3" {
        file = matrix(file, &block("attn_qkv"), N_EMBD, n_q + 2 * n_kv);
        file = matrix(file, &block("ffn_up"), N_EMBD, 2 * n_ff);
    } else {
        file = matrix(file, &block("attn_q"), N_EMBD, n_q);
        file = matrix(file, &block("attn_k"), N_EMBD, n_kv);
        file = matrix(file, &block("attn_v"), N_EMBD, n_kv);
        file = matrix(file, &block("ffn_gate"), N_EMBD, n_ff);
        file = matrix(file, &block("ffn_up"), N_EMBD, n_ff);
    }
    file = matrix(file, &block("attn_output"), n_q, N_EMBD);
    file = matrix(file, &block("ffn_down"), n_ff, N_EMBD);
    if architecture == "qwen2" {
        for (name, n) in [("attn_q", n_q), ("attn_k", n_kv), ("attn_v", n_kv)] {
            file = file.floats(&format!("blk.0.{name}.bias"), &[n], &vec![0.01; n]);
        }
    }
    for name in ["blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"] {
        file = file.floats(name, &[N_EMBD], &[1.0; N_EMBD]);
    }
    file
}

/// The language model that other targets load.
pub fn language_model() -> Vec<u8> {
    llama("llama", &[Format::F32, Format::Q8_0], 32).finish()
}

/// A CLIP tower of one block over 2×2 patches, with its projector; of LLaVA-1.6's kind with `anyres`.
pub fn clip(is_mlp: bool, anyres: bool, format: Format) -> GgufWriter {
    let mut random = Random::new(7);
    let (n_embd, n_ff, patch) = (16, 32, 2);
    let mut file = GgufWriter::new()
        .kv("general.architecture", Val::str("clip"))
        .kv("general.type", Val::str("mmproj"))
        .kv("clip.has_vision_encoder", Val::Bool(true))
        .kv("clip.projector_type", Val::str("mlp"))
        .kv("clip.vision.image_size", Val::U32(4))
        .kv("clip.vision.patch_size", Val::U32(patch as u32))
        .kv("clip.vision.embedding_length", Val::U32(n_embd as u32))
        .kv("clip.vision.feed_forward_length", Val::U32(n_ff as u32))
        .kv("clip.vision.projection_dim", Val::U32(N_EMBD as u32))
        .kv("clip.vision.block_count", Val::U32(1))
        .kv("clip.vision.attention.head_count", Val::U32(2))
        .kv("clip.vision.attention.layer_norm_epsilon", Val::F32(1e-5))
        .kv("clip.vision.image_mean", Val::floats([0.5, 0.5, 0.5]))
        .kv("clip.vision.image_std", Val::floats([0.3, 0.3, 0.3]))
        .kv("clip.use_gelu", Val::Bool(is_mlp))
        .kv("clip.vision.feature_layer", Val::ints([1]));
    if anyres {
        file = file
            .kv("clip.vision.image_aspect_ratio", Val::str("anyres"))
            .kv("clip.vision.image_grid_pinpoints", Val::ints([4, 8, 8, 4, 8, 8]))
            .floats("model.image_newline", &[N_EMBD], &[0.1; N_EMBD]);
    }
    let mut matrix = |file: GgufWriter, name: &str, dims: &[usize]| {
        let format = if dims[0].is_multiple_of(format.block_len()) { format } else { Format::F16 };
        let data = blocks(format, dims.iter().product(), &mut random);
        file.tensor(name, format, dims, data)
    };
    file = matrix(file, "v.patch_embd.weight", &[patch, patch, 3, n_embd]);
    file = matrix(file, "v.position_embd.weight", &[n_embd, 5]);
    for name in ["attn_q", "attn_k", "attn_v", "attn_out"] {
        file = matrix(file, &format!("v.blk.0.{name}.weight"), &[n_embd, n_embd]);
    }
    file = matrix(file, "v.blk.0.ffn_up.weight", &[n_embd, n_ff]);
    file = matrix(file, "v.blk.0.ffn_down.weight", &[n_ff, n_embd]);
    file = matrix(file, "mm.0.weight", &[n_embd, N_EMBD]);
    if is_mlp {
        file = matrix(file, "mm.2.weight", &[N_EMBD, N_EMBD]);
        file = file.floats("mm.2.bias", &[N_EMBD], &[0.0; N_EMBD]);
    }
    file = file.floats("v.class_embd", &[n_embd], &[0.1; 16]).floats("mm.0.bias", &[N_EMBD], &[0.0; N_EMBD]);
    for (name, n) in
        [("attn_q", n_embd), ("attn_k", n_embd), ("attn_v", n_embd), ("attn_out", n_embd), ("ffn_up", n_ff), ("ffn_down", n_embd)]
    {
        file = file.floats(&format!("v.blk.0.{name}.bias"), &[n], &vec![0.0; n]);
    }
    for name in ["v.pre_ln", "v.blk.0.ln1", "v.blk.0.ln2"] {
        file =
            file.floats(&format!("{name}.weight"), &[n_embd], &[1.0; 16]).floats(&format!("{name}.bias"), &[n_embd], &[0.0; 16]);
    }
    file
}

/// The vision model that other targets load.
pub fn vision_model() -> Vec<u8> {
    clip(true, false, Format::F16).finish()
}

/// A byte-level vocabulary: the 256 bytes, a few merges, and the structure of ChatML and of LLaMA 3.
pub fn byte_level_tokenizer(pre: &str) -> Tokenizer {
    let mut metadata = llava_web::gguf::Metadata::default();
    let mut pieces: Vec<String> = (0..=255).map(|b| byte_char(b).to_string()).collect();
    let mut merges = Vec::new();
    for (left, right) in [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "a"), ("Ġ", "Ġ"), ("1", "2"), ("Ċ", "Ċ")]
    {
        merges.push(format!("{left} {right}"));
        pieces.push(format!("{left}{right}"));
    }
    let n_plain = pieces.len();
    pieces.extend(["<|im_start|>", "<|im_end|>", "<|image|>", "<tool>"].map(str::to_owned));
    let kinds = (0..pieces.len())
        .map(|i| {
            if i < n_plain {
                1
            } else if pieces[i] == "<tool>" {
                4
            } else {
                3
            }
        })
        .collect();
    use llava_web::gguf::Value;
    for (key, value) in [
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String(pre.into())),
        ("tokenizer.ggml.token_type", Value::Ints(kinds)),
        ("tokenizer.ggml.eos_token_id", Value::Uint(n_plain as u64 + 1)),
        ("tokenizer.ggml.bos_token_id", Value::Uint(n_plain as u64)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
        ("tokenizer.ggml.tokens", Value::Strings(pieces)),
        ("tokenizer.ggml.merges", Value::Strings(merges)),
    ] {
        metadata.insert(key, value);
    }
    Tokenizer::from_metadata(&mut metadata).expect("a sound vocabulary")
}

/// The character that stands for a byte in byte-level vocabularies.
pub fn byte_char(byte: u8) -> char {
    let shown = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if shown(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !shown(b)).count() as u32;
    char::from_u32(0x100 + before).expect("in Latin Extended-A")
}

/// The SentencePiece vocabulary of [`llama`].
pub fn spm_tokenizer() -> Tokenizer {
    let source = MemorySource::new("fuzz.gguf", language_model());
    let mut gguf = pollster::block_on(Gguf::open(vec![Box::new(source)])).expect("sound");
    Tokenizer::from_metadata(&mut gguf.metadata).expect("sound")
}

/// Milliseconds that always are the same: seeds that nobody gave come from here, and no input may depend on the time.
fn now() -> f64 {
    0.0
}

/// Loads a model on the CPU, with all left to it.
pub fn load(model: &[u8], mmproj: Option<&[u8]>) -> llava_web::Result<Engine<Cpu>> {
    let source = |bytes: &[u8]| -> Vec<Box<dyn RangedSource>> { vec![Box::new(MemorySource::new("fuzz.gguf", bytes.to_vec()))] };
    pollster::block_on(Engine::load(Cpu::new(), source(model), mmproj.map(source), LoadOptions::new(now), &mut |_| {}))
}

/// Asks for a completion and runs it to its end.
pub fn complete(engine: &mut Engine<Cpu>, request: &serde_json::Value, images: &[ImageInput]) -> llava_web::Result<()> {
    engine.start_completion(&request::parse(&request.to_string())?, images)?;
    for _ in 0..10_000 {
        if let Event::Done { .. } = pollster::block_on(engine.step())? {
            return Ok(());
        }
    }
    panic!("an answer of 2 tokens takes more than 10,000 steps");
}
