//! Gemma 3 (Gemma Team 2025, arXiv 2503.19786): LLaMA's block with a norm also behind each half, GELU in the feed-forward layer's gate, and
//! embeddings of tokens that are multiplied by the root of their width; a picture's rows come as they are.
//!
//! Most layers are local: they see a window of the context, and turn queries and keys by angles of their own. The rows of a picture see each
//! other in both directions:
//!
//! ```text
//! query at slot q sees key at slot k:  (k ≤ q  or  both in one picture)  and  (not local  or  q − k < window)
//! ```

use std::ops::Range;

use crate::backend::{AttentionOp, Backend, Expected, Gating, KvFormat, Mask, RopeStyle};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::gguf::metadata::Value;
use crate::model::decoder::{Decoder, DecoderConfig, Dims};
use crate::model::keys::Key;
use crate::model::lm::blocks::{At, Attention, FeedForward, Scratch, Stream, expect, rope_table};
use crate::model::lm::config::{Architecture, LlamaConfig};
use crate::model::rope::{RopeConfig, RopeScaling};
use crate::model::weights::{Plan, Weights};

/// What it has in common with LLaMA's relatives.
const ARCHITECTURE: Architecture =
    Architecture { qk_norm: true, post_norms: true, gating: Gating::GeluTanh, ..Architecture::new("gemma3", RopeStyle::Halves) };
/// What only it has.
const KEYS: &[(&str, Key)] =
    &[("attention.sliding_window_pattern", Key::Read), ("rope.freq_base_swa", Key::Read), ("final_logit_softcapping", Key::Read)];
/// Where a file does not say it, the last of every so many layers sees the whole context.
const PATTERN: u64 = 6;
/// The base of local layers' angles, where a file does not say it.
const LOCAL_FREQ_BASE: f32 = 10_000.0;
/// Layers of the 27B model, whose scale of attention no file says: by the width over the heads, not by the heads' own.
const LAYERS_27B: usize = 62;
/// The name of the norm behind the last layer.
const OUTPUT_NORM: &str = "output_norm";

/// What a file says of its network.
#[derive(Debug, Clone)]
pub struct Gemma3Config {
    /// All that it has in common with LLaMA; its angles are those of the layers that see the whole context.
    base: LlamaConfig,
    /// The angles of local layers.
    local_rope: RopeConfig,
    /// What logits are bent into, where they are.
    soft_cap: Option<f32>,
}

impl Gemma3Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// As [`LlamaConfig::from_gguf`].
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let m = &gguf.metadata;
        let mut base = LlamaConfig::read(gguf, &ARCHITECTURE, None, KEYS)?;
        let wrong = |key: &str| {
            let value = m.get(key);
            Error::invalid_gguf(format!("'{}' gives {key} as {value:?}, which cannot be right.", gguf.name()))
        };
        // What it says of windows is of local layers; one that all positions fit into is read as none.
        let window = "gemma3.attention.sliding_window";
        if m.uint(window).is_none_or(|width| width == 0) {
            return Err(wrong(window));
        }
        let dims = &mut base.dims;
        if dims.n_layers == LAYERS_27B && !m.contains("gemma3.attention.scale") {
            dims.attention.scale = 1.0 / (dims.n_embd as f32 / dims.attention.heads.n_heads as f32).sqrt();
        }
        let local = dims.attention;
        dims.attention = AttentionOp { mask: Mask::Causal, ..local };
        dims.local = Some((local, local_layers(gguf, dims.n_layers)?));
        dims.pictures_see_themselves = true;
        // A number over the least one; a missing one is as usual.
        let number = |key: &str, least: f32| match m.float(key) {
            None if !m.contains(key) => Ok(None),
            Some(x) if x > least && x.is_finite() => Ok(Some(x)),
            _ => Err(wrong(key)),
        };
        let freq_base = number("gemma3.rope.freq_base_swa", 1.0)?.unwrap_or(LOCAL_FREQ_BASE);
        let soft_cap = "gemma3.final_logit_softcapping";
        Ok(Self {
            local_rope: RopeConfig { freq_base: f64::from(freq_base), scaling: RopeScaling::None, ..base.rope.clone() },
            // 0 stands for none.
            soft_cap: if m.float(soft_cap) == Some(0.0) { None } else { number(soft_cap, 0.0)? },
            base,
        })
    }

    /// [`Self::from_gguf`], as the registry has it.
    ///
    /// # Errors
    /// As there.
    pub fn open<B: Backend>(gguf: &Gguf) -> Result<Box<dyn DecoderConfig<B>>> {
        Ok(Box::new(Self::from_gguf(gguf)?))
    }

    /// What embeddings of tokens are multiplied by.
    fn embedding_scale(&self) -> f32 {
        (self.base.dims.n_embd as f32).sqrt()
    }
}

/// For each layer whether it is local. Files give after how many layers one is not, or list the layers; older ones say nothing.
fn local_layers(gguf: &Gguf, n_layers: usize) -> Result<Vec<bool>> {
    let key = "gemma3.attention.sliding_window_pattern";
    let pattern = match gguf.metadata.get(key) {
        None => PATTERN,
        Some(Value::Ints(all)) if all.len() == n_layers && all.iter().all(|is_local| (0..=1).contains(is_local)) => {
            return Ok(all.iter().map(|is_local| *is_local == 1).collect());
        }
        value => match gguf.metadata.uint(key).filter(|n| *n > 0) {
            Some(pattern) => pattern,
            None => {
                return Err(Error::invalid_gguf(format!("'{}' gives {key} as {value:?}, which cannot be right.", gguf.name())));
            }
        },
    };
    Ok((1..=n_layers as u64).map(|layer| !layer.is_multiple_of(pattern)).collect())
}

/// Which slots see each other.
struct Spans<B: Backend> {
    spans: Vec<Range<usize>>,
    n_ctx: usize,
    /// `[1, n_ctx]`, see [`KvSource::Cache`](crate::backend::KvSource::Cache).
    ends: B::Tensor,
}

impl<B: Backend> Spans<B> {
    /// The span that a slot is in.
    fn of(&self, slot: usize) -> Option<&Range<usize>> {
        let i = self.spans.partition_point(|span| span.end <= slot);
        self.spans.get(i).filter(|span| span.contains(&slot))
    }

    /// The ends, where any of `n` slots is in a span.
    fn ends(&self, slot: usize, n: usize) -> Option<&B::Tensor> {
        let i = self.spans.partition_point(|span| span.end <= slot);
        self.spans.get(i).filter(|span| span.start < slot + n).map(|_| &self.ends)
    }
}

/// A loaded language model.
struct Gemma3<B: Backend> {
    config: Gemma3Config,
    n_chunk: usize,
    stream: Stream<B>,
    layers: Vec<(Attention<B>, FeedForward<B>)>,
    /// `[n_ctx, n_rot]`: of layers that see the whole context, and of local ones.
    ropes: [B::Tensor; 2],
    spans: Spans<B>,
    scratch: Scratch<B>,
}

impl<B: Backend> DecoderConfig<B> for Gemma3Config {
    fn dims(&self) -> &Dims {
        &self.base.dims
    }

    fn plan<'a>(&self, gguf: &'a Gguf) -> Result<Plan<'a>> {
        let mut plan = Plan::new(gguf);
        Stream::<B>::plan(&self.base, &mut plan, OUTPUT_NORM);
        for layer in 0..self.base.dims.n_layers {
            Attention::<B>::plan(&self.base, &mut plan, layer);
            FeedForward::<B>::plan(&self.base, &mut plan, layer);
        }
        plan.check()?;
        Ok(plan)
    }

    fn expect(&self, gguf: &Gguf, backend: &mut B, kv_format: KvFormat) {
        expect(&self.base, gguf, backend, kv_format, &[]);
        backend.expect(&[Expected::Scaled, Expected::AttentionEnds(self.base.dims.attention.heads.head_dim, kv_format)]);
        if self.soft_cap.is_some() {
            backend.expect(&[Expected::SoftCap]);
        }
    }

    fn scratch_bytes(&self, n_ctx: usize, n_chunk: usize) -> u64 {
        let more = (n_ctx as u64).saturating_mul(self.local_rope.n_rot as u64 + 1).saturating_mul(4);
        Scratch::<B>::n_bytes(&self.base, n_ctx, n_chunk).saturating_add(more)
    }

    fn load(
        self: Box<Self>,
        backend: &mut B,
        mut weights: Weights<B>,
        n_ctx: usize,
        n_chunk: usize,
    ) -> Result<Box<dyn Decoder<B>>> {
        let (base, w) = (&self.base, &mut weights);
        let mut layers = Vec::with_capacity(base.dims.n_layers);
        for layer in 0..base.dims.n_layers {
            layers.push((Attention::new(base, backend, w, layer)?, FeedForward::new(base, backend, w, layer)?));
        }
        Ok(Box::new(Gemma3 {
            n_chunk,
            ropes: [rope_table(backend, &base.rope, n_ctx)?, rope_table(backend, &self.local_rope, n_ctx)?],
            spans: Spans { spans: Vec::new(), n_ctx, ends: backend.tensor(1, n_ctx)? },
            scratch: Scratch::new(backend, base, n_chunk)?,
            stream: Stream::new(base, backend, w, OUTPUT_NORM, n_chunk)?,
            layers,
            config: *self,
        }))
    }
}

impl<B: Backend> Gemma3<B> {
    /// Where `n` rows from a slot on stand in a layer.
    fn at<'a>(
        config: &Gemma3Config,
        (ropes, spans): (&'a [B::Tensor; 2], &'a Spans<B>),
        layer: usize,
        position: usize,
        n: usize,
    ) -> At<'a, B> {
        let dims = &config.base.dims;
        let is_local = dims.local.as_ref().is_some_and(|(_, is_local)| is_local[layer]);
        At { layer, position, rope: &ropes[usize::from(is_local)], op: dims.attention_of(layer), ends: spans.ends(position, n) }
    }
}

impl<B: Backend> Decoder<B> for Gemma3<B> {
    fn dims(&self) -> &Dims {
        &self.config.base.dims
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
        let Scratch { added, norm, .. } = &mut self.scratch;
        if let Some(added) = added {
            self.stream.embed_scaled(backend, (ids, row), self.config.embedding_scale(), (added, norm));
        }
    }

    fn embed_chosen(&mut self, backend: &mut B) {
        if let Some(added) = &mut self.scratch.added {
            self.stream.embed_chosen_scaled(backend, self.config.embedding_scale(), added);
        }
    }

    fn set_spans(&mut self, backend: &mut B, spans: &[Range<usize>]) {
        if self.spans.spans == spans {
            return;
        }
        let mut ends = vec![0.0; self.spans.n_ctx];
        for span in spans {
            ends[span.clone()].fill(span.end as f32);
        }
        backend.write(&mut self.spans.ends, 0, &ends);
        self.spans.spans = spans.to_vec();
    }

    fn end_of(&self, slot: usize) -> usize {
        self.spans.of(slot).map_or(slot + 1, |span| span.end)
    }

    fn add_rows(&mut self, backend: &mut B, rows: &B::Tensor, from: usize, row: usize, n: usize) {
        self.stream.add_rows(backend, (rows, from), &mut self.scratch, row, n);
    }

    fn layer(&mut self, backend: &mut B, cache: &mut B::KvCache, layer: usize, position: usize, n: usize) {
        let Self { config, stream, scratch, layers, ropes, spans, .. } = self;
        let (attention, feed_forward) = &layers[layer];
        let at = Self::at(config, (ropes, spans), layer, position, n);
        attention.run(backend, &config.base, (&mut stream.h, scratch), cache, at, n);
        feed_forward.run(backend, &config.base, &mut stream.h, scratch, n);
    }

    fn layer_again(
        &mut self,
        backend: &mut B,
        cache: &B::KvCache,
        layer: usize,
        position: usize,
        n: usize,
    ) -> Option<&B::Tensor> {
        let Self { config, stream, scratch, layers, ropes, spans, .. } = self;
        let (attention, feed_forward) = &layers[layer];
        let at = Self::at(config, (ropes, spans), layer, position, n);
        attention.run_again(backend, &config.base, (&mut stream.h, scratch), cache, at, n);
        feed_forward.run(backend, &config.base, &mut stream.h, scratch, n);
        Some(&scratch.q)
    }

    fn compute_logits(&mut self, backend: &mut B, row: usize) {
        self.stream.compute_logits(backend, self.config.base.eps, row);
        if let Some(cap) = self.config.soft_cap {
            backend.soft_cap(&mut self.stream.logits, cap, 1);
        }
    }
}
