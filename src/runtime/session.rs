//! What the key-value cache holds, and how it is filled.

use std::ops::Range;
use std::rc::Rc;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::image::Place;
use crate::model::decoder::Decoder;
use crate::model::positions::{Standing, positions};
use crate::runtime::pictures::Picture;

/// What stands at one position of the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// A token of text.
    Token(u32),
    /// A row of a picture's embedding.
    Picture {
        /// The hash of the picture's pixels.
        hash: u64,
        /// The row.
        row: u32,
    },
}

impl Slot {
    /// The token, where it is one.
    pub fn token(&self) -> Option<u32> {
        match self {
            Self::Token(id) => Some(*id),
            Self::Picture { .. } => None,
        }
    }
}

/// The key-value cache and what it holds.
pub struct Session<B: Backend> {
    /// Keys and values.
    pub cache: B::KvCache,
    /// What stands at the positions that are computed.
    pub slots: Vec<Slot>,
    /// Where the rows of its pictures lie in them, by the pictures' hashes; there may be more than `slots` shows.
    pub places: Vec<(u64, Place)>,
    /// Positions there are.
    pub n_ctx: usize,
}

impl<B: Backend> Session<B> {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.places.clear();
    }

    /// Where the rows of a picture lie in it.
    pub fn place(&self, hash: u64) -> Option<&Place> {
        self.places.iter().find(|(known, _)| *known == hash).map(|(_, place)| place)
    }

    /// Whether a row of this picture is in the context.
    pub fn shows(&self, hash: u64) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Picture { hash: h, .. } if *h == hash))
    }

    /// Takes note of the pictures that are going to be shown; forgets those that are not any more.
    pub fn expect(&mut self, places: &[(u64, Place)]) {
        let mut known = std::mem::take(&mut self.places);
        known.retain(|(hash, _)| self.shows(*hash));
        for (hash, place) in places {
            if !known.iter().any(|(h, _)| h == hash) {
                known.push((*hash, *place));
            }
        }
        self.places = known;
    }

    /// Tells the model at which positions `slots` stand, whose pictures' places are known, and those to come behind them; and which of them
    /// see each other.
    ///
    /// # Errors
    /// `internal` where a picture's place is not known.
    pub fn set_positions(&self, backend: &mut B, llm: &mut dyn Decoder<B>, slots: &[Slot]) -> Result<()> {
        let mut standing = Vec::with_capacity(slots.len());
        for slot in slots {
            standing.push(match slot {
                Slot::Token(_) => Standing::Text,
                Slot::Picture { hash, row } => {
                    let place = self.place(*hash).ok_or_else(|| Error::internal("A picture's place is not known."))?;
                    Standing::Row { row: *row as usize, place }
                }
            });
        }
        let (positions, next) = positions(standing.into_iter());
        llm.set_positions(backend, &positions, next);
        let pictures = runs(slots).filter(|(_, run)| matches!(run[0], Slot::Picture { .. }));
        let spans: Vec<Range<usize>> = pictures.map(|(first, run)| first..first + run.len()).collect();
        llm.set_spans(backend, &spans);
        Ok(())
    }

    /// How many positions hold what `slots` begins with and need not be computed again; at most all but the last.
    pub fn n_common(&self, llm: &dyn Decoder<B>, slots: &[Slot]) -> usize {
        llm.can_keep(self.n_same(llm, slots))
    }

    fn n_same(&self, llm: &dyn Decoder<B>, slots: &[Slot]) -> usize {
        let same = self.slots.iter().zip(slots).take_while(|(a, b)| a == b).count();
        let same = same.min(slots.len().saturating_sub(1));
        // What a row of a picture has become depends on all of them, where it sees them.
        if llm.dims().pictures_see_themselves { before_picture(slots, same) } else { same }
    }

    /// Keeps what `slots` begins with, as far as the model can go on behind it, and forgets the rest. At least one slot is left to compute,
    /// because the logits of the last one are wanted. Returns the number of positions kept, [`Self::n_common`].
    pub fn reuse(&mut self, backend: &mut B, llm: &mut dyn Decoder<B>, slots: &[Slot]) -> usize {
        let kept = llm.keep(backend, self.n_same(llm, slots));
        self.slots.truncate(kept);
        kept
    }
}

/// Slots on their way into the cache, chunk by chunk and layer by layer, so that a caller can stop it and show how far it is.
pub struct Prefill<B: Backend> {
    slots: Vec<Slot>,
    pictures: Vec<Rc<Picture<B>>>,
    /// The chunk under way: its rows, and the next layer to run.
    chunk: Option<(usize, usize)>,
    /// The first position that is not yet computed.
    position: usize,
    /// The first position that was to be computed.
    first: usize,
    /// The first position that is computed alone, and all behind it.
    single_from: usize,
    step_work: u64,
}

impl<B: Backend> Prefill<B> {
    /// Prepares `slots` (at least one) behind what `session` holds (and shares with them, see [`Session::reuse`]); a step does at most
    /// `step_work` multiply-adds, but at least a layer.
    pub fn new(slots: Vec<Slot>, pictures: Vec<Rc<Picture<B>>>, session: &Session<B>, step_work: u64) -> Self {
        let first = session.slots.len();
        Self { slots, pictures, chunk: None, position: first, first, single_from: usize::MAX, step_work }
    }

    /// From this position on, one position is computed after another, by the very kernels that generated them.
    pub fn one_by_one_from(mut self, position: usize) -> Self {
        self.single_from = position;
        self
    }

    /// Positions computed and positions to compute; those of the chunk under way count as far as its layers are run.
    pub fn progress(&self, n_layers: usize) -> (usize, usize) {
        let partly = self.chunk.map_or(0, |(n, layer)| n * layer / n_layers);
        (self.position - self.first + partly, self.slots.len() - self.first)
    }

    /// Positions whose every layer is run.
    pub fn n_computed(&self) -> usize {
        self.position - self.first
    }

    /// Whether the last position is computed.
    pub fn is_done(&self) -> bool {
        self.position == self.slots.len()
    }

    /// Records a bounded piece of work. True when the logits of the last position have been asked for.
    ///
    /// # Errors
    /// `internal` where a picture of the prompt was not encoded.
    pub fn step(&mut self, backend: &mut B, llm: &mut dyn Decoder<B>, session: &mut Session<B>) -> Result<bool> {
        let (n, mut layer) = match self.chunk.take() {
            Some(chunk) => chunk,
            None => {
                let until = match self.single_from {
                    from if self.position < from => from.min(self.slots.len()),
                    _ => self.position + 1,
                };
                let mut n = llm.n_chunk().min(until - self.position);
                if llm.dims().pictures_see_themselves {
                    n = before_picture(&self.slots, self.position + n).saturating_sub(self.position);
                    if n == 0 {
                        return Err(Error::internal("A picture has more rows than the model can run at once."));
                    }
                }
                self.embed(backend, llm, n)?;
                (n, 0)
            }
        };
        let (per_row, n_layers) = (llm.dims().work_per_row, llm.dims().n_layers);
        let at_once = usize::try_from(self.step_work / (per_row * n as u64).max(1)).unwrap_or(n_layers).max(1);
        let until = (layer + at_once).min(n_layers);
        while layer < until {
            llm.layer(backend, &mut session.cache, layer, self.position, n);
            self.add_deeper(backend, llm, layer, n)?;
            layer += 1;
        }
        if layer < n_layers {
            self.chunk = Some((n, layer));
            return Ok(false);
        }
        session.slots.extend_from_slice(&self.slots[self.position..self.position + n]);
        self.position += n;
        if self.is_done() {
            llm.compute_logits(backend, n - 1);
        }
        Ok(self.is_done())
    }

    /// The picture of the prompt with this hash.
    fn picture(&self, hash: u64) -> Result<&Picture<B>> {
        let picture = self.pictures.iter().find(|p| p.hash == hash);
        picture.map(Rc::as_ref).ok_or_else(|| Error::internal("A picture of the prompt was not encoded."))
    }

    /// Fills the first `n` rows of the residual stream from tokens and pictures.
    fn embed(&self, backend: &mut B, llm: &mut dyn Decoder<B>, n: usize) -> Result<()> {
        let slots = &self.slots[self.position..self.position + n];
        let mut ids = Vec::with_capacity(n);
        for (row, run) in runs(slots) {
            match run[0] {
                Slot::Token(_) => {
                    ids.clear();
                    ids.extend(run.iter().filter_map(Slot::token));
                    llm.embed(backend, &ids, row);
                }
                Slot::Picture { hash, row: from } => {
                    backend.copy_rows(&self.picture(hash)?.embedding.rows, from as usize, llm.rows(), row, run.len());
                }
            }
        }
        Ok(())
    }

    /// Adds what pictures have to add to their rows behind this layer.
    fn add_deeper(&self, backend: &mut B, llm: &mut dyn Decoder<B>, layer: usize, n: usize) -> Result<()> {
        if self.pictures.iter().all(|picture| layer >= picture.embedding.deeper.len()) {
            return Ok(());
        }
        for (row, run) in runs(&self.slots[self.position..self.position + n]) {
            if let Slot::Picture { hash, row: from } = run[0]
                && let Some(rows) = self.picture(hash)?.embedding.deeper.get(layer)
            {
                llm.add_rows(backend, rows, from as usize, row, run.len());
            }
        }
        Ok(())
    }
}

/// Where to cut so that no picture is: at `at`, or before the picture whose rows stand on both sides of it.
fn before_picture(slots: &[Slot], at: usize) -> usize {
    let is_within = |at: usize| match (at.checked_sub(1).and_then(|before| slots.get(before)), slots.get(at)) {
        (Some(before), Some(after)) => matches!(before, Slot::Picture { .. }) && goes_on(before, after),
        _ => false,
    };
    (0..=at).rev().find(|at| !is_within(*at)).unwrap_or(0)
}

/// Whether what stands in a slot goes on with what stands in the one before.
fn goes_on(a: &Slot, b: &Slot) -> bool {
    match (a, b) {
        (Slot::Token(_), Slot::Token(_)) => true,
        (Slot::Picture { hash: a, row }, Slot::Picture { hash: b, row: next }) => a == b && row.checked_add(1) == Some(*next),
        _ => false,
    }
}

/// Tokens that stand together, and rows of a picture that follow one another; with the number of the first slot of each.
fn runs(slots: &[Slot]) -> impl Iterator<Item = (usize, &[Slot])> {
    let mut first = 0;
    slots.chunk_by(goes_on).map(move |run| {
        first += run.len();
        (first - run.len(), run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_picture_is_cut() {
        let row = |hash, row| Slot::Picture { hash, row };
        // A token, a picture of three rows, the same once more at once, a token, another picture that is cut off.
        let slots = [
            Slot::Token(1),
            row(7, 0),
            row(7, 1),
            row(7, 2),
            row(7, 0),
            row(7, 1),
            row(7, 2),
            Slot::Token(2),
            row(8, 0),
            row(8, 1),
        ];
        let cuts: Vec<usize> = (0..=slots.len()).map(|at| before_picture(&slots, at)).collect();
        assert_eq!(cuts, [0, 1, 1, 1, 4, 4, 4, 7, 8, 8, 10]);
        assert_eq!(before_picture(&slots, 12), 12);
        assert_eq!(before_picture(&slots[2..], 1), 0);
        let spans: Vec<usize> = runs(&slots).map(|(first, _)| first).collect();
        assert_eq!(spans, [0, 1, 4, 7, 8]);
    }
}
