//! Pictures: as they come with a request, and their embeddings as they are kept for follow-up questions.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use crate::backend::Backend;
use crate::error::Result;
use crate::image::{Pixels, Place, RgbImage, decode};
use crate::model::llava::Embedding;

/// Bytes of picture embeddings that are kept, the last one apart; one of LLaVA-1.5-7B takes 9.4 MB.
const MAX_BYTES: usize = 64 << 20;
/// Bytes of pictures that are kept beside their embeddings; one of LLaVA-1.5 takes 1.35 MB. They are in the module's own memory.
const MAX_ORIGINAL_BYTES: usize = 16 << 20;
/// Files whose pictures' hashes are remembered, so that a conversation's pictures are not decoded again for each of its questions.
const MAX_KNOWN_FILES: usize = 64;

/// A picture that comes with a request.
#[derive(Debug, Clone)]
pub enum ImageInput {
    /// The bytes of a file.
    Encoded(Vec<u8>),
    /// Pixels.
    Pixels(RgbImage),
}

impl ImageInput {
    /// The pixels.
    ///
    /// # Errors
    /// `invalid_image`, `out_of_memory`.
    pub fn decoded(self) -> Result<RgbImage> {
        match self {
            Self::Encoded(bytes) => decode(&bytes),
            Self::Pixels(pixels) => Ok(pixels),
        }
    }
}

/// How finely a picture is looked at, in OpenAI's words. What it costs is tiles: each is a way through the vision tower, and rows of the
/// context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// As the reference implementation cuts it: what the model was trained on.
    #[default]
    High,
    /// One tile, as the reference implementation gives it when told not to split.
    Low,
    /// As many tiles as keep the first token near on this device.
    Auto,
}

/// A picture's embedding, shared by the cache and the requests that show it.
pub struct Picture<B: Backend> {
    /// The hash of the picture's pixels.
    pub hash: u64,
    /// The rows.
    pub embedding: Embedding<B>,
    /// How many they are.
    pub n_rows: usize,
    /// Where they lie in the picture.
    pub place: Place,
    /// What they were made of, where the device that holds them can be lost.
    pub original: Option<Rc<Pixels>>,
}

/// The embeddings that were used last.
pub struct PictureCache<B: Backend> {
    /// Those used last stand last.
    pictures: VecDeque<Rc<Picture<B>>>,
    /// Hashes of files and of the pictures in them.
    known_files: VecDeque<(u64, u64)>,
    row_bytes: usize,
}

impl<B: Backend> PictureCache<B> {
    /// An empty cache of rows `n_embd` wide.
    pub fn new(n_embd: usize) -> Self {
        Self { pictures: VecDeque::new(), known_files: VecDeque::new(), row_bytes: 4 * n_embd }
    }

    /// Forgets all embeddings.
    pub fn clear(&mut self) {
        self.pictures.clear();
    }

    /// The embedding of the picture with this hash.
    pub fn get(&mut self, hash: u64) -> Option<Rc<Picture<B>>> {
        let at = self.pictures.iter().position(|p| p.hash == hash)?;
        let picture = self.pictures.remove(at)?;
        self.pictures.push_back(picture.clone());
        Some(picture)
    }

    /// Keeps an embedding; those not used for longest make room for it.
    pub fn keep(&mut self, picture: Picture<B>) -> Rc<Picture<B>> {
        let picture = Rc::new(picture);
        self.pictures.push_back(picture.clone());
        let original_bytes = |p: &Picture<B>| p.original.as_ref().map_or(0, |pixels| pixels.data.len() * 4);
        let row_bytes = self.row_bytes;
        let bytes_of = |p: &Picture<B>| p.n_rows * row_bytes * (1 + p.embedding.deeper.len());
        let mut bytes: usize = self.pictures.iter().map(|p| bytes_of(p)).sum();
        let mut original: usize = self.pictures.iter().map(|p| original_bytes(p)).sum();
        while (bytes > MAX_BYTES || original > MAX_ORIGINAL_BYTES) && self.pictures.len() > 1 {
            if let Some(picture) = self.pictures.pop_front() {
                bytes -= bytes_of(&picture);
                original -= original_bytes(&picture);
            }
        }
        picture
    }

    /// The hash of a picture seen in at most so many tiles, and its pixels unless its embedding is kept already.
    ///
    /// # Errors
    /// `invalid_image`, `out_of_memory`.
    pub fn look_at(&mut self, image: &ImageInput, max_tiles: usize) -> Result<(u64, Option<RgbImage>)> {
        let bytes = match image {
            ImageInput::Pixels(pixels) => return Ok((in_tiles(pixels.content_hash(), max_tiles), Some(pixels.clone()))),
            ImageInput::Encoded(bytes) => bytes,
        };
        let mut hasher = std::hash::DefaultHasher::new();
        bytes.hash(&mut hasher);
        max_tiles.hash(&mut hasher);
        let file = hasher.finish();
        if let Some((_, hash)) = self.known_files.iter().find(|(known, _)| *known == file)
            && self.pictures.iter().any(|p| p.hash == *hash)
        {
            return Ok((*hash, None));
        }
        let pixels = decode(bytes)?;
        let hash = in_tiles(pixels.content_hash(), max_tiles);
        if self.known_files.len() == MAX_KNOWN_FILES {
            self.known_files.pop_front();
        }
        self.known_files.push_back((file, hash));
        Ok((hash, Some(pixels)))
    }
}

/// The hash of a picture seen in at most so many tiles; where their number is not limited, the picture's own.
fn in_tiles(hash: u64, max_tiles: usize) -> u64 {
    if max_tiles == usize::MAX { hash } else { hash ^ (max_tiles as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) }
}
