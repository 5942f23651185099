//! Attention, and where keys and values lie.

use super::device::Buffer;
use super::kernels::{Kernel, MAX_TILE_COLS};
use super::{Gpu, MAX_VEC_ROWS, Tensor};
use crate::backend::{AttentionOp, Heads, KV_BLOCK, KvFormat, KvPart, KvSpec, Mask, work};
use crate::error::{Error, Result};

/// The widest head that `attention.wgsl` has room for.
const MAX_HEAD_DIM: usize = 256;
/// Heads are workgroups along one side of a grid.
const MAX_HEADS: usize = 65535;
/// Positions of a cache for each part that a query's keys are cut into, and the most parts.
pub(super) const SPLIT_KEYS: usize = 512;
const MAX_SPLITS: usize = 16;

/// Keys and values: a buffer for each layer, keys `[n_ctx, stride]`, then values `[n_ctx, stride]`; of bytes then the scales, halves, of
/// [`KV_BLOCK`] elements each.
#[derive(Debug)]
pub struct KvCache {
    pub(super) spec: KvSpec,
    /// Elements between rows.
    pub(super) stride: usize,
    /// Elements between heads.
    pub(super) head_stride: usize,
    pub(super) layers: Vec<Buffer>,
}

impl KvCache {
    /// The element that values begin at.
    pub(super) fn v_first(&self) -> usize {
        self.spec.n_ctx * self.stride
    }

    /// The strides of a cache: from row to row, and from head to head.
    pub(super) fn strides(spec: &KvSpec) -> [usize; 2] {
        match spec.format {
            // Heads of any width then begin where their element size wants it, and rows end with a whole vec4.
            KvFormat::F32 | KvFormat::F16 => [spec.n_kv.next_multiple_of(8), spec.head_dim],
            // A block is of one head, and a row has whole words of scales.
            KvFormat::Q8_0 => {
                let head_stride = spec.head_dim.next_multiple_of(KV_BLOCK);
                [(spec.n_kv / spec.head_dim * head_stride).next_multiple_of(2 * KV_BLOCK), head_stride]
            }
        }
    }

    /// Bytes of an element, without a scale.
    fn element_bytes(&self) -> u64 {
        match self.spec.format {
            KvFormat::F32 => 4,
            KvFormat::F16 => 2,
            KvFormat::Q8_0 => 1,
        }
    }

    /// Bytes of a layer's buffer, which may be more than there can be.
    pub(super) fn layer_bytes(&self) -> u64 {
        let elements = work::product(&[2, self.spec.n_ctx, self.stride]);
        let scales = if self.spec.format == KvFormat::Q8_0 { elements / KV_BLOCK as u64 * 2 } else { 0 };
        elements.saturating_mul(self.element_bytes()).saturating_add(scales)
    }

    /// The word of a layer's buffer at which scales begin.
    pub(super) fn scales(&self) -> usize {
        match self.spec.format {
            KvFormat::F32 | KvFormat::F16 => 0,
            KvFormat::Q8_0 => 2 * self.v_first() / 4,
        }
    }

    fn element(&self, part: KvPart, position: usize) -> u64 {
        let first = match part {
            KvPart::Keys => 0,
            KvPart::Values => self.v_first(),
        };
        first as u64 + work::product(&[position, self.stride])
    }

    /// The byte of a layer's buffer that the scales of a key or a value begin at; where there are none, that behind everything.
    fn scales_at(&self, part: KvPart, position: usize) -> u64 {
        let elements = 2 * self.v_first() as u64 * self.element_bytes();
        match self.spec.format {
            KvFormat::F32 | KvFormat::F16 => elements,
            KvFormat::Q8_0 => elements + self.element(part, position) / KV_BLOCK as u64 * 2,
        }
    }

    /// Where the keys or the values of `n` positions are in a layer's buffer: their elements and their scales, each the first byte and how many.
    pub(super) fn ranges(&self, part: KvPart, position: usize, n: usize) -> [(u64, u64); 2] {
        let of = |at: fn(&Self, KvPart, usize) -> u64| {
            let first = at(self, part, position);
            (first, at(self, part, position + n) - first)
        };
        [of(|cache, part, position| cache.element(part, position) * cache.element_bytes()), of(Self::scales_at)]
    }

    /// Rows in the order of [`Queue::kv_read`](crate::backend::Queue::kv_read), of what lies at [`Self::ranges`].
    pub(super) fn take_rows(&self, elements: &[u8], scales: &[u8], out: &mut Vec<u8>) {
        let row_bytes = self.stride * self.element_bytes() as usize;
        let heads = |row: usize| {
            let (elements, scales) = (&elements[row * row_bytes..], &scales[row * self.stride / KV_BLOCK * 2..]);
            let per_head = self.head_stride / KV_BLOCK;
            (0..self.spec.n_kv / self.spec.head_dim)
                .map(move |head| (&elements[head * self.head_stride..][..self.spec.head_dim], &scales[2 * head * per_head..]))
        };
        for row in 0..elements.len() / row_bytes {
            if self.spec.format != KvFormat::Q8_0 {
                out.extend_from_slice(&elements[row * row_bytes..][..self.spec.row_bytes()]);
                continue;
            }
            for (elements, scales) in heads(row) {
                for (block, scale) in elements.chunks(KV_BLOCK).zip(scales.chunks_exact(2)) {
                    out.extend_from_slice(scale);
                    out.extend_from_slice(block);
                }
            }
        }
    }

    /// What lies at [`Self::ranges`], of rows in the order of [`Queue::kv_read`](crate::backend::Queue::kv_read).
    pub(super) fn put_rows(&self, rows: &[u8], elements: &mut Vec<u8>, scales: &mut Vec<u8>) {
        elements.clear();
        scales.clear();
        let padded = self.stride * self.element_bytes() as usize;
        for (i, row) in rows.chunks_exact(self.spec.row_bytes()).enumerate() {
            if self.spec.format == KvFormat::Q8_0 {
                for (head, bytes) in row.chunks_exact(self.spec.format.head_bytes(self.spec.head_dim)).enumerate() {
                    for block in bytes.chunks(2 + KV_BLOCK) {
                        scales.extend_from_slice(&block[..2]);
                        elements.extend_from_slice(&block[2..]);
                    }
                    elements.resize(i * padded + (head + 1) * self.head_stride, 0);
                }
                scales.resize((i + 1) * self.stride / KV_BLOCK * 2, 0);
            } else {
                elements.extend_from_slice(row);
            }
            elements.resize((i + 1) * padded, 0);
        }
    }
}

/// Where keys and values are read from.
pub(super) struct Keys<'a> {
    pub(super) k: &'a Buffer,
    pub(super) v: &'a Buffer,
    pub(super) format: KvFormat,
    pub(super) stride: usize,
    /// Elements between heads.
    pub(super) head_stride: usize,
    pub(super) v_first: usize,
    /// [`KvCache::scales`]
    pub(super) scales: usize,
    /// What is behind the last key that each slot sees, where some see beyond their own.
    pub(super) ends: Option<&'a Buffer>,
    /// Keys that a query sees which sees all.
    pub(super) n_keys: usize,
    /// Keys there may be.
    pub(super) max_keys: usize,
}

/// [`crate::backend::Memory::supports`]
pub(super) fn supports(op: &AttentionOp) -> Result<()> {
    let Heads { n_heads, head_dim, .. } = op.heads;
    for (n, most, what) in [(head_dim, MAX_HEAD_DIM, "elements in a head"), (n_heads, MAX_HEADS, "heads")] {
        if n > most {
            return Err(Error::unsupported_architecture(format!(
                "it has {n} {what} of its attention; on the GPU there may be {most}. Use device \"cpu\" for it."
            )));
        }
    }
    Ok(())
}

impl Gpu {
    pub(super) fn attend(&mut self, op: &AttentionOp, q: &Tensor, keys: &Keys<'_>, out: &Tensor, n: usize) {
        let Heads { n_heads, n_kv_heads, head_dim } = op.heads;
        assert!(head_dim <= MAX_HEAD_DIM, "attention: heads of {head_dim} elements are wider than {MAX_HEAD_DIM}");
        let (n_keys, window) = match op.mask {
            Mask::Full => (keys.n_keys, 0),
            Mask::Causal => (0, 0),
            Mask::Window(width) => (0, width.max(1)),
        };
        let is_aligned = head_dim.is_multiple_of(4);
        let cols = head_dim.div_ceil(32) as u32;
        let is_tiled = n > MAX_VEC_ROWS && is_aligned && cols <= MAX_TILE_COLS;
        // No more than a window of keys is read, however many there may be.
        let most_seen = if window == 0 { keys.max_keys } else { keys.max_keys.min(window) };
        let n_splits = if n <= MAX_VEC_ROWS && is_aligned { (most_seen / SPLIT_KEYS).clamp(1, MAX_SPLITS) } else { 1 };
        let part = head_dim + 2;
        let params = [
            head_dim,
            n_heads / n_kv_heads,
            q.stride,
            keys.stride,
            keys.head_stride,
            keys.v_first,
            n,
            n_keys,
            op.scale.to_bits() as usize,
            n_splits,
            n_heads,
            part,
            window,
            op.softcap.unwrap_or(0.0).to_bits() as usize,
            keys.scales,
        ]
        .map(|p| p as u32);
        let work = work::product(&[2, n, n_heads, head_dim, keys.max_keys]);
        let ends = keys.ends.filter(|_| op.mask != Mask::Full);
        let has_ends = ends.is_some();
        let read: Vec<&Buffer> = [&q.buffer, keys.k, keys.v].into_iter().chain(ends).collect();
        if is_tiled {
            let kernel = Kernel::AttentionTile { format: keys.format, cols, has_ends };
            let grid = [n_heads as u32, n.div_ceil(32) as u32, 1];
            self.recorder.dispatch(kernel, &read, &[&out.buffer], &params, grid, work);
            return;
        }
        let kernel = Kernel::Attention { format: keys.format, is_aligned, has_ends };
        let grid = [n_heads as u32, n as u32, n_splits as u32];
        if n_splits == 1 {
            self.recorder.dispatch(kernel, &read, &[&out.buffer], &params, grid, work);
            return;
        }
        let n_bytes = work::product(&[MAX_VEC_ROWS, n_heads, n_splits, part, 4]);
        let Some(parts) = self.scratch("parts of attention", n_bytes) else { return };
        self.recorder.dispatch(kernel, &read, &[&parts], &params, grid, work);
        let params = [head_dim, out.stride, n_heads, n_splits, part].map(|p| p as u32);
        let grid = [n_heads as u32, n as u32, 1];
        self.recorder.dispatch(Kernel::AttentionMerge, &[&parts], &[&out.buffer], &params, grid, 0);
    }

    pub(super) fn compile_attention(&self, head_dim: usize, format: KvFormat, has_ends: bool) {
        let is_aligned = head_dim.is_multiple_of(4);
        let cols = head_dim.div_ceil(32) as u32;
        self.compile(&[Kernel::Attention { format, is_aligned, has_ends }, Kernel::AttentionMerge]);
        if is_aligned && cols <= MAX_TILE_COLS {
            self.compile(&[Kernel::AttentionTile { format, cols, has_ends }]);
        }
    }
}
