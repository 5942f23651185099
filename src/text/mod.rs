//! Text: from what people and templates write to the tokens a model reads, and back.
//!
//! ```text
//! GGUF metadata ─▶ tokenizer (pieces, special tokens, SentencePiece or byte-level BPE)
//! messages, tools ─▶ chat template ─▶ rendered text ─▶ segments (text | image) ─▶ chunks (token ids | image)
//! token ids ─▶ stream decoder ─▶ text
//! ```
//!
//! Nothing here knows a backend or a browser. What people typed is never trusted: it cannot become a special token or an image.

mod bounded;
mod bpe;
mod chat;
mod date;
mod escape;
mod guard;
mod pattern;
mod pieces;
mod pretokenize;
mod prompt;
mod special;
mod spm;
mod stream;
mod to_json;
mod tokenizer;
mod tools;
pub(crate) mod unicode;
mod unicode_table;
#[doc(hidden)]
pub mod words;

pub use chat::{ChatTemplate, Content, Ending, Message, Part, Variables};
pub use date::Date;
pub use guard::Rendered;
pub use prompt::{Chunk, IMAGE, ImageText, Segment, encode_segments, parse_prompt};
pub use stream::StreamDecoder;
pub use tokenizer::{Special, Tokenizer};
pub use tools::{CallForm, Tool, ToolCall};
