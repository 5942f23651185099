//! The LLaMA decoder (Touvron et al. 2023, arXiv 2302.13971) and its relatives that share the block: attention, then a gated
//! feed-forward layer.

use crate::backend::{Backend, KvFormat};
use crate::error::Result;
use crate::gguf::Gguf;
use crate::model::decoder::{Decoder, DecoderConfig, Dims};
use crate::model::lm::blocks::{At, Attention, FeedForward, Scratch, Stream, expect, rope_table};
use crate::model::lm::config::LlamaConfig;
use crate::model::lm::placed::Placed;
use crate::model::positions::Position;
use crate::model::weights::{Plan, Weights};

/// The name of the norm behind the last layer.
const OUTPUT_NORM: &str = "output_norm";

/// A loaded language model.
struct Llama<B: Backend> {
    config: LlamaConfig,
    n_chunk: usize,
    stream: Stream<B>,
    layers: Vec<(Attention<B>, FeedForward<B>)>,
    /// `[n_ctx, n_rot]`: the angles of each slot.
    rope: B::Tensor,
    /// Where a slot's position may be another number than its own.
    placed: Option<Placed<B>>,
    scratch: Scratch<B>,
}

impl<B: Backend> DecoderConfig<B> for LlamaConfig {
    fn dims(&self) -> &Dims {
        &self.dims
    }

    fn n_deeper(&self) -> usize {
        self.n_deeper
    }

    fn plan<'a>(&self, gguf: &'a Gguf) -> Result<Plan<'a>> {
        let mut plan = Plan::new(gguf);
        Stream::<B>::plan(self, &mut plan, OUTPUT_NORM);
        // A divisor per frequency: LLaMA 3 has one set, LongRoPE two.
        for name in ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"] {
            plan.optional_divisors(name, self.rope.n_rot / 2);
        }
        for layer in 0..self.dims.n_layers {
            Attention::<B>::plan(self, &mut plan, layer);
            FeedForward::<B>::plan(self, &mut plan, layer);
        }
        plan.check()?;
        Ok(plan)
    }

    fn expect(&self, gguf: &Gguf, backend: &mut B, kv_format: KvFormat) {
        expect(self, gguf, backend, kv_format, &[]);
    }

    fn scratch_bytes(&self, n_ctx: usize, n_chunk: usize) -> u64 {
        Scratch::<B>::n_bytes(self, n_ctx, n_chunk).saturating_add(Placed::<B>::n_bytes(self, n_ctx))
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
        let mut layers = Vec::with_capacity(config.dims.n_layers);
        for layer in 0..config.dims.n_layers {
            layers.push((Attention::new(&config, backend, &mut w, layer)?, FeedForward::new(&config, backend, &mut w, layer)?));
        }
        rope_factors(&mut config, &mut w, n_ctx);
        Ok(Self {
            n_chunk,
            rope: rope_table(backend, &config.rope, n_ctx)?,
            placed: Placed::new(backend, &config, n_ctx)?,
            scratch: Scratch::new(backend, &config, n_chunk)?,
            stream: Stream::new(&config, backend, &mut w, OUTPUT_NORM, n_chunk)?,
            layers,
            config,
        })
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
        &mut self.stream.h
    }

    fn logits(&self) -> &B::Tensor {
        &self.stream.logits
    }

    fn n_chunk(&self) -> usize {
        self.n_chunk
    }

    fn embed(&mut self, backend: &mut B, ids: &[u32], row: usize) {
        self.stream.embed(backend, ids, row);
    }

    fn embed_chosen(&mut self, backend: &mut B) {
        self.stream.embed_chosen(backend);
    }

    fn set_positions(&mut self, backend: &mut B, positions: &[Position], next: usize) {
        if let Some(placed) = &mut self.placed {
            placed.set(backend, &mut self.rope, self.config.rope.n_rot, positions, next);
        }
    }

    fn add_rows(&mut self, backend: &mut B, rows: &B::Tensor, from: usize, row: usize, n: usize) {
        self.stream.add_rows(backend, (rows, from), &mut self.scratch, row, n);
    }

    fn layer(&mut self, backend: &mut B, cache: &mut B::KvCache, layer: usize, position: usize, n: usize) {
        let Self { config, stream, scratch, layers, rope, .. } = self;
        let (attention, feed_forward) = &layers[layer];
        attention.run(
            backend,
            config,
            (&mut stream.h, scratch),
            cache,
            At { layer, position, rope, op: config.dims.attention, ends: None },
            n,
        );
        feed_forward.run(backend, config, &mut stream.h, scratch, n);
    }

    fn layer_again(
        &mut self,
        backend: &mut B,
        cache: &B::KvCache,
        layer: usize,
        position: usize,
        n: usize,
    ) -> Option<&B::Tensor> {
        let Self { config, stream, scratch, layers, rope, .. } = self;
        let (attention, feed_forward) = &layers[layer];
        attention.run_again(
            backend,
            config,
            (&mut stream.h, scratch),
            cache,
            At { layer, position, rope, op: config.dims.attention, ends: None },
            n,
        );
        feed_forward.run(backend, config, &mut stream.h, scratch, n);
        Some(&scratch.q)
    }

    fn compute_logits(&mut self, backend: &mut B, row: usize) {
        self.stream.compute_logits(backend, self.config.eps, row);
    }
}

/// Takes the divisors of frequencies that fit the context, where the file has any.
fn rope_factors<B: Backend>(config: &mut LlamaConfig, w: &mut Weights<B>, n_ctx: usize) {
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
}
