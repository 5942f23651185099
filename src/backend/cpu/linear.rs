//! Linear layers.

use super::matrix::ROW_GROUP;
use super::panel;
use super::{Cpu, Tensor, elementwise};
use crate::backend::{Epilogue, Linear};

/// Memory that linear layers work in.
#[derive(Debug, Default)]
pub struct Scratch {
    /// A decoded row of weights.
    row: Vec<f32>,
    /// A group of decoded rows, `[n_in][ROW_GROUP]`.
    panel: Vec<[f32; ROW_GROUP]>,
}

impl Scratch {
    /// `out[i] = epilogue(x[i] Wᵀ + b)` for `n` rows.
    pub fn apply(&mut self, x: &Tensor, layer: &Linear<Cpu>, out: &mut Tensor, n: usize, epilogue: Epilogue) {
        let weight = &layer.weight;
        let (n_in, n_out) = (weight.n_in(), weight.n_out());
        assert!(x.cols == n_in && out.cols == n_out, "linear: shapes differ");
        let x = x.rows_at(0, n);
        let out = out.rows_at_mut(0, n);
        self.row.resize(self.row.len().max(n_in), 0.0);
        self.panel.resize(self.panel.len().max(n_in), [0.0; ROW_GROUP]);
        for first in (0..n_out).step_by(ROW_GROUP) {
            let width = ROW_GROUP.min(n_out - first);
            for r in 0..width {
                weight.decode_row(first + r, &mut self.row[..n_in]);
                for (column, w) in self.panel.iter_mut().zip(&self.row) {
                    column[r] = *w;
                }
            }
            let bias = layer.bias.as_ref().map(|bias| &bias.data[first..first + width]);
            panel::for_each_row(x, n, n_in, &self.panel[..n_in], |t, y| {
                elementwise::epilogue(&mut y[..width], bias, &mut out[t * n_out + first..][..width], epilogue);
            });
        }
    }
}
