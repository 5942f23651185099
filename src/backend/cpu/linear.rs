//! Linear layers: which weights meet which kernel, in which order.
//!
//! Order: a chunk of rows that fits into the second cache, then all tiles of tokens over it, so that weights come from
//! memory once and a tile's activations stay in the first cache while it passes over the chunk.

use super::kernel::{QUAD, Quant, scalar, simd, with_quant};
use super::matrix::Weights;
use super::panel::{self, Stored, WIDTH};
use super::quantize_activations::{BLOCK, Block, quantize};
use super::{Cpu, Tensor, elementwise};
use crate::backend::{Epilogue, Linear};

#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
use super::kernel::relaxed;

/// Bytes of weights that are kept in a cache while tokens pass over them.
const CHUNK_BYTES: usize = 128 << 10;

/// Tokens whose products with a quad are computed at once.
const TILE: usize = 4;

/// Which of the twins computes products with quantized weights. All give the same sums, but for rounding of the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// Plain loops.
    Scalar,
    /// Vectors of 16-bit products.
    Simd,
    /// Relaxed SIMD's dots of bytes.
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    Relaxed,
}

impl Kernels {
    /// All of this build, the fastest last.
    pub const ALL: &[Self] = &[
        Self::Scalar,
        Self::Simd,
        #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
        Self::Relaxed,
    ];
}

impl Default for Kernels {
    fn default() -> Self {
        Self::ALL[Self::ALL.len() - 1]
    }
}

/// Memory that linear layers work in.
#[derive(Debug, Default)]
pub struct Scratch {
    kernels: Kernels,
    /// Whether one of the two below holds the rows of this op.
    is_quantized: bool,
    /// `[n, n_in / BLOCK]`
    bytes: Vec<Block<i8>>,
    /// `[n, n_in / BLOCK]`
    words: Vec<Block<i16>>,
    /// Panels as floats, `[panels][n_in][WIDTH]`.
    panels: Vec<[f32; WIDTH]>,
}

impl Scratch {
    pub fn new(kernels: Kernels) -> Self {
        Self { kernels, ..Self::default() }
    }

    /// A new op begins, with new rows.
    pub fn begin(&mut self) {
        self.is_quantized = false;
    }

    /// `out[i] = epilogue(x[i] Wᵀ + b)` for `n` rows. Layers that are applied between one [`Self::begin`] and the next must
    /// have the same `x`.
    pub fn apply(&mut self, x: &Tensor, layer: &Linear<Cpu>, out: &mut Tensor, n: usize, epilogue: Epilogue) {
        let weight = &layer.weight;
        let n_out = weight.n_out();
        assert!(x.cols == weight.n_in() && out.cols == n_out, "linear: shapes differ");
        let x = x.rows_at(0, n);
        let out = out.rows_at_mut(0, n);
        let adds = epilogue == Epilogue::Add;
        match weight.weights() {
            Weights::Quads(data) => {
                self.quantize(x);
                with_quant!(
                    weight.format(),
                    Q => self.quads::<Q>(data, weight.n_in(), n, out, n_out, adds)
                );
            }
            Weights::F32(data) => chunk_of_panels(x, n, weight.n_in(), data, 0, n_out, out, adds),
            Weights::F16(data) => self.floats(x, n, weight.n_in(), data, n_out, out, adds),
            Weights::BF16(data) => self.floats(x, n, weight.n_in(), data, n_out, out, adds),
        }
        let bias = layer.bias.as_ref().map(|bias| &bias.data[..]);
        for out in out.chunks_exact_mut(n_out) {
            elementwise::epilogue(out, bias, epilogue);
        }
    }

    /// Quantizes the rows of this op, once.
    fn quantize(&mut self, x: &[f32]) {
        if std::mem::replace(&mut self.is_quantized, true) {
            return;
        }
        let n_blocks = x.len() / BLOCK;
        if self.kernels == Kernels::Simd {
            self.words.resize(self.words.len().max(n_blocks), Block::default());
            quantize(x, &mut self.words);
        } else {
            self.bytes.resize(self.bytes.len().max(n_blocks), Block::default());
            quantize(x, &mut self.bytes);
        }
    }

    /// Products with a quantized matrix.
    fn quads<Q: Quant>(&self, data: &[u8], n_in: usize, n: usize, out: &mut [f32], n_out: usize, adds: bool) {
        let quad_bytes = n_in / Q::FORMAT.block_len() * Q::BYTES;
        let n_chunk = (CHUNK_BYTES / quad_bytes).max(1);
        for (c, chunk) in data.chunks(n_chunk * quad_bytes).enumerate() {
            let mut token = 0;
            while token < n {
                let n_tile = if token + TILE <= n { TILE } else { 1 };
                for (i, quad) in chunk.chunks_exact(quad_bytes).enumerate() {
                    let mut y = [[0.0; QUAD]; TILE];
                    if n_tile == TILE {
                        self.tile::<Q, TILE>(quad, n_in, token, &mut y);
                    } else {
                        let mut row = [[0.0; QUAD]];
                        self.tile::<Q, 1>(quad, n_in, token, &mut row);
                        y[0] = row[0];
                    }
                    let first = (c * n_chunk + i) * QUAD;
                    for (t, y) in y[..n_tile].iter().enumerate() {
                        put(y, &mut out[(token + t) * n_out..][..n_out], first, adds);
                    }
                }
                token += n_tile;
            }
        }
    }

    /// Products of a quad with `T` tokens.
    #[inline(always)]
    fn tile<Q: Quant, const T: usize>(&self, quad: &[u8], n_in: usize, token: usize, y: &mut [[f32; QUAD]; T]) {
        let (n_blocks, stride) = (n_in / Q::FORMAT.block_len(), n_in / BLOCK);
        match self.kernels {
            Kernels::Scalar => {
                for (t, y) in y.iter_mut().enumerate() {
                    scalar::multiply::<Q>(quad, &self.bytes[(token + t) * stride..][..stride], y);
                }
            }
            Kernels::Simd => {
                let x = &self.words[token * stride..][..T * stride];
                assert_eq!(quad.len(), n_blocks * Q::BYTES);
                // SAFETY: the slices are as long as the kernel reads: asserted for the quad, cut so for the activations.
                unsafe { simd::multiply::<Q, T>(quad.as_ptr(), n_blocks, x.as_ptr(), stride, y) };
            }
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            Kernels::Relaxed => {
                let x = &self.bytes[token * stride..][..T * stride];
                assert_eq!(quad.len(), n_blocks * Q::BYTES);
                // SAFETY: as above.
                unsafe { relaxed::multiply::<Q, T>(quad.as_ptr(), n_blocks, x.as_ptr(), stride, y) };
            }
        }
    }

    /// Products with a matrix of 16-bit floats. For several tokens a chunk of panels is converted to 32 bits first; for one,
    /// each number is needed but once.
    #[allow(clippy::too_many_arguments, reason = "a matrix product and its shape")]
    fn floats<S: Stored>(
        &mut self,
        x: &[f32],
        n: usize,
        n_in: usize,
        data: &[[S; WIDTH]],
        n_out: usize,
        out: &mut [f32],
        adds: bool,
    ) {
        if n < panel::TILE {
            return chunk_of_panels(x, n, n_in, data, 0, n_out, out, adds);
        }
        let n_chunk = (CHUNK_BYTES / (n_in * WIDTH * 4)).max(1);
        self.panels.resize(self.panels.len().max(n_chunk * n_in), [0.0; WIDTH]);
        for (c, chunk) in data.chunks(n_chunk * n_in).enumerate() {
            let panels = &mut self.panels[..chunk.len()];
            panel::convert(chunk, panels);
            chunk_of_panels(x, n, n_in, panels, c * n_chunk * WIDTH, n_out, out, adds);
        }
    }
}

/// Products of all tokens with some panels, the first column of which is output `first`.
#[allow(clippy::too_many_arguments, reason = "a matrix product and its shape")]
fn chunk_of_panels<S: Stored>(
    x: &[f32],
    n: usize,
    n_in: usize,
    panels: &[[S; WIDTH]],
    first: usize,
    n_out: usize,
    out: &mut [f32],
    adds: bool,
) {
    let n_chunk = (CHUNK_BYTES / (n_in * WIDTH * size_of::<S>())).max(1);
    for (c, chunk) in panels.chunks(n_chunk * n_in).enumerate() {
        let mut token = 0;
        while token < n {
            let mut n_tile = 0;
            for (i, columns) in chunk.chunks_exact(n_in).enumerate() {
                let first = first + (c * n_chunk + i) * WIDTH;
                n_tile = panel::tile(x, token, n, n_in, columns, |t, y| put(y, &mut out[t * n_out..][..n_out], first, adds));
            }
            token += n_tile;
        }
    }
}

/// Puts some columns of a product into a row; what is beyond the row's end is padding.
#[inline(always)]
fn put<const N: usize>(y: &[f32; N], out: &mut [f32], first: usize, adds: bool) {
    let width = N.min(out.len() - first);
    let out = &mut out[first..first + width];
    if let (Some(out), false) = (out.as_mut_array::<N>(), adds) {
        *out = *y;
        return;
    }
    for (out, y) in out.iter_mut().zip(y) {
        *out = if adds { *out + y } else { *y };
    }
}
