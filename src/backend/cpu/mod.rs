//! The CPU backend: every op of [`Ops`] computed at once, by the thread that calls it and those that help it.
//!
//! * [`math`]: exponential, error function and half floats as loops a compiler can vectorise;
//! * `norm`, `rope`, `elementwise`, `attention`, `short_conv`, `depthwise_conv`: the ops on floats;
//! * [`matrix`]: weight matrices in the arrangement that the kernels read;
//! * `quantize_activations`, [`kernel`]: activations in 8 bits and their products with quantized weights;
//! * `panel`: products of floats;
//! * `lanes`: the vector instructions that kernels and panels are made of;
//! * `linear`: linear layers made of these;
//! * `warm_up`: kernels run ahead of time, for compilers that compile what runs much;
//! * [`pool`]: the threads; `sync`: what they are made of.
//!
//! Ops allocate nothing per token: scratch belongs to [`Cpu`] and grows to the largest size it has seen. An op whose scratch cannot grow
//! computes nothing, and whoever waits for its result ([`Queue`], [`Choose::chosen`]) is told `out_of_memory`. Whatever the number
//! of threads, each element of a result is computed by one of them, by the same instructions: results are the same to the
//! last bit.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "kernels take numbers apart into bits and bytes, whose ranges their formulas give"
)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::choice::{Choice, Ranked, choose};
use super::{
    AttentionOp, Choose, DepthwiseConv, Epilogue, Expected, GateUp, Gating, Heads, KvPart, KvSource, KvSpec, Linear, MatrixSpec,
    Memory, Ops, Qkv, Queue, RopeStyle, Types, conv_state_rows,
};
use crate::error::{Error, Result};
use linear::Layer;
use pool::Disjoint;

mod attention;
mod depthwise_conv;
mod elementwise;
pub mod kernel;
pub(crate) mod lanes;
mod linear;
pub mod math;
pub mod matrix;
mod norm;
mod panel;
pub mod pool;
mod quantize_activations;
mod rope;
mod short_conv;
pub(crate) mod sync;
mod warm_up;

pub use attention::KvCache;
pub use linear::Kernels;
pub use matrix::{Matrix, MatrixBuilder};
pub use pool::Pool;

/// `[rows, cols]` floats, rows contiguous.
#[derive(Debug, Clone)]
pub struct Tensor {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl Tensor {
    /// Rows there is room for.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// `n` rows from row `row` on.
    fn rows_at(&self, row: usize, n: usize) -> &[f32] {
        &self.data[row * self.cols..(row + n) * self.cols]
    }

    /// `n` rows from row `row` on, to be written.
    fn rows_at_mut(&mut self, row: usize, n: usize) -> &mut [f32] {
        &mut self.data[row * self.cols..(row + n) * self.cols]
    }
}

/// Elements that are worth a part of their own in ops that do little with each.
const PART_ELEMENTS: usize = 8 << 10;

/// The CPU backend.
#[derive(Debug, Default)]
pub struct Cpu {
    /// Bytes of all living weight matrices; each takes its part away when it is dropped.
    weight_bytes: Arc<AtomicU64>,
    /// What a test allows it.
    memory_limit: Option<u64>,
    pool: Pool,
    linear: linear::Scratch,
    attention: attention::Scratch,
    /// The token that was chosen last, and scratch for choosing.
    chosen: Option<u32>,
    candidates: Vec<Ranked>,
    /// Why the first op since somebody last waited computed nothing.
    failed: Option<Error>,
}

impl Cpu {
    /// A backend without weights, with the fastest kernels there are in this build.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same where no more than so many bytes can be had. For tests of what a small memory leads to.
    pub fn with_memory_limit(n_bytes: u64) -> Self {
        Self { memory_limit: Some(n_bytes), ..Self::default() }
    }

    /// The same with other kernels, to compare them.
    pub fn with_kernels(kernels: Kernels) -> Self {
        Self { linear: linear::Scratch::new(kernels), ..Self::default() }
    }

    /// The same with helpers.
    pub fn with_pool(self, pool: Pool) -> Self {
        Self { pool, ..self }
    }

    /// Its threads.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Notes how an op ended, for whoever waits for its result.
    fn note(&mut self, done: Result<()>) {
        if let Err(error) = done {
            self.failed.get_or_insert(error);
        }
    }

    /// Fails where an op has, since this was last asked.
    fn check(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Calls `op(rows, x)` for ranges of the `n` rows of `cols` elements that are to be written.
    fn for_rows(&self, n: usize, cols: usize, out: &mut [f32], op: impl Fn(Range<usize>, &mut [f32]) + Sync) {
        let out = Disjoint::new(out);
        self.pool.for_ranges(n, 1, PART_ELEMENTS.div_ceil(cols.max(1)), |rows, _| {
            // SAFETY: parts of an op have different rows.
            let out = unsafe { out.part(rows.start * cols..rows.end * cols) };
            op(rows, out);
        });
    }
}

/// `n` default elements, or `out_of_memory` with the number of bytes that could not be had for `what`. Callers saturate the
/// product that `n` is: on wasm32 it may be beyond a `usize`, and then it must fail here, not wrap to something small.
pub(crate) fn zeroed<T: Clone + Default>(n: usize, what: &str) -> Result<Vec<T>> {
    let mut data = Vec::new();
    reserve(&mut data, n, what)?;
    data.resize(n, T::default());
    Ok(data)
}

/// Makes room for `n` elements more, or fails as [`zeroed`] does.
fn reserve<T>(data: &mut Vec<T>, n: usize, what: &str) -> Result<()> {
    data.try_reserve_exact(n).map_err(|_| {
        let bytes = (n as u64).saturating_mul(size_of::<T>() as u64);
        Error::out_of_memory(format!(
            "There is not enough memory for {what}: {bytes} bytes were needed. Close other tabs, or choose a smaller model or context."
        ))
    })
}

/// Sees to it that scratch has at least `n` elements, or fails as [`zeroed`] does. Where it grows, what it held is given back first, so that
/// there need not be memory for both.
fn grow<T: Clone + Default>(scratch: &mut Vec<T>, n: usize, what: &str) -> Result<()> {
    if scratch.len() < n {
        *scratch = Vec::new();
        *scratch = zeroed(n, what)?;
    }
    Ok(())
}

impl Types for Cpu {
    type Tensor = Tensor;
    type Matrix = Matrix;
    type MatrixBuilder = MatrixBuilder;
    type KvCache = KvCache;
    type Chosen = Option<u32>;

    const ROW_GROUP: usize = matrix::ROW_GROUP;
    /// Enough that each weight is used often per load, few enough that a chunk's activations stay in a second-level cache.
    const PREFILL_ROWS: usize = 64;
    /// At least one layer of one chunk: some tens of milliseconds on one core for a small model, up to a second for a layer of a 7B.
    const STEP_WORK: u64 = 1 << 30;
    /// Nothing runs behind the caller's back.
    const LOOK_AHEAD: usize = 0;
}

impl Memory for Cpu {
    fn tensor(&mut self, rows: usize, cols: usize) -> Result<Tensor> {
        Ok(Tensor { rows, cols, data: zeroed(rows.saturating_mul(cols), &format!("a tensor of {rows} by {cols} numbers"))? })
    }

    fn matrix_begin(&mut self, spec: &MatrixSpec) -> Result<MatrixBuilder> {
        MatrixBuilder::new(spec, &self.weight_bytes)
    }

    fn matrix_rows(&mut self, builder: &mut MatrixBuilder, bytes: &[u8]) -> Result<()> {
        builder.rows(&self.pool, bytes)
    }

    fn matrix_end(&mut self, builder: MatrixBuilder) -> Result<Matrix> {
        builder.end()
    }

    fn kv_cache(&mut self, spec: &KvSpec) -> Result<KvCache> {
        KvCache::new(spec)
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes.load(Ordering::Relaxed)
    }

    fn matrix_bytes(&self, spec: &MatrixSpec) -> u64 {
        matrix::n_bytes(spec) as u64
    }

    fn memory_limit(&self) -> Option<u64> {
        // A 32-bit module has 4 GiB of addresses, and what it once took it keeps.
        #[cfg(target_arch = "wasm32")]
        let platform = Some((1 << 32) - core::arch::wasm32::memory_size::<0>() as u64 * 65536);
        #[cfg(not(target_arch = "wasm32"))]
        let platform = None;
        self.memory_limit.or(platform)
    }

    async fn reserved(&mut self, spare: u64) -> Result<()> {
        // Only asked for, so it costs no time to clear it.
        let n_bytes = usize::try_from(spare).unwrap_or(usize::MAX);
        Vec::<u8>::new()
            .try_reserve_exact(n_bytes)
            .map_err(|_| Error::out_of_memory(format!("There is not enough memory for activations: {spare} bytes were needed.")))
    }
}

impl Queue for Cpu {
    fn write(&mut self, out: &mut Tensor, row: usize, data: &[f32]) {
        assert_eq!(data.len() % out.cols, 0, "write takes whole rows");
        out.rows_at_mut(row, data.len() / out.cols).copy_from_slice(data);
    }

    async fn read(&mut self, x: &Tensor, row: usize, n: usize, out: &mut Vec<f32>) -> Result<()> {
        self.check()?;
        out.clear();
        reserve(out, n.saturating_mul(x.cols), "a result")?;
        out.extend_from_slice(x.rows_at(row, n));
        Ok(())
    }

    fn expect(&mut self, expected: &[Expected]) {
        // Natively everything was compiled long ago.
        if cfg!(target_family = "wasm") {
            // Without memory for so little the load is about to fail with a reason of its own.
            warm_up::warm_up(self, expected).ok();
            self.failed = None;
        }
    }

    async fn settle(&mut self, _all: bool) -> Result<()> {
        self.check()
    }

    async fn cause(&mut self, error: Error) -> Error {
        self.failed.take().unwrap_or(error)
    }

    async fn kv_read(
        &mut self,
        cache: &KvCache,
        part: KvPart,
        layers: Range<usize>,
        position: usize,
        n: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.check()?;
        cache.read(part, layers, position, n, out)
    }

    fn kv_restore(&mut self, cache: &mut KvCache, part: KvPart, layers: Range<usize>, position: usize, bytes: &[u8]) {
        cache.restore(part, layers, position, bytes);
    }
}

impl Ops for Cpu {
    fn embed(&mut self, table: &Matrix, ids: &[u32], out: &mut Tensor, row: usize) {
        assert_eq!(table.n_in(), out.cols, "embed: row lengths differ");
        for (id, out) in ids.iter().zip(out.rows_at_mut(row, ids.len()).chunks_exact_mut(table.n_in())) {
            table.decode_row(*id as usize, out);
        }
    }

    fn copy_rows(&mut self, src: &Tensor, src_row: usize, dst: &mut Tensor, dst_row: usize, n: usize) {
        assert_eq!(src.cols, dst.cols, "copy_rows: row lengths differ");
        dst.rows_at_mut(dst_row, n).copy_from_slice(src.rows_at(src_row, n));
    }

    fn join_rows(&mut self, x: &Tensor, row: usize, k: usize, out: &mut Tensor, n: usize) {
        assert_eq!(k * x.cols, out.cols, "join_rows: row lengths differ");
        out.rows_at_mut(0, n).copy_from_slice(x.rows_at(row, k * n));
    }

    fn add_rows(&mut self, x: &mut Tensor, row: usize, y: &Tensor, n: usize) {
        assert_eq!(x.cols, y.cols, "add_rows: row lengths differ");
        elementwise::add(x.rows_at_mut(row, n), y.rows_at(0, n));
    }

    fn add_scaled(&mut self, x: &mut Tensor, scale: &Tensor, y: &Tensor, n: usize) {
        assert!(x.cols == y.cols && x.cols == scale.cols, "add_scaled: row lengths differ");
        elementwise::add_scaled(x.rows_at_mut(0, n), &scale.data, y.rows_at(0, n));
    }

    fn mean_rows(&mut self, x: &Tensor, k: usize, factor: f32, out: &mut Tensor, n: usize) {
        assert!(x.cols == out.cols && k > 0, "mean_rows: row lengths differ");
        elementwise::mean_rows(x.rows_at(0, k * n), k, factor, x.cols, out.rows_at_mut(0, n));
    }

    fn mul_rows(&mut self, x: &mut Tensor, scale: &Tensor, n: usize) {
        assert_eq!(x.cols, scale.cols, "mul_rows: row lengths differ");
        let cols = x.cols;
        self.for_rows(n, cols, x.rows_at_mut(0, n), |_, x| elementwise::mul_rows(x, &scale.data));
    }

    fn hard_swish(&mut self, x: &mut Tensor, n: usize) {
        let cols = x.cols;
        self.for_rows(n, cols, x.rows_at_mut(0, n), |_, x| elementwise::hard_swish(x));
    }

    fn depthwise_conv(&mut self, x: &Tensor, grid: [usize; 2], conv: &DepthwiseConv<Self>, out: &mut Tensor) {
        let cols = x.cols;
        assert!(out.cols == cols && conv.kernel.cols == cols && conv.kernel.rows == 9, "depthwise_conv: shapes differ");
        assert!(conv.bias.as_ref().is_none_or(|bias| bias.cols == cols), "depthwise_conv: shapes differ");
        let [height, width] = conv.output(grid);
        let (x, kernel, bias) =
            (x.rows_at(0, grid[0] * grid[1]), &conv.kernel.data, conv.bias.as_ref().map(|bias| &bias.data[..]));
        self.for_rows(height * width, cols, out.rows_at_mut(0, height * width), |rows, out| {
            depthwise_conv::rows(x, grid, kernel, bias, conv.stride, rows, out);
        });
    }

    fn head_norm(&mut self, x: &mut Tensor, weight: &Tensor, eps: f32, n: usize) {
        assert!(weight.cols > 0 && x.cols.is_multiple_of(weight.cols), "head_norm: row lengths differ");
        let cols = x.cols;
        self.for_rows(n, cols, x.rows_at_mut(0, n), |_, x| norm::head_norm(x, &weight.data, eps));
    }

    fn short_conv(&mut self, bcx: &Tensor, kernel: &Tensor, state: &mut Tensor, first: usize, out: &mut Tensor, n: usize) {
        assert!(bcx.cols == 3 * out.cols && kernel.cols == out.cols && state.cols == out.cols, "short_conv: row lengths differ");
        assert!(state.rows >= conv_state_rows(first + n), "short_conv: beyond the state");
        let cols = out.cols;
        let (bcx, kept) = (bcx.rows_at(0, n), &state.data);
        self.for_rows(n, cols, out.rows_at_mut(0, n), |rows, out| {
            short_conv::rows(bcx, &kernel.data, kept, first, rows, out);
        });
        short_conv::keep(bcx, &mut state.data, first, cols);
    }

    fn rms_norm(&mut self, x: &Tensor, weight: &Tensor, eps: f32, out: &mut Tensor, n: usize) {
        assert!(x.cols == out.cols && x.cols == weight.cols, "rms_norm: row lengths differ");
        let cols = x.cols;
        self.for_rows(n, cols, out.rows_at_mut(0, n), |rows, out| {
            norm::rms_norm(x.rows_at(rows.start, rows.len()), &weight.data, eps, out);
        });
    }

    fn layer_norm(&mut self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32, out: &mut Tensor, n: usize) {
        assert!(x.cols == out.cols && x.cols == weight.cols && x.cols == bias.cols, "layer_norm: row lengths differ");
        let cols = x.cols;
        self.for_rows(n, cols, out.rows_at_mut(0, n), |rows, out| {
            norm::layer_norm(x.rows_at(rows.start, rows.len()), &weight.data, &bias.data, eps, out);
        });
    }

    fn linear(&mut self, x: &Tensor, layer: &Linear<Self>, out: &mut Tensor, n: usize, epilogue: Epilogue) {
        let done = self.linear.apply(&self.pool, x, n, &[Layer::new(layer, out, n, epilogue)]);
        self.note(done);
    }

    fn qkv(&mut self, x: &Tensor, layers: &Qkv<'_, Self>, q: &mut Tensor, k: &mut Tensor, v: &mut Tensor, n: usize) {
        let layers = [(layers.q, q), (layers.k, k), (layers.v, v)].map(|(layer, out)| Layer::new(layer, out, n, Epilogue::Store));
        let done = self.linear.apply(&self.pool, x, n, &layers);
        self.note(done);
    }

    fn gate_up(&mut self, x: &Tensor, layers: &GateUp<'_, Self>, gate: &mut Tensor, up: &mut Tensor, n: usize) {
        let [gate, up] = [(layers.gate, gate), (layers.up, up)].map(|(layer, out)| Layer::new(layer, out, n, Epilogue::Store));
        let done = self.linear.gate_up(&self.pool, x, n, layers.gating, gate, up);
        self.note(done);
    }

    fn gate_mul(&mut self, gating: Gating, gate: &mut Tensor, up: &Tensor, n: usize) {
        assert_eq!(gate.cols, up.cols, "gate_mul: row lengths differ");
        self.for_rows(n, up.cols, gate.rows_at_mut(0, n), |rows, gate| {
            elementwise::gate_mul(gating, gate, up.rows_at(rows.start, rows.len()));
        });
    }

    fn soft_cap(&mut self, x: &mut Tensor, cap: f32, n: usize) {
        elementwise::soft_cap(x.rows_at_mut(0, n), cap);
    }

    fn rope(
        &mut self,
        x: &mut Tensor,
        rope: &Tensor,
        style: RopeStyle,
        n_heads: usize,
        head_dim: usize,
        position: usize,
        n: usize,
    ) {
        assert!(x.cols == n_heads * head_dim && rope.cols <= head_dim, "rope: shapes differ");
        let cols = x.cols;
        self.for_rows(n, cols, x.rows_at_mut(0, n), |rows, x| {
            rope::rope(x, rope.rows_at(position + rows.start, rows.len()), rope.cols, style, n_heads, head_dim);
        });
    }

    fn kv_write(&mut self, cache: &mut KvCache, layer: usize, position: usize, k: &Tensor, v: &Tensor, n: usize) {
        cache.write(&self.pool, layer, position, k.rows_at(0, n), v.rows_at(0, n));
    }

    fn attention(&mut self, op: &AttentionOp, q: &Tensor, kv: KvSource<'_, Self>, out: &mut Tensor, n: usize) {
        let Heads { n_heads, n_kv_heads, head_dim } = op.heads;
        assert!(q.cols == n_heads * head_dim && out.cols == q.cols, "attention: shapes differ");
        let (q, out) = (q.rows_at(0, n), out.rows_at_mut(0, n));
        let done = match kv {
            KvSource::Cache { cache, layer, first, ends } => {
                let ends = ends.map(|ends| ends.rows_at(0, 1));
                self.attention.over_cache(&self.pool, op, q, (cache, layer), (first, ends), out)
            }
            KvSource::Rows { k, v } => {
                assert!(k.cols == n_kv_heads * head_dim && v.cols == k.cols, "attention: shapes differ");
                self.attention.over_rows(&self.pool, op, q, k.rows_at(0, n), v.rows_at(0, n), out)
            }
        };
        self.note(done);
    }
}

impl Choose for Cpu {
    fn choose(&mut self, logits: &Tensor, choice: &Choice, unit: f64) -> Option<u32> {
        self.chosen = None;
        self.candidates.clear();
        let room = if choice.is_greedy() { 0 } else { logits.cols };
        match reserve(&mut self.candidates, room, "choosing a token") {
            Ok(()) => self.chosen = choose(logits.rows_at(0, 1), choice, unit, &mut self.candidates),
            failed => self.note(failed),
        }
        self.chosen
    }

    fn embed_chosen(&mut self, table: &Matrix, out: &mut Tensor) {
        if let Some(id) = self.chosen {
            self.embed(table, &[id], out, 0);
        }
    }

    async fn chosen(&mut self, token: Option<u32>) -> Result<Option<u32>> {
        self.check()?;
        Ok(token)
    }
}
