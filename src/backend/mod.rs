//! What a device must be able to do, as traits by role, implemented by [`cpu`] and by [`gpu`] (WebGPU): its [`Types`], its [`Memory`], what
//! it computes ([`Ops`]), how it chooses a token ([`Choose`]), and what goes there and comes back ([`Queue`]). [`Backend`] is all of it.
//!
//! Ops only record or compute, they never wait. A caller waits where it needs something of the device: numbers
//! ([`Queue::read`]), a token ([`Choose::chosen`]), room for more work ([`Queue::settle`]), memory
//! ([`Memory::confirm`], [`Memory::reserved`]) or the reason of a failure ([`Queue::cause`]). Ops that can be fused are
//! methods of their own with a default body made of the plain ones, so a backend is right before it is fast. Activations are 32-bit
//! floats in tensors of `[rows, cols]`, rows contiguous. Ops take the number of rows they work on (`n`), because tensors are allocated
//! once, at the largest size, and then reused.
//!
//! Callers keep the shapes right: an op whose operands do not fit is a bug of the model code, not of a file (files are
//! checked when a model is loaded, and [`Memory::supports`] is asked), and panics.

use std::ops::Range;

use crate::error::{Error, Result};

use self::choice::Choice;

pub mod choice;
pub mod cpu;
#[cfg(feature = "gpu")]
pub mod gpu;
mod operands;
#[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "only devices that are handed lists of commands count it"))]
mod work;

pub use operands::{
    AttentionOp, CONV_RING, DepthwiseConv, Epilogue, Expected, GateUp, Gating, Heads, KV_BLOCK, KvFormat, KvPart, KvPlace,
    KvSource, KvSpec, Launches, Linear, Mask, MatrixSpec, QkNorm, Qkv, RmsNorm, RopeStyle, conv_state_row, conv_state_rows,
};

/// The types of a device, and how its work is best cut.
pub trait Types {
    /// Activations and small float weights: `[rows, cols]` of 32-bit floats.
    type Tensor;
    /// A weight matrix in the device's own arrangement of a storage format.
    type Matrix;
    /// A matrix whose rows are still arriving.
    type MatrixBuilder;
    /// Keys and values of all layers.
    type KvCache;
    /// A token that was chosen, on its way to the host. One that nobody waits for may be dropped.
    type Chosen;

    /// Rows of a matrix must be handed over in multiples of this, but for the last ones.
    const ROW_GROUP: usize;
    /// Rows of a prompt that are best run at once.
    const PREFILL_ROWS: usize;
    /// Multiply-adds that may be recorded before a caller gets its turn again.
    const STEP_WORK: u64;
    /// Decode steps that may be submitted beyond the token that is awaited.
    const LOOK_AHEAD: usize;
    /// Whether the device can go away (`device_lost`), so that a caller keeps what it needs to compute everything again.
    const CAN_BE_LOST: bool = false;
}

/// Memory of a device: tensors, weights, keys and values.
#[allow(async_fn_in_trait, reason = "the engine lives on one thread, its futures need not be Send")]
pub trait Memory: Types {
    /// A tensor of zeros.
    ///
    /// # Errors
    /// `out_of_memory`.
    fn tensor(&mut self, rows: usize, cols: usize) -> Result<Self::Tensor>;

    /// Begins a weight matrix; memory for the whole of it is taken here.
    ///
    /// # Errors
    /// `out_of_memory`; `unsupported_quantization` where the device cannot hold the format.
    fn matrix_begin(&mut self, spec: &MatrixSpec) -> Result<Self::MatrixBuilder>;

    /// Hands over whole rows as the file stores them, in order.
    ///
    /// # Errors
    /// `invalid_gguf` for scales or floats that are not finite.
    fn matrix_rows(&mut self, builder: &mut Self::MatrixBuilder, bytes: &[u8]) -> Result<()>;

    /// Ends the matrix.
    ///
    /// # Errors
    /// `internal` where rows are missing.
    fn matrix_end(&mut self, builder: Self::MatrixBuilder) -> Result<Self::Matrix>;

    /// An empty cache.
    ///
    /// # Errors
    /// `out_of_memory`.
    fn kv_cache(&mut self, spec: &KvSpec) -> Result<Self::KvCache>;

    /// Whether the device can compute attention of this shape. Asked before a model's memory is taken, since files may ask for more.
    ///
    /// # Errors
    /// `unsupported_architecture` with the limit, and where else the model may run.
    fn supports(&self, _attention: &AttentionOp) -> Result<()> {
        Ok(())
    }

    /// Bytes that weights take on the device.
    fn weight_bytes(&self) -> u64;

    /// Bytes that a matrix of this shape takes on the device.
    fn matrix_bytes(&self, spec: &MatrixSpec) -> u64;

    /// The most bytes that can be had from now on, where that is known without asking for them.
    fn memory_limit(&self) -> Option<u64> {
        None
    }

    /// Begins to ask for a model's memory. Until [`Self::reserved`] says that it is there, the device may be asked for more than it has,
    /// and be late to say so.
    fn reserve(&mut self) {}

    /// Waits until the memory that was asked for since [`Self::reserve`] is there.
    ///
    /// # Errors
    /// `out_of_memory` where some of it is not, `device_lost`.
    async fn confirm(&mut self) -> Result<()> {
        Ok(())
    }

    /// [`Self::confirm`], and that `spare` bytes more are there, which are given back at once. Ends what [`Self::reserve`] began.
    ///
    /// # Errors
    /// As [`Self::confirm`].
    async fn reserved(&mut self, spare: u64) -> Result<()>;

    /// Bytes allocated since [`Self::reserve`] before the first refusal.
    fn bytes_before_refusal(&self) -> u64 {
        self.weight_bytes()
    }

    /// Where else a model of so many bytes may fit, as a sentence.
    fn elsewhere(&self, _n_bytes: u64) -> Option<&'static str> {
        None
    }
}

/// What goes to a device and comes back, and when.
#[allow(async_fn_in_trait, reason = "the engine lives on one thread, its futures need not be Send")]
pub trait Queue: Types {
    /// Writes `data` (whole rows) into `out` from row `row` on.
    fn write(&mut self, out: &mut Self::Tensor, row: usize, data: &[f32]);

    /// Reads `n` rows from row `row` on into `out`, whose memory is reused; waits for everything recorded before.
    ///
    /// # Errors
    /// `device_lost`.
    async fn read(&mut self, x: &Self::Tensor, row: usize, n: usize, out: &mut Vec<f32>) -> Result<()>;

    /// Tells what is going to be used. Nothing depends on it but when kernels are compiled.
    fn expect(&mut self, _expected: &[Expected]) {}

    /// Where much work is recorded: hands it over, and waits until the device has done what was handed over before. So the device
    /// always has something to do, and a caller that stops in between does not wait for long. With `all` waits for everything.
    ///
    /// # Errors
    /// `device_lost`.
    async fn settle(&mut self, _all: bool) -> Result<()> {
        Ok(())
    }

    /// What is behind an error: a device that went away fails in many ways before it says so.
    async fn cause(&mut self, error: Error) -> Error {
        error
    }

    /// What has been launched so far.
    fn launches(&self) -> Launches {
        Launches::default()
    }

    /// Reads the keys or the values of some layers at `n` positions from `position` on into `out`, whose memory is reused; waits for
    /// everything recorded before. The bytes are the same on every device, whatever its own arrangement: `[layers, n, n_kv]` in the
    /// cache's format, little-endian, without padding; in [`KvFormat::Q8_0`] each block of a head is its scale, then its elements.
    ///
    /// # Errors
    /// `device_lost`.
    async fn kv_read(
        &mut self,
        cache: &Self::KvCache,
        part: KvPart,
        layers: Range<usize>,
        position: usize,
        n: usize,
        out: &mut Vec<u8>,
    ) -> Result<()>;

    /// Puts bytes of [`Self::kv_read`] for those layers (whole rows, as many for each) back in from `position` on, to the bit.
    fn kv_restore(&mut self, cache: &mut Self::KvCache, part: KvPart, layers: Range<usize>, position: usize, bytes: &[u8]);
}

/// What a device computes. Ops only record or compute, they never wait.
pub trait Ops: Types {
    /// `out[row+i] = table[ids[i]]`, decoded to floats. `table [n_vocab, n_embd]`, `out [·, n_embd]`; ids are in range.
    fn embed(&mut self, table: &Self::Matrix, ids: &[u32], out: &mut Self::Tensor, row: usize);

    /// `dst[dst_row+i] = src[src_row+i]` for `n` rows.
    fn copy_rows(&mut self, src: &Self::Tensor, src_row: usize, dst: &mut Self::Tensor, dst_row: usize, n: usize);

    /// `dst[to] = src[from]` for each `[from, to]` of `rows`; no two have the same `to`.
    fn gather_rows(&mut self, src: &Self::Tensor, rows: &[[u32; 2]], dst: &mut Self::Tensor) {
        for run in rows.chunk_by(|a, b| b[0] == a[0] + 1 && b[1] == a[1] + 1) {
            self.copy_rows(src, run[0][0] as usize, dst, run[0][1] as usize, run.len());
        }
    }

    /// `out[i] = [x[row+k·i], …, x[row+k·i+k−1]]`, `k` rows side by side, for `n` rows of `out`. `x [·, cols]` with `cols` a multiple of 4,
    /// `out [·, k · cols]`.
    fn join_rows(&mut self, x: &Self::Tensor, row: usize, k: usize, out: &mut Self::Tensor, n: usize);

    /// `x[row+i] += y[i]` for the first `n` rows of `y`.
    fn add_rows(&mut self, x: &mut Self::Tensor, row: usize, y: &Self::Tensor, n: usize);

    /// `x[i] += scale ⊙ y[i]` for `n` rows. `scale [1, cols]`.
    fn add_scaled(&mut self, x: &mut Self::Tensor, scale: &Self::Tensor, y: &Self::Tensor, n: usize);

    /// `out[i] = factor · mean(x[k·i], …, x[k·i+k−1])` for `n` rows of `out`; with a `k` of 1 a multiple of each row.
    fn mean_rows(&mut self, x: &Self::Tensor, k: usize, factor: f32, out: &mut Self::Tensor, n: usize);

    /// `x[i] = x[i] ⊙ scale` for `n` rows. `scale [1, cols]`.
    fn mul_rows(&mut self, x: &mut Self::Tensor, scale: &Self::Tensor, n: usize);

    /// `x[i] = x[i] · clamp(x[i] + 3, 0, 6) / 6` for `n` rows (Howard et al. 2019, arXiv 1905.02244).
    fn hard_swish(&mut self, x: &mut Self::Tensor, n: usize);

    /// `out[y, x] = bias + Σ kernel[3i + j] ⊙ in[s·y + i − 1, s·x + j − 1]` over i and j from 0 to 2, `s` being the stride, each column for
    /// itself. `x` has a row for each place of `grid` (rows and columns), line by line, and is zero beyond it; `out` one for each of
    /// [`DepthwiseConv::output`].
    fn depthwise_conv(&mut self, x: &Self::Tensor, grid: [usize; 2], conv: &DepthwiseConv<Self>, out: &mut Self::Tensor);

    /// `x[i, h] = x[i, h] / √(mean(x[i, h]²) + eps) · weight` for each head `h` of `n` rows. `x [·, n_heads · head_dim]`,
    /// `weight [1, head_dim]`.
    fn head_norm(&mut self, x: &mut Self::Tensor, weight: &Self::Tensor, eps: f32, n: usize);

    /// LFM2's short convolution, causal, each element for itself, at the slots `t = first + i`:
    /// `out[i] = C[i] ⊙ (kernel[0] ⊙ u[t−2] + kernel[1] ⊙ u[t−1] + kernel[2] ⊙ u[t])`, `u = B ⊙ X`, zero before slot 0. `bcx [·, 3 · cols]`: B,
    /// C and X side by side; `kernel [3, cols]`, `out [·, cols]`. The products of the slots before `first` are read in `state`, and those of
    /// these rows are kept there: `[conv_state_rows(n_ctx), cols]`, see [`CONV_RING`] and [`conv_state_row`].
    fn short_conv(
        &mut self,
        bcx: &Self::Tensor,
        kernel: &Self::Tensor,
        state: &mut Self::Tensor,
        first: usize,
        out: &mut Self::Tensor,
        n: usize,
    );

    /// `out[i] = x[i] / √(mean(x[i]²) + eps) · weight`. `weight [1, cols]`.
    fn rms_norm(&mut self, x: &Self::Tensor, weight: &Self::Tensor, eps: f32, out: &mut Self::Tensor, n: usize);

    /// `out[i] = (x[i] − mean) / √(var + eps) · weight + bias`. `weight, bias [1, cols]`.
    fn layer_norm(
        &mut self,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: &Self::Tensor,
        eps: f32,
        out: &mut Self::Tensor,
        n: usize,
    );

    /// `y[i] = x[i] Wᵀ + b` for `n` rows, then the epilogue. `x [·, n_in]`, `out [·, n_out]`.
    fn linear(&mut self, x: &Self::Tensor, layer: &Linear<Self>, out: &mut Self::Tensor, n: usize, epilogue: Epilogue);

    /// `gate[i] = gating(gate[i]) · up[i]`.
    fn gate_mul(&mut self, gating: Gating, gate: &mut Self::Tensor, up: &Self::Tensor, n: usize);

    /// `x[i] = cap · tanh(x[i] / cap)`, for `n` rows.
    fn soft_cap(&mut self, x: &mut Self::Tensor, cap: f32, n: usize);

    /// Turns the first `n_rot` elements of each head of row `i` by the angles of `rope[position+i]`.
    /// `x [·, n_heads · head_dim]`, `rope [n_ctx, n_rot]` (cosines, then sines).
    #[allow(clippy::too_many_arguments, reason = "a formula with that many operands")]
    fn rope(
        &mut self,
        x: &mut Self::Tensor,
        rope: &Self::Tensor,
        style: RopeStyle,
        n_heads: usize,
        head_dim: usize,
        position: usize,
        n: usize,
    );

    /// Puts rows of keys and values `[·, n_kv]` into the cache from `position` on.
    fn kv_write(
        &mut self,
        cache: &mut Self::KvCache,
        layer: usize,
        position: usize,
        k: &Self::Tensor,
        v: &Self::Tensor,
        n: usize,
    );

    /// Attention of `n` queries over the keys and values at `kv`, for each the keys that the op's mask shows it:
    /// `out[i, h] = softmax(score(q[i, h] · Kᵀ)) V` with the key-value head `h · n_kv_heads / n_heads`.
    /// `q, out [·, n_heads · head_dim]`.
    fn attention(&mut self, op: &AttentionOp, q: &Self::Tensor, kv: KvSource<'_, Self>, out: &mut Self::Tensor, n: usize);

    /// Queries, keys and values of one input in one go: `out = x W + b` for each of the three. A backend may read `x` once.
    fn qkv(
        &mut self,
        x: &Self::Tensor,
        layers: &Qkv<'_, Self>,
        q: &mut Self::Tensor,
        k: &mut Self::Tensor,
        v: &mut Self::Tensor,
        n: usize,
    ) {
        self.linear(x, layers.q, q, n, Epilogue::Store);
        self.linear(x, layers.k, k, n, Epilogue::Store);
        self.linear(x, layers.v, v, n, Epilogue::Store);
    }

    /// The front half of a decoder's attention layer: projections, the heads' norms where there are any, rotary embedding, and keys and values into the cache.
    /// Leaves the turned queries in `q`; `k` and `v` are scratch.
    #[allow(clippy::too_many_arguments, reason = "a fused group of ops")]
    fn qkv_rope_kv(
        &mut self,
        x: &Self::Tensor,
        layers: &Qkv<'_, Self>,
        place: KvPlace<'_, Self>,
        q: &mut Self::Tensor,
        k: &mut Self::Tensor,
        v: &mut Self::Tensor,
        n: usize,
    ) {
        let Heads { n_heads, n_kv_heads, head_dim } = place.heads;
        self.qkv(x, layers, q, k, v, n);
        if let Some(norm) = &layers.qk_norm {
            self.head_norm(q, norm.q, norm.eps, n);
            self.head_norm(k, norm.k, norm.eps, n);
        }
        self.rope(q, place.rope, place.style, n_heads, head_dim, place.position, n);
        self.rope(k, place.rope, place.style, n_kv_heads, head_dim, place.position, n);
        self.kv_write(place.cache, place.layer, place.position, k, v, n);
    }

    /// The front half of a gated feed-forward layer: `gate = gating(x Wgᵀ + bg) · (x Wuᵀ + bu)`; `up` is scratch.
    fn gate_up(&mut self, x: &Self::Tensor, layers: &GateUp<'_, Self>, gate: &mut Self::Tensor, up: &mut Self::Tensor, n: usize) {
        self.linear(x, layers.gate, gate, n, Epilogue::Store);
        self.linear(x, layers.up, up, n, Epilogue::Store);
        self.gate_mul(layers.gating, gate, up, n);
    }

    /// [`Self::linear`] of `rms_norm(x)`.
    fn norm_linear(
        &mut self,
        x: &Self::Tensor,
        norm: RmsNorm<'_, Self>,
        layer: &Linear<Self>,
        out: &mut Self::Tensor,
        n: usize,
        epilogue: Epilogue,
    ) {
        self.rms_norm(x, norm.weight, norm.eps, norm.scratch, n);
        self.linear(norm.scratch, layer, out, n, epilogue);
    }

    /// [`Self::qkv_rope_kv`] of `rms_norm(x)`.
    #[allow(clippy::too_many_arguments, reason = "a fused group of ops")]
    fn norm_qkv_rope_kv(
        &mut self,
        x: &Self::Tensor,
        norm: RmsNorm<'_, Self>,
        layers: &Qkv<'_, Self>,
        place: KvPlace<'_, Self>,
        q: &mut Self::Tensor,
        k: &mut Self::Tensor,
        v: &mut Self::Tensor,
        n: usize,
    ) {
        self.rms_norm(x, norm.weight, norm.eps, norm.scratch, n);
        self.qkv_rope_kv(norm.scratch, layers, place, q, k, v, n);
    }

    /// [`Self::gate_up`] of `rms_norm(x)`.
    fn norm_gate_up(
        &mut self,
        x: &Self::Tensor,
        norm: RmsNorm<'_, Self>,
        layers: &GateUp<'_, Self>,
        gate: &mut Self::Tensor,
        up: &mut Self::Tensor,
        n: usize,
    ) {
        self.rms_norm(x, norm.weight, norm.eps, norm.scratch, n);
        self.gate_up(norm.scratch, layers, gate, up, n);
    }
}

/// Choosing tokens where the logits are.
#[allow(async_fn_in_trait, reason = "the engine lives on one thread, its futures need not be Send")]
pub trait Choose: Types {
    /// Chooses a token by its logits `[1, n_vocab]` and the rule, as [`choice::choose`] does; `unit` (evenly in [0, 1)) decides a draw.
    fn choose(&mut self, logits: &Self::Tensor, choice: &Choice, unit: f64) -> Self::Chosen;

    /// `out[0] = table[id]` for the token that was chosen last.
    fn embed_chosen(&mut self, table: &Self::Matrix, out: &mut Self::Tensor);

    /// The token that was chosen; `None` where a logit was no finite number.
    ///
    /// # Errors
    /// `device_lost`.
    async fn chosen(&mut self, token: Self::Chosen) -> Result<Option<u32>>;
}

/// All of it: what an engine runs on.
pub trait Backend: Memory + Queue + Ops + Choose + 'static {}

impl<T: Memory + Queue + Ops + Choose + 'static> Backend for T {}
