//! What files are, what they need, and what would refuse them: the headers are read as the engine reads them, no weight is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use llava_web::backend::cpu::Cpu;
use llava_web::backend::{KvFormat, Types};
use llava_web::gguf::source::FileSource;
use llava_web::gguf::{Gguf, RangedSource};
use llava_web::model::decoder::DecoderConfig;
use llava_web::model::llava::VisionConfig;
use llava_web::model::registry;
use llava_web::text::Tokenizer;

use crate::error::{Error, Result};

/// Contexts that memory is told for.
const CONTEXTS: [usize; 4] = [1024, 2048, 4096, 8192];

/// A file as a source.
pub fn source(path: &Path) -> Result<Box<dyn RangedSource>> {
    let text = path.to_str().ok_or_else(|| Error::new(format!("'{}' has a name that is no text", path.display())))?;
    Ok(Box::new(FileSource::open(text)?))
}

/// A file with its header read.
pub fn open(path: &Path) -> Result<Gguf> {
    Ok(pollster::block_on(Gguf::open(vec![source(path)?]))?)
}

/// Whether it is a vision file.
pub fn is_vision(gguf: &Gguf) -> bool {
    gguf.metadata.str("general.architecture") == Some("clip")
}

/// Millions of bytes, for people.
fn megabytes(n: u64) -> String {
    format!("{:.1} MB", n as f64 / 1e6)
}

/// What there is to say of files, and whether the engine would take each of them, and all together.
pub fn describe(paths: &[PathBuf]) -> (String, bool) {
    let mut out = String::new();
    let mut sound = true;
    let mut found: [Option<Gguf>; 2] = [None, None];
    for path in paths {
        let said = open(path).and_then(|gguf| {
            let text = one(&gguf)?;
            Ok((gguf, text))
        });
        match said {
            Ok((gguf, text)) => {
                out += &text;
                if let Err(error) = refusal(&gguf) {
                    let _ = writeln!(out, "  refused: {error}");
                    sound = false;
                }
                let place = usize::from(is_vision(&gguf));
                found[place] = Some(gguf);
            }
            Err(error) => {
                let _ = writeln!(out, "{}\n  refused: {error}", path.display());
                sound = false;
            }
        }
    }
    if sound && let [Some(model), vision] = &found {
        match memory(model, vision.as_ref()) {
            Ok(text) => out += &text,
            Err(error) => {
                let _ = writeln!(out, "together\n  refused: {error}");
                sound = false;
            }
        }
    }
    (out.trim_end().to_string(), sound)
}

/// What one file says of itself.
fn one(gguf: &Gguf) -> Result<String> {
    let m = &gguf.metadata;
    let mut out = String::new();
    let _ = writeln!(out, "{}", gguf.name());
    let mut line = |what: &str, text: String| {
        let _ = writeln!(out, "  {what:<14} {text}");
    };
    let architecture = m.str("general.architecture").unwrap_or("(not said)").to_string();
    let kind = if is_vision(gguf) { "vision file (mmproj)" } else { "language model" };
    line("kind", format!("{kind}, {architecture}"));
    if let Some(name) = m.str("general.name") {
        line("name", name.to_string());
    }
    let mut formats = BTreeMap::<&str, (usize, u64)>::new();
    let mut n = 0u64;
    for tensor in gguf.tensors() {
        let of = formats.entry(tensor.info.format.name()).or_default();
        *of = (of.0 + 1, of.1 + tensor.info.n_bytes());
        n += tensor.info.n_elements() as u64;
    }
    line("parameters", format!("{:.1} million, {}", n as f64 / 1e6, megabytes(gguf.n_bytes())));
    let of = |(name, (count, bytes)): (&&str, &(usize, u64))| format!("{name} {count} ({})", megabytes(*bytes));
    line("tensors", formats.iter().map(of).collect::<Vec<_>>().join(", "));
    let keys: &[&str] = if is_vision(gguf) {
        &[
            "clip.projector_type",
            "clip.vision.image_size",
            "clip.vision.patch_size",
            "clip.vision.embedding_length",
            "clip.vision.block_count",
        ]
    } else {
        &["block_count", "embedding_length", "attention.head_count", "attention.head_count_kv", "context_length"]
    };
    for key in keys {
        let full = if is_vision(gguf) { (*key).to_string() } else { format!("{architecture}.{key}") };
        let text = m.str(&full).map(str::to_string).or(m.uint(&full).map(|n| n.to_string()));
        if let Some(text) = text {
            line(key.rsplit('.').next().unwrap_or(key), text);
        }
    }
    if let Some(layers) = m.ints("clip.vision.feature_layer") {
        line("feature_layer", format!("{layers:?}"));
    }
    if let Some(tokens) = m.strings("tokenizer.ggml.tokens") {
        let kind = m.str("tokenizer.ggml.model").unwrap_or("?");
        line(
            "tokenizer",
            format!("{} tokens, {kind}, cut as {}", tokens.len(), m.str("tokenizer.ggml.pre").unwrap_or("not said")),
        );
        line(
            "chat template",
            if m.contains("tokenizer.chat_template") { "the file's own" } else { "none: one is chosen" }.into(),
        );
    }
    Ok(out)
}

/// Why the engine would not take a file.
fn refusal(gguf: &Gguf) -> Result<()> {
    if is_vision(gguf) {
        // The width that it asks of a language model is its own to say.
        let kind = llava_web::model::projector::ProjectorKind::from_gguf(gguf)?;
        let width = llava_web::model::projector::Projector::<Cpu>::output_width(gguf, kind)?;
        let config = VisionConfig::from_gguf::<Cpu>(gguf, width, deeper(gguf))?;
        config.plan::<Cpu>(gguf)?.check()?;
        return Ok(());
    }
    let config: Box<dyn DecoderConfig<Cpu>> = registry::decoder(gguf)?;
    config.plan(gguf)?.check()?;
    // Reading a tokenizer takes the vocabulary out of the metadata: of a copy.
    Tokenizer::from_metadata(&mut gguf.metadata.clone())?;
    Ok(())
}

/// Levels that a vision file adds to a picture's rows.
fn deeper(gguf: &Gguf) -> usize {
    let layers = gguf.metadata.ints("clip.vision.is_deepstack_layers").unwrap_or_default();
    layers.iter().filter(|is| **is != 0).count()
}

/// What the pair takes.
fn memory(model: &Gguf, vision: Option<&Gguf>) -> Result<String> {
    let cpu = Cpu::new();
    let config: Box<dyn DecoderConfig<Cpu>> = registry::decoder(model)?;
    let dims = config.dims().clone();
    let weights = config.plan(model)?.n_bytes(&cpu, None);
    let mut out = String::new();
    let (mut of_vision, mut scratch, mut rows) = (0, 0, 0);
    if let Some(gguf) = vision {
        let config = VisionConfig::from_gguf::<Cpu>(gguf, dims.n_embd, config.n_deeper())?;
        of_vision = config.plan::<Cpu>(gguf)?.n_bytes(&cpu, None);
        scratch = config.scratch_bytes::<Cpu>();
        rows = if dims.pictures_see_themselves { config.max_tile_rows() } else { 0 };
    }
    let _ = writeln!(out, "memory on the CPU");
    let _ = writeln!(out, "  weights        {} and {} of the vision file", megabytes(weights), megabytes(of_vision));
    for n_ctx in CONTEXTS.into_iter().filter(|n| *n <= dims.n_ctx_train) {
        let kv = dims.kv_spec(n_ctx, KvFormat::F16).n_bytes();
        let chunk = Cpu::PREFILL_ROWS.max(rows).min(n_ctx);
        let total = weights + of_vision + kv + scratch + config.scratch_bytes(n_ctx, chunk);
        let verdict = if total < 3_500_000_000 { "" } else { "; more than a tab's memory, so for WebGPU alone" };
        let _ = writeln!(out, "  context {n_ctx:<6} {} ({} keys and values){verdict}", megabytes(total), megabytes(kv));
    }
    Ok(out)
}
