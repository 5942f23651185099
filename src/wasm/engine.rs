//! The engine's bindings. Requests and replies are JSON; bytes, pixels and floats are typed arrays.

use js_sys::{Array, Float32Array, Function, Int32Array, Object};
use serde::Deserialize;
use wasm_bindgen::prelude::*;

use crate::backend::KvFormat;
use crate::backend::cpu::Cpu;
use crate::error::{Error, Result};
use crate::gguf::RangedSource;
use crate::quant::Format;
use crate::runtime::engine::{Engine as Runtime, LoadOptions};
use crate::runtime::request::{self, RequestMessage};
use crate::text::{Date, Special};
use crate::wasm::source::JsSource;
use crate::wasm::values::{image, images, json, set, tensor, to_js};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Options {
    context_size: Option<f64>,
    chat_template: Option<String>,
    quantize_mmproj: Option<String>,
    kv_format: Option<String>,
}

impl Options {
    fn load_options(self) -> Result<LoadOptions> {
        let context_size = match self.context_size {
            None => None,
            Some(n) if n >= 1.0 && n.fract() == 0.0 && n < f64::from(i32::MAX) => Some(n as usize),
            Some(n) => return Err(Error::invalid_request(format!("contextSize is {n}; it must be a whole number of tokens."))),
        };
        let quantize_mmproj = match self.quantize_mmproj.as_deref() {
            None => None,
            Some("q4_0") => Some(Format::Q4_0),
            Some("q8_0") => Some(Format::Q8_0),
            Some(other) => {
                return Err(Error::invalid_request(format!("quantizeMmproj is '{other}'; it can be 'q4_0' or 'q8_0'.")));
            }
        };
        let kv_format = match self.kv_format.as_deref() {
            None | Some("f16") => KvFormat::F16,
            Some("f32") => KvFormat::F32,
            Some(other) => return Err(Error::invalid_request(format!("kvFormat is '{other}'; it can be 'f16' or 'f32'."))),
        };
        let date = js_sys::Date::new_0();
        let today = Some(Date { year: date.get_full_year() as i32, month: date.get_month() + 1, day: date.get_date() });
        Ok(LoadOptions {
            context_size,
            chat_template: self.chat_template,
            quantize_mmproj,
            kv_format,
            today,
            ..LoadOptions::new(performance_now)
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BenchmarkOptions {
    prompt_tokens: usize,
    generated_tokens: usize,
    runs: usize,
}

impl Default for BenchmarkOptions {
    fn default() -> Self {
        Self { prompt_tokens: 512, generated_tokens: 128, runs: 3 }
    }
}

/// A loaded model on the CPU.
#[wasm_bindgen]
pub struct Engine {
    runtime: Runtime<Cpu>,
}

fn sources(list: Array) -> Result<Vec<Box<dyn RangedSource>>> {
    list.iter().map(|s| JsSource::new(s).map(|s| Box::new(s) as Box<dyn RangedSource>)).collect()
}

/// Runs `f` and gives JavaScript its error.
fn checked<T>(result: Result<T>) -> std::result::Result<T, JsValue> {
    result.map_err(|e| to_js(&e))
}

#[wasm_bindgen]
impl Engine {
    /// Loads a model from sources `{ name, size, read(offset, length) }`; `on_progress` gets JSON.
    pub async fn load(
        model: Array,
        mmproj: Option<Array>,
        options: String,
        on_progress: Function,
    ) -> std::result::Result<Engine, JsValue> {
        let loaded = async {
            let options = request::parse::<Options>(&options)?.load_options()?;
            let model = sources(model)?;
            let mmproj = mmproj.map(sources).transpose()?;
            Runtime::load(Cpu::new(), model, mmproj, options, &mut |p| {
                if let Ok(text) = json(&p) {
                    // A page whose progress callback throws still gets its model.
                    if let Err(thrown) = on_progress.call1(&JsValue::NULL, &text.into()) {
                        web_sys::console::warn_2(&"The progress callback failed:".into(), &thrown);
                    }
                }
            })
            .await
        };
        checked(loaded.await.map(|runtime| Engine { runtime }))
    }

    /// `engine.info` as JSON, but for the device.
    pub fn info(&self) -> std::result::Result<String, JsValue> {
        let mut info = self.runtime.info().clone();
        info.bytes.wasm_heap = core::arch::wasm32::memory_size::<0>() as u64 * 65536;
        checked(json(&info))
    }

    /// Whether the module was compiled with `simd128`, and with the relaxed instructions.
    pub fn simd() -> String {
        let kind = match (cfg!(target_feature = "relaxed-simd"), cfg!(target_feature = "simd128")) {
            (true, _) => "relaxed-simd",
            (_, true) => "simd128",
            _ => "scalar",
        };
        kind.to_string()
    }

    /// Ids of a text.
    pub fn tokenize(&self, text: &str, special: bool, bos: bool) -> Vec<u32> {
        let special = if special { Special::Parse } else { Special::Plain };
        self.runtime.tokenizer().encode(text, special, bos)
    }

    /// The text of ids.
    pub fn detokenize(&self, ids: &[u32]) -> std::result::Result<String, JsValue> {
        let n_vocab = self.runtime.info().vocabulary_size;
        checked(match ids.iter().find(|id| **id as usize >= n_vocab) {
            Some(id) => Err(Error::invalid_request(format!("The token {id} is not in the vocabulary of {n_vocab}."))),
            None => Ok(self.runtime.tokenizer().decode(ids, false)),
        })
    }

    /// A conversation as the model is given it.
    #[wasm_bindgen(js_name = applyChatTemplate)]
    pub fn apply_chat_template(&self, messages: &str, add_generation_prompt: bool) -> std::result::Result<String, JsValue> {
        checked(
            request::parse::<Vec<RequestMessage>>(messages)
                .and_then(|messages| self.runtime.apply_chat_template(&messages, add_generation_prompt)),
        )
    }

    /// Begins a chat completion.
    #[wasm_bindgen(js_name = startChat)]
    pub fn start_chat(&mut self, request: &str, pictures: Array) -> std::result::Result<(), JsValue> {
        checked((|| self.runtime.start_chat(&request::parse(request)?, &images(&pictures)?))())
    }

    /// Begins a raw completion.
    #[wasm_bindgen(js_name = startCompletion)]
    pub fn start_completion(&mut self, request: &str, pictures: Array) -> std::result::Result<(), JsValue> {
        checked((|| self.runtime.start_completion(&request::parse(request)?, &images(&pictures)?))())
    }

    /// Does one bounded piece of work; gives an event as JSON.
    pub async fn step(&mut self) -> std::result::Result<String, JsValue> {
        let event = self.runtime.step().await;
        checked(event.and_then(|event| json(&event)))
    }

    /// The next step ends the generation.
    pub fn abort(&mut self) {
        self.runtime.abort();
    }

    /// A picture's rows as the language model is given them: `{ data, shape, milliseconds }`.
    #[wasm_bindgen(js_name = embedImage)]
    pub async fn embed_image(&mut self, picture: JsValue) -> std::result::Result<Object, JsValue> {
        let start = performance_now();
        let embedded = async {
            let picture = image(&picture)?;
            self.runtime.embed_image(&picture.decoded()?).await
        };
        let (data, shape) = checked(embedded.await)?;
        let out = tensor(&data, &shape);
        set(&out, "milliseconds", &(performance_now() - start).into());
        Ok(out)
    }

    /// A picture as the vision tower is given it: `{ data, shape }`.
    #[wasm_bindgen(js_name = preprocessImage)]
    pub fn preprocess_image(&self, picture: JsValue) -> std::result::Result<Object, JsValue> {
        let pixels = checked(image(&picture).and_then(|picture| self.runtime.preprocess(&picture.decoded()?)))?;
        Ok(tensor(&pixels.data, &[pixels.tiles, 3, pixels.height, pixels.width]))
    }

    /// Runs ids or a prompt from an empty context: `{ logits, tokens }`.
    pub async fn evaluate(&mut self, request: String, pictures: Array) -> std::result::Result<Object, JsValue> {
        let evaluated = async {
            let pictures = images(&pictures)?;
            self.runtime.evaluate(&request::parse(&request)?, &pictures).await
        };
        let (logits, ids) = checked(evaluated.await)?;
        let ids: Vec<i32> = ids.into_iter().map(|id| id.map_or(-1, |id| id as i32)).collect();
        let out = Object::new();
        set(&out, "logits", &Float32Array::from(logits.as_slice()));
        set(&out, "tokens", &Int32Array::from(ids.as_slice()));
        Ok(out)
    }

    /// Measures prefill and decode; gives JSON.
    pub async fn benchmark(&mut self, options: String) -> std::result::Result<String, JsValue> {
        let measured = async {
            let BenchmarkOptions { prompt_tokens, generated_tokens, runs } = request::parse(&options)?;
            self.runtime.benchmark(prompt_tokens, generated_tokens, runs).await
        };
        checked(measured.await.and_then(|report| json(&report)))
    }

    /// Forgets the conversation.
    pub fn reset(&mut self) {
        self.runtime.reset();
    }
}
