//! What a model's `mmproj` file asks to be done with a picture before its vision tower sees it.
//!
//! Every recipe is 8-bit resampling ([`super::resample`]), at most a cut into tiles, then `(x/255 − mean)/std`. The
//! steps and their order are the reference implementation's, to the bit. Floats exist only for the result, `12 · H · W`
//! bytes a tile; besides it, a few bytes per pixel of the *output* and `3 · height · W` bytes are held (see
//! [`super::resample`]), so that a photo of 64 megapixels costs little more than itself.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "sides and pixels are computed in floats as the reference does; sides are bounded when a picture is decoded"
)]

use super::decode::RgbImage;
pub use super::place::{Grid, Layout, Place};
use super::resample::{Canvas, Filter, Window, resize, resize_whole, room, zeros};
use super::sizes::{grid_by_aspect, is_too_large_for_one, smart_resize};
use crate::error::{Error, Result};
use crate::gguf::metadata::Metadata;

/// CLIP's channel means, which files of 2023 may lack.
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// CLIP's channel standard deviations.
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// The largest tile side a file may ask for, in pixels. The largest known towers take 980.
const MAX_IMAGE_SIZE: usize = 4096;
/// The most tiles a picture may be cut into, the overview not counted. LLaVA-OneVision has up to 36, Idefics3 up to 25.
pub const MAX_TILES: usize = 64;
/// The most patches of a tile; attention is quadratic in them. The largest known towers have 4900 (980 pixels in patches of 14).
pub const MAX_PATCHES: usize = 8192;
/// The most pixels of all those tiles, four times what the largest known recipe makes: 192 MiB of floats.
const MAX_TILE_PIXELS: usize = 16 << 20;

/// The largest block of patches along a side that a projector may make one row of. Published ones have up to 5.
const MAX_MERGE: u64 = 16;
/// The most pixels along a side of what becomes one row of the embedding. Published models have up to 64.
const MAX_UNIT: usize = 512;
/// Rows of the embedding that a picture of any size ([`Mode::Whole`]) may take where the file does not say how many: the reference's limit of
/// sixteen thousand is beyond what a tab can compute.
const MAX_ROWS: usize = 1024;
/// Rows of the embedding that count as a tile where pictures are not cut.
const TILE_ROWS: usize = 256;
/// Rows of the embedding of LFM2-VL's pictures of one tile, at least and at most.
const LFM2_ROWS: [usize; 2] = [64, 256];
/// Tiles of LFM2-VL's larger pictures, at least and at most; the overview not counted.
const LFM2_TILES: [usize; 2] = [2, 10];
/// The side of LFM2-VL's tiles in pixels.
const LFM2_TILE: usize = 512;

/// How a picture of any shape becomes tiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// One tile: centred on a square of the mean colour, then resized. LLaVA-1.5 as published.
    Pad,
    /// One tile: the shorter side resized to the tile's, the middle cut out. Loses what is at the far ends.
    ResizeCrop,
    /// An overview (the picture squeezed into one tile), then the tiles of the best of these grids, row by row: the
    /// picture resized into the grid with its proportions kept and centred on black. LLaVA-1.6.
    Anyres(Vec<Grid>),
    /// The picture resized to a longest side, then to whole tiles, cut row by row, an overview last; alone where one tile
    /// suffices. Idefics3 and SmolVLM.
    Idefics3 {
        /// The longest side in pixels before the sides are rounded up to whole tiles.
        longest_side: usize,
    },
    /// One tile of 64 to 256 rows with its sides rounded to whole patches; a picture too large for that cut into 2 to 10 tiles of 512
    /// pixels, the overview last. LFM2-VL.
    Lfm2,
    /// The picture stretched to the grid whose proportions are nearest, cut row by row; an overview last where there are several. InternVL.
    InternVl {
        /// The fewest tiles.
        min_tiles: usize,
        /// The most tiles, the overview not counted.
        max_tiles: usize,
    },
    /// One tile of the picture's own proportions, its sides rounded to whole blocks of patches. Qwen2-VL and later.
    Whole {
        /// The fewest pixels.
        min_pixels: usize,
        /// The most pixels.
        max_pixels: usize,
    },
    /// One tile, squeezed to a square. Gemma 3.
    Squash,
}

/// The recipe of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct PreprocessSpec {
    /// A tile's height and width in pixels.
    pub image_size: usize,
    /// A patch's height and width in pixels.
    pub patch_size: usize,
    /// Patches along a side of the block that the projector makes one row of.
    pub merge: usize,
    /// What is subtracted from the channels, which are in 0 … 1.
    pub mean: [f32; 3],
    /// What the channels are divided by.
    pub std: [f32; 3],
    /// How the tiles are made.
    pub mode: Mode,
}

/// What a vision tower is given: the tiles, normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// The values of one tile after the other, `[3, height, width]` each.
    pub data: Vec<f32>,
    /// Each tile's height and width in pixels.
    pub tiles: Vec<[usize; 2]>,
    /// What the tiles are of the picture.
    pub place: Place,
}

impl Pixels {
    /// The values of a tile, `[3, height, width]`. There must be such a tile.
    pub fn tile(&self, tile: usize) -> &[f32] {
        let n = |[height, width]: [usize; 2]| 3 * height * width;
        let from: usize = self.tiles[..tile].iter().copied().map(n).sum();
        &self.data[from..from + n(self.tiles[tile])]
    }
}

impl PreprocessSpec {
    /// The recipe that an `mmproj` file's metadata describes.
    ///
    /// `clip.projector_type` and `clip.vision.image_aspect_ratio` choose the mode: other families' projectors have their own; for LLaVA's
    /// no ratio or `pad` means [`Mode::Pad`], `anyres…` (or a list of grids without a ratio) [`Mode::Anyres`], any other ratio
    /// [`Mode::ResizeCrop`].
    ///
    /// # Errors
    /// `invalid_gguf` where sizes are missing or absurd. Whether the projector is supported is not asked here.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let image_size = metadata.require_usize("clip.vision.image_size")?;
        let patch_size = metadata.require_usize("clip.vision.patch_size")?;
        if image_size == 0 || image_size > MAX_IMAGE_SIZE || patch_size == 0 || patch_size > image_size {
            return Err(Error::invalid_gguf(format!(
                "The vision file asks for pictures of {image_size} pixels in patches of {patch_size}, which cannot be right (1 to \
                 {MAX_IMAGE_SIZE}, patches no larger); it may be damaged."
            )));
        }
        let mean = channels(metadata, "clip.vision.image_mean", CLIP_MEAN, |v| (0.0..=1.0).contains(&v))?;
        let std = channels(metadata, "clip.vision.image_std", CLIP_STD, |v| v > 1e-6 && v.is_finite())?;
        let family = projector_type(metadata).unwrap_or_default();
        let merge = merge(metadata, family)?;
        let unit = patch_size * merge;
        if unit > MAX_UNIT {
            return Err(Error::invalid_gguf(format!(
                "The vision file makes one row of {unit} by {unit} pixels, which cannot be right (at most {MAX_UNIT}); it may be damaged."
            )));
        }
        let few = |n: usize, side: usize| few_enough(Grid { rows: n, cols: 1 }, side);
        let mode = match family {
            "idefics3" => {
                // Files of before late 2025 lack the key; all checkpoints of that time say four tiles.
                const LONGEST: &str = "clip.vision.preproc_image_size";
                let longest_side = if metadata.contains(LONGEST) { metadata.require_usize(LONGEST)? } else { 4 * image_size };
                let tiles = longest_side.div_ceil(image_size);
                if longest_side == 0
                    || longest_side > MAX_IMAGE_SIZE
                    || !few_enough(Grid { rows: tiles, cols: tiles }, image_size)
                {
                    return Err(Error::invalid_gguf(format!(
                        "The vision file asks for a longest side of {longest_side} pixels in tiles of {image_size}, which is none or \
                         too many; it may be damaged."
                    )));
                }
                Mode::Idefics3 { longest_side }
            }
            "lfm2" if !LFM2_TILE.is_multiple_of(unit) => {
                return Err(Error::invalid_gguf(format!(
                    "The vision file makes one row of {unit} by {unit} pixels, which tiles of {LFM2_TILE} pixels are no multiple of; it may be \
                     damaged."
                )));
            }
            "lfm2" => Mode::Lfm2,
            "internvl" => {
                let tiles = |name: &str, default: usize| match metadata.contains(name) {
                    true => metadata.require_usize(name),
                    false => Ok(default),
                };
                let min_tiles = tiles("clip.vision.preproc_min_tiles", 1)?;
                let max_tiles = tiles("clip.vision.preproc_max_tiles", 12)?;
                if min_tiles == 0 || min_tiles > max_tiles || !few(max_tiles, image_size) {
                    return Err(Error::invalid_gguf(format!(
                        "The vision file asks for {min_tiles} to {max_tiles} tiles of {image_size} pixels, which cannot be right; it may be \
                         damaged."
                    )));
                }
                Mode::InternVl { min_tiles, max_tiles }
            }
            "qwen2vl_merger" | "qwen2.5vl_merger" | "qwen3vl_merger" => {
                let pixels = |name: &str, default: usize| metadata.uint(name).map_or(default, |n| n as usize);
                let fewest = if family == "qwen3vl_merger" { 65_536 } else { 3136 };
                let most = MAX_ROWS.min(MAX_PATCHES / (merge * merge)) * unit * unit;
                let max_pixels = pixels("clip.vision.image_max_pixels", most).clamp(unit * unit, most);
                Mode::Whole { min_pixels: pixels("clip.vision.image_min_pixels", fewest).min(max_pixels), max_pixels }
            }
            "gemma3" => Mode::Squash,
            // All of LLaVA's projectors take the same pictures; files of 2023 do not even name theirs.
            _ => llava_mode(metadata, image_size)?,
        };
        let spec = Self { image_size, patch_size, merge, mean, std, mode };
        let n_patches = spec.max_tile_pixels() / (patch_size * patch_size);
        if n_patches > MAX_PATCHES {
            return Err(Error::invalid_gguf(format!(
                "The vision file cuts a tile into {n_patches} patches; at most {MAX_PATCHES} are believable."
            )));
        }
        Ok(spec)
    }

    /// The recipe for a SigLIP tower. Its pictures are normalised to −1 … 1; LLaVA's converters wrote CLIP's means and deviations unless they
    /// were told others, so where a file has exactly those it is wrong.
    #[must_use]
    pub fn for_siglip(mut self) -> Self {
        if self.mean == CLIP_MEAN && self.std == CLIP_STD {
            (self.mean, self.std) = ([0.5; 3], [0.5; 3]);
        }
        self
    }

    /// Rows and columns of the embedding of a tile of this height and width.
    pub fn embedded(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        [height, width].map(|side| side / self.patch_size / self.merge)
    }

    /// Height and width of the tiles that a larger picture is cut into; `None` where every picture is one tile of one size. Of a model that
    /// takes pictures whole, what counts as a tile.
    pub fn tile_size(&self) -> Option<[usize; 2]> {
        match self.mode {
            Mode::Pad | Mode::ResizeCrop | Mode::Squash => None,
            Mode::Anyres(_) | Mode::Idefics3 { .. } | Mode::InternVl { .. } => Some([self.image_size; 2]),
            Mode::Lfm2 => Some([LFM2_TILE; 2]),
            Mode::Whole { .. } => Some([TILE_ROWS.isqrt() * self.patch_size * self.merge; 2]),
        }
    }

    /// Pixels of the largest tile that a picture may become.
    pub fn max_tile_pixels(&self) -> usize {
        let square = self.image_size * self.image_size;
        match self.mode {
            Mode::Whole { max_pixels, .. } => max_pixels,
            Mode::Lfm2 => LFM2_TILE * LFM2_TILE,
            _ => square,
        }
    }

    /// The border's colour of [`Mode::Pad`]: the mean, cut to 8 bits.
    pub fn background(&self) -> [u8; 3] {
        self.mean.map(|m| (f64::from(m) * 255.0) as u8)
    }

    /// Makes the tiles of a picture, at most `max_tiles` (at least one) with the overview; a model that takes pictures whole counts each 256
    /// rows of the embedding as a tile. With one tile the picture is as the reference implementation gives it when told not to split.
    ///
    /// # Errors
    /// `out_of_memory` where the tiles do not fit into memory.
    pub fn preprocess(&self, image: &RgbImage, max_tiles: usize) -> Result<Pixels> {
        let side = self.image_size;
        let whole = Window { left: 0, top: 0, width: side, height: side };
        let (width, height) = (image.width(), image.height());
        match &self.mode {
            Mode::Pad => {
                let canvas = Canvas::square(image, self.background());
                self.single(image, resize(&canvas, side, side, whole, Filter::Bicubic)?)
            }
            Mode::ResizeCrop => {
                let short = width.min(height);
                // In 64 bits: the longer side may be millions of pixels; only the window of it is made.
                let long = |n: usize| (side as u64 * n as u64 / short as u64) as usize;
                let (width, height) = (long(width), long(height));
                let window = Window { left: (width - side) / 2, top: (height - side) / 2, ..whole };
                self.single(image, resize(&Canvas::bare(image), width, height, window, Filter::Bicubic)?)
            }
            Mode::Anyres(grids) => {
                let overview = resize_whole(image, side, side, Filter::Bicubic)?;
                let allowed: Vec<Grid> = grids.iter().copied().filter(|grid| grid.rows * grid.cols < max_tiles).collect();
                if allowed.is_empty() && !grids.is_empty() {
                    return self.single(image, overview);
                }
                let Some(grid) = best_grid(width, height, &allowed, side) else {
                    return Err(Error::invalid_gguf("The vision file gives no grid of tiles to choose from; it may be damaged."));
                };
                let fitted = fit_on_black(image, grid.cols * side, grid.rows * side)?;
                let tiles = std::iter::once(Ok(overview)).chain(cut(&fitted, grid, side)).collect::<Result<_>>()?;
                self.pixels(image, Layout::Anyres(grid), tiles, [[side; 2]; 2])
            }
            &Mode::Idefics3 { longest_side } => {
                let Some(longest_side) = idefics3_longest_side(width, height, side, longest_side, max_tiles) else {
                    let (width, height) = longest_side_size(width, height, longest_side);
                    let first = resize_whole(image, width, height, Filter::Lanczos)?;
                    return self.single(image, resize_whole(&first, side, side, Filter::Lanczos)?);
                };
                let (width, height) = longest_side_size(width, height, longest_side);
                let first = resize_whole(image, width, height, Filter::Lanczos)?;
                let (width, height) = whole_tiles_size(width, height, side);
                let second = resize_whole(&first, width, height, Filter::Lanczos)?;
                let grid = Grid { rows: height / side, cols: width / side };
                if grid.rows * grid.cols == 1 {
                    return self.single(image, second);
                }
                // The overview is made of the resized picture, not of the original.
                let overview = resize_whole(&second, side, side, Filter::Lanczos)?;
                let tiles = cut(&second, grid, side).chain([Ok(overview)]).collect::<Result<_>>()?;
                self.pixels(image, Layout::Tiles(grid), tiles, [[side; 2]; 2])
            }
            Mode::Lfm2 => {
                let unit = self.patch_size * self.merge;
                let [least, most] = LFM2_ROWS.map(|rows| rows * unit * unit);
                let [h, w] = smart_resize([height, width], unit, least, most);
                let overview = resize_whole(image, w, h, Filter::Bilinear)?;
                let [min_tiles, largest] = LFM2_TILES;
                let max_tiles = largest.min(max_tiles.saturating_sub(1));
                if max_tiles < min_tiles || !is_too_large_for_one([height, width], self.patch_size, unit, most) {
                    return self.single(image, overview);
                }
                let grid = grid_by_aspect(width, height, min_tiles, max_tiles, LFM2_TILE);
                let large = resize_whole(image, grid.cols * LFM2_TILE, grid.rows * LFM2_TILE, Filter::Bilinear)?;
                let tiles = cut(&large, grid, LFM2_TILE).chain([Ok(overview)]).collect::<Result<_>>()?;
                self.pixels(image, Layout::Tiles(grid), tiles, [[LFM2_TILE; 2], [h, w]])
            }
            &Mode::InternVl { min_tiles, max_tiles: largest } => {
                let max_tiles = largest.min(max_tiles.saturating_sub(1)).max(1);
                let grid = grid_by_aspect(width, height, min_tiles.min(max_tiles), max_tiles, side);
                if grid.rows * grid.cols == 1 {
                    return self.single(image, resize_whole(image, side, side, Filter::Bicubic)?);
                }
                let large = resize_whole(image, grid.cols * side, grid.rows * side, Filter::Bicubic)?;
                let overview = resize_whole(image, side, side, Filter::Bicubic)?;
                let tiles = cut(&large, grid, side).chain([Ok(overview)]).collect::<Result<_>>()?;
                self.pixels(image, Layout::Tiles(grid), tiles, [[side; 2]; 2])
            }
            &Mode::Whole { min_pixels, max_pixels } => {
                let unit = self.patch_size * self.merge;
                let max_pixels = max_pixels.min(max_tiles.saturating_mul(TILE_ROWS * unit * unit));
                let [height, width] = smart_resize([height, width], unit, min_pixels.min(max_pixels), max_pixels);
                self.single(image, resize_whole(image, width, height, Filter::Bicubic)?)
            }
            Mode::Squash => self.single(image, resize_whole(image, side, side, Filter::Bilinear)?),
        }
    }

    /// The pixels of a picture that is one tile.
    fn single(&self, image: &RgbImage, tile: RgbImage) -> Result<Pixels> {
        let size = [tile.height(), tile.width()];
        self.pixels(image, Layout::Single, vec![tile], [size; 2])
    }

    /// Normalises tiles; `sizes` are the height and width of a tile of the grid, and of the overview.
    fn pixels(&self, image: &RgbImage, layout: Layout, tiles: Vec<RgbImage>, sizes: [[usize; 2]; 2]) -> Result<Pixels> {
        let [tile, overview] = sizes.map(|size| self.embedded(size));
        let place = Place { layout, width: image.width(), height: image.height(), tile, overview };
        // 256 values a channel, each by the reference's operations: a product in double precision, then single precision.
        let table: [[f32; 256]; 3] = std::array::from_fn(|c| {
            std::array::from_fn(|v| {
                let scaled = (v as f64 * (1.0 / 255.0)) as f32;
                (scaled - self.mean[c]) / self.std[c]
            })
        });
        let n: usize = tiles.iter().map(|tile| 3 * tile.height() * tile.width()).sum();
        let mut data = Vec::new();
        data.try_reserve_exact(n).map_err(|_| {
            Error::out_of_memory(format!(
                "The picture's {} tiles of {}×{} pixels do not fit into memory; close other tabs or use a smaller picture.",
                tiles.len(),
                tiles[0].height(),
                tiles[0].width()
            ))
        })?;
        for tile in &tiles {
            for (c, table) in table.iter().enumerate() {
                data.extend(tile.data().as_chunks::<3>().0.iter().map(|pixel| table[usize::from(pixel[c])]));
            }
        }
        Ok(Pixels { data, tiles: tiles.iter().map(|tile| [tile.height(), tile.width()]).collect(), place })
    }
}

/// The rows of a tile's patch convolution: `[(H/p) · (W/p), 3 · p · p]`, and within one the column fastest, then the row, then the channel.
/// That is how `v.patch_embd.weight` (`ne = [p, p, 3, D]`) lies in its file, so that the convolution is a linear layer of it. Pixels beyond
/// the last whole patch are left out, as a convolution does.
///
/// Patches come in blocks of `merge` by `merge` ([`in_blocks`]), so that those which a projector joins stand together.
///
/// `patch_size` must be over zero, and there must be such a tile.
///
/// # Errors
/// `out_of_memory`.
pub fn patches(pixels: &Pixels, tile: usize, patch_size: usize, merge: usize) -> Result<Vec<f32>> {
    let [height, width] = pixels.tiles[tile];
    let (rows, cols) = (height / patch_size, width / patch_size);
    let n = rows * cols * 3 * patch_size * patch_size;
    let mut out = Vec::new();
    out.try_reserve_exact(n).map_err(|_| {
        Error::out_of_memory(format!(
            "There is not enough memory for a picture's {n} numbers. Close other tabs, or use a smaller model."
        ))
    })?;
    let tile = pixels.tile(tile);
    for (row, col) in in_blocks(rows, cols, merge) {
        for plane in tile.chunks_exact(height * width) {
            for line in plane.chunks_exact(width).skip(row * patch_size).take(patch_size) {
                out.extend_from_slice(&line[col * patch_size..][..patch_size]);
            }
        }
    }
    Ok(out)
}

/// The rows and columns of a grid in the order of its blocks of `merge` by `merge`: blocks row by row, and row by row within one. With 1
/// that is the order of reading.
pub fn in_blocks(rows: usize, cols: usize, merge: usize) -> impl Iterator<Item = (usize, usize)> {
    let blocks = (0..rows / merge).flat_map(move |y| (0..cols / merge).map(move |x| (y * merge, x * merge)));
    blocks.flat_map(move |(y, x)| (0..merge).flat_map(move |dy| (0..merge).map(move |dx| (y + dy, x + dx))))
}

/// The name of the projector in a vision file's metadata, which decides of what family it is. `None` in files of 2023, which are LLaVA's.
pub fn projector_type(metadata: &Metadata) -> Option<&str> {
    let named = metadata.str("clip.projector_type").or(metadata.str("clip.vision.projector_type"));
    // Qwen2-VL's first converter had a flag of its own.
    named.or_else(|| (metadata.bool("clip.has_qwen2vl_merger") == Some(true)).then_some("qwen2vl_merger"))
}

/// Patches along a side of the block that the projector makes one row of, by the kind of projector.
fn merge(metadata: &Metadata, family: &str) -> Result<usize> {
    let said =
        ["clip.vision.projector.scale_factor", "clip.vision.spatial_merge_size"].into_iter().find_map(|key| metadata.uint(key));
    let merge = match family {
        "idefics3" | "lfm2" | "internvl" | "qwen2vl_merger" | "qwen2.5vl_merger" | "qwen3vl_merger" => said.unwrap_or(2),
        "gemma3" => said.unwrap_or(4),
        // The network has a fixed number of them, which no key says.
        "ldp" | "ldpv2" => 2,
        _ => 1,
    };
    if merge == 0 || merge > MAX_MERGE {
        return Err(Error::invalid_gguf(format!(
            "The vision file makes one row of {merge} by {merge} patches, which cannot be right (1 to {MAX_MERGE}); it may be damaged."
        )));
    }
    Ok(merge as usize)
}

/// Three floats of the metadata, or the default where there are none.
fn channels(metadata: &Metadata, key: &str, default: [f32; 3], sound: impl Fn(f32) -> bool) -> Result<[f32; 3]> {
    if !metadata.contains(key) {
        return Ok(default);
    }
    let values = metadata.floats(key).unwrap_or_default();
    match <[f32; 3]>::try_from(values) {
        Ok(values) if values.iter().all(|&v| sound(v)) => Ok(values),
        _ => Err(Error::invalid_gguf(format!(
            "The vision file's '{key}' is not three numbers that make sense for colours; it may be damaged."
        ))),
    }
}

/// Whether a grid's tiles are within the limits.
fn few_enough(grid: Grid, side: usize) -> bool {
    grid.rows.checked_mul(grid.cols).is_some_and(|n| n <= MAX_TILES && n * side * side <= MAX_TILE_PIXELS)
}

fn llava_mode(metadata: &Metadata, image_size: usize) -> Result<Mode> {
    let mode = llava_tiles(metadata, image_size)?;
    let Mode::Anyres(grids) = &mode else { return Ok(mode) };
    // One way to lay out the tiles' rows is computed: that of LLaVA-1.6, which is also the default of files that do not name it.
    const MERGE: &str = "clip.vision.mm_patch_merge_type";
    let merge = metadata.str(MERGE).unwrap_or("spatial_unpad");
    if merge != "spatial_unpad" {
        return Err(Error::unsupported_architecture(format!(
            "The vision file puts a picture's tiles together by the method '{merge}' ('{MERGE}'), which is not supported. 'spatial_unpad' is."
        )));
    }
    // `anyres_max_9`: beyond so many tiles, with some tolerance, the features are to be shrunk.
    let ratio = metadata.str("clip.vision.image_aspect_ratio").unwrap_or_default();
    if let Some(most) = ratio.strip_prefix("anyres_max_").and_then(|n| n.parse::<usize>().ok()) {
        let shrinks = |grid: &Grid| 100 * grid.rows * grid.cols > 121 * most;
        if let Some(Grid { rows, cols }) = grids.iter().find(|grid| shrinks(grid)) {
            return Err(Error::unsupported_architecture(format!(
                "The vision file cuts pictures into up to {rows} by {cols} tiles and shrinks what is beyond {most} ('{ratio}'), which is not \
                 supported."
            )));
        }
    }
    Ok(mode)
}

/// The mode, with the grids that the file lists.
fn llava_tiles(metadata: &Metadata, image_size: usize) -> Result<Mode> {
    const GRIDS: &str = "clip.vision.image_grid_pinpoints";
    match metadata.str("clip.vision.image_aspect_ratio") {
        Some("pad") => Ok(Mode::Pad),
        None if !metadata.contains(GRIDS) => Ok(Mode::Pad),
        Some(ratio) if !ratio.starts_with("anyres") => Ok(Mode::ResizeCrop),
        _ => {
            let Some(values) = metadata.ints(GRIDS) else {
                // LLaVA-1.6's own.
                let grids = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)];
                let grids = grids.map(|(rows, cols)| Grid { rows, cols });
                return Ok(Mode::Anyres(grids.into_iter().filter(|&g| few_enough(g, image_size)).collect()));
            };
            // Pairs of height and width in pixels, as the reference implementation reads them.
            let tiles = |v: i64| usize::try_from(v).ok().filter(|&v| v > 0 && v % image_size == 0).map(|v| v / image_size);
            let grid = |&[height, width]: &[i64; 2]| {
                let grid = Grid { rows: tiles(height)?, cols: tiles(width)? };
                few_enough(grid, image_size).then_some(grid)
            };
            let (pairs, rest) = values.as_chunks::<2>();
            match pairs.iter().map(grid).collect::<Option<Vec<_>>>() {
                Some(grids) if rest.is_empty() && !grids.is_empty() && grids.len() <= 1024 => Ok(Mode::Anyres(grids)),
                _ => Err(Error::invalid_gguf(format!(
                    "The vision file's '{GRIDS}' is not a list of heights and widths that are multiples of {image_size} pixels, with no \
                     more than {MAX_TILES} tiles each; it may be damaged."
                ))),
            }
        }
    }
}

/// The grid that keeps most of the picture's resolution, of those the one with the least border, of those the first.
fn best_grid(image_width: usize, image_height: usize, grids: &[Grid], side: usize) -> Option<Grid> {
    let original = image_width * image_height;
    let mut best: Option<(usize, usize, Grid)> = None;
    for &grid in grids {
        let (width, height) = (grid.cols * side, grid.rows * side);
        // The reference's operations in its order, for a product may fall on either side of an integer.
        let scale = (width as f64 / image_width as f64).min(height as f64 / image_height as f64);
        let shrunk = ((image_width as f64 * scale) as usize) * ((image_height as f64 * scale) as usize);
        let effective = shrunk.min(original);
        let wasted = (width * height).saturating_sub(effective);
        if best.is_none_or(|(most, least, _)| effective > most || (effective == most && wasted < least)) {
            best = Some((effective, wasted, grid));
        }
    }
    best.map(|(_, _, grid)| grid)
}

/// The picture resized to fit into `width`×`height` with its proportions kept, centred on black.
fn fit_on_black(image: &RgbImage, width: usize, height: usize) -> Result<RgbImage> {
    let scale_w = width as f64 / image.width() as f64;
    let scale_h = height as f64 / image.height() as f64;
    let (fit_w, fit_h) = if scale_w < scale_h {
        (width, ((image.height() as f64 * scale_w).ceil() as usize).min(height))
    } else {
        (((image.width() as f64 * scale_h).ceil() as usize).min(width), height)
    };
    let fitted = resize_whole(image, fit_w, fit_h, Filter::Bicubic)?;
    let (left, top) = ((width - fit_w) / 2, (height - fit_h) / 2);
    let mut data = zeros(3 * width * height)?;
    for (row, line) in fitted.data().chunks_exact(3 * fit_w).enumerate() {
        data[3 * ((top + row) * width + left)..][..line.len()].copy_from_slice(line);
    }
    Ok(RgbImage::from_parts(width, height, data))
}

/// The tiles of a picture that is exactly `grid` of them, row by row.
fn cut(image: &RgbImage, grid: Grid, side: usize) -> impl Iterator<Item = Result<RgbImage>> {
    (0..grid.rows * grid.cols).map(move |i| {
        let (row, col) = (i / grid.cols, i % grid.cols);
        let lines = image.data().chunks_exact(3 * image.width()).skip(row * side).take(side);
        let mut data = room(3 * side * side)?;
        data.extend(lines.flat_map(|line| &line[3 * col * side..][..3 * side]));
        Ok(RgbImage::from_parts(side, side, data))
    })
}

/// The longest side, at most the model's own, with which a picture takes no more than `max_tiles` tiles, the overview counted. `None` where only
/// one is left.
fn idefics3_longest_side(width: usize, height: usize, side: usize, longest: usize, max_tiles: usize) -> Option<usize> {
    let n_tiles = |longest: usize| {
        let (width, height) = longest_side_size(width, height, longest);
        let (width, height) = whole_tiles_size(width, height, side);
        match (width / side) * (height / side) {
            1 => 1,
            n => n + 1,
        }
    };
    let fewer = (2..longest.div_ceil(side)).rev().map(|n| n * side);
    let found = std::iter::once(longest).chain(fewer).find(|longest| n_tiles(*longest) <= max_tiles);
    found.filter(|_| max_tiles > 1 || n_tiles(longest) == 1)
}

/// Idefics3's first size: the longer side as given, the other by proportion, made even, at least 1.
fn longest_side_size(width: usize, height: usize, longest: usize) -> (usize, usize) {
    let ratio = width as f64 / height as f64;
    let even = |v: f64| {
        let v = v as usize;
        (v + v % 2).max(1)
    };
    if width >= height { (longest, even(longest as f64 / ratio)) } else { (even(longest as f64 * ratio), longest) }
}

/// Idefics3's second size: both sides rounded up to whole tiles, the shorter one after following the longer one's rounding.
fn whole_tiles_size(width: usize, height: usize, side: usize) -> (usize, usize) {
    let ratio = width as f64 / height as f64;
    let up = |v: usize| v.div_ceil(side).max(1) * side;
    if width >= height {
        let width = up(width);
        (width, up((width as f64 / ratio) as usize))
    } else {
        let height = up(height);
        (up((height as f64 * ratio) as usize), height)
    }
}
