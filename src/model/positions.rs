//! A position is not a slot. A slot is where the keys and values of a row go in the cache, and what causality goes by; a position is what the
//! row's rotary angles follow from. With most models they are one number. Multimodal rotary embedding (M-RoPE; Wang et al. 2024, arXiv
//! 2409.12191) gives the rows of a picture positions in height and width of their own, so that what is written behind a picture stands
//! nearer to what was written before it than the picture has rows.
//!
//! Positions follow from what stands in the slots alone: nothing of them has to be kept or saved.

use crate::image::{Layout, Place};

/// A position in time, height and width; of text all three are the same.
pub type Position = [usize; 3];

/// What stands in a slot, as far as positions follow from it.
#[derive(Debug, Clone, Copy)]
pub enum Standing<'a> {
    /// A token.
    Text,
    /// A row of the embedding of a picture that lies so.
    Row {
        /// The row.
        row: usize,
        /// Where the picture's rows lie in it.
        place: &'a Place,
    },
}

/// The positions of slots from the first on, and the one of the first slot behind them.
///
/// Text takes one position after another. The rows of a picture of R lines of C that begins at `p` are at `(p, p + line, p + column)`, and
/// what follows them begins at `p + max(R, C)`. Rows of pictures that are cut into tiles are counted like text: no model with positions in
/// height and width takes such.
pub fn positions<'a>(slots: impl Iterator<Item = Standing<'a>>) -> (Vec<Position>, usize) {
    let mut out = Vec::with_capacity(slots.size_hint().0);
    let mut next = 0;
    // Where the picture that is passed begins, and the row that goes on with it.
    let (mut begin, mut following) = (0, 0);
    for slot in slots {
        match slot {
            Standing::Row { row, place } if place.layout == Layout::Single => {
                if row == 0 || row != following {
                    begin = next;
                }
                let [rows, cols] = place.overview;
                // A row that the picture does not have stands behind its last one.
                let (y, x) = if row < rows * cols { (row / cols, row % cols) } else { (rows, cols) };
                out.push([begin, begin + y, begin + x]);
                following = row.saturating_add(1);
                // Behind the last row is behind the picture, in whichever direction it is longer.
                next = if row.saturating_add(1) == rows * cols { begin + rows.max(cols) } else { next.max(begin + y.max(x) + 1) };
            }
            Standing::Text | Standing::Row { .. } => {
                out.push([next; 3]);
                next += 1;
                following = 0;
            }
        }
    }
    (out, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_behind_a_picture_begins_behind_its_longer_side() {
        let place = Place { layout: Layout::Single, width: 30, height: 20, tile: [2, 3], overview: [2, 3] };
        let rows = (0..6).map(|row| Standing::Row { row, place: &place });
        let slots = [Standing::Text, Standing::Text].into_iter().chain(rows.clone()).chain(rows).chain([Standing::Text]);
        let (positions, next) = positions(slots);
        let picture = |p: usize| [[p, p, p], [p, p, p + 1], [p, p, p + 2], [p, p + 1, p], [p, p + 1, p + 1], [p, p + 1, p + 2]];
        assert_eq!(positions, [&[[0; 3], [1; 3]][..], &picture(2), &picture(5), &[[8; 3]]].concat());
        assert_eq!(next, 9);
    }

    #[test]
    fn tiles_are_counted_like_text() {
        let layout = Layout::Tiles(crate::image::Grid { rows: 1, cols: 2 });
        let place = Place { layout, width: 30, height: 20, tile: [1, 1], overview: [1, 1] };
        let (positions, next) = positions((0..3).map(|row| Standing::Row { row, place: &place }));
        assert_eq!((positions, next), (vec![[0; 3], [1; 3], [2; 3]], 3));
    }

    #[test]
    fn rows_that_no_picture_has_do_no_harm() {
        let place = Place { layout: Layout::Single, width: 30, height: 20, tile: [2, 3], overview: [2, 3] };
        let rows = [4, usize::MAX / 2, 0, 6].into_iter().map(|row| Standing::Row { row, place: &place });
        let (positions, next) = positions(rows.chain([Standing::Text]));
        assert_eq!(positions.len(), 5);
        assert!(positions.iter().flatten().all(|p| *p < next), "{positions:?}");
    }
}
