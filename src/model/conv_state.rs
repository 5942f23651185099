//! What short convolutions remember of a context.
//!
//! A layer needs the products of the two slots before the one it computes. Unlike keys and values, the last two are of no use once the
//! context is cut back, and all of them would be as much memory as the keys and values of all layers. So a layer keeps those of the last
//! [`RING`] slots, and the last two before each multiple of [`RING`] slots: a cut by a few tokens costs nothing, and any other means to
//! compute less than [`RING`] slots again.

use crate::backend::{Backend, CONV_RING as RING, conv_state_row, conv_state_rows};
use crate::error::Result;

/// Products that a layer reads back.
const BEFORE: usize = 2;

/// The state of all convolution layers, and of which slots it is.
pub struct ConvState<B: Backend> {
    /// For each layer `[conv_state_rows(n_ctx), width]`, as [`Ops::short_conv`](crate::backend::Ops::short_conv) keeps it.
    layers: Vec<B::Tensor>,
    /// Another of one layer, for slots that are run once more.
    again: B::Tensor,
    /// `[1, width]`: a row on its way from one place of a state to another.
    row: B::Tensor,
    width: usize,
    /// The first slot whose product is in the ring of every layer.
    first: usize,
    /// The slot behind the last that any layer was run for.
    end: usize,
}

/// Rows of a layer's state that a context needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateRows {
    /// The convolution layer, counted among its like.
    pub layer: usize,
    /// The first row.
    pub row: usize,
    /// How many.
    pub n: usize,
}

/// The row that keeps the product of a slot where its ring has forgotten it: one of the last two before a multiple of [`RING`].
fn kept_row(slot: usize) -> usize {
    conv_state_row(slot).unwrap_or(slot % RING)
}

impl<B: Backend> ConvState<B> {
    /// The state of an empty context.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn new(backend: &mut B, n_layers: usize, n_ctx: usize, width: usize) -> Result<Self> {
        let layers = (0..n_layers).map(|_| backend.tensor(conv_state_rows(n_ctx), width)).collect::<Result<_>>()?;
        let (again, row) = (backend.tensor(conv_state_rows(2 * RING), width)?, backend.tensor(1, width)?);
        Ok(Self { layers, again, row, width, first: 0, end: 0 })
    }

    /// Bytes of it.
    pub fn n_bytes(n_layers: usize, n_ctx: usize, width: usize) -> u64 {
        let rows = n_layers as u64 * conv_state_rows(n_ctx) as u64 + conv_state_rows(2 * RING) as u64 + 1;
        rows.saturating_mul(4 * width as u64)
    }

    /// Elements of a product.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Convolution layers.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// The first slot whose products are at hand one by one.
    pub fn first(&self) -> usize {
        self.first
    }

    /// A layer's state, which is about to be run for `n` slots from `position` on.
    pub fn advance(&mut self, layer: usize, position: usize, n: usize) -> &mut B::Tensor {
        self.end = self.end.max(position + n);
        self.first = self.first.max(self.end.saturating_sub(RING));
        &mut self.layers[layer]
    }

    /// Whether the context can go on behind its first `n` slots (no more than it has) just so.
    fn is_at_hand(&self, n: usize) -> bool {
        n.saturating_sub(BEFORE) >= self.first
    }

    /// How many of the first `n` slots (no more than the context has) need not be computed again.
    pub fn can_keep(&self, n: usize) -> usize {
        if self.is_at_hand(n) { n } else { n / RING * RING }
    }

    /// Cuts the context back to [`Self::can_keep`] of its first `n` slots, and says how many these are.
    pub fn keep(&mut self, backend: &mut B, n: usize) -> usize {
        let kept = self.can_keep(n);
        if !self.is_at_hand(n) {
            self.first = kept.saturating_sub(BEFORE);
            for slot in self.first..kept {
                for state in &mut self.layers {
                    backend.copy_rows(state, kept_row(slot), &mut self.row, 0, 1);
                    backend.copy_rows(&self.row, 0, state, slot % RING, 1);
                }
            }
        }
        self.end = kept;
        kept
    }

    /// The slot from which the ones up to `position` have to be run once more, so that what the layers need for it is at hand: less than
    /// [`RING`] before it.
    pub fn start_again(&self, position: usize) -> usize {
        if self.is_at_hand(position) { position } else { position / RING * RING }
    }

    /// A state that a layer can be run with for at most [`RING`] slots from `start` on ([`Self::start_again`]) without changing its own, and
    /// the slot that `start` is in it.
    pub fn again(&mut self, backend: &mut B, layer: usize, start: usize) -> (&mut B::Tensor, usize) {
        // Short of RING, slots are in it what they are in the context, and those before the first are none. Else the state begins anew.
        let shift = start.saturating_sub(RING);
        let is_at_hand = self.is_at_hand(start);
        for slot in start.saturating_sub(BEFORE)..start {
            let row = if is_at_hand { slot % RING } else { kept_row(slot) };
            backend.copy_rows(&self.layers[layer], row, &mut self.again, (slot - shift) % RING, 1);
        }
        (&mut self.again, start - shift)
    }

    /// What a context of `n` slots needs of it, whose ring begins with the slot `first`, in the order in which it is saved.
    pub fn sections(&self, n: usize, first: usize) -> Vec<StateRows> {
        sections(self.layers.len(), n, first)
    }

    /// The rows of [`Self::sections`].
    pub fn layer(&self, layer: usize) -> &B::Tensor {
        &self.layers[layer]
    }

    /// Puts rows of [`Self::sections`] back.
    pub fn restore(&mut self, backend: &mut B, StateRows { layer, row, .. }: StateRows, data: &[f32]) {
        backend.write(&mut self.layers[layer], row, data);
    }

    /// Takes what was put back for that of a context of `n` slots, whose ring begins with the slot `first`.
    pub fn restored(&mut self, n: usize, first: usize) {
        (self.first, self.end) = (first, n);
    }

    /// Whether the ring of a context of `n` slots may begin with the slot `first`.
    pub fn may_begin(n: usize, first: usize) -> bool {
        first <= n && n - first <= RING
    }
}

/// [`ConvState::sections`]: for each layer what is kept for good, then the ring's slots in order.
fn sections(n_layers: usize, n: usize, first: usize) -> Vec<StateRows> {
    let mut all = Vec::new();
    for layer in 0..n_layers {
        // Of a block that is whole but for its last slot, the one before that is kept already.
        all.push(StateRows { layer, row: RING, n: BEFORE * (n / RING) + usize::from(n % RING == RING - 1) });
        // In the ring they may begin anew.
        let around = first.next_multiple_of(RING).clamp(first, n);
        all.push(StateRows { layer, row: first % RING, n: around - first });
        all.push(StateRows { layer, row: 0, n: n - around });
    }
    all.retain(|rows| rows.n > 0);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_all_that_was_kept_and_nothing_else() {
        for n in 0..3 * RING + 2 {
            for first in [n.saturating_sub(RING), n.saturating_sub(RING - 5), n.saturating_sub(2), n] {
                let mut want: Vec<usize> = (0..n).filter_map(conv_state_row).collect();
                want.extend((first..n).map(|slot| slot % RING));
                for layer in 0..2 {
                    let of_layer = sections(2, n, first).into_iter().filter(|rows| rows.layer == layer);
                    let got: Vec<usize> = of_layer.flat_map(|rows| rows.row..rows.row + rows.n).collect();
                    assert_eq!(got, want, "{n} slots, from {first} on");
                }
            }
        }
    }
}
