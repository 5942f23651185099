//! A language model and the vision model that goes with it: loading the pair, and turning a picture into rows for the decoder.

use std::collections::VecDeque;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::backend::{Backend, Expected};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::image::preprocess::{Grid, Layout, Mode, Pixels, Place, PreprocessSpec, patches};
use crate::model::lm::{Llama, LlamaConfig};
use crate::model::projector::{Projector, ProjectorKind};
use crate::model::vision::{Clip, ClipConfig, ClipJob};
use crate::model::weights::{Plan, Reserved};

/// The part of a LLaVA model that sees.
pub struct Vision<B: Backend> {
    /// How pictures are prepared.
    pub preprocess: PreprocessSpec,
    /// The tower.
    pub clip: Clip<B>,
    /// The projector.
    pub projector: Projector<B>,
    /// `[1, n_embd]`: the row that LLaVA-1.6 puts after each line of tiles.
    newline: Option<B::Tensor>,
    /// Elements of all tensors.
    pub n_parameters: u64,
    /// A hash of its weights' [`Weights::fingerprint`](crate::model::weights::Weights::fingerprint), its shape, and how pictures are
    /// prepared for it.
    pub fingerprint: u64,
}

/// A row of a picture's embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// A patch of a tile.
    Patch { tile: usize, patch: usize },
    /// The learned end of a line.
    Newline,
}

/// A picture on its way through the vision model, one block at a time, so that a caller can stop it and show how far it is.
pub struct PictureJob<B: Backend> {
    /// Patches of the tiles still to do, `[n_patches, 3 · patch_size²]` each.
    tiles: VecDeque<Vec<f32>>,
    current: Option<(ClipJob<B>, usize)>,
    /// Projected tiles, `[n_patches, n_out]` each.
    done: Vec<B::Tensor>,
    rows: Vec<Row>,
    place: Place,
    steps_done: usize,
    steps: usize,
}

impl<B: Backend> PictureJob<B> {
    /// Rows the picture will take in the context.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Where its rows lie in the picture.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Blocks done and blocks in all.
    pub fn progress(&self) -> (usize, usize) {
        (self.steps_done, self.steps)
    }
}

/// Everything that a language model takes from its file, checked.
///
/// # Errors
/// As [`Plan::check`].
pub fn language_model_plan<'a, B: Backend>(gguf: &'a Gguf, config: &LlamaConfig) -> Result<Plan<'a>> {
    let mut plan = Plan::new(gguf);
    Llama::<B>::plan(config, &mut plan);
    plan.check()?;
    Ok(plan)
}

/// What a vision file holds, known from its header alone.
pub struct VisionConfig {
    preprocess: PreprocessSpec,
    clip: ClipConfig,
    projector: ProjectorKind,
}

impl VisionConfig {
    /// Reads the configuration and holds it against the language model's width.
    ///
    /// # Errors
    /// As [`ClipConfig::from_gguf`]; `mmproj_mismatch` where the projector's rows have not the width of the language model.
    pub fn from_gguf<B: Backend>(gguf: &Gguf, n_embd: usize) -> Result<Self> {
        let clip = ClipConfig::from_gguf(gguf)?;
        let projector = ProjectorKind::from_gguf(gguf)?;
        let preprocess = PreprocessSpec::from_metadata(&gguf.metadata)?;
        let width = Projector::<B>::output_width(gguf, projector)?;
        if width != n_embd {
            return Err(Error::mmproj_mismatch(format!(
                "The vision file '{}' gives rows of {width} numbers, but the language model takes {n_embd}: they are not of the same model. \
                 Use the mmproj file that was published with the language model.",
                gguf.name()
            )));
        }
        if matches!(preprocess.mode, Mode::Anyres(_)) && newline_name(gguf).is_none() {
            return Err(Error::invalid_gguf(format!(
                "'{}' cuts pictures into tiles but lacks the tensor 'model.image_newline'.",
                gguf.name()
            )));
        }
        Ok(Self { preprocess, clip, projector })
    }

    /// Everything that the vision model takes from its file, checked.
    ///
    /// # Errors
    /// As [`Plan::check`].
    pub fn plan<'a, B: Backend>(&self, gguf: &'a Gguf) -> Result<Plan<'a>> {
        let mut plan = Plan::new(gguf);
        Clip::<B>::plan(&self.clip, &mut plan);
        Projector::<B>::plan(self.projector, self.clip.n_embd, &mut plan)?;
        let width = Projector::<B>::output_width(gguf, self.projector)?;
        if let Some(name) = newline_name(gguf) {
            plan.floats(name, &[width]);
        }
        plan.check()?;
        Ok(plan)
    }

    /// Bytes of the activations of a picture's way through the tower.
    pub fn scratch_bytes<B: Backend>(&self) -> u64 {
        Clip::<B>::scratch_bytes(&self.clip)
    }

    /// Tells the backend which kernels the tower and the projector are going to take.
    pub fn expect<B: Backend>(&self, backend: &mut B, reserved: &Reserved<'_, B>) {
        let mut expected = vec![Expected::Vision, Expected::AttentionFull(self.clip.n_embd / self.clip.n_heads)];
        expected.extend(reserved.formats().into_iter().map(Expected::Linear));
        backend.expect(&expected);
    }

    /// Loads the weights.
    ///
    /// # Errors
    /// As [`Reserved::load`].
    pub async fn load<B: Backend>(
        &self,
        gguf: &Gguf,
        backend: &mut B,
        reserved: Reserved<'_, B>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vision<B>> {
        let n_parameters = reserved.n_parameters();
        let mut weights = reserved.load(backend, progress).await?;
        let mut fingerprint = SipHasher13::new();
        fingerprint.write(&weights.fingerprint().to_le_bytes());
        fingerprint.write(format!("{:?} {:?} {:?}", self.clip, self.projector, self.preprocess).as_bytes());
        Ok(Vision {
            preprocess: self.preprocess.clone(),
            clip: Clip::new(self.clip.clone(), backend, &mut weights)?,
            projector: Projector::new(gguf, self.projector, backend, &mut weights)?,
            newline: match newline_name(gguf) {
                Some(name) => weights.optional_row(backend, name)?,
                None => None,
            },
            n_parameters,
            fingerprint: fingerprint.finish(),
        })
    }
}

/// The end of a line has two names.
fn newline_name(gguf: &Gguf) -> Option<&'static str> {
    ["model.image_newline", "v.image_newline"].into_iter().find(|name| gguf.tensor(name).is_some())
}

impl<B: Backend> Vision<B> {
    /// Rows a picture of one tile takes in the context.
    pub fn tokens_per_tile(&self) -> usize {
        self.clip.config.n_patches()
    }

    /// Patches in a line of a tile.
    fn side(&self) -> usize {
        self.clip.config.image_size / self.clip.config.patch_size
    }

    /// Prepares a picture's way through the model.
    pub fn begin(&self, pixels: &Pixels) -> PictureJob<B> {
        let all = patches(pixels, self.clip.config.patch_size);
        let tile_len = all.len() / pixels.tiles;
        let tiles: VecDeque<Vec<f32>> = all.chunks_exact(tile_len).map(<[f32]>::to_vec).collect();
        let steps = tiles.len() * (self.clip.n_layers() + 1);
        let place = pixels.place;
        PictureJob { tiles, current: None, done: Vec::new(), rows: arrange(&place, self.side()), place, steps_done: 0, steps }
    }

    /// Does one block of work. Gives the rows `[n_rows, n_embd]` when there is no more to do.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn step(&self, backend: &mut B, job: &mut PictureJob<B>) -> Result<Option<B::Tensor>> {
        let (clip_job, layer) = match job.current.take() {
            Some(current) => current,
            None => match job.tiles.pop_front() {
                Some(tile) => (self.clip.begin(backend, &tile)?, 0),
                None => return self.end(backend, job).map(Some),
            },
        };
        let mut clip_job = clip_job;
        job.steps_done += 1;
        if layer < self.clip.n_layers() {
            self.clip.block(backend, &mut clip_job, layer);
            job.current = Some((clip_job, layer + 1));
            return Ok(None);
        }
        let features = self.clip.end(backend, clip_job)?;
        job.done.push(self.projector.project(backend, &features, self.tokens_per_tile())?);
        if job.tiles.is_empty() { self.end(backend, job).map(Some) } else { Ok(None) }
    }

    /// Lays a number for each row of a picture's embedding over the picture: `[rows, cols]`, row by row. A tile's rows are its patches;
    /// where there are an overview and tiles, the grid is that of the tiles, and each patch of the overview is spread over what it
    /// shows. Rows that end a line stand for no place, and are left out; else the sum stays what it was.
    ///
    /// # Errors
    /// `invalid_request` where the numbers are not as many as the picture's rows, or how its rows lie in it is not known.
    pub fn over_picture(&self, place: &Place, numbers: &[f64]) -> Result<(Vec<f64>, [usize; 2])> {
        let side = self.side();
        if numbers.len() != arrange(place, side).len() {
            return Err(Error::invalid_request("A part of the picture is not in the context. Ask about the picture again."));
        }
        match place.layout {
            Layout::Single => Ok((numbers.to_vec(), [side, side])),
            Layout::Anyres(_) => {
                let (overview, lines) = numbers.split_at(side * side);
                let n_rows = unpadded_rows(place, side);
                let n_cols = lines.len() / n_rows.max(1) - 1;
                let mut out: Vec<f64> = lines.chunks_exact(n_cols + 1).flat_map(|line| &line[..n_cols]).copied().collect();
                for (y, line) in out.chunks_exact_mut(n_cols).enumerate() {
                    for (x, out) in line.iter_mut().enumerate() {
                        for (i, by_y) in shares(y, n_rows, side) {
                            *out += shares(x, n_cols, side).map(|(j, by_x)| by_y * by_x * overview[i * side + j]).sum::<f64>();
                        }
                    }
                }
                Ok((out, [n_rows, n_cols]))
            }
            Layout::Idefics3(_) => {
                Err(Error::invalid_request("How the rows of this model's pictures lie in them is not known to this program."))
            }
        }
    }

    /// Where the grid of [`Self::over_picture`] lies: left, top, right and bottom in units of the picture's width and height. A border
    /// that was added lies outside of 0 … 1, what was cut off is beyond the grid.
    pub fn grid_bounds(&self, place: &Place) -> [f64; 4] {
        let (width, height) = (place.width as f64, place.height as f64);
        let square = match self.preprocess.mode {
            Mode::Pad => width.max(height),
            Mode::ResizeCrop => width.min(height),
            Mode::Anyres(_) | Mode::Idefics3 { .. } => return [0.0, 0.0, 1.0, 1.0],
        };
        // Pixels beyond the last whole patch are in none.
        let seen = square * (self.side() * self.clip.config.patch_size) as f64 / self.clip.config.image_size as f64;
        let (left, top) = ((width - square) / 2.0, (height - square) / 2.0);
        [left / width, top / height, (left + seen) / width, (top + seen) / height]
    }

    fn end(&self, backend: &mut B, job: &mut PictureJob<B>) -> Result<B::Tensor> {
        if job.done.len() == 1 && job.rows.len() == self.tokens_per_tile() {
            return job.done.pop().ok_or_else(|| Error::internal("A picture of no tiles."));
        }
        let mut out = backend.tensor(job.rows.len(), self.projector.n_out)?;
        for (to, row) in job.rows.iter().enumerate() {
            match row {
                Row::Patch { tile, patch } => backend.copy_rows(&job.done[*tile], *patch, &mut out, to, 1),
                Row::Newline => {
                    if let Some(newline) = &self.newline {
                        backend.copy_rows(newline, 0, &mut out, to, 1);
                    }
                }
            }
        }
        job.done.clear();
        Ok(out)
    }
}

/// The rows of a picture in the decoder's order; a tile has `side × side` patches.
fn arrange(place: &Place, side: usize) -> Vec<Row> {
    let whole = |tile| (0..side * side).map(move |patch| Row::Patch { tile, patch });
    match place.layout {
        Layout::Anyres(grid) => {
            let mut rows: Vec<Row> = whole(0).collect();
            rows.extend(unpadded(grid, side, place.width, place.height));
            rows
        }
        Layout::Single | Layout::Idefics3(_) => whole(0).collect(),
    }
}

/// Of `n` equal parts of a length the `i`th: which of `m` equal parts of the same length it lies in, and how much of each of those.
fn shares(i: usize, n: usize, m: usize) -> impl Iterator<Item = (usize, f64)> {
    // In units of one part of n · m.
    let (from, to) = (i * m, (i + 1) * m);
    (from / n..to.div_ceil(n)).map(move |j| (j, (to.min((j + 1) * n) - from.max(j * n)) as f64 / n as f64))
}

/// Lines of [`unpadded`].
fn unpadded_rows(place: &Place, side: usize) -> usize {
    let Layout::Anyres(grid) = place.layout else { return side };
    unpadded(grid, side, place.width, place.height).iter().filter(|row| **row == Row::Newline).count()
}

/// LLaVA-1.6's `spatial_unpad`: the tiles' patches as one large grid, without the lines or columns that are all border, each line
/// ended by the newline row.
fn unpadded(grid: Grid, side: usize, image_width: usize, image_height: usize) -> Vec<Row> {
    let (height, width) = (grid.rows * side, grid.cols * side);
    // The reference computes in floats and rounds to 7 places before it truncates; integers say the same exactly.
    let (skip_y, skip_x) = if image_width * height > image_height * width {
        ((height - (image_height * width / image_width).min(height)) / 2, 0)
    } else {
        (0, (width - (image_width * height / image_height).min(width)) / 2)
    };
    let mut rows = Vec::new();
    for y in skip_y..height - skip_y {
        for x in skip_x..width - skip_x {
            let tile = 1 + (y / side) * grid.cols + x / side;
            rows.push(Row::Patch { tile, patch: (y % side) * side + x % side });
        }
        rows.push(Row::Newline);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_picture_loses_the_lines_that_are_border() {
        // 600 × 300 in a 2 × 2 grid of 4 × 4 patches: 8 columns, 4 of 8 lines.
        let rows = unpadded(Grid { rows: 2, cols: 2 }, 4, 600, 300);
        assert_eq!(rows.len(), 4 * (8 + 1));
        assert_eq!(rows[0], Row::Patch { tile: 1, patch: 2 * 4 });
        assert_eq!(rows[4], Row::Patch { tile: 2, patch: 2 * 4 });
        assert_eq!(rows[8], Row::Newline);
        assert_eq!(rows[2 * 9], Row::Patch { tile: 3, patch: 0 });
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
    fn a_tall_picture_loses_columns() {
        let rows = unpadded(Grid { rows: 2, cols: 2 }, 4, 100, 400);
        assert_eq!(rows.len(), 8 * (2 + 1));
        assert_eq!(rows[0], Row::Patch { tile: 1, patch: 3 });
    }
}
