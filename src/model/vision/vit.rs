//! The vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) of all the families that are loaded, from CLIP (Radford et al.
//! 2021, arXiv 2103.00020) to SigLIP (Zhai et al. 2023, arXiv 2303.15343) and InternViT; what a family has and another has not is an option
//! of [`VitConfig`].
//!
//! ```text
//! x = [class, Wpatch·patches] + positions;  x = pre_ln(x)
//! x += s1 ⊙ Wo · attention(Wq·n, Wk·n, Wv·n),    n = ln1(x)
//! x += s2 ⊙ Wfc2 · act(Wfc1·n),                  n = ln2(x)
//! x = post_ln(x)
//! ```
//!
//! Qwen's towers turn queries and keys by their patches' places (Qwen2-VL: Wang et al. 2024, arXiv 2409.12191); Qwen3-VL gives features of
//! some earlier blocks besides those of the last.
//!
//! The patch convolution has stride = kernel, so it is a linear layer over patches. Patches come in the order of the blocks that the projector
//! makes one row of ([`in_blocks`]): attention does not care about their order, and then the merge is a mere joining of neighbours, or a mean
//! of them. Only what convolves over the grid of patches wants them line by line ([`VitConfig::order`]).

use crate::backend::{Backend, Epilogue, GateUp, Gating, KvSource, Linear, Qkv, RopeStyle};
use crate::error::Result;
use crate::image::in_blocks;
use crate::model::vision::config::{Activation, Corners, PositionTable, VitConfig};
use crate::model::vision::positions;
use crate::model::weights::{Norm, Plan, Weights};

/// The weights of the patches of two frames.
const FRAMES: [&str; 2] = ["v.patch_embd.weight", "v.patch_embd.weight.1"];

/// The shape of the table of zeros that Qwen2-VL's first converter wrote for positions that there are none of.
const PLACEHOLDER: [usize; 2] = [10, 10];

struct Block<B: Backend> {
    ln1: Norm<B>,
    q: Linear<B>,
    k: Linear<B>,
    v: Linear<B>,
    attn_out: Linear<B>,
    /// `[1, n_embd]`: the scale of what attention adds.
    scale1: Option<B::Tensor>,
    ln2: Norm<B>,
    /// Of a gated feed-forward layer, whose other layer up is `fc1`.
    gate: Option<Linear<B>>,
    fc1: Linear<B>,
    fc2: Linear<B>,
    /// `[1, n_embd]`: the scale of what the feed-forward layer adds.
    scale2: Option<B::Tensor>,
}

/// The learned positions.
enum Positions<B: Backend> {
    /// `[n_positions, n_embd]`, in the order in which rows come: the same for every tile.
    Fixed(B::Tensor),
    /// `[rows · cols, n_embd]` in reading order, to be resized to each tile's grid.
    Table(Vec<f32>, Corners),
    /// There are none.
    None,
}

/// A loaded vision tower.
pub struct Vit<B: Backend> {
    /// The shape.
    pub config: VitConfig,
    patch_embd: Linear<B>,
    /// `[1, n_embd]`
    class_embd: Option<B::Tensor>,
    positions: Positions<B>,
    pre_ln: Option<Norm<B>>,
    post_ln: Option<Norm<B>>,
    blocks: Vec<Block<B>>,
}

/// The activations of one tile on its way through the tower; made anew for each, because pictures are rare and the memory
/// (some 25 MB for a ViT-L at 336 pixels) is better given back.
pub struct VitJob<B: Backend> {
    /// Patches of the tile.
    n_patches: usize,
    /// `[n_rows, n_embd]`: the residual stream; a row is a patch or the class token.
    x: B::Tensor,
    /// `[n_rows, n_embd]`
    norm: B::Tensor,
    /// `[n_rows, n_embd]`
    q: B::Tensor,
    /// `[n_rows, n_embd]`
    k: B::Tensor,
    /// `[n_rows, n_embd]`
    v: B::Tensor,
    /// `[n_rows, n_embd]`
    attn: B::Tensor,
    /// `[n_rows, n_ff]`
    ff: B::Tensor,
    /// `[n_rows, n_ff]`: the gate of a gated feed-forward layer.
    gate: Option<B::Tensor>,
    /// `[n_rows, head_dim]`: the angles that queries and keys are turned by.
    rope: Option<B::Tensor>,
    /// `[n_patches / joined, joined · n_embd]` each: features behind some of the blocks.
    taps: Vec<B::Tensor>,
    windows: Option<WindowJob<B>>,
}

/// Patches that are kept window by window.
struct WindowJob<B: Backend> {
    /// The rows of the embedding in the order in which they are kept.
    order: Vec<usize>,
    /// Patches of each window.
    lengths: Vec<usize>,
    /// `[the most patches of a window, n_embd]` each: its queries, keys, values, and what attention makes of them.
    scratch: [B::Tensor; 4],
}

impl<B: Backend> Vit<B> {
    /// Names every tensor this configuration needs.
    pub fn plan(config: &VitConfig, plan: &mut Plan<'_>) {
        let (n, p) = (config.n_embd, config.patch_size);
        if config.two_frames {
            // One that has seen films has a weight for each of two frames.
            FRAMES.iter().for_each(|name| plan.floats(name, &[p, p, 3, n]));
        } else {
            plan.convolution("v.patch_embd.weight", &[p, p, 3], n);
        }
        plan.optional_floats("v.patch_embd.bias", &[n]);
        plan.optional_floats("v.class_embd", &[n]);
        if config.positions != PositionTable::None {
            plan.floats("v.position_embd.weight", &[n, config.n_table_rows()]);
        } else if plan.gguf().tensor("v.position_embd.weight").is_some_and(|t| t.info.dims == PLACEHOLDER) {
            plan.ignore("v.position_embd.weight");
        }
        if config.has_pre_ln {
            plan.norm("v.pre_ln", n);
        }
        if config.uses_post_ln {
            plan.norm("v.post_ln", n);
        } else {
            plan.ignore("v.post_ln.");
        }
        let (fc1, fc2) = fc_names(config);
        for i in 0..config.n_layers {
            let name = |part: &str| format!("v.blk.{i}.{part}");
            plan.norm(&name("ln1"), n);
            plan.norm(&name("ln2"), n);
            // Some converters store the three one below the other.
            let qkv = ["attn_q", "attn_k", "attn_v"].map(|part| (name(part), n));
            if plan.has(&name("attn_qkv.weight")) {
                plan.linear_parts(&name("attn_qkv"), n, &qkv);
            } else {
                qkv.iter().for_each(|(part, n_out)| plan.linear(part, n, *n_out));
            }
            if config.gated {
                plan.linear(&name("ffn_gate"), n, config.n_ff);
            }
            plan.linear(&name("attn_out"), n, n);
            plan.matrix(&name(&format!("{fc1}.weight")), n, config.n_ff);
            plan.matrix(&name(&format!("{fc2}.weight")), config.n_ff, n);
            // Where the widths are equal the names of the biases must follow the weights'.
            plan.optional_floats(&name(&format!("{fc1}.bias")), &[config.n_ff]);
            plan.optional_floats(&name(&format!("{fc2}.bias")), &[n]);
            plan.optional_floats(&name("ls1.weight"), &[n]);
            plan.optional_floats(&name("ls2.weight"), &[n]);
        }
        // Blocks behind the one whose output is the feature.
        let n_stored = plan.gguf().metadata.size("clip.vision.block_count").unwrap_or(0);
        for i in config.n_layers..n_stored.max(config.n_layers) {
            plan.ignore(&format!("v.blk.{i}."));
        }
    }

    /// Makes the tower of its weights.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn new(config: VitConfig, backend: &mut B, w: &mut Weights<B>) -> Result<Self> {
        let n = config.n_embd;
        let (fc1, fc2) = fc_names(&config);
        let mut blocks = Vec::with_capacity(config.n_layers);
        for i in 0..config.n_layers {
            let name = |part: &str| format!("v.blk.{i}.{part}");
            blocks.push(Block {
                ln1: w.norm(backend, &name("ln1"), n)?,
                q: w.linear(backend, &name("attn_q"))?,
                k: w.linear(backend, &name("attn_k"))?,
                v: w.linear(backend, &name("attn_v"))?,
                attn_out: w.linear(backend, &name("attn_out"))?,
                scale1: w.optional_row(backend, &name("ls1.weight"))?,
                ln2: w.norm(backend, &name("ln2"), n)?,
                gate: if config.gated { Some(w.linear(backend, &name("ffn_gate"))?) } else { None },
                fc1: w.linear(backend, &name(fc1))?,
                fc2: w.linear(backend, &name(fc2))?,
                scale2: w.optional_row(backend, &name("ls2.weight"))?,
            });
        }
        let table = w.floats("v.position_embd.weight").unwrap_or_default();
        let positions = match config.positions {
            PositionTable::Fixed => {
                let side = config.image_size / config.patch_size;
                let class = table[..usize::from(config.has_class) * n].iter().copied();
                let patches = &table[usize::from(config.has_class) * n..];
                let in_order = in_blocks(side, side, config.order).flat_map(|(y, x)| &patches[(y * side + x) * n..][..n]);
                let rows: Vec<f32> = class.chain(in_order.copied()).collect();
                let mut out = backend.tensor(rows.len() / n, n)?;
                backend.write(&mut out, 0, &rows);
                Positions::Fixed(out)
            }
            PositionTable::Resized(corners) => Positions::Table(table, corners),
            PositionTable::None => Positions::None,
        };
        let patch_embd = if config.two_frames {
            let weight = w.sum(backend, FRAMES, 3 * config.patch_size * config.patch_size)?;
            Linear { weight, bias: w.optional_row(backend, "v.patch_embd.bias")? }
        } else {
            w.linear(backend, "v.patch_embd")?
        };
        Ok(Self {
            patch_embd,
            class_embd: w.optional_row(backend, "v.class_embd")?,
            positions,
            pre_ln: if config.has_pre_ln { Some(w.norm(backend, "v.pre_ln", n)?) } else { None },
            post_ln: if config.uses_post_ln { Some(w.norm(backend, "v.post_ln", n)?) } else { None },
            blocks,
            config,
        })
    }

    /// Bytes of a [`VitJob`] for a tile of so many pixels and of the patches it begins with.
    pub fn scratch_bytes(config: &VitConfig, n_pixels: usize) -> u64 {
        let n_patches = n_pixels / (config.patch_size * config.patch_size);
        let (rows, width) = (n_patches as u64 + u64::from(config.has_class), config.n_embd as u64);
        let pixels = 3 * n_pixels as u64;
        let wide = (1 + u64::from(config.gated)).saturating_mul(config.n_ff as u64);
        let n = 6 + config.taps.len() as u64 + u64::from(config.rotary);
        rows.saturating_mul(width.saturating_mul(n).saturating_add(wide)).saturating_add(pixels).saturating_mul(4)
    }

    /// Embeds the patches of one tile of `rows` by `cols` patches: `patches [rows · cols, 3 · patch_size²]` in the order of their blocks,
    /// elements in the order x, y, channel (x fastest).
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn begin(&self, backend: &mut B, patches: Vec<f32>, [rows, cols]: [usize; 2]) -> Result<VitJob<B>> {
        let c = &self.config;
        let (n, width) = (rows * cols, c.n_embd);
        let n_rows = n + usize::from(c.has_class);
        let windows = match c.windows {
            Some(windows) => {
                let (order, lengths) = windows.order(rows / c.merge, cols / c.merge);
                let lengths: Vec<usize> = lengths.iter().map(|n| n * c.merge * c.merge).collect();
                let most = lengths.iter().copied().max().unwrap_or(1);
                let mut tensor = || backend.tensor(most, width);
                let scratch = [tensor()?, tensor()?, tensor()?, tensor()?];
                Some(WindowJob { order, lengths, scratch })
            }
            None => None,
        };
        // What belongs to the patches, in the order in which they are kept.
        let kept = |values: Vec<f32>| match &windows {
            Some(windows) => {
                let block = values.len() * c.merge * c.merge / n;
                windows.order.iter().flat_map(|i| &values[i * block..][..block]).copied().collect()
            }
            None => values,
        };
        let rope = if c.rotary {
            let head_dim = c.attention().heads.head_dim;
            let mut rope = backend.tensor(n, head_dim)?;
            backend.write(&mut rope, 0, &kept(positions::rotary(in_blocks(rows, cols, c.order), head_dim)));
            Some(rope)
        } else {
            None
        };
        let mut taps = Vec::with_capacity(c.taps.len());
        for _ in &c.taps {
            taps.push(backend.tensor(n / c.joined, c.n_features())?);
        }
        let mut job = VitJob {
            n_patches: n,
            x: backend.tensor(n_rows, width)?,
            norm: backend.tensor(n_rows, width)?,
            q: backend.tensor(n_rows, width)?,
            k: backend.tensor(n_rows, width)?,
            v: backend.tensor(n_rows, width)?,
            attn: backend.tensor(n_rows, width)?,
            ff: backend.tensor(n_rows, c.n_ff)?,
            gate: if c.gated { Some(backend.tensor(n_rows, c.n_ff)?) } else { None },
            rope,
            taps,
            windows: None,
        };
        let mut input = backend.tensor(n, patches.len() / n)?;
        backend.write(&mut input, 0, &kept(patches));
        job.windows = windows;
        backend.linear(&input, &self.patch_embd, &mut job.norm, n, Epilogue::Store);
        if let Some(class) = &self.class_embd {
            backend.copy_rows(class, 0, &mut job.x, 0, 1);
        }
        backend.copy_rows(&job.norm, 0, &mut job.x, n_rows - n, n);
        match &self.positions {
            Positions::Fixed(positions) => backend.add_rows(&mut job.x, 0, positions, n_rows),
            Positions::None => {}
            Positions::Table(table, corners) => {
                let resized = positions::resized(table, c.table_grid(), [rows, cols], width, *corners);
                let in_order: Vec<f32> = in_blocks(rows, cols, c.order)
                    .flat_map(|(y, x)| &resized[(y * cols + x) * width..][..width])
                    .copied()
                    .collect();
                let mut positions = backend.tensor(n, width)?;
                backend.write(&mut positions, 0, &in_order);
                backend.add_rows(&mut job.x, n_rows - n, &positions, n);
            }
        }
        if let Some(ln) = &self.pre_ln {
            self.norm(backend, &job.x, ln, &mut job.norm, n_rows);
            std::mem::swap(&mut job.x, &mut job.norm);
        }
        Ok(job)
    }

    /// Blocks to run between [`Self::begin`] and [`Self::end`].
    pub fn n_layers(&self) -> usize {
        self.blocks.len()
    }

    /// Runs one block.
    pub fn block(&self, backend: &mut B, job: &mut VitJob<B>, layer: usize) {
        let c = &self.config;
        let rows = job.n_patches + usize::from(c.has_class);
        let l = &self.blocks[layer];
        self.norm(backend, &job.x, &l.ln1, &mut job.norm, rows);
        backend.qkv(&job.norm, &Qkv { q: &l.q, k: &l.k, v: &l.v, qk_norm: None }, &mut job.q, &mut job.k, &mut job.v, rows);
        if let Some(rope) = &job.rope {
            let heads = c.attention().heads;
            for x in [&mut job.q, &mut job.k] {
                backend.rope(x, rope, RopeStyle::Halves, heads.n_heads, heads.head_dim, 0, rows);
            }
        }
        match (&mut job.windows, c.windows) {
            (Some(WindowJob { lengths, scratch: [q, k, v, out], .. }), Some(windows)) if windows.hold(layer) => {
                let mut first = 0;
                for n in lengths.iter().copied() {
                    for (all, of_window) in [(&job.q, &mut *q), (&job.k, &mut *k), (&job.v, &mut *v)] {
                        backend.copy_rows(all, first, of_window, 0, n);
                    }
                    backend.attention(&c.attention(), q, KvSource::Rows { k, v }, out, n);
                    backend.copy_rows(out, 0, &mut job.attn, first, n);
                    first += n;
                }
            }
            _ => {
                let kv = KvSource::Rows { k: &job.k, v: &job.v };
                backend.attention(&c.attention(), &job.q, kv, &mut job.attn, rows);
            }
        }
        match &l.scale1 {
            None => backend.linear(&job.attn, &l.attn_out, &mut job.x, rows, Epilogue::Add),
            Some(scale) => {
                backend.linear(&job.attn, &l.attn_out, &mut job.norm, rows, Epilogue::Store);
                backend.add_scaled(&mut job.x, scale, &job.norm, rows);
            }
        }
        self.norm(backend, &job.x, &l.ln2, &mut job.norm, rows);
        let epilogue = match c.activation {
            Activation::Gelu => Epilogue::Gelu,
            Activation::GeluTanh => Epilogue::GeluTanh,
            Activation::QuickGelu => Epilogue::QuickGelu,
        };
        let inner = match (&l.gate, &mut job.gate) {
            (Some(layer), Some(gate)) => {
                let layers = GateUp { gate: layer, up: &l.fc1, gating: Gating::Silu };
                backend.gate_up(&job.norm, &layers, gate, &mut job.ff, rows);
                &*gate
            }
            _ => {
                backend.linear(&job.norm, &l.fc1, &mut job.ff, rows, epilogue);
                &job.ff
            }
        };
        match &l.scale2 {
            None => backend.linear(inner, &l.fc2, &mut job.x, rows, Epilogue::Add),
            Some(scale) => {
                backend.linear(inner, &l.fc2, &mut job.norm, rows, Epilogue::Store);
                backend.add_scaled(&mut job.x, scale, &job.norm, rows);
            }
        }
        for (tap, features) in c.taps.iter().zip(&mut job.taps) {
            if *tap == layer {
                self.join(backend, &job.x, job.n_patches, features);
            }
        }
    }

    fn norm(&self, backend: &mut B, x: &B::Tensor, norm: &Norm<B>, out: &mut B::Tensor, n: usize) {
        if self.config.rms_norm {
            backend.rms_norm(x, &norm.weight, self.config.eps, out, n);
        } else {
            backend.layer_norm(x, &norm.weight, &norm.bias, self.config.eps, out, n);
        }
    }

    /// Puts the rows of [`VitConfig::joined`] patches side by side, or takes their mean, without the class token.
    fn join(&self, backend: &mut B, x: &B::Tensor, n_patches: usize, out: &mut B::Tensor) {
        let (joined, first) = (self.config.joined, usize::from(self.config.has_class));
        if self.config.pooled {
            // No tower whose features are means has a class token.
            backend.mean_rows(x, joined, 1.0, out, n_patches / joined);
        } else if joined == 1 {
            backend.copy_rows(x, first, out, 0, n_patches);
        } else {
            backend.join_rows(x, first, joined, out, n_patches / joined);
        }
    }

    /// The features, those of [`VitConfig::joined`] patches side by side: `[n_patches / joined, joined · n_embd]`, without the class token; and
    /// those behind the blocks [`VitConfig::taps`], which have not passed the norm of the end.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn end(&self, backend: &mut B, mut job: VitJob<B>) -> Result<(B::Tensor, Vec<B::Tensor>)> {
        let c = &self.config;
        let n = job.n_patches;
        if let Some(ln) = &self.post_ln {
            self.norm(backend, &job.x, ln, &mut job.norm, n + usize::from(c.has_class));
            std::mem::swap(&mut job.x, &mut job.norm);
        }
        let mut features = backend.tensor(n / c.joined, c.n_features())?;
        self.join(backend, &job.x, n, &mut features);
        if let Some(windows) = &job.windows {
            let mut in_order = backend.tensor(windows.order.len(), c.n_features())?;
            #[expect(clippy::cast_possible_truncation, reason = "rows of one tile")]
            let rows: Vec<[u32; 2]> = (0u32..).zip(&windows.order).map(|(from, to)| [from, *to as u32]).collect();
            backend.gather_rows(&features, &rows, &mut in_order);
            features = in_order;
        }
        Ok((features, job.taps))
    }
}

/// The names of the layer up and the layer down.
fn fc_names(config: &VitConfig) -> (&'static str, &'static str) {
    if config.swapped_ffn { ("ffn_down", "ffn_up") } else { ("ffn_up", "ffn_down") }
}
