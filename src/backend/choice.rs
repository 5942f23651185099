//! How a token is chosen by its logits: the definition that devices are held against, and what the host itself does.
//!
//! All that follows the search for the largest logit is integer arithmetic. A GPU's exponentials differ from the host's in their last bits,
//! and its sums come in another order; of integers both have the same, so both choose the same token, always. A token has
//!
//! * a *distance* from the likeliest one, `⌊(largest − logit) · 2¹⁶⌋`, at most [`MAX_DISTANCE`] (64 nats, which nothing is drawn at).
//!   Tokens rank by their distance, those at the same distance by their ids;
//! * a *weight*, `2³⁰ · exp(−distance / (2¹⁶ · temperature))` to 3e-5 ([`Weights`]). Sums of weights have 64 bits.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "fixed-point numbers, clamped to their range before they are narrowed"
)]

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

    /// Whether there is nothing to draw: the likeliest token is the only one.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 || self.top_k == 1
    }
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

/// The largest distance; 64 nats. At the highest temperature a request can have, 2, its weight is zero.
pub const MAX_DISTANCE: u32 = (1 << 22) - 1;

/// How far a logit is below the largest, in 2⁻¹⁶ nats.
pub fn distance(largest: f32, logit: f32) -> u32 {
    // Multiplying by a power of two is exact, so that a compiler that fuses both steps gets the same.
    ((largest - logit) * 65536.0).min(MAX_DISTANCE as f32) as u32
}

/// The farthest distance at which a token has at least `min_p` times the probability of the likeliest.
pub fn farthest(min_p: f32) -> u32 {
    (-f64::from(min_p).ln() * 65536.0).min(f64::from(MAX_DISTANCE)) as u32
}

/// A fraction from 0 to 1 in units of 2⁻³².
pub fn fraction(x: f64) -> u32 {
    (x * 4_294_967_296.0) as u32
}

/// `total` times a [`fraction`], rounded down.
fn share(total: u64, fraction: u32) -> u64 {
    ((u128::from(total) * u128::from(fraction)) >> 32) as u64
}

/// The weights that tokens have at a temperature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// `2¹⁶ log₂ e / temperature`: what a distance is multiplied by to become halvings, in 2⁻¹⁶, after 16 bits are dropped.
    pub factor: u32,
    /// The first distance whose weight is zero.
    pub end: u32,
}

impl Weights {
    /// The weights at a temperature above 0.
    pub fn new(temperature: f32) -> Self {
        let factor = ((std::f64::consts::LOG2_E * 65536.0 / f64::from(temperature)).round() as u32).max(1);
        let end = (31_u64 << 32).div_ceil(u64::from(factor)).min(u64::from(u32::MAX));
        Self { factor, end: end as u32 }
    }

    /// The weight at a distance.
    pub fn at(self, distance: u32) -> u32 {
        if distance >= self.end {
            return 0;
        }
        let halvings = ((u64::from(distance) * u64::from(self.factor)) >> 16) as u32;
        // 2⁻ʸ for y in [0, 1) as a polynomial, its coefficients in 2⁻¹⁸, the first in 2⁻¹⁶.
        let y = halvings & 0xffff;
        let r = 13950 - ((1790 * y) >> 16);
        let r = 62773 - ((r * y) >> 16);
        let r = 45421 - ((r * y + (1 << 17)) >> 18);
        ((1 << 30) - ((r * y) >> 2)) >> (halvings >> 16)
    }
}

/// A token that may be drawn; the order is that of ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked {
    /// See [`distance`].
    pub distance: u32,
    /// Its id.
    pub id: u32,
}

/// Draws from the distribution that top-k, top-p, min-p and the temperature leave of `logits`: the token at which the sum of
/// weights, in the order of the ids, passes `unit` (evenly in [0, 1)) of their total. `best` is the likeliest token, whose logit is finite;
/// `tokens` is scratch. Tokens with a logit of −∞ are never drawn.
///
/// The order is llama.cpp's: top-k, top-p and min-p judge the distribution as it was before the temperature flattens or sharpens it.
/// Nothing sorts the vocabulary: top-k and top-p select what they keep and sort only that.
pub fn draw(logits: &[f32], best: Candidate, choice: &Choice, unit: f64, tokens: &mut Vec<Ranked>) -> u32 {
    if choice.is_greedy() {
        return best.id;
    }
    tokens.clear();
    let ranked = |(id, logit): (u32, &f32)| Ranked { distance: distance(best.logit, *logit), id };
    tokens.extend((0..).zip(logits).filter(|(_, l)| **l > f32::NEG_INFINITY).map(ranked));
    if choice.top_k > 0 && choice.top_k < tokens.len() {
        tokens.select_nth_unstable(choice.top_k - 1);
        tokens.truncate(choice.top_k);
    }
    let total = |tokens: &[Ranked], weights: Weights| tokens.iter().map(|t| u64::from(weights.at(t.distance))).sum::<u64>();
    if choice.top_p < 1.0 {
        let weights = Weights::new(1.0);
        let wanted = share(total(tokens, weights), fraction(f64::from(choice.top_p))).max(1);
        // The nucleus is a few tokens or a few hundred: look among the best ever wider.
        let mut width = 64;
        loop {
            width = width.min(tokens.len());
            if width < tokens.len() {
                tokens.select_nth_unstable(width - 1);
            }
            tokens[..width].sort_unstable();
            let mut sum = 0;
            let reached = tokens[..width].iter().position(|token| {
                sum += u64::from(weights.at(token.distance));
                sum >= wanted
            });
            if let Some(last) = reached {
                tokens.truncate(last + 1);
                break;
            }
            if width == tokens.len() {
                break;
            }
            width *= 8;
        }
    }
    if choice.min_p > 0.0 {
        let farthest = farthest(choice.min_p);
        tokens.retain(|token| token.distance <= farthest);
    }
    if choice.top_k > 0 || choice.top_p < 1.0 {
        tokens.sort_unstable_by_key(|token| token.id);
    }
    let weights = Weights::new(choice.temperature);
    let mut rest = share(total(tokens, weights), fraction(unit));
    for token in tokens.iter() {
        let weight = u64::from(weights.at(token.distance));
        if rest < weight {
            return token.id;
        }
        rest -= weight;
    }
    // Never: the best token is among them, so the total is not zero and `rest` below it.
    best.id
}

/// Chooses by the rule; `None` where a logit is no number or +∞, or all are −∞.
pub fn choose(logits: &[f32], choice: &Choice, unit: f64, tokens: &mut Vec<Ranked>) -> Option<u32> {
    let best = best(logits).filter(|best| best.logit > f32::NEG_INFINITY)?;
    Some(draw(logits, best, choice, unit, tokens))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_exponentials() {
        for temperature in [0.01, 0.5, 0.7, 1.0, 1.3, 2.0] {
            let weights = Weights::new(temperature);
            assert_eq!(weights.at(0), 1 << 30);
            // The temperature's own rounding counts as often as the weight is halved.
            let step = 1.0 + 2e-5;
            for distance in (0..=MAX_DISTANCE).step_by(61) {
                let nats = f64::from(distance) / 65536.0 / f64::from(temperature);
                let (exact, halvings) = ((30.0 * std::f64::consts::LN_2 - nats).exp(), nats * std::f64::consts::LOG2_E);
                let weight = f64::from(weights.at(distance));
                assert!(
                    (weight - exact).abs() <= exact * (3e-5 + (step - 1.0) * (1.0 + halvings)) + 1.0,
                    "temperature {temperature}, {distance}: {weight}, not {exact}"
                );
            }
            assert_eq!(weights.at(MAX_DISTANCE), 0);
        }
    }

    #[test]
    fn minus_infinity_is_a_token_ruled_out() {
        let mut tokens = Vec::new();
        let rest = [f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY, 1.0];
        let drawn = |unit| choose(&rest, &Choice { top_k: 3, ..Choice::default() }, unit, &mut Vec::new());
        assert_eq!([drawn(0.0), drawn(0.49), drawn(0.51), drawn(0.999)], [Some(1), Some(1), Some(3), Some(3)]);
        assert_eq!(choose(&[f32::NEG_INFINITY; 3], &Choice::GREEDY, 0.0, &mut tokens), None);
        assert_eq!(choose(&[0.0, f32::INFINITY], &Choice::GREEDY, 0.0, &mut tokens), None);
    }

    #[test]
    fn one_token_left_is_the_likeliest() {
        // Two logits that are one distance, and are not equal.
        let logits = [2.0, 2.000_001];
        for choice in [Choice { top_k: 1, ..Choice::default() }, Choice::GREEDY] {
            assert_eq!(choose(&logits, &choice, 0.9, &mut Vec::new()), Some(1));
        }
    }
}
