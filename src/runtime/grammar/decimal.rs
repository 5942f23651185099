//! Numbers between bounds, as automata over their digits.

use std::collections::HashMap;

use serde_json::Number;

use super::automaton::{Builder, State};
use crate::error::Result;

/// Digits of a number at most where there are bounds: so many are told apart by every reader, which keeps 64-bit floats.
const MAX_DIGITS: usize = 15;
/// What multiples may be of, as a whole number.
const MAX_FACTOR: u64 = 1000;
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
    pub(super) multiple_of: Option<Factor>,
}

/// `units / 10^n_fraction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Factor {
    units: u32,
    n_fraction: u32,
}

impl Factor {
    /// Of a number; `None` where it has too many digits that count.
    pub(super) fn new(number: &Number) -> Option<Self> {
        let digits = Digits::of(float(number), false);
        let all: Vec<u8> = digits.whole.iter().chain(&digits.fraction).copied().collect();
        let units = std::str::from_utf8(&all).ok()?.parse().ok()?;
        Self::of(units, digits.fraction.len() as u32)
    }

    fn of(units: u64, n_fraction: u32) -> Option<Self> {
        (1..=MAX_FACTOR)
            .contains(&units)
            .then_some(Self { units: units as u32, n_fraction })
            .filter(|f| f.n_fraction <= MAX_DIGITS as u32)
    }

    /// What both go into.
    fn with(self, other: Self) -> Option<Self> {
        let n_fraction = self.n_fraction.max(other.n_fraction);
        let units = |f: Self| 10_u64.checked_pow(n_fraction - f.n_fraction)?.checked_mul(u64::from(f.units));
        let (mut a, mut b) = (units(self)?, units(other)?);
        let (whole, mut n) = (a.checked_mul(b)?, n_fraction);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        let mut units = whole / a;
        while n > 0 && units % 10 == 0 {
            (units, n) = (units / 10, n - 1);
        }
        Self::of(units, n)
    }

    /// The least whole number that is a multiple.
    fn whole(self) -> u32 {
        let mut units = self.units;
        for prime in [2, 5] {
            for _ in 0..self.n_fraction {
                units = if units.is_multiple_of(prime) { units / prime } else { units };
            }
        }
        units
    }

    /// Whether digits with so many of a fraction are a multiple, the rest of their division by `units` being known.
    fn divides(self, rest: u32, n_fraction: usize) -> bool {
        let zeros = self.n_fraction.saturating_sub(n_fraction as u32);
        let units = u64::from(self.units);
        (0..zeros).fold(u64::from(rest), |rest, _| rest * 10 % units) % units == 0
    }

    /// Whether a number is a multiple.
    pub(super) fn contains(self, number: &Number) -> bool {
        let digits = Digits::of(float(number), false);
        if digits.fraction.len() > self.n_fraction as usize {
            return false;
        }
        let rest =
            digits.whole.iter().chain(&digits.fraction).fold(0, |rest, digit| (rest * 10 + u32::from(digit - b'0')) % self.units);
        self.divides(rest, digits.fraction.len())
    }
}

/// A number as the automata write it, where there is one spelling of each.
pub(super) fn spelled(number: &Number) -> String {
    let value = float(number);
    let is_exact = value.is_finite() && value.abs() < 1e16 && (value == 0.0 || value.abs() > 1e-16);
    if is_exact { format!("{}", value + 0.0) } else { number.to_string() }
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

    /// Narrows it; `false` where the multiples of both would have too many digits.
    pub(super) fn add_factor(&mut self, factor: Factor) -> bool {
        let both = self.multiple_of.map_or(Some(factor), |old| old.with(factor));
        self.multiple_of = both.or(self.multiple_of);
        both.is_some()
    }

    /// Whether there are no bounds.
    fn is_unbounded(&self) -> bool {
        self.low.is_none() && self.high.is_none() && self.multiple_of.is_none()
    }

    /// Without some values: the ranges between them.
    pub(super) fn without(&self, values: &[&Number]) -> Vec<Self> {
        let mut values: Vec<&Number> = values.to_vec();
        values.sort_by(|a, b| float(a).total_cmp(&float(b)));
        let mut out = Vec::with_capacity(values.len() + 1);
        let mut rest = self.clone();
        for value in values {
            let bound = || Bound { value: value.clone(), is_exclusive: true };
            let mut below = rest.clone();
            below.add_high(bound());
            rest.add_low(bound());
            out.push(below);
        }
        out.push(rest);
        out
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
    /// So many digits of the fraction are written, and whether one of them is not 0; the point stands before them. Where numbers have one
    /// spelling only, whether the last of them is not.
    Fraction(usize, bool),
}

/// Numbers ≥ 0 between two bounds.
struct Magnitudes<'a> {
    low: Digits,
    high: Option<Digits>,
    n_whole: usize,
    n_fraction: usize,
    factor: Factor,
    /// Whether whole numbers are among them.
    whole_too: bool,
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
                    self.end_at(state, 0, low, high, rest, false);
                    if self.n_fraction > 0 {
                        let next = self.state((Place::Fraction(0, false), low, high, rest))?;
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
                        let rest = (rest * 10 + u32::from(digit - b'0')) % self.factor.units;
                        self.go(state, digit, (Place::Whole(n - 1, false), low, high, rest))?;
                    }
                }
                Place::Fraction(n, is_broken) => {
                    if n > 0 && (is_broken || !self.builder.is_strict) {
                        self.end_at(state, n, low, high, rest, is_broken);
                    }
                    if n < self.n_fraction {
                        for digit in b'0'..=b'9' {
                            let rest = (rest * 10 + u32::from(digit - b'0')) % self.factor.units;
                            let beside = |d: &Digits| d.fraction.get(n).copied().unwrap_or(b'0');
                            let low = low.then(digit, beside(&self.low));
                            let high = self.high.as_ref().map_or(high, |bound| high.then(digit, beside(bound)));
                            let is_broken = (is_broken && !self.builder.is_strict) || digit > b'0';
                            self.go(state, digit, (Place::Fraction(n + 1, is_broken), low, high, rest))?;
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
    fn end_at(&mut self, state: State, n: usize, low: Compared, high: Compared, rest: u32, is_broken: bool) {
        let above = low == Compared::Greater || (self.low.fraction.len() <= n && !self.low.is_exclusive);
        let below = match &self.high {
            Some(bound) if high == Compared::Equal => bound.fraction.len() > n || !bound.is_exclusive,
            _ => true,
        };
        if above && below && self.factor.divides(rest, n) && (is_broken || self.whole_too) {
            let end = self.end;
            self.builder.at(state).skips.push(end);
        }
    }
}

/// A new state behind a whole number.
pub(super) fn integer(builder: &mut Builder, from: State, range: &Range) -> Result<State> {
    let end = builder.state()?;
    let (low, high) = range.integers();
    let factor = Factor { units: range.multiple_of.map_or(1, Factor::whole), n_fraction: 0 };
    if high >= 0 {
        let (low, high) = (low.max(0), high.min(MAX_INTEGER));
        magnitudes(builder, from, end, (&low.to_string(), &high.to_string()), factor)?;
    }
    if low < 0 {
        let minus = builder.text(from, "-")?;
        // No −0.
        let (low, high) = ((-high).max(1), (-low).min(MAX_INTEGER));
        magnitudes(builder, minus, end, (&low.to_string(), &high.to_string()), factor)?;
    }
    Ok(end)
}

fn magnitudes(builder: &mut Builder, from: State, end: State, (low, high): (&str, &str), factor: Factor) -> Result<()> {
    let high = Digits::new(high, false);
    let n_whole = high.whole.len();
    let magnitudes = Magnitudes {
        low: Digits::new(low, false),
        high: Some(high),
        n_whole,
        n_fraction: 0,
        factor,
        whole_too: true,
        end,
        states: HashMap::new(),
        waiting: Vec::new(),
        builder,
    };
    magnitudes.build(from)
}

/// A new state behind a number: whole or not, or only such that are not. There are no exponents where there are bounds.
pub(super) fn number(builder: &mut Builder, from: State, range: &Range, whole_too: bool) -> Result<State> {
    let factor = range.multiple_of;
    if factor.is_some_and(|factor| factor.n_fraction == 0) {
        return if whole_too { integer(builder, from, range) } else { builder.state() };
    }
    if range.is_unbounded() && whole_too {
        if !builder.is_strict {
            return any_number(builder, from);
        }
        // Whole ones may be longer than others.
        let end = integer(builder, from, range)?;
        let last = number(builder, from, range, false)?;
        builder.at(last).skips.push(end);
        return Ok(end);
    }
    let end = builder.state()?;
    let low = range.low.as_ref().map(|b| (float(&b.value), b.is_exclusive));
    let high = range.high.as_ref().map(|b| (float(&b.value), b.is_exclusive));
    let zero = || Digits::of(0.0, false);
    let digits = |bound: (f64, bool)| Digits::of(bound.0, bound.1);
    if high.is_none_or(|(high, _)| high >= 0.0) {
        let low = low.filter(|(low, _)| *low >= 0.0).map_or_else(zero, digits);
        between(builder, from, end, (low, high.map(digits)), factor, whole_too)?;
    }
    if low.is_none_or(|(low, _)| low < 0.0) {
        let minus = builder.text(from, "-")?;
        // No −0, which some take for less than 0.
        let least = high.filter(|(high, _)| *high < 0.0).map_or_else(|| Digits::of(0.0, true), digits);
        between(builder, minus, end, (least, low.map(digits)), factor, whole_too)?;
    }
    Ok(end)
}

fn between(
    builder: &mut Builder,
    from: State,
    end: State,
    (low, high): (Digits, Option<Digits>),
    factor: Option<Factor>,
    whole_too: bool,
) -> Result<()> {
    const ROOM: usize = 9;
    let n_whole = match &high {
        Some(high) => high.whole.len(),
        None => low.whole.len().max(ROOM),
    }
    .min(MAX_DIGITS);
    let n_fraction = factor.map_or(MAX_DIGITS, |factor| factor.n_fraction as usize).min(MAX_DIGITS - n_whole);
    let factor = factor.unwrap_or(Factor { units: 1, n_fraction: 0 });
    let magnitudes = Magnitudes {
        low,
        high,
        n_whole,
        n_fraction,
        factor,
        whole_too,
        end,
        states: HashMap::new(),
        waiting: Vec::new(),
        builder,
    };
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
