//! Where the rows of a picture's embedding lie in the picture.
//!
//! A picture becomes one or more tiles ([`Layout`]), a tile becomes `side × side` patches, and a patch one row of the embedding. For one
//! tile the rows are its patches. For LLaVA-1.6 they are the overview's patches, then those of the tiles as one large grid without the
//! lines or columns that are all border, each line ended by a learned row:
//!
//! ```text
//! overview: side × side │ p p p … p ⏎ │ p p p … p ⏎ │ …       p: a patch of the grid of tiles, ⏎: the newline row
//! ```
//!
//! A picture so long and thin that the grid is all border keeps the overview alone; so does the reference implementation.

use std::ops::Range;

use crate::error::{Error, Result};

/// A grid of tiles that a picture may be cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Tiles in a column.
    pub rows: usize,
    /// Tiles in a row.
    pub cols: usize,
}

/// How the tiles of a picture lie in it: what the projected rows are arranged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One tile.
    Single,
    /// Tile 0 is the overview, then the grid row by row.
    Anyres(
        /// The chosen grid. The picture's size says how much of it is black border.
        Grid,
    ),
    /// The grid row by row, then the overview.
    Idefics3(
        /// The grid.
        Grid,
    ),
}

/// A picture's own size, and how its tiles lie in it: all that is needed to find a row of its embedding in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// How the tiles lie.
    pub layout: Layout,
    /// The picture's width in pixels.
    pub width: usize,
    /// The picture's height in pixels.
    pub height: usize,
}

/// A row of a picture's embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// A patch of a tile.
    Patch {
        /// The tile.
        tile: usize,
        /// The patch, counted row by row.
        patch: usize,
    },
    /// The learned end of a line.
    Newline,
}

impl Place {
    /// The rows of the embedding in the decoder's order; a tile has `side × side` patches.
    pub fn rows(&self, side: usize) -> Vec<Row> {
        let mut rows: Vec<Row> = (0..side * side).map(|patch| Row::Patch { tile: 0, patch }).collect();
        if let Layout::Anyres(grid) = self.layout {
            let (lines, columns) = self.unpadded(grid, side);
            for y in lines {
                rows.extend(columns.clone().map(|x| {
                    let tile = 1 + (y / side) * grid.cols + x / side;
                    Row::Patch { tile, patch: (y % side) * side + x % side }
                }));
                rows.push(Row::Newline);
            }
        }
        rows
    }

    /// Lays a number for each row of the embedding over the picture: values and shape `[rows, cols]`, row by row. Where there are an
    /// overview and tiles, the grid is that of the tiles, and each patch of the overview is spread over what it shows; where the
    /// picture has nothing of the grid of tiles, it is the overview's. Rows that end a line stand for no place and are left out; else
    /// the sum stays what it was.
    ///
    /// # Errors
    /// `invalid_request` where the numbers are not as many as the picture's rows, or how its rows lie in it is not known.
    pub fn over_picture(&self, side: usize, numbers: &[f64]) -> Result<(Vec<f64>, [usize; 2])> {
        let n_overview = side * side;
        let (lines, columns) = match self.layout {
            Layout::Single => (0..0, 0..0),
            Layout::Anyres(grid) => self.unpadded(grid, side),
            Layout::Idefics3(_) => {
                return Err(Error::invalid_request(
                    "How the rows of this model's pictures lie in them is not known to this program.",
                ));
            }
        };
        let (n_rows, n_cols) = (lines.len(), columns.len());
        if numbers.len() != n_overview + n_rows * (n_cols + 1) {
            return Err(Error::invalid_request("A part of the picture is not in the context. Ask about the picture again."));
        }
        let (overview, tiles) = numbers.split_at(n_overview);
        if n_rows == 0 || n_cols == 0 {
            return Ok((overview.to_vec(), [side, side]));
        }
        let mut out = Vec::with_capacity(n_rows * n_cols);
        for (y, line) in tiles.chunks_exact(n_cols + 1).enumerate() {
            for (x, number) in line[..n_cols].iter().enumerate() {
                let of_overview = shares(y, n_rows, side)
                    .map(|(i, by_y)| by_y * shares(x, n_cols, side).map(|(j, by_x)| by_x * overview[i * side + j]).sum::<f64>());
                out.push(number + of_overview.sum::<f64>());
            }
        }
        Ok((out, [n_rows, n_cols]))
    }

    /// LLaVA-1.6's `spatial_unpad`: the lines and columns of the grid of tiles, in patches, that are not all border.
    fn unpadded(&self, grid: Grid, side: usize) -> (Range<usize>, Range<usize>) {
        let (n_lines, n_columns) = (grid.rows * side, grid.cols * side);
        // In 64 bits: pixels times patches can be beyond 32. The reference computes in floats and rounds to 7 places before it
        // truncates; integers say the same exactly.
        let [width, height, lines, columns] = [self.width, self.height, n_lines, n_columns].map(|n| n as u64);
        let border = |all: usize, shown: u64| (all - usize::try_from(shown).map_or(all, |shown| shown.min(all))) / 2;
        if width * lines > height * columns {
            let skip = border(n_lines, height * columns / width.max(1));
            (skip..n_lines - skip, 0..n_columns)
        } else {
            let skip = border(n_columns, width * lines / height.max(1));
            (0..n_lines, skip..n_columns - skip)
        }
    }
}

/// Of `n` equal parts of a length the `i`th: which of `m` equal parts of the same length it lies in, and how much of each of those.
fn shares(i: usize, n: usize, m: usize) -> impl Iterator<Item = (usize, f64)> {
    // In units of one part of n · m.
    let (from, to) = (i * m, (i + 1) * m);
    (from / n..to.div_ceil(n)).map(move |j| (j, (to.min((j + 1) * n) - from.max(j * n)) as f64 / n as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anyres(rows: usize, cols: usize, width: usize, height: usize) -> Place {
        Place { layout: Layout::Anyres(Grid { rows, cols }), width, height }
    }

    #[test]
    fn a_wide_picture_loses_the_lines_that_are_border() {
        // 600 × 300 in a 2 × 2 grid of 4 × 4 patches: 8 columns, 4 of 8 lines.
        let rows = anyres(2, 2, 600, 300).rows(4).split_off(16);
        assert_eq!(rows.len(), 4 * (8 + 1));
        assert_eq!(rows[0], Row::Patch { tile: 1, patch: 2 * 4 });
        assert_eq!(rows[4], Row::Patch { tile: 2, patch: 2 * 4 });
        assert_eq!(rows[8], Row::Newline);
        assert_eq!(rows[2 * 9], Row::Patch { tile: 3, patch: 0 });
    }

    #[test]
    fn a_tall_picture_loses_columns() {
        let rows = anyres(2, 2, 100, 400).rows(4).split_off(16);
        assert_eq!(rows.len(), 8 * (2 + 1));
        assert_eq!(rows[0], Row::Patch { tile: 1, patch: 3 });
    }

    #[test]
    fn an_overviews_patch_is_spread_over_what_it_shows() {
        for (n, m) in [(4, 4), (8, 3), (3, 8), (7, 5), (1, 4), (5, 1)] {
            let mut sums = vec![0.0; m];
            for i in 0..n {
                shares(i, n, m).for_each(|(j, share)| sums[j] += share);
            }
            assert!(sums.iter().all(|sum: &f64| (sum - 1.0).abs() < 1e-12), "{n} over {m}: {sums:?}");
        }
        assert_eq!(shares(1, 2, 3).collect::<Vec<_>>(), [(1, 0.5), (2, 1.0)]);
    }

    #[test]
    fn every_shape_of_picture_has_a_grid() {
        let sides = [1, 2, 20, 336, 1600, 16_384];
        // The last grids are as large as a file may ask for; 14² and 27² patches are CLIP's and SigLIP's, an odd side halves unevenly.
        for (rows, cols, side) in [(1, 3, 24), (3, 1, 24), (2, 2, 24), (1, 2, 27), (6, 6, 27), (1, 64, 4), (64, 1, 4)] {
            for (width, height) in sides.into_iter().flat_map(|w| sides.map(|h| (w, h))) {
                let place = anyres(rows, cols, width, height);
                let all = place.rows(side);
                let (mut numbers, mut on_lines) = (vec![1.0; all.len()], 0.0);
                for (number, row) in numbers.iter_mut().zip(&all) {
                    match *row {
                        Row::Newline => on_lines += *number,
                        Row::Patch { tile, patch } => assert!(tile <= rows * cols && patch < side * side),
                    }
                }
                numbers[0] = 3.0;
                let (data, [n_rows, n_cols]) = place.over_picture(side, &numbers).expect("as many as there are rows");
                assert!(n_rows > 0 && n_cols > 0 && data.len() == n_rows * n_cols, "{width}×{height}: {n_rows}×{n_cols}");
                let (got, want) = (data.iter().sum::<f64>(), numbers.iter().sum::<f64>() - on_lines);
                assert!((got - want).abs() < 1e-6 * want, "{width}×{height} in {rows}×{cols}: {got}, {want}");
                assert!(place.over_picture(side, &numbers[1..]).is_err());
            }
        }
    }

    #[test]
    fn products_of_pixels_and_patches_may_take_more_than_32_bits() {
        let place = anyres(64, 1, 16_384, 16_384);
        let skip = (64 * 4096 - 4096) / 2;
        assert_eq!(place.unpadded(Grid { rows: 64, cols: 1 }, 4096), (skip..64 * 4096 - skip, 0..4096));
        assert_eq!(place.unpadded(Grid { rows: 1, cols: 64 }, 4096), (0..4096, skip..64 * 4096 - skip));
    }

    #[test]
    fn a_picture_that_is_all_border_keeps_its_overview() {
        for (place, n_rows) in [(anyres(1, 3, 1600, 20), 16), (anyres(3, 1, 20, 1600), 16 + 12)] {
            assert_eq!(place.rows(4).len(), n_rows);
            let numbers: Vec<f64> = (0..n_rows).map(|i| i as f64).collect();
            assert_eq!(place.over_picture(4, &numbers).expect("sound"), (numbers[..16].to_vec(), [4, 4]));
        }
    }
}
