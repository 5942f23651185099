//! A pair against the float network that it was made of, stage by stage. The other side is candle-transformers': it shares no code with the
//! engine, and reads the folder, not the pair.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::{Activation as TextActivation, VarBuilder};
use candle_transformers::models::clip::text_model::Activation;
use candle_transformers::models::clip::vision_model::{ClipVisionConfig, ClipVisionTransformer};
use candle_transformers::models::{llama, qwen2};
use llava_web::backend::cpu::Cpu;
use llava_web::image::RgbImage;
use llava_web::runtime::engine::{Engine, Event, ImageInput, LoadOptions};
use llava_web::runtime::request;
use llava_web::text::Special;
use serde_json::json;

use crate::convert::{self, Checkpoint, Model, Part, Projector, Scaling, Text, Tower, Vision, part};
use crate::error::{Error, Result};
use crate::{ask, info};

/// A text for the perplexity where none is given.
const TEXT: &str = "The harbour lay quiet in the early light. Two boats were tied to the pier, one red and one blue, and a man in a long coat stood \
    beside them with a dog. He looked at the water for a while, then at the clouds over the hills, and said that it would rain before noon.";

/// What to compare.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The Hugging Face folder that the pair was made of
    pub folder: PathBuf,
    /// The pair: its folder, or its two files
    #[arg(num_args = 1..=2, required = true, value_name = "PAIR")]
    pub pair: Vec<PathBuf>,
    /// A picture
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// What is asked, as the model is told it; <image> stands for the picture
    #[arg(long, default_value = "USER: <image>\nWhat is in this picture? ASSISTANT:")]
    pub prompt: String,
    /// The vision tower's own folder, as for convert
    #[arg(long, value_name = "FOLDER")]
    pub vision: Option<PathBuf>,
    /// A text for the perplexity; default: a paragraph that comes with the program
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Tokens of the text that are predicted
    #[arg(long, default_value_t = 48)]
    pub text_tokens: usize,
    /// Tokens that are generated on both sides
    #[arg(long, default_value_t = 12)]
    pub greedy: usize,
    /// The least cosine of pictures' rows that passes
    #[arg(long, default_value_t = 0.98)]
    pub min_rows: f32,
    /// The least cosine of logits that passes
    #[arg(long, default_value_t = 0.95)]
    pub min_logits: f32,
    /// The highest ratio of perplexities, the pair's to the float network's, that passes
    #[arg(long, default_value_t = 1.15)]
    pub max_perplexity: f32,
    /// Compute the float network in 16 bits: half the memory, slower
    #[arg(long)]
    pub half: bool,
}

/// What was found: a line for each stage, and whether all pass.
pub struct Report {
    pub text: String,
    pub passes: bool,
}

impl Report {
    fn stage(&mut self, name: &str, found: &str, passes: bool) {
        let verdict = if passes { "" } else { "  FAILED" };
        let _ = writeln!(self.text, "{name:<12} {found}{verdict}");
        self.passes &= passes;
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::NAN;
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}

fn likeliest(logits: &[f32]) -> u32 {
    (0u32..).zip(logits).max_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(id, _)| id)
}

/// Minus the logarithm of a token's probability.
fn surprise(logits: &[f32], id: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - most).exp()).sum();
    sum.ln() - f64::from(logits.get(id as usize).copied().unwrap_or(f32::MIN) - most)
}

/// The float decoder.
enum Decoder {
    Llama { model: Box<llama::Llama>, config: Box<llama::Config>, cache: Box<llama::Cache>, dtype: DType },
    Qwen2(Box<qwen2::ModelForCausalLM>),
}

/// What a decoder is given: tokens, or a picture's rows.
enum Input<'a> {
    Tokens(&'a [u32]),
    Rows(&'a Tensor),
}

impl Decoder {
    fn new(text: &Text, tensors: HashMap<String, Tensor>, dtype: DType) -> Result<Self> {
        let builder = VarBuilder::from_tensors(tensors, dtype, &Device::Cpu);
        if text.head_dim.0 * text.n_heads != text.n_embd {
            return Err(Error::new("verify knows no networks whose heads are not the width divided among them."));
        }
        if text.architecture == "qwen2" {
            let config = qwen2::Config {
                vocab_size: text.n_vocab,
                hidden_size: text.n_embd,
                intermediate_size: text.n_ff,
                num_hidden_layers: text.n_layers,
                num_attention_heads: text.n_heads,
                num_key_value_heads: text.n_kv_heads,
                max_position_embeddings: text.context,
                sliding_window: text.context,
                max_window_layers: text.n_layers,
                tie_word_embeddings: text.is_tied,
                rope_theta: f64::from(text.theta),
                rms_norm_eps: f64::from(text.eps),
                use_sliding_window: false,
                hidden_act: TextActivation::Silu,
            };
            return Ok(Self::Qwen2(Box::new(qwen2::ModelForCausalLM::new(&config, builder)?)));
        }
        let rope_scaling = match text.scaling {
            Scaling::Llama3 { factor, low, high, original } => Some(llama::Llama3RopeConfig {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original as usize,
                rope_type: llama::Llama3RopeType::Llama3,
            }),
            _ => None,
        };
        let config = llama::Config {
            hidden_size: text.n_embd,
            intermediate_size: text.n_ff,
            vocab_size: text.n_vocab,
            num_hidden_layers: text.n_layers,
            num_attention_heads: text.n_heads,
            num_key_value_heads: text.n_kv_heads,
            use_flash_attn: false,
            rms_norm_eps: f64::from(text.eps),
            rope_theta: text.theta,
            bos_token_id: None,
            eos_token_id: None,
            rope_scaling,
            max_position_embeddings: text.context,
            tie_word_embeddings: text.is_tied,
        };
        let config = Box::new(config);
        let cache = Box::new(llama::Cache::new(true, dtype, &config, &Device::Cpu)?);
        let model = Box::new(llama::Llama::load(builder, &config)?);
        Ok(Self::Llama { model, config, cache, dtype })
    }

    /// Forgets what was run.
    fn reset(&mut self) -> Result<()> {
        match self {
            Self::Llama { config, cache, dtype, .. } => **cache = llama::Cache::new(true, *dtype, config, &Device::Cpu)?,
            Self::Qwen2(model) => model.clear_kv_cache(),
        }
        Ok(())
    }

    /// Runs tokens behind `position` others; gives the last one's logits.
    fn run(&mut self, ids: &[u32], position: usize) -> Result<Vec<f32>> {
        let input = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        let logits = match self {
            Self::Llama { model, cache, .. } => model.forward(&input, position, cache)?,
            Self::Qwen2(model) => model.forward(&input, position)?,
        };
        Ok(logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// Runs a prompt from the beginning.
    fn prompt(&mut self, inputs: &[Input<'_>]) -> Result<Vec<f32>> {
        self.reset()?;
        if let [Input::Tokens(ids)] = inputs {
            return self.run(ids, 0);
        }
        let Self::Llama { model, cache, dtype, .. } = self else {
            return Err(Error::new("candle's Qwen2 takes no pictures."));
        };
        let mut rows = Vec::new();
        for input in inputs {
            rows.push(match input {
                Input::Tokens(ids) => model.embed(&Tensor::new(*ids, &Device::Cpu)?)?,
                Input::Rows(rows) => rows.to_dtype(*dtype)?,
            });
        }
        let logits = model.forward_input_embed(&Tensor::cat(&rows, 0)?.unsqueeze(0)?, 0, cache)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }
}

/// The tensors of one part of a checkpoint, under the names that candle looks for.
fn tensors(checkpoint: &Checkpoint, name: impl Fn(Part) -> Option<String>, dtype: DType) -> Result<HashMap<String, Tensor>> {
    let mut found = HashMap::new();
    for (source, tensor) in checkpoint.iter() {
        if let Some(name) = name(part(source)) {
            let array = Tensor::from_vec(tensor.read()?, tensor.shape.as_slice(), &Device::Cpu)?;
            found.insert(name, array.to_dtype(dtype)?);
        }
    }
    Ok(found)
}

/// CLIP and the projector over pixels that are prepared: `[rows, width]`.
fn rows(checkpoint: &Checkpoint, model: &Model, pixels: &[f32]) -> Result<Tensor> {
    let Vision { n_embd, n_ff, n_layers, n_heads, image_size, patch_size, .. } = model.vision;
    let name = |part| if let Part::Vision(name) = part { Some(name) } else { None };
    let mut of_tower = tensors(checkpoint, name, DType::F32)?;
    // candle wants the norm behind all blocks, which no feature passes.
    for (end, value) in [("weight", 1f32), ("bias", 0.0)] {
        let norm = of_tower.entry(format!("post_layernorm.{end}"));
        norm.or_insert(Tensor::full(value, n_embd, &Device::Cpu)?);
    }
    if n_heads == 0 || n_embd % n_heads != 0 {
        return Err(Error::new("The tower's heads do not divide its width."));
    }
    let config = ClipVisionConfig {
        embed_dim: n_embd,
        activation: Activation::QuickGelu,
        intermediate_size: n_ff,
        num_hidden_layers: n_layers,
        num_attention_heads: n_heads,
        projection_dim: model.vision.projection,
        num_channels: 3,
        image_size,
        patch_size,
    };
    let clip = ClipVisionTransformer::new(VarBuilder::from_tensors(of_tower, DType::F32, &Device::Cpu), &config)?;
    let pixels = Tensor::from_slice(pixels, (1, 3, image_size, image_size), &Device::Cpu)?;
    let states = clip.output_hidden_states(&pixels)?;
    // The first of them is behind the first block; the class token comes before the patches.
    let layer = model.feature_layer.unwrap_or(n_layers);
    let n_patches = (image_size / patch_size).pow(2);
    let features = states[layer - 1].narrow(1, 1, n_patches)?.squeeze(0)?;
    let of_projector = tensors(checkpoint, |part| if let Part::Projector(name) = part { Some(name) } else { None }, DType::F32)?;
    let linear = |x: &Tensor, names: [&str; 2]| -> Result<Tensor> {
        let find = |end: &str| {
            let found = names.iter().find_map(|name| of_projector.get(format!("{name}{end}").trim_start_matches('.')));
            found.ok_or_else(|| Error::new(format!("The projector lacks '{}{end}'", names[0])))
        };
        Ok(x.matmul(&find(".weight")?.t()?)?.broadcast_add(find(".bias")?)?)
    };
    if model.projector == Projector::Linear {
        return linear(&features, ["", ""]);
    }
    let hidden = linear(&features, ["linear_1", "0"])?.gelu_erf()?;
    linear(&hidden, ["linear_2", "2"])
}

/// The pixels of a picture by another way than the engine's: padded, resized by the image crate, made float. `[3, side, side]`
fn pixels(bytes: &[u8], vision: &Vision) -> Result<Vec<f32>> {
    let picture = image::load_from_memory(bytes).map_err(|e| Error::new(format!("The picture cannot be read: {e}")))?.to_rgb8();
    let (width, height) = picture.dimensions();
    let side = width.max(height);
    let grey = image::Rgb(vision.mean.map(|mean| (mean * 255.0) as u8));
    let mut square = image::RgbImage::from_pixel(side, side, grey);
    image::imageops::replace(&mut square, &picture, i64::from((side - width) / 2), i64::from((side - height) / 2));
    let n = vision.image_size as u32;
    let small = image::imageops::resize(&square, n, n, image::imageops::FilterType::CatmullRom);
    let mut out = Vec::with_capacity(3 * vision.image_size.pow(2));
    for c in 0..3 {
        out.extend(small.pixels().map(|p| (f32::from(p.0[c]) / 255.0 - vision.mean[c]) / vision.std[c]));
    }
    Ok(out)
}

/// The two files of a pair.
fn files(pair: &[PathBuf]) -> Result<[PathBuf; 2]> {
    let paths = match pair {
        [folder] if folder.is_dir() => {
            let all = std::fs::read_dir(folder).map_err(|e| Error::of_file("read", folder, &e))?;
            all.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "gguf")).collect()
        }
        other => other.to_vec(),
    };
    let (mut model, mut mmproj) = (None, None);
    for path in paths {
        let place = if info::is_vision(&info::open(&path)?) { &mut mmproj } else { &mut model };
        if let Some(other) = place.replace(path) {
            return Err(Error::new(format!(
                "There are two files of the same kind, '{}' and another: name the pair's files.",
                other.display()
            )));
        }
    }
    match (model, mmproj) {
        (Some(model), Some(mmproj)) => Ok([model, mmproj]),
        _ => Err(Error::new("Give the pair: a language model's GGUF file and a vision file's, or the folder of both.")),
    }
}

fn evaluated(
    engine: &mut Engine<Cpu>,
    request: &serde_json::Value,
    images: &[ImageInput],
) -> Result<(Vec<f32>, Vec<Option<u32>>)> {
    Ok(pollster::block_on(engine.evaluate(&request::parse(&request.to_string())?, images))?)
}

/// The tokens that the engine generates behind a prompt.
fn generated(engine: &mut Engine<Cpu>, prompt: &str, images: &[ImageInput], n: usize) -> Result<Vec<u32>> {
    let request = json!({ "prompt": prompt, "temperature": 0, "max_tokens": n }).to_string();
    engine.start_completion(&request::parse(&request)?, images)?;
    let mut ids = Vec::new();
    loop {
        match pollster::block_on(engine.step())? {
            Event::Token { token_ids, .. } => ids.extend(token_ids),
            Event::Done { .. } => return Ok(ids),
            Event::Progress { .. } => {}
        }
    }
}

/// Compares.
pub fn verify(arguments: &Arguments) -> Result<Report> {
    let (checkpoint, model) = convert::open(&arguments.folder, arguments.vision.as_deref())?;
    let mut report = Report { text: String::new(), passes: true };
    if !matches!(model.text.scaling, Scaling::None | Scaling::Llama3 { .. }) {
        return Err(Error::new("verify cannot compute this model's scaling of positions: candle's networks have none such."));
    }
    let [file, mmproj] = files(&arguments.pair)?;
    let mut engine = ask::load(&[file], Some(&mmproj), LoadOptions::new(ask::now))?;
    let dtype = if arguments.half { DType::F16 } else { DType::F32 };
    let name = |part| match part {
        Part::Text(name) if name.starts_with("lm_head") => Some(name),
        Part::Text(name) => Some(format!("model.{name}")),
        _ => None,
    };
    let mut decoder = Decoder::new(&model.text, tensors(&checkpoint, name, dtype)?, dtype)?;

    tokens(&mut report, &engine, &arguments.folder, &arguments.prompt)?;
    let sees = model.vision.tower == Tower::Clip
        && matches!(model.projector, Projector::Linear | Projector::Mlp)
        && model.pictures.grids.is_empty()
        && model.text.architecture == "llama";
    let is_shown = sees && arguments.image.is_some();
    if !is_shown {
        let why = if sees {
            "no --image was given"
        } else {
            "candle has no such network; only LLaVA with one tile over CLIP and LLaMA"
        };
        let _ = writeln!(report.text, "{:<12} not compared: {why}", "pictures");
    }
    let mut images = Vec::new();
    let mut reference = None;
    if let Some(path) = arguments.image.as_ref().filter(|_| is_shown) {
        let bytes = std::fs::read(path).map_err(|e| Error::of_file("read", path, &e))?;
        reference = Some(picture(&mut report, &mut engine, &checkpoint, &model, &bytes, arguments.min_rows)?);
        images.push(ImageInput::Encoded(bytes));
    }
    let prompt = if is_shown { arguments.prompt.clone() } else { arguments.prompt.replace("<image>", "") };
    let (got, slots) = evaluated(&mut engine, &json!({ "prompt": prompt }), &images)?;

    // The same tokens and rows, in the engine's order.
    let runs: Vec<Vec<Option<u32>>> = slots.chunk_by(|a, b| a.is_some() == b.is_some()).map(<[_]>::to_vec).collect();
    let ids: Vec<Vec<u32>> = runs.iter().map(|run| run.iter().flatten().copied().collect()).collect();
    let inputs: Vec<Input<'_>> = ids
        .iter()
        .map(|ids| match &reference {
            Some(rows) if ids.is_empty() => Input::Rows(rows),
            _ => Input::Tokens(ids),
        })
        .collect();
    let mut expected = decoder.prompt(&inputs)?;
    let near = cosine(&got, &expected);
    report.stage("logits", &format!("cosine {near:.6}"), near >= arguments.min_logits);

    let ours = generated(&mut engine, &prompt, &images, arguments.greedy)?;
    let mut theirs = Vec::new();
    for i in 0..ours.len() {
        let id = likeliest(&expected);
        theirs.push(id);
        if i + 1 < ours.len() {
            expected = decoder.run(&[id], slots.len() + i)?;
        }
    }
    let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    // Rounded weights may choose another word of two that are as likely: the count is told, not judged.
    report.stage("greedy", &format!("the first {same} of {} tokens are the same", ours.len()), true);

    perplexity(&mut report, &mut engine, &mut decoder, arguments)?;
    Ok(report)
}

/// Whether the pair's tokenizer makes the folder's tokens.
fn tokens(report: &mut Report, engine: &Engine<Cpu>, folder: &Path, prompt: &str) -> Result<()> {
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        let _ = writeln!(report.text, "{:<12} not compared: the folder has no tokenizer.json", "tokens");
        return Ok(());
    }
    let text = format!("{} {TEXT}", prompt.replace("<image>", ""));
    let original = tokenizers::Tokenizer::from_file(&path).map_err(|e| Error::of_file("read", &path, &e))?;
    let expected = original.encode(text.as_str(), false).map_err(|e| Error::new(e.to_string()))?;
    let got = engine.tokenizer().encode(&text, Special::Plain, false);
    let same = got.iter().zip(expected.get_ids()).take_while(|(a, b)| a == b).count();
    report.stage("tokens", &format!("{same} of {} are the same", expected.len()), got == expected.get_ids());
    Ok(())
}

/// Compares a picture's pixels and rows; gives back the float network's rows.
fn picture(
    report: &mut Report,
    engine: &mut Engine<Cpu>,
    checkpoint: &Checkpoint,
    model: &Model,
    bytes: &[u8],
    least: f32,
) -> Result<Tensor> {
    let image: RgbImage = llava_web::image::decode(bytes)?;
    let ours = engine.preprocess(&image)?;
    let near = cosine(&ours.data, &pixels(bytes, &model.vision)?);
    // Another library's filter: what is looked for are wrong means, colours and places.
    report.stage("pixels", &format!("cosine {near:.6}"), near >= 0.99);
    let reference = rows(checkpoint, model, &ours.data)?;
    let (got, _) = pollster::block_on(engine.embed_image(&image))?;
    let near = cosine(&got, &reference.flatten_all()?.to_vec1::<f32>()?);
    report.stage("rows", &format!("cosine {near:.6}"), near >= least);
    Ok(reference)
}

/// How well both predict a text.
fn perplexity(report: &mut Report, engine: &mut Engine<Cpu>, decoder: &mut Decoder, arguments: &Arguments) -> Result<()> {
    let text = match &arguments.text {
        Some(path) => std::fs::read_to_string(path).map_err(|e| Error::of_file("read", path, &e))?,
        None => TEXT.to_string(),
    };
    let mut ids = engine.tokenizer().encode(&text, Special::Plain, true);
    ids.truncate(arguments.text_tokens + 1);
    if ids.len() < 2 {
        return Ok(());
    }
    decoder.reset()?;
    let (mut ours, mut theirs) = (0.0, 0.0);
    for i in 0..ids.len() - 1 {
        theirs += surprise(&decoder.run(&ids[i..=i], i)?, ids[i + 1]);
        ours += surprise(&evaluated(engine, &json!({ "tokens": ids[..=i] }), &[])?.0, ids[i + 1]);
    }
    let n = (ids.len() - 1) as f64;
    let (ours, theirs) = ((ours / n).exp(), (theirs / n).exp());
    let ratio = (ours / theirs) as f32;
    let found = format!("{ours:.3}, the float network {theirs:.3} (ratio {ratio:.4}) over {n} tokens");
    report.stage("perplexity", &found, ratio <= arguments.max_perplexity);
    Ok(())
}
