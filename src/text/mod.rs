//! Text: from what people and templates write to the tokens a model reads, and back.
//!
//! ```text
//! GGUF metadata ─▶ tokenizer (pieces, special tokens, SentencePiece or byte-level BPE)
//! messages ─▶ chat template ─▶ rendered text ─▶ segments (text | image) ─▶ chunks (token ids | image)
//! token ids ─▶ stream decoder ─▶ text
//! ```
//!
//! Nothing here knows a backend or a browser. What people typed is never trusted: it cannot become a special token or an image.

mod bounded;
mod bpe;
mod chat;
mod escape;
mod pattern;
mod pieces;
mod pretokenize;
mod prompt;
mod special;
mod spm;
mod stream;
mod tokenizer;
mod unicode;
mod unicode_table;
#[doc(hidden)]
pub mod words;

pub use chat::{ChatTemplate, Content, Date, Ending, Message, Part, Rendered, Variables};
pub use prompt::{Chunk, IMAGE, ImageText, Segment, encode_segments, parse_prompt};
pub use stream::StreamDecoder;
pub use tokenizer::{Special, Tokenizer};
