//! What is left of a generation when its device is gone, and how it goes on with another one.
//!
//! A lost device takes the weights, the keys and values and the pictures' rows with it. What cannot be computed again is all on the
//! host: the prompt's slots, the preprocessed pictures, the tokens so far, and the state of what chooses and writes them. A new engine of
//! the same files replays the prompt as it was prefilled and the answer as it was decoded, one position after another, so that
//! what it computes is what was lost to the last bit; then the stream goes on behind the last token that was given out. Only where a
//! part of the prompt came from an earlier answer (`cached_tokens`) is it prefilled where it was decoded, which rounds differently.
//!
//! Between two requests nothing is replayed: the next prompt is computed from its beginning.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::image::Pixels;
use crate::runtime::ahead::{Ahead, Drawing};
use crate::runtime::answer_text::AnswerText;
use crate::runtime::engine::{Engine, Generation, Phase, Run, ended};
use crate::runtime::grammar::Constraint;
use crate::runtime::report::{Event, FinishReason, Usage};
use crate::runtime::sampler::Sampler;
use crate::runtime::session::Slot;

/// What outlives a device; nothing of it is on one.
pub struct Rescued {
    generation: Option<Unfinished>,
    seed: u64,
}

/// A generation without its device.
struct Unfinished {
    prompt: Vec<Slot>,
    originals: Vec<(u64, Rc<Pixels>)>,
    sampler: Sampler,
    text: AnswerText,
    history: Vec<u32>,
    n_generated: usize,
    max_tokens: usize,
    top_logprobs: Option<usize>,
    constraint: Option<Constraint>,
    ahead: Option<Drawing>,
    /// How it ended, where that alone is left to be said.
    end: Option<FinishReason>,
    usage: Usage,
    /// Positions of the prompt that were computed.
    n_computed: usize,
}

impl Rescued {
    /// Whether a generation was under way.
    pub fn is_generating(&self) -> bool {
        self.generation.is_some()
    }

    /// Ends the generation, which needs no device; what was generated stays.
    pub fn abort(&mut self) -> Option<Event> {
        let mut g = self.generation.take()?;
        let counts = (g.n_computed, g.n_generated);
        Some(ended(&mut g.text, g.usage, counts, FinishReason::Abort))
    }
}

impl<B: Backend> Engine<B> {
    /// What is behind an error that a call of this engine gave; see [`Queue::cause`](crate::backend::Queue::cause).
    pub async fn cause(&mut self, error: Error) -> Error {
        self.backend.cause(error).await
    }

    /// Gives up the device, and keeps what is needed to go on elsewhere.
    pub fn rescue(mut self) -> Rescued {
        let generation = self.generation.take().map(|g| Unfinished {
            n_computed: g.n_computed(),
            end: match g.phase {
                Phase::End(reason) => Some(reason),
                Phase::Prompt | Phase::Replay(_) | Phase::Answer => None,
            },
            prompt: g.prompt,
            originals: g.run.originals,
            sampler: g.sampler,
            text: g.text,
            history: g.history,
            n_generated: g.n_generated,
            max_tokens: g.max_tokens,
            top_logprobs: g.top_logprobs,
            constraint: g.constraint,
            ahead: g.ahead.map(Ahead::drawing),
            usage: g.run.usage,
        });
        Rescued { generation, seed: self.seed }
    }

    /// Takes over a generation from an engine of the same files. Its next steps compute again what was lost (`recovering`, or, where no
    /// token had been given out, `image` and `prefill`), then go on with the stream.
    ///
    /// # Errors
    /// `invalid_request` where the generation is of another model.
    pub fn resume(&mut self, rescued: Rescued) -> Result<()> {
        self.seed = rescued.seed;
        let Some(u) = rescued.generation else { return Ok(()) };
        let answer = &u.history[u.history.len() - u.n_generated..];
        let mut slots = u.prompt.clone();
        slots.extend(answer.iter().map(|id| Slot::Token(*id)));
        let is_known = |slot: &Slot| match slot {
            Slot::Token(id) => (*id as usize) < self.llm.dims().n_vocab,
            Slot::Picture { hash, .. } => u.originals.iter().any(|(h, _)| h == hash),
        };
        // The last token of a full context is given out, but never run.
        let is_full = slots.len() > self.session.n_ctx && u.end.is_none();
        if is_full || !slots.iter().all(is_known) || (!u.originals.is_empty() && self.vision.is_none()) {
            return Err(Error::invalid_request(
                "The answer cannot go on, because the model's files are not the same as before. Ask again.",
            ));
        }
        let mut jobs = VecDeque::new();
        if let Some(vision) = &self.vision {
            jobs.extend(u.originals.iter().map(|(hash, pixels)| (*hash, vision.begin(pixels))));
        }
        let is_begun = u.n_generated > 0;
        let usage = if is_begun {
            u.usage
        } else {
            // Nothing was given out: what it cost is what the second attempt costs.
            Usage {
                prompt_tokens: u.usage.prompt_tokens,
                image_tokens: u.usage.image_tokens,
                image_tiles: u.usage.image_tiles,
                ..Usage::default()
            }
        };
        let originals = u.originals.clone();
        let places = u.originals.iter().map(|(hash, pixels)| (*hash, pixels.place)).collect();
        let single_from = u.prompt.len();
        let again = Run { slots, jobs, pictures: Vec::new(), originals: u.originals, places, single_from, prefill: None, usage };
        let (run, phase) = if is_begun {
            let nothing = Run {
                slots: Vec::new(),
                jobs: VecDeque::new(),
                pictures: Vec::new(),
                originals,
                places: Vec::new(),
                single_from: usize::MAX,
                prefill: None,
                usage,
            };
            (nothing, Phase::Replay(Box::new(again)))
        } else {
            (again, Phase::Prompt)
        };
        self.generation = Some(Generation {
            phase: u.end.map_or(phase, Phase::End),
            run,
            sampler: u.sampler,
            text: u.text,
            history: u.history,
            n_generated: u.n_generated,
            max_tokens: u.max_tokens,
            top_logprobs: u.top_logprobs,
            constraint: u.constraint,
            ahead: u.ahead.map(|drawing| Ahead::resumed(drawing, u.n_generated)),
            // The logits behind the last token are what the replay ends with.
            pending: None,
            prompt: u.prompt,
            n_computed: is_begun.then_some(u.n_computed),
        });
        Ok(())
    }

    /// Does one bounded piece of what a loss made necessary; nothing where there is none to do any more.
    pub(super) async fn replay(&mut self, g: &mut Generation<B>) -> Result<Option<Event>> {
        let Phase::Replay(mut run) = std::mem::replace(&mut g.phase, Phase::Answer) else { return Ok(None) };
        let event = self.run_step(&mut run).await?;
        if let Some(Event::Progress { done, total, .. }) = event {
            g.phase = Phase::Replay(run);
            return Ok(Some(Event::Progress { stage: "recovering", done, total }));
        }
        // What it cost is no part of the answer's cost.
        g.run.prefill = run.prefill;
        Ok(None)
    }
}
