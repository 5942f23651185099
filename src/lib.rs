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
//! # In Rust
//!
//! Browsers use the JavaScript API (`www/llava-web.d.ts`). Natively an engine is loaded, asked, and stepped until the answer is done:
//!
//! ```no_run
//! use llava_web::backend::cpu::Cpu;
//! use llava_web::gguf::{RangedSource, source::FileSource};
//! use llava_web::runtime::engine::{Engine, Event, ImageInput, LoadOptions};
//! use llava_web::runtime::request;
//!
//! fn open(path: &str) -> llava_web::Result<Vec<Box<dyn RangedSource>>> {
//!     Ok(vec![Box::new(FileSource::open(path)?)])
//! }
//!
//! /// A clock in milliseconds, for the times in the usage.
//! fn now() -> f64 {
//!     static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
//!     START.elapsed().as_secs_f64() * 1e3
//! }
//!
//! async fn ask(model: &str, mmproj: &str, picture: Vec<u8>) -> llava_web::Result<String> {
//!     let mut engine = Engine::load(Cpu::new(), open(model)?, Some(open(mmproj)?), LoadOptions::new(now), &mut |_| {}).await?;
//!     // As in OpenAI's API; a picture is the number of one of those that are given beside it.
//!     let content = r#"[{ "type": "image", "image": 0 }, { "type": "text", "text": "Is there a dog?" }]"#;
//!     let request = format!(r#"{{ "messages": [{{ "role": "user", "content": {content} }}], "temperature": 0 }}"#);
//!     engine.start_chat(&request::parse(&request)?, &[ImageInput::Encoded(picture)])?;
//!     let mut answer = String::new();
//!     loop {
//!         match engine.step().await? {
//!             Event::Progress { .. } => {}
//!             Event::Token { text, .. } => answer += &text,
//!             Event::Done { text, .. } => return Ok(answer + &text),
//!         }
//!     }
//! }
//!
//! let picture = std::fs::read("www/examples/pets.png").unwrap();
//! let answer = pollster::block_on(ask("www/models/house.gguf", "www/models/house-mmproj.gguf", picture)).unwrap();
//! assert!(answer.starts_with("Yes"), "{answer}");
//! ```
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
