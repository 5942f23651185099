//! Weight matrices on the GPU: planes of blocks of 32 elements ([`crate::quant`]), in as many buffers as the binding limit asks for.

use std::cell::Cell;
use std::rc::Rc;

use super::device::{Buffer, Device, Dropped};
use crate::backend::MatrixSpec;
use crate::error::{Error, Result};

/// Rows that are uploaded together: so many that every plane's part of them is whole vec4s.
pub const ROW_GROUP: usize = 8;
/// Bytes handed to the queue before it is told to begin with them; natively the queue keeps copies until then.
const UPLOAD_BYTES: u64 = 32 << 20;

/// A weight matrix `[n_out, n_in]`.
#[derive(Debug)]
pub struct Matrix {
    pub(super) spec: MatrixSpec,
    /// Blocks of 32 in a row; a row of floats is filled up with zeros.
    pub(super) row_blocks: usize,
    pub(super) shards: Vec<Shard>,
    n_bytes: u64,
    /// The backend's count of bytes.
    weight_bytes: Rc<Cell<u64>>,
}

/// Some rows of a matrix.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) buffer: Buffer,
    pub(super) first_row: usize,
    pub(super) n_rows: usize,
    /// Blocks there is room for: those of the rows, rounded up to [`ROW_GROUP`].
    pub(super) n_blocks: usize,
}

impl Drop for Matrix {
    fn drop(&mut self) {
        self.weight_bytes.set(self.weight_bytes.get() - self.n_bytes);
    }
}

/// A matrix whose rows are still arriving.
#[derive(Debug)]
pub struct MatrixBuilder {
    matrix: Matrix,
    rows: usize,
    /// One vector per plane, reused.
    planes: Vec<Vec<u8>>,
    uploaded: u64,
}

/// Bytes that a matrix takes here.
pub(super) fn n_bytes(spec: &MatrixSpec) -> u64 {
    let block_bits: u64 = spec.format.planes().iter().copied().map(u64::from).sum();
    let n_blocks = (spec.n_out.next_multiple_of(ROW_GROUP) as u64).saturating_mul(spec.n_in.div_ceil(32) as u64);
    n_blocks.saturating_mul(block_bits) / 8
}

impl MatrixBuilder {
    pub(super) fn new(device: &Device, spec: &MatrixSpec, weight_bytes: &Rc<Cell<u64>>, dropped: &Dropped) -> Result<Self> {
        let planes = spec.format.planes();
        let row_blocks = spec.n_in.div_ceil(32);
        let block_bits: u64 = planes.iter().copied().map(u64::from).sum();
        let group_bytes = (ROW_GROUP * row_blocks) as u64 * block_bits / 8;
        let shard_rows = (device.max_binding / group_bytes) as usize * ROW_GROUP;
        if shard_rows == 0 {
            return Err(Error::out_of_memory(format!(
                "{ROW_GROUP} rows of the weights {} take {group_bytes} bytes, but a buffer can have {} on this GPU.",
                spec.name, device.max_binding
            )));
        }
        if group_bytes.checked_mul(spec.n_out.div_ceil(ROW_GROUP) as u64).is_none() {
            return Err(Error::out_of_memory(format!(
                "The weights {} have {} rows, more than there can be.",
                spec.name, spec.n_out
            )));
        }
        let mut matrix =
            Matrix { spec: spec.clone(), row_blocks, shards: Vec::new(), n_bytes: 0, weight_bytes: weight_bytes.clone() };
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        for first_row in (0..spec.n_out).step_by(shard_rows) {
            let n_rows = shard_rows.min(spec.n_out - first_row);
            let n_blocks = n_rows.next_multiple_of(ROW_GROUP) * row_blocks;
            let n_bytes = n_blocks as u64 * block_bits / 8;
            let buffer = device.buffer(n_bytes, usage, dropped, &format!("the weights {}", spec.name))?;
            weight_bytes.set(weight_bytes.get() + n_bytes);
            matrix.n_bytes += n_bytes;
            matrix.shards.push(Shard { buffer, first_row, n_rows, n_blocks });
        }
        Ok(Self { matrix, rows: 0, planes: vec![Vec::new(); planes.len()], uploaded: 0 })
    }

    pub(super) fn rows(&mut self, device: &Device, bytes: &[u8]) -> Result<()> {
        let MatrixSpec { name, format, n_in, n_out } = &self.matrix.spec;
        let row_bytes = format.row_bytes(*n_in);
        let mut n = bytes.len() / row_bytes;
        assert!(bytes.len().is_multiple_of(row_bytes), "matrix_rows takes whole rows");
        assert!(self.rows.is_multiple_of(ROW_GROUP), "only the last rows of a matrix may be no multiple of ROW_GROUP");
        assert!(self.rows + n <= *n_out, "more rows than the matrix has");
        if !format.check_finite(bytes) {
            return Err(Error::invalid_gguf(format!(
                "The tensor {name} holds numbers that are infinite or not a number: the file is damaged. Download it again."
            )));
        }
        let mut bytes = bytes;
        while n > 0 {
            let shard = &self.matrix.shards[self.matrix.shards.partition_point(|s| s.first_row <= self.rows) - 1];
            let row = self.rows - shard.first_row;
            let taken = n.min(shard.n_rows - row);
            let (now, later) = bytes.split_at(taken * row_bytes);
            self.planes.iter_mut().for_each(Vec::clear);
            format.repack_rows(now, *n_in, &mut self.planes);
            let mut plane_start = 0;
            for (plane, bits) in self.planes.iter_mut().zip(format.planes()) {
                let bytes_of = |blocks: usize| blocks * *bits as usize / 8;
                plane.resize(bytes_of(taken.next_multiple_of(ROW_GROUP) * self.matrix.row_blocks), 0);
                let at = plane_start + bytes_of(row * self.matrix.row_blocks);
                device.queue.write_buffer(&shard.buffer.raw, at as u64, plane);
                plane_start += bytes_of(shard.n_blocks);
                self.uploaded += plane.len() as u64;
            }
            if self.uploaded > UPLOAD_BYTES {
                device.queue.submit([]);
                self.uploaded = 0;
            }
            bytes = later;
            n -= taken;
            self.rows += taken;
        }
        device.check()
    }

    pub(super) fn end(self, device: &Device) -> Result<Matrix> {
        let MatrixSpec { name, n_out, .. } = &self.matrix.spec;
        if self.rows == *n_out {
            device.queue.submit([]);
            return Ok(self.matrix);
        }
        Err(Error::internal(format!("The tensor {name} got {} of its {n_out} rows. Please report this.", self.rows)))
    }
}
