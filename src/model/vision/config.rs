//! What an mmproj file says of its vision tower.

use crate::backend::{AttentionOp, Heads, Mask};
use crate::error::{Error, Result};
use crate::gguf::Gguf;

const MAX_WIDTH: usize = 1 << 16;
const MAX_LAYERS: usize = 256;
/// Larger pictures are tiled, never fed whole.
const MAX_IMAGE: usize = 2048;
/// The longest sequence; attention is quadratic in it. The largest known towers have 4900 (980 pixels in patches of 14).
const MAX_PATCHES: usize = 8192;

/// The activation between the two linear layers of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The exact GELU.
    Gelu,
    /// `x · sigmoid(1.702 x)`, as OpenAI trained CLIP.
    QuickGelu,
}

/// The shape of a CLIP vision transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipConfig {
    /// Pixels along a side of the input.
    pub image_size: usize,
    /// Pixels along a side of a patch.
    pub patch_size: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width inside the feed-forward layer.
    pub n_ff: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Blocks to run: up to the one whose output is the feature.
    pub n_layers: usize,
    /// Layer norm's epsilon.
    pub eps: f32,
    /// The activation.
    pub activation: Activation,
    /// Whether a class token stands before the patches.
    pub has_class: bool,
    /// Whether there is a norm before the first block.
    pub has_pre_ln: bool,
    /// Whether the features pass a norm after the last block.
    pub uses_post_ln: bool,
    /// Whether the two feed-forward layers are stored under each other's names, as old converters did.
    pub swapped_ffn: bool,
}

impl ClipConfig {
    /// Reads the configuration.
    ///
    /// # Errors
    /// `unsupported_architecture` for a file that is no CLIP tower (with a hint where the two files were swapped), `invalid_gguf` for
    /// missing or impossible numbers.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let m = &gguf.metadata;
        let file = gguf.name();
        let architecture = m.str("general.architecture").unwrap_or("");
        if architecture != "clip" {
            return Err(Error::unsupported_architecture(format!(
                "'{file}' is of the architecture '{architecture}', not a vision file (mmproj). Were the two files swapped? Give it as model."
            )));
        }
        if m.bool("clip.has_vision_encoder") == Some(false) {
            return Err(Error::unsupported_architecture(format!("'{file}' holds no vision tower.")));
        }
        let sized = |name: &str, max: usize| -> Result<usize> {
            let n = m.require_usize(&format!("clip.vision.{name}"))?;
            if n == 0 || n > max {
                return Err(Error::invalid_gguf(format!("'{file}' gives clip.vision.{name} as {n}, which cannot be right.")));
            }
            Ok(n)
        };
        let image_size = sized("image_size", MAX_IMAGE)?;
        let patch_size = sized("patch_size", image_size)?;
        let n_patches = (image_size / patch_size).pow(2);
        if n_patches > MAX_PATCHES {
            return Err(Error::invalid_gguf(format!(
                "'{file}' cuts a picture into {n_patches} patches; at most {MAX_PATCHES} are believable."
            )));
        }
        let n_embd = sized("embedding_length", MAX_WIDTH)?;
        let n_ff = sized("feed_forward_length", MAX_WIDTH)?;
        let n_heads = sized("attention.head_count", n_embd)?;
        if !n_embd.is_multiple_of(n_heads) {
            return Err(Error::invalid_gguf(format!(
                "'{file}' divides {n_embd} elements among {n_heads} heads, which cannot be right."
            )));
        }
        let n_blocks = sized("block_count", MAX_LAYERS)?;
        let feature_layer = feature_layer(gguf, n_blocks)?;
        let down = gguf.tensor("v.blk.0.ffn_down.weight").map(|t| t.info.dims.clone()).unwrap_or_default();
        Ok(Self {
            image_size,
            patch_size,
            n_embd,
            n_ff,
            n_heads,
            // A file without feature_layer stores just the blocks that are needed: converters drop the rest.
            n_layers: feature_layer.unwrap_or(n_blocks),
            eps: m.float("clip.vision.attention.layer_norm_epsilon").filter(|e| (0.0..1.0).contains(e)).unwrap_or(1e-5),
            activation: if m.bool("clip.use_gelu") == Some(true) { Activation::Gelu } else { Activation::QuickGelu },
            has_class: gguf.tensor("v.class_embd").is_some(),
            has_pre_ln: gguf.tensor("v.pre_ln.weight").is_some(),
            uses_post_ln: feature_layer.is_none() && gguf.tensor("v.post_ln.weight").is_some(),
            // The first dimension is the input's: a layer called "down" that takes n_embd in is really the one up. Where both
            // widths are equal the shape cannot tell, but only new files say their type.
            swapped_ffn: if n_embd == n_ff { m.str("general.type") != Some("mmproj") } else { down.first() == Some(&n_embd) },
        })
    }

    /// The attention of every block.
    pub fn attention(&self) -> AttentionOp {
        let heads = Heads { n_heads: self.n_heads, n_kv_heads: self.n_heads, head_dim: self.n_embd / self.n_heads };
        AttentionOp { mask: Mask::Full, ..AttentionOp::causal(heads) }
    }

    /// Patches of a picture.
    pub fn n_patches(&self) -> usize {
        let side = self.image_size / self.patch_size;
        side * side
    }

    /// Rows of the transformer: the patches and the class token.
    pub fn n_positions(&self) -> usize {
        self.n_patches() + usize::from(self.has_class)
    }
}

/// The number of blocks whose output is the feature, where the file says it. It counts hidden states as Hugging Face does: 0 is the
/// input of the first block, `i` the output of block `i`; negative numbers count from the end.
fn feature_layer(gguf: &Gguf, n_blocks: usize) -> Result<Option<usize>> {
    let layers = match gguf.metadata.ints("clip.vision.feature_layer") {
        Some(layers) => layers.to_vec(),
        None => match gguf.metadata.int("clip.vision.feature_layer") {
            Some(layer) => vec![layer],
            None => return Ok(None),
        },
    };
    match layers[..] {
        [] => Ok(None),
        [layer] => {
            let n = if layer < 0 { n_blocks as i64 + 1 + layer } else { layer };
            if !(1..=n_blocks as i64).contains(&n) {
                return Err(Error::invalid_gguf(format!(
                    "'{}' takes features from layer {layer} of {n_blocks}, which cannot be right.",
                    gguf.name()
                )));
            }
            Ok(Some(n as usize))
        }
        _ => Err(Error::unsupported_architecture(format!(
            "'{}' joins the features of {} layers, which is not supported.",
            gguf.name(),
            layers.len()
        ))),
    }
}
