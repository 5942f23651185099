//! What decoders of LLaMA's kind share: the two halves of a block, the ends of the residual stream, the table of angles.
//!
//! ```text
//! attention:     h += Wo · attention(rope(Wq·n), rope(Wk·n), Wv·n),   n = rms_norm(h)
//! feed-forward:  h += Wdown · (act(Wgate·n) · Wup·n),                 n = rms_norm(h)
//! ```
//!
//! Some put what a half adds through a norm of its own first.

use std::collections::HashSet;

use crate::backend::{
    AttentionOp, Backend, Epilogue, Expected, GateUp, KvFormat, KvPlace, KvSource, Linear, QkNorm, Qkv, RmsNorm,
};
use crate::error::Result;
use crate::gguf::Gguf;
use crate::model::lm::config::LlamaConfig;
use crate::model::rope::{self, RopeConfig};
use crate::model::weights::{Plan, Weights};
use crate::quant::Format;

/// Rows of the rotary table that are handed over together: the whole of most, and of a context of 128k positions no second copy.
const ROPE_ROWS: usize = 4096;

/// Activations, allocated once for the largest chunk.
pub(super) struct Scratch<B: Backend> {
    /// `[n_chunk, n_embd]`: normed input of a half block.
    pub(super) norm: B::Tensor,
    /// `[n_chunk, n_heads · head_dim]`
    pub(super) q: B::Tensor,
    /// `[n_chunk, n_kv]`
    pub(super) k: B::Tensor,
    /// `[n_chunk, n_kv]`
    pub(super) v: B::Tensor,
    /// `[n_chunk, n_heads · head_dim]`
    pub(super) attn: B::Tensor,
    /// `[n_chunk, n_ff]`
    pub(super) gate: B::Tensor,
    /// `[n_chunk, n_ff]`
    pub(super) up: B::Tensor,
    /// `[n_chunk, n_embd]`: what a half block adds, before its norm; where there are such norms.
    pub(super) added: Option<B::Tensor>,
}

impl<B: Backend> Scratch<B> {
    pub(super) fn new(backend: &mut B, c: &LlamaConfig, n_chunk: usize) -> Result<Self> {
        let (n_embd, n_ff, n_q, n_kv) = (c.dims.n_embd, c.n_ff, c.dims.n_q(), c.dims.n_kv());
        Ok(Self {
            norm: backend.tensor(n_chunk, n_embd)?,
            q: backend.tensor(n_chunk, n_q)?,
            k: backend.tensor(n_chunk, n_kv)?,
            v: backend.tensor(n_chunk, n_kv)?,
            attn: backend.tensor(n_chunk, n_q)?,
            gate: backend.tensor(n_chunk, n_ff)?,
            up: backend.tensor(n_chunk, n_ff)?,
            added: if c.post_norms { Some(backend.tensor(n_chunk, n_embd)?) } else { None },
        })
    }

    /// Bytes of it, of the ends of the stream, and of the table of angles.
    pub(super) fn n_bytes(c: &LlamaConfig, n_ctx: usize, n_chunk: usize) -> u64 {
        let rows = [c.dims.n_embd, c.dims.n_q(), c.dims.n_kv(), c.n_ff].map(|n| (n as u64).saturating_mul(2 * n_chunk as u64));
        let added = if c.post_norms { (c.dims.n_embd as u64).saturating_mul(n_chunk as u64) } else { 0 };
        let rest = [2 * c.dims.n_embd as u64, c.dims.n_vocab as u64, (n_ctx as u64).saturating_mul(c.rope.n_rot as u64), added];
        rows.into_iter().chain(rest).fold(0, u64::saturating_add).saturating_mul(4)
    }
}

/// Where the rows of a chunk stand.
pub(super) struct At<'a, B: Backend> {
    /// The layer of the cache.
    pub(super) layer: usize,
    /// The position of the first row.
    pub(super) position: usize,
    /// `[n_ctx, n_rot]`: the table of angles.
    pub(super) rope: &'a B::Tensor,
    /// The attention of the layer.
    pub(super) op: AttentionOp,
    /// See [`KvSource::Cache`].
    pub(super) ends: Option<&'a B::Tensor>,
}

/// Adds a linear layer of `x` to the first `n` rows of `h`, through a norm where there is one; `norm` is scratch like `added`.
fn add_back<B: Backend>(
    backend: &mut B,
    eps: f32,
    (x, layer, post_norm): (&B::Tensor, &Linear<B>, Option<&B::Tensor>),
    (added, norm): (Option<&mut B::Tensor>, &mut B::Tensor),
    h: &mut B::Tensor,
    n: usize,
) {
    match (post_norm, added) {
        (Some(weight), Some(added)) => {
            backend.linear(x, layer, added, n, Epilogue::Store);
            backend.rms_norm(added, weight, eps, norm, n);
            backend.add_rows(h, 0, norm, n);
        }
        _ => backend.linear(x, layer, h, n, Epilogue::Add),
    }
}

/// The half of a block that looks at other positions.
pub(super) struct Attention<B: Backend> {
    norm: B::Tensor,
    q: Linear<B>,
    k: Linear<B>,
    v: Linear<B>,
    /// Norms of each head of queries and keys, `[1, head_dim]`.
    qk_norm: Option<[B::Tensor; 2]>,
    output: Linear<B>,
    /// `[1, n_embd]`: the norm of what is added.
    post_norm: Option<B::Tensor>,
}

impl<B: Backend> Attention<B> {
    pub(super) fn plan(c: &LlamaConfig, plan: &mut Plan<'_>, layer: usize) {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (n_embd, n_q, n_kv) = (c.dims.n_embd, c.dims.n_q(), c.dims.n_kv());
        plan.floats(&name("attn_norm.weight"), &[n_embd]);
        let [q, k, v] = [(name("attn_q"), n_q), (name("attn_k"), n_kv), (name("attn_v"), n_kv)];
        if c.fused_qkv {
            plan.linear_parts(&name("attn_qkv"), n_embd, &[q, k, v]);
        } else {
            [q, k, v].iter().for_each(|(name, n_out)| plan.linear(name, n_embd, *n_out));
        }
        if c.qk_norm {
            let head_dim = c.dims.attention.heads.head_dim;
            plan.floats(&name("attn_q_norm.weight"), &[head_dim]);
            plan.floats(&name("attn_k_norm.weight"), &[head_dim]);
        }
        plan.linear(&name("attn_output"), n_q, n_embd);
        if c.post_norms {
            plan.floats(&name("post_attention_norm.weight"), &[n_embd]);
        }
        // Written by some converters beside the key that holds the same.
        plan.ignore(&name("attn_rot_embd"));
    }

    pub(super) fn new(c: &LlamaConfig, backend: &mut B, w: &mut Weights<B>, layer: usize) -> Result<Self> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let qk_norm = if c.qk_norm {
            let head_dim = c.dims.attention.heads.head_dim;
            let mut norm = |part: &str| w.tensor(backend, &name(part), head_dim);
            Some([norm("attn_q_norm.weight")?, norm("attn_k_norm.weight")?])
        } else {
            None
        };
        Ok(Self {
            qk_norm,
            norm: w.tensor(backend, &name("attn_norm.weight"), c.dims.n_embd)?,
            q: w.linear(backend, &name("attn_q"))?,
            k: w.linear(backend, &name("attn_k"))?,
            v: w.linear(backend, &name("attn_v"))?,
            output: w.linear(backend, &name("attn_output"))?,
            post_norm: post_norm(c, backend, w, &name("post_attention_norm.weight"))?,
        })
    }

    /// Runs the first `n` rows of `h`, whose keys and values go into the cache.
    pub(super) fn run(
        &self,
        backend: &mut B,
        c: &LlamaConfig,
        (h, s): (&mut B::Tensor, &mut Scratch<B>),
        cache: &mut B::KvCache,
        At { layer, position, rope, op, ends }: At<'_, B>,
        n: usize,
    ) {
        let place = KvPlace { cache, layer, position, rope, style: c.rope_style, heads: c.dims.attention.heads };
        let norm = RmsNorm { weight: &self.norm, eps: c.eps, scratch: &mut s.norm };
        let qk_norm = self.qk_norm.as_ref().map(|[q, k]| QkNorm { q, k, eps: c.eps });
        let qkv = Qkv { q: &self.q, k: &self.k, v: &self.v, qk_norm };
        backend.norm_qkv_rope_kv(h, norm, &qkv, place, &mut s.q, &mut s.k, &mut s.v, n);
        self.attend(backend, c, (h, s), (&op, KvSource::Cache { cache, layer, first: position, ends }), n);
    }

    /// Runs the first `n` rows of `h` once more: their keys and values are in the cache, which is read and not written. The turned
    /// queries are left in the scratch.
    pub(super) fn run_again(
        &self,
        backend: &mut B,
        c: &LlamaConfig,
        (h, s): (&mut B::Tensor, &mut Scratch<B>),
        cache: &B::KvCache,
        At { layer, position, rope, op, ends }: At<'_, B>,
        n: usize,
    ) {
        let heads = c.dims.attention.heads;
        let norm = RmsNorm { weight: &self.norm, eps: c.eps, scratch: &mut s.norm };
        backend.norm_linear(h, norm, &self.q, &mut s.q, n, Epilogue::Store);
        if let Some([norm, _]) = &self.qk_norm {
            backend.head_norm(&mut s.q, norm, c.eps, n);
        }
        backend.rope(&mut s.q, rope, c.rope_style, heads.n_heads, heads.head_dim, position, n);
        self.attend(backend, c, (h, s), (&op, KvSource::Cache { cache, layer, first: position, ends }), n);
    }

    /// Attention of the queries in the scratch, and what it adds to `h`.
    fn attend(
        &self,
        backend: &mut B,
        c: &LlamaConfig,
        (h, s): (&mut B::Tensor, &mut Scratch<B>),
        (op, kv): (&AttentionOp, KvSource<'_, B>),
        n: usize,
    ) {
        backend.attention(op, &s.q, kv, &mut s.attn, n);
        let back = (&s.attn, &self.output, self.post_norm.as_ref());
        add_back(backend, c.eps, back, (s.added.as_mut(), &mut s.norm), h, n);
    }
}

/// The norm of what a half block adds, where there is one.
fn post_norm<B: Backend>(c: &LlamaConfig, backend: &mut B, w: &mut Weights<B>, name: &str) -> Result<Option<B::Tensor>> {
    if c.post_norms { w.tensor(backend, name, c.dims.n_embd).map(Some) } else { Ok(None) }
}

/// The gated feed-forward half of a block.
pub(super) struct FeedForward<B: Backend> {
    norm: B::Tensor,
    gate: Linear<B>,
    up: Linear<B>,
    down: Linear<B>,
    /// `[1, n_embd]`: the norm of what is added.
    post_norm: Option<B::Tensor>,
}

impl<B: Backend> FeedForward<B> {
    pub(super) fn plan(c: &LlamaConfig, plan: &mut Plan<'_>, layer: usize) {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (n_embd, n_ff) = (c.dims.n_embd, c.n_ff);
        plan.floats(&name("ffn_norm.weight"), &[n_embd]);
        if c.fused_gate_up {
            plan.linear_parts(&name("ffn_up"), n_embd, &[(name("ffn_gate"), n_ff), (name("ffn_up_only"), n_ff)]);
        } else {
            plan.linear(&name("ffn_gate"), n_embd, n_ff);
            plan.linear(&name("ffn_up"), n_embd, n_ff);
        }
        plan.linear(&name("ffn_down"), n_ff, n_embd);
        if c.post_norms {
            plan.floats(&name("post_ffw_norm.weight"), &[n_embd]);
        }
    }

    pub(super) fn new(c: &LlamaConfig, backend: &mut B, w: &mut Weights<B>, layer: usize) -> Result<Self> {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let up = if c.fused_gate_up { name("ffn_up_only") } else { name("ffn_up") };
        Ok(Self {
            norm: w.tensor(backend, &name("ffn_norm.weight"), c.dims.n_embd)?,
            gate: w.linear(backend, &name("ffn_gate"))?,
            up: w.linear(backend, &up)?,
            down: w.linear(backend, &name("ffn_down"))?,
            post_norm: post_norm(c, backend, w, &name("post_ffw_norm.weight"))?,
        })
    }

    /// Runs the first `n` rows of `h`.
    pub(super) fn run(&self, backend: &mut B, c: &LlamaConfig, h: &mut B::Tensor, s: &mut Scratch<B>, n: usize) {
        let norm = RmsNorm { weight: &self.norm, eps: c.eps, scratch: &mut s.norm };
        let layers = GateUp { gate: &self.gate, up: &self.up, gating: c.gating };
        backend.norm_gate_up(h, norm, &layers, &mut s.gate, &mut s.up, n);
        let back = (&s.gate, &self.down, self.post_norm.as_ref());
        add_back(backend, c.eps, back, (s.added.as_mut(), &mut s.norm), h, n);
    }
}

/// The residual stream, and what stands at its ends: the embedding table, and the way from a row to logits.
pub(super) struct Stream<B: Backend> {
    /// `[n_chunk, n_embd]`
    pub(super) h: B::Tensor,
    /// `[1, n_vocab]`
    pub(super) logits: B::Tensor,
    /// The embedding table; a linear layer because it serves as the output where the file has none.
    token_embd: Linear<B>,
    output_norm: B::Tensor,
    output: Option<Linear<B>>,
    /// `[1, n_embd]`: the row whose logits are wanted.
    last: B::Tensor,
    /// `[1, n_embd]`
    last_norm: B::Tensor,
}

impl<B: Backend> Stream<B> {
    /// Adds `n` rows of a tensor from a row on to the residual stream from `row` on.
    pub(super) fn add_rows(
        &mut self,
        backend: &mut B,
        (rows, from): (&B::Tensor, usize),
        scratch: &mut Scratch<B>,
        row: usize,
        n: usize,
    ) {
        backend.copy_rows(rows, from, &mut scratch.norm, 0, n);
        backend.add_rows(&mut self.h, row, &scratch.norm, n);
    }

    /// `norm` is the name of the last norm.
    pub(super) fn plan(c: &LlamaConfig, plan: &mut Plan<'_>, norm: &str) {
        plan.matrix("token_embd.weight", c.dims.n_embd, c.dims.n_vocab);
        plan.floats(&format!("{norm}.weight"), &[c.dims.n_embd]);
        if !c.tied {
            plan.linear("output", c.dims.n_embd, c.dims.n_vocab);
        }
    }

    pub(super) fn new(c: &LlamaConfig, backend: &mut B, w: &mut Weights<B>, norm: &str, n_chunk: usize) -> Result<Self> {
        let n_embd = c.dims.n_embd;
        Ok(Self {
            h: backend.tensor(n_chunk, n_embd)?,
            logits: backend.tensor(1, c.dims.n_vocab)?,
            token_embd: Linear { weight: w.matrix("token_embd.weight")?, bias: None },
            output_norm: w.tensor(backend, &format!("{norm}.weight"), n_embd)?,
            output: if c.tied { None } else { Some(w.linear(backend, "output")?) },
            last: backend.tensor(1, n_embd)?,
            last_norm: backend.tensor(1, n_embd)?,
        })
    }

    pub(super) fn embed(&mut self, backend: &mut B, ids: &[u32], row: usize) {
        backend.embed(&self.token_embd.weight, ids, &mut self.h, row);
    }

    pub(super) fn embed_chosen(&mut self, backend: &mut B) {
        backend.embed_chosen(&self.token_embd.weight, &mut self.h);
    }

    /// [`Self::embed`] of embeddings times a factor; `added` and `norm` are scratch of as many rows as there may be ids.
    pub(super) fn embed_scaled(
        &mut self,
        backend: &mut B,
        (ids, row): (&[u32], usize),
        factor: f32,
        (added, norm): (&mut B::Tensor, &mut B::Tensor),
    ) {
        backend.embed(&self.token_embd.weight, ids, added, 0);
        backend.mean_rows(added, 1, factor, norm, ids.len());
        backend.copy_rows(norm, 0, &mut self.h, row, ids.len());
    }

    /// [`Self::embed_chosen`] of its embedding times a factor.
    pub(super) fn embed_chosen_scaled(&mut self, backend: &mut B, factor: f32, added: &mut B::Tensor) {
        backend.embed_chosen(&self.token_embd.weight, added);
        backend.mean_rows(added, 1, factor, &mut self.h, 1);
    }

    pub(super) fn compute_logits(&mut self, backend: &mut B, eps: f32, row: usize) {
        let Self { h, logits, token_embd, output_norm, output, last, last_norm } = self;
        let row_h = if row == 0 {
            &*h
        } else {
            backend.copy_rows(h, row, last, 0, 1);
            &*last
        };
        let norm = RmsNorm { weight: output_norm, eps, scratch: last_norm };
        backend.norm_linear(row_h, norm, output.as_ref().unwrap_or(token_embd), logits, 1, Epilogue::Store);
    }
}

/// The table of angles `[n_ctx, n_rot]`.
pub(super) fn rope_table<B: Backend>(backend: &mut B, config: &RopeConfig, n_ctx: usize) -> Result<B::Tensor> {
    let mut rope = backend.tensor(n_ctx, config.n_rot)?;
    let angles = rope::angles(config);
    let mut rows = vec![0.0; n_ctx.min(ROPE_ROWS) * config.n_rot];
    for first in (0..n_ctx).step_by(ROPE_ROWS) {
        let rows = &mut rows[..ROPE_ROWS.min(n_ctx - first) * config.n_rot];
        for (row, position) in rows.chunks_exact_mut(config.n_rot).zip(first..) {
            angles.row(position, row);
        }
        backend.write(&mut rope, first, rows);
    }
    Ok(rope)
}

/// Tells the backend which kernels the file's formats are going to take; `more` names further linear layers of a block.
pub(super) fn expect<B: Backend>(c: &LlamaConfig, gguf: &Gguf, backend: &mut B, kv_format: KvFormat, more: &[&str]) {
    let format = |name: &str| gguf.tensor(name).map(|t| t.info.format.kept_as());
    let of_layer = |i: usize, part: &str| format(&format!("blk.{i}.{part}.weight"));
    let mut expected = vec![Expected::Decoder, Expected::Attention(c.dims.attention.heads.head_dim, kv_format)];
    let table = format("token_embd.weight");
    expected.extend(c.qk_norm.then_some(Expected::HeadNorm));
    expected.extend(table.map(Expected::Embed));
    expected.extend(format("output.weight").or(table).map(Expected::Linear));
    let mut seen = HashSet::new();
    for i in 0..c.dims.n_layers {
        let qkv = if c.fused_qkv { ["attn_qkv"; 3] } else { ["attn_q", "attn_k", "attn_v"] };
        let gate_up = if c.fused_gate_up { ["ffn_up"; 2] } else { ["ffn_gate", "ffn_up"] };
        let formats = |parts: &[&str]| parts.iter().filter_map(|part| of_layer(i, part)).collect::<Vec<Format>>();
        let (qkv, gate_up) = (formats(&qkv), formats(&gate_up));
        let others = formats(&[&["attn_output", "ffn_down"], more].concat());
        let single = qkv.iter().chain(&gate_up).chain(&others).copied();
        expected.extend(single.filter(|format| seen.insert(Expected::Linear(*format))).map(Expected::Linear));
        let fused = [
            <[Format; 3]>::try_from(qkv).ok().map(|formats| Expected::Qkv(formats, kv_format)),
            <[Format; 2]>::try_from(gate_up).ok().map(|formats| Expected::GateUp(formats, c.gating)),
        ];
        expected.extend(fused.into_iter().flatten().filter(|fused| seen.insert(*fused)));
    }
    backend.expect(&expected);
}
