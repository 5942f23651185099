//! A table of angles whose rows are written by the positions that their slots are told to have.

use crate::backend::Backend;
use crate::error::Result;
use crate::model::lm::blocks::rope_table;
use crate::model::lm::config::LlamaConfig;
use crate::model::positions::Position;
use crate::model::rope::{self, Angles};

/// What the table of angles is written from where positions are told.
pub(super) struct Placed<B: Backend> {
    angles: Angles,
    /// `[n_ctx, n_rot]`: the angles of text at each position.
    text: B::Tensor,
    /// The position that each slot's row of the table is of.
    written: Vec<Position>,
}

impl<B: Backend> Placed<B> {
    /// Bytes of it for contexts of `n_ctx` slots, where the configuration asks for it.
    pub(super) fn n_bytes(c: &LlamaConfig, n_ctx: usize) -> u64 {
        if c.rope.sections.is_some() { 4 * (n_ctx as u64).saturating_mul(c.rope.n_rot as u64) } else { 0 }
    }

    /// Made where the configuration asks for it; the table is then written as if each slot were its position.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub(super) fn new(backend: &mut B, c: &LlamaConfig, n_ctx: usize) -> Result<Option<Self>> {
        if c.rope.sections.is_none() {
            return Ok(None);
        }
        let text = rope_table(backend, &c.rope, n_ctx)?;
        Ok(Some(Self { angles: rope::angles(&c.rope), text, written: (0..n_ctx).map(|slot| [slot; 3]).collect() }))
    }

    /// Writes the rows of slots whose position is another than before.
    pub(super) fn set(&mut self, backend: &mut B, table: &mut B::Tensor, n_rot: usize, positions: &[Position], next: usize) {
        let n_ctx = self.written.len();
        let wanted = |slot: usize| positions.get(slot).copied().unwrap_or_else(|| [next + (slot - positions.len()); 3]);
        // Text's angles are on the device already.
        let is_text = |[t, h, w]: Position| t == h && t == w && t < n_ctx;
        let mut slot = 0;
        while slot < n_ctx {
            let first = wanted(slot);
            if self.written[slot] == first {
                slot += 1;
                continue;
            }
            let goes_on = |i: usize| {
                let position = wanted(slot + i);
                self.written[slot + i] != position
                    && if is_text(first) { is_text(position) && position[0] == first[0] + i } else { !is_text(position) }
            };
            let n = (1..n_ctx - slot).take_while(|i| goes_on(*i)).count() + 1;
            if is_text(first) {
                backend.copy_rows(&self.text, first[0], table, slot, n);
            } else {
                let mut rows = vec![0.0; n * n_rot];
                rows.chunks_exact_mut(n_rot).enumerate().for_each(|(i, row)| self.angles.row_at(wanted(slot + i), row));
                backend.write(table, slot, &rows);
            }
            (slot..slot + n).for_each(|slot| self.written[slot] = wanted(slot));
            slot += n;
        }
    }
}
