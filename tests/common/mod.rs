//! What several test binaries share.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod gguf_writer;
pub mod load_only;
pub mod random;
pub mod safetensors;

pub mod families;
pub mod llava;
