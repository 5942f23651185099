//! What a LLaMA-family file says of its network.

use crate::backend::{AttentionOp, Gating, Heads, Mask, RopeStyle};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::decoder::Dims;
use crate::model::keys::{self, Key};
use crate::model::rope::{RopeConfig, RopeScaling, Sections};

/// An architecture that shares LLaMA's block.
pub(super) struct Architecture {
    /// As `general.architecture` spells it.
    pub(super) name: &'static str,
    /// Which elements of a head are turned together.
    pub(super) rope_style: RopeStyle,
    /// Whether `ffn_up` holds the gate's rows, then those of the layer up.
    pub(super) fused_gate_up: bool,
    /// Whether each head of the queries and keys passes a norm of its own before it is turned.
    pub(super) qk_norm: bool,
    /// Whether what each half of a block adds passes a norm of its own.
    pub(super) post_norms: bool,
    /// The activation of the feed-forward layer's gate.
    pub(super) gating: Gating,
}

impl Architecture {
    /// One that differs from LLaMA in no more than that.
    pub(super) const fn new(name: &'static str, rope_style: RopeStyle) -> Self {
        Self { name, rope_style, fused_gate_up: false, qk_norm: false, post_norms: false, gating: Gating::Silu }
    }
}

const ARCHITECTURES: [Architecture; 6] = [
    Architecture::new("llama", RopeStyle::Adjacent),
    Architecture::new("qwen2", RopeStyle::Halves),
    Architecture::new("qwen2vl", RopeStyle::Halves),
    Architecture { qk_norm: true, ..Architecture::new("qwen3", RopeStyle::Halves) },
    Architecture { qk_norm: true, ..Architecture::new("qwen3vl", RopeStyle::Halves) },
    Architecture { fused_gate_up: true, ..Architecture::new("phi3", RopeStyle::Halves) },
];

/// More than any model that fits a browser; every width is held to it, so that products of two fit into 64 bits.
const MAX_WIDTH: usize = 1 << 17;
const MAX_LAYERS: usize = 512;
/// Sixty times the largest known vocabulary.
const MAX_VOCAB: usize = 1 << 24;

/// What may stand under the architecture's name. Where 0 switches something off, or 1 is a factor that changes nothing, just that is
/// allowed.
const KEYS: &[(&str, Key)] = &[
    ("block_count", Key::Read),
    ("context_length", Key::Read),
    ("embedding_length", Key::Read),
    ("feed_forward_length", Key::Read),
    ("attention.head_count", Key::Read),
    ("attention.head_count_kv", Key::Read),
    ("attention.key_length", Key::Read),
    ("attention.value_length", Key::Read),
    ("attention.layer_norm_rms_epsilon", Key::Read),
    ("attention.scale", Key::Read),
    ("attention.sliding_window", Key::Read),
    ("attn_logit_softcapping", Key::Read),
    ("expert_count", Key::Read),
    ("rope.dimension_count", Key::Read),
    ("rope.freq_base", Key::Read),
    ("rope.scale_linear", Key::Read),
    ("rope.scaling.type", Key::Read),
    ("rope.scaling.factor", Key::Read),
    ("rope.scaling.attn_factor", Key::Read),
    ("rope.scaling.original_context_length", Key::Read),
    ("rope.scaling.yarn_ext_factor", Key::Read),
    ("rope.scaling.yarn_attn_factor", Key::Read),
    ("rope.scaling.yarn_beta_fast", Key::Read),
    ("rope.scaling.yarn_beta_slow", Key::Read),
    // The embedding table's rows say it, and where tensors came from or what else they serve changes no logit.
    ("vocab_size", Key::Harmless),
    ("tensor_data_layout", Key::Harmless),
    ("rope.scaling.finetuned", Key::Harmless),
    ("pooling_type", Key::Harmless),
    // Of another kind of norm, and of experts, which are refused where there are any.
    ("attention.layer_norm_epsilon", Key::Harmless),
    ("expert_used_count", Key::Harmless),
    ("expert_feed_forward_length", Key::Harmless),
    ("expert_weights_norm", Key::Harmless),
    ("expert_weights_scale", Key::Harmless),
    ("expert_gating_func", Key::Harmless),
    ("expert_shared_count", keys::OFF),
    ("expert_shared_feed_forward_length", keys::OFF),
    ("leading_dense_block_count", keys::OFF),
    ("interleave_moe_layer_step", keys::OFF),
    ("nextn_predict_layers", keys::OFF),
    ("use_parallel_residual", keys::OFF),
    ("final_logit_softcapping", keys::OFF),
    ("attention.causal", Key::Only(&[1.0])),
    ("attention.clamp_kqv", keys::OFF),
    ("attention.max_alibi_bias", keys::OFF),
    ("attention.temperature_scale", keys::OFF),
    ("attention.output_scale", keys::NO_FACTOR),
    ("attention.shared_kv_layers", keys::OFF),
    // 1, or a list of true: every layer has the window.
    ("attention.sliding_window_pattern", Key::Only(&[1.0])),
    ("rope.dimension_sections", keys::OFF),
    ("rope.scaling.yarn_log_multiplier", keys::OFF),
    ("logit_scale", keys::NO_FACTOR),
    ("residual_scale", keys::NO_FACTOR),
    ("embedding_scale", keys::NO_FACTOR),
];

/// What may stand there besides where positions have three numbers.
const MROPE_KEYS: &[(&str, Key)] = &[("rope.dimension_sections", Key::Read), ("n_deepstack_layers", Key::Read)];

/// How an architecture's positions turn pairs by three numbers, given how many pairs each turns.
fn mrope(architecture: &str) -> Option<fn([usize; 3]) -> Sections> {
    match architecture {
        "qwen2vl" => Some(Sections::InTurn),
        "qwen3vl" => Some(Sections::Interleaved),
        _ => None,
    }
}

/// The shape of a LLaMA-family decoder.
#[derive(Debug, Clone)]
pub struct LlamaConfig {
    /// What others have to know of it.
    pub dims: Dims,
    /// Width inside the feed-forward layer.
    pub n_ff: usize,
    /// RMS norm's epsilon.
    pub eps: f32,
    /// Which elements are turned together.
    pub rope_style: RopeStyle,
    /// Whether the projections to queries, keys and values are stored one below the other, as `attn_qkv`.
    pub fused_qkv: bool,
    /// Whether those of the gate and up are, as `ffn_up`.
    pub fused_gate_up: bool,
    /// Whether each head of the queries and keys passes a norm of its own before it is turned.
    pub qk_norm: bool,
    /// Whether what each half of a block adds passes a norm of its own.
    pub post_norms: bool,
    /// The activation of the feed-forward layer's gate.
    pub gating: Gating,
    /// Whether the output matrix is the embedding table.
    pub tied: bool,
    /// Layers from the first on behind which pictures add to their rows.
    pub n_deeper: usize,
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
    /// `unsupported_architecture` for what is not computed, `invalid_gguf` for missing or impossible numbers.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let architecture = gguf.metadata.str("general.architecture").unwrap_or("");
        let Some(of_kind) = ARCHITECTURES.iter().find(|of_kind| of_kind.name == architecture) else {
            return Err(Error::internal(format!("'{architecture}' is no relative of LLaMA.")));
        };
        Self::read(gguf, of_kind, None, &[])
    }

    /// Reads what a network has in common with LLaMA. `kv_heads` are the key-value heads of each layer, 0 for one without attention, where
    /// that is no single number; `more` are keys that only it has.
    ///
    /// # Errors
    /// As [`Self::from_gguf`].
    pub(super) fn read(gguf: &Gguf, of_kind: &Architecture, kv_heads: Option<&[usize]>, more: &[(&str, Key)]) -> Result<Self> {
        let m = &gguf.metadata;
        let file = gguf.name();
        let architecture = m.str("general.architecture").unwrap_or("").to_string();
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
        let (attention_layers, n_kv_heads) = match kv_heads {
            Some(of_layers) => some_layers(gguf, of_layers, n_layers, n_heads)?,
            None if m.contains(&key("attention.head_count_kv")) => {
                ((0..n_layers).collect(), sized("attention.head_count_kv", n_heads)?)
            }
            None => ((0..n_layers).collect(), n_heads),
        };
        let mrope = mrope(&architecture);
        let of_positions = if mrope.is_some() { MROPE_KEYS } else { &[] };
        keys::check(gguf, &architecture, &[KEYS, of_positions, more].concat())?;
        let head_dim =
            if m.contains(&key("attention.key_length")) { sized("attention.key_length", 4096)? } else { n_embd / n_heads };
        let value_dim = m.size(&key("attention.value_length")).unwrap_or(head_dim);
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
        if n_vocab > MAX_VOCAB {
            return Err(Error::invalid_gguf(format!("'{file}' embeds {n_vocab} tokens, which cannot be right.")));
        }
        let n_ctx_train = sized("context_length", 1 << 24)?;
        let n_rot = m.size(&key("rope.dimension_count")).unwrap_or(head_dim);
        if n_rot == 0 || !n_rot.is_multiple_of(2) || n_rot > head_dim {
            return Err(Error::invalid_gguf(format!(
                "'{file}' turns {n_rot} of {head_dim} elements of a head, which cannot be right."
            )));
        }
        let original_context = match m.size(&key("rope.scaling.original_context_length")) {
            Some(n) if n < 2 || n > n_ctx_train => {
                return Err(Error::invalid_gguf(format!(
                    "'{file}' gives an original context of {n} of {n_ctx_train} tokens, which cannot be right."
                )));
            }
            n => n,
        };
        let attn_factor = m.float(&key("rope.scaling.attn_factor")).map(f64::from).filter(|f| *f > 0.0 && f.is_finite());
        let rope = RopeConfig {
            n_rot,
            freq_base: f64::from(m.float(&key("rope.freq_base")).filter(|b| *b > 1.0 && b.is_finite()).unwrap_or(10000.0)),
            scaling: rope_scaling(gguf, &architecture, original_context.unwrap_or(n_ctx_train))?,
            factors: None,
            magnitude: 1.0,
            sections: mrope.map(|kind| sections(gguf, &architecture, n_rot / 2).map(kind)).transpose()?,
        };
        let n_deeper = m.size(&key("n_deepstack_layers")).filter(|_| architecture == "qwen3vl").unwrap_or(0);
        if n_deeper > n_layers {
            return Err(Error::invalid_gguf(format!(
                "'{file}' takes rows of pictures behind {n_deeper} of {n_layers} layers, which cannot be right."
            )));
        }
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        let attention = attention(gguf, &architecture, heads, n_ctx_train)?;
        let (n_q, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let work_per_row = n_embd as u64 * (2 * n_q + 2 * n_kv + 3 * n_ff) as u64;
        Ok(Self {
            dims: Dims {
                architecture,
                n_layers,
                attention_layers,
                n_embd,
                n_vocab,
                n_ctx_train,
                attention,
                local: None,
                pictures_see_themselves: false,
                work_per_row,
            },
            n_ff,
            eps,
            rope_style: of_kind.rope_style,
            // Some converters can store them so for any architecture.
            fused_qkv: gguf.tensor("blk.0.attn_qkv.weight").is_some(),
            fused_gate_up: of_kind.fused_gate_up,
            qk_norm: of_kind.qk_norm,
            post_norms: of_kind.post_norms,
            gating: of_kind.gating,
            tied: gguf.tensor("output.weight").is_none(),
            n_deeper,
            rope,
            original_context,
            attn_factor,
        })
    }
}

/// Which layers have attention, and the key-value heads of those, of each layer's number of key-value heads.
fn some_layers(gguf: &Gguf, of_layers: &[usize], n_layers: usize, n_heads: usize) -> Result<(Vec<usize>, usize)> {
    let layers: Vec<usize> = (0..of_layers.len()).filter(|i| of_layers[*i] > 0).collect();
    let n_kv_heads = layers.first().map_or(0, |i| of_layers[*i]);
    let file = gguf.name();
    if of_layers.len() != n_layers || n_kv_heads > n_heads {
        return Err(Error::invalid_gguf(format!(
            "'{file}' gives the key-value heads of {n_layers} layers of {n_heads} heads as {of_layers:?}, which cannot be right."
        )));
    }
    if layers.is_empty() || layers.iter().any(|i| of_layers[*i] != n_kv_heads) {
        return Err(Error::unsupported_architecture(format!(
            "'{file}' gives the key-value heads of its layers as {of_layers:?}. Only models whose attention layers (at least one) have the same \
             number are supported."
        )));
    }
    Ok((layers, n_kv_heads))
}

/// How many of a head's `n_pairs` are turned by time, by height and by width.
fn sections(gguf: &Gguf, architecture: &str, n_pairs: usize) -> Result<[usize; 3]> {
    let key = format!("{architecture}.rope.dimension_sections");
    let said = gguf.metadata.ints(&key).unwrap_or_default();
    let all: Vec<usize> = said.iter().filter_map(|n| usize::try_from(*n).ok().filter(|n| *n <= n_pairs)).collect();
    // A fourth is of a kind of input that there is none of.
    match all[..] {
        [time, height, width] | [time, height, width, 0] if all.len() == said.len() && time + height + width == n_pairs => {
            Ok([time, height, width])
        }
        _ => Err(Error::invalid_gguf(format!(
            "'{}' gives {key} as {said:?}, which cannot be right: it must divide {n_pairs} pairs of a head among time, height and width.",
            gguf.name()
        ))),
    }
}

/// The attention that the metadata describes: the scale, the window and the soft cap where it names them.
fn attention(gguf: &Gguf, architecture: &str, heads: Heads, n_ctx_train: usize) -> Result<AttentionOp> {
    let m = &gguf.metadata;
    let wrong = |key: &str| {
        let value = m.get(key);
        Error::invalid_gguf(format!("'{}' gives {key} as {value:?}, which cannot be right.", gguf.name()))
    };
    // A number over 0; a missing one and 0 stand for "as usual".
    let positive = |name: &str| -> Result<Option<f32>> {
        let key = format!("{architecture}.{name}");
        match m.float(&key) {
            Some(x) if x < 0.0 || !x.is_finite() => Err(wrong(&key)),
            None if m.contains(&key) => Err(wrong(&key)),
            x => Ok(x.filter(|x| *x > 0.0)),
        }
    };
    let window = format!("{architecture}.attention.sliding_window");
    if m.contains(&window) && m.uint(&window).is_none() {
        return Err(wrong(&window));
    }
    // One that all positions fit into hides nothing.
    let window = m.size(&window).filter(|n| (1..n_ctx_train).contains(n));
    let usual = AttentionOp::causal(heads);
    Ok(AttentionOp {
        scale: positive("attention.scale")?.unwrap_or(usual.scale),
        mask: window.map_or(Mask::Causal, Mask::Window),
        softcap: positive("attn_logit_softcapping")?,
        ..usual
    })
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
