//! LLaVA-family vision-language models inside a browser tab.

pub mod error;
pub mod gguf;
pub mod image;
pub mod quant;
pub mod runtime;

pub use error::{Error, Result};
