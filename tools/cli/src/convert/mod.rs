//! From a Hugging Face folder to a pair of GGUF files.
//!
//! ```text
//! config.json ─▶ config ─┐
//! tokenizer   ─▶ vocabulary ─▶ metadata ─┐
//! weights ─▶ names ─▶ plan (what is stored where, and how: mix) ─▶ rows ─▶ quantized ─▶ writer
//! ```
//!
//! Names and metadata are those of llama.cpp's converters: `convert_hf_to_gguf.py` for language models and Idefics3's vision files, and for
//! LLaVA's and MobileVLM's the older `convert_image_encoder_to_gguf.py`, the only one that there is for CLIP. Weights pass through in blocks of
//! a few rows, so memory does not grow with the model.

mod config;
mod lora;
mod mix;
mod names;
mod vocabulary;
mod weights;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor as Array};
use llava_web::quant::{Format, quantize_row};
use serde_json::Value as Json;

use self::lora::Delta;
use self::mix::Role;
use self::weights::{Rows, Tensor};
use self::writer::{Entry, Metadata, Value, Writer};
use crate::error::{Error, Result};
use crate::progress::Bar;

pub use self::config::{Model, Projector, Scaling, Text, Tower, Vision};
pub use self::mix::Type;
pub use self::names::{Part, part};
pub use self::weights::Checkpoint;

/// Elements of a block of rows. Each thread holds one as floats and as what it becomes: some 10 MB.
const BLOCK: usize = 1 << 20;

/// What to convert, and to what.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of a Hugging Face model: config.json, the weights (safetensors or PyTorch's), the tokenizer
    pub folder: PathBuf,
    /// Where the two files are written; made where there is none
    #[arg(long, short, value_name = "DIR")]
    pub out: PathBuf,
    /// How the language model is stored
    #[arg(long = "type", short, value_name = "TYPE", default_value = "q4_k_m")]
    pub text_type: Type,
    /// How the vision file is stored: f32, f16, bf16, q8_0 or q4_0 are usual
    #[arg(long, short, value_name = "TYPE", default_value = "q8_0")]
    pub mmproj: Type,
    /// The vision tower's own folder, for models whose weights leave it out (LLaVA-1.5 and MobileVLM in the original layout)
    #[arg(long, value_name = "FOLDER")]
    pub vision: Option<PathBuf>,
    /// A LoRA adapter (peft's) that is merged on the way
    #[arg(long, value_name = "FOLDER")]
    pub lora: Option<PathBuf>,
    /// The model's name, for its files and its metadata; default: the folder's
    #[arg(long)]
    pub name: Option<String>,
}

/// The files that were written.
#[derive(Debug)]
pub struct Converted {
    pub model: PathBuf,
    pub mmproj: PathBuf,
    /// Bytes of both.
    pub sizes: [u64; 2],
    /// What a person should know.
    pub notes: Vec<String>,
}

/// A JSON file.
pub fn json(path: &Path) -> Result<Json> {
    let bytes = std::fs::read(path).map_err(|e| Error::of_file("read", path, &e))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::new(format!("'{}' is no sound JSON: {e}. Download it again.", path.display())))
}

/// A tensor to be written.
struct Planned {
    entry: Entry,
    /// Its name in the checkpoint, for messages and adapters.
    source: String,
    tensor: Tensor,
    /// Heads whose rows are reordered.
    heads: Option<usize>,
}

/// The tensors of a checkpoint by what they are; each is taken once.
struct Parts<'a> {
    all: BTreeMap<Part, (&'a str, &'a Tensor)>,
}

impl<'a> Parts<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Result<Self> {
        let mut all = BTreeMap::new();
        for (name, tensor) in checkpoint.iter() {
            let part = names::part(name);
            if part == Part::Nothing {
                continue;
            }
            if let Some((other, _)) = all.insert(part, (name, tensor)) {
                return Err(Error::new(format!("The weights hold the same tensor twice, as '{other}' and as '{name}'")));
            }
        }
        Ok(Self { all })
    }

    /// Plans a tensor that must have these sizes; ones at their end or beginning that only convolutions have are left out.
    fn plan(&mut self, part: Part, name: &str, shape: &[usize], format: Format) -> Result<Planned> {
        let Some((source, tensor)) = self.all.remove(&part) else {
            let what = match &part {
                Part::Text(name) | Part::Vision(name) | Part::Projector(name) => name.as_str(),
                _ => "image_newline",
            };
            return Err(Error::new(format!("The weights lack '{what}' (to become {name}). Is the download complete?")));
        };
        let squeezed = |shape: &[usize]| shape.iter().copied().filter(|n| *n != 1).collect::<Vec<_>>();
        if squeezed(&tensor.shape) != squeezed(shape) {
            return Err(Error::new(format!(
                "'{source}' has the sizes {:?}, but config.json says {shape:?}. Do the files belong together?",
                tensor.shape
            )));
        }
        Ok(Planned {
            entry: Entry { name: name.into(), shape: shape.to_vec(), format },
            source: source.into(),
            tensor: tensor.reshaped(shape),
            heads: None,
        })
    }

    fn has(&self, part: &Part) -> bool {
        self.all.contains_key(part)
    }

    /// Leaves out what is known to be of no use.
    fn drop(&mut self, is_unused: impl Fn(&Part) -> bool) {
        self.all.retain(|part, _| !is_unused(part));
    }

    /// Nothing may be left: what is not understood would be missing in the answers.
    fn finish(self) -> Result<()> {
        let n = self.all.len();
        match self.all.values().next() {
            None => Ok(()),
            Some((name, _)) => Err(Error::new(format!(
                "The weights hold {n} tensors that this kind of model has not, such as '{name}': without them the answers would be wrong. \
                 Use llama.cpp's convert_hf_to_gguf.py."
            ))),
        }
    }
}

/// Converts a folder.
pub fn convert(arguments: &Arguments) -> Result<Converted> {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        return Err(Error::new(format!("'{}' is no folder. Give that of a Hugging Face model.", folder.display())));
    }
    let (mut checkpoint, model) = open(folder, arguments.vision.as_deref())?;
    let deltas = match &arguments.lora {
        Some(folder) => lora::read(folder, &mut checkpoint)?,
        None => BTreeMap::new(),
    };
    let mut notes = model.notes.clone();
    let mut parts = Parts::new(&checkpoint)?;
    let text = plan_text(&model.text, arguments.text_type, &mut parts)?;
    let vision = plan_vision(&model, arguments.mmproj, &mut parts)?;
    parts.finish()?;

    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => {
            let folder = folder.canonicalize().map_err(|e| Error::of_file("opened", folder, &e))?;
            folder.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned())
        }
    };
    let mut metadata = text_metadata(&model.text, &name, arguments.text_type, &text)?;
    let config = json(&folder.join("config.json"))?;
    notes.extend(vocabulary::add(folder, &config, model.text.n_vocab, &mut metadata)?);
    let vision_metadata = vision_metadata(&model, &name, arguments.mmproj, &vision)?;

    std::fs::create_dir_all(&arguments.out).map_err(|e| Error::of_file("made", &arguments.out, &e))?;
    let file = |begin: &str, of: Type| {
        let name: String = name.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        arguments.out.join(format!("{begin}{name}-{}.gguf", of.name()))
    };
    let paths = [file("", arguments.text_type), file("mmproj-", arguments.mmproj)];
    let used: BTreeSet<&str> = text.iter().chain(&vision).map(|t| t.source.as_str()).collect();
    if let Some(unused) = deltas.keys().find(|name| !used.contains(name.as_str())) {
        return Err(Error::new(format!("The adapter changes '{unused}', which is not written")));
    }
    let mut sizes = [0; 2];
    let vision_extra = Vec::new();
    let text_extra = factors(&model.text);
    for (i, (metadata, planned, extra)) in
        [(&metadata, &text, &text_extra), (&vision_metadata, &vision, &vision_extra)].into_iter().enumerate()
    {
        sizes[i] = write(&paths[i], metadata, planned, extra, &deltas)?;
    }
    let [model, mmproj] = paths;
    Ok(Converted { model, mmproj, sizes, notes })
}

/// A folder's weights and what its configuration says; those of the tower's folder stand beside the model's.
pub fn open(folder: &Path, vision: Option<&Path>) -> Result<(Checkpoint, Model)> {
    // First what costs nothing: without it the weights mean nothing.
    json(&folder.join("config.json"))?;
    let mut checkpoint = Checkpoint::open(folder)?;
    if let Some(vision) = vision {
        let has_tower = checkpoint.iter().any(|(name, _)| matches!(names::part(name), Part::Vision(_)));
        if !has_tower {
            for (name, tensor) in Checkpoint::open(vision)?.iter() {
                // Of a checkpoint of the whole of CLIP, its tower.
                if matches!(names::part(name), Part::Vision(_)) {
                    checkpoint.insert(name.to_string(), tensor.clone());
                }
            }
        }
    }
    let model = Model::read(folder, &checkpoint, vision)?;
    Ok((checkpoint, model))
}

fn plan_text(text: &Text, wanted: Type, parts: &mut Parts<'_>) -> Result<Vec<Planned>> {
    let of = |role, cols| mix::of_text(wanted, role, cols, text.n_layers);
    let has_output = !text.is_tied;
    if text.is_tied {
        parts.drop(|part| *part == Part::Text("lm_head.weight".into()));
    }
    let part = |name: &str| Part::Text(name.into());
    let (n_embd, n_vocab) = (text.n_embd, text.n_vocab);
    let mut planned = Vec::new();
    let table = if has_output { Role::Other } else { Role::Output };
    planned.push(parts.plan(part("embed_tokens.weight"), "token_embd.weight", &[n_vocab, n_embd], of(table, n_embd))?);
    let (n_q, n_kv) = (text.n_heads * text.head_dim.0, text.n_kv_heads * text.head_dim.0);
    for layer in 0..text.n_layers {
        for (name, rows, cols) in [
            ("input_layernorm", n_embd, 0),
            ("self_attn.q_proj", n_q, n_embd),
            ("self_attn.k_proj", n_kv, n_embd),
            ("self_attn.v_proj", n_kv, n_embd),
            ("self_attn.o_proj", n_embd, n_q),
            ("post_attention_layernorm", n_embd, 0),
            ("mlp.gate_proj", text.n_ff, n_embd),
            ("mlp.up_proj", text.n_ff, n_embd),
            ("mlp.down_proj", n_embd, text.n_ff),
        ] {
            let gguf = names::text_layer(name).ok_or_else(|| Error::new(format!("'{name}' has no name in GGUF")))?;
            let role = match gguf {
                "attn_v" => Role::Values(layer),
                "ffn_down" => Role::Down(layer),
                _ => Role::Other,
            };
            // LLaMA's rotary pairs stand side by side in GGUF, half a head apart in Hugging Face's weights.
            let heads = match gguf {
                "attn_q" if text.architecture == "llama" => Some(text.n_heads),
                "attn_k" if text.architecture == "llama" => Some(text.n_kv_heads),
                _ => None,
            };
            let (shape, format) = if cols == 0 { (vec![rows], Format::F32) } else { (vec![rows, cols], of(role, cols)) };
            let weight = parts.plan(
                part(&format!("layers.{layer}.{name}.weight")),
                &format!("blk.{layer}.{gguf}.weight"),
                &shape,
                format,
            )?;
            planned.push(Planned { heads, ..weight });
            if text.architecture == "qwen2" && ["attn_q", "attn_k", "attn_v"].contains(&gguf) {
                let bias = part(&format!("layers.{layer}.{name}.bias"));
                planned.push(parts.plan(bias, &format!("blk.{layer}.{gguf}.bias"), &[rows], Format::F32)?);
            }
        }
    }
    planned.push(parts.plan(part("norm.weight"), "output_norm.weight", &[n_embd], Format::F32)?);
    if has_output {
        planned.push(parts.plan(part("lm_head.weight"), "output.weight", &[n_vocab, n_embd], of(Role::Output, n_embd))?);
    }
    Ok(planned)
}

fn plan_vision(model: &Model, wanted: Type, parts: &mut Parts<'_>) -> Result<Vec<Planned>> {
    let Vision { tower, n_embd, n_ff, n_layers, image_size, patch_size, .. } = model.vision;
    let is_idefics = matches!(model.projector, Projector::Idefics3 { .. });
    // What is no matrix of rows is never quantized. Idefics3's converter keeps it in 32 bits, LLaVA's in 16.
    let kernel = if is_idefics || wanted == Type::F32 { Format::F32 } else { Format::F16 };
    let matrix = |cols: usize| mix::of_vision(wanted, cols);
    let part = |name: &str| Part::Vision(name.into());
    let n_rows = (image_size / patch_size).pow(2) + usize::from(tower == Tower::Clip);
    let mut planned = Vec::new();
    let mut add = |part: Part, name: &str, shape: &[usize], format: Format| -> Result<()> {
        planned.push(parts.plan(part, name, shape, format)?);
        Ok(())
    };
    if tower == Tower::Clip {
        add(part("embeddings.class_embedding"), "v.class_embd", &[n_embd], Format::F32)?;
    }
    let patch = [n_embd, 3, patch_size, patch_size];
    add(part("embeddings.patch_embedding.weight"), "v.patch_embd.weight", &patch, kernel)?;
    if tower == Tower::Siglip {
        add(part("embeddings.patch_embedding.bias"), "v.patch_embd.bias", &[n_embd], Format::F32)?;
    }
    add(part("embeddings.position_embedding.weight"), "v.position_embd.weight", &[n_rows, n_embd], kernel)?;
    if tower == Tower::Clip {
        for end in ["weight", "bias"] {
            add(part(&format!("pre_layrnorm.{end}")), &format!("v.pre_ln.{end}"), &[n_embd], Format::F32)?;
        }
    }
    for layer in 0..n_layers {
        for (name, rows, cols) in [
            ("layer_norm1", n_embd, 0),
            ("layer_norm2", n_embd, 0),
            ("self_attn.q_proj", n_embd, n_embd),
            ("self_attn.k_proj", n_embd, n_embd),
            ("self_attn.v_proj", n_embd, n_embd),
            ("self_attn.out_proj", n_embd, n_embd),
            ("mlp.fc1", n_ff, n_embd),
            ("mlp.fc2", n_embd, n_ff),
        ] {
            let gguf =
                names::vision_layer(name, !is_idefics).ok_or_else(|| Error::new(format!("'{name}' has no name in GGUF")))?;
            let (shape, format) = if cols == 0 { (vec![rows], Format::F32) } else { (vec![rows, cols], matrix(cols)) };
            for (end, shape, format) in [("weight", shape, format), ("bias", vec![rows], Format::F32)] {
                add(
                    part(&format!("encoder.layers.{layer}.{name}.{end}")),
                    &format!("v.blk.{layer}.{gguf}.{end}"),
                    &shape,
                    format,
                )?;
            }
        }
    }
    if is_idefics {
        for end in ["weight", "bias"] {
            add(part(&format!("post_layernorm.{end}")), &format!("v.post_ln.{end}"), &[n_embd], Format::F32)?;
        }
    }

    let n_text = model.text.n_embd;
    let projector = |name: &str| Part::Projector(name.into());
    let mut linear = |from: &str, to: &str, cols: usize, rows: usize| -> Result<()> {
        add(projector(&format!("{from}.weight")), &format!("{to}.weight"), &[rows, cols], matrix(cols))?;
        add(projector(&format!("{from}.bias")), &format!("{to}.bias"), &[rows], Format::F32)
    };
    match model.projector {
        Projector::Linear => {
            // A lone layer is saved without a number in front.
            add(projector("weight"), "mm.0.weight", &[n_text, n_embd], matrix(n_embd))?;
            add(projector("bias"), "mm.0.bias", &[n_text], Format::F32)?;
        }
        Projector::Mlp => {
            let hf = model.family.starts_with("LLaVA") && !model.family.contains("original");
            let names = if hf { ["linear_1", "linear_2"] } else { ["0", "2"] };
            linear(names[0], "mm.0", n_embd, n_text)?;
            linear(names[1], "mm.2", n_text, n_text)?;
        }
        Projector::Idefics3 { scale } => {
            let cols = n_embd * scale * scale;
            add(projector("modality_projection.proj.weight"), "mm.model.fc.weight", &[n_text, cols], matrix(cols))?;
        }
        Projector::LdpV2 => {
            linear("mlp.mlp.0", "mm.model.mlp.0", n_embd, n_text)?;
            linear("mlp.mlp.2", "mm.model.mlp.2", n_text, n_text)?;
            add(projector("peg.peg.0.weight"), "mm.model.peg.0.weight", &[n_text, 3, 3], kernel)?;
            add(projector("peg.peg.0.bias"), "mm.model.peg.0.bias", &[n_text], Format::F32)?;
        }
        Projector::Ldp => {
            linear("model.mlp.1", "mm.model.mlp.1", n_embd, n_text)?;
            linear("model.mlp.3", "mm.model.mlp.3", n_text, n_text)?;
            for block in [1, 2] {
                let (from, to) = (format!("model.mb_block.{block}.block"), format!("mm.model.mb_block.{block}.block"));
                add(projector(&format!("{from}.0.0.weight")), &format!("{to}.0.0.weight"), &[n_text, 3, 3], kernel)?;
                for norm in ["0.1", "2.1"] {
                    for end in ["weight", "bias"] {
                        add(projector(&format!("{from}.{norm}.{end}")), &format!("{to}.{norm}.{end}"), &[n_text], Format::F32)?;
                    }
                }
                let squeezed = n_text / 4;
                for (layer, rows, cols) in [("1.fc1", squeezed, n_text), ("1.fc2", n_text, squeezed)] {
                    add(projector(&format!("{from}.{layer}.weight")), &format!("{to}.{layer}.weight"), &[rows, cols], kernel)?;
                    add(projector(&format!("{from}.{layer}.bias")), &format!("{to}.{layer}.bias"), &[rows], Format::F32)?;
                }
                add(projector(&format!("{from}.2.0.weight")), &format!("{to}.2.0.weight"), &[n_text, n_text], kernel)?;
            }
        }
    }
    let is_tiled = !model.pictures.grids.is_empty();
    if is_tiled {
        planned.push(parts.plan(Part::Newline, "model.image_newline", &[n_text], Format::F32)?);
    } else {
        // LLaVA-1.5's classes keep it though nothing uses it.
        parts.drop(|part| *part == Part::Newline);
    }
    // The norm behind all blocks is not on the way to LLaVA's features.
    let norm = [part("post_layernorm.weight"), part("post_layernorm.bias")];
    if !is_idefics && norm.iter().any(|part| parts.has(part)) {
        parts.drop(|part| norm.contains(part));
    }
    Ok(planned)
}

/// What is common to both files: the size in words.
fn size_label(planned: &[Planned]) -> String {
    let n: usize = planned.iter().map(|t| t.entry.shape.iter().product::<usize>()).sum();
    let (scaled, unit) = match n as f64 {
        n if n < 1e6 => (n / 1e3, "K"),
        n if n < 1e9 => (n / 1e6, "M"),
        n => (n / 1e9, "B"),
    };
    if scaled.round() >= 10.0 { format!("{scaled:.0}{unit}") } else { format!("{scaled:.1}{unit}") }
}

fn text_metadata(text: &Text, name: &str, wanted: Type, planned: &[Planned]) -> Result<Metadata> {
    let mut m = Metadata::default();
    let a = text.architecture;
    m.set("general.architecture", a);
    m.set("general.type", "model");
    m.set("general.name", name);
    m.set("general.size_label", Value::Text(size_label(planned)));
    for (key, n) in [
        ("block_count", text.n_layers),
        ("context_length", text.context),
        ("embedding_length", text.n_embd),
        ("feed_forward_length", text.n_ff),
        ("attention.head_count", text.n_heads),
        ("attention.head_count_kv", text.n_kv_heads),
    ] {
        m.u32(format!("{a}.{key}"), n)?;
    }
    m.set(format!("{a}.rope.freq_base"), Value::F32(text.theta));
    m.set(format!("{a}.attention.layer_norm_rms_epsilon"), Value::F32(text.eps));
    let (head_dim, said) = text.head_dim;
    if said {
        m.u32(format!("{a}.attention.key_length"), head_dim)?;
        m.u32(format!("{a}.attention.value_length"), head_dim)?;
    }
    m.u32("general.file_type", wanted.number())?;
    if a == "llama" {
        m.u32(format!("{a}.vocab_size"), text.n_vocab)?;
        m.u32(format!("{a}.rope.dimension_count"), head_dim)?;
    }
    match text.scaling {
        Scaling::None | Scaling::Llama3 { .. } => {}
        Scaling::Linear { factor } => {
            m.set(format!("{a}.rope.scaling.type"), "linear");
            m.set(format!("{a}.rope.scaling.factor"), Value::F32(factor));
        }
        Scaling::Yarn { factor, original } => {
            m.set(format!("{a}.rope.scaling.type"), "yarn");
            m.set(format!("{a}.rope.scaling.factor"), Value::F32(factor));
            m.u32(format!("{a}.rope.scaling.original_context_length"), original)?;
        }
    }
    m.u32("general.quantization_version", 2)?;
    Ok(m)
}

/// LLaMA 3's factors of the rotary frequencies: low ones are divided, high ones kept, those between mixed.
fn factors(text: &Text) -> Vec<(Entry, Vec<f32>)> {
    let Scaling::Llama3 { factor, low, high, original } = text.scaling else { return Vec::new() };
    let n = text.head_dim.0 / 2;
    let of = |i: usize| {
        let wavelength = 2.0 * std::f32::consts::PI * text.theta.powf(i as f32 / n as f32);
        if wavelength < original / high {
            1.0
        } else if wavelength > original / low {
            factor
        } else {
            let smooth = (original / wavelength - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    vec![(Entry { name: "rope_freqs.weight".into(), shape: vec![n], format: Format::F32 }, (0..n).map(of).collect())]
}

fn vision_metadata(model: &Model, name: &str, wanted: Type, planned: &[Planned]) -> Result<Metadata> {
    let mut m = Metadata::default();
    let vision = &model.vision;
    let projector = match model.projector {
        Projector::Linear | Projector::Mlp => "mlp",
        Projector::Ldp => "ldp",
        Projector::LdpV2 => "ldpv2",
        Projector::Idefics3 { .. } => "idefics3",
    };
    m.set("general.architecture", "clip");
    let is_new = matches!(model.projector, Projector::Idefics3 { .. });
    if is_new {
        m.set("general.type", "mmproj");
    } else {
        m.set("clip.has_text_encoder", Value::Bool(false));
        m.set("clip.has_llava_projector", Value::Bool(true));
        m.set("general.description", "image encoder for LLaVA");
    }
    m.set("general.name", name);
    m.set("general.size_label", Value::Text(size_label(planned)));
    m.u32("general.file_type", wanted.number())?;
    m.set("clip.has_vision_encoder", Value::Bool(true));
    m.set("clip.projector_type", projector);
    for (key, n) in [
        ("projection_dim", if is_new { model.text.n_embd } else { vision.projection }),
        ("image_size", vision.image_size),
        ("patch_size", vision.patch_size),
        ("embedding_length", vision.n_embd),
        ("feed_forward_length", vision.n_ff),
        // All of them, also those behind the feature: a reader that knows no feature_layer runs all but the last, which is right for
        // LLaVA's −2.
        ("block_count", vision.n_layers),
        ("attention.head_count", vision.n_heads),
    ] {
        m.u32(format!("clip.vision.{key}"), n)?;
    }
    m.set("clip.vision.attention.layer_norm_epsilon", Value::F32(vision.eps));
    m.set("clip.vision.image_mean", Value::Floats(vision.mean.to_vec()));
    m.set("clip.vision.image_std", Value::Floats(vision.std.to_vec()));
    m.set("clip.use_gelu", Value::Bool(vision.tower == Tower::Siglip));
    if let Some(layer) = model.feature_layer {
        m.set("clip.vision.feature_layer", Value::Ints(vec![i32::try_from(layer).unwrap_or(i32::MAX)]));
    }
    if let Projector::Idefics3 { scale } = model.projector {
        m.u32("clip.vision.projector.scale_factor", scale)?;
    }
    if let Some(longest) = model.pictures.longest {
        m.u32("clip.vision.preproc_image_size", longest)?;
    }
    if let Some(aspect) = &model.pictures.aspect {
        m.set("clip.vision.image_aspect_ratio", aspect.as_str());
    }
    if !model.pictures.grids.is_empty() {
        let all = model.pictures.grids.iter().flatten().map(|n| i32::try_from(*n).unwrap_or(i32::MAX)).collect();
        m.set("clip.vision.image_grid_pinpoints", Value::Ints(all));
        m.set("clip.vision.mm_patch_merge_type", "spatial_unpad");
        m.set("clip.vision.mm_projector_type", "mlp2x_gelu");
    }
    m.u32("general.quantization_version", 2)?;
    Ok(m)
}

/// Writes a file; gives back its bytes.
fn write(
    path: &Path,
    metadata: &Metadata,
    planned: &[Planned],
    extra: &[(Entry, Vec<f32>)],
    deltas: &BTreeMap<String, Delta>,
) -> Result<u64> {
    let entries: Vec<Entry> =
        planned.iter().map(|t| t.entry.clone()).chain(extra.iter().map(|(entry, _)| entry.clone())).collect();
    let mut writer = Writer::create(path, metadata, &entries)?;
    let n_elements: usize = planned.iter().map(|t| t.tensor.rows() * t.tensor.cols()).sum();
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let bar = Bar::new(&name, n_elements as u64);
    for tensor in planned {
        write_tensor(&mut writer, tensor, deltas.get(&tensor.source), &bar)?;
    }
    for (entry, values) in extra {
        writer.put(&encode(entry.format, values, values.len(), &entry.name)?)?;
        writer.end_tensor()?;
    }
    bar.finish();
    writer.finish()
}

fn write_tensor(writer: &mut Writer, planned: &Planned, delta: Option<&Delta>, bar: &Bar) -> Result<()> {
    let Planned { entry, tensor, .. } = planned;
    let (rows, cols) = (tensor.rows(), tensor.cols());
    let block = (BLOCK / cols.max(1)).max(1);
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from).min(16);
    let source = tensor.open()?;
    let starts: Vec<usize> = (0..rows).step_by(block).collect();
    for some in starts.chunks(n_threads) {
        let encoded: Vec<Result<Vec<u8>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|start| {
                    let (start, end) = (*start, (start + block).min(rows));
                    let source = &source;
                    scope.spawn(move || {
                        let values = floats(source, start..end, planned, delta)?;
                        encode(entry.format, &values, entry.cols(), &planned.source)
                    })
                })
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined
                .map(|done| done.unwrap_or_else(|_| Err(Error::new(format!("'{}' could not be converted", planned.source)))))
                .collect()
        });
        for (start, bytes) in some.iter().zip(encoded) {
            writer.put(&bytes?)?;
            bar.add(((start + block).min(rows) - start) as u64 * cols as u64);
        }
    }
    writer.end_tensor()
}

/// Rows of a tensor as the file has them.
fn floats(source: &Rows, rows: std::ops::Range<usize>, planned: &Planned, delta: Option<&Delta>) -> Result<Vec<f32>> {
    let cols = planned.tensor.cols();
    let mut values = match planned.heads {
        None => source.read(rows.clone())?,
        Some(_) => {
            let mut values = Vec::with_capacity(rows.len() * cols);
            for row in rows.clone() {
                let from = original_row(row, planned);
                values.extend(source.read(from..from + 1)?);
            }
            values
        }
    };
    if let Some(delta) = delta {
        for (row, out) in rows.zip(values.chunks_exact_mut(cols)) {
            delta.add(original_row(row, planned), out);
        }
    }
    Ok(values)
}

/// The row of the checkpoint that becomes this one: element `2i + j` of a head's rows was `j · d/2 + i`.
fn original_row(row: usize, planned: &Planned) -> usize {
    let Some(heads) = planned.heads else { return row };
    let d = planned.tensor.rows() / heads;
    let (head, within) = (row / d, row % d);
    head * d + (within % 2) * (d / 2) + within / 2
}

/// Rows in a format.
fn encode(format: Format, values: &[f32], cols: usize, name: &str) -> Result<Vec<u8>> {
    let kind = match format {
        Format::Q4_K => Some(GgmlDType::Q4K),
        Format::Q5_K => Some(GgmlDType::Q5K),
        Format::Q6_K => Some(GgmlDType::Q6K),
        _ => None,
    };
    if values.iter().any(|x| !x.is_finite()) {
        return Err(Error::new(format!("'{name}' holds a number that is none or infinite. The checkpoint is damaged.")));
    }
    if let Some(kind) = kind {
        let array = Array::from_slice(values, (values.len() / cols, cols), &Device::Cpu)?;
        // All columns are as important: of candle's two searches for scales the one that takes importances is the better by far.
        return Ok(QTensor::quantize_imatrix(&array, &vec![1.0; cols], kind)?.data()?.into_owned());
    }
    let mut bytes = Vec::with_capacity(format.row_bytes(cols) * (values.len() / cols));
    for row in values.chunks_exact(cols) {
        quantize_row(format, row, &mut bytes).map_err(|_| {
            Error::new(format!("'{name}' holds a number that is too large for {}. Choose the type bf16 or f32.", format.name()))
        })?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::encode;
    use llava_web::quant::Format;

    #[test]
    fn rows_without_any_range_stay_what_they_are() {
        for format in [Format::Q8_0, Format::Q4_0, Format::Q4_K, Format::Q5_K, Format::Q6_K] {
            let mut one = vec![0.0; 512];
            one[300] = -3.0;
            for values in [vec![0.0; 512], vec![1.5; 512], vec![-1.5; 512], one] {
                let bytes = encode(format, &values, 256, "a").expect("encodes");
                let mut decoded = vec![f32::NAN; 512];
                format.decode_row(&bytes, &mut decoded);
                let off = decoded.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(decoded.iter().all(|x| x.is_finite()) && off <= 0.02, "{}: {off}", format.name());
            }
        }
    }
}
