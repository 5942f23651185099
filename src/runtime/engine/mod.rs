//! The engine: a loaded model pair with its tokenizer, chat template and context, and the generation under way.
//!
//! `load` makes an engine of files, `benchmark` measures one.
//!
//! Work is done in bounded steps ([`Engine::step`]): one block of the vision tower, a few layers of a chunk of the prompt, or
//! one token. Between steps the caller can stop, and show what happened.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::backend::{Backend, KvFormat};
use crate::error::{Error, Result};
use crate::image::{Pixels, Place, RgbImage};
use crate::model::decoder::Decoder;
use crate::model::llava::{Embedding, PictureJob, Vision};
use crate::model::markup::{Markup, Piece};
use crate::runtime::ahead::Ahead;
use crate::runtime::answer_text::AnswerText;
use crate::runtime::call_reader::{CallReader, ReadPiece};
use crate::runtime::grammar::{Constraint, Grammar, TokenTrie};
use crate::runtime::pictures::{Detail, Picture, PictureCache};
use crate::runtime::prompt::{RowRun, expand};
use crate::runtime::request::{self, ChatRequest, CompletionRequest, EvaluateRequest, GenerationOptions, UsedImage};
use crate::runtime::sampler::{Sampler, top_logprobs};
use crate::runtime::saved_session::Identity;
use crate::runtime::session::{Prefill, Session, Slot};
use crate::runtime::stop::StopMatcher;
use crate::runtime::tools::Tools;
use crate::text::{
    CallForm, ChatTemplate, Chunk, Ending, ImageText, Rendered, Segment, StreamDecoder, Tokenizer, encode_segments, parse_prompt,
};

mod benchmark;
mod detail;
mod load;

pub use self::load::{LoadOptions, Pause};
pub use crate::runtime::pictures::ImageInput;
pub use crate::runtime::report::{BenchmarkReport, Event, FinishReason, Info, LoadProgress, TokenLogprob, Usage, VisionInfo};

/// No vocabulary has a longer piece: text beyond this many bytes for each position cannot fit, and need not be tokenized to know.
const MAX_PIECE_BYTES: usize = 1024;

/// A picture that a prompt shows.
#[derive(Clone, Copy)]
struct Shown<'a> {
    image: &'a ImageInput,
    detail: Detail,
}

/// Pictures of a prompt, found or prepared.
struct Seen<B: Backend> {
    /// The hash and the place of each, in the prompt's order.
    places: Vec<(u64, Place)>,
    jobs: VecDeque<(u64, PictureJob<B>)>,
    pictures: Vec<Rc<Picture<B>>>,
    originals: Vec<(u64, Rc<Pixels>)>,
}

/// What is to be run.
enum Prompt<'a> {
    /// These tokens.
    Tokens(&'a [u32]),
    /// Text with pictures.
    Segments(&'a [Segment]),
}

/// From a prompt to logits: pictures first, then the positions.
pub(super) struct Run<B: Backend> {
    pub(super) slots: Vec<Slot>,
    pub(super) jobs: VecDeque<(u64, PictureJob<B>)>,
    pub(super) pictures: Vec<Rc<Picture<B>>>,
    /// The pictures that it shows, where the device can be lost.
    pub(super) originals: Vec<(u64, Rc<Pixels>)>,
    /// Where their rows lie in them.
    pub(super) places: Vec<(u64, Place)>,
    /// The first position that is computed alone.
    pub(super) single_from: usize,
    pub(super) prefill: Option<Prefill<B>>,
    pub(super) usage: Usage,
}

/// How far a generation is.
pub(super) enum Phase<B: Backend> {
    /// Its pictures are seen and its prompt is computed.
    Prompt,
    /// After a loss: the prompt and the answer so far, on their way into the new device's context.
    Replay(Box<Run<B>>),
    /// The answer is written, a token a step.
    Answer,
    /// All is written; that remains to be said.
    End(FinishReason),
}

/// The generation under way.
pub(super) struct Generation<B: Backend> {
    pub(super) phase: Phase<B>,
    pub(super) run: Run<B>,
    pub(super) sampler: Sampler,
    pub(super) text: AnswerText,
    /// Tokens of the prompt and of the answer, which the repetition penalty looks at.
    pub(super) history: Vec<u32>,
    pub(super) n_generated: usize,
    pub(super) max_tokens: usize,
    pub(super) top_logprobs: Option<usize>,
    /// What the answer must be like. The tokens are then chosen here.
    pub(super) constraint: Option<Constraint>,
    /// Where the device chooses by itself.
    pub(super) ahead: Option<Ahead<B>>,
    /// Sampled here, but not yet run.
    pub(super) pending: Option<u32>,
    /// What the prompt became.
    pub(super) prompt: Vec<Slot>,
    /// After a loss: positions of the prompt that were computed before it.
    pub(super) n_computed: Option<usize>,
}

impl<B: Backend> Generation<B> {
    /// Positions of the prompt that were computed for it, not found in the context.
    pub(super) fn n_computed(&self) -> usize {
        self.n_computed.or(self.run.prefill.as_ref().map(Prefill::n_computed)).unwrap_or(0)
    }
}

/// A loaded model, ready to be asked.
pub struct Engine<B: Backend> {
    pub(super) backend: B,
    pub(super) llm: Box<dyn Decoder<B>>,
    pub(super) vision: Option<Vision<B>>,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    pub(super) session: Session<B>,
    pub(super) pictures: PictureCache<B>,
    pub(super) generation: Option<Generation<B>>,
    logits: Vec<f32>,
    /// The vocabulary by its bytes, once an answer's form was asked for.
    trie: Option<Rc<TokenTrie>>,
    info: Info,
    llm_bytes: u64,
    pub(super) kv_format: KvFormat,
    pub(super) identity: Identity,
    pub(super) step_work: u64,
    now: fn() -> f64,
    pause: Option<Pause>,
    pub(super) seed: u64,
    /// Tiles of a picture whose detail is left to the engine.
    auto_tiles: usize,
}

impl<B: Backend> Engine<B> {
    /// What is loaded.
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// What it computes with.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The conversation of a request as the model is given it, pictures shown as `<image>`.
    ///
    /// # Errors
    /// `invalid_request` for messages the template does not take.
    pub fn apply_chat_template(&self, request: &ChatRequest) -> Result<String> {
        Ok(self.prompt(request, usize::MAX)?.0.text())
    }

    /// The prompt of a request that came with so many pictures, those of them that it shows, and its tools.
    fn prompt(&self, request: &ChatRequest, n_images: usize) -> Result<(Rendered, Vec<UsedImage>, Option<Tools>)> {
        let (messages, used) = request::messages(&request.messages, n_images)?;
        let tools = request.tools()?;
        let told = tools.as_ref().map_or(&[][..], |tools| &tools.told);
        let rendered = self.template.render_with(&messages, told, request.ending()?, &request.chat_template_kwargs)?;
        Ok((rendered, used, tools))
    }

    /// Positions that the prompt of a request takes, those of its pictures included.
    ///
    /// # Errors
    /// As [`Self::start_chat`], but for `context_overflow`: what does not fit is counted all the same.
    pub fn count_tokens(&mut self, request: &ChatRequest, images: &[ImageInput]) -> Result<usize> {
        let (prompt, used, _) = self.prompt(request, images.len())?;
        let seen = self.look_at(&shown(&used, images))?;
        Ok(self.slots(&Prompt::Segments(&prompt.segments()), &seen.places)?.len())
    }

    /// Lets the caller have a turn; it may want to stop.
    pub(super) async fn pause(&self) -> Result<()> {
        match &self.pause {
            Some(pause) => pause().await,
            None => Ok(()),
        }
    }

    /// Forgets the conversation and ends the generation under way.
    pub fn reset(&mut self) {
        self.generation = None;
        self.session.clear();
    }

    /// Prepares a picture for the vision tower.
    ///
    /// # Errors
    /// `invalid_request` where no vision file is loaded.
    pub fn preprocess(&self, image: &RgbImage) -> Result<Pixels> {
        self.vision()?.preprocess.preprocess(image, usize::MAX)
    }

    fn vision(&self) -> Result<&Vision<B>> {
        self.vision.as_ref().ok_or_else(|| {
            Error::invalid_request("This model was loaded without its vision file, so it sees no pictures. Load it with mmproj.")
        })
    }

    /// A picture's rows as the language model is given them: values and shape `[rows, width]`. Where some of its layers add to them, what they
    /// add stands behind the embedding in each row.
    ///
    /// # Errors
    /// As [`Self::preprocess`]; `out_of_memory`, `device_lost`.
    pub async fn embed_image(&mut self, image: &RgbImage) -> Result<(Vec<f32>, [usize; 2])> {
        let pixels = match self.pictures.get(image.content_hash()) {
            Some(_) => None,
            None => Some(Rc::new(self.preprocess(image)?)),
        };
        let embedded = self.embed_pixels(image.content_hash(), pixels).await;
        self.trusted(embedded).await
    }

    /// The rows of a picture that is kept, or of these pixels, which then is.
    async fn embed_pixels(&mut self, hash: u64, pixels: Option<Rc<Pixels>>) -> Result<(Vec<f32>, [usize; 2])> {
        let picture = match self.pictures.get(hash) {
            Some(picture) => picture,
            None => {
                let pixels = pixels.ok_or_else(|| Error::internal("A picture is gone."))?;
                let vision = self.vision()?;
                let mut job = vision.begin(&pixels);
                let (n_rows, place) = (job.n_rows(), job.place());
                let embedding = loop {
                    self.pause().await?;
                    let vision = self.vision.as_ref().ok_or_else(|| Error::internal("The vision model is gone."))?;
                    if let Some(embedding) = vision.step(&mut self.backend, &mut job)? {
                        break embedding;
                    }
                };
                let original = B::CAN_BE_LOST.then_some(pixels);
                self.pictures.keep(Picture { hash, embedding, n_rows, place, original })
            }
        };
        let Embedding { rows, deeper } = &picture.embedding;
        let mut levels = Vec::with_capacity(1 + deeper.len());
        for level in std::iter::once(rows).chain(deeper) {
            let mut data = Vec::new();
            self.backend.read(level, 0, picture.n_rows, &mut data).await?;
            levels.push(data);
        }
        if levels.len() == 1 {
            let data = levels.remove(0);
            let width = data.len() / picture.n_rows.max(1);
            return Ok((data, [picture.n_rows, width]));
        }
        let width = levels[0].len() / picture.n_rows.max(1);
        let data = (0..picture.n_rows).flat_map(|row| levels.iter().flat_map(move |level| &level[row * width..][..width]));
        Ok((data.copied().collect(), [picture.n_rows, width * levels.len()]))
    }

    /// Begins a chat completion. The one under way, if any, is dropped; what it computed of the context stays.
    ///
    /// # Errors
    /// `invalid_request`, `context_overflow`; the engine is as before.
    pub fn start_chat(&mut self, request: &ChatRequest, images: &[ImageInput]) -> Result<()> {
        let (prompt, used, tools) = self.prompt(request, images.len())?;
        let form = self.template.call_form();
        let calls = match tools {
            Some(tools) => Some((tools.grammar(form, request.options.response_format.as_ref())?, form, tools.reader(form)?)),
            None => None,
        };
        // Within a message of its own the model goes on in the middle of a text.
        let decoder = if request.ending()? == Ending::Answer { StreamDecoder::new() } else { StreamDecoder::continuing() };
        // The template ends before the space that a SentencePiece answer begins with; the answer is what comes after it, and comes back
        // after it when the conversation goes on.
        self.start(&prompt.segments(), &shown(&used, images), &request.options, decoder, calls)
    }

    /// Begins a raw completion, otherwise as [`Self::start_chat`].
    ///
    /// # Errors
    /// As [`Self::start_chat`]; `invalid_request` also where the number of `<image>` marks is not that of the pictures.
    pub fn start_completion(&mut self, request: &CompletionRequest, images: &[ImageInput]) -> Result<()> {
        let segments = parse_prompt(&request.prompt, images.len())?;
        self.start(&segments, &in_order(images), &request.options, StreamDecoder::continuing(), None)
    }

    fn trie(&mut self) -> Rc<TokenTrie> {
        let Self { trie, tokenizer, llm, .. } = self;
        trie.get_or_insert_with(|| Rc::new(TokenTrie::new(tokenizer, llm.dims().n_vocab))).clone()
    }

    /// Tokens of the model's structure that calls are written with.
    fn marks(&self, form: Option<CallForm>) -> Vec<(u32, String)> {
        let marks = form.map_or(&[][..], CallForm::marks).iter();
        let token = |mark: &&str| Some((self.tokenizer.find_token(mark)?, (*mark).to_owned()));
        marks.filter_map(token).filter(|(id, _)| !self.tokenizer.is_text(*id)).collect()
    }

    /// Refuses a text that cannot fit, before it is worked on.
    fn check_length(&self, segments: &[Segment]) -> Result<()> {
        let n_bytes: usize = segments
            .iter()
            .map(|s| match s {
                Segment::Text { text, .. } => text.len(),
                Segment::Image(_) => 0,
            })
            .sum();
        if n_bytes / MAX_PIECE_BYTES > self.session.n_ctx {
            return Err(Error::context_overflow(format!(
                "The conversation is {n_bytes} bytes of text, far more than the context of {} tokens holds. Shorten the message.",
                self.session.n_ctx
            )));
        }
        Ok(())
    }

    /// What stands at each position of a prompt whose pictures lie so.
    fn slots(&self, prompt: &Prompt<'_>, places: &[(u64, Place)]) -> Result<Vec<Slot>> {
        let segments = match prompt {
            Prompt::Tokens(ids) => return Ok(ids.iter().map(|id| Slot::Token(*id)).collect()),
            Prompt::Segments(segments) => segments,
        };
        let markup = self.vision.as_ref().map_or(Markup::Bare, |vision| vision.markup);
        let is_token = |mark: &str| self.tokenizer.find_token(mark).is_some();
        let pieces: Vec<Vec<Piece>> = places.iter().map(|(_, place)| markup.pieces(place, is_token)).collect();
        let (segments, runs) = expand(segments, markup, &pieces);
        self.check_length(&segments)?;
        let mut slots = Vec::new();
        let image = if markup == Markup::Bare { ImageText::Gap } else { ImageText::Tokens };
        for chunk in encode_segments(&self.tokenizer, &segments, image) {
            match chunk {
                Chunk::Tokens(ids) => slots.extend(ids.into_iter().map(Slot::Token)),
                Chunk::Image(i) => {
                    let RowRun { picture, rows } =
                        runs.get(i).ok_or_else(|| Error::internal("A picture's rows are not there."))?;
                    let (hash, _) = places.get(*picture).ok_or_else(|| {
                        Error::invalid_request(format!("The prompt shows picture {picture}, but {} came with it.", places.len()))
                    })?;
                    slots.extend(rows.clone().map(|row| Slot::Picture { hash: *hash, row }));
                }
            }
        }
        Ok(slots)
    }

    fn start(
        &mut self,
        segments: &[Segment],
        images: &[Shown<'_>],
        options: &GenerationOptions,
        decoder: StreamDecoder,
        calls: Option<(Grammar, CallForm, CallReader)>,
    ) -> Result<()> {
        // A generation that stops without a seed from the caller must not repeat the one before.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add((self.now)().to_bits());
        let sampler = Sampler::new(options.sampler(self.seed)?, self.llm.dims().n_vocab)?;
        let stop = StopMatcher::new(options.stops())?;
        let top_logprobs = options.top_logprobs()?;
        let max_tokens = options.max_tokens()?;
        let (grammar, form, reader) = match calls {
            Some((grammar, form, reader)) => (Some(grammar), Some(form), Some(reader)),
            None => (options.grammar()?, None, None),
        };
        let run = self.run(&Prompt::Segments(segments), images)?;
        let room = self.session.n_ctx - run.slots.len() + 1;
        let constraint = grammar.map(|grammar| Constraint::new(grammar, self.trie()).with_marks(self.marks(form)));
        // What may come next is known only when the token before is.
        let ahead = sampler.config().plain_choice().filter(|_| constraint.is_none()).map(Ahead::new);
        self.generation = Some(Generation {
            phase: Phase::Prompt,
            sampler,
            text: AnswerText::new(decoder, reader, stop),
            history: run.slots.iter().filter_map(Slot::token).collect(),
            n_generated: 0,
            max_tokens: max_tokens.unwrap_or(usize::MAX).min(room),
            top_logprobs,
            constraint,
            ahead,
            pending: None,
            prompt: run.slots.clone(),
            n_computed: None,
            run,
        });
        Ok(())
    }

    /// Finds the embeddings of pictures, or prepares what they are made of. Changes nothing that a later request could notice.
    fn look_at(&mut self, images: &[Shown<'_>]) -> Result<Seen<B>> {
        let mut seen =
            Seen { places: Vec::with_capacity(images.len()), jobs: VecDeque::new(), pictures: Vec::new(), originals: Vec::new() };
        for Shown { image, detail } in images {
            let max_tiles = self.max_tiles(*detail);
            let (hash, pixels) = self.pictures.look_at(image, max_tiles)?;
            let place = if let Some(picture) = self.pictures.get(hash) {
                let place = picture.place;
                seen.originals.extend(picture.original.clone().map(|original| (hash, original)));
                seen.pictures.push(picture);
                place
            } else if let Some((_, job)) = seen.jobs.iter().find(|(h, _)| *h == hash) {
                job.place()
            } else {
                let vision = self.vision()?;
                let pixels = pixels.ok_or_else(|| Error::internal("A picture is gone."))?;
                let pixels = Rc::new(vision.preprocess.preprocess(&pixels, max_tiles)?);
                let job = vision.begin(&pixels);
                let place = job.place();
                seen.jobs.push_back((hash, job));
                seen.originals.extend(B::CAN_BE_LOST.then_some((hash, pixels)));
                place
            };
            seen.places.push((hash, place));
        }
        Ok(seen)
    }

    /// Checks that a prompt fits and prepares its pictures. Changes nothing that a later request could notice.
    fn run(&mut self, prompt: &Prompt<'_>, images: &[Shown<'_>]) -> Result<Run<B>> {
        let before = (self.now)();
        if let Prompt::Segments(segments) = prompt {
            self.check_length(segments)?;
        }
        let Seen { places, mut jobs, pictures, mut originals } = self.look_at(images)?;
        let slots = self.slots(prompt, &places)?;
        if slots.is_empty() {
            return Err(Error::invalid_request(
                "The prompt is empty; write something. (If you did, the chat template leaves it out.)",
            ));
        }
        let image_tokens = slots.iter().filter(|s| matches!(s, Slot::Picture { .. })).count();
        if slots.len() > self.session.n_ctx {
            return Err(Error::context_overflow(format!(
                "The conversation takes {} tokens ({image_tokens} of them pictures), but the context holds {}. Start a new conversation, shorten \
                 the message, or load the model with a larger contextSize.",
                slots.len(),
                self.session.n_ctx
            )));
        }
        let mut seen = std::collections::BTreeSet::new();
        originals.retain(|(hash, _)| seen.insert(*hash));
        // What the context holds already need not be looked at again, even where the embedding is gone.
        let kept = self.session.n_common(self.llm.as_ref(), &slots);
        jobs.retain(|(hash, _)| slots[kept..].iter().any(|s| matches!(s, Slot::Picture { hash: h, .. } if h == hash)));
        // A picture that was seen before costs nothing.
        let image_ms = if jobs.is_empty() { 0.0 } else { (self.now)() - before };
        let image_tiles = places.iter().map(|(_, place)| place.n_tiles()).sum();
        let usage = Usage { prompt_tokens: slots.len(), image_tokens, image_tiles, image_ms, ..Usage::default() };
        Ok(Run { slots, jobs, pictures, originals, places, single_from: usize::MAX, prefill: None, usage })
    }

    /// Does one bounded piece of a run. `None` when the logits of its last position are recorded.
    pub(super) async fn run_step(&mut self, run: &mut Run<B>) -> Result<Option<Event>> {
        let before = (self.now)();
        if let Some((hash, mut job)) = run.jobs.pop_front() {
            let vision = self.vision.as_ref().ok_or_else(|| Error::internal("The vision model is gone."))?;
            let (done, total) = match vision.step(&mut self.backend, &mut job)? {
                Some(embedding) => {
                    let (_, total) = job.progress();
                    let original = run.originals.iter().find(|(h, _)| *h == hash).map(|(_, original)| original.clone());
                    let picture = Picture { hash, embedding, n_rows: job.n_rows(), place: job.place(), original };
                    run.pictures.push(self.pictures.keep(picture));
                    (total, total)
                }
                None => {
                    let progress = job.progress();
                    run.jobs.push_front((hash, job));
                    progress
                }
            };
            // The last picture's end is waited for, so that its time is its own.
            self.backend.settle(run.jobs.is_empty()).await?;
            run.usage.image_ms += (self.now)() - before;
            return Ok(Some(Event::Progress { stage: "image", done, total }));
        }
        if run.prefill.is_none() {
            run.usage.cached_tokens = self.session.reuse(&mut self.backend, self.llm.as_mut(), &run.slots);
            self.session.expect(&run.places);
            self.session.set_positions(&mut self.backend, self.llm.as_mut(), &run.slots)?;
            let (slots, pictures) = (std::mem::take(&mut run.slots), std::mem::take(&mut run.pictures));
            let prefill = Prefill::new(slots, pictures, &self.session, self.step_work);
            run.prefill = Some(prefill.one_by_one_from(run.single_from));
        }
        let Some(prefill) = &mut run.prefill else { return Ok(None) };
        let whole = prefill.step(&mut self.backend, self.llm.as_mut(), &mut self.session)?;
        self.backend.settle(false).await?;
        run.usage.prefill_ms += (self.now)() - before;
        let (done, total) = prefill.progress(self.llm.dims().n_layers);
        Ok(if whole { None } else { Some(Event::Progress { stage: "prefill", done, total }) })
    }

    /// Waits for the logits.
    async fn read_logits(&mut self) -> Result<()> {
        self.backend.read(self.llm.logits(), 0, 1, &mut self.logits).await
    }

    /// Runs one token; its logits are recorded.
    fn decode(&mut self, id: u32) {
        let position = self.session.slots.len();
        self.llm.embed(&mut self.backend, &[id], 0);
        self.llm.step(&mut self.backend, &mut self.session.cache, position);
        self.session.slots.push(Slot::Token(id));
    }

    /// Whether a generation is under way.
    pub fn is_generating(&self) -> bool {
        self.generation.is_some()
    }

    /// The next step ends the generation; what was generated stays.
    pub fn abort(&mut self) {
        if let Some(generation) = &mut self.generation {
            generation.phase = Phase::End(FinishReason::Abort);
        }
    }

    /// The result of work on the device, whose failure is put down to what is behind it. What a device was asked for may fail long
    /// after, and whatever was computed meanwhile may be wrong: keys and values, and the rows of pictures. So after a failure nothing
    /// of it is used again; the engine is then as after loading. A generation whose device was lost stays, for it can go on elsewhere;
    /// and a request that makes no sense, or that the caller stopped, is no failure of what was computed.
    pub(super) async fn trusted<T>(&mut self, computed: Result<T>) -> Result<T> {
        let Err(error) = computed else { return computed };
        let error = self.cause(error).await;
        if !matches!(error, Error::DeviceLost(_) | Error::InvalidRequest(_) | Error::Aborted(_)) {
            self.reset();
            self.pictures.clear();
        }
        Err(error)
    }

    /// Does one bounded piece of work of the generation under way.
    ///
    /// # Errors
    /// `invalid_request` where none is under way; what the backend has. The generation is then over and the context empty, the engine
    /// ready for the next; but after `device_lost` it can be had back with [`Self::rescue`], and nothing else can be done.
    pub async fn step(&mut self) -> Result<Event> {
        let mut generation = self
            .generation
            .take()
            .ok_or_else(|| Error::invalid_request("Nothing is being generated; start a completion first."))?;
        let event = self.step_of(&mut generation).await;
        let event = self.trusted(event).await;
        if !matches!(event, Ok(Event::Done { .. }) | Err(_)) || matches!(event, Err(Error::DeviceLost(_))) {
            self.generation = Some(generation);
        }
        event
    }

    async fn step_of(&mut self, g: &mut Generation<B>) -> Result<Event> {
        let event = match &g.phase {
            Phase::End(reason) => {
                let reason = *reason;
                return Ok(done(g, reason));
            }
            Phase::Prompt => self.run_step(&mut g.run).await?,
            Phase::Replay(_) => self.replay(g).await?,
            Phase::Answer => None,
        };
        if let Some(event) = event {
            return Ok(event);
        }
        g.phase = Phase::Answer;
        let before = (self.now)();
        let (id, logprobs) = match &mut g.ahead {
            Some(ahead) => {
                let Self { backend, llm, session, .. } = self;
                ahead.fill(backend, llm.as_mut(), session, g.max_tokens, || g.sampler.unit());
                let asked = (self.now)();
                let id = ahead.next(backend, session).await?;
                ahead.waited((self.now)() - asked);
                let id = id.ok_or_else(|| Error::internal("A token beyond the last was asked for."))?;
                g.sampler.record(id);
                (id, None)
            }
            None => self.sample(g).await?,
        };
        g.history.push(id);
        g.n_generated += 1;
        if g.ahead.is_none() {
            g.pending = Some(id);
        }
        let mut read = ReadPiece::default();
        if self.tokenizer.is_end_of_generation(id) {
            g.phase = Phase::End(FinishReason::Stop);
        } else {
            let mut is_whole = false;
            let mut mark = None;
            if let Some(constraint) = &mut g.constraint {
                mark = constraint.mark(id).map(str::to_owned);
                let mut bytes = Vec::new();
                match &mark {
                    Some(mark) => bytes.extend_from_slice(mark.as_bytes()),
                    None => self.tokenizer.token_bytes(id, false, &mut bytes),
                }
                constraint.push(&bytes)?;
                is_whole = constraint.is_done();
            }
            read = g.text.push(&self.tokenizer, id, mark.as_deref());
            if g.text.is_stopped() || is_whole {
                g.phase = Phase::End(FinishReason::Stop);
            } else if g.n_generated >= g.max_tokens {
                g.phase = Phase::End(FinishReason::Length);
            }
        }
        // The first token comes out of the prompt's logits; waiting for it is waiting for the prompt.
        let usage = &mut g.run.usage;
        *(if g.n_generated == 1 { &mut usage.prefill_ms } else { &mut usage.decode_ms }) += (self.now)() - before;
        Ok(Event::Token { text: read.text, tool_calls: read.calls, token_ids: [id], logprobs })
    }

    /// Runs the token that was sampled last, and samples the next from its logits here.
    async fn sample(&mut self, g: &mut Generation<B>) -> Result<(u32, Option<[TokenLogprob; 1]>)> {
        if let Some(id) = g.pending.take() {
            self.decode(id);
        }
        self.read_logits().await?;
        let allowed = g.constraint.as_mut().map(Constraint::allowed);
        let sampled = g.sampler.sample_among(&mut self.logits, &g.history, allowed.as_deref())?;
        let logprobs = match (g.top_logprobs, sampled.logprob) {
            (Some(n), Some(logprob)) => {
                let top = top_logprobs(&self.logits, n)?.into_iter().map(|t| self.token_logprob(t.id, t.logprob)).collect();
                Some([TokenLogprob { top_logprobs: Some(top), ..self.token_logprob(sampled.id, logprob) }])
            }
            _ => None,
        };
        Ok((sampled.id, logprobs))
    }

    fn token_logprob(&self, id: u32, logprob: f32) -> TokenLogprob {
        let mut bytes = Vec::new();
        self.tokenizer.token_bytes(id, true, &mut bytes);
        TokenLogprob { token: String::from_utf8_lossy(&bytes).into_owned(), logprob, bytes, top_logprobs: None }
    }

    /// Runs ids or a prompt from an empty context; gives the last position's logits, and what was run (`None` per picture row).
    ///
    /// # Errors
    /// `invalid_request`, `context_overflow`; what the backend has.
    pub async fn evaluate(&mut self, request: &EvaluateRequest, images: &[ImageInput]) -> Result<(Vec<f32>, Vec<Option<u32>>)> {
        let segments;
        let prompt = match (&request.tokens, &request.prompt) {
            (Some(tokens), None) if images.is_empty() => Prompt::Tokens(tokens),
            (None, Some(prompt)) => {
                segments = parse_prompt(prompt, images.len())?;
                Prompt::Segments(&segments)
            }
            _ => return Err(Error::invalid_request("evaluate takes either tokens, without pictures, or a prompt.")),
        };
        let n_vocab = self.llm.dims().n_vocab;
        if let Prompt::Tokens(ids) = prompt
            && let Some(id) = ids.iter().find(|id| **id as usize >= n_vocab)
        {
            return Err(Error::invalid_request(format!("The token {id} is not in the vocabulary of {n_vocab}.")));
        }
        let mut run = self.run(&prompt, &in_order(images))?;
        let ids = run.slots.iter().map(Slot::token).collect();
        self.reset();
        let computed = self.run_whole(&mut run).await;
        self.trusted(computed).await?;
        Ok((self.logits.clone(), ids))
    }

    /// Does all of a run and waits for its logits.
    async fn run_whole(&mut self, run: &mut Run<B>) -> Result<()> {
        while self.run_step(run).await?.is_some() {
            self.pause().await?;
        }
        self.read_logits().await
    }
}

fn done<B: Backend>(g: &mut Generation<B>, finish_reason: FinishReason) -> Event {
    let counts = (g.n_computed(), g.n_generated);
    ended(&mut g.text, g.run.usage, counts, finish_reason)
}

/// The end of a generation that computed and generated so many positions.
pub(super) fn ended(
    text: &mut AnswerText,
    mut usage: Usage,
    (n_computed, n_generated): (usize, usize),
    finish_reason: FinishReason,
) -> Event {
    let ReadPiece { text: rest, calls } = text.flush();
    let finish_reason =
        if finish_reason == FinishReason::Stop && text.has_called() { FinishReason::ToolCalls } else { finish_reason };
    usage.completion_tokens = n_generated;
    usage.total_tokens = usage.prompt_tokens + usage.completion_tokens;
    let per_second = |n: usize, ms: f64| if ms > 0.0 { n as f64 / ms * 1e3 } else { 0.0 };
    usage.prefill_tokens_per_second = per_second(n_computed, usage.prefill_ms);
    // The first token comes out of the prompt's logits and costs no decoding.
    usage.decode_tokens_per_second = per_second(usage.completion_tokens.saturating_sub(1), usage.decode_ms);
    Event::Done { text: rest, tool_calls: calls, finish_reason, usage }
}

/// The pictures that messages show, of those that came with the request.
fn shown<'a>(used: &[UsedImage], images: &'a [ImageInput]) -> Vec<Shown<'a>> {
    used.iter().filter_map(|used| Some(Shown { image: images.get(used.image)?, detail: used.detail })).collect()
}

/// All pictures that came with a request, as the model was trained on them.
fn in_order(images: &[ImageInput]) -> Vec<Shown<'_>> {
    images.iter().map(|image| Shown { image, detail: Detail::High }).collect()
}
