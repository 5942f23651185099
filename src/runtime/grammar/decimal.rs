//! Numbers between bounds, as automata over their digits.

use std::collections::HashMap;

use serde_json::Number;

use super::automaton::{Builder, State};
use crate::error::Result;

/// Digits of a number at most where there are bounds: so many are told apart by every reader, which keeps 64-bit floats.
const MAX_DIGITS: usize = 15;
/// The whole numbers that 64-bit floats keep: 2⁵³ − 1.
const MAX_INTEGER: i64 = 9_007_199_254_740_991;

/// A bound.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) value: Number,
    /// Whether the bound itself is out.
    pub(super) is_exclusive: bool,
}

/// What numbers there may be.
#[derive(Debug, Clone, Default)]
pub(super) struct Range {
    pub(super) low: Option<Bound>,
    pub(super) high: Option<Bound>,
    /// Whole multiples of it alone.
    pub(super) multiple_of: u32,
}

/// The value of a number.
pub(super) fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

impl Range {
    /// Narrows it.
    pub(super) fn add_low(&mut self, bound: Bound) {
        let is_tighter = |old: &Bound| match float(&bound.value).partial_cmp(&float(&old.value)) {
            Some(std::cmp::Ordering::Equal) => bound.is_exclusive,
            order => order == Some(std::cmp::Ordering::Greater),
        };
        if self.low.as_ref().is_none_or(is_tighter) {
            self.low = Some(bound);
        }
    }

    /// Narrows it.
    pub(super) fn add_high(&mut self, bound: Bound) {
        let is_tighter = |old: &Bound| match float(&bound.value).partial_cmp(&float(&old.value)) {
            Some(std::cmp::Ordering::Equal) => bound.is_exclusive,
            order => order == Some(std::cmp::Ordering::Less),
        };
        if self.high.as_ref().is_none_or(is_tighter) {
            self.high = Some(bound);
        }
    }

    /// Whether there are no bounds.
    pub(super) fn is_unbounded(&self) -> bool {
        self.low.is_none() && self.high.is_none() && self.multiple_of <= 1
    }

    /// Whether a number is in it.
    pub(super) fn contains(&self, number: &Number) -> bool {
        let value = float(number);
        let above = |b: &Bound| value > float(&b.value) || (value == float(&b.value) && !b.is_exclusive);
        let below = |b: &Bound| value < float(&b.value) || (value == float(&b.value) && !b.is_exclusive);
        self.low.as_ref().is_none_or(above)
            && self.high.as_ref().is_none_or(below)
            && (self.multiple_of <= 1 || value % f64::from(self.multiple_of) == 0.0)
    }

    /// The whole numbers of it: the least and the greatest, within those that 64-bit floats keep.
    fn integers(&self) -> (i64, i64) {
        let low = self.low.as_ref().map_or(-MAX_INTEGER, |b| {
            let value = float(&b.value);
            let least = value.ceil();
            clamped(if b.is_exclusive && least == value { least + 1.0 } else { least })
        });
        let high = self.high.as_ref().map_or(MAX_INTEGER, |b| {
            let value = float(&b.value);
            let most = value.floor();
            clamped(if b.is_exclusive && most == value { most - 1.0 } else { most })
        });
        (low, high)
    }
}

/// One beyond the range stays beyond it.
fn clamped(value: f64) -> i64 {
    (value as i64).clamp(-MAX_INTEGER - 1, MAX_INTEGER + 1)
}

/// A number ≥ 0 by its digits, and whether it is out itself.
#[derive(Debug, Clone)]
struct Digits {
    /// Without leading zeros, but at least one digit.
    whole: Vec<u8>,
    /// Without trailing zeros.
    fraction: Vec<u8>,
    is_exclusive: bool,
}

impl Digits {
    fn new(text: &str, is_exclusive: bool) -> Self {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        Self { whole: whole.bytes().collect(), fraction: fraction.trim_end_matches('0').bytes().collect(), is_exclusive }
    }

    /// Of |value|; Rust writes floats without exponents.
    fn of(value: f64, is_exclusive: bool) -> Self {
        Self::new(&format!("{}", value.abs()), is_exclusive)
    }
}

/// What was written so far beside the beginning of a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Compared {
    Less,
    Equal,
    Greater,
}

impl Compared {
    fn then(self, digit: u8, other: u8) -> Self {
        match self {
            Self::Equal if digit < other => Self::Less,
            Self::Equal if digit > other => Self::Greater,
            same => same,
        }
    }
}

/// Where in a number one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// So many digits of the whole part are to come; whether it is the first.
    Whole(usize, bool),
    /// So many digits of the fraction are written; the point stands before them.
    Fraction(usize),
}

/// Numbers ≥ 0 between two bounds.
struct Magnitudes<'a> {
    low: Digits,
    high: Option<Digits>,
    n_whole: usize,
    n_fraction: usize,
    multiple_of: u32,
    end: State,
    states: HashMap<(Place, Compared, Compared, u32), State>,
    waiting: Vec<(Place, Compared, Compared, u32)>,
    builder: &'a mut Builder,
}

impl Magnitudes<'_> {
    fn state(&mut self, key: (Place, Compared, Compared, u32)) -> Result<State> {
        if let Some(&state) = self.states.get(&key) {
            return Ok(state);
        }
        let state = self.builder.state()?;
        self.states.insert(key, state);
        self.waiting.push(key);
        Ok(state)
    }

    fn build(mut self, from: State) -> Result<()> {
        let n_low = self.low.whole.len();
        let n_high = self.high.as_ref().map_or(self.n_whole, |h| h.whole.len().min(self.n_whole));
        for n in n_low..=n_high {
            // Of two whole numbers of different lengths the longer is the larger.
            let low = if n > n_low { Compared::Greater } else { Compared::Equal };
            let is_long = self.high.as_ref().is_some_and(|h| h.whole.len() == n);
            let high = if is_long { Compared::Equal } else { Compared::Less };
            let start = self.state((Place::Whole(n, true), low, high, 0))?;
            self.builder.at(from).skips.push(start);
        }
        while let Some(key) = self.waiting.pop() {
            let state = self.states[&key];
            let (place, low, high, rest) = key;
            match place {
                Place::Whole(0, _) => {
                    self.end_at(state, 0, low, high, rest);
                    if self.n_fraction > 0 {
                        let next = self.state((Place::Fraction(0), low, high, rest))?;
                        self.builder.range(state, b'.', b'.', next);
                    }
                }
                Place::Whole(n, is_first) => {
                    for digit in (if is_first && n > 1 { b'1' } else { b'0' })..=b'9' {
                        // Only a bound of the same length is still being compared.
                        let beside = |d: &Digits| d.whole[d.whole.len() - n];
                        let low = if low == Compared::Equal { low.then(digit, beside(&self.low)) } else { low };
                        let high = match &self.high {
                            Some(bound) if high == Compared::Equal => high.then(digit, beside(bound)),
                            _ => high,
                        };
                        let rest = (rest * 10 + u32::from(digit - b'0')) % self.multiple_of.max(1);
                        self.go(state, digit, (Place::Whole(n - 1, false), low, high, rest))?;
                    }
                }
                Place::Fraction(n) => {
                    if n > 0 {
                        self.end_at(state, n, low, high, rest);
                    }
                    if n < self.n_fraction {
                        for digit in b'0'..=b'9' {
                            let beside = |d: &Digits| d.fraction.get(n).copied().unwrap_or(b'0');
                            let low = low.then(digit, beside(&self.low));
                            let high = self.high.as_ref().map_or(high, |bound| high.then(digit, beside(bound)));
                            self.go(state, digit, (Place::Fraction(n + 1), low, high, rest))?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn go(&mut self, from: State, digit: u8, key: (Place, Compared, Compared, u32)) -> Result<()> {
        if key.1 != Compared::Less && key.2 != Compared::Greater {
            let to = self.state(key)?;
            self.builder.range(from, digit, digit, to);
        }
        Ok(())
    }

    /// Lets the number end where it has so many digits of a fraction, if it is between the bounds.
    fn end_at(&mut self, state: State, n: usize, low: Compared, high: Compared, rest: u32) {
        let above = low == Compared::Greater || (self.low.fraction.len() <= n && !self.low.is_exclusive);
        let below = match &self.high {
            Some(bound) if high == Compared::Equal => bound.fraction.len() > n || !bound.is_exclusive,
            _ => true,
        };
        if above && below && rest == 0 {
            let end = self.end;
            self.builder.at(state).skips.push(end);
        }
    }
}

/// A new state behind a whole number.
pub(super) fn integer(builder: &mut Builder, from: State, range: &Range) -> Result<State> {
    let end = builder.state()?;
    let (low, high) = range.integers();
    if high >= 0 {
        let (low, high) = (low.max(0), high.min(MAX_INTEGER));
        magnitudes(builder, from, end, (&low.to_string(), &high.to_string()), range.multiple_of)?;
    }
    if low < 0 {
        let minus = builder.text(from, "-")?;
        // No −0.
        let (low, high) = ((-high).max(1), (-low).min(MAX_INTEGER));
        magnitudes(builder, minus, end, (&low.to_string(), &high.to_string()), range.multiple_of)?;
    }
    Ok(end)
}

fn magnitudes(builder: &mut Builder, from: State, end: State, (low, high): (&str, &str), multiple_of: u32) -> Result<()> {
    let high = Digits::new(high, false);
    let n_whole = high.whole.len();
    let magnitudes = Magnitudes {
        low: Digits::new(low, false),
        high: Some(high),
        n_whole,
        n_fraction: 0,
        multiple_of,
        end,
        states: HashMap::new(),
        waiting: Vec::new(),
        builder,
    };
    magnitudes.build(from)
}

/// A new state behind a number, whole or not. There are no exponents where there are bounds.
pub(super) fn number(builder: &mut Builder, from: State, range: &Range) -> Result<State> {
    if range.multiple_of >= 1 {
        return integer(builder, from, range);
    }
    if range.is_unbounded() {
        return any_number(builder, from);
    }
    let end = builder.state()?;
    let low = range.low.as_ref().map(|b| (float(&b.value), b.is_exclusive));
    let high = range.high.as_ref().map(|b| (float(&b.value), b.is_exclusive));
    let zero = || Digits::of(0.0, false);
    let digits = |bound: (f64, bool)| Digits::of(bound.0, bound.1);
    if high.is_none_or(|(high, _)| high >= 0.0) {
        let low = low.filter(|(low, _)| *low >= 0.0).map_or_else(zero, digits);
        between(builder, from, end, low, high.map(digits))?;
    }
    if low.is_none_or(|(low, _)| low < 0.0) {
        let minus = builder.text(from, "-")?;
        // No −0, which some take for less than 0.
        let least = high.filter(|(high, _)| *high < 0.0).map_or_else(|| Digits::of(0.0, true), digits);
        between(builder, minus, end, least, low.map(digits))?;
    }
    Ok(end)
}

fn between(builder: &mut Builder, from: State, end: State, low: Digits, high: Option<Digits>) -> Result<()> {
    const ROOM: usize = 9;
    let n_whole = match &high {
        Some(high) => high.whole.len(),
        None => low.whole.len().max(ROOM),
    }
    .min(MAX_DIGITS);
    let n_fraction = MAX_DIGITS - n_whole;
    let magnitudes =
        Magnitudes { low, high, n_whole, n_fraction, multiple_of: 1, end, states: HashMap::new(), waiting: Vec::new(), builder };
    magnitudes.build(from)
}

/// Any number that every reader takes: its digits are bounded, so that a model cannot write them without end.
fn any_number(builder: &mut Builder, from: State) -> Result<State> {
    const MAX_WHOLE: usize = 16;
    const MAX_FRACTION: usize = 16;
    let end = builder.state()?;
    let (first, whole, point, exponent) = (builder.state()?, builder.state()?, builder.state()?, builder.state()?);
    builder.range(from, b'-', b'-', first);
    builder.at(from).skips.push(first);
    builder.range(first, b'0', b'0', whole);
    let mut digits = builder.state()?;
    builder.range(first, b'1', b'9', digits);
    for _ in 1..MAX_WHOLE {
        let next = builder.state()?;
        builder.range(digits, b'0', b'9', next);
        builder.at(digits).skips.push(whole);
        digits = next;
    }
    builder.at(digits).skips.push(whole);
    builder.at(whole).skips.extend([end, exponent]);
    builder.range(whole, b'.', b'.', point);
    let mut digits = point;
    for _ in 0..MAX_FRACTION {
        let next = builder.state()?;
        builder.range(digits, b'0', b'9', next);
        builder.at(next).skips.extend([end, exponent]);
        digits = next;
    }
    // Two digits of it keep the number below the largest that there is.
    let (sign, tens) = (builder.state()?, builder.state()?);
    for e in *b"eE" {
        builder.range(exponent, e, e, sign);
    }
    let ones = builder.state()?;
    for s in *b"+-" {
        builder.range(sign, s, s, tens);
    }
    builder.at(sign).skips.push(tens);
    builder.range(tens, b'0', b'9', ones);
    builder.range(ones, b'0', b'9', end);
    builder.at(ones).skips.push(end);
    Ok(end)
}
