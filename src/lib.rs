//! LLaVA-family vision-language models inside a browser tab: a picture and a question in, a streamed answer out.
//!
//! # The data's way
//!
//! ```text
//! two GGUF files ─▶ gguf ─▶ model::weights ─▶ backend (weights)
//! picture ─▶ image ─▶ model::vision ─▶ model::projector ─┐ rows [n_rows, n_embd]
//! messages ─▶ text::chat ─▶ text (ids) ─▶ embeddings ────┴─▶ model::lm ─▶ logits ─▶ runtime::sampler ─▶ text
//! ```
//!
//! # Layers
//!
//! ```text
//! www/ ─▶ pkg (wasm) ─▶ runtime ─▶ model ─▶ backend (trait) ─▶ quant ─▶ error
//!                          └────▶ text, image      ▲
//!    model ─▶ image, gguf ─▶ quant     text, image ─▶ gguf    backend::{cpu,gpu} implement it
//! ```
//!
//! 1. [`gguf`], [`quant`], [`image`] and [`text`] know no backend.
//! 2. [`model`] and [`runtime`] never name a particular backend or a JavaScript type.
//! 3. wgpu is only used under `backend::gpu`; `wasm_bindgen`, `js_sys` and `web_sys` only under `wasm`.
//! 4. Only `wasm` (and native examples and tests) name a particular backend.
//! 5. In `www`, only the worker imports the wasm package, only the engine client creates the worker, and the elements import neither.
//!
//! `tests/layering.rs` reads the `use` and `import` lines and holds them to this.
//!
//! # Glossary
//!
//! | word | meaning |
//! | --- | --- |
//! | mmproj | the GGUF file that holds a vision tower and its projector |
//! | tower | the CLIP vision transformer |
//! | patch | a square of pixels; one row of the tower |
//! | tile | a square picture that the tower takes; a large picture may be cut into several |
//! | projector | the layers that bring features to the language model's width |
//! | `n_embd`, `n_ff`, `n_heads`, `n_kv_heads`, `head_dim` | the widths of a transformer |
//! | `n_ctx` | positions of the context |
//! | `n_kv` | elements of all key (or value) heads at one position |
//! | chunk | rows of a prompt that are run at once |
//! | prefill, decode | computing the prompt; computing one token after another |
//! | slot | what stands at a position: a token, or a row of a picture |
//! | position | where a slot stands in the context, counted from 0; keys and values are stored by it and turned by its angle |
//! | group | 32 consecutive elements of a row (`backend/cpu/kernel`); the vectors of a quad are made by it |
//! | quad | four rows of a quantized matrix, interleaved so that each 32-bit lane belongs to one row |
//! | panel | eight rows of floats (or keys, or values) side by side, element after element |
//! | plane | one part of a format's blocks (its low bits, its scales) gathered for a whole matrix, as GPUs load it |
//! | shard | some rows of a matrix in a buffer of their own, where the whole is beyond what a GPU binds |
//! | lane | one element of a SIMD vector; in shaders, one of the threads that share a row |
//! | part | what one thread computes of an op; `work` is counted in multiply-adds |

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
