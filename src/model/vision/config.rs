//! What an mmproj file says of its vision tower.

use crate::backend::{AttentionOp, Heads, Mask};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::image::preprocess::MAX_PATCHES;
use crate::model::projector::ProjectorKind;

const MAX_WIDTH: usize = 1 << 16;
const MAX_LAYERS: usize = 256;
/// Larger pictures are tiled, never fed whole.
const MAX_IMAGE: usize = 2048;

/// The activation between the two linear layers of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The exact GELU.
    Gelu,
    /// GELU by the tangent's formula, as SigLIP was trained.
    GeluTanh,
    /// `x · sigmoid(1.702 x)`, as OpenAI trained CLIP.
    QuickGelu,
}

/// What the table of learned positions is to a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionTable {
    /// A row for each patch of a tile, whose size never changes; before them the class token's where there is one.
    Fixed,
    /// A square grid that is resized to the tile's ([`positions::resized`](super::positions::resized)).
    Resized,
}

/// The shape of a vision transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// Pixels along a side of the input; where tiles have any size, those that the table of positions was made for.
    pub image_size: usize,
    /// Pixels along a side of a patch.
    pub patch_size: usize,
    /// Patches along a side of the block that the projector makes one row of.
    pub merge: usize,
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
    /// What the learned positions are.
    pub positions: PositionTable,
    /// Whether a class token stands before the patches.
    pub has_class: bool,
    /// Whether there is a norm before the first block.
    pub has_pre_ln: bool,
    /// Whether the features pass a norm after the last block.
    pub uses_post_ln: bool,
    /// Whether the two feed-forward layers are stored under each other's names, as old converters did.
    pub swapped_ffn: bool,
}

impl VitConfig {
    /// Whether a file is one with a vision tower at all.
    ///
    /// # Errors
    /// `unsupported_architecture` where it is not, with a hint where the two files were swapped.
    pub fn check_file(gguf: &Gguf) -> Result<()> {
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
        Ok(())
    }

    /// Reads the configuration of the tower that stands before a projector of the kind `projector`, with blocks of `merge` by `merge`
    /// patches. What the family decides is decided here: GGUF has one flag for three activations, so it cannot be trusted.
    ///
    /// # Errors
    /// `unsupported_architecture` for features of several layers, `invalid_gguf` for missing or impossible numbers.
    pub fn from_gguf(gguf: &Gguf, projector: ProjectorKind, merge: usize) -> Result<Self> {
        let m = &gguf.metadata;
        let file = gguf.name();
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
        let positions = if projector == ProjectorKind::Lfm2 { PositionTable::Resized } else { PositionTable::Fixed };
        let side = image_size / patch_size;
        if merge > 1 && ((positions == PositionTable::Fixed && !side.is_multiple_of(merge)) || !n_embd.is_multiple_of(4)) {
            return Err(Error::invalid_gguf(format!(
                "'{file}' makes one row of {merge} by {merge} patches of {n_embd} elements, but a tile has {side} in a line, which cannot be \
                 right."
            )));
        }
        let has = |name: &str| gguf.tensor(name).is_some();
        let (has_class, has_pre_ln) = (has("v.class_embd"), has("v.pre_ln.weight"));
        let is_siglip = is_siglip(gguf);
        let activation = match projector {
            ProjectorKind::Idefics3 | ProjectorKind::Lfm2 => Activation::GeluTanh,
            ProjectorKind::InternVl => Activation::Gelu,
            ProjectorKind::Linear | ProjectorKind::Mlp2xGelu if is_siglip => Activation::GeluTanh,
            ProjectorKind::Linear | ProjectorKind::Mlp2xGelu => match m.bool("clip.use_gelu") {
                Some(true) => Activation::Gelu,
                _ => Activation::QuickGelu,
            },
        };
        let down = gguf.tensor("v.blk.0.ffn_down.weight").map(|t| t.info.dims.clone()).unwrap_or_default();
        Ok(Self {
            image_size,
            patch_size,
            merge,
            n_embd,
            n_ff,
            n_heads,
            // A file without feature_layer stores just the blocks that are needed: converters drop the rest.
            n_layers: feature_layer.unwrap_or(n_blocks),
            eps: m.float("clip.vision.attention.layer_norm_epsilon").filter(|e| (0.0..1.0).contains(e)).unwrap_or(1e-5),
            activation,
            positions,
            has_class,
            has_pre_ln,
            uses_post_ln: feature_layer.is_none() && has("v.post_ln.weight"),
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

    /// Width of the features: those of a block of patches side by side.
    pub fn n_features(&self) -> usize {
        self.merge * self.merge * self.n_embd
    }

    /// Rows and columns of the table of positions.
    pub fn table_grid(&self) -> [usize; 2] {
        [self.image_size / self.patch_size; 2]
    }

    /// Rows of the table of positions.
    pub fn n_table_rows(&self) -> usize {
        let [rows, cols] = self.table_grid();
        rows * cols + usize::from(self.has_class)
    }
}

/// Whether the tower is SigLIP's rather than CLIP's, for families that had both: CLIP's patches have no bias; SigLIP's have one, and neither a
/// class token nor a norm before the first block.
pub fn is_siglip(gguf: &Gguf) -> bool {
    let has = |name: &str| gguf.tensor(name).is_some();
    has("v.patch_embd.bias") && !has("v.class_embd") && !has("v.pre_ln.weight")
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
