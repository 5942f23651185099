//! The LLaMA decoder (Touvron et al. 2023, arXiv 2302.13971) and its relatives that share the block:
//!
//! ```text
//! h += Wo · attention(rope(Wq·n), rope(Wk·n), Wv·n),   n = rms_norm(h)
//! h += Wdown · (silu(Wgate·n) · Wup·n),                n = rms_norm(h)
//! ```

use std::collections::HashSet;

use crate::backend::{Backend, Epilogue, Expected, KvFormat, KvPlace, KvSource, Linear, QkNorm, Qkv, RmsNorm};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::decoder::{Decoder, DecoderConfig, Dims};
use crate::model::lm::config::LlamaConfig;
use crate::model::rope;
use crate::model::weights::{Plan, Weights};
use crate::quant::Format;

/// Rows of the rotary table that are handed over together: the whole of most, and of a context of 128k positions no second copy.
const ROPE_ROWS: usize = 4096;

struct Layer<B: Backend> {
    attn_norm: B::Tensor,
    q: Linear<B>,
    k: Linear<B>,
    v: Linear<B>,
    /// `[1, head_dim]` each: the norms of a head of the queries and of the keys.
    qk_norm: Option<[B::Tensor; 2]>,
    attn_output: Linear<B>,
    ffn_norm: B::Tensor,
    gate: Linear<B>,
    up: Linear<B>,
    down: Linear<B>,
}

/// Activations, allocated once for the largest chunk.
struct Scratch<B: Backend> {
    /// `[n_chunk, n_embd]`: normed input of a half block.
    norm: B::Tensor,
    /// `[n_chunk, n_heads · head_dim]`
    q: B::Tensor,
    /// `[n_chunk, n_kv]`
    k: B::Tensor,
    /// `[n_chunk, n_kv]`
    v: B::Tensor,
    /// `[n_chunk, n_heads · head_dim]`
    attn: B::Tensor,
    /// `[n_chunk, n_ff]`
    gate: B::Tensor,
    /// `[n_chunk, n_ff]`
    up: B::Tensor,
    /// `[1, n_embd]`: the row whose logits are wanted.
    last: B::Tensor,
    /// `[1, n_embd]`
    last_norm: B::Tensor,
}

/// A loaded language model.
struct Llama<B: Backend> {
    config: LlamaConfig,
    /// `[n_chunk, n_embd]`: the residual stream.
    h: B::Tensor,
    /// `[1, n_vocab]`
    logits: B::Tensor,
    n_chunk: usize,
    /// The embedding table; a linear layer because it serves as the output where the file has none.
    token_embd: Linear<B>,
    layers: Vec<Layer<B>>,
    output_norm: B::Tensor,
    output: Option<Linear<B>>,
    /// `[n_ctx, n_rot]`
    rope: B::Tensor,
    scratch: Scratch<B>,
}

impl<B: Backend> DecoderConfig<B> for LlamaConfig {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn plan<'a>(&self, gguf: &'a Gguf) -> Result<Plan<'a>> {
        let (config, mut plan) = (self, Plan::new(gguf));
        let (n_embd, n_ff, n_q, n_kv) = (config.dims.n_embd, config.n_ff, config.dims.n_q(), config.dims.n_kv());
        let head_dim = config.dims.attention.heads.head_dim;
        plan.matrix("token_embd.weight", n_embd, config.dims.n_vocab);
        plan.floats("output_norm.weight", &[n_embd]);
        if !config.tied {
            plan.linear("output", n_embd, config.dims.n_vocab);
        }
        // A divisor per frequency: LLaMA 3 has one set, LongRoPE two.
        for name in ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"] {
            plan.optional_floats(name, &[config.rope.n_rot / 2]);
        }
        for i in 0..config.dims.n_layers {
            let name = |part: &str| format!("blk.{i}.{part}");
            plan.floats(&name("attn_norm.weight"), &[n_embd]);
            plan.floats(&name("ffn_norm.weight"), &[n_embd]);
            let [q, k, v] = [(name("attn_q"), n_q), (name("attn_k"), n_kv), (name("attn_v"), n_kv)];
            if config.fused_qkv {
                plan.linear_parts(&name("attn_qkv"), n_embd, &[q, k, v]);
            } else {
                [q, k, v].iter().for_each(|(name, n_out)| plan.linear(name, n_embd, *n_out));
            }
            if config.qk_norm {
                plan.floats(&name("attn_q_norm.weight"), &[head_dim]);
                plan.floats(&name("attn_k_norm.weight"), &[head_dim]);
            }
            if config.fused_gate_up {
                plan.linear_parts(&name("ffn_up"), n_embd, &[(name("ffn_gate"), n_ff), (name("ffn_up_only"), n_ff)]);
            } else {
                plan.linear(&name("ffn_gate"), n_embd, n_ff);
                plan.linear(&name("ffn_up"), n_embd, n_ff);
            }
            plan.linear(&name("attn_output"), n_q, n_embd);
            plan.linear(&name("ffn_down"), n_ff, n_embd);
            // Written by some converters beside the key that holds the same.
            plan.ignore(&name("attn_rot_embd"));
        }
        plan.check()?;
        Ok(plan)
    }

    fn expect(&self, gguf: &Gguf, backend: &mut B, kv_format: KvFormat) {
        let config = self;
        let format = |name: &str| gguf.tensor(name).map(|t| t.info.format);
        let of_layer = |i: usize, part: &str| format(&format!("blk.{i}.{part}.weight"));
        let mut expected = vec![Expected::Decoder, Expected::Attention(config.dims.attention.heads.head_dim, kv_format)];
        let table = format("token_embd.weight");
        expected.extend(table.map(Expected::Embed));
        expected.extend(format("output.weight").or(table).map(Expected::Linear));
        let mut seen = HashSet::new();
        for i in 0..config.dims.n_layers {
            let qkv = if config.fused_qkv { ["attn_qkv"; 3] } else { ["attn_q", "attn_k", "attn_v"] };
            let gate_up = if config.fused_gate_up { ["ffn_up"; 2] } else { ["ffn_gate", "ffn_up"] };
            let formats = |parts: &[&str]| parts.iter().filter_map(|part| of_layer(i, part)).collect::<Vec<Format>>();
            let (qkv, gate_up) = (formats(&qkv), formats(&gate_up));
            let single = qkv.iter().chain(&gate_up).copied().chain(of_layer(i, "attn_output")).chain(of_layer(i, "ffn_down"));
            expected.extend(single.filter(|format| seen.insert(Expected::Linear(*format))).map(Expected::Linear));
            let fused = [
                <[Format; 3]>::try_from(qkv).ok().map(|formats| Expected::Qkv(formats, kv_format)),
                <[Format; 2]>::try_from(gate_up).ok().map(Expected::GateUp),
            ];
            expected.extend(fused.into_iter().flatten().filter(|fused| seen.insert(*fused)));
        }
        backend.expect(&expected);
    }

    fn scratch_bytes(&self, n_ctx: usize, n_chunk: usize) -> u64 {
        let config = self;
        let rows = [config.dims.n_embd, config.dims.n_q(), config.dims.n_kv(), config.n_ff]
            .map(|n| (n as u64).saturating_mul(2 * n_chunk as u64));
        let rest =
            [2 * config.dims.n_embd as u64, config.dims.n_vocab as u64, (n_ctx as u64).saturating_mul(config.rope.n_rot as u64)];
        rows.into_iter().chain(rest).fold(0, u64::saturating_add).saturating_mul(4)
    }

    fn load(self: Box<Self>, backend: &mut B, weights: Weights<B>, n_ctx: usize, n_chunk: usize) -> Result<Box<dyn Decoder<B>>> {
        Ok(Box::new(Llama::new(*self, backend, weights, n_ctx, n_chunk)?))
    }
}

impl LlamaConfig {
    /// [`Self::from_gguf`], as the registry has it.
    ///
    /// # Errors
    /// As there.
    pub fn open<B: Backend>(gguf: &Gguf) -> Result<Box<dyn DecoderConfig<B>>> {
        Ok(Box::new(Self::from_gguf(gguf)?))
    }
}

impl<B: Backend> Llama<B> {
    /// Makes the model of its weights, for contexts of `n_ctx` positions run in chunks of at most `n_chunk`.
    ///
    /// # Errors
    /// `out_of_memory`.
    fn new(mut config: LlamaConfig, backend: &mut B, mut w: Weights<B>, n_ctx: usize, n_chunk: usize) -> Result<Self> {
        let (n_embd, n_ff, n_q, n_kv) = (config.dims.n_embd, config.n_ff, config.dims.n_q(), config.dims.n_kv());
        let head_dim = config.dims.attention.heads.head_dim;
        let mut layers = Vec::with_capacity(config.dims.n_layers);
        for i in 0..config.dims.n_layers {
            let name = |part: &str| format!("blk.{i}.{part}");
            let up = if config.fused_gate_up { name("ffn_up_only") } else { name("ffn_up") };
            layers.push(Layer {
                attn_norm: w.tensor(backend, &name("attn_norm.weight"), n_embd)?,
                q: w.linear(backend, &name("attn_q"))?,
                k: w.linear(backend, &name("attn_k"))?,
                v: w.linear(backend, &name("attn_v"))?,
                qk_norm: match config.qk_norm {
                    true => Some([
                        w.tensor(backend, &name("attn_q_norm.weight"), head_dim)?,
                        w.tensor(backend, &name("attn_k_norm.weight"), head_dim)?,
                    ]),
                    false => None,
                },
                attn_output: w.linear(backend, &name("attn_output"))?,
                ffn_norm: w.tensor(backend, &name("ffn_norm.weight"), n_embd)?,
                gate: w.linear(backend, &name("ffn_gate"))?,
                up: w.linear(backend, &up)?,
                down: w.linear(backend, &name("ffn_down"))?,
            });
        }
        rope_factors(&mut config, &mut w, n_ctx)?;
        let mut rope = backend.tensor(n_ctx, config.rope.n_rot)?;
        let angles = rope::angles(&config.rope);
        let mut rows = vec![0.0; n_ctx.min(ROPE_ROWS) * config.rope.n_rot];
        for first in (0..n_ctx).step_by(ROPE_ROWS) {
            let rows = &mut rows[..ROPE_ROWS.min(n_ctx - first) * config.rope.n_rot];
            for (row, position) in rows.chunks_exact_mut(config.rope.n_rot).zip(first..) {
                angles.row(position, row);
            }
            backend.write(&mut rope, first, rows);
        }
        let scratch = Scratch {
            norm: backend.tensor(n_chunk, n_embd)?,
            q: backend.tensor(n_chunk, n_q)?,
            k: backend.tensor(n_chunk, n_kv)?,
            v: backend.tensor(n_chunk, n_kv)?,
            attn: backend.tensor(n_chunk, n_q)?,
            gate: backend.tensor(n_chunk, n_ff)?,
            up: backend.tensor(n_chunk, n_ff)?,
            last: backend.tensor(1, n_embd)?,
            last_norm: backend.tensor(1, n_embd)?,
        };
        Ok(Self {
            h: backend.tensor(n_chunk, n_embd)?,
            logits: backend.tensor(1, config.dims.n_vocab)?,
            n_chunk,
            token_embd: Linear { weight: w.matrix("token_embd.weight")?, bias: None },
            output_norm: w.tensor(backend, "output_norm.weight", n_embd)?,
            output: if config.tied { None } else { Some(w.linear(backend, "output")?) },
            layers,
            rope,
            scratch,
            config,
        })
    }

    /// The rest of a layer: what attention gave, and the feed-forward half.
    fn behind_attention(&mut self, backend: &mut B, layer: usize, n: usize) {
        let Self { config, h, scratch: s, layers, .. } = self;
        let l = &layers[layer];
        backend.linear(&s.attn, &l.attn_output, h, n, Epilogue::Add);
        let norm = RmsNorm { weight: &l.ffn_norm, eps: config.eps, scratch: &mut s.norm };
        backend.norm_gate_up(h, norm, &l.gate, &l.up, &mut s.gate, &mut s.up, n);
        backend.linear(&s.gate, &l.down, h, n, Epilogue::Add);
    }
}

impl<B: Backend> Decoder<B> for Llama<B> {
    fn dims(&self) -> &Dims {
        &self.config.dims
    }

    fn identity(&self) -> String {
        format!("{:?}", self.config)
    }

    fn rows(&mut self) -> &mut B::Tensor {
        &mut self.h
    }

    fn logits(&self) -> &B::Tensor {
        &self.logits
    }

    fn n_chunk(&self) -> usize {
        self.n_chunk
    }

    fn embed(&mut self, backend: &mut B, ids: &[u32], row: usize) {
        backend.embed(&self.token_embd.weight, ids, &mut self.h, row);
    }

    fn embed_chosen(&mut self, backend: &mut B) {
        backend.embed_chosen(&self.token_embd.weight, &mut self.h);
    }

    fn layer(&mut self, backend: &mut B, cache: &mut B::KvCache, layer: usize, position: usize, n: usize) {
        let Self { config, h, scratch: s, layers, rope, .. } = self;
        let l = &layers[layer];
        let place = KvPlace { cache, layer, position, rope, style: config.rope_style, heads: config.dims.attention.heads };
        let norm = RmsNorm { weight: &l.attn_norm, eps: config.eps, scratch: &mut s.norm };
        let qk_norm = l.qk_norm.as_ref().map(|[q, k]| QkNorm { q, k, eps: config.eps });
        let qkv = Qkv { q: &l.q, k: &l.k, v: &l.v, qk_norm };
        backend.norm_qkv_rope_kv(h, norm, &qkv, place, &mut s.q, &mut s.k, &mut s.v, n);
        let kv = KvSource::Cache { cache, layer, first: position };
        backend.attention(&config.dims.attention, &s.q, kv, &mut s.attn, n);
        self.behind_attention(backend, layer, n);
    }

    fn layer_again(
        &mut self,
        backend: &mut B,
        cache: &B::KvCache,
        layer: usize,
        position: usize,
        queries: &mut B::Tensor,
        row: usize,
    ) {
        let Self { config, h, scratch: s, layers, rope, .. } = self;
        let (l, heads) = (&layers[layer], config.dims.attention.heads);
        let norm = RmsNorm { weight: &l.attn_norm, eps: config.eps, scratch: &mut s.norm };
        backend.norm_linear(h, norm, &l.q, &mut s.q, 1, Epilogue::Store);
        if let Some([q_norm, _]) = &l.qk_norm {
            backend.head_norm(&mut s.q, q_norm, config.eps, 1);
        }
        backend.rope(&mut s.q, rope, config.rope_style, heads.n_heads, heads.head_dim, position, 1);
        backend.copy_rows(&s.q, 0, queries, row, 1);
        let kv = KvSource::Cache { cache, layer, first: position };
        backend.attention(&config.dims.attention, &s.q, kv, &mut s.attn, 1);
        self.behind_attention(backend, layer, 1);
    }

    fn compute_logits(&mut self, backend: &mut B, row: usize) {
        let Self { config, h, logits, scratch: s, output_norm, output, token_embd, .. } = self;
        let row_h = if row == 0 {
            &*h
        } else {
            backend.copy_rows(h, row, &mut s.last, 0, 1);
            &s.last
        };
        let norm = RmsNorm { weight: output_norm, eps: config.eps, scratch: &mut s.last_norm };
        backend.norm_linear(row_h, norm, output.as_ref().unwrap_or(token_embd), logits, 1, Epilogue::Store);
    }
}

/// Takes the divisors of frequencies that fit the context, where the file has any.
fn rope_factors<B: Backend>(config: &mut LlamaConfig, w: &mut Weights<B>, n_ctx: usize) -> Result<()> {
    let plain = w.floats("rope_freqs.weight");
    let long = w.floats("rope_factors_long.weight");
    let short = w.floats("rope_factors_short.weight");
    let original = config.original_context.unwrap_or(config.dims.n_ctx_train);
    let longrope = if n_ctx > original { long } else { short };
    if longrope.is_some() {
        // LongRoPE's magnitude (arXiv 2402.13753, section 3) follows from the context the model was made for, whichever set of divisors
        // is in use.
        let scale = config.dims.n_ctx_train as f64 / original as f64;
        let by_formula = if scale > 1.0 { (1.0 + scale.ln() / (original as f64).ln()).sqrt() } else { 1.0 };
        config.rope.magnitude = config.attn_factor.unwrap_or(by_formula);
    }
    config.rope.factors = plain.or(longrope);
    if config.rope.factors.as_ref().is_some_and(|f| f.iter().any(|v| *v <= 0.0)) {
        return Err(Error::invalid_gguf("The file's rope factors are not positive. It is damaged; download it again."));
    }
    Ok(())
}
