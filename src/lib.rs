//! LLaVA-family vision-language models inside a browser tab.

pub mod error;
pub mod gguf;
pub mod quant;
pub mod text;

pub use error::{Error, Result};
