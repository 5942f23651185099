//! From files to an engine.

use std::hash::Hasher;
use std::rc::Rc;

use siphasher::sip::SipHasher13;

use super::{Engine, Info, LoadProgress, VisionInfo};
use crate::backend::{AttentionOp, Backend, KvFormat};
use crate::error::{Error, Result};
use crate::gguf::{Gguf, LocalFuture, RangedSource};
use crate::model::decoder::Dims;
use crate::model::llava::{Vision, VisionConfig};
use crate::model::registry;
use crate::quant::{Format, Stored};
use crate::runtime::memory::Memory;
use crate::runtime::pictures::PictureCache;
use crate::runtime::report::BytesInfo;
use crate::runtime::saved_session::Identity;
use crate::runtime::session::Session;
use crate::text::{ChatTemplate, Date, Tokenizer};

/// Gives the caller a turn between two steps of a long computation; its error ends the computation.
pub type Pause = Rc<dyn Fn() -> LocalFuture<'static, Result<()>>>;

/// How to load a model.
#[derive(Clone)]
pub struct LoadOptions {
    /// Positions of the context; default: the model's, but at most 4096.
    pub context_size: Option<usize>,
    /// Jinja text or the name of a built-in template; default: the file's own.
    pub chat_template: Option<String>,
    /// Store the float matrices of the vision file in this format instead.
    pub quantize_mmproj: Option<Format>,
    /// How keys and values are kept.
    pub kv_format: KvFormat,
    /// Multiply-adds of a prompt that a step may do; default: what suits the backend.
    pub step_work: Option<u64>,
    /// Milliseconds from any fixed point; the crate itself knows no clock that works everywhere.
    pub now: fn() -> f64,
    /// Called between the steps of computations that are asked for at once; default: nobody wants to stop them.
    pub pause: Option<Pause>,
    /// Today's date, for templates that tell the model what day it is.
    pub today: Option<Date>,
}

impl LoadOptions {
    /// Everything left to the model.
    pub fn new(now: fn() -> f64) -> Self {
        Self {
            context_size: None,
            chat_template: None,
            quantize_mmproj: None,
            kv_format: KvFormat::F16,
            step_work: None,
            now,
            pause: None,
            today: None,
        }
    }
}

impl<B: Backend> Engine<B> {
    /// Loads a model, and the vision file that goes with it.
    ///
    /// # Errors
    /// Every cause a file, a source or the memory can give; nothing is left behind.
    pub async fn load(
        mut backend: B,
        model: Vec<Box<dyn RangedSource>>,
        mmproj: Option<Vec<Box<dyn RangedSource>>>,
        options: LoadOptions,
        progress: &mut dyn FnMut(LoadProgress<'_>),
    ) -> Result<Self> {
        progress(LoadProgress { stage: "header", file: first_name(&model), loaded: 0, total: 0 });
        let mut gguf = Gguf::open(model).await?;
        let config = gguf.accept(registry::decoder::<B>(&gguf))?;
        let dims = config.dims().clone();
        let (n_ctx, context_note) = context_size(options.context_size, &dims, gguf.name())?;
        // Both headers are read before any weight, so that a wrong pair is found out at once.
        let mmproj = match mmproj {
            Some(sources) => {
                progress(LoadProgress { stage: "header", file: first_name(&sources), loaded: 0, total: 0 });
                let gguf = Gguf::open(sources).await?;
                let config = gguf.accept(VisionConfig::from_gguf::<B>(&gguf, dims.n_embd, config.n_deeper()))?;
                Some((gguf, config))
            }
            None => None,
        };
        supported(&backend, gguf.name(), &dims.attention)?;
        if let Some((gguf, config)) = &mmproj {
            supported(&backend, gguf.name(), &config.attention())?;
        }
        let tokenizer = Tokenizer::from_metadata(&mut gguf.metadata);
        let tokenizer = gguf.accept(tokenizer)?;
        if tokenizer.n_vocab() > dims.n_vocab {
            return gguf.accept(Err(Error::invalid_gguf(format!(
                "'{}' lists {} tokens but embeds {}. It is damaged or was converted wrongly.",
                gguf.name(),
                tokenizer.n_vocab(),
                dims.n_vocab
            ))));
        }
        if let Some((gguf, config)) = &mmproj {
            config.check_vocabulary(gguf.name(), |mark| tokenizer.find_token(mark).is_some())?;
        }
        let template = ChatTemplate::from_gguf_or_builtin(options.chat_template.as_deref(), &gguf.metadata, &tokenizer);
        let mut template = gguf.accept(template)?;
        template.set_date(options.today);
        let spec = dims.kv_spec(n_ctx, options.kv_format);
        if isize::try_from(spec.n_bytes()).is_err() {
            return Err(Error::out_of_memory(format!(
                "The context of {n_ctx} tokens would take {} bytes for its keys and values, more than there can be here. Load the model with a \
                 smaller contextSize.",
                spec.n_bytes()
            )));
        }
        // Everything is checked and has its memory before any weight is read: nothing is loaded half.
        let picture_rows = match &mmproj {
            Some((_, config)) if dims.pictures_see_themselves => config.max_tile_rows(),
            _ => 0,
        };
        let n_chunk = B::PREFILL_ROWS.max(picture_rows).min(n_ctx);
        let plan = gguf.accept_tensors(config.plan(&gguf))?;
        let mut activations = config.scratch_bytes(n_ctx, n_chunk);
        let vision_plan = match &mmproj {
            Some((gguf, config)) => {
                activations = activations.saturating_add(config.scratch_bytes::<B>());
                Some((gguf.accept_tensors(config.plan::<B>(gguf))?, options.quantize_mmproj))
            }
            None => None,
        };
        let memory = Memory::take(&mut backend, plan, vision_plan, &spec, activations).await?;
        let Memory { language_model: reserved, vision: reserved_vision, cache, language_model_bytes: llm_bytes } = memory;
        // Kernels are compiled while weights are on their way.
        config.expect(&gguf, &mut backend, options.kv_format);
        if let (Some((_, config)), Some(reserved)) = (&mmproj, &reserved_vision) {
            config.expect(&mut backend, reserved);
        }

        let file = gguf.name().to_string();
        let mut n_parameters = reserved.n_parameters();
        let weights = reserved
            .load(&mut backend, &mut |loaded, total| progress(LoadProgress { stage: "model", file: &file, loaded, total }))
            .await?;
        let mut fingerprint = SipHasher13::new();
        fingerprint.write(&weights.fingerprint().to_le_bytes());
        tokenizer.fingerprint(&mut fingerprint);
        let llm = config.load(&mut backend, weights, n_ctx, n_chunk)?;
        // With all that scales positions, some of which depends on the context's size.
        fingerprint.write(llm.identity().as_bytes());
        let mut vision = None;
        if let (Some((gguf, config)), Some(reserved)) = (&mmproj, reserved_vision) {
            let file = gguf.name().to_string();
            let loaded = config
                .load(gguf, &mut backend, reserved, &mut |loaded, total| {
                    progress(LoadProgress { stage: "mmproj", file: &file, loaded, total });
                })
                .await?;
            n_parameters += loaded.n_parameters;
            vision = Some(loaded);
        }
        let info = Info {
            architecture: dims.architecture.clone(),
            name: gguf.metadata.str("general.name").unwrap_or(&file).to_string(),
            quantization: main_format(&gguf),
            parameters: n_parameters,
            context_size: n_ctx,
            vocabulary_size: dims.n_vocab,
            vision: vision.as_ref().map(|v| VisionInfo {
                projector: v.projector.kind.name(),
                image_size: v.tower.config.image_size,
                patch_size: v.tower.config.patch_size,
                tokens_per_image: v.tokens_per_tile(),
                feature_size: v.tower.config.n_embd,
            }),
            bytes: BytesInfo { weights: backend.weight_bytes(), kv_cache: spec.n_bytes(), wasm_heap: 0 },
            warnings: tokenizer.warning().into_iter().chain(template.warning()).map(str::to_string).chain(context_note).collect(),
        };
        let identity = Identity {
            language_model: fingerprint.finish(),
            vision: vision.as_ref().map(|vision: &Vision<B>| vision.fingerprint),
        };
        let seed = (options.now)().to_bits();
        // No token of an answer has to ask for memory to be noted.
        let mut slots = Vec::new();
        slots.try_reserve_exact(n_ctx).map_err(|_| {
            Error::out_of_memory(format!(
                "There is not enough memory for a context of {n_ctx} tokens. Load the model with a smaller contextSize."
            ))
        })?;
        let mut engine = Self {
            pictures: PictureCache::new(dims.n_embd),
            session: Session { cache, slots, places: Vec::new(), n_ctx },
            backend,
            llm,
            vision,
            tokenizer,
            template,
            generation: None,
            logits: Vec::new(),
            trie: None,
            info,
            llm_bytes,
            kv_format: options.kv_format,
            identity,
            step_work: options.step_work.unwrap_or(B::STEP_WORK),
            now: options.now,
            pause: options.pause,
            seed,
            auto_tiles: usize::MAX,
        };
        engine.measure_tile().await?;
        progress(LoadProgress { stage: "ready", file: &file, loaded: gguf.n_bytes(), total: gguf.n_bytes() });
        Ok(engine)
    }
}

/// [`Memory::supports`](crate::backend::Memory::supports), naming the file.
fn supported<B: Backend>(backend: &B, file: &str, attention: &AttentionOp) -> Result<()> {
    backend
        .supports(attention)
        .map_err(|error| Error::from_code(error.code(), format!("'{file}' cannot run here: {}", error.message())))
}

/// The context's positions, and what the caller should know of them: of more than the model was made for it is given what it was made for.
fn context_size(wanted: Option<usize>, dims: &Dims, file: &str) -> Result<(usize, Option<String>)> {
    let most = dims.n_ctx_train;
    match wanted {
        None => Ok((dims.default_context(), None)),
        Some(0) => {
            Err(Error::invalid_request(format!("contextSize is 0; '{file}' was made for 1 to {most} tokens. Give one of these.")))
        }
        Some(n) if n > most => {
            let note = format!("contextSize is {n}, but '{file}' was made for {most} tokens: that many are there.");
            Ok((most, Some(note)))
        }
        Some(n) => Ok((n, None)),
    }
}

fn first_name(sources: &[Box<dyn RangedSource>]) -> &str {
    sources.first().map_or("", |s| s.name())
}

/// The format that holds the most bytes.
fn main_format(gguf: &Gguf) -> String {
    let mut by_format = std::collections::BTreeMap::<Stored, u64>::new();
    for tensor in gguf.tensors() {
        *by_format.entry(tensor.info.format).or_default() += tensor.info.n_bytes();
    }
    by_format.into_iter().max_by_key(|(_, bytes)| *bytes).map_or(String::new(), |(format, _)| format.name().to_string())
}
