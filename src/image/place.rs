//! Where the rows of a picture's embedding lie in the picture.
//!
//! A picture becomes one or more tiles ([`Layout`]), and a tile a grid of rows of the embedding, one for each patch (or for each block of
//! patches that the projector merges). For LLaVA-1.6 the rows are the overview's, then those of the tiles as one large grid without the
//! lines or columns that are all border, each line ended by a learned row:
//!
//! ```text
//! overview: rows × cols │ p p p … p ⏎ │ p p p … p ⏎ │ …       p: a row of the grid of tiles, ⏎: the newline row
//! ```
//!
//! A picture so long and thin that the grid is all border keeps the overview alone; so does the reference implementation. Other models
//! take tile after tile, the overview last.

use std::ops::Range;

use crate::error::{Error, Result};

/// A grid of tiles that a picture may be cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grid {
    /// Tiles in a column.
    pub rows: usize,
    /// Tiles in a row.
    pub cols: usize,
}

/// How the tiles of a picture lie in it: what the projected rows are arranged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One tile.
    Single,
    /// Tile 0 is the overview, then the grid row by row; the rows of the tiles are joined line by line, each with a newline row.
    Anyres(
        /// The chosen grid. The picture's size says how much of it is black border.
        Grid,
    ),
    /// The grid row by row, then the overview; the rows of a tile stand together.
    Tiles(
        /// The grid.
        Grid,
    ),
}

/// A picture's own size, and how its tiles lie in it: all that is needed to find a row of its embedding in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// How the tiles lie.
    pub layout: Layout,
    /// The picture's width in pixels.
    pub width: usize,
    /// The picture's height in pixels.
    pub height: usize,
    /// Rows and columns of the embedding in a tile of the grid; of the only tile where there is but one.
    pub tile: [usize; 2],
    /// Rows and columns of the embedding in the overview; of the only tile where there is but one.
    pub overview: [usize; 2],
}

/// A row of a picture's embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// A patch of a tile, or a block of merged patches.
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
    /// Rows of the embedding.
    pub fn n_rows(&self) -> usize {
        let overview = self.overview[0] * self.overview[1];
        match self.layout {
            Layout::Single => overview,
            Layout::Anyres(grid) => {
                let (lines, columns) = self.unpadded(grid);
                overview + lines.len() * (columns.len() + 1)
            }
            Layout::Tiles(grid) => overview + grid.rows * grid.cols * self.tile[0] * self.tile[1],
        }
    }

    /// Tiles, the overview counted.
    pub fn n_tiles(&self) -> usize {
        match self.layout {
            Layout::Single => 1,
            Layout::Anyres(grid) | Layout::Tiles(grid) => grid.rows * grid.cols + 1,
        }
    }

    /// The rows of the embedding in the decoder's order.
    pub fn rows(&self) -> Vec<Row> {
        let of_tile = |tile: usize, [rows, cols]: [usize; 2]| (0..rows * cols).map(move |patch| Row::Patch { tile, patch });
        match self.layout {
            Layout::Single => of_tile(0, self.overview).collect(),
            Layout::Anyres(grid) => {
                let [rows, cols] = self.tile;
                let mut all: Vec<Row> = of_tile(0, self.overview).collect();
                let (lines, columns) = self.unpadded(grid);
                for y in lines {
                    all.extend(columns.clone().map(|x| {
                        let tile = 1 + (y / rows) * grid.cols + x / cols;
                        Row::Patch { tile, patch: (y % rows) * cols + x % cols }
                    }));
                    all.push(Row::Newline);
                }
                all
            }
            Layout::Tiles(grid) => {
                let n = grid.rows * grid.cols;
                (0..n).flat_map(|tile| of_tile(tile, self.tile)).chain(of_tile(n, self.overview)).collect()
            }
        }
    }

    /// Lays a number for each row of the embedding over the picture: values and shape `[rows, cols]`, row by row. Where there are an
    /// overview and tiles, the grid is that of the tiles, and each patch of the overview is spread over what it shows; where the
    /// picture has nothing of the grid of tiles, it is the overview's. Rows that end a line stand for no place and are left out; else
    /// the sum stays what it was.
    ///
    /// # Errors
    /// `invalid_request` where the numbers are not as many as the picture's rows.
    pub fn over_picture(&self, numbers: &[f64]) -> Result<(Vec<f64>, [usize; 2])> {
        if numbers.len() != self.n_rows() {
            return Err(Error::invalid_request("A part of the picture is not in the context. Ask about the picture again."));
        }
        let n_overview = self.overview[0] * self.overview[1];
        let (overview, tiles, [n_rows, n_cols]) = match self.layout {
            Layout::Single => (numbers, Vec::new(), [0, 0]),
            Layout::Anyres(grid) => {
                let (lines, columns) = self.unpadded(grid);
                let (overview, tiles) = numbers.split_at(n_overview);
                let without_ends = tiles.chunks_exact(columns.len() + 1).flat_map(|line| &line[..columns.len()]);
                (overview, without_ends.copied().collect(), [lines.len(), columns.len()])
            }
            Layout::Tiles(grid) => {
                let [rows, cols] = self.tile;
                let (tiles, overview) = numbers.split_at(numbers.len() - n_overview);
                let shape = [grid.rows * rows, grid.cols * cols];
                let at = |y: usize, x: usize| ((y / rows) * grid.cols + x / cols) * rows * cols + (y % rows) * cols + x % cols;
                let lines = (0..shape[0]).flat_map(|y| (0..shape[1]).map(move |x| (y, x)));
                (overview, lines.map(|(y, x)| tiles[at(y, x)]).collect(), shape)
            }
        };
        if tiles.is_empty() {
            return Ok((overview.to_vec(), self.overview));
        }
        let [rows, cols] = self.overview;
        let mut out = tiles;
        for (y, line) in out.chunks_exact_mut(n_cols).enumerate() {
            for (x, number) in line.iter_mut().enumerate() {
                let of_overview = shares(y, n_rows, rows)
                    .map(|(i, by_y)| by_y * shares(x, n_cols, cols).map(|(j, by_x)| by_x * overview[i * cols + j]).sum::<f64>());
                *number += of_overview.sum::<f64>();
            }
        }
        Ok((out, [n_rows, n_cols]))
    }

    /// LLaVA-1.6's `spatial_unpad`: the lines and columns of the grid of tiles, in patches, that are not all border.
    fn unpadded(&self, grid: Grid) -> (Range<usize>, Range<usize>) {
        let (n_lines, n_columns) = (grid.rows * self.tile[0], grid.cols * self.tile[1]);
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

    fn anyres(rows: usize, cols: usize, width: usize, height: usize, side: usize) -> Place {
        Place { layout: Layout::Anyres(Grid { rows, cols }), width, height, tile: [side; 2], overview: [side; 2] }
    }

    #[test]
    fn a_wide_picture_loses_the_lines_that_are_border() {
        // 600 × 300 in a 2 × 2 grid of 4 × 4 patches: 8 columns, 4 of 8 lines.
        let rows = anyres(2, 2, 600, 300, 4).rows().split_off(16);
        assert_eq!(rows.len(), 4 * (8 + 1));
        assert_eq!(rows[0], Row::Patch { tile: 1, patch: 2 * 4 });
        assert_eq!(rows[4], Row::Patch { tile: 2, patch: 2 * 4 });
        assert_eq!(rows[8], Row::Newline);
        assert_eq!(rows[2 * 9], Row::Patch { tile: 3, patch: 0 });
    }

    #[test]
    fn a_tall_picture_loses_columns() {
        let rows = anyres(2, 2, 100, 400, 4).rows().split_off(16);
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
                let place = anyres(rows, cols, width, height, side);
                let all = place.rows();
                let (mut numbers, mut on_lines) = (vec![1.0; all.len()], 0.0);
                for (number, row) in numbers.iter_mut().zip(&all) {
                    match *row {
                        Row::Newline => on_lines += *number,
                        Row::Patch { tile, patch } => assert!(tile <= rows * cols && patch < side * side),
                    }
                }
                numbers[0] = 3.0;
                let (data, [n_rows, n_cols]) = place.over_picture(&numbers).expect("as many as there are rows");
                assert!(n_rows > 0 && n_cols > 0 && data.len() == n_rows * n_cols, "{width}×{height}: {n_rows}×{n_cols}");
                let (got, want) = (data.iter().sum::<f64>(), numbers.iter().sum::<f64>() - on_lines);
                assert!((got - want).abs() < 1e-6 * want, "{width}×{height} in {rows}×{cols}: {got}, {want}");
                assert!(place.over_picture(&numbers[1..]).is_err());
            }
        }
    }

    #[test]
    fn products_of_pixels_and_patches_may_take_more_than_32_bits() {
        let place = anyres(64, 1, 16_384, 16_384, 4096);
        let skip = (64 * 4096 - 4096) / 2;
        assert_eq!(place.unpadded(Grid { rows: 64, cols: 1 }), (skip..64 * 4096 - skip, 0..4096));
        assert_eq!(place.unpadded(Grid { rows: 1, cols: 64 }), (0..4096, skip..64 * 4096 - skip));
    }

    #[test]
    fn a_picture_that_is_all_border_keeps_its_overview() {
        for (place, n_rows) in [(anyres(1, 3, 1600, 20, 4), 16), (anyres(3, 1, 20, 1600, 4), 16 + 12)] {
            assert_eq!((place.rows().len(), place.n_rows()), (n_rows, n_rows));
            let numbers: Vec<f64> = (0..n_rows).map(|i| i as f64).collect();
            assert_eq!(place.over_picture(&numbers).expect("sound"), (numbers[..16].to_vec(), [4, 4]));
        }
    }

    #[test]
    fn tiles_stand_one_after_the_other_and_their_overview_is_last() {
        let layout = Layout::Tiles(Grid { rows: 1, cols: 2 });
        let place = Place { layout, width: 8, height: 4, tile: [2, 2], overview: [1, 2] };
        let rows = place.rows();
        assert_eq!((rows.len(), place.n_rows()), (10, 10));
        assert_eq!(rows[4], Row::Patch { tile: 1, patch: 0 });
        assert_eq!(rows[8], Row::Patch { tile: 2, patch: 0 });
        let numbers = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0, 100.0, 400.0];
        let (data, shape) = place.over_picture(&numbers).expect("as many as there are rows");
        assert_eq!(shape, [2, 4]);
        assert_eq!(data, [26.0, 27.0, 110.0, 120.0, 28.0, 29.0, 130.0, 140.0]);
    }
}
