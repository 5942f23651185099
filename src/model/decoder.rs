//! What a language model is to the runtime: a stack of layers over rows of embeddings, with keys and values of its own shape. One file
//! under [`lm`](super::lm) for each structure of the block, one row in the [registry](super::registry) for each architecture.

use crate::backend::{AttentionOp, Backend, KvFormat, KvSpec};
use crate::error::Result;
use crate::gguf::Gguf;
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
    /// Width of the residual stream.
    pub n_embd: usize,
    /// The vocabulary's size, from the embedding table.
    pub n_vocab: usize,
    /// Positions the model was made for.
    pub n_ctx_train: usize,
    /// The attention of every layer.
    pub attention: AttentionOp,
    /// Multiply-adds of a row in a layer, attention apart.
    pub work_per_row: u64,
}

impl Dims {
    /// The context to use where the caller names none: the model's, but at most 4096 positions.
    pub fn default_context(&self) -> usize {
        self.n_ctx_train.min(DEFAULT_CONTEXT)
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
        KvSpec { n_layers: self.n_layers, n_ctx, n_kv: self.n_kv(), head_dim: self.attention.heads.head_dim, format }
    }
}

/// A language model whose file's header is read and checked, before its weights are there.
pub trait DecoderConfig<B: Backend> {
    /// The shape.
    fn dims(&self) -> &Dims;

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

    /// Runs the first `n` rows through one layer, at positions `position ..`.
    fn layer(&mut self, backend: &mut B, cache: &mut B::KvCache, layer: usize, position: usize, n: usize);

    /// Runs the first row through one layer once more, at a position whose key and value the cache holds already: it is read and
    /// not written. The turned queries go to row `row` of `queries [·, n_q]`.
    fn layer_again(
        &mut self,
        backend: &mut B,
        cache: &B::KvCache,
        layer: usize,
        position: usize,
        queries: &mut B::Tensor,
        row: usize,
    );

    /// Computes the logits of one row after all layers.
    fn compute_logits(&mut self, backend: &mut B, row: usize);

    /// Runs the first row through all layers and computes its logits: a token's step.
    fn step(&mut self, backend: &mut B, cache: &mut B::KvCache, position: usize) {
        for layer in 0..self.dims().n_layers {
            self.layer(backend, cache, layer, position, 1);
        }
        self.compute_logits(backend, 0);
    }
}
