//! LLaVA-family vision-language models inside a browser tab.

pub mod backend;
pub mod error;
pub mod gguf;
pub mod image;
pub mod model;
pub mod quant;
pub mod runtime;
pub mod text;
#[cfg(target_arch = "wasm32")]
pub mod wasm;

pub use error::{Error, Result};
