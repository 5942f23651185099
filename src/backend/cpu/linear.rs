//! Linear layers: which weights meet which kernel, in which order.
//!
//! Threads divide the rows of a matrix among them. Order within a thread's rows: a chunk of rows that fits into the second
//! cache, then all tiles of tokens over it, so that weights come from memory once and a tile's activations stay in the first
//! cache while it passes over the chunk. Layers with the same input are computed together, so that the threads meet once.

use std::ops::Range;
use std::sync::Mutex;

use super::kernel::{QUAD, QUADS, Quant, scalar, simd, with_quant};
use super::matrix::{Matrix, ROW_GROUP, Weights};
use super::panel::{self, Stored, WIDTH};
use super::pool::{Disjoint, MAX_THREADS, Pool};
use super::quantize_activations::{BLOCK, Block, Element, quantize};
use super::{Cpu, Tensor, elementwise, grow};
use crate::backend::{Epilogue, Gating, Linear};
use crate::error::Result;

#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
use super::kernel::relaxed::{self, WideOperand};

/// Bytes of weights that are kept in a cache while tokens pass over them.
const CHUNK_BYTES: usize = 128 << 10;

/// Multiply-adds that are worth a part of their own: about two microseconds of work.
const PART_WORK: usize = 64 << 10;

/// Activations that are worth a part of their own when they are quantized.
const PART_BLOCKS: usize = 128;

/// Tokens whose products are computed at once.
const TILE: usize = 4;

/// Which of the twins computes products with quantized weights. All give the same sums, but for rounding of the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// Plain loops.
    Scalar,
    /// Vectors of 16-bit products.
    Simd,
    /// Relaxed SIMD's dots of bytes; what they are to weights of 8 bits.
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    Relaxed(WideOperand),
}

impl Kernels {
    /// All of this build, the fastest last.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Scalar,
            Self::Simd,
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            Self::Relaxed(WideOperand::Inexact),
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            Self::Relaxed(relaxed::wide_operand()),
        ]
    }
}

/// What computes the products with weights of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Scalar,
    Simd,
    /// Whether the top bit of weights of 8 bits is a sign.
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    Relaxed {
        signed: bool,
    },
}

impl Kernel {
    /// Whether the activations are wanted in 16 bits.
    fn takes_words(self) -> bool {
        self == Self::Simd
    }
}

impl Kernels {
    /// What computes with weights of 8 bits, or of fewer.
    fn of(self, is_wide: bool) -> Kernel {
        match (self, is_wide) {
            (Self::Scalar, _) => Kernel::Scalar,
            (Self::Simd, _) => Kernel::Simd,
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            (Self::Relaxed(WideOperand::Inexact), true) => Kernel::Simd,
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            (Self::Relaxed(wide), _) => Kernel::Relaxed { signed: wide == WideOperand::Signed },
        }
    }
}

impl Default for Kernels {
    fn default() -> Self {
        *Self::all().last().expect("there are always two")
    }
}

/// Memory that linear layers work in.
#[derive(Debug, Default)]
pub struct Scratch {
    kernels: Kernels,
    /// `[n, n_in / BLOCK]`
    bytes: Vec<Block<i8>>,
    /// `[n, n_in / BLOCK]`
    words: Vec<Block<i16>>,
    /// For each thread, panels as 32-bit floats: `[panels][n_in][WIDTH]`.
    panels: [Mutex<Vec<[f32; WIDTH]>>; MAX_THREADS],
}

/// One of the layers that are applied to the same rows.
pub struct Layer<'a> {
    weight: &'a Matrix,
    bias: Option<&'a [f32]>,
    out: Disjoint<'a, f32>,
    epilogue: Epilogue,
}

impl<'a> Layer<'a> {
    /// `out[i] = epilogue(x[i] Wᵀ + b)` for `n` rows.
    pub fn new(layer: &'a Linear<Cpu>, out: &'a mut Tensor, n: usize, epilogue: Epilogue) -> Self {
        assert_eq!(out.cols, layer.weight.n_out(), "linear: shapes differ");
        let bias = layer.bias.as_ref().map(|bias| &bias.data[..]);
        Self { weight: &layer.weight, bias, out: Disjoint::new(out.rows_at_mut(0, n)), epilogue }
    }

    /// Groups of rows of the matrix, which is what threads divide.
    fn n_groups(&self) -> usize {
        self.weight.n_out().div_ceil(ROW_GROUP)
    }

    /// The outputs that some groups compute.
    fn columns(&self, groups: &Range<usize>) -> Range<usize> {
        groups.start * ROW_GROUP..self.weight.n_out().min(groups.end * ROW_GROUP)
    }

    /// Outputs `columns` of row `row`.
    ///
    /// # Safety
    /// While the result lives, nobody else asks for any of them.
    #[inline(always)]
    unsafe fn out(&self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        let at = row * self.weight.n_out();
        // SAFETY: the caller's.
        unsafe { self.out.part(at + columns.start..at + columns.end) }
    }
}

impl Scratch {
    pub fn new(kernels: Kernels) -> Self {
        Self { kernels, ..Self::default() }
    }

    /// Applies layers to the first `n` rows of `x`.
    ///
    /// # Errors
    /// `out_of_memory`; the outputs are then as before.
    pub fn apply(&mut self, pool: &Pool, x: &Tensor, n: usize, layers: &[Layer<'_>]) -> Result<()> {
        let product = self.prepare(pool, x, n, layers)?;
        let n_groups = layers.iter().map(Layer::n_groups).sum();
        pool.for_ranges(n_groups, 1, least_groups(n, x.cols), |groups, thread| {
            let mut first = 0;
            for layer in layers {
                let end = first + layer.n_groups();
                let (from, to) = (groups.start.clamp(first, end), groups.end.clamp(first, end));
                if from < to {
                    // SAFETY: parts of an op have different groups.
                    unsafe { product.compute(layer, from - first..to - first, thread) };
                }
                first = end;
            }
        });
        Ok(())
    }

    /// `gate = gating(gate) · up` of the first `n` rows of `x`; the output of `up` is scratch.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn gate_up(&mut self, pool: &Pool, x: &Tensor, n: usize, gating: Gating, gate: Layer<'_>, up: Layer<'_>) -> Result<()> {
        assert_eq!(gate.weight.n_out(), up.weight.n_out(), "gate_up: shapes differ");
        let layers = [gate, up];
        let product = self.prepare(pool, x, n, &layers)?;
        let [gate, up] = &layers;
        pool.for_ranges(gate.n_groups(), 1, least_groups(n, 2 * x.cols), |groups, thread| {
            for layer in [gate, up] {
                // SAFETY: parts of an op have different groups.
                unsafe { product.compute(layer, groups.clone(), thread) };
            }
            for row in 0..n {
                // SAFETY: as above.
                let (gate, up) = unsafe { (gate.out(row, gate.columns(&groups)), up.out(row, up.columns(&groups))) };
                elementwise::gate_mul(gating, gate, up);
            }
        });
        Ok(())
    }

    /// Quantizes the rows if a layer wants them so, and sees to it that every thread has the memory it needs.
    fn prepare<'a>(&'a mut self, pool: &Pool, x: &'a Tensor, n: usize, layers: &[Layer<'_>]) -> Result<Product<'a>> {
        let n_in = x.cols;
        let x = x.rows_at(0, n);
        let (mut takes_words, mut takes_bytes, mut converts) = (false, false, false);
        for layer in layers {
            assert_eq!(layer.weight.n_in(), n_in, "linear: shapes differ");
            match layer.weight.weights() {
                Weights::Quads(_) => {
                    let kernel = with_quant!(layer.weight.format(), Q => self.kernels.of(Q::IS_WIDE));
                    takes_words |= kernel.takes_words();
                    takes_bytes |= !kernel.takes_words();
                }
                Weights::F16(_) | Weights::BF16(_) => converts = n >= panel::TILE,
                Weights::F32(_) => {}
            }
        }
        if takes_words {
            quantize_rows(pool, x, &mut self.words)?;
        }
        if takes_bytes {
            quantize_rows(pool, x, &mut self.bytes)?;
        }
        if converts {
            let len = chunk_len(n_in) * n_in;
            for panels in &mut self.panels[..pool.n_numbers()] {
                grow(panels.get_mut().expect("no part panics while it holds this"), len, "a thread's weights as floats")?;
            }
        }
        Ok(Product { kernels: self.kernels, x, n, n_in, bytes: &self.bytes, words: &self.words, panels: &self.panels })
    }
}

/// Groups of rows that are worth a part of their own.
fn least_groups(n: usize, n_in: usize) -> usize {
    PART_WORK.div_ceil(ROW_GROUP * n_in * n.max(1))
}

/// Panels of 32-bit floats that are kept in a cache.
fn chunk_len(n_in: usize) -> usize {
    (CHUNK_BYTES / (n_in * WIDTH * size_of::<f32>())).max(1)
}

fn quantize_rows<E: Element>(pool: &Pool, x: &[f32], out: &mut Vec<Block<E>>) -> Result<()> {
    let n_blocks = x.len() / BLOCK;
    grow(out, n_blocks, "a layer's input in 8 bits")?;
    let out = Disjoint::new(&mut out[..n_blocks]);
    pool.for_ranges(n_blocks, 1, PART_BLOCKS, |blocks, _| {
        // SAFETY: parts of an op have different ranges.
        let out = unsafe { out.part(blocks.clone()) };
        quantize(&x[blocks.start * BLOCK..blocks.end * BLOCK], out);
    });
    Ok(())
}

/// Rows that are to be multiplied with weights.
struct Product<'a> {
    kernels: Kernels,
    /// `[n, n_in]`
    x: &'a [f32],
    n: usize,
    n_in: usize,
    bytes: &'a [Block<i8>],
    words: &'a [Block<i16>],
    panels: &'a [Mutex<Vec<[f32; WIDTH]>>],
}

impl Product<'_> {
    /// Computes what some groups of rows of a layer's matrix give.
    ///
    /// # Safety
    /// Meanwhile nobody else computes any of these groups.
    unsafe fn compute(&self, layer: &Layer<'_>, groups: Range<usize>, thread: usize) {
        let Self { n, n_in, .. } = *self;
        let columns = layer.columns(&groups);
        let panels = groups.start * n_in..groups.end * n_in;
        let format = layer.weight.format();
        match layer.weight.weights() {
            Weights::Quads(data) => with_quant!(
                format,
                // SAFETY: the caller's.
                Q => unsafe { self.quads::<Q>(data, layer, &columns) }
            ),
            // SAFETY: the caller's.
            Weights::F32(data) => unsafe { self.panels(&data[panels], layer, &columns) },
            // SAFETY: the caller's.
            Weights::F16(data) => unsafe { self.floats(&data[panels], layer, &columns, thread) },
            // SAFETY: the caller's.
            Weights::BF16(data) => unsafe { self.floats(&data[panels], layer, &columns, thread) },
        }
        if layer.bias.is_none() && matches!(layer.epilogue, Epilogue::Store | Epilogue::Add) {
            return;
        }
        for row in 0..n {
            // SAFETY: the caller's.
            let out = unsafe { layer.out(row, columns.clone()) };
            elementwise::epilogue(out, layer.bias.map(|bias| &bias[columns.clone()]), layer.epilogue);
        }
    }

    /// Products with some rows of a quantized matrix.
    ///
    /// # Safety
    /// As of [`Self::compute`].
    unsafe fn quads<Q: Quant>(&self, data: &[u8], layer: &Layer<'_>, columns: &Range<usize>) {
        let group_bytes = self.n_in / Q::FORMAT.block_len() * QUADS * Q::BYTES;
        let data = &data[columns.start / ROW_GROUP * group_bytes..columns.end.div_ceil(ROW_GROUP) * group_bytes];
        let n_chunk = (CHUNK_BYTES / group_bytes).max(1);
        for (c, chunk) in data.chunks(n_chunk * group_bytes).enumerate() {
            let first = columns.start + c * n_chunk * ROW_GROUP;
            let mut token = 0;
            while token < self.n {
                // SAFETY: the caller's.
                unsafe {
                    token += match (token + TILE <= self.n, Q::AT_ONCE) {
                        (true, QUADS) => self.tiles::<Q, QUADS, TILE>(chunk, group_bytes, token, layer, first, columns.end),
                        (true, _) => self.tiles::<Q, 1, TILE>(chunk, group_bytes, token, layer, first, columns.end),
                        (false, _) => self.tiles::<Q, QUADS, 1>(chunk, group_bytes, token, layer, first, columns.end),
                    };
                }
            }
        }
    }

    /// Products of some groups of rows, `R` quads at a time, which give the outputs from `first` on, with `T` tokens; how many these are.
    ///
    /// # Safety
    /// As of [`Self::compute`].
    #[inline(always)]
    unsafe fn tiles<Q: Quant, const R: usize, const T: usize>(
        &self,
        groups: &[u8],
        group_bytes: usize,
        token: usize,
        layer: &Layer<'_>,
        first: usize,
        end: usize,
    ) -> usize {
        let firsts = (first..end).step_by(ROW_GROUP);
        for (group, first) in groups.chunks_exact(group_bytes).zip(firsts) {
            for quad in (0..QUADS).step_by(R) {
                let first = end.min(first + quad * QUAD);
                for (t, y) in self.tile::<Q, R, T>(group, quad, token).iter().enumerate() {
                    // SAFETY: the caller's.
                    unsafe { put(y.as_flattened(), layer, token + t, first, end) };
                }
            }
        }
        T
    }

    /// Products of `R` quads of a group, from `quad` on, with `T` tokens.
    #[inline(always)]
    fn tile<Q: Quant, const R: usize, const T: usize>(&self, group: &[u8], quad: usize, token: usize) -> [[[f32; QUAD]; R]; T] {
        let (n_blocks, stride) = (self.n_in / Q::FORMAT.block_len(), self.n_in / BLOCK);
        assert!(group.len() == n_blocks * QUADS * Q::BYTES && quad + R <= QUADS);
        let quads = group[quad * Q::BYTES..].as_ptr();
        let mut y = [[[0.0; QUAD]; R]; T];
        match self.kernels.of(Q::IS_WIDE) {
            Kernel::Scalar => {
                for (t, y) in y.iter_mut().enumerate() {
                    for (r, y) in y.iter_mut().enumerate() {
                        scalar::multiply::<Q>(group, quad + r, &self.bytes[(token + t) * stride..][..stride], y);
                    }
                }
            }
            Kernel::Simd => {
                let x = &self.words[token * stride..][..T * stride];
                // SAFETY: the slices are as long as the kernel reads: asserted for the quads, cut so for the activations.
                unsafe { simd::multiply::<Q, R, T>(quads, n_blocks, x.as_ptr(), stride, &mut y) };
            }
            #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
            Kernel::Relaxed { signed } => {
                let x = &self.bytes[token * stride..][..T * stride];
                // SAFETY: as above.
                unsafe {
                    if Q::IS_WIDE && signed {
                        relaxed::multiply::<Q, R, T, true>(quads, n_blocks, x.as_ptr(), stride, &mut y);
                    } else {
                        relaxed::multiply::<Q, R, T, false>(quads, n_blocks, x.as_ptr(), stride, &mut y);
                    }
                }
            }
        }
        y
    }

    /// Products with panels of 16-bit floats. For several tokens a chunk of panels is converted to 32 bits first; for one,
    /// each number is needed but once.
    ///
    /// # Safety
    /// As of [`Self::compute`].
    unsafe fn floats<S: Stored>(&self, data: &[[S; WIDTH]], layer: &Layer<'_>, columns: &Range<usize>, thread: usize) {
        if self.n < panel::TILE {
            // SAFETY: the caller's.
            return unsafe { self.panels(data, layer, columns) };
        }
        let n_chunk = chunk_len(self.n_in);
        let mut converted = self.panels[thread].lock().expect("no part panics while it holds this");
        for (c, chunk) in data.chunks(n_chunk * self.n_in).enumerate() {
            let converted = &mut converted[..chunk.len()];
            panel::convert(chunk, converted);
            let columns = columns.start + c * n_chunk * WIDTH..columns.end;
            // SAFETY: the caller's.
            unsafe { self.panels(converted, layer, &columns) };
        }
    }

    /// Products of all tokens with some panels, the first of which gives the first of `columns`.
    ///
    /// # Safety
    /// As of [`Self::compute`].
    unsafe fn panels<S: Stored>(&self, panels: &[[S; WIDTH]], layer: &Layer<'_>, columns: &Range<usize>) {
        let Self { x, n, n_in, .. } = *self;
        let n_chunk = (CHUNK_BYTES / (n_in * WIDTH * size_of::<S>())).max(1);
        for (c, chunk) in panels.chunks(n_chunk * n_in).enumerate() {
            let mut token = 0;
            while token < n {
                let mut n_tile = 0;
                for (i, panel) in chunk.chunks_exact(n_in).enumerate() {
                    let first = columns.start + (c * n_chunk + i) * WIDTH;
                    // SAFETY: the caller's.
                    n_tile = panel::tile(x, token, n, n_in, panel, |t, y| unsafe { put(y, layer, t, first, columns.end) });
                }
                token += n_tile;
            }
        }
    }
}

/// Puts columns of a product, from `first` on, into row `row` of a layer's output; those from `end` on are padding.
///
/// # Safety
/// Meanwhile nobody else asks for any of them.
#[inline(always)]
unsafe fn put(y: &[f32], layer: &Layer<'_>, row: usize, first: usize, end: usize) {
    // SAFETY: the caller's.
    let out = unsafe { layer.out(row, first..end.min(first + y.len())) };
    if layer.epilogue == Epilogue::Add {
        out.iter_mut().zip(y).for_each(|(out, y)| *out += y);
    } else {
        out.copy_from_slice(&y[..out.len()]);
    }
}
