//! What a language model is to the runtime: a stack of layers over rows of embeddings, with keys and values of its own shape. One file
//! under [`lm`](super::lm) for each structure of the block, one row in the [registry](super::registry) for each architecture.

use std::ops::Range;

use crate::backend::{AttentionOp, Backend, KvFormat, KvSpec};
use crate::error::Result;
use crate::gguf::Gguf;
use crate::model::conv_state::ConvState;
use crate::model::positions::Position;
use crate::model::weights::{Plan, Weights};

/// More positions than this are never asked for by default; it bounds the key-value cache.
const DEFAULT_CONTEXT: usize = 4096;

/// The shape of a decoder, as far as others have to know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Dims {
    /// `general.architecture`.
    pub architecture: String,
    /// Decoder blocks.
    pub n_layers: usize,
    /// Those that have keys and values, in order: the layers of the cache.
    pub attention_layers: Vec<usize>,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// The vocabulary's size, from the embedding table.
    pub n_vocab: usize,
    /// Positions the model was made for.
    pub n_ctx_train: usize,
    /// The attention of every layer that has any, but for those of `local`.
    pub attention: AttentionOp,
    /// The attention of some layers that see less of the context, and for each layer whether it is one.
    pub local: Option<(AttentionOp, Vec<bool>)>,
    /// Whether the rows of a picture see each other, also those behind them ([`Decoder::set_spans`]). All of them must then be run at once.
    pub pictures_see_themselves: bool,
    /// Multiply-adds of a row in a layer, attention apart.
    pub work_per_row: u64,
}

impl Dims {
    /// The context to use where the caller names none: the model's, but at most 4096 positions.
    pub fn default_context(&self) -> usize {
        self.n_ctx_train.min(DEFAULT_CONTEXT)
    }

    /// The attention of a layer.
    pub fn attention_of(&self, layer: usize) -> AttentionOp {
        match &self.local {
            Some((attention, is_local)) if is_local.get(layer) == Some(&true) => *attention,
            _ => self.attention,
        }
    }

    /// Elements of all query heads.
    pub fn n_q(&self) -> usize {
        self.attention.heads.n_heads * self.attention.heads.head_dim
    }

    /// Elements of all key heads.
    pub fn n_kv(&self) -> usize {
        self.attention.heads.n_kv_heads * self.attention.heads.head_dim
    }

    /// The keys and values of so many positions.
    pub fn kv_spec(&self, n_ctx: usize, format: KvFormat) -> KvSpec {
        KvSpec {
            n_layers: self.attention_layers.len(),
            n_ctx,
            n_kv: self.n_kv(),
            head_dim: self.attention.heads.head_dim,
            format,
        }
    }
}

/// A language model whose file's header is read and checked, before its weights are there.
pub trait DecoderConfig<B: Backend> {
    /// The shape.
    fn dims(&self) -> &Dims;

    /// Levels of a picture's rows beyond the embedding, which are added to them after as many layers from the first on (DeepStack).
    fn n_deeper(&self) -> usize {
        0
    }

    /// Everything that it takes from its file, checked.
    ///
    /// # Errors
    /// As [`Plan::check`].
    fn plan<'a>(&self, gguf: &'a Gguf) -> Result<Plan<'a>>;

    /// Tells the backend which kernels the file's formats are going to take, before its weights arrive.
    fn expect(&self, gguf: &Gguf, backend: &mut B, kv_format: KvFormat);

    /// Bytes of everything that [`Self::load`] makes beside the weights.
    fn scratch_bytes(&self, n_ctx: usize, n_chunk: usize) -> u64;

    /// Makes the model of its weights, for contexts of `n_ctx` positions run in chunks of at most `n_chunk`.
    ///
    /// # Errors
    /// `out_of_memory`.
    fn load(self: Box<Self>, backend: &mut B, weights: Weights<B>, n_ctx: usize, n_chunk: usize) -> Result<Box<dyn Decoder<B>>>;
}

/// A loaded language model. It takes embeddings, never token ids, so text and picture rows are alike to it.
pub trait Decoder<B: Backend> {
    /// The shape.
    fn dims(&self) -> &Dims;

    /// All that decides what it computes apart from its weights, as text: some of it depends on the context's size.
    fn identity(&self) -> String;

    /// Rows that can be run at once.
    fn n_chunk(&self) -> usize;

    /// `[n_chunk, n_embd]`: the residual stream. A caller fills its first rows with embeddings, then runs the layers over them.
    fn rows(&mut self) -> &mut B::Tensor;

    /// `[1, n_vocab]`: what [`Self::compute_logits`] computed.
    fn logits(&self) -> &B::Tensor;

    /// Puts the embeddings of tokens into the residual stream from `row` on. Ids are in range.
    fn embed(&mut self, backend: &mut B, ids: &[u32], row: usize);

    /// Puts the embedding of the token that was chosen last into the first row.
    fn embed_chosen(&mut self, backend: &mut B);

    /// Tells at which positions the slots from the first on stand; those behind them stand at `next` and those that follow it. Told before
    /// rows are run in any slot whose position is not its number. Models whose slots are their positions have nothing to do.
    fn set_positions(&mut self, _backend: &mut B, _positions: &[Position], _next: usize) {}

    /// Tells which slots see each other: the rows of each picture, in order. Told before rows are run in any of them. Models whose pictures
    /// are causal like text ([`Dims::pictures_see_themselves`]) have nothing to do.
    fn set_spans(&mut self, _backend: &mut B, _spans: &[Range<usize>]) {}

    /// The slot behind the last that one sees.
    fn end_of(&self, slot: usize) -> usize {
        slot + 1
    }

    /// Adds `n` rows of `rows [·, n_embd]`, those from `from` on, to the residual stream's from `row` on.
    fn add_rows(&mut self, backend: &mut B, rows: &B::Tensor, from: usize, row: usize, n: usize);

    /// Runs the first `n` rows through one layer, in the slots `slot ..`.
    fn layer(&mut self, backend: &mut B, cache: &mut B::KvCache, layer: usize, slot: usize, n: usize);

    /// What it keeps of the context beside keys and values, where it has convolutions.
    fn conv_state(&self) -> Option<&ConvState<B>> {
        None
    }

    /// [`Self::conv_state`], to be changed.
    fn conv_state_mut(&mut self) -> Option<&mut ConvState<B>> {
        None
    }

    /// How many of the context's first `n` slots need not be computed again, if it is cut back to them. `n` is no more than there are.
    fn can_keep(&self, n: usize) -> usize {
        self.conv_state().map_or(n, |state| state.can_keep(n))
    }

    /// Cuts the context back to [`Self::can_keep`] of its first `n` slots, and says how many these are. A caller does so before it goes on
    /// anywhere but behind the last slot that was run, whether that was wanted or not.
    fn keep(&mut self, backend: &mut B, n: usize) -> usize {
        match self.conv_state_mut() {
            Some(state) => state.keep(backend, n),
            None => n,
        }
    }

    /// The first of the slots that have to be run once more ([`Self::layer_again`]) to have what the one at `position` computes.
    fn start_again(&self, position: usize) -> usize {
        self.conv_state().map_or(position, |state| state.start_again(position))
    }

    /// Runs the first `n` rows through one layer once more, in the slots `slot ..` that the context holds already; it is read and not
    /// written. Gives the turned queries `[·, n_q]` where the layer has attention.
    fn layer_again(&mut self, backend: &mut B, cache: &B::KvCache, layer: usize, slot: usize, n: usize) -> Option<&B::Tensor>;

    /// Computes the logits of one row after all layers.
    fn compute_logits(&mut self, backend: &mut B, row: usize);

    /// Runs the first row through all layers and computes its logits: a token's step.
    fn step(&mut self, backend: &mut B, cache: &mut B::KvCache, slot: usize) {
        for layer in 0..self.dims().n_layers {
            self.layer(backend, cache, layer, slot, 1);
        }
        self.compute_logits(backend, 0);
    }
}
