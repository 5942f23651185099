//! Weight matrices, arranged when they are loaded as the kernels read them.
//!
//! Rows come in groups of [`ROW_GROUP`]: [`QUADS`] quads of a quantized format ([`super::kernel`]), or one panel of floats
//! ([`super::panel`]). Each group is packed as it arrives, straight into its place; there is never a second copy of a
//! matrix.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use half::{bf16, f16};

use super::kernel::{QUAD, QUADS, Quant, with_quant};
use super::panel::WIDTH;
use super::pool::{Disjoint, Pool};
use super::zeroed;
use crate::backend::MatrixSpec;
use crate::error::{Error, Result};
use crate::quant::Format;

/// Rows that are kept together.
pub const ROW_GROUP: usize = WIDTH;
const _: () = assert!(ROW_GROUP == QUADS * QUAD);

/// Bytes of a file that are worth a part of their own when they are packed.
const PART_BYTES: usize = 16 << 10;

/// A weight matrix `[n_out, n_in]`.
#[derive(Debug)]
pub struct Matrix {
    spec: MatrixSpec,
    weights: Weights,
    n_bytes: u64,
    /// The backend's count of bytes.
    weight_bytes: Arc<AtomicU64>,
}

/// The numbers of a matrix. Rows missing from the last group are zeros.
#[derive(Debug)]
pub(super) enum Weights {
    /// `[n_out / ROW_GROUP][blocks][QUADS][Quant::BYTES]`
    Quads(Vec<u8>),
    /// `[n_out / WIDTH][n_in][WIDTH]`
    F32(Vec<[f32; WIDTH]>),
    /// `[n_out / WIDTH][n_in][WIDTH]`
    F16(Vec<[f16; WIDTH]>),
    /// `[n_out / WIDTH][n_in][WIDTH]`
    BF16(Vec<[bf16; WIDTH]>),
}

impl Matrix {
    /// Elements in a row.
    pub fn n_in(&self) -> usize {
        self.spec.n_in
    }

    /// Rows.
    pub fn n_out(&self) -> usize {
        self.spec.n_out
    }

    /// How the rows were stored.
    pub fn format(&self) -> Format {
        self.spec.format
    }

    pub(super) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Decodes one row.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let MatrixSpec { format, n_in, n_out, .. } = self.spec;
        assert!(row < n_out, "decode_row: row {row} of {n_out}");
        let panel = row / WIDTH * n_in..(row / WIDTH + 1) * n_in;
        match &self.weights {
            Weights::Quads(data) => with_quant!(
                format,
                Q => {
                    let group_bytes = n_in / format.block_len() * QUADS * Q::BYTES;
                    let group = &data[row / ROW_GROUP * group_bytes..][..group_bytes];
                    let blocks = group.chunks_exact(Q::BYTES).skip(row % ROW_GROUP / QUAD).step_by(QUADS);
                    for (block, out) in blocks.zip(out.chunks_exact_mut(format.block_len())) {
                        super::kernel::decode::<Q>(block, row % QUAD, out);
                    }
                }
            ),
            Weights::F32(data) => take_column(&data[panel], row % WIDTH, out, |x| x),
            Weights::F16(data) => take_column(&data[panel], row % WIDTH, out, f16::to_f32),
            Weights::BF16(data) => take_column(&data[panel], row % WIDTH, out, bf16::to_f32),
        }
    }
}

fn take_column<S: Copy>(panel: &[[S; WIDTH]], column: usize, out: &mut [f32], to_float: impl Fn(S) -> f32) {
    for (out, columns) in out.iter_mut().zip(panel) {
        *out = to_float(columns[column]);
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        self.weight_bytes.fetch_sub(self.n_bytes, Ordering::Relaxed);
    }
}

/// A matrix whose rows are still arriving.
#[derive(Debug)]
pub struct MatrixBuilder {
    matrix: Matrix,
    rows: usize,
}

/// Bytes that a matrix takes here.
pub(super) fn n_bytes(spec: &MatrixSpec) -> usize {
    let MatrixSpec { format, n_in, n_out, .. } = *spec;
    match format {
        Format::F32 | Format::F16 | Format::BF16 => {
            n_out.div_ceil(WIDTH).saturating_mul(n_in).saturating_mul(WIDTH * format.block_bytes())
        }
        _ => with_quant!(format, Q => n_out.div_ceil(ROW_GROUP).saturating_mul(n_in / format.block_len() * QUADS * Q::BYTES)),
    }
}

impl MatrixBuilder {
    pub(super) fn new(spec: &MatrixSpec, weight_bytes: &Arc<AtomicU64>) -> Result<Self> {
        let MatrixSpec { format, n_in, n_out, .. } = *spec;
        let what = format!("the weights {}", spec.name);
        let n_panel = n_out.div_ceil(WIDTH).saturating_mul(n_in);
        let n_bytes = n_bytes(spec);
        let weights = match format {
            Format::F32 => Weights::F32(zeroed(n_panel, &what)?),
            Format::F16 => Weights::F16(zeroed(n_panel, &what)?),
            Format::BF16 => Weights::BF16(zeroed(n_panel, &what)?),
            _ => Weights::Quads(zeroed(n_bytes, &what)?),
        };
        let n_bytes = n_bytes as u64;
        weight_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        Ok(Self { matrix: Matrix { spec: spec.clone(), weights, n_bytes, weight_bytes: weight_bytes.clone() }, rows: 0 })
    }

    /// Threads divide the rows.
    pub(super) fn rows(&mut self, pool: &Pool, bytes: &[u8]) -> Result<()> {
        let MatrixSpec { name, format, n_in, n_out } = &self.matrix.spec;
        let (format, n_in) = (*format, *n_in);
        let row_bytes = format.row_bytes(n_in);
        let n = bytes.len() / row_bytes;
        assert!(bytes.len().is_multiple_of(row_bytes), "matrix_rows takes whole rows");
        assert!(self.rows.is_multiple_of(ROW_GROUP), "only the last rows of a matrix may be no multiple of ROW_GROUP");
        assert!(self.rows + n <= *n_out, "more rows than the matrix has");
        let is_finite = AtomicBool::new(true);
        pool.for_ranges(n, 1, PART_BYTES.div_ceil(row_bytes), |rows, _| {
            if !format.check_finite(&bytes[rows.start * row_bytes..rows.end * row_bytes]) {
                is_finite.store(false, Ordering::Relaxed);
            }
        });
        if !is_finite.into_inner() {
            return Err(Error::invalid_gguf(format!(
                "The tensor {name} holds numbers that are infinite or not a number: the file is damaged. Download it again."
            )));
        }
        let panel = self.rows / WIDTH * n_in;
        match &mut self.matrix.weights {
            Weights::Quads(data) => with_quant!(
                format,
                Q => {
                    let group_bytes = n_in / format.block_len() * QUADS * Q::BYTES;
                    let data = Disjoint::new(&mut data[self.rows / ROW_GROUP * group_bytes..]);
                    pool.for_ranges(n.div_ceil(ROW_GROUP), 1, PART_BYTES.div_ceil(ROW_GROUP * row_bytes), |groups, _| {
                        // SAFETY: parts of an op have different groups.
                        let data = unsafe { data.part(groups.start * group_bytes..groups.end * group_bytes) };
                        let rows = bytes[groups.start * ROW_GROUP * row_bytes..].chunks(ROW_GROUP * row_bytes);
                        for (group, rows) in data.chunks_exact_mut(group_bytes).zip(rows) {
                            pack_group::<Q>(rows, row_bytes, group);
                        }
                    });
                }
            ),
            Weights::F32(data) => pack_panels(pool, bytes, n_in, &mut data[panel..], f32::from_le_bytes),
            Weights::F16(data) => pack_panels(pool, bytes, n_in, &mut data[panel..], f16::from_le_bytes),
            Weights::BF16(data) => pack_panels(pool, bytes, n_in, &mut data[panel..], bf16::from_le_bytes),
        }
        self.rows += n;
        Ok(())
    }

    pub(super) fn end(self) -> Result<Matrix> {
        let MatrixSpec { name, n_out, .. } = &self.matrix.spec;
        if self.rows == *n_out {
            return Ok(self.matrix);
        }
        Err(Error::internal(format!("The tensor {name} got {} of its {n_out} rows. Please report this.", self.rows)))
    }
}

/// Packs up to [`ROW_GROUP`] rows; where there are fewer, the others are zeros.
#[inline(never)]
fn pack_group<Q: Quant>(rows: &[u8], row_bytes: usize, group: &mut [u8]) {
    const ZEROS: [u8; 256] = [0; 256];
    let block_bytes = Q::FORMAT.block_bytes();
    for (i, packed) in group.chunks_exact_mut(Q::BYTES).enumerate() {
        let (b, first) = (i / QUADS, i % QUADS * QUAD);
        let at = |r: usize| (first + r) * row_bytes + b * block_bytes;
        let block = |r: usize| rows.get(at(r)..at(r) + block_bytes).unwrap_or(&ZEROS[..block_bytes]);
        Q::pack(std::array::from_fn(block), packed);
    }
}

/// Writes rows as columns of panels. Threads divide the panels.
fn pack_panels<S: Send, const BYTES: usize>(
    pool: &Pool,
    bytes: &[u8],
    n_in: usize,
    panels: &mut [[S; WIDTH]],
    from_le_bytes: impl Fn([u8; BYTES]) -> S + Sync,
) {
    let panel_bytes = WIDTH * n_in * BYTES;
    let panels = Disjoint::new(panels);
    pool.for_ranges(bytes.len().div_ceil(panel_bytes), 1, PART_BYTES.div_ceil(panel_bytes), |range, _| {
        for (i, rows) in range.clone().zip(bytes[range.start * panel_bytes..].chunks(panel_bytes)) {
            // SAFETY: parts of an op have different panels.
            pack_panel(rows, unsafe { panels.part(i * n_in..(i + 1) * n_in) }, &from_le_bytes);
        }
    });
}

/// Writes up to [`WIDTH`] rows as columns of a panel.
#[inline(never)]
fn pack_panel<S, const BYTES: usize>(rows: &[u8], panel: &mut [[S; WIDTH]], from_le_bytes: impl Fn([u8; BYTES]) -> S) {
    for (r, row) in rows.chunks_exact(panel.len() * BYTES).enumerate() {
        for (columns, x) in panel.iter_mut().zip(row.as_chunks::<BYTES>().0) {
            columns[r] = from_le_bytes(*x);
        }
    }
}
