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

/// How a table of positions is laid over another grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corners {
    /// By the patches' areas, with antialiasing: SigLIP2's NaFlex towers (Tschannen et al. 2025, arXiv 2502.14786).
    Apart,
    /// By the patches' middles, the outermost one on the other: Qwen3-VL.
    Aligned,
}

/// What the table of learned positions is to a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PositionTable {
    /// A row for each patch of a tile, whose size never changes; before them the class token's where there is one.
    Fixed,
    /// A square grid that is resized to the tile's ([`positions::resized`](super::positions::resized)).
    Resized(Corners),
    /// There is none.
    None,
}

/// Windows of a tile: squares that lie side by side from the upper left corner on, cut off at the other ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Rows of the embedding along a side of one.
    pub side: usize,
    /// The last of every so many blocks sees the whole tile.
    pub pattern: usize,
}

impl Windows {
    /// Whether a block's attention stays in windows.
    pub fn hold(self, block: usize) -> bool {
        !(block + 1).is_multiple_of(self.pattern)
    }

    /// The rows of a tile's embedding, window by window, and how many each window has.
    pub fn order(self, rows: usize, cols: usize) -> (Vec<usize>, Vec<usize>) {
        let (mut order, mut lengths) = (Vec::with_capacity(rows * cols), Vec::new());
        for top in (0..rows).step_by(self.side) {
            for left in (0..cols).step_by(self.side) {
                let before = order.len();
                let (bottom, right) = ((top + self.side).min(rows), (left + self.side).min(cols));
                order.extend((top..bottom).flat_map(|y| (left..right).map(move |x| y * cols + x)));
                lengths.push(order.len() - before);
            }
        }
        (order, lengths)
    }
}

/// Pixels along a side of Qwen2.5-VL's windows, which no file says.
const WINDOW_PIXELS: usize = 112;

/// The shape of a vision transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct VitConfig {
    /// Pixels along a side of the input; where tiles have any size, those that the table of positions was made for.
    pub image_size: usize,
    /// Pixels along a side of a patch.
    pub patch_size: usize,
    /// Patches along a side of the block that the projector makes one row of.
    pub merge: usize,
    /// Patches along a side of the blocks in whose order patches come: `merge`, so that those which become one row stand together, or 1, line
    /// by line.
    pub order: usize,
    /// Patches whose features stand side by side in what the projector takes: all of a block, or 1.
    pub joined: usize,
    /// Whether the features are the means of those blocks, rather than all of a block's side by side.
    pub pooled: bool,
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
    /// Whether queries and keys are turned by their patches' rows and columns.
    pub rotary: bool,
    /// Whether norms are of the root mean square alone.
    pub rms_norm: bool,
    /// Whether the feed-forward layer has a gate, whose activation is SiLU.
    pub gated: bool,
    /// Whether patches have two weights, of two frames of a film; a picture is two frames alike.
    pub two_frames: bool,
    /// The windows that attention stays in, but for some blocks.
    pub windows: Option<Windows>,
    /// Blocks behind which features are taken besides those of the end.
    pub taps: Vec<usize>,
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
        // Files of Qwen2-VL give the language model's width there, or none.
        let n_ff = match gguf.tensor("v.blk.0.ffn_up.weight").map(|t| t.info.dims.as_slice()) {
            Some(&[a, b]) if projector == ProjectorKind::Qwen2Vl && a.max(b) <= MAX_WIDTH => {
                if a == n_embd {
                    b
                } else {
                    a
                }
            }
            _ => sized("feed_forward_length", MAX_WIDTH)?,
        };
        let n_heads = sized("attention.head_count", n_embd)?;
        if !n_embd.is_multiple_of(n_heads) {
            return Err(Error::invalid_gguf(format!(
                "'{file}' divides {n_embd} elements among {n_heads} heads, which cannot be right."
            )));
        }
        let n_blocks = sized("block_count", MAX_LAYERS)?;
        let feature_layer = feature_layer(gguf, n_blocks)?;
        let positions = match projector {
            ProjectorKind::Lfm2 => PositionTable::Resized(Corners::Apart),
            ProjectorKind::Qwen3Vl => PositionTable::Resized(Corners::Aligned),
            ProjectorKind::Qwen2Vl | ProjectorKind::Qwen25Vl => PositionTable::None,
            _ => PositionTable::Fixed,
        };
        let rotary = projector.is_qwen();
        if rotary && !(n_embd / n_heads).is_multiple_of(4) {
            return Err(Error::invalid_gguf(format!(
                "'{file}' turns heads of {} elements by rows and columns, which cannot be right.",
                n_embd / n_heads
            )));
        }
        let side = image_size / patch_size;
        let joined = if projector.joins_patches() { merge * merge } else { 1 };
        if (positions == PositionTable::Fixed && !side.is_multiple_of(merge)) || (joined > 1 && !n_embd.is_multiple_of(4)) {
            return Err(Error::invalid_gguf(format!(
                "'{file}' makes one row of {merge} by {merge} patches of {n_embd} elements, but a tile has {side} in a line, which cannot be \
                 right."
            )));
        }
        let has = |name: &str| gguf.tensor(name).is_some();
        let (has_class, has_pre_ln) = (has("v.class_embd"), has("v.pre_ln.weight"));
        if has_class && projector == ProjectorKind::Gemma3 {
            return Err(Error::unsupported_architecture(format!(
                "'{file}' has a class token before the patches whose means the projector '{}' takes, which is not supported.",
                projector.name()
            )));
        }
        let is_siglip = is_siglip(gguf);
        let activation = match projector {
            ProjectorKind::Idefics3 | ProjectorKind::Lfm2 | ProjectorKind::Qwen3Vl | ProjectorKind::Gemma3 => {
                Activation::GeluTanh
            }
            // Of the gated one it is SiLU.
            ProjectorKind::Qwen2Vl | ProjectorKind::Qwen25Vl => Activation::QuickGelu,
            // Their tower is always OpenAI's.
            ProjectorKind::Ldp | ProjectorKind::LdpV2 => Activation::QuickGelu,
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
            order: if projector == ProjectorKind::Ldp { 1 } else { merge },
            joined,
            pooled: projector == ProjectorKind::Gemma3,
            n_embd,
            n_ff,
            n_heads,
            // A file without feature_layer stores just the blocks that are needed: converters drop the rest.
            n_layers: feature_layer.unwrap_or(n_blocks),
            eps: m.float("clip.vision.attention.layer_norm_epsilon").filter(|e| (0.0..1.0).contains(e)).unwrap_or(1e-5),
            activation,
            positions,
            rotary,
            rms_norm: projector == ProjectorKind::Qwen25Vl,
            gated: projector == ProjectorKind::Qwen25Vl,
            two_frames: projector.is_qwen(),
            windows: windows(gguf, projector, patch_size * merge)?,
            taps: taps(gguf, projector, n_blocks)?,
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

    /// Width of the features: those of [`Self::joined`] patches side by side, or their means.
    pub fn n_features(&self) -> usize {
        if self.pooled { self.n_embd } else { self.joined * self.n_embd }
    }

    /// Rows of features of which the projector makes one.
    pub fn features_per_row(&self) -> usize {
        self.merge * self.merge / self.joined
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

/// Qwen2.5-VL's windows.
fn windows(gguf: &Gguf, projector: ProjectorKind, row_pixels: usize) -> Result<Option<Windows>> {
    if projector != ProjectorKind::Qwen25Vl {
        return Ok(None);
    }
    let pattern = gguf.metadata.require_usize("clip.vision.n_wa_pattern")?;
    // 0 stands for none.
    Ok((pattern > 0).then_some(Windows { side: (WINDOW_PIXELS / row_pixels).max(1), pattern }))
}

/// The blocks behind which Qwen3-VL takes features besides.
fn taps(gguf: &Gguf, projector: ProjectorKind, n_blocks: usize) -> Result<Vec<usize>> {
    let said = gguf.metadata.ints("clip.vision.is_deepstack_layers").unwrap_or_default();
    if projector != ProjectorKind::Qwen3Vl || said.iter().all(|is| *is == 0) {
        return Ok(Vec::new());
    }
    if said.len() != n_blocks {
        return Err(Error::invalid_gguf(format!(
            "'{}' says of {} blocks whether their features are taken, but has {n_blocks}.",
            gguf.name(),
            said.len()
        )));
    }
    Ok((0..n_blocks).filter(|block| said[*block] != 0).collect())
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
            // Negative ones count from the end, −1 the last.
            let from_end = || usize::try_from(layer.unsigned_abs()).ok().and_then(|n| (n_blocks + 1).checked_sub(n));
            match usize::try_from(layer).ok().or_else(from_end).filter(|n| (1..=n_blocks).contains(n)) {
                None => Err(Error::invalid_gguf(format!(
                    "'{}' takes features from layer {layer} of {n_blocks}, which cannot be right.",
                    gguf.name()
                ))),
                n => Ok(n),
            }
        }
        _ => Err(Error::unsupported_architecture(format!(
            "'{}' joins the features of {} layers, which is not supported.",
            gguf.name(),
            layers.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::Windows;

    #[test]
    fn windows_are_cut_off_at_the_far_ends() {
        let windows = Windows { side: 2, pattern: 4 };
        assert_eq!(windows.order(3, 3), (vec![0, 1, 3, 4, 2, 5, 6, 7, 8], vec![4, 2, 2, 1]));
        assert_eq!([0, 2, 3, 7].map(|block| windows.hold(block)), [true, true, false, false]);
    }
}
