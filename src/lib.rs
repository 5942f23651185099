//! LLaVA-family vision-language models inside a browser tab.

pub mod backend;
pub mod error;
pub mod gguf;
pub mod quant;

pub use error::{Error, Result};
