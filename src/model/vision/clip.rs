//! The CLIP vision transformer (Radford et al. 2021, arXiv 2103.00020) as LLaVA uses it: features of the last but one layer,
//! without the class token and without the norm after the last block.
//!
//! ```text
//! x = [class, Wpatch·patches] + positions;  x = pre_ln(x)
//! x += Wo · attention(Wq·n, Wk·n, Wv·n),    n = ln1(x)
//! x += Wfc2 · act(Wfc1·n),                  n = ln2(x)
//! ```
//!
//! The patch convolution has stride = kernel, so it is a linear layer over patches.

use crate::backend::{Backend, Epilogue, KvSource, Linear, Qkv};
use crate::error::Result;
use crate::model::vision::config::{Activation, ClipConfig};
use crate::model::weights::{Norm, Plan, Weights};

struct Block<B: Backend> {
    ln1: Norm<B>,
    q: Linear<B>,
    k: Linear<B>,
    v: Linear<B>,
    attn_out: Linear<B>,
    ln2: Norm<B>,
    fc1: Linear<B>,
    fc2: Linear<B>,
}

/// A loaded vision tower.
pub struct Clip<B: Backend> {
    /// The shape.
    pub config: ClipConfig,
    patch_embd: Linear<B>,
    /// `[1, n_embd]`
    class_embd: Option<B::Tensor>,
    /// `[n_positions, n_embd]`
    position_embd: B::Tensor,
    pre_ln: Option<Norm<B>>,
    post_ln: Option<Norm<B>>,
    blocks: Vec<Block<B>>,
}

/// The activations of one picture on its way through the tower; made anew for each, because pictures are rare and the memory
/// (some 25 MB for a ViT-L at 336 pixels) is better given back.
pub struct ClipJob<B: Backend> {
    /// `[n_positions, n_embd]`: the residual stream.
    x: B::Tensor,
    /// `[n_positions, n_embd]`
    norm: B::Tensor,
    /// `[n_positions, n_embd]`
    q: B::Tensor,
    /// `[n_positions, n_embd]`
    k: B::Tensor,
    /// `[n_positions, n_embd]`
    v: B::Tensor,
    /// `[n_positions, n_embd]`
    attn: B::Tensor,
    /// `[n_positions, n_ff]`
    ff: B::Tensor,
}

impl<B: Backend> Clip<B> {
    /// Names every tensor this configuration needs.
    pub fn plan(config: &ClipConfig, plan: &mut Plan<'_>) {
        let (n, p) = (config.n_embd, config.patch_size);
        plan.convolution("v.patch_embd.weight", &[p, p, 3], n);
        plan.optional_floats("v.patch_embd.bias", &[n]);
        plan.optional_floats("v.class_embd", &[n]);
        plan.floats("v.position_embd.weight", &[n, config.n_positions()]);
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
            for part in ["attn_q", "attn_k", "attn_v", "attn_out"] {
                plan.linear(&name(part), n, n);
            }
            plan.matrix(&name(&format!("{fc1}.weight")), n, config.n_ff);
            plan.matrix(&name(&format!("{fc2}.weight")), config.n_ff, n);
            // Where the widths are equal the names of the biases must follow the weights'.
            plan.optional_floats(&name(&format!("{fc1}.bias")), &[config.n_ff]);
            plan.optional_floats(&name(&format!("{fc2}.bias")), &[n]);
        }
        // Blocks behind the one whose output is the feature.
        let n_stored = plan.gguf().metadata.uint("clip.vision.block_count").unwrap_or(0) as usize;
        for i in config.n_layers..n_stored.max(config.n_layers) {
            plan.ignore(&format!("v.blk.{i}."));
        }
    }

    /// Makes the tower of its weights.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn new(config: ClipConfig, backend: &mut B, w: &mut Weights<B>) -> Result<Self> {
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
                ln2: w.norm(backend, &name("ln2"), n)?,
                fc1: w.linear(backend, &name(fc1))?,
                fc2: w.linear(backend, &name(fc2))?,
            });
        }
        Ok(Self {
            patch_embd: w.linear(backend, "v.patch_embd")?,
            class_embd: w.optional_row(backend, "v.class_embd")?,
            position_embd: w.tensor(backend, "v.position_embd.weight", n)?,
            pre_ln: if config.has_pre_ln { Some(w.norm(backend, "v.pre_ln", n)?) } else { None },
            post_ln: if config.uses_post_ln { Some(w.norm(backend, "v.post_ln", n)?) } else { None },
            blocks,
            config,
        })
    }

    /// Bytes of a [`ClipJob`] and of the patches it begins with.
    pub fn scratch_bytes(config: &ClipConfig) -> u64 {
        let (rows, width) = (config.n_positions() as u64, config.n_embd as u64);
        let pixels = 3 * (config.image_size as u64).saturating_mul(config.image_size as u64);
        rows.saturating_mul(width.saturating_mul(6).saturating_add(config.n_ff as u64)).saturating_add(pixels).saturating_mul(4)
    }

    /// Embeds the patches of one tile: `patches [n_patches, 3 · patch_size²]`, elements in the order x, y, channel (x fastest).
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn begin(&self, backend: &mut B, patches: &[f32]) -> Result<ClipJob<B>> {
        let c = &self.config;
        let (n, rows, width) = (c.n_patches(), c.n_positions(), c.n_embd);
        let mut job = ClipJob {
            x: backend.tensor(rows, width)?,
            norm: backend.tensor(rows, width)?,
            q: backend.tensor(rows, width)?,
            k: backend.tensor(rows, width)?,
            v: backend.tensor(rows, width)?,
            attn: backend.tensor(rows, width)?,
            ff: backend.tensor(rows, c.n_ff)?,
        };
        let mut input = backend.tensor(n, patches.len() / n)?;
        backend.write(&mut input, 0, patches);
        backend.linear(&input, &self.patch_embd, &mut job.norm, n, Epilogue::Store);
        let first = rows - n;
        if let Some(class) = &self.class_embd {
            backend.copy_rows(class, 0, &mut job.x, 0, 1);
        }
        backend.copy_rows(&job.norm, 0, &mut job.x, first, n);
        backend.add_rows(&mut job.x, 0, &self.position_embd, rows);
        if let Some(ln) = &self.pre_ln {
            backend.layer_norm(&job.x, &ln.weight, &ln.bias, c.eps, &mut job.norm, rows);
            std::mem::swap(&mut job.x, &mut job.norm);
        }
        Ok(job)
    }

    /// Blocks to run between [`Self::begin`] and [`Self::end`].
    pub fn n_layers(&self) -> usize {
        self.blocks.len()
    }

    /// Runs one block.
    pub fn block(&self, backend: &mut B, job: &mut ClipJob<B>, layer: usize) {
        let c = &self.config;
        let rows = c.n_positions();
        let l = &self.blocks[layer];
        backend.layer_norm(&job.x, &l.ln1.weight, &l.ln1.bias, c.eps, &mut job.norm, rows);
        backend.qkv(&job.norm, &Qkv { q: &l.q, k: &l.k, v: &l.v }, &mut job.q, &mut job.k, &mut job.v, rows);
        let kv = KvSource::Rows { k: &job.k, v: &job.v };
        backend.attention(&c.attention(), &job.q, kv, &mut job.attn, rows);
        backend.linear(&job.attn, &l.attn_out, &mut job.x, rows, Epilogue::Add);
        backend.layer_norm(&job.x, &l.ln2.weight, &l.ln2.bias, c.eps, &mut job.norm, rows);
        let epilogue = match c.activation {
            Activation::Gelu => Epilogue::Gelu,
            Activation::QuickGelu => Epilogue::QuickGelu,
        };
        backend.linear(&job.norm, &l.fc1, &mut job.ff, rows, epilogue);
        backend.linear(&job.ff, &l.fc2, &mut job.x, rows, Epilogue::Add);
    }

    /// The features `[n_patches, n_embd]`: the residual stream without the class token.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn end(&self, backend: &mut B, mut job: ClipJob<B>) -> Result<B::Tensor> {
        let c = &self.config;
        let (n, rows) = (c.n_patches(), c.n_positions());
        if let Some(ln) = &self.post_ln {
            backend.layer_norm(&job.x, &ln.weight, &ln.bias, c.eps, &mut job.norm, rows);
            std::mem::swap(&mut job.x, &mut job.norm);
        }
        let mut features = backend.tensor(n, c.n_embd)?;
        backend.copy_rows(&job.x, rows - n, &mut features, 0, n);
        Ok(features)
    }
}

/// The names of the layer up and the layer down.
fn fc_names(config: &ClipConfig) -> (&'static str, &'static str) {
    if config.swapped_ffn { ("ffn_down", "ffn_up") } else { ("ffn_up", "ffn_down") }
}
