//! Prompts as the language model takes them: stretches of tokens with images between.

use super::tokenizer::{Special, Tokenizer};
use crate::error::{Error, Result};

/// What stands for an image in a prompt that a person can read.
pub const IMAGE: &str = "<image>";

/// A stretch of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Text in which special tokens are parsed.
    Text {
        /// The text, with `escape` inside what must not be parsed.
        text: String,
        /// A character to take out once the special tokens are found; `None` where there is none.
        escape: Option<char>,
    },
    /// The image with this number.
    Image(usize),
}

/// A stretch of a tokenized prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    /// Token ids.
    Tokens(Vec<u32>),
    /// The image with this number.
    Image(usize),
}

/// Cuts a raw prompt at each [`IMAGE`]. The prompt is the caller's own in full: special tokens in it are parsed.
///
/// # Errors
/// `invalid_request` unless there are as many markers as images.
pub fn parse_prompt(prompt: &str, n_images: usize) -> Result<Vec<Segment>> {
    let n_markers = prompt.matches(IMAGE).count();
    if n_markers != n_images {
        return Err(Error::invalid_request(format!(
            "The prompt has {n_markers} '{IMAGE}' but {n_images} images were given. Write '{IMAGE}' once for each image, where it stands."
        )));
    }
    Ok(split_at_images(prompt, IMAGE, None))
}

/// Cuts a text at each `marker`; the images are numbered in the order they stand.
pub(super) fn split_at_images(text: &str, marker: &str, escape: Option<char>) -> Vec<Segment> {
    let mut segments = vec![];
    for (i, text) in text.split(marker).enumerate() {
        if i > 0 {
            segments.push(Segment::Image(i - 1));
        }
        if !text.is_empty() {
            segments.push(Segment::Text { text: text.into(), escape });
        }
    }
    segments
}

/// What an image is to the text around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageText {
    /// A gap: the text behind it begins anew, with the leading space that a SentencePiece vocabulary gives to each. So was LLaVA trained.
    Gap,
    /// Tokens like others, which the text behind it goes on from.
    Tokens,
}

/// Tokenizes a prompt. It begins with BOS if the model wants that, once even where the text says it too. Each stretch of text
/// is tokenized for itself.
pub fn encode_segments(tokenizer: &Tokenizer, segments: &[Segment], image: ImageText) -> Vec<Chunk> {
    let mut begins = true;
    let mut chunks: Vec<Chunk> = segments
        .iter()
        .map(|segment| match segment {
            Segment::Image(i) => {
                begins = image == ImageText::Gap;
                Chunk::Image(*i)
            }
            Segment::Text { text, escape } => {
                let mut ids = vec![];
                tokenizer.encode_escaped(text, Special::Parse, *escape, begins, &mut ids);
                begins = true;
                Chunk::Tokens(ids)
            }
        })
        .filter(|chunk| *chunk != Chunk::Tokens(vec![]))
        .collect();
    if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.add_bos()) {
        match chunks.first_mut() {
            Some(Chunk::Tokens(ids)) if ids.first() == Some(&bos) => {}
            Some(Chunk::Tokens(ids)) => ids.insert(0, bos),
            _ => chunks.insert(0, Chunk::Tokens(vec![bos])),
        }
    }
    chunks
}
