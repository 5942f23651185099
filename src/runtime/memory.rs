//! All the memory that a model will take, asked for before the first of its weights is read: a model that does not fit is refused at
//! once, with the bytes it needs and what there is.

use crate::backend::{Backend, KvSpec};
use crate::error::{Error, Result};
use crate::model::weights::{Plan, Reserved};
use crate::quant::Format;

/// Bytes that a model takes, by what takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    language_model: u64,
    vision: u64,
    kv_cache: u64,
    activations: u64,
}

impl Needs {
    fn total(&self) -> u64 {
        [self.language_model, self.vision, self.kv_cache, self.activations].into_iter().fold(0, u64::saturating_add)
    }
}

/// A model's memory.
pub(super) struct Memory<'a, B: Backend> {
    pub(super) language_model: Reserved<'a, B>,
    pub(super) vision: Option<Reserved<'a, B>>,
    pub(super) cache: B::KvCache,
    /// Bytes of the language model's matrices.
    pub(super) language_model_bytes: u64,
}

impl<'a, B: Backend> Memory<'a, B> {
    /// Takes the memory for these plans (checked; matrices of the second stored in `quantize_vision` where that is given), the keys and
    /// values, and `activations` bytes more.
    ///
    /// # Errors
    /// `out_of_memory` with the bytes that are needed and those that there are; nothing is taken then. `device_lost`.
    pub(super) async fn take(
        backend: &mut B,
        language_model: Plan<'a>,
        vision: Option<(Plan<'a>, Option<Format>)>,
        kv: &KvSpec,
        activations: u64,
    ) -> Result<Self> {
        let needs = Needs {
            language_model: language_model.n_bytes(backend, None),
            vision: vision.as_ref().map_or(0, |(plan, quantize_to)| plan.n_bytes(backend, *quantize_to)),
            kv_cache: kv.n_bytes(),
            activations,
        };
        let name = language_model.gguf().name().to_string();
        let no_more = |limit| {
            format!(
                "no more than {limit} can be had here. Close other tabs, choose a smaller model, or load it with a smaller contextSize."
            )
        };
        if let Some(limit) = backend.memory_limit().filter(|limit| needs.total() > *limit) {
            return Err(too_large(&name, &needs, kv, &no_more(limit), backend));
        }
        let mut language_model = Reserved::new(language_model, None);
        let mut vision = vision.map(|(plan, quantize_to)| Reserved::new(plan, quantize_to));
        backend.reserve();
        let taken = async {
            language_model.take_memory(backend).await?;
            let language_model_bytes = backend.weight_bytes();
            if let Some(vision) = &mut vision {
                vision.take_memory(backend).await?;
            }
            let cache = backend.kv_cache(kv)?;
            backend.reserved(activations).await?;
            Ok((language_model_bytes, cache))
        };
        match taken.await {
            Ok((language_model_bytes, cache)) => Ok(Self { language_model, vision, cache, language_model_bytes }),
            Err(error) => match backend.cause(error).await {
                Error::OutOfMemory(why) => {
                    let granted = backend.bytes_before_refusal();
                    Err(too_large(&name, &needs, kv, &format!("after {granted} bytes there were no more. {why}"), backend))
                }
                other => Err(other),
            },
        }
    }
}

/// The error of a model that does not fit; `what_there_is` ends the sentence and says what to do.
fn too_large<B: Backend>(name: &str, needs: &Needs, kv: &KvSpec, what_there_is: &str, backend: &B) -> Error {
    let Needs { language_model, vision, kv_cache, activations } = needs;
    let total = needs.total();
    let elsewhere = backend.elsewhere(total).map_or(String::new(), |text| format!(" {text}"));
    Error::out_of_memory(format!(
        "'{name}' needs {total} bytes of memory ({language_model} for the language model, {vision} for the vision file, {kv_cache} for the keys \
         and values of {} tokens, {activations} to compute with), but {what_there_is}{elsewhere}",
        kv.n_ctx
    ))
}
