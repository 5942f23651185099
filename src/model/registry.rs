//! Which networks there are: a row for each architecture, by the name that its files give.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::decoder::DecoderConfig;
use crate::model::lm::{Gemma3Config, Lfm2Config, LlamaConfig};

/// Reads a language model's configuration from its file.
type Open<B> = fn(&Gguf) -> Result<Box<dyn DecoderConfig<B>>>;

/// Language models by `general.architecture`.
fn decoders<B: Backend>() -> [(&'static str, Open<B>); 8] {
    [
        ("llama", LlamaConfig::open),
        ("qwen2", LlamaConfig::open),
        ("qwen2vl", LlamaConfig::open),
        ("qwen3", LlamaConfig::open),
        ("qwen3vl", LlamaConfig::open),
        ("phi3", LlamaConfig::open),
        ("lfm2", Lfm2Config::open),
        ("gemma3", Gemma3Config::open),
    ]
}

/// The configuration of the language model in a file.
///
/// # Errors
/// `unsupported_architecture` for a network that is not in the registry (with a hint where the two files were swapped); what its
/// configuration says of the file.
pub fn decoder<B: Backend>(gguf: &Gguf) -> Result<Box<dyn DecoderConfig<B>>> {
    let file = gguf.name();
    let architecture = gguf.metadata.str("general.architecture").unwrap_or("");
    if architecture == "clip" {
        return Err(Error::unsupported_architecture(format!(
            "'{file}' is a vision file (mmproj), not a language model. Were the two files swapped? Give it as mmproj."
        )));
    }
    let all = decoders::<B>();
    match all.iter().find(|(name, _)| *name == architecture) {
        Some((_, open)) => open(gguf),
        None => Err(Error::unsupported_architecture(format!(
            "'{file}' is of the architecture '{architecture}', which is not supported. Language models of the kinds {} are.",
            all.map(|(name, _)| name).join(", ")
        ))),
    }
}
