//! What a LLaMA-family file says of its network.

use crate::backend::{Heads, RopeStyle};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::rope::{RopeConfig, RopeScaling};

/// The architectures that share LLaMA's block, as `general.architecture` spells them: how they turn heads, and whether they store
/// projections one below the other (`attn_qkv`, `ffn_up` = gate and up).
const ARCHITECTURES: [(&str, RopeStyle, bool); 3] =
    [("llama", RopeStyle::Adjacent, false), ("qwen2", RopeStyle::Halves, false), ("phi3", RopeStyle::Halves, true)];

/// More than any model that fits a browser; every width is held to it, so that products of two fit into 64 bits.
const MAX_WIDTH: usize = 1 << 17;
const MAX_LAYERS: usize = 512;
/// More positions than this are never asked for by default; it bounds the key-value cache.
const DEFAULT_CONTEXT: usize = 4096;

/// The shape of a LLaMA-family decoder.
#[derive(Debug, Clone)]
pub struct LlamaConfig {
    /// `general.architecture`.
    pub architecture: String,
    /// Decoder blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width inside the feed-forward layer.
    pub n_ff: usize,
    /// Attention heads.
    pub heads: Heads,
    /// RMS norm's epsilon.
    pub eps: f32,
    /// Which elements are turned together.
    pub rope_style: RopeStyle,
    /// The vocabulary's size, from the embedding table.
    pub n_vocab: usize,
    /// Positions the model was made for.
    pub n_ctx_train: usize,
    /// Whether projections are stored one below the other.
    pub fused: bool,
    /// Whether the output matrix is the embedding table.
    pub tied: bool,
    pub(super) rope: RopeConfig,
    /// Positions of the training before scaling, where the file says so.
    pub(super) original_context: Option<usize>,
    /// The magnitude of LongRoPE's cosines and sines, where the file says it.
    pub(super) attn_factor: Option<f64>,
}

impl LlamaConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// `unsupported_architecture` for another network (with a hint where the two files were swapped), `invalid_gguf` for missing or
    /// impossible numbers.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let m = &gguf.metadata;
        let file = gguf.name();
        let architecture = m.str("general.architecture").unwrap_or("").to_string();
        if architecture == "clip" {
            return Err(Error::unsupported_architecture(format!(
                "'{file}' is a vision file (mmproj), not a language model. Were the two files swapped? Give it as mmproj."
            )));
        }
        let Some((_, rope_style, fused)) = ARCHITECTURES.iter().find(|(name, ..)| *name == architecture) else {
            return Err(Error::unsupported_architecture(format!(
                "'{file}' is of the architecture '{architecture}', which is not supported. Language models of the kinds {} are.",
                ARCHITECTURES.map(|a| a.0).join(", ")
            )));
        };
        let key = |name: &str| format!("{architecture}.{name}");
        if m.uint(&key("expert_count")).is_some_and(|n| n > 0) {
            return Err(Error::unsupported_architecture(format!(
                "'{file}' is a mixture-of-experts model, which is not supported."
            )));
        }
        let sized = |name: &str, max: usize| -> Result<usize> {
            let n = m.require_usize(&key(name))?;
            if n == 0 || n > max {
                return Err(Error::invalid_gguf(format!("'{file}' gives {} as {n}, which cannot be right.", key(name))));
            }
            Ok(n)
        };
        let n_layers = sized("block_count", MAX_LAYERS)?;
        let n_embd = sized("embedding_length", MAX_WIDTH)?;
        let n_ff = sized("feed_forward_length", MAX_WIDTH)?;
        let n_heads = sized("attention.head_count", MAX_WIDTH)?;
        let n_kv_heads =
            if m.contains(&key("attention.head_count_kv")) { sized("attention.head_count_kv", n_heads)? } else { n_heads };
        let head_dim =
            if m.contains(&key("attention.key_length")) { sized("attention.key_length", 4096)? } else { n_embd / n_heads };
        let value_dim = m.uint(&key("attention.value_length")).map_or(head_dim, |v| v as usize);
        if !n_heads.is_multiple_of(n_kv_heads) || head_dim == 0 || n_heads * head_dim > MAX_WIDTH || value_dim != head_dim {
            return Err(Error::unsupported_architecture(format!(
                "'{file}' has {n_heads} heads over {n_kv_heads} key-value heads of {head_dim} and {value_dim} elements, which is not supported."
            )));
        }
        let eps = m
            .float(&key("attention.layer_norm_rms_epsilon"))
            .filter(|e| (0.0..1.0).contains(e))
            .ok_or_else(|| Error::invalid_gguf(format!("'{file}' lacks a sound {}.", key("attention.layer_norm_rms_epsilon"))))?;
        let embedding = gguf.tensor("token_embd.weight").ok_or_else(|| {
            Error::invalid_gguf(format!("'{file}' lacks the tensor 'token_embd.weight'. It holds no language model."))
        })?;
        let n_vocab = embedding.info.n_rows();
        let n_ctx_train = sized("context_length", 1 << 24)?;
        let n_rot = m.uint(&key("rope.dimension_count")).map_or(head_dim, |v| v as usize);
        if n_rot == 0 || !n_rot.is_multiple_of(2) || n_rot > head_dim {
            return Err(Error::invalid_gguf(format!(
                "'{file}' turns {n_rot} of {head_dim} elements of a head, which cannot be right."
            )));
        }
        let original_context = match m.uint(&key("rope.scaling.original_context_length")) {
            Some(n) if n < 2 || n > n_ctx_train as u64 => {
                return Err(Error::invalid_gguf(format!(
                    "'{file}' gives an original context of {n} of {n_ctx_train} tokens, which cannot be right."
                )));
            }
            n => n.map(|n| n as usize),
        };
        let attn_factor = m.float(&key("rope.scaling.attn_factor")).map(f64::from).filter(|f| *f > 0.0 && f.is_finite());
        let rope = RopeConfig {
            n_rot,
            freq_base: f64::from(m.float(&key("rope.freq_base")).filter(|b| *b > 1.0 && b.is_finite()).unwrap_or(10000.0)),
            scaling: rope_scaling(gguf, &architecture, original_context.unwrap_or(n_ctx_train))?,
            factors: None,
            magnitude: 1.0,
        };
        Ok(Self {
            heads: Heads { n_heads, n_kv_heads, head_dim },
            n_layers,
            n_embd,
            n_ff,
            eps,
            rope_style: *rope_style,
            n_vocab,
            n_ctx_train,
            fused: *fused,
            tied: gguf.tensor("output.weight").is_none(),
            rope,
            original_context,
            attn_factor,
            architecture,
        })
    }

    /// The context to use where the caller names none: the model's, but at most 4096 positions.
    pub fn default_context(&self) -> usize {
        self.n_ctx_train.min(DEFAULT_CONTEXT)
    }

    /// Elements of all query heads.
    pub fn n_q(&self) -> usize {
        self.heads.n_heads * self.heads.head_dim
    }

    /// Elements of all key heads.
    pub fn n_kv(&self) -> usize {
        self.heads.n_kv_heads * self.heads.head_dim
    }
}

fn rope_scaling(gguf: &Gguf, architecture: &str, original_context: usize) -> Result<RopeScaling> {
    let m = &gguf.metadata;
    let number = |name: &str| m.float(&format!("{architecture}.rope.scaling.{name}")).map(f64::from).filter(|v| v.is_finite());
    let kind = m.str(&format!("{architecture}.rope.scaling.type"));
    // Files of 2023 spell linear scaling so.
    let old_linear = m.float(&format!("{architecture}.rope.scale_linear")).map(f64::from).filter(|f| *f >= 1.0 && f.is_finite());
    let factor = number("factor").filter(|f| *f >= 1.0);
    Ok(match (kind, factor) {
        (Some("none"), _) => RopeScaling::None,
        // A factor without a type is a linear one.
        (None, factor) => old_linear.or(factor).map_or(RopeScaling::None, |factor| RopeScaling::Linear { factor }),
        // LongRoPE's factors are tensors of their own, applied when the context is known.
        (Some("longrope"), _) => RopeScaling::None,
        (Some("linear"), Some(factor)) => RopeScaling::Linear { factor },
        (Some("yarn"), Some(factor)) => RopeScaling::Yarn {
            factor,
            original_context: original_context as f64,
            ext_factor: number("yarn_ext_factor").unwrap_or(1.0),
            attn_factor: number("yarn_attn_factor").or_else(|| number("attn_factor")).unwrap_or(1.0),
            beta_fast: number("yarn_beta_fast").unwrap_or(32.0),
            beta_slow: number("yarn_beta_slow").unwrap_or(1.0),
        },
        (Some(kind), _) => {
            return Err(Error::unsupported_architecture(format!(
                "'{}' scales its positions by the method '{kind}' (factor {factor:?}), which is not supported.",
                gguf.name()
            )));
        }
    })
}
