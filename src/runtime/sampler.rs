//! From logits to a token.
//!
//! The order is llama.cpp's: logit bias, repetition penalty, frequency and presence penalties; then, where the
//! temperature is 0, the largest logit; else top-k, top-p, min-p, temperature, and a draw. Top-p and min-p therefore
//! judge the distribution as it was before the temperature flattens or sharpens it.
//!
//! The rule itself is [`crate::backend::choice`], because devices follow it too.

use std::collections::BTreeMap;

use crate::backend::choice::{self, Candidate, Choice, Ranked, by_rank};
use crate::error::{Error, Result};
use crate::runtime::grammar::TokenSet;

/// How many of the last tokens the repetition penalty looks at, prompt included.
pub const REPETITION_WINDOW: usize = 64;

/// How tokens are chosen. The default draws from the model's own distribution.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerConfig {
    /// 0 … 2. 0 always takes the likeliest token; 1 leaves the distribution as it is.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// 0 … 1. Only the likeliest tokens that together have this probability are drawn from, at least one; 1 for all.
    pub top_p: f32,
    /// 0 … 1. Only tokens with at least this fraction of the likeliest one's probability are drawn from; 0 for all.
    pub min_p: f32,
    /// 0.1 … 10. The logit of each token among the last [`REPETITION_WINDOW`] is divided by it where positive, else
    /// multiplied; 1 for none.
    pub repetition_penalty: f32,
    /// −2 … 2. Taken from a token's logit once for each time it was generated; 0 for none.
    pub frequency_penalty: f32,
    /// −2 … 2. Taken from the logit of each token that was generated; 0 for none.
    pub presence_penalty: f32,
    /// Tokens and what is added to their logits, −100 … 100. Entries for one token add up.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed draws the same tokens from the same logits, on every machine.
    pub seed: u64,
    /// Whether [`Sampled::logprob`] is wanted; it costs an exponential per token of the vocabulary.
    pub logprobs: bool,
}

impl Default for SamplerConfig {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: 0,
            logprobs: false,
        }
    }
}

impl SamplerConfig {
    /// Checks every field's range.
    ///
    /// # Errors
    /// `invalid_request` naming the field and its range; not-a-number and infinities are outside every range.
    pub fn validate(&self) -> Result<()> {
        let check = |name: &str, value: f32, low: f32, high: f32| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid_request(format!("'{name}' is {value}, but must be a number from {low} to {high}.")))
        };
        check("temperature", self.temperature, 0.0, 2.0)?;
        check("top_p", self.top_p, 0.0, 1.0)?;
        check("min_p", self.min_p, 0.0, 1.0)?;
        check("repetition_penalty", self.repetition_penalty, 0.1, 10.0)?;
        check("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        check("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        self.logit_bias.iter().try_for_each(|&(id, bias)| check(&format!("logit_bias[{id}]"), bias, -100.0, 100.0))
    }

    /// The rule alone, where nothing but the last position's logits decides: then the choice can be left to the device.
    pub fn plain_choice(&self) -> Option<Choice> {
        let is_plain = self.repetition_penalty == 1.0
            && self.frequency_penalty == 0.0
            && self.presence_penalty == 0.0
            && self.logit_bias.is_empty()
            && !self.logprobs;
        is_plain.then(|| self.choice())
    }

    fn choice(&self) -> Choice {
        Choice { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p, min_p: self.min_p }
    }
}

/// A chosen token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampled {
    /// The token.
    pub id: u32,
    /// Its natural log-probability in the model's own distribution, before any bias, penalty or temperature; there if
    /// [`SamplerConfig::logprobs`] is set.
    pub logprob: Option<f32>,
}

/// A token with its natural log-probability in the model's own distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Its natural log-probability.
    pub logprob: f32,
}

/// Chooses the tokens of one reply.
#[derive(Debug, Clone)]
pub struct Sampler {
    config: SamplerConfig,
    n_vocab: usize,
    random: SplitMix64,
    /// How often each token was generated.
    generated: BTreeMap<u32, u32>,
    /// Logits that were changed, to be put back: (index, value before).
    changed: Vec<(usize, f32)>,
    /// The logits without tokens that are not allowed.
    masked: Vec<f32>,
    candidates: Vec<Ranked>,
}

impl Sampler {
    /// A sampler for logits of `n_vocab` tokens.
    ///
    /// # Errors
    /// `invalid_request` as [`SamplerConfig::validate`], or where a biased token is not in the vocabulary.
    pub fn new(config: SamplerConfig, n_vocab: usize) -> Result<Self> {
        config.validate()?;
        if let Some((id, _)) = config.logit_bias.iter().find(|(id, _)| *id as usize >= n_vocab) {
            return Err(Error::invalid_request(format!(
                "'logit_bias' names the token {id}, but the model has only {n_vocab} tokens, counted from 0."
            )));
        }
        let random = SplitMix64(config.seed);
        Ok(Self {
            config,
            n_vocab,
            random,
            generated: BTreeMap::new(),
            changed: Vec::new(),
            masked: Vec::new(),
            candidates: Vec::new(),
        })
    }

    /// How tokens are chosen.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Chooses a token by `logits` `[n_vocab]` and counts it as generated. `history` holds the tokens so far, prompt
    /// included and images left out; the repetition penalty looks at its end. The logits are changed meanwhile and put
    /// back.
    ///
    /// A token whose logit is −∞ is never chosen: that is how a caller rules tokens out.
    ///
    /// # Errors
    /// `invalid_gguf` where a logit is not a number or +∞, `invalid_request` where all are −∞, `internal` where there
    /// are not `n_vocab` of them.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Result<Sampled> {
        self.sample_among(logits, history, None)
    }

    /// The same, with no token chosen that is not among those that are `allowed`, where they are given. The log-probability is in the
    /// distribution of all.
    ///
    /// # Errors
    /// As [`Self::sample`].
    pub fn sample_among(&mut self, logits: &mut [f32], history: &[u32], allowed: Option<&TokenSet>) -> Result<Sampled> {
        if logits.len() != self.n_vocab {
            return Err(Error::internal(format!("There are {} logits for {} tokens.", logits.len(), self.n_vocab)));
        }
        let raw_best = best(logits)?;
        self.adjust(logits, history);
        let chosen = match allowed {
            Some(allowed) => {
                let mut masked = std::mem::take(&mut self.masked);
                masked.clear();
                let rule_out = |(id, &logit)| if allowed.contains(id) { logit } else { f32::NEG_INFINITY };
                masked.extend((0..).zip(logits.iter()).map(rule_out));
                let chosen = self.choose(&masked);
                self.masked = masked;
                chosen
            }
            None => self.choose(logits),
        };
        // In reverse, for a logit may have been changed twice.
        while let Some((at, logit)) = self.changed.pop() {
            logits[at] = logit;
        }
        let id = chosen?;
        self.record(id);
        #[expect(clippy::cast_possible_truncation, reason = "computed in f64, told in f32")]
        let logprob = self.config.logprobs.then(|| (f64::from(logits[id as usize]) - log_sum_exp(logits, raw_best.logit)) as f32);
        Ok(Sampled { id, logprob })
    }

    /// Counts a token as generated that was chosen elsewhere.
    pub fn record(&mut self, id: u32) {
        let count = self.generated.entry(id).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Applies bias and penalties, noting what the logits were.
    fn adjust(&mut self, logits: &mut [f32], history: &[u32]) {
        let Self { config, changed, generated, .. } = self;
        changed.clear();
        let mut change = |id: u32, f: &dyn Fn(f32) -> f32| {
            // Ids beyond the vocabulary may stand in the history for what is no token.
            if let Some(logit) = logits.get_mut(id as usize) {
                changed.push((id as usize, *logit));
                *logit = f(*logit);
            }
        };
        for &(id, bias) in &config.logit_bias {
            change(id, &|logit| logit + bias);
        }
        if config.repetition_penalty != 1.0 {
            let window = &history[history.len().saturating_sub(REPETITION_WINDOW)..];
            for (i, &id) in window.iter().enumerate() {
                // Once per token, however often it stands there.
                if !window[..i].contains(&id) {
                    let penalty = config.repetition_penalty;
                    change(id, &|logit| if logit > 0.0 { logit / penalty } else { logit * penalty });
                }
            }
        }
        if config.frequency_penalty != 0.0 || config.presence_penalty != 0.0 {
            for (&id, &count) in generated.iter() {
                change(id, &|logit| logit - config.frequency_penalty * count as f32 - config.presence_penalty);
            }
        }
    }

    /// The next random number, evenly in [0, 1): what a device is to draw by. A greedy choice takes none.
    pub fn unit(&mut self) -> f64 {
        if self.config.temperature == 0.0 { 0.0 } else { self.random.unit() }
    }

    fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        let best = best(logits)?;
        let unit = self.unit();
        Ok(choice::draw(logits, best, &self.config.choice(), unit, &mut self.candidates))
    }
}

/// The largest logit, of equals the one with the lowest id.
fn best(logits: &[f32]) -> Result<Candidate> {
    let best = choice::best(logits).ok_or_else(not_a_number)?;
    if best.logit == f32::NEG_INFINITY {
        return Err(Error::invalid_request(
            "Every token is ruled out, so the reply cannot go on; loosen the response format or the logit biases.",
        ));
    }
    Ok(best)
}

/// What is said where a logit is no finite number.
pub fn not_a_number() -> Error {
    Error::invalid_gguf("The model computed something that is not a number; its file is probably damaged. Load it anew.")
}

/// ln Σ exp(logit), `max` being the largest logit.
fn log_sum_exp(logits: &[f32], max: f32) -> f64 {
    f64::from(max) + logits.iter().map(|&l| f64::from((l - max).exp())).sum::<f64>().ln()
}

/// The `n` likeliest tokens of the model's own distribution with their log-probabilities, likeliest first, of equals
/// the lower id first. `logits` is `[n_vocab]`, as [`Sampler::sample`] leaves it.
///
/// # Errors
/// As [`Sampler::sample`].
pub fn top_logprobs(logits: &[f32], n: usize) -> Result<Vec<TokenLogprob>> {
    let normaliser = log_sum_exp(logits, best(logits)?.logit);
    let n = n.min(logits.len());
    let mut top: Vec<Candidate> = Vec::with_capacity(n + 1);
    for (id, &logit) in (0u32..).zip(logits) {
        let candidate = Candidate { logit, id };
        if top.len() == n && top.last().is_none_or(|last| by_rank(last, &candidate).is_lt()) {
            continue;
        }
        top.insert(top.partition_point(|other| by_rank(other, &candidate).is_lt()), candidate);
        top.truncate(n);
    }
    #[expect(clippy::cast_possible_truncation, reason = "computed in f64, told in f32")]
    let logprob = |c: Candidate| TokenLogprob { id: c.id, logprob: (f64::from(c.logit) - normaliser) as f32 };
    Ok(top.into_iter().map(logprob).collect())
}

/// Steele, Lea and Flood's SplitMix64: a counter and a mixing function. Integers only, so the same everywhere; it
/// passes the usual statistical suites and needs no seeding ritual.
#[derive(Debug, Clone)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly in [0, 1), 53 bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}
