//! Attention, and where keys and values lie.

use super::device::Buffer;
use super::kernels::{Kernel, MAX_TILE_COLS};
use super::{Gpu, MAX_VEC_ROWS, Tensor};
use crate::backend::{AttentionOp, Heads, KvFormat, KvPart, KvSpec, Mask, work};
use crate::error::{Error, Result};

/// The widest head that `attention.wgsl` has room for.
const MAX_HEAD_DIM: usize = 256;
/// Heads are workgroups along one side of a grid.
const MAX_HEADS: usize = 65535;
/// Positions of a cache for each part that a query's keys are cut into, and the most parts.
pub(super) const SPLIT_KEYS: usize = 512;
const MAX_SPLITS: usize = 16;

/// Keys and values: a buffer for each layer, keys `[n_ctx, stride]`, then values `[n_ctx, stride]`.
#[derive(Debug)]
pub struct KvCache {
    pub(super) spec: KvSpec,
    /// Elements between rows.
    pub(super) stride: usize,
    pub(super) layers: Vec<Buffer>,
}

impl KvCache {
    /// The element that values begin at.
    pub(super) fn v_first(&self) -> usize {
        self.spec.n_ctx * self.stride
    }

    /// The byte of a layer's buffer that the key or the value of a position begins at.
    pub(super) fn at(&self, part: KvPart, position: usize) -> u64 {
        let first = match part {
            KvPart::Keys => 0,
            KvPart::Values => self.v_first(),
        };
        let elements = first as u64 + work::product(&[position, self.stride]);
        elements * self.spec.format.element_bytes() as u64
    }
}

/// Where keys and values are read from.
pub(super) struct Keys<'a> {
    pub(super) k: &'a Buffer,
    pub(super) v: &'a Buffer,
    pub(super) format: KvFormat,
    pub(super) stride: usize,
    pub(super) v_first: usize,
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
            keys.v_first,
            n,
            n_keys,
            op.scale.to_bits() as usize,
            n_splits,
            n_heads,
            part,
            window,
            op.softcap.unwrap_or(0.0).to_bits() as usize,
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
