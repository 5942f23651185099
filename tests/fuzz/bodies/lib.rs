//! What the fuzz targets do with their bytes, apart from what drives them: `tests/fuzz_corpora.rs` runs the same bodies over the corpora
//! with a stable compiler.
//!
//! Each body takes any bytes and returns; it panics where something is wrong. What is asserted beyond "no panic" stands at the head of
//! each module.

pub mod choices;
pub mod gguf_file;
pub mod header;
pub mod language_model;
pub mod memory;
pub mod models;
pub mod pattern;
pub mod picture;
pub mod schema;
pub mod seeds;
pub mod session;
pub mod template;
pub mod tokenizer;
pub mod validator;
pub mod vision_model;
pub mod words;

#[allow(dead_code, reason = "made for the tests")]
#[path = "../../common/gguf_writer.rs"]
pub mod gguf_writer;
#[allow(dead_code, reason = "made for the tests")]
#[path = "../../common/random.rs"]
pub mod random;

/// A target's name and its body.
pub type Body = (&'static str, fn(&[u8]));

/// All targets.
pub const BODIES: &[Body] = &[
    ("header", header::run),
    ("language_model", language_model::run),
    ("vision_model", vision_model::run),
    ("tokenizer", tokenizer::run),
    ("words", words::run),
    ("template", template::run),
    ("schema", schema::run),
    ("pattern", pattern::run),
    ("session", session::run),
    ("picture", picture::run),
];

/// The text of an input: what is not UTF-8 is replaced, so that no input is wasted.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every error has to be of one of the public codes that this input can be to blame for; `internal` never is.
pub fn expect_code(error: &llava_web::Error, codes: &[&str]) {
    assert!(codes.contains(&error.code()), "{} is none of {codes:?}: {}", error.code(), error.message());
    assert!(error.message().len() < 4096, "an error of {} bytes", error.message().len());
}
