//! How finely a picture is looked at where that is left to the engine: in as many tiles as keep the first token near on this device.
//!
//! What a tile costs is measured once, when the model is loaded: one block of the vision tower and one layer of the language model, times
//! how many of them there are.

use super::Engine;
use crate::backend::Backend;
use crate::error::Result;
use crate::runtime::pictures::Detail;

/// Milliseconds from a question with one picture to the first token of its answer.
const FIRST_TOKEN_MS: f64 = 4000.0;
/// Rows of text in such a question.
const TEXT_ROWS: usize = 48;
/// What embedding patches, projecting and sampling take besides, as a part of all blocks' time.
const BESIDES: f64 = 1.15;
/// Rows that a layer is measured with: enough for its kernels of many rows, few enough that loading a large model is not held up.
const LAYER_ROWS: usize = 64;
/// Runs of a block and of a layer; the first warms up and is not counted.
const RUNS: usize = 2;

impl<B: Backend> Engine<B> {
    /// Tiles that a picture may take.
    pub(super) fn max_tiles(&self, detail: Detail) -> usize {
        match detail {
            Detail::High => usize::MAX,
            Detail::Low => 1,
            Detail::Auto => self.auto_tiles,
        }
    }

    /// Measures what a tile costs, for models that cut pictures into several.
    ///
    /// # Errors
    /// `out_of_memory`, `device_lost`.
    pub(super) async fn measure_tile(&mut self) -> Result<()> {
        let Some(vision) = &self.vision else { return Ok(()) };
        let Some(tile) = vision.preprocess.tile_size() else { return Ok(()) };
        let (config, n_blocks) = (&vision.tower.config, vision.tower.n_layers());
        let grid = tile.map(|side| side / config.patch_size);
        let patches = vec![0.0; 3 * grid[0] * grid[1] * config.patch_size * config.patch_size];
        let mut job = vision.tower.begin(&mut self.backend, patches, grid)?;
        let mut tile_ms = 0.0;
        for _ in 0..RUNS {
            self.backend.settle(true).await?;
            let before = (self.now)();
            vision.tower.block(&mut self.backend, &mut job, 0);
            self.backend.settle(true).await?;
            tile_ms = ((self.now)() - before) * n_blocks as f64 * BESIDES;
        }
        drop(job);
        let rows_per_tile = {
            let [rows, cols] = vision.preprocess.embedded(tile);
            rows * cols
        };
        let n_layers = self.llm.dims().n_layers;
        let n = LAYER_ROWS.min(self.llm.n_chunk()).min(self.session.n_ctx);
        let mut row_ms = 0.0;
        for _ in 0..RUNS {
            let before = (self.now)();
            // No position is in use yet.
            self.llm.layer(&mut self.backend, &mut self.session.cache, 0, 0, n);
            self.backend.settle(true).await?;
            row_ms = ((self.now)() - before) * n_layers as f64 / n as f64 * BESIDES;
        }
        self.auto_tiles = tiles_within(FIRST_TOKEN_MS - TEXT_ROWS as f64 * row_ms, tile_ms + rows_per_tile as f64 * row_ms);
        Ok(())
    }
}

/// How many tiles there is time for; one must be.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded down; what is beyond a usize saturates")]
fn tiles_within(milliseconds: f64, per_tile: f64) -> usize {
    // A device that takes no time has time for all.
    ((milliseconds / per_tile.max(1e-6)) as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::tiles_within;

    #[test]
    fn as_many_tiles_as_there_is_time_for_but_never_none() {
        assert_eq!(tiles_within(4000.0, 900.0), 4);
        assert_eq!(tiles_within(4000.0, 9000.0), 1);
        assert_eq!(tiles_within(-5.0, 10.0), 1);
        assert!(tiles_within(4000.0, 0.0) > 1_000_000);
    }
}
