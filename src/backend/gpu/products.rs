//! Products of rows with weights: which kernel, and how its work is cut.

use std::rc::Rc;

use super::device::Buffer;
use super::kernels::{Kernel, Products};
use super::{Gpu, MAX_GRID_X, MAX_VEC_ROWS, Matrix, Tensor};
use crate::backend::{Epilogue, Linear, work};
use crate::quant::Format;

/// Rows of x up to which `mat_mul`'s tiles of 32 rows do; more take tiles of 64.
pub(super) const MAX_TILE32_ROWS: usize = 32;

impl Gpu {
    /// What multiplies many rows with weights of this format.
    pub(super) fn wide(&self, format: Format) -> Kernel {
        match self.device.variant().products {
            Products::Half => Kernel::MatMul64 { format, half: true },
            Products::Bytes if format.is_quantized() => Kernel::MatMulDot8(format),
            Products::Bytes | Products::Float => Kernel::MatMul64 { format, half: false },
        }
    }

    /// The first `n` rows of x in bytes: their buffers, `x_bytes` and `x_scales` of `quantize_rows.wgsl`.
    pub(super) fn in_bytes(&mut self, x: &Tensor, n: usize) -> Option<(Rc<Buffer>, Rc<Buffer>)> {
        let row_blocks = x.stride / 32;
        let bytes = self.scratch("activations in bytes", work::product(&[n, row_blocks, 32]))?;
        let scales = self.scratch("scales of activations", work::product(&[n, row_blocks, 16]))?;
        let params = [(x.stride / 4) as u32, row_blocks as u32];
        self.dispatch_rows(Kernel::QuantizeRows, &[&x.buffer], &[&bytes, &scales], &params, row_blocks, n);
        Some((bytes, scales))
    }

    /// The products of `n` rows of x with a layer. `in_bytes` are those rows in bytes, where the caller has them already; `norm` is what
    /// x goes through first: only for few rows.
    #[allow(clippy::too_many_arguments, reason = "a formula with that many operands")]
    pub(super) fn product(
        &mut self,
        x: &Tensor,
        norm: Option<(&Tensor, f32)>,
        in_bytes: Option<&(Rc<Buffer>, Rc<Buffer>)>,
        layer: &Linear<Self>,
        out: &Tensor,
        n: usize,
        epilogue: Epilogue,
    ) {
        let Matrix { spec, row_blocks, shards, .. } = &layer.weight;
        assert!(x.cols == spec.n_in && out.cols == spec.n_out, "linear {}: row lengths differ", spec.name);
        assert!(n <= x.rows && n <= out.rows, "linear {}: beyond the rows", spec.name);
        let kernel = match n {
            n if n <= MAX_VEC_ROWS => Kernel::MatVec { format: spec.format, normed: norm.is_some() },
            n if n <= MAX_TILE32_ROWS => Kernel::MatMul(spec.format),
            _ => self.wide(spec.format),
        };
        let own;
        let in_bytes = match (kernel, in_bytes) {
            (Kernel::MatMulDot8(_), None) => {
                own = self.in_bytes(x, n);
                if own.is_none() {
                    return;
                }
                own.as_ref()
            }
            (_, given) => given,
        };
        let bias = layer.bias.as_ref().map_or(&self.no_bias, |bias| &bias.buffer);
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
                    Epilogue::GeluTanh => 4,
                    Epilogue::Relu => 5,
                    Epilogue::HardSigmoid => 6,
                },
                u32::from(layer.bias.is_some()),
                (x.cols as f32).to_bits(),
                norm.map_or(0, |(_, eps)| eps.to_bits()),
            ];
            let mut read = vec![&shard.buffer, bias];
            match (kernel, in_bytes) {
                (Kernel::MatMulDot8(_), Some((bytes, scales))) => read.extend([&**bytes, &**scales]),
                _ => read.push(&x.buffer),
            }
            if let Some((weight, _)) = norm {
                read.push(&weight.buffer);
            }
            let grid = match kernel {
                Kernel::MatVec { .. } => {
                    let groups = shard.n_rows.div_ceil(8);
                    [groups.min(MAX_GRID_X), groups.div_ceil(MAX_GRID_X), n]
                }
                Kernel::MatMul(_) => [shard.n_rows.div_ceil(32), n.div_ceil(32), 1],
                _ => [shard.n_rows.div_ceil(64), n.div_ceil(64), 1],
            };
            let work = work::product(&[n, shard.n_rows, spec.n_in]);
            self.recorder.dispatch(kernel, &read, &[&out.buffer], &params, grid.map(|n| n as u32), work);
        }
    }
}
