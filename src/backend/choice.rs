//! How a token is chosen by its logits: the definition that devices are held against, and what the host itself does.

use std::cmp::Ordering;

/// A rule for choosing tokens. The default draws from the model's own distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// 0 takes the likeliest token; 1 leaves the distribution as it is.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens are drawn from; 0 for all.
    pub top_k: usize,
    /// 0 … 1. Only the likeliest of these that together have this share of their probability are drawn from, at least one; 1 for all.
    pub top_p: f32,
    /// 0 … 1. Only tokens with at least this fraction of the likeliest one's probability are drawn from; 0 for all.
    pub min_p: f32,
}

impl Choice {
    /// The likeliest token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0 };
}

impl Default for Choice {
    fn default() -> Self {
        Self { temperature: 1.0, ..Self::GREEDY }
    }
}

/// A token that may be drawn.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Its logit.
    pub logit: f32,
    /// Its id.
    pub id: u32,
}

/// Likeliest first, of equals the lower id. Logits have no NaN here.
pub fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// The largest logit, of equals the one with the lowest id; `None` where a logit is not a number or +∞. The logit is −∞ where all are.
pub fn best(logits: &[f32]) -> Option<Candidate> {
    let mut best = Candidate { logit: f32::NEG_INFINITY, id: 0 };
    let mut sound = true;
    for (id, &logit) in (0u32..).zip(logits) {
        sound &= logit < f32::INFINITY;
        if logit > best.logit {
            best = Candidate { logit, id };
        }
    }
    sound.then_some(best)
}

/// Draws from the distribution that top-k, top-p, min-p and the temperature leave of `logits`: the token at which the sum of
/// probabilities, in the order of the ids, passes `unit` (evenly in [0, 1)). `max` is the largest logit, which is finite;
/// `candidates` is scratch.
///
/// The order is llama.cpp's: top-k, top-p and min-p judge the distribution as it was before the temperature flattens or sharpens it.
/// Nothing sorts the vocabulary: top-k and top-p select what they keep and sort only that.
pub fn draw(logits: &[f32], max: f32, choice: &Choice, unit: f64, candidates: &mut Vec<Candidate>) -> u32 {
    let c = candidates;
    c.clear();
    c.extend((0u32..).zip(logits).filter(|(_, l)| **l > f32::NEG_INFINITY).map(|(id, &logit)| Candidate { logit, id }));
    if choice.top_k > 0 && choice.top_k < c.len() {
        c.select_nth_unstable_by(choice.top_k - 1, by_rank);
        c.truncate(choice.top_k);
    }
    if choice.top_p < 1.0 {
        let weight = |candidate: &Candidate| f64::from(candidate.logit - max).exp();
        let wanted = f64::from(choice.top_p) * c.iter().map(weight).sum::<f64>();
        // The nucleus is a few tokens or a few hundred: look among the best ever wider.
        let mut width = 64;
        loop {
            width = width.min(c.len());
            if width < c.len() {
                c.select_nth_unstable_by(width - 1, by_rank);
            }
            c[..width].sort_unstable_by(by_rank);
            let mut sum = 0.0;
            let reached = c[..width].iter().position(|candidate| {
                sum += weight(candidate);
                sum >= wanted
            });
            if let Some(last) = reached {
                c.truncate(last + 1);
                break;
            }
            if width == c.len() {
                break;
            }
            width *= 8;
        }
    }
    if choice.min_p > 0.0 {
        let least = max + choice.min_p.ln();
        c.retain(|candidate| candidate.logit >= least);
    }
    if choice.top_k > 0 || choice.top_p < 1.0 {
        c.sort_unstable_by_key(|candidate| candidate.id);
    }
    let temperature = f64::from(choice.temperature);
    let weight = |candidate: &Candidate| (f64::from(candidate.logit - max) / temperature).exp();
    let mut rest = unit * c.iter().map(weight).sum::<f64>();
    // Rounding may leave a remainder after the last candidate; then it is the last that had a chance.
    let mut id = 0;
    for candidate in c.iter() {
        let weight = weight(candidate);
        if weight > 0.0 {
            id = candidate.id;
            if rest < weight {
                break;
            }
            rest -= weight;
        }
    }
    id
}

/// Chooses by the rule; `None` where a logit is no finite number.
pub fn choose(logits: &[f32], choice: &Choice, unit: f64, candidates: &mut Vec<Candidate>) -> Option<u32> {
    let best = best(logits).filter(|best| best.logit > f32::NEG_INFINITY)?;
    Some(if choice.temperature == 0.0 { best.id } else { draw(logits, best.logit, choice, unit, candidates) })
}
