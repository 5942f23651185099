//! What a folder's configuration says of its network, with the defaults that Hugging Face's classes leave out of the file.

use std::path::Path;

use serde_json::Value;

use super::weights::Checkpoint;
use super::{json, names};
use crate::error::{Error, Result};

/// OpenAI's, of all CLIP towers.
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// How positions are scaled.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    None,
    Linear {
        factor: f32,
    },
    Yarn {
        factor: f32,
        original: usize,
    },
    /// LLaMA 3's, which becomes a tensor of factors.
    Llama3 {
        factor: f32,
        low: f32,
        high: f32,
        original: f32,
    },
}

/// A language model.
#[derive(Debug, Clone)]
pub struct Text {
    /// As `general.architecture` says it.
    pub architecture: &'static str,
    pub n_embd: usize,
    pub n_ff: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    /// Elements of a head, and whether the configuration says it.
    pub head_dim: (usize, bool),
    pub n_vocab: usize,
    pub context: usize,
    pub eps: f32,
    pub theta: f32,
    pub is_tied: bool,
    pub scaling: Scaling,
}

/// Whose tower it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tower {
    Clip,
    Siglip,
}

/// A vision tower.
#[derive(Debug, Clone)]
pub struct Vision {
    pub tower: Tower,
    pub n_embd: usize,
    pub n_ff: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub image_size: usize,
    pub patch_size: usize,
    pub eps: f32,
    /// CLIP's own, which no LLaVA uses but the files of which all say it.
    pub projection: usize,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// What makes rows of a tower's features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projector {
    Linear,
    Mlp,
    Ldp,
    LdpV2,
    /// With blocks of so many by so many patches.
    Idefics3 {
        scale: usize,
    },
}

/// How pictures are cut, where that is not the family's only way.
#[derive(Debug, Clone, Default)]
pub struct Pictures {
    pub aspect: Option<String>,
    /// Heights and widths.
    pub grids: Vec<[usize; 2]>,
    /// Idefics3's longest side.
    pub longest: Option<usize>,
}

/// A vision-language model.
#[derive(Debug, Clone)]
pub struct Model {
    /// What its makers call the family.
    pub family: &'static str,
    pub text: Text,
    pub vision: Vision,
    pub projector: Projector,
    /// The hidden state that is the feature: 0 is the input of the first block, `i` the output of block `i`. Not for Idefics3.
    pub feature_layer: Option<usize>,
    pub pictures: Pictures,
    /// What a person should know of the conversion.
    pub notes: Vec<String>,
}

/// A number of a configuration, or its class's default.
fn size(config: &Value, key: &str, default: usize) -> Result<usize> {
    match &config[key] {
        Value::Null => Ok(default),
        value => value
            .as_u64()
            .filter(|n| (1..1 << 24).contains(n))
            .map(|n| n as usize)
            .ok_or_else(|| Error::new(format!("config.json gives {key} as {value}, which cannot be right"))),
    }
}

fn float(config: &Value, key: &str, default: f32) -> f32 {
    config[key].as_f64().map_or(default, |x| x as f32)
}

impl Model {
    /// Reads what a folder's `config.json` and its weights' sizes say; `tower` is the folder of a tower that is not in the model's own.
    pub fn read(folder: &Path, checkpoint: &Checkpoint, tower: Option<&Path>) -> Result<Self> {
        let config = json(&folder.join("config.json"))?;
        let model_type = config["model_type"].as_str().unwrap_or("").to_string();
        let is_original = !config["mm_vision_tower"].is_null() || !config["mm_projector_type"].is_null();
        let class = config["architectures"][0].as_str().unwrap_or("").to_string();
        let unknown = || {
            Error::new(format!(
                "config.json says model_type '{model_type}' ({class}), which this program cannot convert. It knows LLaVA 1.5 and 1.6 (from \
                 llava-hf or in the original layout), LLaVA-OneVision and -Interleave, Idefics3 and SmolVLM, MobileVLM. For others use \
                 llama.cpp's convert_hf_to_gguf.py."
            ))
        };
        let family = match model_type.as_str() {
            _ if is_original && (model_type.contains("mobile") || class.contains("Mobile")) => "MobileVLM",
            _ if is_original => "LLaVA, original layout",
            "llava" => "LLaVA",
            "llava_next" => "LLaVA-NeXT",
            "llava_onevision" => "LLaVA-OneVision",
            "idefics3" | "smolvlm" => "SmolVLM",
            _ => return Err(unknown()),
        };
        let text_config = if config["text_config"].is_object() { &config["text_config"] } else { &config };
        let text_type = match is_original {
            true if class.contains("Qwen2") || class.contains("Qwen") => "qwen2",
            true if class.contains("Llama") || class.contains("Mistral") => "llama",
            true => return Err(unknown()),
            false => text_config["model_type"].as_str().unwrap_or("llama"),
        };
        let text = text(text_config, &config, text_type, checkpoint)?;
        let mut notes = Vec::new();
        if let Some(window) = text_config["sliding_window"].as_u64()
            && text.context < text_config["max_position_embeddings"].as_u64().unwrap_or(0) as usize
        {
            notes.push(format!("The model's attention has a window of {window} positions: the file allows no longer context."));
        }

        let vision_config = match tower {
            Some(folder) => json(&folder.join("config.json"))?,
            None => config.clone(),
        };
        let vision_config = if vision_config["vision_config"].is_object() {
            vision_config["vision_config"].clone()
        } else if tower.is_some() {
            vision_config
        } else {
            Value::Null
        };
        let processor = processor(tower.filter(|_| !folder.join("preprocessor_config.json").exists()).unwrap_or(folder))?;
        let is_idefics = family == "SmolVLM";
        let vision = vision(&vision_config, &processor, is_idefics, checkpoint)?;
        // Its code leaves out the tower's last block, and some of its checkpoints have left it out already: which, no configuration says.
        if is_original && vision.tower == Tower::Siglip {
            return Err(Error::new(
                "The model is in the original layout with a SigLIP tower, which this program cannot convert. Use the same model from llava-hf.",
            ));
        }

        let projector = match config["mm_projector_type"].as_str() {
            _ if is_idefics => Projector::Idefics3 { scale: size(&config, "scale_factor", 2)? },
            _ if !is_original => Projector::Mlp,
            None | Some("linear") => Projector::Linear,
            Some("mlp2x_gelu") => Projector::Mlp,
            Some("ldpnet") => Projector::Ldp,
            Some("ldpnetv2") => Projector::LdpV2,
            Some(other) => {
                return Err(Error::new(format!(
                    "config.json says mm_projector_type '{other}', which is not known: linear, mlp2x_gelu, ldpnet and ldpnetv2 are."
                )));
            }
        };
        let act = config["projector_hidden_act"].as_str().unwrap_or("gelu");
        if act != "gelu" {
            return Err(Error::new(format!(
                "config.json says projector_hidden_act '{act}'; no GGUF file can say another than gelu."
            )));
        }
        let layer_key = if is_original { "mm_vision_select_layer" } else { "vision_feature_layer" };
        let feature_layer =
            if is_idefics { None } else { Some(feature_layer(&config[layer_key], layer_key, family, vision.n_layers)?) };
        let select = config[if is_original { "mm_vision_select_feature" } else { "vision_feature_select_strategy" }].as_str();
        if vision.tower == Tower::Clip && matches!(select, Some("full" | "cls_patch")) {
            return Err(Error::new("The model takes CLIP's class token as a row of the picture; no GGUF file can say that."));
        }
        let pictures = pictures(&config, family, is_original, &vision, &processor, &mut notes)?;
        Ok(Self { family, text, vision, projector, feature_layer, pictures, notes })
    }
}

/// The sizes of a tensor by what it is.
fn shape_of<'a>(checkpoint: &'a Checkpoint, wanted: &names::Part) -> Option<&'a [usize]> {
    checkpoint.iter().find(|(name, _)| names::part(name) == *wanted).map(|(_, tensor)| tensor.shape.as_slice())
}

fn text(config: &Value, whole: &Value, text_type: &str, checkpoint: &Checkpoint) -> Result<Text> {
    // What `LlamaConfig`, `MistralConfig` and `Qwen2Config` of transformers leave out.
    let (architecture, n_ff, n_kv, context) = match text_type {
        "llama" => ("llama", 11008, None, 2048),
        "mistral" => ("llama", 14336, Some(8), 131_072),
        "qwen2" => ("qwen2", 22016, Some(32), 32768),
        other => {
            return Err(Error::new(format!(
                "The language model is of the type '{other}', which this program cannot convert: llama, mistral and qwen2 are. For others use \
                 llama.cpp's convert_hf_to_gguf.py."
            )));
        }
    };
    let n_heads = size(config, "num_attention_heads", 32)?;
    let n_kv_heads = size(config, "num_key_value_heads", n_kv.unwrap_or(n_heads))?;
    let n_embd = size(config, "hidden_size", 4096)?;
    let said = !config["head_dim"].is_null();
    let head_dim = size(config, "head_dim", n_embd / n_heads)?;
    if !n_heads.is_multiple_of(n_kv_heads) || !head_dim.is_multiple_of(2) {
        return Err(Error::new(format!(
            "config.json divides {n_embd} elements among {n_heads} and {n_kv_heads} heads, which cannot be right"
        )));
    }
    let embedding = shape_of(checkpoint, &names::Part::Text("embed_tokens.weight".into()))
        .ok_or_else(|| Error::new("The weights lack the embedding table (embed_tokens.weight). Is this a whole model?"))?;
    let is_tied = [config, whole].iter().any(|c| c["tie_word_embeddings"].as_bool() == Some(true));
    let mut context = size(config, "max_position_embeddings", context)?;
    let uses_window = text_type != "qwen2" || config["use_sliding_window"].as_bool() == Some(true);
    if let Some(window) = config["sliding_window"].as_u64().filter(|_| uses_window) {
        context = context.min(window as usize);
    }
    let act = config["hidden_act"].as_str().unwrap_or("silu");
    if act != "silu" {
        return Err(Error::new(format!("The language model's hidden_act is '{act}'; networks of {architecture} have silu.")));
    }
    let rope = if config["rope_parameters"].is_object() { &config["rope_parameters"] } else { &config["rope_scaling"] };
    let theta = rope["rope_theta"].as_f64().or(config["rope_theta"].as_f64()).unwrap_or(10000.0) as f32;
    let factor = float(rope, "factor", 1.0);
    let original = size(rope, "original_max_position_embeddings", context)?;
    let scaling = match rope["rope_type"].as_str().or(rope["type"].as_str()) {
        None | Some("default") => Scaling::None,
        Some("linear") => Scaling::Linear { factor },
        Some("yarn") => Scaling::Yarn { factor, original },
        Some("llama3") => Scaling::Llama3 {
            factor,
            low: float(rope, "low_freq_factor", 1.0),
            high: float(rope, "high_freq_factor", 4.0),
            original: original as f32,
        },
        Some(other) => {
            return Err(Error::new(format!(
                "The language model scales its positions by '{other}', which this program cannot convert: linear, yarn and llama3 are."
            )));
        }
    };
    Ok(Text {
        architecture,
        n_embd,
        n_ff: size(config, "intermediate_size", n_ff)?,
        n_layers: size(config, "num_hidden_layers", 32)?,
        n_heads,
        n_kv_heads,
        head_dim: (head_dim, said),
        n_vocab: embedding.first().copied().unwrap_or(0),
        context,
        eps: float(config, "rms_norm_eps", 1e-6),
        theta,
        is_tied,
        scaling,
    })
}

/// What prepares pictures, as the folder's files say it.
fn processor(folder: &Path) -> Result<Value> {
    for (file, key) in [("preprocessor_config.json", None), ("processor_config.json", Some("image_processor"))] {
        let path = folder.join(file);
        if path.exists() {
            let json = json(&path)?;
            return Ok(key.map_or(json.clone(), |key| json[key].clone()));
        }
    }
    Ok(Value::Null)
}

fn vision(config: &Value, processor: &Value, is_idefics: bool, checkpoint: &Checkpoint) -> Result<Vision> {
    let shape = |name: &str| shape_of(checkpoint, &names::Part::Vision(name.into()));
    let Some(&[width, 3, patch, _]) = shape("embeddings.patch_embedding.weight") else {
        return Err(Error::new(
            "The weights hold no vision tower. Models in the original layout leave it out: give the tower's own folder (such as \
             openai/clip-vit-large-patch14-336) with --vision.",
        ));
    };
    let tower = if shape("embeddings.class_embedding").is_some() { Tower::Clip } else { Tower::Siglip };
    let rows = shape("embeddings.position_embedding.weight").and_then(|s| s.first().copied()).unwrap_or(0);
    let side = (rows - usize::from(tower == Tower::Clip && rows > 0)).isqrt();
    let n_layers = (0..).take_while(|i| shape(&format!("encoder.layers.{i}.layer_norm1.weight")).is_some()).count();
    let n_ff = shape("encoder.layers.0.mlp.fc1.weight").and_then(|s| s.first().copied()).unwrap_or(0);
    // What is not said is what all towers of that width have: heads of 64 elements, but for SigLIP's largest of 72.
    let head_dim = if tower == Tower::Siglip && width == 1152 { 72 } else { 64 };
    let n_heads = match (tower, is_idefics) {
        _ if config.is_null() => (width / head_dim).max(1),
        (_, true) => 16,
        _ => 12,
    };
    let usual_eps = if tower == Tower::Clip { 1e-5 } else { 1e-6 };
    let colours = |key: &str, clip: [f32; 3]| -> Result<[f32; 3]> {
        match &processor[key] {
            Value::Null if tower == Tower::Clip => Ok(clip),
            Value::Null => Ok([0.5; 3]),
            value => {
                let all: Vec<f32> = value.as_array().into_iter().flatten().filter_map(Value::as_f64).map(|x| x as f32).collect();
                all.try_into()
                    .map_err(|_| Error::new(format!("preprocessor_config.json gives {key} as {value}: three numbers are due")))
            }
        }
    };
    let act = config["hidden_act"].as_str();
    let is_right = match act {
        None => true,
        Some("quick_gelu") => tower == Tower::Clip,
        Some("gelu_pytorch_tanh") => tower == Tower::Siglip,
        Some(_) => false,
    };
    if !is_right {
        return Err(Error::new(format!(
            "The vision tower's hidden_act is {act:?}, which readers of GGUF files would not compute: CLIP's is quick_gelu, SigLIP's \
             gelu_pytorch_tanh."
        )));
    }
    let vision = Vision {
        tower,
        n_embd: size(config, "hidden_size", width)?,
        n_ff: size(config, "intermediate_size", n_ff)?,
        n_layers: size(config, "num_hidden_layers", n_layers)?,
        n_heads: size(config, "num_attention_heads", n_heads)?,
        image_size: size(config, "image_size", side * patch)?,
        patch_size: size(config, "patch_size", patch)?,
        eps: float(config, "layer_norm_eps", usual_eps),
        projection: size(config, "projection_dim", if tower == Tower::Clip { 768 } else { 0 }).unwrap_or(0),
        mean: colours("image_mean", CLIP_MEAN)?,
        std: colours("image_std", CLIP_STD)?,
    };
    if !vision.n_embd.is_multiple_of(vision.n_heads) {
        return Err(Error::new(format!(
            "config.json divides {} elements of the tower among {} heads",
            vision.n_embd, vision.n_heads
        )));
    }
    Ok(vision)
}

/// Which hidden state is the feature, counted from the beginning.
fn feature_layer(said: &Value, key: &str, family: &str, n_layers: usize) -> Result<usize> {
    let one = match said {
        Value::Array(all) if all.len() == 1 => &all[0],
        other => other,
    };
    let layer = match one {
        Value::Null if family == "LLaVA-OneVision" => -1,
        Value::Null => -2,
        value => value.as_i64().ok_or_else(|| {
            Error::new(format!("config.json gives {key} as {value}. Only features of one layer can be converted."))
        })?,
    };
    let counted = if layer < 0 { n_layers as i64 + 1 + layer } else { layer };
    usize::try_from(counted)
        .ok()
        .filter(|n| (1..=n_layers).contains(n))
        .ok_or_else(|| Error::new(format!("config.json gives {key} as {layer}, but the tower has {n_layers} layers")))
}

fn pictures(
    config: &Value,
    family: &str,
    is_original: bool,
    vision: &Vision,
    processor: &Value,
    notes: &mut Vec<String>,
) -> Result<Pictures> {
    let mut pictures = Pictures::default();
    let side = vision.image_size;
    match family {
        "SmolVLM" => {
            let longest = processor["size"]["longest_edge"].as_u64().unwrap_or(4 * side as u64) as usize;
            pictures.longest = Some(longest);
            return Ok(pictures);
        }
        "LLaVA-NeXT" => pictures.aspect = Some("anyres".into()),
        "LLaVA-OneVision" => pictures.aspect = Some(config["vision_aspect_ratio"].as_str().unwrap_or("anyres_max_9").into()),
        _ if is_original => pictures.aspect = config["image_aspect_ratio"].as_str().map(str::to_string),
        _ => {}
    }
    let is_tiled = pictures.aspect.as_deref().is_some_and(|aspect| aspect.starts_with("anyres"));
    if !is_tiled {
        if vision.tower == Tower::Siglip && pictures.aspect.as_deref() != Some("pad") {
            notes
                .push("The model's own processor stretches pictures to a square; readers of GGUF files pad them instead.".into());
        }
        return Ok(pictures);
    }
    let merge = config["mm_patch_merge_type"].as_str().unwrap_or("spatial_unpad");
    if merge != "spatial_unpad" {
        return Err(Error::new(format!("config.json says mm_patch_merge_type '{merge}'; only spatial_unpad can be converted.")));
    }
    pictures.grids = match &config["image_grid_pinpoints"] {
        Value::Null if family == "LLaVA-OneVision" => all_grids(6, side),
        Value::Null => [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]].map(|g: [usize; 2]| g.map(|n| n * side)).to_vec(),
        // As OneVision's original configuration writes a range: "(1x1),...,(6x6)".
        Value::String(text) => {
            let last = text.rsplit('x').next().and_then(|n| n.trim_end_matches(')').parse::<usize>().ok());
            all_grids(
                last.filter(|n| (1..=9).contains(n)).ok_or_else(|| {
                    Error::new(format!("config.json gives image_grid_pinpoints as '{text}', which is not known"))
                })?,
                side,
            )
        }
        value => {
            let pair = |pair: &Value| Some([pair[0].as_u64()? as usize, pair[1].as_u64()? as usize]);
            value
                .as_array()
                .into_iter()
                .flatten()
                .map(pair)
                .collect::<Option<Vec<_>>>()
                .filter(|all| !all.is_empty())
                .ok_or_else(|| {
                    Error::new(
                        "config.json gives image_grid_pinpoints in a form that is not known: a list of heights and widths is due",
                    )
                })?
        }
    };
    if let Some(bad) = pictures.grids.iter().find(|grid| grid.iter().any(|n| *n == 0 || n % side != 0)) {
        return Err(Error::new(format!("image_grid_pinpoints holds {bad:?}, which is no multiple of the tower's {side} pixels")));
    }
    // Beyond so many tiles the model shrinks its features, which no reader of GGUF files does: larger grids are left out.
    if let Some(most) =
        pictures.aspect.as_deref().and_then(|a| a.strip_prefix("anyres_max_")).and_then(|n| n.parse::<usize>().ok())
    {
        let n = pictures.grids.len();
        pictures.grids.retain(|[height, width]| 100 * (height / side) * (width / side) <= 121 * most);
        if pictures.grids.len() < n {
            notes.push(format!(
                "Of {n} grids of tiles {} are kept: beyond {most} tiles the model shrinks its features, which readers of GGUF files do not.",
                pictures.grids.len()
            ));
        }
    }
    Ok(pictures)
}

/// All grids of up to `n` by `n` tiles.
fn all_grids(n: usize, side: usize) -> Vec<[usize; 2]> {
    (1..=n).flat_map(|h| (1..=n).map(move |w| [h * side, w * side])).collect()
}
