//! The WebGPU backend: every op of [`Backend`] a compute shader, in the browser and (for tests and benchmarks) over Vulkan.
//!
//! * `device`: the adapter, its device, what fails on it, and how a loss or a lack of memory is told from other failures;
//! * [`kernels`]: the table of shaders, put together from `shaders/*.wgsl` and the formats' fragments;
//! * `recorder`: one encoder, one pass, one submit; parameters in one buffer; bind groups made once;
//! * `matrix`: weights in planes, cut by rows at the binding limit;
//! * `self_test`: kernels against plain loops, before a model is trusted to them.
//!
//! Ops record. What is recorded is handed over by [`Backend::read`], by a [`Backend::write`] (which must not overtake it), or
//! when there is much of it. Rows of tensors are padded to 32 elements, and the padding is zero: kernels read whole vec4s and
//! whole blocks without looking at the row's end, and write zeros there.

use std::cell::Cell;
use std::rc::Rc;

use super::{Backend, Epilogue, Heads, KvFormat, KvPlace, KvSpec, Launches, Linear, MatrixSpec, Qkv, RopeStyle};
use crate::error::{Error, Result};

mod device;
pub mod kernels;
mod matrix;
mod recorder;
mod self_test;

pub use device::{Device, DeviceOptions};
pub use matrix::{Matrix, MatrixBuilder};

use device::{Buffer, Dropped};
use kernels::Kernel;
use recorder::Recorder;

/// Elements that rows are padded to: a block of weights.
const ROW_MULTIPLE: usize = 32;
/// Rows of x up to which a product is made row by row: a tile of `mat_mul` would be almost empty.
const MAX_VEC_ROWS: usize = 4;
/// Ids that one dispatch looks up; they go with its parameters.
const MAX_IDS: usize = 48;
/// Workgroups along x; what is more goes along y. `mat_vec.wgsl` knows the number.
const MAX_GRID_X: usize = 32768;
/// The widest head that `attention.wgsl` has room for.
const MAX_HEAD_DIM: usize = 256;

/// `[rows, cols]` floats; rows `stride` elements apart.
#[derive(Debug)]
pub struct Tensor {
    rows: usize,
    cols: usize,
    stride: usize,
    buffer: Buffer,
}

/// Keys and values: two buffers `[n_ctx, stride]` for each layer.
#[derive(Debug)]
pub struct KvCache {
    spec: KvSpec,
    /// Elements between rows.
    stride: usize,
    layers: Vec<(Buffer, Buffer)>,
}

/// The WebGPU backend.
#[derive(Debug)]
pub struct Gpu {
    device: Rc<Device>,
    recorder: Recorder,
    dropped: Dropped,
    /// Bound where a layer has no bias.
    nothing: Buffer,
    weight_bytes: Rc<Cell<u64>>,
}

impl Gpu {
    /// A backend without weights on an open device.
    ///
    /// # Errors
    /// `out_of_memory`, `device_lost`.
    pub fn new(device: Rc<Device>) -> Result<Self> {
        let dropped = Dropped::default();
        let nothing = device.buffer(16, wgpu::BufferUsages::STORAGE, &dropped, "nothing")?;
        let recorder = Recorder::new(device.clone(), dropped.clone())?;
        Ok(Self { device, recorder, dropped, nothing, weight_bytes: Rc::default() })
    }

    /// Holds the kernels against plain loops on small numbers. Variants that are wrong are replaced, which [`Device::notes`] then says.
    ///
    /// # Errors
    /// `unsupported_browser` where even the plainest kernel is wrong; what a device has.
    pub async fn self_test(&mut self) -> Result<()> {
        self_test::run(self).await
    }

    /// The device it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn storage(&self, n_elements: usize, element: usize, what: &str) -> Result<Buffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.device.buffer((n_elements as u64).saturating_mul(element as u64), usage, &self.dropped, what)
    }

    /// Records an op on `n` rows, one thread for each of `per_row` things in a row.
    fn by_row(&mut self, kernel: Kernel, read: &[&Buffer], written: &[&Buffer], params: &[u32], per_row: usize, n: usize) {
        let grid = [per_row.div_ceil(64) as u32, n as u32, 1];
        self.recorder.dispatch(kernel, read, written, params, grid, 0);
    }

    #[allow(clippy::too_many_arguments, reason = "a formula with that many operands")]
    fn attend(
        &mut self,
        q: &Tensor,
        keys: (&Buffer, &Buffer, KvFormat, usize),
        heads: Heads,
        n_keys: usize,
        more: u32,
        scale: f32,
        out: &Tensor,
        n: usize,
    ) {
        let (k, v, format, kv_stride) = keys;
        let Heads { n_heads, n_kv_heads, head_dim } = heads;
        assert!(head_dim <= MAX_HEAD_DIM, "attention: heads of {head_dim} elements are wider than {MAX_HEAD_DIM}");
        let kernel = Kernel::Attention { format, is_aligned: head_dim.is_multiple_of(4) };
        let params = [
            head_dim as u32,
            (n_heads / n_kv_heads) as u32,
            q.stride as u32,
            kv_stride as u32,
            n_keys as u32,
            more,
            scale.to_bits(),
        ];
        let work = (2 * n * n_heads * head_dim * (n_keys + n)) as u64;
        self.recorder.dispatch(kernel, &[&q.buffer, k, v], &[&out.buffer], &params, [n_heads as u32, n as u32, 1], work);
    }
}

impl Backend for Gpu {
    type Tensor = Tensor;
    type Matrix = Matrix;
    type MatrixBuilder = MatrixBuilder;
    type KvCache = KvCache;

    const ROW_GROUP: usize = matrix::ROW_GROUP;
    const CAN_BE_LOST: bool = true;

    fn tensor(&mut self, rows: usize, cols: usize) -> Result<Tensor> {
        let stride = cols.next_multiple_of(ROW_MULTIPLE);
        let buffer = self.storage(rows.saturating_mul(stride), 4, &format!("a tensor of {rows} by {cols} numbers"))?;
        Ok(Tensor { rows, cols, stride, buffer })
    }

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
        self.device.queue.write_buffer(&out.buffer.raw, (row * out.stride * 4) as u64, &bytes);
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
        self.recorder.read(&x.buffer, (row * row_bytes) as u64, (n * row_bytes) as u64, take).await
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
        // Heads of any width then begin where their element size wants it, and rows end with a whole vec4.
        let stride = spec.n_kv.next_multiple_of(8);
        let element = match spec.format {
            KvFormat::F32 => 4,
            KvFormat::F16 => 2,
        };
        let what = format!("the keys and values of {} positions", spec.n_ctx);
        let layer = |_| {
            let n = spec.n_ctx.saturating_mul(stride);
            Ok((self.storage(n, element, &what)?, self.storage(n, element, &what)?))
        };
        Ok(KvCache { spec: *spec, stride, layers: (0..spec.n_layers).map(layer).collect::<Result<_>>()? })
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

    fn granted(&self) -> u64 {
        self.device.granted()
    }

    async fn cause(&mut self, error: Error) -> Error {
        self.device.cause(error).await
    }

    fn launches(&self) -> Launches {
        self.recorder.launches
    }

    fn embed(&mut self, table: &Matrix, ids: &[u32], out: &mut Tensor, row: usize) {
        assert_eq!(table.spec.n_in, out.cols, "embed: row lengths differ");
        assert!(row + ids.len() <= out.rows, "embed: {} rows from {row} on of {}", ids.len(), out.rows);
        for (i, ids) in ids.chunks(MAX_IDS).enumerate() {
            for shard in &table.shards {
                let mut params = vec![
                    shard.n_blocks as u32,
                    table.row_blocks as u32,
                    shard.first_row as u32,
                    shard.n_rows as u32,
                    (row + i * MAX_IDS) as u32,
                    (out.stride / 4) as u32,
                    0,
                    0,
                ];
                params.extend(ids);
                let kernel = Kernel::Embed(table.spec.format);
                self.by_row(kernel, &[&shard.buffer], &[&out.buffer], &params, table.row_blocks, ids.len());
            }
        }
    }

    fn copy_rows(&mut self, src: &Tensor, src_row: usize, dst: &mut Tensor, dst_row: usize, n: usize) {
        assert_eq!(src.cols, dst.cols, "copy_rows: row lengths differ");
        assert!(src_row + n <= src.rows && dst_row + n <= dst.rows, "copy_rows: beyond the rows");
        let params = [src.stride / 4, src_row, dst_row].map(|p| p as u32);
        self.by_row(Kernel::CopyRows, &[&src.buffer], &[&dst.buffer], &params, src.stride / 4, n);
    }

    fn add_rows(&mut self, x: &mut Tensor, row: usize, y: &Tensor, n: usize) {
        assert_eq!(x.cols, y.cols, "add_rows: row lengths differ");
        assert!(row + n <= x.rows && n <= y.rows, "add_rows: beyond the rows");
        let params = [x.stride / 4, 0, row].map(|p| p as u32);
        self.by_row(Kernel::AddRows, &[&y.buffer], &[&x.buffer], &params, x.stride / 4, n);
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
        let Matrix { spec, row_blocks, shards, .. } = &layer.weight;
        assert!(x.cols == spec.n_in && out.cols == spec.n_out, "linear {}: row lengths differ", spec.name);
        assert!(n <= x.rows && n <= out.rows, "linear {}: beyond the rows", spec.name);
        let is_vec = n <= MAX_VEC_ROWS;
        for shard in shards {
            let params = [
                shard.n_blocks as u32,
                *row_blocks as u32,
                shard.n_rows as u32,
                shard.first_row as u32,
                (x.stride / 4) as u32,
                out.stride as u32,
                n as u32,
                match epilogue {
                    Epilogue::Store => 0,
                    Epilogue::Add => 1,
                    Epilogue::Gelu => 2,
                    Epilogue::QuickGelu => 3,
                },
                u32::from(layer.bias.is_some()),
            ];
            let bias = layer.bias.as_ref().map_or(&self.nothing, |bias| &bias.buffer);
            let (read, written) = ([&shard.buffer, &x.buffer, bias], [&out.buffer]);
            let (kernel, grid) = if is_vec {
                let groups = shard.n_rows.div_ceil(4);
                let grid = [groups.min(MAX_GRID_X), groups.div_ceil(MAX_GRID_X), n];
                (Kernel::MatVec(spec.format), grid)
            } else {
                (Kernel::MatMul(spec.format), [shard.n_rows.div_ceil(32), n.div_ceil(32), 1])
            };
            let work = (n * shard.n_rows * spec.n_in) as u64;
            self.recorder.dispatch(kernel, &read, &written, &params, grid.map(|n| n as u32), work);
        }
    }

    fn silu_mul(&mut self, gate: &mut Tensor, up: &Tensor, n: usize) {
        assert_eq!(gate.cols, up.cols, "silu_mul: row lengths differ");
        assert!(n <= gate.rows && n <= up.rows, "silu_mul: beyond the rows");
        let params = [(gate.stride / 4) as u32];
        self.by_row(Kernel::SiluMul, &[&up.buffer], &[&gate.buffer], &params, gate.stride / 4, n);
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
        let params = [x.stride, rope.stride, position, n_pairs, half, head_dim, halves].map(|p| p as u32);
        self.by_row(Kernel::Rope, &[&rope.buffer], &[&x.buffer], &params, n_pairs, n);
    }

    fn kv_write(&mut self, cache: &mut KvCache, layer: usize, position: usize, k: &Tensor, v: &Tensor, n: usize) {
        let KvSpec { n_ctx, n_kv, format, .. } = cache.spec;
        assert!(k.cols == n_kv && v.cols == n_kv, "kv_write: row lengths differ");
        assert!(n <= k.rows && n <= v.rows && position + n <= n_ctx, "kv_write: beyond the rows");
        let stride = match format {
            KvFormat::F32 => cache.stride,
            KvFormat::F16 => cache.stride / 2,
        };
        let params = [k.stride, stride, position].map(|p| p as u32);
        let (k_cache, v_cache) = &cache.layers[layer];
        let (read, written) = ([&k.buffer, &v.buffer], [k_cache, v_cache]);
        self.by_row(Kernel::KvWrite(format), &read, &written, &params, stride, n);
    }

    fn attention(
        &mut self,
        q: &Tensor,
        cache: &KvCache,
        layer: usize,
        position: usize,
        heads: Heads,
        scale: f32,
        out: &mut Tensor,
        n: usize,
    ) {
        assert!(q.cols == heads.n_heads * heads.head_dim && out.cols == q.cols, "attention: shapes differ");
        assert_eq!(cache.spec.n_kv, heads.n_kv_heads * heads.head_dim, "attention: the cache is of another model");
        assert!(n <= q.rows && n <= out.rows && position + n <= cache.spec.n_ctx, "attention: beyond the rows");
        let (k, v) = &cache.layers[layer];
        self.attend(q, (k, v, cache.spec.format, cache.stride), heads, position + 1, 1, scale, out, n);
    }

    fn attention_full(&mut self, q: &Tensor, k: &Tensor, v: &Tensor, n_heads: usize, scale: f32, out: &mut Tensor, n: usize) {
        assert!(q.cols == k.cols && q.cols == v.cols && q.cols == out.cols, "attention_full: shapes differ");
        assert!(n <= q.rows && n <= k.rows && n <= v.rows && n <= out.rows, "attention_full: beyond the rows");
        let heads = Heads { n_heads, n_kv_heads: n_heads, head_dim: q.cols / n_heads };
        self.attend(q, (&k.buffer, &v.buffer, KvFormat::F32, k.stride), heads, n, 0, scale, out, n);
    }

    fn qkv_rope_kv(
        &mut self,
        x: &Tensor,
        layers: &Qkv<'_, Self>,
        place: KvPlace<'_, Self>,
        q: &mut Tensor,
        k: &mut Tensor,
        v: &mut Tensor,
        n: usize,
    ) {
        let Heads { n_heads, n_kv_heads, head_dim } = place.heads;
        let KvSpec { n_ctx, n_kv, format: cache_format, .. } = place.cache.spec;
        let whole = [layers.q, layers.k, layers.v].map(sole_shard);
        let n_groups = (n_heads + 2 * n_kv_heads) * head_dim / 4;
        let ([Some(q_shard), Some(k_shard), Some(v_shard)], true) = (
            whole,
            n <= MAX_VEC_ROWS && head_dim.is_multiple_of(4) && place.rope.cols.is_multiple_of(4) && n_groups <= MAX_GRID_X,
        ) else {
            self.qkv(x, layers, q, k, v, n);
            self.rope(q, place.rope, place.style, n_heads, head_dim, place.position, n);
            self.rope(k, place.rope, place.style, n_kv_heads, head_dim, place.position, n);
            self.kv_write(place.cache, place.layer, place.position, k, v, n);
            return;
        };
        let [q_spec, k_spec, v_spec] = [layers.q, layers.k, layers.v].map(|layer| &layer.weight.spec);
        assert!([q_spec, k_spec, v_spec].iter().all(|spec| spec.n_in == x.cols), "qkv_rope_kv: row lengths differ");
        assert!(q_spec.n_out == n_heads * head_dim && q_spec.n_out == q.cols, "qkv_rope_kv: shapes differ");
        assert!(n_kv == n_kv_heads * head_dim && k_spec.n_out == n_kv && v_spec.n_out == n_kv, "qkv_rope_kv: shapes differ");
        assert!(place.rope.cols <= head_dim, "qkv_rope_kv: shapes differ");
        assert!(n <= x.rows && n <= q.rows && place.position + n <= n_ctx.min(place.rope.rows), "qkv_rope_kv: beyond the rows");
        let params = [
            q_shard.n_blocks,
            k_shard.n_blocks,
            v_shard.n_blocks,
            layers.q.weight.row_blocks,
            x.stride / 4,
            q.stride,
            place.cache.stride,
            place.position,
            place.rope.stride,
            place.rope.cols / 2,
            head_dim,
            usize::from(place.style == RopeStyle::Halves),
            q_spec.n_out / 4,
            (q_spec.n_out + n_kv) / 4,
        ]
        .map(|p| p as u32);
        let kernel = Kernel::QkvRopeKv { q: q_spec.format, k: k_spec.format, v: v_spec.format, cache: cache_format };
        let (k_cache, v_cache) = &place.cache.layers[place.layer];
        let read = [&x.buffer, &q_shard.buffer, &k_shard.buffer, &v_shard.buffer, &place.rope.buffer];
        let written = [&q.buffer, k_cache, v_cache];
        self.recorder.dispatch(kernel, &read, &written, &params, [n_groups as u32, n as u32, 1], 0);
    }

    fn gate_up(
        &mut self,
        x: &Tensor,
        gate_layer: &Linear<Self>,
        up_layer: &Linear<Self>,
        gate: &mut Tensor,
        up: &mut Tensor,
        n: usize,
    ) {
        let (Some(gate_shard), Some(up_shard), true) = (sole_shard(gate_layer), sole_shard(up_layer), n <= MAX_VEC_ROWS) else {
            self.linear(x, gate_layer, gate, n, Epilogue::Store);
            self.linear(x, up_layer, up, n, Epilogue::Store);
            self.silu_mul(gate, up, n);
            return;
        };
        let (gate_spec, up_spec) = (&gate_layer.weight.spec, &up_layer.weight.spec);
        assert!(gate_spec.n_in == x.cols && up_spec.n_in == x.cols, "gate_up: row lengths differ");
        assert!(gate_spec.n_out == gate.cols && up_spec.n_out == gate.cols, "gate_up: shapes differ");
        assert!(n <= x.rows && n <= gate.rows, "gate_up: beyond the rows");
        let params =
            [gate_shard.n_blocks, up_shard.n_blocks, gate_layer.weight.row_blocks, gate_spec.n_out, x.stride / 4, gate.stride]
                .map(|p| p as u32);
        let groups = gate_spec.n_out.div_ceil(4);
        let grid = [groups.min(MAX_GRID_X), groups.div_ceil(MAX_GRID_X), n].map(|n| n as u32);
        let kernel = Kernel::GateUp { gate: gate_spec.format, up: up_spec.format };
        let read = [&x.buffer, &gate_shard.buffer, &up_shard.buffer];
        self.recorder.dispatch(kernel, &read, &[&gate.buffer], &params, grid, 0);
    }
}

/// The whole of a layer's weights, where they are in one buffer and there is no bias: what the fused kernels take.
fn sole_shard(layer: &Linear<Gpu>) -> Option<&matrix::Shard> {
    match (&layer.weight.shards[..], &layer.bias) {
        ([shard], None) => Some(shard),
        _ => None,
    }
}
