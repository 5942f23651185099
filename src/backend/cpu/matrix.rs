//! Weight matrices.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::zeroed;
use crate::backend::MatrixSpec;
use crate::error::{Error, Result};
use crate::quant::Format;

/// Rows that are kept together.
pub const ROW_GROUP: usize = 8;

/// A weight matrix `[n_out, n_in]`.
#[derive(Debug)]
pub struct Matrix {
    spec: MatrixSpec,
    data: Vec<u8>,
    /// The backend's count of bytes.
    weight_bytes: Arc<AtomicU64>,
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

    /// Decodes one row.
    pub fn decode_row(&self, row: usize, out: &mut [f32]) {
        let row_bytes = self.spec.format.row_bytes(self.spec.n_in);
        self.spec.format.decode_row(&self.data[row * row_bytes..][..row_bytes], out);
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        self.weight_bytes.fetch_sub(self.data.len() as u64, Ordering::Relaxed);
    }
}

/// A matrix whose rows are still arriving.
#[derive(Debug)]
pub struct MatrixBuilder {
    matrix: Matrix,
    rows: usize,
}

impl MatrixBuilder {
    pub(super) fn new(spec: &MatrixSpec, weight_bytes: &Arc<AtomicU64>) -> Result<Self> {
        let n_bytes = spec.format.row_bytes(spec.n_in) * spec.n_out;
        let data = zeroed(n_bytes, &format!("the weights {}", spec.name))?;
        weight_bytes.fetch_add(n_bytes as u64, Ordering::Relaxed);
        Ok(Self { matrix: Matrix { spec: spec.clone(), data, weight_bytes: weight_bytes.clone() }, rows: 0 })
    }

    pub(super) fn rows(&mut self, bytes: &[u8]) -> Result<()> {
        let MatrixSpec { name, format, n_in, n_out } = &self.matrix.spec;
        let row_bytes = format.row_bytes(*n_in);
        let n = bytes.len() / row_bytes;
        assert!(bytes.len().is_multiple_of(row_bytes), "matrix_rows takes whole rows");
        assert!(self.rows.is_multiple_of(ROW_GROUP), "only the last rows of a matrix may be no multiple of ROW_GROUP");
        assert!(self.rows + n <= *n_out, "more rows than the matrix has");
        if !format.check_finite(bytes) {
            return Err(Error::invalid_gguf(format!(
                "The tensor {name} holds numbers that are infinite or not a number: the file is damaged. Download it again."
            )));
        }
        self.matrix.data[self.rows * row_bytes..][..bytes.len()].copy_from_slice(bytes);
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
