//! The operands of ops, apart from tensors: shapes, formats, and what a layer consists of.

use std::ops::Range;

use super::Types;
use crate::quant::Format;

/// A matrix to be uploaded: `n_out` rows of `n_in` elements, stored in `format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatrixSpec {
    /// The tensor's name, for messages.
    pub name: String,
    /// How the rows are stored.
    pub format: Format,
    /// Elements in a row: the length of an input vector.
    pub n_in: usize,
    /// Rows: the length of an output vector.
    pub n_out: usize,
}

/// What [`Ops::linear`](super::Ops::linear) does with its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epilogue {
    /// `out = y`
    Store,
    /// `out += y`: the residual connection.
    Add,
    /// `out = gelu(y) = y/2 · (1 + erf(y/√2))`, the exact form.
    Gelu,
    /// `out = y/2 · (1 + tanh(√(2/π) (y + 0.044715 y³)))`: SigLIP's activation.
    GeluTanh,
    /// `out = y · sigmoid(1.702 y)`: CLIP's activation.
    QuickGelu,
    /// `out = max(y, 0)`
    Relu,
    /// `out = clamp(y + 3, 0, 6) / 6`: a sigmoid in three straight lines (Howard et al. 2019, arXiv 1905.02244).
    HardSigmoid,
}

/// The activation of the gate of a gated feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gating {
    /// `silu(x) = x · sigmoid(x)`: LLaMA and most others.
    Silu,
    /// GELU by the hyperbolic tangent, see [`Epilogue::GeluTanh`]: Gemma.
    GeluTanh,
}

/// A linear layer: `y = x Wᵀ + b`.
pub struct Linear<B: Types + ?Sized> {
    /// `[n_out, n_in]`
    pub weight: B::Matrix,
    /// `[1, n_out]`
    pub bias: Option<B::Tensor>,
}

/// A depthwise convolution of 3 by 3 taps: each column for itself, over rows that are the places of a grid, line by line.
pub struct DepthwiseConv<B: Types + ?Sized> {
    /// `[9, cols]`: the taps, line by line.
    pub kernel: B::Tensor,
    /// `[1, cols]`
    pub bias: Option<B::Tensor>,
    /// Places of the grid from one output to the next, in both directions; at least 1.
    pub stride: usize,
}

impl<B: Types + ?Sized> DepthwiseConv<B> {
    /// Rows and columns of the output's grid: every `stride`th place of the input's has one.
    pub fn output(&self, grid: [usize; 2]) -> [usize; 2] {
        grid.map(|side| side.div_ceil(self.stride))
    }
}

/// How the query heads of an attention layer share key-value heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub n_heads: usize,
    /// Key-value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
}

/// Which keys a query sees. The query of row `i` stands at slot `first + i` of the keys, of which there are `first + n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Those up to its own slot: `0 ..= first + i`.
    Causal,
    /// The last so many (at least one) of those up to its own slot.
    Window(usize),
    /// All, as in a vision tower.
    Full,
}

impl Mask {
    /// The keys that the query at `slot` sees, of `n_keys`. Where `end` is beyond its own slot it sees those before that besides; a window
    /// begins where it would without.
    pub fn keys(self, slot: usize, n_keys: usize, end: usize) -> Range<usize> {
        match self {
            Self::Causal => 0..end.max(slot + 1),
            Self::Window(width) => (slot + 1).saturating_sub(width)..end.max(slot + 1),
            Self::Full => 0..n_keys,
        }
    }
}

/// An attention layer, apart from its operands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionOp {
    /// The heads' shape.
    pub heads: Heads,
    /// What a query's product with a key is multiplied by.
    pub scale: f32,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Scores are bent into `(−softcap, softcap)`: `softcap · tanh(score / softcap)`.
    pub softcap: Option<f32>,
}

impl AttentionOp {
    /// Causal attention with the usual scale, `1/√head_dim`.
    pub fn causal(heads: Heads) -> Self {
        Self { heads, scale: 1.0 / (heads.head_dim as f32).sqrt(), mask: Mask::Causal, softcap: None }
    }

    /// A score from the product of a query with a key.
    pub fn score(&self, product: f64) -> f64 {
        let score = f64::from(self.scale) * product;
        match self.softcap {
            Some(cap) => f64::from(cap) * (score / f64::from(cap)).tanh(),
            None => score,
        }
    }
}

/// Where [`Ops::attention`](super::Ops::attention) finds its keys and values.
pub enum KvSource<'a, B: Types + ?Sized> {
    /// In a layer of a cache; the first query stands at slot `first`.
    Cache {
        /// The cache.
        cache: &'a B::KvCache,
        /// Its layer.
        layer: usize,
        /// The slot of the first query.
        first: usize,
        /// `[1, n_ctx]`: for each slot the one behind the last that its query sees, where that is beyond its own (spans of slots that see
        /// each other, as the rows of a picture may); 0 where it is not. Whole numbers that do not fall as slots rise, but to 0; keys are
        /// there up to them. A full mask does not look at it.
        ends: Option<&'a B::Tensor>,
    },
    /// In tensors `[·, n_kv_heads · head_dim]` of as many rows as there are queries.
    Rows {
        /// The keys.
        k: &'a B::Tensor,
        /// The values.
        v: &'a B::Tensor,
    },
}

/// Which elements of a head rotary embedding turns together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// `(0,1), (2,3), …`: LLaMA as GGUF stores it.
    Adjacent,
    /// `(0, d/2), (1, d/2+1), …`: GPT-NeoX, Qwen2, Phi-3.
    Halves,
}

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KvFormat {
    /// 32-bit floats: exact, for tests.
    F32,
    /// 16-bit floats: half the memory, relative error 2⁻¹¹ per element.
    F16,
    /// Signed bytes with a half as the scale of each [`KV_BLOCK`] elements of a head: 17/32 of the halves' memory; an element is off by at
    /// most 1/254 of the largest in its block, and the scale's rounding (2⁻¹¹).
    Q8_0,
}

/// Elements of a head that share a scale in [`KvFormat::Q8_0`]; a head's last block may have fewer.
pub const KV_BLOCK: usize = 32;

impl KvFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8_0];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// Bytes of one head's key or value.
    pub fn head_bytes(self, head_dim: usize) -> usize {
        match self {
            Self::F32 => 4 * head_dim,
            Self::F16 => 2 * head_dim,
            Self::Q8_0 => head_dim + 2 * head_dim.div_ceil(KV_BLOCK),
        }
    }
}

/// One half of what a cache holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvPart {
    /// The keys.
    Keys,
    /// The values.
    Values,
}

/// The size of a key-value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvSpec {
    /// Decoder layers.
    pub n_layers: usize,
    /// Positions.
    pub n_ctx: usize,
    /// Elements of a key (and of a value) per position: `n_kv_heads · head_dim`.
    pub n_kv: usize,
    /// Elements of one head's; divides `n_kv`.
    pub head_dim: usize,
    /// How they are kept.
    pub format: KvFormat,
}

impl KvSpec {
    /// Bytes the cache takes when full.
    pub fn n_bytes(&self) -> u64 {
        2 * self.row_bytes() as u64 * self.n_layers as u64 * self.n_ctx as u64
    }

    /// Bytes of one layer's key (or value) at a position, without any padding.
    pub fn row_bytes(&self) -> usize {
        self.n_kv / self.head_dim * self.format.head_bytes(self.head_dim)
    }

    /// The numbers that whole rows stand for, as [`Queue::kv_read`](super::Queue::kv_read) gives them.
    pub fn floats(&self, bytes: &[u8], out: &mut Vec<f32>) {
        out.clear();
        match self.format {
            KvFormat::F32 => out.extend(bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x))),
            KvFormat::F16 => out.extend(bytes.as_chunks().0.iter().map(|x| half::f16::from_le_bytes(*x).to_f32())),
            KvFormat::Q8_0 => {
                for head in bytes.chunks_exact(self.format.head_bytes(self.head_dim)) {
                    for block in head.chunks(2 + KV_BLOCK) {
                        let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
                        out.extend(block[2..].iter().map(|q| scale * f32::from(q.cast_signed())));
                    }
                }
            }
        }
    }

    /// Whether whole rows are such as a cache may hold: finite numbers, and scales that are not negative.
    pub fn are_sound(&self, bytes: &[u8]) -> bool {
        let is_finite = |half: [u8; 2]| u16::from_le_bytes(half) & 0x7c00 != 0x7c00;
        match self.format {
            KvFormat::F32 => bytes.as_chunks().0.iter().all(|x| f32::from_le_bytes(*x).is_finite()),
            KvFormat::F16 => bytes.as_chunks().0.iter().all(|x| is_finite(*x)),
            KvFormat::Q8_0 => bytes
                .chunks_exact(self.format.head_bytes(self.head_dim))
                .all(|head| head.chunks(2 + KV_BLOCK).all(|block| is_finite([block[0], block[1]]) && block[1] & 0x80 == 0)),
        }
    }
}

/// The three projections of an attention layer.
pub struct Qkv<'a, B: Types + ?Sized> {
    /// To queries, `[n_heads · head_dim, n_embd]`.
    pub q: &'a Linear<B>,
    /// To keys, `[n_kv, n_embd]`.
    pub k: &'a Linear<B>,
    /// To values, `[n_kv, n_embd]`.
    pub v: &'a Linear<B>,
    /// The norms that each head of the queries and of the keys goes through before it is turned; [`Ops::qkv`](super::Ops::qkv) alone does not
    /// look at it.
    pub qk_norm: Option<QkNorm<'a, B>>,
}

/// The two projections of a gated feed-forward layer into it, `[n_ff, n_embd]` each.
pub struct GateUp<'a, B: Types + ?Sized> {
    /// To the gate.
    pub gate: &'a Linear<B>,
    /// To what it is multiplied with.
    pub up: &'a Linear<B>,
    /// What the gate goes through before.
    pub gating: Gating,
}

/// Root-mean-square norms of heads.
pub struct QkNorm<'a, B: Types + ?Sized> {
    /// Of the queries, `[1, head_dim]`.
    pub q: &'a B::Tensor,
    /// Of the keys, `[1, head_dim]`.
    pub k: &'a B::Tensor,
    /// Added to the mean square.
    pub eps: f32,
}

/// Where the keys and values of a decoder layer go and how they are turned.
pub struct KvPlace<'a, B: Types + ?Sized> {
    /// The cache.
    pub cache: &'a mut B::KvCache,
    /// The decoder layer.
    pub layer: usize,
    /// The position of the first row.
    pub position: usize,
    /// `[n_ctx, n_rot]`: a position's row holds `n_rot/2` cosines, then as many sines.
    pub rope: &'a B::Tensor,
    /// Which elements are turned together.
    pub style: RopeStyle,
    /// The heads' shape.
    pub heads: Heads,
}

/// The root-mean-square norm that an op's input goes through first.
pub struct RmsNorm<'a, B: Types + ?Sized> {
    /// `[1, cols]`
    pub weight: &'a B::Tensor,
    /// Added to the mean square.
    pub eps: f32,
    /// As many rows as the input: for backends that write the normed input down.
    pub scratch: &'a mut B::Tensor,
}

/// A group of ops that a model is going to use, so that their kernels can be compiled while its weights are on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expected {
    /// [`Ops::embed`](super::Ops::embed) and [`Choose::embed_chosen`](super::Choose::embed_chosen) from a table of this format.
    Embed(Format),
    /// [`Ops::linear`](super::Ops::linear) and [`Ops::norm_linear`](super::Ops::norm_linear) with weights of this format.
    Linear(Format),
    /// [`Ops::norm_qkv_rope_kv`](super::Ops::norm_qkv_rope_kv): the formats of the three matrices, and of the cache.
    Qkv([Format; 3], KvFormat),
    /// [`Ops::norm_gate_up`](super::Ops::norm_gate_up): the formats of both matrices, and the activation.
    GateUp([Format; 2], Gating),
    /// [`Ops::attention`](super::Ops::attention) with heads of this width over a cache of this format.
    Attention(usize, KvFormat),
    /// The same with ends beyond the queries' own slots.
    AttentionEnds(usize, KvFormat),
    /// [`Ops::attention`](super::Ops::attention) with heads of this width over rows of keys and values.
    AttentionRows(usize),
    /// [`Ops::head_norm`](super::Ops::head_norm)
    HeadNorm,
    /// [`Ops::mean_rows`](super::Ops::mean_rows) and [`Ops::add_rows`](super::Ops::add_rows) in a decoder.
    Scaled,
    /// [`Ops::short_conv`](super::Ops::short_conv)
    ShortConv,
    /// [`Ops::depthwise_conv`](super::Ops::depthwise_conv), and what stands around one: [`Ops::hard_swish`](super::Ops::hard_swish),
    /// [`Ops::mul_rows`](super::Ops::mul_rows), [`Ops::mean_rows`](super::Ops::mean_rows)
    DepthwiseConv,
    /// [`Ops::soft_cap`](super::Ops::soft_cap)
    SoftCap,
    /// Everything else that a decoder takes.
    Decoder,
    /// Everything else that a vision tower takes.
    Vision,
}

/// What a backend has asked its device to do so far; all zero where calls are plain function calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Launches {
    /// Kernels started.
    pub dispatches: u64,
    /// Lists of commands handed over.
    pub submits: u64,
    /// Sets of buffers bound for the first time.
    pub bind_groups: u64,
    /// Kernels compiled.
    pub pipelines: u64,
    /// Buffers made.
    pub buffers: u64,
    /// Pieces of data that the host wrote into tensors.
    pub writes: u64,
}

/// Slots whose products a short convolution keeps one by one: row `slot % CONV_RING` of its state. Also the length of the blocks of slots of
/// which the last two are kept for good, so that a context can be cut back to a multiple of it.
pub const CONV_RING: usize = 64;

/// The row of a short convolution's state that keeps the product of a slot for good; `None` where only the ring does.
pub fn conv_state_row(slot: usize) -> Option<usize> {
    (slot % CONV_RING).checked_sub(CONV_RING - 2).map(|i| CONV_RING + 2 * (slot / CONV_RING) + i)
}

/// Rows that the state of a short convolution needs for so many slots.
pub fn conv_state_rows(n_slots: usize) -> usize {
    CONV_RING + 2 * (n_slots / CONV_RING)
}
