//! LFM2 (Liquid AI 2025, arXiv 2511.23404): LLaMA's block, in which most layers have a short convolution in attention's place:
//!
//! ```text
//! h += Wout · (C ⊙ y),   (B, C, X) = thirds of Win·n,   n = rms_norm(h)
//! y[t] = w[0]⊙u[t−2] + w[1]⊙u[t−1] + w[2]⊙u[t],   u = B ⊙ X
//! ```
//!
//! Attention norms each head of its queries and keys.

use crate::backend::{Backend, Epilogue, Expected, KvFormat, Linear, RmsNorm, RopeStyle};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::gguf::metadata::Value;
use crate::model::conv_state::ConvState;
use crate::model::decoder::{Decoder, DecoderConfig, Dims};
use crate::model::keys::Key;
use crate::model::lm::blocks::{At, Attention, FeedForward, Scratch, Stream, expect, rope_table};
use crate::model::lm::config::{Architecture, LlamaConfig};
use crate::model::weights::{Plan, Weights};

/// What it has in common with LLaMA's relatives.
const ARCHITECTURE: Architecture = Architecture { qk_norm: true, ..Architecture::new("lfm2", RopeStyle::Halves) };
/// Taps of the convolution: the only number there is.
const TAPS: usize = 3;
/// The names of the norm behind the last layer; the first one is a historic mistake of nearly all files.
const OUTPUT_NORMS: [&str; 2] = ["token_embd_norm", "output_norm"];

/// What a file says of its network.
#[derive(Debug, Clone)]
pub struct Lfm2Config {
    /// All that it has in common with LLaMA.
    base: LlamaConfig,
    output_norm: &'static str,
}

impl Lfm2Config {
    /// Reads the configuration.
    ///
    /// # Errors
    /// As [`LlamaConfig::from_gguf`].
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let (m, file) = (&gguf.metadata, gguf.name());
        let key = "lfm2.attention.head_count_kv";
        let wrong = || Error::invalid_gguf(format!("'{file}' gives {key} as {:?}, which cannot be right.", m.get(key)));
        let Some(Value::Ints(heads)) = m.get(key) else { return Err(wrong()) };
        let heads: Vec<usize> = heads.iter().map(|n| usize::try_from(*n).map_err(|_| wrong())).collect::<Result<_>>()?;
        let taps = m.uint("lfm2.shortconv.l_cache");
        if taps != Some(TAPS as u64) {
            return Err(Error::unsupported_architecture(format!(
                "'{file}' has convolutions over {taps:?} positions; only those over {TAPS} are supported."
            )));
        }
        let mut base = LlamaConfig::read(gguf, &ARCHITECTURE, Some(&heads), &[("shortconv.l_cache", Key::Read)])?;
        // Of the two kinds of layers, the one that takes longer.
        let n_embd = base.dims.n_embd as u64;
        base.dims.work_per_row = base.dims.work_per_row.max(n_embd * (4 * n_embd + 3 * base.n_ff as u64));
        let output_norm = OUTPUT_NORMS.into_iter().find(|name| gguf.tensor(&format!("{name}.weight")).is_some());
        Ok(Self { base, output_norm: output_norm.unwrap_or(OUTPUT_NORMS[0]) })
    }

    /// [`Self::from_gguf`], as the registry has it.
    ///
    /// # Errors
    /// As there.
    pub fn open<B: Backend>(gguf: &Gguf) -> Result<Box<dyn DecoderConfig<B>>> {
        Ok(Box::new(Self::from_gguf(gguf)?))
    }

    /// The layer's number in the cache, where it has attention.
    fn attention(&self, layer: usize) -> Option<usize> {
        self.base.dims.attention_layers.iter().position(|i| *i == layer)
    }

    fn n_conv_layers(&self) -> usize {
        self.base.dims.n_layers - self.base.dims.attention_layers.len()
    }
}

/// The half of a block that looks at the two slots before.
struct Convolution<B: Backend> {
    norm: B::Tensor,
    /// `[3 · n_embd, n_embd]`
    into: Linear<B>,
    /// `[3, n_embd]`
    taps: B::Tensor,
    /// `[n_embd, n_embd]`
    out: Linear<B>,
    /// The layer's number among its like.
    layer: usize,
}

/// Activations of convolutions.
struct ConvScratch<B: Backend> {
    /// `[n_chunk, 3 · n_embd]`
    thirds: B::Tensor,
    /// `[n_chunk, n_embd]`
    y: B::Tensor,
}

impl<B: Backend> Convolution<B> {
    fn plan(c: &LlamaConfig, plan: &mut Plan<'_>, layer: usize) {
        let (name, n_embd) = (|part: &str| format!("blk.{layer}.{part}"), c.dims.n_embd);
        plan.floats(&name("attn_norm.weight"), &[n_embd]);
        plan.linear(&name("shortconv.in_proj"), n_embd, 3 * n_embd);
        plan.floats(&name("shortconv.conv.weight"), &[TAPS, n_embd]);
        plan.linear(&name("shortconv.out_proj"), n_embd, n_embd);
    }

    fn new(c: &LlamaConfig, backend: &mut B, w: &mut Weights<B>, layer: usize, among: usize) -> Result<Self> {
        let (name, n_embd) = (|part: &str| format!("blk.{layer}.{part}"), c.dims.n_embd);
        // The file has those of an element side by side.
        let by_element = w.floats(&name("shortconv.conv.weight")).unwrap_or_default();
        let by_tap: Vec<f32> = (0..TAPS).flat_map(|tap| by_element.iter().skip(tap).step_by(TAPS)).copied().collect();
        let mut taps = backend.tensor(TAPS, n_embd)?;
        backend.write(&mut taps, 0, &by_tap);
        Ok(Self {
            norm: w.tensor(backend, &name("attn_norm.weight"), n_embd)?,
            into: w.linear(backend, &name("shortconv.in_proj"))?,
            taps,
            out: w.linear(backend, &name("shortconv.out_proj"))?,
            layer: among,
        })
    }

    /// Runs the first `n` rows of `h`, which stand from `slot` on in this state.
    fn run(
        &self,
        backend: &mut B,
        eps: f32,
        (h, norm, s): (&mut B::Tensor, &mut B::Tensor, &mut ConvScratch<B>),
        (state, slot): (&mut B::Tensor, usize),
        n: usize,
    ) {
        let norm = RmsNorm { weight: &self.norm, eps, scratch: norm };
        backend.norm_linear(h, norm, &self.into, &mut s.thirds, n, Epilogue::Store);
        backend.short_conv(&s.thirds, &self.taps, state, slot, &mut s.y, n);
        backend.linear(&s.y, &self.out, h, n, Epilogue::Add);
    }
}

/// What stands in a layer before its feed-forward half.
enum Mixer<B: Backend> {
    /// Attention, and its number in the cache.
    Attention(Attention<B>, usize),
    Convolution(Convolution<B>),
}

/// A loaded language model.
struct Lfm2<B: Backend> {
    config: Lfm2Config,
    n_chunk: usize,
    stream: Stream<B>,
    layers: Vec<(Mixer<B>, FeedForward<B>)>,
    /// `[n_ctx, n_rot]`
    rope: B::Tensor,
    scratch: Scratch<B>,
    conv_scratch: ConvScratch<B>,
    state: ConvState<B>,
}

impl<B: Backend> DecoderConfig<B> for Lfm2Config {
    fn dims(&self) -> &Dims {
        &self.base.dims
    }

    fn plan<'a>(&self, gguf: &'a Gguf) -> Result<Plan<'a>> {
        let mut plan = Plan::new(gguf);
        Stream::<B>::plan(&self.base, &mut plan, self.output_norm);
        for layer in 0..self.base.dims.n_layers {
            match self.attention(layer) {
                Some(_) => Attention::<B>::plan(&self.base, &mut plan, layer),
                None => Convolution::<B>::plan(&self.base, &mut plan, layer),
            }
            FeedForward::<B>::plan(&self.base, &mut plan, layer);
        }
        plan.check()?;
        Ok(plan)
    }

    fn expect(&self, gguf: &Gguf, backend: &mut B, kv_format: KvFormat) {
        expect(&self.base, gguf, backend, kv_format, &["shortconv.in_proj", "shortconv.out_proj"]);
        backend.expect(&[Expected::ShortConv]);
    }

    fn scratch_bytes(&self, n_ctx: usize, n_chunk: usize) -> u64 {
        let n_embd = self.base.dims.n_embd;
        Scratch::<B>::n_bytes(&self.base, n_ctx, n_chunk)
            .saturating_add(16 * n_chunk as u64 * n_embd as u64)
            .saturating_add(ConvState::<B>::n_bytes(self.n_conv_layers(), n_ctx, n_embd))
    }

    fn load(
        self: Box<Self>,
        backend: &mut B,
        mut weights: Weights<B>,
        n_ctx: usize,
        n_chunk: usize,
    ) -> Result<Box<dyn Decoder<B>>> {
        let (base, w, n_embd) = (&self.base, &mut weights, self.base.dims.n_embd);
        let mut layers = Vec::with_capacity(base.dims.n_layers);
        for layer in 0..base.dims.n_layers {
            let mixer = match self.attention(layer) {
                Some(among) => Mixer::Attention(Attention::new(base, backend, w, layer)?, among),
                None => {
                    let among = layer - base.dims.attention_layers.partition_point(|i| *i < layer);
                    Mixer::Convolution(Convolution::new(base, backend, w, layer, among)?)
                }
            };
            layers.push((mixer, FeedForward::new(base, backend, w, layer)?));
        }
        Ok(Box::new(Lfm2 {
            n_chunk,
            rope: rope_table(backend, &base.rope, n_ctx)?,
            scratch: Scratch::new(backend, base, n_chunk)?,
            conv_scratch: ConvScratch { thirds: backend.tensor(n_chunk, 3 * n_embd)?, y: backend.tensor(n_chunk, n_embd)? },
            state: ConvState::new(backend, self.n_conv_layers(), n_ctx, n_embd)?,
            stream: Stream::new(base, backend, w, self.output_norm, n_chunk)?,
            layers,
            config: *self,
        }))
    }
}

impl<B: Backend> Decoder<B> for Lfm2<B> {
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
        self.stream.embed(backend, ids, row);
    }

    fn embed_chosen(&mut self, backend: &mut B) {
        self.stream.embed_chosen(backend);
    }

    fn add_rows(&mut self, backend: &mut B, rows: &B::Tensor, from: usize, row: usize, n: usize) {
        self.stream.add_rows(backend, (rows, from), &mut self.scratch, row, n);
    }

    fn layer(&mut self, backend: &mut B, cache: &mut B::KvCache, layer: usize, position: usize, n: usize) {
        let Self {
            config: Lfm2Config { base, .. }, stream: Stream { h, .. }, scratch, conv_scratch, layers, rope, state, ..
        } = self;
        let (mixer, feed_forward) = &layers[layer];
        match mixer {
            Mixer::Attention(attention, layer) => {
                attention.run(
                    backend,
                    base,
                    (h, scratch),
                    cache,
                    At { layer: *layer, position, rope, op: base.dims.attention, ends: None },
                    n,
                );
            }
            Mixer::Convolution(convolution) => {
                let state = state.advance(convolution.layer, position, n);
                convolution.run(backend, base.eps, (h, &mut scratch.norm, conv_scratch), (state, position), n);
            }
        }
        feed_forward.run(backend, base, h, scratch, n);
    }

    fn layer_again(
        &mut self,
        backend: &mut B,
        cache: &B::KvCache,
        layer: usize,
        position: usize,
        n: usize,
    ) -> Option<&B::Tensor> {
        let Self {
            config: Lfm2Config { base, .. }, stream: Stream { h, .. }, scratch, conv_scratch, layers, rope, state, ..
        } = self;
        let (mixer, feed_forward) = &layers[layer];
        match mixer {
            Mixer::Attention(attention, layer) => {
                attention.run_again(
                    backend,
                    base,
                    (h, scratch),
                    cache,
                    At { layer: *layer, position, rope, op: base.dims.attention, ends: None },
                    n,
                );
            }
            Mixer::Convolution(convolution) => {
                let state = state.again(backend, convolution.layer, position);
                convolution.run(backend, base.eps, (h, &mut scratch.norm, conv_scratch), state, n);
            }
        }
        feed_forward.run(backend, base, h, scratch, n);
        matches!(mixer, Mixer::Attention(..)).then_some(&scratch.q)
    }

    fn conv_state(&self) -> Option<&ConvState<B>> {
        Some(&self.state)
    }

    fn conv_state_mut(&mut self) -> Option<&mut ConvState<B>> {
        Some(&mut self.state)
    }

    fn compute_logits(&mut self, backend: &mut B, row: usize) {
        self.stream.compute_logits(backend, self.config.base.eps, row);
    }
}
