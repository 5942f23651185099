//! A language model and the vision model that goes with it: loading the pair, and turning a picture into rows for the decoder.

use std::hash::Hasher;
use std::rc::Rc;

use siphasher::sip::SipHasher13;

use crate::backend::{AttentionOp, Backend, Expected};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::image::place::{Layout, Place, Row};
use crate::image::preprocess::{Mode, Pixels, PreprocessSpec, patches};
use crate::model::keys::{self, Key};
use crate::model::markup::Markup;
use crate::model::projector::{Names, Projector, ProjectorKind};
use crate::model::vision::{Vit, VitConfig, VitJob, is_siglip};
use crate::model::weights::{Plan, Reserved};

/// The part of a LLaVA model that sees.
pub struct Vision<B: Backend> {
    /// How pictures are prepared.
    pub preprocess: PreprocessSpec,
    /// The tower.
    pub tower: Vit<B>,
    /// The projector.
    pub projector: Projector<B>,
    /// Those of the features behind some earlier blocks of the tower.
    deeper: Vec<Projector<B>>,
    /// What stands in a prompt for a picture.
    pub markup: Markup,
    /// `[1, n_embd]`: the row that LLaVA-1.6 puts after each line of tiles.
    newline: Option<B::Tensor>,
    /// Elements of all tensors.
    pub n_parameters: u64,
    /// A hash of its weights' [`Weights::fingerprint`](crate::model::weights::Weights::fingerprint), its shape, and how pictures are
    /// prepared for it.
    pub fingerprint: u64,
}

/// A picture's embedding.
pub struct Embedding<B: Backend> {
    /// `[n_rows, n_embd]`: what stands in the context.
    pub rows: B::Tensor,
    /// `[n_rows, n_embd]` each: what is added to them behind the language model's first layers, one behind each (DeepStack).
    pub deeper: Vec<B::Tensor>,
}

/// A picture on its way through the vision model, one block at a time, so that a caller can stop it and show how far it is.
pub struct PictureJob<B: Backend> {
    pixels: Rc<Pixels>,
    /// The first tile that is not begun.
    next_tile: usize,
    current: Option<(VitJob<B>, usize)>,
    /// Projected tiles.
    done: Vec<Embedding<B>>,
    place: Place,
    steps_done: usize,
    steps: usize,
}

impl<B: Backend> PictureJob<B> {
    /// Rows the picture will take in the context.
    pub fn n_rows(&self) -> usize {
        self.place.n_rows()
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

/// What may stand under `clip.` in any vision file.
const KEYS: &[(&str, Key)] = &[
    ("has_vision_encoder", Key::Read),
    ("projector_type", Key::Read),
    ("use_gelu", Key::Read),
    ("vision.projector_type", Key::Read),
    ("vision.image_size", Key::Read),
    ("vision.patch_size", Key::Read),
    ("vision.embedding_length", Key::Read),
    ("vision.feed_forward_length", Key::Read),
    ("vision.block_count", Key::Read),
    ("vision.feature_layer", Key::Read),
    ("vision.attention.head_count", Key::Read),
    ("vision.attention.layer_norm_epsilon", Key::Read),
    ("vision.image_mean", Key::Read),
    ("vision.image_std", Key::Read),
    ("vision.image_aspect_ratio", Key::Read),
    ("vision.image_grid_pinpoints", Key::Read),
    ("vision.mm_patch_merge_type", Key::Read),
    ("vision.mm_projector_type", Key::Text(&["linear", "mlp", "mlp2x_gelu"])),
    // The tensors say it; CLIP's other half is not loaded.
    ("has_llava_projector", Key::Harmless),
    ("has_text_encoder", Key::Harmless),
    ("vision.projection_dim", Key::Harmless),
    ("text.", Key::Harmless),
    // Of a way to cut pictures that no LLaVA of this kind takes.
    ("vision.image_crop_resolution", Key::Harmless),
    ("vision.image_split_resolution", Key::Harmless),
    ("has_audio_encoder", keys::OFF),
    ("has_minicpmv_projector", keys::OFF),
    ("has_glm_projector", keys::OFF),
    ("has_qwen2vl_merger", keys::OFF),
    ("use_silu", keys::OFF),
];

/// What may stand there besides in a file of another family's projector.
fn keys_of(projector: ProjectorKind) -> &'static [(&'static str, Key)] {
    const MERGE: (&str, Key) = ("vision.projector.scale_factor", Key::Read);
    const SPATIAL_MERGE: (&str, Key) = ("vision.spatial_merge_size", Key::Read);
    const MIN_PIXELS: (&str, Key) = ("vision.image_min_pixels", Key::Read);
    const MAX_PIXELS: (&str, Key) = ("vision.image_max_pixels", Key::Read);
    match projector {
        ProjectorKind::Linear | ProjectorKind::Mlp2xGelu => &[],
        // What the checkpoints' own configurations call it.
        ProjectorKind::Ldp => &[("vision.mm_projector_type", Key::Text(&["ldpnet"]))],
        ProjectorKind::LdpV2 => &[("vision.mm_projector_type", Key::Text(&["ldpnetv2"]))],
        ProjectorKind::Idefics3 => &[MERGE, ("vision.preproc_image_size", Key::Read)],
        ProjectorKind::Lfm2 | ProjectorKind::Gemma3 => &[MERGE],
        // The activation is the family's.
        ProjectorKind::Qwen2Vl => &[SPATIAL_MERGE, MIN_PIXELS, MAX_PIXELS, ("has_qwen2vl_merger", Key::Read)],
        ProjectorKind::Qwen25Vl => {
            &[SPATIAL_MERGE, MIN_PIXELS, MAX_PIXELS, ("use_silu", Key::Read), ("vision.n_wa_pattern", Key::Read)]
        }
        ProjectorKind::Qwen3Vl => &[SPATIAL_MERGE, MIN_PIXELS, MAX_PIXELS, ("vision.is_deepstack_layers", Key::Read)],
        ProjectorKind::InternVl => &[MERGE, ("vision.preproc_min_tiles", Key::Read), ("vision.preproc_max_tiles", Key::Read)],
    }
}

/// What a vision file holds, known from its header alone.
pub struct VisionConfig {
    preprocess: PreprocessSpec,
    tower: VitConfig,
    projector: ProjectorKind,
}

impl VisionConfig {
    /// Reads the configuration and holds it against the language model's width, and the levels of rows that it takes beyond the embedding.
    ///
    /// # Errors
    /// As [`VitConfig::from_gguf`]; `mmproj_mismatch` where the projector's rows are not what the language model takes.
    pub fn from_gguf<B: Backend>(gguf: &Gguf, n_embd: usize, n_deeper: usize) -> Result<Self> {
        VitConfig::check_file(gguf)?;
        let projector = ProjectorKind::from_gguf(gguf)?;
        let mut preprocess = PreprocessSpec::from_metadata(&gguf.metadata)?;
        if matches!(projector, ProjectorKind::Linear | ProjectorKind::Mlp2xGelu) && is_siglip(gguf) {
            preprocess = preprocess.for_siglip();
        }
        let tower = VitConfig::from_gguf(gguf, projector, preprocess.merge)?;
        keys::check(gguf, "clip", &[KEYS, keys_of(projector)].concat())?;
        let width = Projector::<B>::output_width(gguf, projector)?;
        if width != n_embd {
            return Err(Error::mmproj_mismatch(format!(
                "The vision file '{}' gives rows of {width} numbers, but the language model takes {n_embd}: they are not of the same model. \
                 Use the mmproj file that was published with the language model.",
                gguf.name()
            )));
        }
        if tower.taps.len() != n_deeper {
            return Err(Error::mmproj_mismatch(format!(
                "The vision file '{}' gives {} levels of rows beyond the embedding, but the language model takes {n_deeper}: they are not of the \
                 same model. Use the mmproj file that was published with the language model.",
                gguf.name(),
                tower.taps.len()
            )));
        }
        if matches!(preprocess.mode, Mode::Anyres(_)) && newline_name(gguf).is_none() {
            return Err(Error::invalid_gguf(format!(
                "'{}' cuts pictures into tiles but lacks the tensor 'model.image_newline'.",
                gguf.name()
            )));
        }
        Ok(Self { preprocess, tower, projector })
    }

    /// Checks that the language model's vocabulary has the mark that this family puts before a picture: models of different families may
    /// be equally wide.
    ///
    /// # Errors
    /// `mmproj_mismatch`.
    pub fn check_vocabulary(&self, file: &str, has_token: impl Fn(&str) -> bool) -> Result<()> {
        match Markup::of(self.projector).needs() {
            Some(mark) if !has_token(mark) => Err(Error::mmproj_mismatch(format!(
                "The vision file '{file}' is of the family '{}', but the language model has no token '{mark}', which stands before that \
                 family's pictures: they are not of the same model. Use the mmproj file that was published with the language model.",
                self.projector.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Everything that the vision model takes from its file, checked.
    ///
    /// # Errors
    /// As [`Plan::check`].
    pub fn plan<'a, B: Backend>(&self, gguf: &'a Gguf) -> Result<Plan<'a>> {
        let mut plan = Plan::new(gguf);
        Vit::<B>::plan(&self.tower, &mut plan);
        Projector::<B>::plan(self.projector, &self.projector.names(), self.tower.n_features(), &mut plan)?;
        for block in &self.tower.taps {
            Projector::<B>::plan(self.projector, &Names::deepstack(*block), self.tower.n_features(), &mut plan)?;
        }
        let width = Projector::<B>::output_width(gguf, self.projector)?;
        if let Some(name) = newline_name(gguf) {
            plan.floats(name, &[width]);
        }
        plan.check()?;
        Ok(plan)
    }

    /// The most rows that a tile takes in the context.
    pub fn max_tile_rows(&self) -> usize {
        self.preprocess.max_tile_pixels() / (self.preprocess.patch_size * self.preprocess.merge).pow(2)
    }

    /// The attention of the tower's blocks.
    pub fn attention(&self) -> AttentionOp {
        self.tower.attention()
    }

    /// Bytes of the activations of a picture's way through the tower.
    pub fn scratch_bytes<B: Backend>(&self) -> u64 {
        Vit::<B>::scratch_bytes(&self.tower, self.preprocess.max_tile_pixels())
    }

    /// Tells the backend which kernels the tower and the projector are going to take.
    pub fn expect<B: Backend>(&self, backend: &mut B, reserved: &Reserved<'_, B>) {
        let mut expected = vec![Expected::Vision, Expected::AttentionRows(self.tower.attention().heads.head_dim)];
        expected.extend(reserved.formats().into_iter().map(Expected::Linear));
        if self.projector.convolves() {
            expected.push(Expected::DepthwiseConv);
        }
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
        fingerprint.write(format!("{:?} {:?} {:?}", self.tower, self.projector, self.preprocess).as_bytes());
        let n_features = self.tower.n_features();
        let mut deeper = Vec::with_capacity(self.tower.taps.len());
        for block in &self.tower.taps {
            deeper.push(Projector::new(gguf, self.projector, &Names::deepstack(*block), n_features, backend, &mut weights)?);
        }
        Ok(Vision {
            preprocess: self.preprocess.clone(),
            tower: Vit::new(self.tower.clone(), backend, &mut weights)?,
            projector: Projector::new(gguf, self.projector, &self.projector.names(), n_features, backend, &mut weights)?,
            deeper,
            markup: Markup::of(self.projector),
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
    /// Rows a picture of one tile takes in the context; of the size that the tower was made for, where tiles have any size.
    pub fn tokens_per_tile(&self) -> usize {
        let [rows, cols] = self.preprocess.embedded([self.tower.config.image_size; 2]);
        rows * cols
    }

    /// Prepares a picture's way through the model.
    pub fn begin(&self, pixels: &Rc<Pixels>) -> PictureJob<B> {
        PictureJob {
            pixels: pixels.clone(),
            next_tile: 0,
            current: None,
            done: Vec::new(),
            place: pixels.place,
            steps_done: 0,
            steps: pixels.tiles.len() * (self.tower.n_layers() + 1),
        }
    }

    /// Does one block of work. Gives the embedding when there is no more to do.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn step(&self, backend: &mut B, job: &mut PictureJob<B>) -> Result<Option<Embedding<B>>> {
        let config = &self.tower.config;
        let (mut tile_job, layer) = match job.current.take() {
            Some(current) => current,
            None if job.next_tile < job.pixels.tiles.len() => {
                let tile = patches(&job.pixels, job.next_tile, config.patch_size, config.order)?;
                let grid = job.pixels.tiles[job.next_tile].map(|side| side / config.patch_size);
                job.next_tile += 1;
                (self.tower.begin(backend, tile, grid)?, 0)
            }
            None => return self.end(backend, job).map(Some),
        };
        job.steps_done += 1;
        if layer < self.tower.n_layers() {
            self.tower.block(backend, &mut tile_job, layer);
            job.current = Some((tile_job, layer + 1));
            return Ok(None);
        }
        let grid = self.preprocess.embedded(job.pixels.tiles[job.next_tile - 1]);
        let n = grid[0] * grid[1] * config.features_per_row();
        let (features, taps) = self.tower.end(backend, tile_job)?;
        let rows = self.projector.project(backend, &features, n, grid)?;
        let mut deeper = Vec::with_capacity(taps.len());
        for (projector, features) in self.deeper.iter().zip(&taps) {
            deeper.push(projector.project(backend, features, n, grid)?);
        }
        job.done.push(Embedding { rows, deeper });
        if job.next_tile == job.pixels.tiles.len() { self.end(backend, job).map(Some) } else { Ok(None) }
    }

    /// Where the grid of [`Place::over_picture`] lies: left, top, right and bottom in units of the picture's width and height. A border
    /// that was added lies outside of 0 … 1, what was cut off is beyond the grid.
    pub fn grid_bounds(&self, place: &Place) -> [f64; 4] {
        let config = &self.tower.config;
        let (width, height) = (place.width as f64, place.height as f64);
        let square = match self.preprocess.mode {
            Mode::Pad => width.max(height),
            Mode::ResizeCrop => width.min(height),
            _ => return [0.0, 0.0, 1.0, 1.0],
        };
        // Pixels beyond the last whole patch are in none.
        let seen = square * (config.image_size / config.patch_size * config.patch_size) as f64 / config.image_size as f64;
        let (left, top) = ((width - square) / 2.0, (height - square) / 2.0);
        [left / width, top / height, (left + seen) / width, (top + seen) / height]
    }

    fn end(&self, backend: &mut B, job: &mut PictureJob<B>) -> Result<Embedding<B>> {
        if job.done.len() == 1 && matches!(job.place.layout, Layout::Single) {
            return job.done.pop().ok_or_else(|| Error::internal("A picture of no tiles."));
        }
        let rows = job.place.rows();
        // From each tile at once: a device is told of a whole tensor as quickly as of one row.
        let mut of_tiles = vec![Vec::new(); job.done.len()];
        let mut ends = Vec::new();
        for (to, row) in (0u32..).zip(&rows) {
            match row {
                #[expect(clippy::cast_possible_truncation, reason = "rows of one tile")]
                Row::Patch { tile, patch } => of_tiles[*tile].push([*patch as u32, to]),
                Row::Newline => ends.push([0, to]),
            }
        }
        let gathered = |backend: &mut B, level: &dyn Fn(&Embedding<B>) -> &B::Tensor| {
            let mut out = backend.tensor(rows.len(), self.projector.n_out)?;
            for (tile, rows) in job.done.iter().zip(&of_tiles) {
                backend.gather_rows(level(tile), rows, &mut out);
            }
            Ok(out)
        };
        let mut out = gathered(backend, &|tile| &tile.rows)?;
        if let Some(newline) = &self.newline {
            backend.gather_rows(newline, &ends, &mut out);
        }
        // What is added behind later layers has no ends of lines.
        let mut deeper = Vec::with_capacity(self.deeper.len());
        for level in 0..self.deeper.len() {
            deeper.push(gathered(backend, &|tile| &tile.deeper[level])?);
        }
        job.done.clear();
        Ok(Embedding { rows: out, deeper })
    }
}
