//! Language models. A variation of LLaMA (biases, RoPE style, tied output, fused tensors) is a field of [`LlamaConfig`], not a
//! file of its own; a new file is for a new structure of the block.

mod blocks;
mod config;
mod gemma3;
mod lfm2;
mod llama;
mod placed;

pub use config::LlamaConfig;
pub use gemma3::Gemma3Config;
pub use lfm2::Lfm2Config;
