//! Whole language models: loaded, and asked for two tokens, twice.
//!
//! * Memory: at most 32 MiB are to be had; what asks for more has to take no for an answer.
//! * Errors are the file's or the memory's; a request that failed leaves an engine that takes the next.

use serde_json::json;

use super::{expect_code, memory, models};

/// What a file may be refused for.
pub const LOAD_CODES: &[&str] =
    &["invalid_gguf", "unsupported_quantization", "unsupported_architecture", "out_of_memory", "mmproj_mismatch"];
/// What a request may be refused for once the model is there.
pub const RUN_CODES: &[&str] = &["invalid_gguf", "invalid_request", "context_overflow", "out_of_memory"];

/// The body.
pub fn run(data: &[u8]) {
    if data.len() > 1 << 17 {
        return;
    }
    memory::within(32 << 20, || match models::load(data, None) {
        Ok(mut engine) => {
            for prompt in ["a b: hello", "a b"] {
                if let Err(error) =
                    models::complete(&mut engine, &json!({ "prompt": prompt, "max_tokens": 2, "temperature": 0 }), &[])
                {
                    expect_code(&error, RUN_CODES);
                }
            }
        }
        Err(error) => expect_code(&error, LOAD_CODES),
    });
}
