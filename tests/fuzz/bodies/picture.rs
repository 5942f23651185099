//! Pictures: any bytes decoded, and what comes of it made into tiles in each of the ways that models want.
//!
//! * A picture is taken, or refused as `invalid_image`, or for want of memory.
//! * Memory: at most 64 MiB. Pictures of more than [`MAX_PIXELS`] that are not refused by their size alone are left to one run in 256, for
//!   each of them takes as long as a hundred others.
//! * Tiles have the shape that was asked for, and numbers in them.

use std::io::Cursor;

use image::ImageReader;
use llava_web::image::{Grid, Mode, PreprocessSpec};

use super::{expect_code, memory};

/// Pixels of a picture that every run decodes.
const MAX_PIXELS: u64 = 64 * 64;

/// The body. The first byte is the way tiles are made, the rest the file.
pub fn run(data: &[u8]) {
    let Some((&how, file)) = data.split_first() else { return };
    memory::within(64 << 20, || {
        let size =
            ImageReader::new(Cursor::new(file)).with_guessed_format().ok().and_then(|reader| reader.into_dimensions().ok());
        let sum = file.iter().fold(0u32, |sum, &b| sum.wrapping_mul(31).wrapping_add(b.into()));
        // What says that it is larger is refused by its size alone, and that is quick.
        if let Some((width, height)) = size
            && (MAX_PIXELS..1 << 20).contains(&(u64::from(width) * u64::from(height)))
            && !sum.is_multiple_of(256)
        {
            return;
        }
        let picture = match llava_web::image::decode(file) {
            Ok(picture) => picture,
            Err(error) => return expect_code(&error, &["invalid_image", "out_of_memory"]),
        };
        assert_eq!(picture.data().len(), 3 * picture.width() * picture.height());
        let side = [4, 6, 14, 16][usize::from(how >> 2 & 3)];
        let grids = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)].map(|(rows, cols)| Grid { rows, cols });
        let mode = match how & 3 {
            0 => Mode::Pad,
            1 => Mode::ResizeCrop,
            2 => Mode::Anyres(grids[..1 + usize::from(how >> 4) % grids.len()].to_vec()),
            3 if how >> 4 > 9 => {
                [Mode::Lfm2, Mode::Squash, Mode::InternVl { min_tiles: 1, max_tiles: 6 }][usize::from(how >> 4) % 3].clone()
            }
            3 if how >> 4 > 6 => Mode::Whole { min_pixels: 64, max_pixels: 4096 },
            _ => Mode::Idefics3 { longest_side: side * (1 + usize::from(how >> 4) % 4) },
        };
        let spec = PreprocessSpec { image_size: side, patch_size: 2, merge: 1, mean: [0.5; 3], std: [0.25; 3], mode };
        match spec.preprocess(&picture, [usize::MAX, 1, 3][usize::from(how >> 1) % 3]) {
            Ok(pixels) => {
                let n: usize = pixels.tiles.iter().map(|[height, width]| 3 * height * width).sum();
                assert_eq!((pixels.data.len(), pixels.tile(pixels.tiles.len() - 1).is_empty()), (n, false));
                assert_eq!(pixels.place.rows().len(), pixels.place.n_rows());
                assert!(pixels.data.iter().all(|v| (-2.0..=2.0).contains(v)));
            }
            Err(error) => expect_code(&error, &["out_of_memory"]),
        }
    });
}
