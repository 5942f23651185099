//! The WebGPU backend: every op of [`Ops`] a compute shader, in the browser and (for tests and benchmarks) over Vulkan.
//!
//! * `device`: the adapter, its device, what fails on it, and how a loss or a lack of memory is told from other failures;
//! * [`kernels`]: the table of shaders, put together from `shaders/*.wgsl` and the formats' fragments;
//! * `recorder`: one encoder, one pass, one submit; parameters in one buffer; bind groups made once;
//! * `matrix`: weights in planes, cut by rows at the binding limit;
//! * `products`, `attention`: which kernel an op takes, and how its work is cut;
//! * `self_test`: kernels against plain loops, before a model is trusted to them.
//!
//! Ops record. What is recorded is handed over by [`Queue::read`], by a [`Queue::write`] (which must not overtake it), or
//! when there is much of it. Rows of tensors are padded to 32 elements, and the padding is zero: kernels read whole vec4s and
//! whole blocks without looking at the row's end, and write zeros there.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "sizes in shaders have 32 bits; those of tensors are bounded by what a device binds"
)]

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use super::choice::{self, Choice, Weights};
use super::{
    AttentionOp, Choose, DepthwiseConv, Epilogue, Expected, GateUp, Gating, Heads, KV_BLOCK, KvFormat, KvPart, KvPlace, KvSource,
    KvSpec, Launches, Linear, Mask, MatrixSpec, Memory, Ops, Qkv, Queue, RmsNorm, RopeStyle, Types, conv_state_rows, work,
};
use crate::error::{Error, Result};

mod attention;
mod device;
pub mod kernels;
mod matrix;
mod products;
mod recorder;
mod self_test;
mod signal;

pub use attention::KvCache;
pub use device::{Device, DeviceOptions};
pub use matrix::{Matrix, MatrixBuilder};
pub use recorder::{MAX_DISPATCHES, PendingToken};

use attention::Keys;
use device::{Buffer, Dropped};
use kernels::Kernel;
use products::MAX_TILE32_ROWS;
use recorder::Recorder;

/// Elements that rows are padded to: a block of weights.
const ROW_MULTIPLE: usize = 32;
/// Rows of x up to which a product is made row by row: a tile of `mat_mul` would be almost empty.
const MAX_VEC_ROWS: usize = 4;
/// Ids that are given to one dispatch.
const MAX_IDS: usize = 4096;
/// Workgroups along x; what is more goes along y. `mat_vec.wgsl` and `gate_up.wgsl` know the number.
const MAX_GRID_X: usize = 32768;
/// Logits that a workgroup of `choose_best.wgsl` looks through: so many, or a multiple, so that there are at most [`CHOOSE_PARTS`] of them.
const CHOOSE_PART: usize = 2048;
/// Parts that `choose.wgsl` has room for.
const CHOOSE_PARTS: usize = 256;
/// Bytes of the histogram of `choose_histogram.wgsl`.
const CHOOSE_HISTOGRAM_BYTES: u64 = 2048 * 16;

/// `[rows, cols]` floats; rows `stride` elements apart.
#[derive(Debug)]
pub struct Tensor {
    rows: usize,
    cols: usize,
    stride: usize,
    buffer: Buffer,
}

/// The WebGPU backend.
#[derive(Debug)]
pub struct Gpu {
    device: Rc<Device>,
    recorder: Recorder,
    dropped: Dropped,
    /// Bound where a layer has no bias.
    no_bias: Buffer,
    /// Ids to be looked up, or pairs of rows.
    ids: Buffer,
    /// The token that was chosen last.
    chosen: Buffer,
    /// What kernels leave for other kernels, by name: the buffer and its bytes.
    scratch: HashMap<&'static str, (Rc<Buffer>, u64)>,
    /// Norms with the biases of the projections behind them, by the ids of the buffers they were made of.
    norms_and_biases: HashMap<[u64; 4], Rc<Buffer>>,
    weight_bytes: Rc<Cell<u64>>,
}

impl Gpu {
    /// A backend without weights on an open device.
    ///
    /// # Errors
    /// `out_of_memory`, `device_lost`.
    pub fn new(device: Rc<Device>) -> Result<Self> {
        let dropped = Dropped::default();
        let no_bias = device.buffer(16, wgpu::BufferUsages::STORAGE, &dropped, "no bias")?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let ids = device.buffer(MAX_IDS as u64 * 4, usage, &dropped, "ids")?;
        let chosen = device.buffer(16, usage, &dropped, "the chosen token")?;
        let recorder = Recorder::new(device.clone(), dropped.clone())?;
        Ok(Self {
            device,
            recorder,
            dropped,
            no_bias,
            ids,
            chosen,
            scratch: HashMap::new(),
            norms_and_biases: HashMap::new(),
            weight_bytes: Rc::default(),
        })
    }

    /// Holds the kernels against plain loops on small numbers, those of keys and values in 8 bits where these are to be. Variants that are wrong are replaced, which [`Device::notes`] then says.
    ///
    /// # Errors
    /// `unsupported_browser` where even the plainest kernel is wrong; what a device has.
    pub async fn self_test(&mut self, kv_format: KvFormat) -> Result<()> {
        self_test::run(self, kv_format).await
    }

    /// The device it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn storage(&mut self, n_bytes: u64, what: &str) -> Result<Buffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.recorder.launches.buffers += 1;
        self.device.buffer(n_bytes, usage, &self.dropped, what)
    }

    /// A buffer of at least so many bytes whose content nobody relies on from one op to the next. `None` where there is no memory for
    /// it, which whoever waits for the device next is told.
    fn scratch(&mut self, name: &'static str, n_bytes: u64) -> Option<Rc<Buffer>> {
        if let Some((buffer, size)) = self.scratch.get(name)
            && *size >= n_bytes
        {
            return Some(buffer.clone());
        }
        let n_bytes = n_bytes.checked_next_power_of_two().unwrap_or(n_bytes);
        match self.storage(n_bytes, name) {
            Ok(buffer) => {
                let buffer = Rc::new(buffer);
                self.scratch.insert(name, (buffer.clone(), n_bytes));
                Some(buffer)
            }
            Err(error) => {
                self.recorder.fail(error);
                None
            }
        }
    }

    /// A norm's weights, and behind them the biases there are: the buffer, and where each bias begins (in floats; 0 for none).
    fn norm_and_biases(&mut self, norm: &Tensor, biases: [Option<&Tensor>; 3]) -> Option<(Rc<Buffer>, [usize; 3])> {
        let mut starts = [0; 3];
        let mut n = norm.stride;
        for (start, bias) in starts.iter_mut().zip(biases) {
            if let Some(bias) = bias {
                *start = n;
                n += bias.stride;
            }
        }
        let ids = [Some(norm), biases[0], biases[1], biases[2]].map(|part| part.map_or(0, |part| part.buffer.id));
        if let Some(buffer) = self.norms_and_biases.get(&ids) {
            return Some((buffer.clone(), starts));
        }
        let buffer = match self.storage(work::product(&[n, 4]), "biases") {
            Ok(buffer) => Rc::new(buffer),
            Err(error) => {
                self.recorder.fail(error);
                return None;
            }
        };
        let parts: Vec<(&Buffer, u64)> = std::iter::once(norm)
            .chain(biases.into_iter().flatten())
            .map(|part| (&part.buffer, part.stride as u64 * 4))
            .collect();
        self.recorder.copy(&parts, &buffer);
        self.norms_and_biases.insert(ids, buffer.clone());
        Some((buffer, starts))
    }

    /// Records an op on `n` rows, one thread for each of `per_row` things in a row.
    fn dispatch_rows(&mut self, kernel: Kernel, read: &[&Buffer], written: &[&Buffer], params: &[u32], per_row: usize, n: usize) {
        let grid = [per_row.div_ceil(64) as u32, n as u32, 1];
        self.recorder.dispatch(kernel, read, written, params, grid, 0);
    }

    /// Puts `n` rows of keys and of values, `stride` floats apart, values from `v_from` on, into a cache of bytes.
    #[allow(clippy::too_many_arguments, reason = "where from and where to")]
    fn kv_write_bytes(
        &mut self,
        cache: &KvCache,
        layer: usize,
        position: usize,
        rows: [&Buffer; 2],
        stride: usize,
        v_from: usize,
        n: usize,
    ) {
        let KvSpec { n_kv, head_dim, format, .. } = cache.spec;
        let params =
            [stride, v_from, n_kv / head_dim, head_dim, cache.head_stride, cache.stride, cache.v_first(), cache.scales()];
        self.recorder.at(position);
        let (params, per_row) = (params.map(|p| p as u32), cache.stride / (2 * KV_BLOCK));
        self.dispatch_rows(Kernel::KvWrite(format), &rows, &[&cache.layers[layer]], &params, per_row, n);
    }

    /// Gives kernels up to [`MAX_IDS`] ids, once those that are to read the ids before have been handed over.
    fn write_ids(&mut self, ids: &[u32]) {
        self.recorder.new_ids();
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        self.device.queue.write_buffer(&self.ids.raw, 0, &bytes);
    }

    /// Records the choice of a token. Where there is no memory for it, whoever waits for the token is told.
    fn record_choice(&mut self, logits: &Tensor, choice: &Choice, unit: f64) {
        let part = CHOOSE_PART * logits.cols.div_ceil(CHOOSE_PART * CHOOSE_PARTS);
        let n_parts = logits.cols.div_ceil(part);
        let is_selecting = !choice.is_greedy() && (choice.top_k > 0 || choice.top_p < 1.0);
        let Some(best) = self.scratch("the best logits", work::product(&[n_parts, 16])) else { return };
        let Some(histogram) = self.scratch("a histogram of logits", CHOOSE_HISTOGRAM_BYTES) else { return };
        // Bound in any case, so that how a token is chosen makes no difference to the buffers.
        let Some(candidates) = self.scratch("candidates", work::product(&[logits.cols, 8])) else { return };
        let Some(counts) = self.scratch("counts of candidates", work::product(&[n_parts, 4])) else { return };
        let plain = Weights::new(1.0);
        let weights = if choice.is_greedy() { plain } else { Weights::new(choice.temperature) };
        let params = [
            logits.cols as u32,
            part as u32,
            n_parts as u32,
            u32::try_from(choice.top_k).unwrap_or(u32::MAX),
            u32::from(choice.top_p < 1.0),
            choice::fraction(f64::from(choice.top_p)),
            if choice.min_p > 0.0 { choice::farthest(choice.min_p) } else { choice::MAX_DISTANCE },
            u32::from(choice.is_greedy()),
            plain.factor,
            plain.end,
            weights.factor,
            weights.end,
        ];
        let grid = [n_parts as u32, 1, 1];
        let logits = &logits.buffer;
        self.recorder.dispatch(Kernel::ChooseBest, &[logits], &[&best, &histogram], &params, grid, 0);
        if is_selecting {
            self.recorder.dispatch(Kernel::ChooseHistogram, &[logits, &best], &[&histogram], &params, grid, 0);
            let (read, written) = ([logits, &best, &histogram], [&*candidates, &*counts]);
            self.recorder.dispatch(Kernel::ChooseCandidates, &read, &written, &params, grid, 0);
        }
        self.recorder.draw_by(unit);
        let read = [logits, &best, &histogram, &candidates, &counts];
        self.recorder.dispatch(Kernel::Choose, &read, &[&self.chosen], &params, [1, 1, 1], 0);
    }

    fn compile(&self, kernels: &[Kernel]) {
        for kernel in kernels {
            self.device.pipeline(*kernel);
        }
    }
}

impl Types for Gpu {
    type Tensor = Tensor;
    type Matrix = Matrix;
    type MatrixBuilder = MatrixBuilder;
    type KvCache = KvCache;
    type Chosen = PendingToken;

    const ROW_GROUP: usize = matrix::ROW_GROUP;
    /// Enough workgroups for every part of a large adapter.
    const PREFILL_ROWS: usize = 512;
    /// What is worth a submit of its own decides when a caller gets its turn ([`Queue::settle`]).
    const STEP_WORK: u64 = 1 << 35;
    /// While the host looks at one token the device computes the next, and has one more in its queue.
    const LOOK_AHEAD: usize = 2;
    const CAN_BE_LOST: bool = true;
}

impl Memory for Gpu {
    fn tensor(&mut self, rows: usize, cols: usize) -> Result<Tensor> {
        let stride = cols.next_multiple_of(ROW_MULTIPLE);
        let buffer = self.storage(work::product(&[rows, stride, 4]), &format!("a tensor of {rows} by {cols} numbers"))?;
        Ok(Tensor { rows, cols, stride, buffer })
    }

    fn matrix_begin(&mut self, spec: &MatrixSpec) -> Result<MatrixBuilder> {
        MatrixBuilder::new(&self.device, spec, &self.weight_bytes, &self.dropped)
    }

    fn matrix_rows(&mut self, builder: &mut MatrixBuilder, bytes: &[u8]) -> Result<()> {
        builder.rows(&self.device, bytes)
    }

    fn matrix_end(&mut self, builder: MatrixBuilder) -> Result<Matrix> {
        builder.end(&self.device)
    }

    fn kv_cache(&mut self, spec: &KvSpec) -> Result<KvCache> {
        let [stride, head_stride] = KvCache::strides(spec);
        let mut cache = KvCache { spec: *spec, stride, head_stride, layers: Vec::new() };
        let what = format!("the keys and values of {} positions", spec.n_ctx);
        let n_bytes = cache.layer_bytes();
        cache.layers = (0..spec.n_layers).map(|_| self.storage(n_bytes, &what)).collect::<Result<_>>()?;
        Ok(cache)
    }

    fn supports(&self, op: &AttentionOp) -> Result<()> {
        attention::supports(op)
    }

    fn weight_bytes(&self) -> u64 {
        self.weight_bytes.get()
    }

    fn matrix_bytes(&self, spec: &MatrixSpec) -> u64 {
        matrix::n_bytes(spec)
    }

    fn elsewhere(&self, n_bytes: u64) -> Option<&'static str> {
        // What a 32-bit module can address.
        (n_bytes < 1 << 32).then_some("The CPU (device \"cpu\") has other memory, in which the model may fit, and is slower.")
    }

    fn reserve(&mut self) {
        self.device.reserve();
    }

    async fn confirm(&mut self) -> Result<()> {
        self.device.confirm().await
    }

    async fn reserved(&mut self, spare: u64) -> Result<()> {
        self.device.reserved(spare).await
    }

    fn bytes_before_refusal(&self) -> u64 {
        self.device.bytes_before_refusal()
    }
}

impl Queue for Gpu {
    fn write(&mut self, out: &mut Tensor, row: usize, data: &[f32]) {
        assert_eq!(data.len() % out.cols, 0, "write takes whole rows");
        let n = data.len() / out.cols;
        assert!(row + n <= out.rows, "write: {n} rows from {row} on of {}", out.rows);
        // The queue would otherwise write before what is recorded has run.
        self.recorder.submit();
        let mut bytes = Vec::with_capacity(n * out.stride * 4);
        for row in data.chunks_exact(out.cols) {
            bytes.extend(row.iter().flat_map(|x| x.to_le_bytes()));
            bytes.resize(bytes.len() + (out.stride - out.cols) * 4, 0);
        }
        self.device.queue.write_buffer(&out.buffer.raw, work::product(&[row, out.stride, 4]), &bytes);
        self.recorder.launches.writes += 1;
    }

    async fn read(&mut self, x: &Tensor, row: usize, n: usize, out: &mut Vec<f32>) -> Result<()> {
        assert!(row + n <= x.rows, "read: {n} rows from {row} on of {}", x.rows);
        out.clear();
        let row_bytes = x.stride * 4;
        let take = |bytes: &[u8]| {
            for row in bytes.chunks_exact(row_bytes) {
                out.extend(row.as_chunks::<4>().0[..x.cols].iter().map(|x| f32::from_le_bytes(*x)));
            }
        };
        let (from, n_bytes) = (work::product(&[row, row_bytes]), work::product(&[n, row_bytes]));
        self.recorder.read(&[(&x.buffer, from, n_bytes)], take).await
    }

    async fn cause(&mut self, error: Error) -> Error {
        self.device.cause(error).await
    }

    fn launches(&self) -> Launches {
        Launches { pipelines: self.device.n_pipelines(), ..self.recorder.launches }
    }

    fn expect(&mut self, expected: &[Expected]) {
        for expected in expected {
            match *expected {
                Expected::Embed(format) => self.compile(&[Kernel::Embed(format)]),
                Expected::Linear(format) => {
                    self.compile(&[false, true].map(|normed| Kernel::MatVec { format, normed }));
                    let wide = self.wide(format);
                    self.compile(&[Kernel::MatMul(format), wide]);
                    if matches!(wide, Kernel::MatMulDot8(_)) {
                        self.compile(&[Kernel::QuantizeRows]);
                    }
                }
                Expected::Qkv([q, k, v], cache) => {
                    self.compile(&[Kernel::QkvRopeKv { q, k, v, cache }, Kernel::Rope, Kernel::KvWrite(cache)]);
                }
                Expected::GateUp([gate, up], gating) => {
                    self.compile(&[Kernel::GateUp { gate, up, gating }, Kernel::GateMul(gating)]);
                }
                Expected::Attention(head_dim, format) => self.compile_attention(head_dim, format, false),
                Expected::AttentionEnds(head_dim, format) => self.compile_attention(head_dim, format, true),
                Expected::AttentionRows(head_dim) => self.compile_attention(head_dim, KvFormat::F32, false),
                Expected::Scaled => self.compile(&[Kernel::MeanRows, Kernel::AddRows]),
                Expected::SoftCap => self.compile(&[Kernel::SoftCap]),
                Expected::HeadNorm => self.compile(&[Kernel::HeadNorm]),
                Expected::ShortConv => self.compile(&[Kernel::ShortConv, Kernel::ShortConvKeep]),
                Expected::DepthwiseConv => {
                    self.compile(&[Kernel::DepthwiseConv, Kernel::HardSwish, Kernel::MulRows, Kernel::MeanRows]);
                }
                Expected::Decoder => {
                    self.compile(&[Kernel::RmsNorm, Kernel::CopyRows]);
                    self.compile(&[Kernel::ChooseBest, Kernel::ChooseHistogram, Kernel::ChooseCandidates, Kernel::Choose]);
                }
                Expected::Vision => {
                    self.compile(&[Kernel::LayerNorm, Kernel::AddRows, Kernel::CopyRows, Kernel::GatherRows, Kernel::JoinRows])
                }
            }
        }
    }

    async fn settle(&mut self, all: bool) -> Result<()> {
        self.recorder.settle(all).await
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
        assert!(layers.end <= cache.spec.n_layers && position + n <= cache.spec.n_ctx, "kv_read: beyond the cache");
        out.clear();
        if layers.is_empty() || n == 0 {
            return Ok(());
        }
        let ranges = cache.ranges(part, position, n);
        let [n_elements, n_scales] = ranges.map(|(_, n)| n as usize);
        let parts: Vec<_> = cache.layers[layers]
            .iter()
            .flat_map(|layer| ranges.into_iter().filter(|(_, n)| *n > 0).map(move |(at, n)| (layer, at, n)))
            .collect();
        let take = |bytes: &[u8]| {
            for layer in bytes.chunks_exact(n_elements + n_scales) {
                let (elements, scales) = layer.split_at(n_elements);
                cache.take_rows(elements, scales, out);
            }
        };
        self.recorder.read(&parts, take).await
    }

    fn kv_restore(&mut self, cache: &mut KvCache, part: KvPart, layers: Range<usize>, position: usize, bytes: &[u8]) {
        let row_bytes = cache.spec.row_bytes();
        let n = bytes.len() / (layers.len() * row_bytes);
        assert_eq!(bytes.len(), n * layers.len() * row_bytes, "kv_restore takes whole rows of each layer");
        assert!(layers.end <= cache.spec.n_layers && position + n <= cache.spec.n_ctx, "kv_restore: beyond the cache");
        // The queue would otherwise write before what is recorded has run.
        self.recorder.submit();
        let [(elements_at, _), (scales_at, n_scales)] = cache.ranges(part, position, n);
        let (mut elements, mut scales) = (Vec::new(), Vec::new());
        for (layer, bytes) in cache.layers[layers].iter().zip(bytes.chunks_exact((n * row_bytes).max(1))) {
            cache.put_rows(bytes, &mut elements, &mut scales);
            self.device.queue.write_buffer(&layer.raw, elements_at, &elements);
            if n_scales > 0 {
                self.device.queue.write_buffer(&layer.raw, scales_at, &scales);
            }
        }
    }
}

impl Ops for Gpu {
    fn embed(&mut self, table: &Matrix, ids: &[u32], out: &mut Tensor, row: usize) {
        assert!(row + ids.len() <= out.rows, "embed: {} rows from {row} on of {}", ids.len(), out.rows);
        for (i, ids) in ids.chunks(MAX_IDS).enumerate() {
            self.write_ids(ids);
            look_up(&mut self.recorder, table, &self.ids, ids.len(), out, row + i * MAX_IDS);
        }
    }

    fn copy_rows(&mut self, src: &Tensor, src_row: usize, dst: &mut Tensor, dst_row: usize, n: usize) {
        assert_eq!(src.cols, dst.cols, "copy_rows: row lengths differ");
        assert!(src_row + n <= src.rows && dst_row + n <= dst.rows, "copy_rows: beyond the rows");
        let params = [src.stride / 4, src_row, dst_row].map(|p| p as u32);
        self.dispatch_rows(Kernel::CopyRows, &[&src.buffer], &[&dst.buffer], &params, src.stride / 4, n);
    }

    fn gather_rows(&mut self, src: &Tensor, rows: &[[u32; 2]], dst: &mut Tensor) {
        assert_eq!(src.cols, dst.cols, "gather_rows: row lengths differ");
        let is_within = |[from, to]: &[u32; 2]| (*from as usize) < src.rows && (*to as usize) < dst.rows;
        assert!(rows.iter().all(is_within), "gather_rows: beyond the rows");
        for rows in rows.chunks(MAX_IDS / 2) {
            self.write_ids(rows.as_flattened());
            let (read, params) = ([&src.buffer, &self.ids], [(src.stride / 4) as u32]);
            let grid = [(src.stride / 4).div_ceil(64) as u32, rows.len() as u32, 1];
            self.recorder.dispatch(Kernel::GatherRows, &read, &[&dst.buffer], &params, grid, 0);
        }
    }

    fn join_rows(&mut self, x: &Tensor, row: usize, k: usize, out: &mut Tensor, n: usize) {
        assert!(k * x.cols == out.cols && x.cols.is_multiple_of(4), "join_rows: row lengths differ");
        assert!(row + k * n <= x.rows && n <= out.rows, "join_rows: beyond the rows");
        let params = [x.stride / 4, row, x.cols / 4, k, out.stride / 4].map(|p| p as u32);
        self.dispatch_rows(Kernel::JoinRows, &[&x.buffer], &[&out.buffer], &params, out.stride / 4, n);
    }

    fn add_rows(&mut self, x: &mut Tensor, row: usize, y: &Tensor, n: usize) {
        assert_eq!(x.cols, y.cols, "add_rows: row lengths differ");
        assert!(row + n <= x.rows && n <= y.rows, "add_rows: beyond the rows");
        let params = [x.stride / 4, 0, row].map(|p| p as u32);
        self.dispatch_rows(Kernel::AddRows, &[&y.buffer], &[&x.buffer], &params, x.stride / 4, n);
    }

    fn add_scaled(&mut self, x: &mut Tensor, scale: &Tensor, y: &Tensor, n: usize) {
        assert!(x.cols == y.cols && x.cols == scale.cols, "add_scaled: row lengths differ");
        assert!(n <= x.rows && n <= y.rows, "add_scaled: beyond the rows");
        let params = [(x.stride / 4) as u32];
        self.dispatch_rows(Kernel::AddScaled, &[&scale.buffer, &y.buffer], &[&x.buffer], &params, x.stride / 4, n);
    }

    fn mean_rows(&mut self, x: &Tensor, k: usize, factor: f32, out: &mut Tensor, n: usize) {
        assert_eq!(x.cols, out.cols, "mean_rows: row lengths differ");
        assert!(k > 0 && k * n <= x.rows && n <= out.rows, "mean_rows: beyond the rows");
        let params = [(x.stride / 4) as u32, k as u32, factor.to_bits()];
        self.dispatch_rows(Kernel::MeanRows, &[&x.buffer], &[&out.buffer], &params, x.stride / 4, n);
    }

    fn mul_rows(&mut self, x: &mut Tensor, scale: &Tensor, n: usize) {
        assert_eq!(x.cols, scale.cols, "mul_rows: row lengths differ");
        assert!(n <= x.rows, "mul_rows: beyond the rows");
        let params = [(x.stride / 4) as u32];
        self.dispatch_rows(Kernel::MulRows, &[&scale.buffer], &[&x.buffer], &params, x.stride / 4, n);
    }

    fn hard_swish(&mut self, x: &mut Tensor, n: usize) {
        assert!(n <= x.rows, "hard_swish: beyond the rows");
        let params = [(x.stride / 4) as u32];
        self.dispatch_rows(Kernel::HardSwish, &[], &[&x.buffer], &params, x.stride / 4, n);
    }

    fn depthwise_conv(&mut self, x: &Tensor, grid: [usize; 2], conv: &DepthwiseConv<Self>, out: &mut Tensor) {
        let cols = x.cols;
        assert!(out.cols == cols && conv.kernel.cols == cols && conv.kernel.rows == 9, "depthwise_conv: shapes differ");
        assert!(conv.bias.as_ref().is_none_or(|bias| bias.cols == cols), "depthwise_conv: shapes differ");
        let [height, width] = conv.output(grid);
        assert!(grid[0] * grid[1] <= x.rows && height * width <= out.rows, "depthwise_conv: beyond the rows");
        let bias = conv.bias.as_ref().map_or(&self.no_bias, |bias| &bias.buffer);
        let read = [&x.buffer, &conv.kernel.buffer, bias];
        let has_bias = usize::from(conv.bias.is_some());
        let params = [x.stride / 4, grid[0], grid[1], conv.stride, width, has_bias].map(|p| p as u32);
        let grid = [(x.stride / 4).div_ceil(64), width, height].map(|n| n as u32);
        self.recorder.dispatch(Kernel::DepthwiseConv, &read, &[&out.buffer], &params, grid, 0);
    }

    fn head_norm(&mut self, x: &mut Tensor, weight: &Tensor, eps: f32, n: usize) {
        assert!(weight.cols > 0 && x.cols.is_multiple_of(weight.cols), "head_norm: row lengths differ");
        assert!(n <= x.rows, "head_norm: beyond the rows");
        let params = [x.stride as u32, weight.cols as u32, eps.to_bits()];
        let grid = [(x.cols / weight.cols) as u32, n as u32, 1];
        self.recorder.dispatch(Kernel::HeadNorm, &[&weight.buffer], &[&x.buffer], &params, grid, 0);
    }

    fn short_conv(&mut self, bcx: &Tensor, kernel: &Tensor, state: &mut Tensor, first: usize, out: &mut Tensor, n: usize) {
        assert!(bcx.cols == 3 * out.cols && kernel.cols == out.cols && state.cols == out.cols, "short_conv: row lengths differ");
        assert!(n <= bcx.rows && n <= out.rows, "short_conv: beyond the rows");
        assert!(state.rows >= conv_state_rows(first + n), "short_conv: beyond the state");
        self.recorder.at(first);
        let [bcx_stride, cols, stride, out_stride] = [bcx.stride, out.cols, state.stride, out.stride].map(|p| p as u32);
        let read = [&bcx.buffer, &kernel.buffer, &state.buffer];
        let params = [bcx_stride, cols, stride, out_stride];
        self.dispatch_rows(Kernel::ShortConv, &read, &[&out.buffer], &params, out.stride, n);
        let params = [bcx_stride, cols, stride, n as u32];
        self.dispatch_rows(Kernel::ShortConvKeep, &[&bcx.buffer], &[&state.buffer], &params, out.cols, n);
    }

    fn rms_norm(&mut self, x: &Tensor, weight: &Tensor, eps: f32, out: &mut Tensor, n: usize) {
        assert!(x.cols == out.cols && x.cols == weight.cols, "rms_norm: row lengths differ");
        assert!(n <= x.rows && n <= out.rows, "rms_norm: beyond the rows");
        let params = [(x.stride / 4) as u32, (x.cols as f32).to_bits(), eps.to_bits()];
        let (read, written) = ([&x.buffer, &weight.buffer], [&out.buffer]);
        self.recorder.dispatch(Kernel::RmsNorm, &read, &written, &params, [n as u32, 1, 1], 0);
    }

    fn layer_norm(&mut self, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32, out: &mut Tensor, n: usize) {
        assert!(x.cols == out.cols && x.cols == weight.cols && x.cols == bias.cols, "layer_norm: row lengths differ");
        assert!(n <= x.rows && n <= out.rows, "layer_norm: beyond the rows");
        let params = [(x.stride / 4) as u32, x.cols as u32, eps.to_bits()];
        let (read, written) = ([&x.buffer, &weight.buffer, &bias.buffer], [&out.buffer]);
        self.recorder.dispatch(Kernel::LayerNorm, &read, &written, &params, [n as u32, 1, 1], 0);
    }

    fn linear(&mut self, x: &Tensor, layer: &Linear<Self>, out: &mut Tensor, n: usize, epilogue: Epilogue) {
        self.product(x, None, None, layer, out, n, epilogue);
    }

    fn norm_linear(
        &mut self,
        x: &Tensor,
        norm: RmsNorm<'_, Self>,
        layer: &Linear<Self>,
        out: &mut Tensor,
        n: usize,
        epilogue: Epilogue,
    ) {
        if n <= MAX_VEC_ROWS {
            assert_eq!(x.cols, norm.weight.cols, "norm_linear: row lengths differ");
            self.product(x, Some((norm.weight, norm.eps)), None, layer, out, n, epilogue);
        } else {
            self.rms_norm(x, norm.weight, norm.eps, norm.scratch, n);
            self.product(norm.scratch, None, None, layer, out, n, epilogue);
        }
    }

    fn qkv(&mut self, x: &Tensor, layers: &Qkv<'_, Self>, q: &mut Tensor, k: &mut Tensor, v: &mut Tensor, n: usize) {
        let is_wide =
            |layer: &Linear<Self>| n > MAX_TILE32_ROWS && matches!(self.wide(layer.weight.spec.format), Kernel::MatMulDot8(_));
        let in_bytes = if [layers.q, layers.k, layers.v].into_iter().any(is_wide) { self.in_bytes(x, n) } else { None };
        for (layer, out) in [(layers.q, q), (layers.k, k), (layers.v, v)] {
            self.product(x, None, in_bytes.as_ref(), layer, out, n, Epilogue::Store);
        }
    }

    fn gate_mul(&mut self, gating: Gating, gate: &mut Tensor, up: &Tensor, n: usize) {
        assert_eq!(gate.cols, up.cols, "gate_mul: row lengths differ");
        assert!(n <= gate.rows && n <= up.rows, "gate_mul: beyond the rows");
        let params = [(gate.stride / 4) as u32];
        self.dispatch_rows(Kernel::GateMul(gating), &[&up.buffer], &[&gate.buffer], &params, gate.stride / 4, n);
    }

    fn soft_cap(&mut self, x: &mut Tensor, cap: f32, n: usize) {
        assert!(n <= x.rows, "soft_cap: beyond the rows");
        let params = [(x.stride / 4) as u32, cap.to_bits()];
        self.dispatch_rows(Kernel::SoftCap, &[], &[&x.buffer], &params, x.stride / 4, n);
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
        assert!(n <= x.rows && position + n <= rope.rows, "rope: beyond the rows");
        let half = rope.cols / 2;
        let n_pairs = n_heads * half;
        let halves = usize::from(style == RopeStyle::Halves);
        let params = [x.stride, rope.stride, n_pairs, half, head_dim, halves].map(|p| p as u32);
        self.recorder.at(position);
        self.dispatch_rows(Kernel::Rope, &[&rope.buffer], &[&x.buffer], &params, n_pairs, n);
    }

    fn kv_write(&mut self, cache: &mut KvCache, layer: usize, position: usize, k: &Tensor, v: &Tensor, n: usize) {
        let KvSpec { n_ctx, n_kv, format, .. } = cache.spec;
        assert!(k.cols == n_kv && v.cols == n_kv, "kv_write: row lengths differ");
        assert!(n <= k.rows && n <= v.rows && position + n <= n_ctx, "kv_write: beyond the rows");
        if format == KvFormat::Q8_0 {
            self.kv_write_bytes(cache, layer, position, [&k.buffer, &v.buffer], k.stride, 0, n);
            return;
        }
        let params = [k.stride / 2, cache.stride, cache.v_first()].map(|p| p as u32);
        self.recorder.at(position);
        let kv = &cache.layers[layer];
        self.dispatch_rows(Kernel::KvWrite(format), &[&k.buffer, &v.buffer], &[kv], &params, cache.stride / 2, n);
    }

    fn attention(&mut self, op: &AttentionOp, q: &Tensor, kv: KvSource<'_, Self>, out: &mut Tensor, n: usize) {
        let Heads { n_heads, n_kv_heads, head_dim } = op.heads;
        let n_kv = n_kv_heads * head_dim;
        assert!(q.cols == n_heads * head_dim && out.cols == q.cols, "attention: shapes differ");
        assert!(n <= q.rows && n <= out.rows, "attention: beyond the rows");
        let keys = match kv {
            KvSource::Cache { cache, layer, first, ends } => {
                assert_eq!(cache.spec.n_kv, n_kv, "attention: the cache is of another model");
                assert!(first + n <= cache.spec.n_ctx, "attention: beyond the cache");
                assert!(ends.is_none_or(|ends| ends.cols == cache.spec.n_ctx), "attention: its ends");
                self.recorder.at(first);
                Keys {
                    k: &cache.layers[layer],
                    v: &cache.layers[layer],
                    format: cache.spec.format,
                    stride: cache.stride,
                    head_stride: cache.head_stride,
                    v_first: cache.v_first(),
                    scales: cache.scales(),
                    ends: ends.map(|ends| &ends.buffer),
                    n_keys: first + n,
                    max_keys: cache.spec.n_ctx,
                }
            }
            KvSource::Rows { k, v } => {
                assert!(k.cols == n_kv && v.cols == n_kv, "attention: shapes differ");
                assert!(n <= k.rows && n <= v.rows, "attention: beyond the rows");
                // Queries of a mask that goes by slots stand at theirs; a tower's see everything and have none.
                if op.mask != Mask::Full {
                    self.recorder.at(0);
                }
                let (k, v, stride) = (&k.buffer, &v.buffer, k.stride);
                Keys {
                    k,
                    v,
                    format: KvFormat::F32,
                    stride,
                    head_stride: head_dim,
                    v_first: 0,
                    scales: 0,
                    ends: None,
                    n_keys: n,
                    max_keys: n,
                }
            }
        };
        self.attend(op, q, &keys, out, n);
    }

    fn norm_qkv_rope_kv(
        &mut self,
        x: &Tensor,
        norm: RmsNorm<'_, Self>,
        layers: &Qkv<'_, Self>,
        place: KvPlace<'_, Self>,
        q: &mut Tensor,
        k: &mut Tensor,
        v: &mut Tensor,
        n: usize,
    ) {
        let Heads { n_heads, n_kv_heads, head_dim } = place.heads;
        let KvSpec { n_ctx, n_kv, format: cache_format, .. } = place.cache.spec;
        let n_groups = (n_heads + 2 * n_kv_heads) * head_dim / 4;
        let shards = [layers.q, layers.k, layers.v].map(|layer| sole_shard(&layer.weight));
        let ([Some(q_shard), Some(k_shard), Some(v_shard)], true) = (
            shards,
            n <= MAX_VEC_ROWS
                && layers.qk_norm.is_none()
                && head_dim.is_multiple_of(4)
                && place.rope.cols.is_multiple_of(4)
                && n_groups <= MAX_GRID_X,
        ) else {
            self.rms_norm(x, norm.weight, norm.eps, norm.scratch, n);
            self.qkv_rope_kv(norm.scratch, layers, place, q, k, v, n);
            return;
        };
        let [q_spec, k_spec, v_spec] = [layers.q, layers.k, layers.v].map(|layer| &layer.weight.spec);
        assert!([q_spec, k_spec, v_spec].iter().all(|spec| spec.n_in == x.cols), "qkv_rope_kv: row lengths differ");
        assert!(x.cols == norm.weight.cols, "qkv_rope_kv: row lengths differ");
        assert!(q_spec.n_out == n_heads * head_dim && q_spec.n_out == q.cols, "qkv_rope_kv: shapes differ");
        assert!(n_kv == n_kv_heads * head_dim && k_spec.n_out == n_kv && v_spec.n_out == n_kv, "qkv_rope_kv: shapes differ");
        assert!(place.rope.cols <= head_dim, "qkv_rope_kv: shapes differ");
        assert!(n <= x.rows && n <= q.rows && place.position + n <= n_ctx.min(place.rope.rows), "qkv_rope_kv: beyond the rows");
        let biases = [layers.q, layers.k, layers.v].map(|layer| layer.bias.as_ref());
        let packed;
        let (vectors, starts) = if biases.iter().all(Option::is_none) {
            (&norm.weight.buffer, [0; 3])
        } else {
            packed = self.norm_and_biases(norm.weight, biases);
            let Some((buffer, starts)) = &packed else { return };
            (&**buffer, *starts)
        };
        // What is kept in blocks goes there by way of rows.
        let rows = if cache_format == KvFormat::Q8_0 {
            let Some(rows) = self.scratch("keys and values", work::product(&[2, n, n_kv, 4])) else { return };
            Some(rows)
        } else {
            None
        };
        let (kv_stride, v_first) = if rows.is_some() { (n_kv, n * n_kv) } else { (place.cache.stride, place.cache.v_first()) };
        let params = [
            q_shard.n_blocks,
            k_shard.n_blocks,
            v_shard.n_blocks,
            layers.q.weight.row_blocks,
            x.stride / 4,
            q.stride,
            kv_stride,
            v_first,
            place.rope.stride,
            place.rope.cols / 2,
            head_dim,
            usize::from(place.style == RopeStyle::Halves),
            q_spec.n_out / 4,
            (q_spec.n_out + n_kv) / 4,
            (x.cols as f32).to_bits() as usize,
            norm.eps.to_bits() as usize,
            starts[0],
            starts[1],
            starts[2],
        ]
        .map(|p| p as u32);
        let kernel = Kernel::QkvRopeKv { q: q_spec.format, k: k_spec.format, v: v_spec.format, cache: cache_format };
        let read = [&x.buffer, vectors, &q_shard.buffer, &k_shard.buffer, &v_shard.buffer, &place.rope.buffer];
        let written = [&q.buffer, rows.as_deref().unwrap_or(&place.cache.layers[place.layer])];
        let work = work::product(&[n, q_spec.n_out + k_spec.n_out + v_spec.n_out, x.cols]);
        self.recorder.at(place.position);
        self.recorder.dispatch(kernel, &read, &written, &params, [n_groups as u32, n as u32, 1], work);
        if let Some(rows) = &rows {
            self.kv_write_bytes(place.cache, place.layer, place.position, [rows, rows], n_kv, v_first, n);
        }
    }

    fn norm_gate_up(
        &mut self,
        x: &Tensor,
        norm: RmsNorm<'_, Self>,
        layers: &GateUp<'_, Self>,
        gate: &mut Tensor,
        up: &mut Tensor,
        n: usize,
    ) {
        let GateUp { gate: gate_layer, up: up_layer, gating } = *layers;
        let shards = (sole_shard(&gate_layer.weight), sole_shard(&up_layer.weight));
        let has_bias = gate_layer.bias.is_some() || up_layer.bias.is_some();
        let ((Some(gate_shard), Some(up_shard)), true) = (shards, n <= MAX_VEC_ROWS && !has_bias) else {
            self.rms_norm(x, norm.weight, norm.eps, norm.scratch, n);
            self.gate_up(norm.scratch, layers, gate, up, n);
            return;
        };
        let (gate_spec, up_spec) = (&gate_layer.weight.spec, &up_layer.weight.spec);
        assert!(gate_spec.n_in == x.cols && up_spec.n_in == x.cols, "gate_up: row lengths differ");
        assert!(x.cols == norm.weight.cols, "gate_up: row lengths differ");
        assert!(gate_spec.n_out == gate.cols && up_spec.n_out == gate.cols, "gate_up: shapes differ");
        assert!(n <= x.rows && n <= gate.rows, "gate_up: beyond the rows");
        let params = [
            gate_shard.n_blocks,
            up_shard.n_blocks,
            gate_layer.weight.row_blocks,
            gate_spec.n_out,
            x.stride / 4,
            gate.stride,
            (x.cols as f32).to_bits() as usize,
            norm.eps.to_bits() as usize,
        ]
        .map(|p| p as u32);
        let groups = gate_spec.n_out.div_ceil(4);
        let grid = [groups.min(MAX_GRID_X), groups.div_ceil(MAX_GRID_X), n].map(|n| n as u32);
        let kernel = Kernel::GateUp { gate: gate_spec.format, up: up_spec.format, gating };
        let read = [&x.buffer, &norm.weight.buffer, &gate_shard.buffer, &up_shard.buffer];
        let work = work::product(&[n, gate_spec.n_out + up_spec.n_out, x.cols]);
        self.recorder.dispatch(kernel, &read, &[&gate.buffer], &params, grid, work);
    }
}

impl Choose for Gpu {
    fn choose(&mut self, logits: &Tensor, choice: &Choice, unit: f64) -> PendingToken {
        self.record_choice(logits, choice, unit);
        self.recorder.fetch(&self.chosen)
    }

    fn embed_chosen(&mut self, table: &Matrix, out: &mut Tensor) {
        look_up(&mut self.recorder, table, &self.chosen, 1, out, 0);
    }

    async fn chosen(&mut self, token: PendingToken) -> Result<Option<u32>> {
        let id = self.recorder.word(token).await?;
        Ok(if id == u32::MAX { None } else { Some(id) })
    }
}

/// Records the look-up of `n` ids that are in a buffer.
fn look_up(recorder: &mut Recorder, table: &Matrix, ids: &Buffer, n: usize, out: &Tensor, row: usize) {
    assert_eq!(table.spec.n_in, out.cols, "embed: row lengths differ");
    for shard in &table.shards {
        let params = [shard.n_blocks, table.row_blocks, shard.first_row, shard.n_rows, row, out.stride / 4].map(|p| p as u32);
        let grid = [table.row_blocks.div_ceil(64) as u32, n as u32, 1];
        let read = [&shard.buffer, ids];
        recorder.dispatch(Kernel::Embed(table.spec.format), &read, &[&out.buffer], &params, grid, 0);
    }
}

/// The whole of a matrix, where it is in one buffer: what the fused kernels take.
fn sole_shard(matrix: &Matrix) -> Option<&matrix::Shard> {
    match &matrix.shards[..] {
        [shard] => Some(shard),
        _ => None,
    }
}
