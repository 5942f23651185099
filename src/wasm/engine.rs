//! The engine's bindings. Requests and replies are JSON; bytes, pixels and floats are typed arrays.

use std::rc::Rc;

use js_sys::{Array, Float32Array, Function, Int32Array, Object, Promise, Uint8Array};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::backend::KvFormat;
use crate::backend::cpu::Cpu;
use crate::backend::gpu::{Device, DeviceOptions, Gpu};
use crate::error::{Error, Result, shown};
use crate::gguf::RangedSource;
use crate::quant::Format;
use crate::runtime::engine::{Engine as Generic, ImageInput, Info, LoadOptions, LoadProgress, Pause};
use crate::runtime::recovery;
use crate::runtime::request::{self, ChatRequest, LookedAtRequest};
use crate::runtime::saved_session::SavedBytes;
use crate::text::{Date, Special, Tokenizer};
use crate::wasm::source::JsSource;
use crate::wasm::threads;
use crate::wasm::values::{from_js, image, images, json, set, tensor, to_js};

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
    /// Threads for the CPU backend at most, where the module was built for them.
    max_threads: usize,
    /// Whether it should be exactly so many.
    exact_threads: bool,
}

/// What is known of the device that is wanted.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WantedDevice {
    device: String,
    /// Threads of the adapter's smallest subgroup, where the page has seen to it that devices are made with subgroups.
    subgroup_min_size: u32,
    /// Whether the browser's WGSL has products of four packed bytes.
    packed_dots: bool,
    /// How keys and values are going to be kept: what only one way needs is tried where it is wanted.
    kv_format: Option<String>,
    /// Trusts the GPU without asking. For tests of other things on adapters that take long to answer.
    skip_self_test: bool,
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
                return Err(Error::invalid_request(format!("quantizeMmproj is '{}'; it can be 'q4_0' or 'q8_0'.", shown(other))));
            }
        };
        let kv_format = kv_format(self.kv_format.as_deref())?;
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

/// How keys and values are kept.
fn kv_format(name: Option<&str>) -> Result<KvFormat> {
    match name {
        None => Ok(KvFormat::F16),
        Some(name) => KvFormat::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| Error::invalid_request(format!("kvFormat is '{}'; it can be 'f16', 'q8_0' or 'f32'.", shown(name)))),
    }
}

/// The GPU to compute on, where there is one that passes its self-test.
#[wasm_bindgen]
pub struct OpenDevice {
    gpu: Option<(Rc<Device>, Gpu)>,
    note: Option<String>,
}

#[wasm_bindgen]
impl OpenDevice {
    /// Opens and tries the GPU. With the device `webgpu` one that does not pass is an error; with `auto` the CPU is to compute then.
    pub async fn open(wanted: String) -> std::result::Result<OpenDevice, JsValue> {
        let opened = async {
            let WantedDevice { device, subgroup_min_size, packed_dots, kv_format: wanted, skip_self_test } =
                request::parse(&wanted)?;
            let wanted = kv_format(wanted.as_deref())?;
            let open = async |allow_software| {
                let options = DeviceOptions { allow_software, subgroup_min_size, packed_dots, ..DeviceOptions::default() };
                let device = Device::open(options).await?;
                let mut gpu = Gpu::new(device.clone())?;
                if !skip_self_test && let Err(error) = gpu.self_test(wanted).await {
                    return Err(device.cause(error).await);
                }
                Ok((device, gpu))
            };
            match device.as_str() {
                "webgpu" => open(true).await.map(|gpu| Self { gpu: Some(gpu), note: None }),
                "auto" => match open(false).await {
                    Ok(gpu) => Ok(Self { gpu: Some(gpu), note: None }),
                    // It may be back in a moment.
                    Err(error @ Error::DeviceLost(_)) => Err(error),
                    Err(error) => {
                        Ok(Self { gpu: None, note: Some(format!("The engine computes on the CPU: {}", error.message())) })
                    }
                },
                other => Err(Error::invalid_request(format!("device is '{}'; it can be 'auto' or 'webgpu'.", shown(other)))),
            }
        };
        checked(opened.await)
    }

    /// Whether it is a GPU; the CPU otherwise.
    #[wasm_bindgen(js_name = isGpu)]
    pub fn is_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// Why it is not the device that was hoped for.
    pub fn note(&self) -> Option<String> {
        self.note.clone()
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

/// A loaded model, on the device it was loaded for.
enum Runtime {
    Cpu(Box<Generic<Cpu>>),
    Gpu(Box<Generic<Gpu>>),
}

/// Does the same with the engine of either backend.
macro_rules! on {
    ($runtime:expr, $engine:ident => $do:expr) => {
        match $runtime {
            Runtime::Cpu($engine) => $do,
            Runtime::Gpu($engine) => $do,
        }
    };
}

/// Does the same with the engine of either backend and waits for it; an error is put down to what is behind it.
macro_rules! wait_on {
    ($runtime:expr, $engine:ident => $do:expr) => {
        on!($runtime, $engine => match $do.await {
            Ok(done) => Ok(done),
            Err(error) => Err($engine.cause(error).await),
        })
    };
}

/// `engine.info.device`.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum DeviceInfo<'a> {
    Cpu { threads: usize, simd: String },
    Webgpu { adapter: &'a str, features: Vec<&'static str> },
}

/// `engine.info`.
#[derive(Serialize)]
struct InfoOnDevice<'a> {
    #[serde(flatten)]
    info: Info,
    device: DeviceInfo<'a>,
}

/// A loaded model.
#[wasm_bindgen]
pub struct Engine {
    runtime: Runtime,
}

fn sources(list: Array) -> Result<Vec<Box<dyn RangedSource>>> {
    list.iter().map(|s| JsSource::new(s).map(|s| Box::new(s) as Box<dyn RangedSource>)).collect()
}

/// A turn for the page, as the page gives it.
fn pausing(pause: Function) -> Pause {
    Rc::new(move || {
        let pause = pause.clone();
        Box::pin(async move {
            let turn = pause.call0(&JsValue::NULL).map_err(|e| from_js(&e))?;
            JsFuture::from(Promise::resolve(&turn)).await.map_err(|e| from_js(&e))?;
            Ok(())
        })
    })
}

/// A request of these messages and tools, both as JSON.
fn conversation(messages: &str, tools: Option<String>) -> Result<ChatRequest> {
    let tools = tools.as_deref().map(request::parse).transpose()?;
    Ok(ChatRequest { messages: request::parse(messages)?, tools, ..ChatRequest::default() })
}

/// Runs `f` and gives JavaScript its error.
fn checked<T>(result: Result<T>) -> std::result::Result<T, JsValue> {
    result.map_err(|e| to_js(&e))
}

#[wasm_bindgen]
impl Engine {
    /// Loads a model from sources `{ name, size, read(offset, length) }`; `on_progress` gets JSON; `start_helpers(module, memory,
    /// helpers)` starts a worker for each of `helpers`, which calls `help` with it, and resolves to those that came; `pause()` is called
    /// between two steps of long computations, which end where it rejects; without a `device` the CPU computes.
    pub async fn load(
        model: Array,
        mmproj: Option<Array>,
        options: String,
        on_progress: Function,
        start_helpers: Function,
        pause: Function,
        device: Option<OpenDevice>,
    ) -> std::result::Result<Engine, JsValue> {
        let loaded = async {
            let options = request::parse::<Options>(&options)?;
            let gpu = device.and_then(|device| device.gpu);
            let (max_threads, exact_threads) = (options.max_threads, options.exact_threads);
            let options = LoadOptions { pause: Some(pausing(pause)), ..options.load_options()? };
            let model = sources(model)?;
            let mmproj = mmproj.map(sources).transpose()?;
            let mut progress = |p: LoadProgress<'_>| {
                if let Ok(text) = json(&p) {
                    // A page whose progress callback throws still gets its model.
                    if let Err(thrown) = on_progress.call1(&JsValue::NULL, &text.into()) {
                        web_sys::console::warn_2(&"The progress callback failed:".into(), &thrown);
                    }
                }
            };
            let runtime = match gpu {
                Some((device, gpu)) => match Generic::load(gpu, model, mmproj, options, &mut progress).await {
                    Ok(engine) => {
                        // What is written to a device that went away meanwhile goes nowhere, without a word.
                        device.ping().await?;
                        Runtime::Gpu(Box::new(engine))
                    }
                    Err(error) => return Err(device.cause(error).await),
                },
                None => {
                    let mut pool = threads::pool(max_threads, &start_helpers).await?;
                    if !exact_threads {
                        pool.choose_n_threads(performance_now);
                    }
                    let cpu = Cpu::new().with_pool(pool);
                    Runtime::Cpu(Box::new(Generic::load(cpu, model, mmproj, options, &mut progress).await?))
                }
            };
            Ok(Engine { runtime })
        };
        checked(loaded.await)
    }

    /// `engine.info` as JSON.
    pub fn info(&self) -> std::result::Result<String, JsValue> {
        let mut info = on!(&self.runtime, engine => engine.info()).clone();
        info.bytes.wasm_heap = core::arch::wasm32::memory_size::<0>() as u64 * 65536;
        let device = match &self.runtime {
            Runtime::Cpu(engine) => DeviceInfo::Cpu { threads: engine.backend().pool().n_threads(), simd: Self::simd() },
            Runtime::Gpu(engine) => {
                let device = engine.backend().device();
                info.warnings.extend(device.notes());
                DeviceInfo::Webgpu { adapter: device.name(), features: device.features() }
            }
        };
        checked(json(&InfoOnDevice { info, device }))
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
        self.tokenizer().encode(text, special, bos)
    }

    /// The text of ids.
    pub fn detokenize(&self, ids: &[u32]) -> std::result::Result<String, JsValue> {
        let n_vocab = on!(&self.runtime, engine => engine.info().vocabulary_size);
        checked(match ids.iter().find(|id| **id as usize >= n_vocab) {
            Some(id) => Err(Error::invalid_request(format!("The token {id} is not in the vocabulary of {n_vocab}."))),
            None => Ok(self.tokenizer().decode(ids, false)),
        })
    }

    /// A conversation as the model is given it.
    #[wasm_bindgen(js_name = applyChatTemplate)]
    pub fn apply_chat_template(
        &self,
        messages: &str,
        add_generation_prompt: bool,
        tools: Option<String>,
    ) -> std::result::Result<String, JsValue> {
        checked((|| {
            let request = ChatRequest { add_generation_prompt: Some(add_generation_prompt), ..conversation(messages, tools)? };
            on!(&self.runtime, engine => engine.apply_chat_template(&request))
        })())
    }

    /// Tokens that the prompt of a conversation takes, pictures included.
    #[wasm_bindgen(js_name = countTokens)]
    pub fn count_tokens(&mut self, messages: &str, pictures: Array, tools: Option<String>) -> std::result::Result<f64, JsValue> {
        checked((|| {
            let request = conversation(messages, tools)?;
            on!(&mut self.runtime, engine => engine.count_tokens(&request, &images(&pictures)?)).map(|n| n as f64)
        })())
    }

    /// Begins a chat completion.
    #[wasm_bindgen(js_name = startChat)]
    pub fn start_chat(&mut self, request: &str, pictures: Array) -> std::result::Result<(), JsValue> {
        checked((|| on!(&mut self.runtime, engine => engine.start_chat(&request::parse(request)?, &images(&pictures)?)))())
    }

    /// Begins a raw completion.
    #[wasm_bindgen(js_name = startCompletion)]
    pub fn start_completion(&mut self, request: &str, pictures: Array) -> std::result::Result<(), JsValue> {
        checked((|| on!(&mut self.runtime, engine => engine.start_completion(&request::parse(request)?, &images(&pictures)?)))())
    }

    /// Does one bounded piece of work; gives an event as JSON.
    pub async fn step(&mut self) -> std::result::Result<String, JsValue> {
        let event = on!(&mut self.runtime, engine => engine.step().await);
        checked(event.and_then(|event| json(&event)))
    }

    /// The next step ends the generation.
    pub fn abort(&mut self) {
        on!(&mut self.runtime, engine => engine.abort());
    }

    /// A picture's rows as the language model is given them: `{ data, shape, milliseconds }`.
    #[wasm_bindgen(js_name = embedImage)]
    pub async fn embed_image(&mut self, picture: JsValue) -> std::result::Result<Object, JsValue> {
        let start = performance_now();
        let embedded = async {
            let picture = image(&picture)?.decoded()?;
            wait_on!(&mut self.runtime, engine => engine.embed_image(&picture))
        };
        let (data, shape) = checked(embedded.await)?;
        let out = tensor(&data, &shape);
        set(&out, "milliseconds", &(performance_now() - start).into());
        Ok(out)
    }

    /// A picture as the vision tower is given it: `{ data, shape }`.
    #[wasm_bindgen(js_name = preprocessImage)]
    pub fn preprocess_image(&self, picture: JsValue) -> std::result::Result<Object, JsValue> {
        let picture = checked(image(&picture).and_then(ImageInput::decoded))?;
        let pixels = checked(on!(&self.runtime, engine => engine.preprocess(&picture)))?;
        // Tiles of different sizes have no common shape; then it is their numbers one after the other.
        let [height, width] = pixels.tiles[0];
        if pixels.tiles.iter().all(|size| *size == [height, width]) {
            return Ok(tensor(&pixels.data, &[pixels.tiles.len(), 3, height, width]));
        }
        Ok(tensor(&pixels.data, &[pixels.data.len()]))
    }

    /// Runs ids or a prompt from an empty context: `{ logits, tokens }`.
    pub async fn evaluate(&mut self, request: String, pictures: Array) -> std::result::Result<Object, JsValue> {
        let evaluated = async {
            let pictures = images(&pictures)?;
            let request = request::parse(&request)?;
            wait_on!(&mut self.runtime, engine => engine.evaluate(&request, &pictures))
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
            wait_on!(&mut self.runtime, engine => engine.benchmark(prompt_tokens, generated_tokens, runs))
        };
        checked(measured.await.and_then(|report| json(&report)))
    }

    /// Where the model looked before it wrote a token: `{ layers, images: [{ data, salience, shape, bounds, share }] }`.
    #[wasm_bindgen(js_name = lookedAt)]
    pub async fn looked_at(&mut self, request: String) -> std::result::Result<Object, JsValue> {
        let looked = async {
            let LookedAtRequest { position, token } = request::parse(&request)?;
            wait_on!(&mut self.runtime, engine => engine.looked_at(position, token))
        };
        let looked = checked(looked.await)?;
        let images = Array::new();
        for picture in &looked.pictures {
            let image = tensor(&picture.data, &picture.shape);
            set(&image, "salience", &Float32Array::from(picture.salience.as_slice()));
            set(&image, "bounds", &picture.bounds.iter().map(|x| JsValue::from(*x)).collect::<Array>());
            set(&image, "share", &picture.share.into());
            images.push(&image);
        }
        let out = Object::new();
        let layers = [looked.layers.start, looked.layers.end];
        set(&out, "layers", &layers.iter().map(|n| JsValue::from(*n as u32)).collect::<Array>());
        set(&out, "images", &images);
        Ok(out)
    }

    /// Bytes that [`Self::save_session`] is going to write.
    #[wasm_bindgen(js_name = sessionBytes)]
    pub fn session_bytes(&self) -> std::result::Result<f64, JsValue> {
        checked(on!(&self.runtime, engine => engine.session_bytes())).map(|n| n as f64)
    }

    /// Writes the context into an array of that length, piece by piece: it is outside of the module's memory.
    #[wasm_bindgen(js_name = saveSession)]
    pub async fn save_session(&mut self, out: Uint8Array) -> std::result::Result<(), JsValue> {
        let saved = async {
            let n_bytes = on!(&self.runtime, engine => engine.session_bytes())?;
            if u64::from(out.length()) != n_bytes {
                return Err(Error::internal(format!("A session of {n_bytes} bytes was to be written into {}.", out.length())));
            }
            let mut at = 0;
            let mut sink = |piece: &[u8]| {
                let end = at + piece.len() as u32;
                out.subarray(at, end).copy_from(piece);
                at = end;
            };
            wait_on!(&mut self.runtime, engine => engine.save_session(&mut sink))
        };
        checked(saved.await)
    }

    /// Takes over a context that was saved.
    #[wasm_bindgen(js_name = restoreSession)]
    pub async fn restore_session(&mut self, bytes: Uint8Array) -> std::result::Result<(), JsValue> {
        let bytes = Saved(bytes);
        let restored = async { wait_on!(&mut self.runtime, engine => engine.restore_session(&bytes)) };
        checked(restored.await)
    }

    /// Forgets the conversation.
    pub fn reset(&mut self) {
        on!(&mut self.runtime, engine => engine.reset());
    }

    /// Whether its GPU is known to have gone away.
    #[wasm_bindgen(js_name = isLost)]
    pub fn is_lost(&self) -> bool {
        match &self.runtime {
            Runtime::Cpu(_) => false,
            Runtime::Gpu(engine) => engine.backend().device().is_lost(),
        }
    }

    /// Gives up the device and all that is on it, and keeps what is needed to go on with another one.
    pub fn rescue(self) -> Rescued {
        Rescued(on!(self.runtime, engine => engine.rescue()))
    }

    /// Takes over what was under way on a device that went away.
    pub fn resume(&mut self, rescued: Rescued) -> std::result::Result<(), JsValue> {
        checked(on!(&mut self.runtime, engine => engine.resume(rescued.0)))
    }
}

/// The bytes of a session, where the page has them.
struct Saved(Uint8Array);

impl SavedBytes for Saved {
    fn n_bytes(&self) -> u64 {
        self.0.length().into()
    }

    fn read(&self, at: u64, out: &mut [u8]) {
        self.0.subarray(at as u32, at as u32 + out.len() as u32).copy_to(out);
    }
}

/// What is left of an engine whose device went away.
#[wasm_bindgen]
pub struct Rescued(recovery::Rescued);

#[wasm_bindgen]
impl Rescued {
    /// Ends the generation that was under way; gives its last event as JSON, where there was one.
    pub fn abort(&mut self) -> std::result::Result<Option<String>, JsValue> {
        checked(self.0.abort().map(|event| json(&event)).transpose())
    }
}

impl Engine {
    fn tokenizer(&self) -> &Tokenizer {
        on!(&self.runtime, engine => engine.tokenizer())
    }
}
