//! From what is said of a text to a deterministic automaton.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use super::syntax::Node;
use super::{CharDfa, CharSet, Refusal, Text, normalized, trimmed};
use crate::runtime::grammar::automaton::MAX_CHAR;

/// States that patterns may have before they are made deterministic.
const MAX_NFA: usize = 20_000;
/// States that all that is said of one text may have together.
const MAX_DFA: usize = 40_000;
/// What all texts of a schema may cost: about so many states looked at.
pub(in crate::runtime::grammar) const MAX_WORK: usize = 4_000_000;

/// A state of an automaton that may be in several.
#[derive(Debug)]
enum Step {
    /// A character of the set leads to the state.
    Char(usize, usize),
    /// One is in both.
    Split(usize, usize),
    /// One is in the other at the beginning of the text alone.
    IfStart(usize),
    /// One is in the other at the end of the text alone.
    IfEnd(usize),
    /// One is in `next` where what begins at `body` matches from here on, or where it does not.
    Ahead { body: usize, is_negated: bool, next: usize },
    /// One is in `next` where what looks behind, by its number, matches up to here, or where it does not.
    Behind { number: usize, is_negated: bool, next: usize },
    /// What looks behind matches up to here.
    Found,
    /// It has matched, whatever follows.
    Match,
}

/// `Match`, the first state.
const MATCH: usize = 0;

/// The number of a set of threads, and of a set of duties.
type Threads = usize;
type Duties = usize;

/// Nothing is to be seen to.
const NO_DUTIES: Duties = 0;

/// One of the states that one is in, and what must match besides, or must not.
type Thread = (usize, Duties);
/// Whether it must not match, and where it has come to.
type Duty = (bool, Threads);

/// Values by number.
#[derive(Debug)]
struct Numbers<T> {
    all: Vec<Rc<[T]>>,
    numbers: HashMap<Rc<[T]>, usize>,
}

impl<T: Hash + Eq> Numbers<T> {
    fn new() -> Self {
        Self { all: Vec::new(), numbers: HashMap::new() }
    }

    fn number(&mut self, value: Vec<T>) -> usize {
        if let Some(&number) = self.numbers.get(value.as_slice()) {
            return number;
        }
        let value: Rc<[T]> = value.into();
        self.all.push(value.clone());
        self.numbers.insert(value, self.all.len() - 1);
        self.all.len() - 1
    }

    fn at(&self, number: usize) -> Rc<[T]> {
        self.all[number].clone()
    }
}

/// A place in the text: whether it is the first, and whether what looks behind matches up to it.
#[derive(Debug, Clone, Default)]
struct Place {
    is_start: bool,
    found: Vec<bool>,
}

struct Nfa<'w> {
    steps: Vec<Step>,
    sets: Vec<Rc<CharSet>>,
    set_numbers: HashMap<Rc<CharSet>, usize>,
    /// Where what looks behind begins to search. One that has others within it comes behind them.
    behind: Vec<usize>,
    behind_numbers: HashMap<Node, usize>,
    threads: Numbers<Thread>,
    duties: Numbers<Duty>,
    work: &'w mut usize,
}

/// What has been read so far, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    /// Those of what looks behind, then of what must hold and of each label.
    threads: Vec<Threads>,
    n_chars: u32,
    is_start: bool,
}

impl Nfa<'_> {
    fn push(&mut self, step: Step) -> Result<usize, Refusal> {
        if self.steps.len() >= MAX_NFA {
            return Err(Refusal::TooLarge);
        }
        self.steps.push(step);
        *self.work += 1;
        Ok(self.steps.len() - 1)
    }

    fn chars(&mut self, set: &Rc<CharSet>, next: usize) -> Result<usize, Refusal> {
        let number = match self.set_numbers.get(set) {
            Some(&number) => number,
            None => {
                self.sets.push(set.clone());
                self.set_numbers.insert(set.clone(), self.sets.len() - 1);
                self.sets.len() - 1
            }
        };
        self.push(Step::Char(number, next))
    }

    /// Adds what leads to `next`, and gives its start.
    fn add(&mut self, node: &Node, next: usize) -> Result<usize, Refusal> {
        match node {
            Node::Chars(set) => self.chars(set, next),
            Node::Start => self.push(Step::IfStart(next)),
            Node::End => self.push(Step::IfEnd(next)),
            Node::Look { is_behind: false, is_negated, body } => {
                let body = self.add(body, MATCH)?;
                self.push(Step::Ahead { body, is_negated: *is_negated, next })
            }
            Node::Look { is_behind: true, is_negated, body } => {
                let number = match self.behind_numbers.get(body.as_ref()) {
                    Some(&number) => number,
                    None => {
                        let found = self.push(Step::Found)?;
                        let start = self.add(body, found)?;
                        // It may begin anywhere before.
                        let search = self.push(Step::Split(start, start))?;
                        let skip = self.chars(&Rc::new(vec![(0, MAX_CHAR)]), search)?;
                        self.steps[search] = Step::Split(start, skip);
                        self.behind.push(search);
                        self.behind_numbers.insert(body.as_ref().clone(), self.behind.len() - 1);
                        self.behind.len() - 1
                    }
                };
                self.push(Step::Behind { number, is_negated: *is_negated, next })
            }
            Node::All(all) => all.iter().rev().try_fold(next, |next, node| self.add(node, next)),
            Node::Any(all) => {
                let mut start = None;
                for node in all.iter().rev() {
                    let way = self.add(node, next)?;
                    start = Some(match start {
                        Some(other) => self.push(Step::Split(way, other))?,
                        None => way,
                    });
                }
                match start {
                    Some(start) => Ok(start),
                    // None of none.
                    None => self.chars(&Rc::new(Vec::new()), next),
                }
            }
            Node::Repeat(node, min, max) => {
                let mut start = next;
                match max {
                    Some(max) => {
                        for _ in *min..*max {
                            let way = self.add(node, start)?;
                            start = self.push(Step::Split(way, next))?;
                        }
                    }
                    None => {
                        let split = self.push(Step::Split(next, next))?;
                        let way = self.add(node, split)?;
                        self.steps[split] = Step::Split(way, next);
                        start = split;
                    }
                }
                for _ in 0..*min {
                    let before = start;
                    start = self.add(node, start)?;
                    // Nothing, however often.
                    if start == before {
                        break;
                    }
                }
                Ok(start)
            }
        }
    }

    fn spend(&mut self, work: usize) -> Result<(), Refusal> {
        *self.work += work;
        if *self.work > MAX_WORK { Err(Refusal::TooLarge) } else { Ok(()) }
    }

    /// Whether threads have matched, whatever follows.
    fn has_matched(&self, threads: Threads) -> bool {
        self.threads.all[threads].first() == Some(&(MATCH, NO_DUTIES))
    }

    fn is_dead(&self, threads: Threads) -> bool {
        self.threads.all[threads].is_empty()
    }

    /// Duties with one more; `None` where it cannot be seen to.
    fn with_duty(&mut self, duties: Duties, is_negated: bool, threads: Threads) -> Option<Duties> {
        if self.has_matched(threads) || self.is_dead(threads) {
            return (self.has_matched(threads) != is_negated).then_some(duties);
        }
        let mut all = self.duties.at(duties).to_vec();
        all.push((is_negated, threads));
        all.sort_unstable();
        all.dedup();
        Some(self.duties.number(all))
    }

    /// All threads that one is in besides these, ascending: those at which something is read, has matched, or may match at the end.
    fn closure(&mut self, mut waiting: Vec<Thread>, place: &Place) -> Result<Threads, Refusal> {
        let mut out = Vec::new();
        let mut seen: HashSet<Thread> = HashSet::new();
        // Those without duties first: they do for the others at the same state.
        waiting.sort_unstable_by_key(|thread| std::cmp::Reverse(thread.1));
        while let Some((state, duties)) = waiting.pop() {
            self.spend(1)?;
            if seen.contains(&(state, NO_DUTIES)) || !seen.insert((state, duties)) {
                continue;
            }
            match self.steps[state] {
                Step::Char(..) | Step::Match | Step::Found => out.push((state, duties)),
                Step::Split(a, b) => waiting.extend([(a, duties), (b, duties)]),
                // Whether it is the end is known only later.
                Step::IfEnd(_) => out.push((state, duties)),
                Step::IfStart(next) => waiting.extend(place.is_start.then_some((next, duties))),
                Step::Behind { number, is_negated, next } => {
                    waiting.extend((place.found[number] != is_negated).then_some((next, duties)));
                }
                Step::Ahead { body, is_negated, next } => {
                    let threads = self.closure(vec![(body, NO_DUTIES)], place)?;
                    waiting.extend(self.with_duty(duties, is_negated, threads).map(|duties| (next, duties)));
                }
            }
        }
        out.sort_unstable();
        // What has matched stays so: the others need not be known any more.
        if out.first() == Some(&(MATCH, NO_DUTIES)) {
            out.truncate(1);
        }
        Ok(self.threads.number(out))
    }

    /// Where threads are behind a character, of which is known in which sets it is.
    fn step(
        &mut self,
        threads: Threads,
        is_in: &dyn Fn(usize) -> bool,
        place: &Place,
        known: &mut HashMap<Threads, Threads>,
    ) -> Result<Threads, Refusal> {
        if let Some(&next) = known.get(&threads) {
            return Ok(next);
        }
        let mut out = Vec::new();
        for &(state, duties) in self.threads.at(threads).iter() {
            let next = match self.steps[state] {
                Step::Char(set, next) if is_in(set) => next,
                Step::Match => MATCH,
                _ => continue,
            };
            let mut behind = Some(NO_DUTIES);
            for &(is_negated, duty) in self.duties.at(duties).iter() {
                let duty = self.step(duty, is_in, place, known)?;
                behind = behind.and_then(|behind| self.with_duty(behind, is_negated, duty));
            }
            out.extend(behind.map(|duties| (next, duties)));
            self.spend(1)?;
        }
        let next = self.closure(out, place)?;
        known.insert(threads, next);
        Ok(next)
    }

    /// Whether threads have matched where the text ends here.
    fn may_end(&mut self, threads: Threads, place: &Place) -> Result<bool, Refusal> {
        for &(state, duties) in self.threads.at(threads).iter() {
            self.spend(1)?;
            let mut holds = self.matches_at_end(state, place)?;
            for &(is_negated, duty) in self.duties.at(duties).iter() {
                holds = holds && self.may_end(duty, place)? != is_negated;
            }
            if holds {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a state matches where the text ends here.
    fn matches_at_end(&mut self, state: usize, place: &Place) -> Result<bool, Refusal> {
        let mut seen = HashSet::new();
        let mut waiting = vec![state];
        while let Some(state) = waiting.pop() {
            self.spend(1)?;
            if !seen.insert(state) {
                continue;
            }
            match self.steps[state] {
                Step::Match => return Ok(true),
                Step::Char(..) | Step::Found => {}
                Step::Split(a, b) => waiting.extend([a, b]),
                Step::IfEnd(next) => waiting.push(next),
                Step::IfStart(next) => waiting.extend(place.is_start.then_some(next)),
                Step::Behind { number, is_negated, next } => waiting.extend((place.found[number] != is_negated).then_some(next)),
                Step::Ahead { body, is_negated, next } => {
                    let holds = self.matches_at_end(body, place)? != is_negated;
                    waiting.extend(holds.then_some(next));
                }
            }
        }
        Ok(false)
    }

    /// Where what looks behind is, and the place that makes: from `from`, behind a character, or at the beginning of the text.
    fn place(
        &mut self,
        from: Option<&[Threads]>,
        is_in: &dyn Fn(usize) -> bool,
        known: &mut HashMap<Threads, Threads>,
    ) -> Result<(Vec<Threads>, Place), Refusal> {
        let mut place = Place { is_start: from.is_none(), found: vec![false; self.behind.len()] };
        let mut all = Vec::with_capacity(self.behind.len());
        for number in 0..self.behind.len() {
            // Those within it are known already.
            let threads = match from {
                Some(from) => self.step(from[number], is_in, &place, known)?,
                None => self.closure(vec![(self.behind[number], NO_DUTIES)], &place)?,
            };
            place.found[number] = self.threads.all[threads].iter().any(|&(state, _)| matches!(self.steps[state], Step::Found));
            all.push(threads);
        }
        Ok((all, place))
    }

    /// The sets of characters that what follows these threads depends on.
    fn sets_of(&self, threads: Threads, seen: &mut HashSet<Threads>, sets: &mut Vec<usize>) {
        if !seen.insert(threads) {
            return;
        }
        for &(state, duties) in self.threads.all[threads].iter() {
            if let Step::Char(set, _) = self.steps[state] {
                sets.push(set);
            }
            self.duties.all[duties].iter().for_each(|&(_, duty)| self.sets_of(duty, seen, sets));
        }
    }
}

/// The automaton of texts of which all of `must` holds and that have so many characters, at most `max` where there is one. Where a text
/// ends it says which of `labels` hold, of which there are 32 at most; only what `is_wanted` is kept. `work` is what other texts have cost.
pub(in crate::runtime::grammar) fn texts(
    must: &[Text],
    labels: &[Text],
    (min, max): (u32, Option<u32>),
    is_wanted: &dyn Fn(u32) -> bool,
    work: &mut usize,
) -> Result<CharDfa, Refusal> {
    let mut nfa = Nfa {
        steps: vec![Step::Match],
        sets: Vec::new(),
        set_numbers: HashMap::new(),
        behind: Vec::new(),
        behind_numbers: HashMap::new(),
        threads: Numbers::new(),
        duties: Numbers::new(),
        work,
    };
    nfa.duties.number(Vec::new());
    let mut starts = Vec::new();
    for text in must.iter().chain(labels) {
        let node = text.node()?;
        starts.push(nfa.add(&node, MATCH)?);
    }
    let (n_behind, n_must) = (nfa.behind.len(), must.len());

    let (mut threads, place) = nfa.place(None, &|_| false, &mut HashMap::new())?;
    for start in starts {
        threads.push(nfa.closure(vec![(start, NO_DUTIES)], &place)?);
    }
    let start = Seen { threads, n_chars: 0, is_start: true };
    let mut numbers = HashMap::from([(start.clone(), 0)]);
    let mut all = vec![start];
    let mut edges: Vec<Vec<(CharSet, usize)>> = Vec::new();
    let mut ends = Vec::new();
    while edges.len() < all.len() {
        let seen = all[edges.len()].clone();
        let (behind, of_texts) = seen.threads.split_at(n_behind);
        let found =
            |&threads: &Threads| nfa.threads.all[threads].iter().any(|&(state, _)| matches!(nfa.steps[state], Step::Found));
        let place = Place { is_start: seen.is_start, found: behind.iter().map(found).collect() };
        let mut holds = Vec::with_capacity(of_texts.len());
        for &threads in of_texts {
            holds.push(nfa.may_end(threads, &place)?);
        }
        let bits = holds[n_must..].iter().enumerate().fold(0, |bits, (i, &holds)| bits | u32::from(holds) << i);
        let may_end = seen.n_chars >= min && holds[..n_must].iter().all(|&holds| holds) && is_wanted(bits);
        ends.push(may_end.then_some(bits));
        let mut out: Vec<(CharSet, usize)> = Vec::new();
        if max.is_none_or(|max| seen.n_chars < max) {
            let mut sets = Vec::new();
            let mut met = HashSet::new();
            seen.threads.iter().for_each(|&threads| nfa.sets_of(threads, &mut met, &mut sets));
            sets.sort_unstable();
            sets.dedup();
            let mut by_next: HashMap<usize, CharSet> = HashMap::new();
            for (is_in, chars) in kinds(&nfa.sets, &sets, nfa.work)? {
                let is_in = |set: usize| sets.binary_search(&set).is_ok_and(|i| is_in[i]);
                let mut known = HashMap::new();
                let (mut threads, place) = nfa.place(Some(behind), &is_in, &mut known)?;
                let mut is_dead = false;
                for (i, &now) in of_texts.iter().enumerate() {
                    let next = nfa.step(now, &is_in, &place, &mut known)?;
                    is_dead |= i < n_must && nfa.is_dead(next);
                    threads.push(next);
                }
                if is_dead {
                    continue;
                }
                // Behind the largest number that matters all are the same.
                let n_chars = (seen.n_chars + 1).min(max.unwrap_or(min));
                let next = Seen { threads, n_chars, is_start: false };
                let number = match numbers.get(&next) {
                    Some(&number) => number,
                    None => {
                        if all.len() >= MAX_DFA {
                            return Err(Refusal::TooLarge);
                        }
                        numbers.insert(next.clone(), all.len());
                        all.push(next);
                        all.len() - 1
                    }
                };
                by_next.entry(number).or_default().extend(chars);
            }
            out.extend(by_next.into_iter().map(|(next, set)| (normalized(set), next)));
            out.sort_unstable_by_key(|(_, next)| *next);
        }
        edges.push(out);
    }
    trimmed(edges, ends)
}

/// All characters by which of some sets they are in.
fn kinds(all: &[Rc<CharSet>], sets: &[usize], work: &mut usize) -> Result<Vec<(Vec<bool>, CharSet)>, Refusal> {
    let mut borders: Vec<u32> =
        sets.iter().flat_map(|&set| all[set].iter()).flat_map(|&(low, high)| [low, high + 1]).chain([0, MAX_CHAR + 1]).collect();
    borders.sort_unstable();
    borders.dedup();
    *work += borders.len() * (1 + sets.len() / 8);
    if *work > MAX_WORK {
        return Err(Refusal::TooLarge);
    }
    let mut kinds: HashMap<Vec<bool>, CharSet> = HashMap::new();
    // The first range of each set that does not end before the border.
    let mut at = vec![0; sets.len()];
    for pair in borders.windows(2) {
        let (low, high) = (pair[0], pair[1] - 1);
        let is_in = sets.iter().zip(&mut at).map(|(&set, at)| {
            let ranges = &all[set];
            while ranges.get(*at).is_some_and(|range| range.1 < low) {
                *at += 1;
            }
            ranges.get(*at).is_some_and(|range| range.0 <= low)
        });
        kinds.entry(is_in.collect()).or_default().push((low, high));
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_unstable_by_key(|(_, chars)| chars[0]);
    Ok(kinds)
}
