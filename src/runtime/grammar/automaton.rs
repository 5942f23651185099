//! What may be written, as automata over bytes that call each other: a rule is a path from its start to an end, and where it calls
//! another rule, all that the other may write stands there.
//!
//! Every state from which no end can be reached is taken away, so what is written can always be finished.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use super::unique::Order;
use crate::error::{Error, Result};

/// States of a grammar at most, some 100 bytes each.
const MAX_STATES: usize = 200_000;
/// Objects and lists within each other at most. Readers of JSON have limits too, 128 for instance.
pub(super) const MAX_DEPTH: u32 = 64;
/// Blanks that each object and list around a line indents it by.
const INDENTATION: u32 = 2;
/// The depth that a state needs which leads nowhere.
pub(super) const NEVER: u32 = u32::MAX;
/// The highest code point.
pub(super) const MAX_CHAR: u32 = 0x10_ffff;

/// The number of a state.
pub(super) type State = u32;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Rule(pub(super) u32);

/// A rule that is written again and again, so many times at least and at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeat {
    pub(super) body: Rule,
    pub(super) min: u32,
    /// `u32::MAX`: without end.
    pub(super) max: u32,
    /// Whether it is so many times for each object and list that is open.
    pub(super) is_indentation: bool,
}

impl Repeat {
    /// The least and the most where so many objects and lists are open.
    pub(super) fn bounds(&self, depth: u32) -> (u32, u32) {
        if self.is_indentation { (self.min * depth, self.max * depth) } else { (self.min, self.max) }
    }
}

/// Where white space may stand in an object or a list. One that was begun with a line break has each of its parts on a line of its own,
/// indented by two blanks for each object or list around it; any other is on one line, with all that is within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Space {
    /// Behind the opening bracket of one that is not empty: what stands here decides.
    Open,
    /// Behind a comma.
    Comma,
    /// Before the closing bracket.
    Close,
}

/// What is noted at a state of a list whose items differ; see [`super::unique`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    /// An item begins.
    Item,
    /// It is complete; the number of the order of members.
    Done(u32),
    /// The list ends.
    Close,
    /// An object ends that may have any members.
    Opened(u32),
}

/// A place of a list whose items differ.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The state before an item.
    pub(super) state: State,
    /// The item.
    pub(super) item: Rule,
    /// So many values must be possible there, that one is left which is not among those before it.
    pub(super) n_values: u32,
    /// Where the schema says that they differ.
    pub(super) path: Rc<str>,
}

/// What may follow at a state: any of all these.
#[derive(Debug, Clone, Default)]
pub(super) struct Ways {
    /// A byte of a range leads to a state.
    pub(super) bytes: Vec<(u8, u8, State)>,
    /// States that one is in as well.
    pub(super) skips: Vec<State>,
    /// A rule, and the state behind it.
    pub(super) calls: Vec<(Rule, State)>,
    /// Here a rule is repeated; skips and the end are open only when it was often enough.
    pub(super) repeat: Option<Repeat>,
    /// White space of its kind, and the state behind it.
    pub(super) space: Option<(Space, State)>,
    /// What is noted, and the state behind it.
    pub(super) mark: Option<(Mark, State)>,
    /// The rule may end here.
    pub(super) is_end: bool,
    /// Objects and lists within each other that cannot be done without from here to the end.
    pub(super) depth: u32,
    /// Bytes from here to the end at least, without white space between parts; 0 in grammars without marks.
    pub(super) length: u32,
}

/// Whether an object may have members that nobody names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// It may not.
    None,
    /// It may, but not always another one, or that is not known.
    Few,
    /// It may, and always another one.
    Endless,
}

/// Where a rule begins, and what it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleStart {
    pub(super) state: State,
    /// Whether it is an object or a list: one more within the others.
    pub(super) is_nested: bool,
    /// Whether it is one character of a text, and any character that needs no escape is one.
    pub(super) is_any_char: bool,
    /// What an object may have besides.
    pub(super) others: Others,
}

/// Rules in the making.
#[derive(Debug, Default)]
pub(super) struct Builder {
    ways: Vec<Ways>,
    rules: Vec<RuleStart>,
    /// Rules that write one character of a set, in its only spelling.
    classes: HashMap<Vec<(u32, u32)>, Rule>,
    /// The same with every character as it is.
    plain_classes: HashMap<Vec<(u32, u32)>, Rule>,
    any_char: Option<Rule>,
    /// Whether each value is to have one spelling only, but for white space.
    pub(super) is_strict: bool,
    /// The places of lists whose items differ.
    pub(super) places: Vec<Place>,
    /// Objects that may always have another member, if their values can be written: those of all kinds of names.
    pub(super) endless: Vec<(Rule, Vec<Rule>)>,
    /// The order of members.
    pub(super) order: Order,
}

impl Builder {
    /// Of rules that give each value one spelling, but for white space, or not; and the order of members then.
    pub(super) fn strict(is_strict: bool, order: Order) -> Self {
        Self { is_strict, order, ..Self::default() }
    }

    /// A new state that leads nowhere yet.
    ///
    /// # Errors
    /// `invalid_request` where there are too many.
    pub(super) fn state(&mut self) -> Result<State> {
        if self.ways.len() >= MAX_STATES {
            return Err(Error::invalid_request(format!(
                "response_format: the schema makes a grammar of more than {MAX_STATES} states. Make the schema smaller: fewer alternatives, \
                 shorter lists of values, simpler patterns."
            )));
        }
        self.ways.push(Ways::default());
        Ok((self.ways.len() - 1) as State)
    }

    /// A new state that a rule may end at.
    pub(super) fn end(&mut self) -> Result<State> {
        let state = self.state()?;
        self.at(state).is_end = true;
        Ok(state)
    }

    pub(super) fn at(&mut self, state: State) -> &mut Ways {
        &mut self.ways[state as usize]
    }

    /// Bytes of a range lead from one state to another.
    pub(super) fn range(&mut self, from: State, low: u8, high: u8, to: State) {
        self.at(from).bytes.push((low, high, to));
    }

    /// A new state behind these bytes.
    pub(super) fn text(&mut self, from: State, text: &str) -> Result<State> {
        let to = self.state()?;
        self.text_to(from, text, to)?;
        Ok(to)
    }

    /// These bytes lead from one state to another.
    pub(super) fn text_to(&mut self, mut from: State, text: &str, to: State) -> Result<()> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            self.at(from).skips.push(to);
        }
        for (i, &byte) in bytes.iter().enumerate() {
            let next = if i + 1 == bytes.len() { to } else { self.state()? };
            self.range(from, byte, byte, next);
            from = next;
        }
        Ok(())
    }

    /// A new state behind a rule.
    pub(super) fn call(&mut self, from: State, rule: Rule) -> Result<State> {
        let to = self.state()?;
        self.at(from).calls.push((rule, to));
        Ok(to)
    }

    /// A new state at which a rule is repeated.
    pub(super) fn repeat(&mut self, body: Rule, min: u32, max: u32) -> Result<State> {
        let state = self.state()?;
        self.at(state).repeat = Some(Repeat { body, min, max, is_indentation: false });
        Ok(state)
    }

    /// A rule that begins at this state.
    pub(super) fn rule(&mut self, state: State) -> Rule {
        self.rules.push(RuleStart { state, is_nested: false, is_any_char: false, others: Others::None });
        Rule((self.rules.len() - 1) as u32)
    }

    pub(super) fn start(&self, rule: Rule) -> State {
        self.rules[rule.0 as usize].state
    }

    /// Notes that a rule is an object or a list.
    pub(super) fn set_nested(&mut self, rule: Rule) {
        self.rules[rule.0 as usize].is_nested = true;
    }

    /// Notes what members an object may have besides those with names.
    pub(super) fn set_others(&mut self, rule: Rule, others: Others) {
        self.rules[rule.0 as usize].others = others;
    }

    /// A new state behind what is noted.
    pub(super) fn mark(&mut self, from: State, mark: Mark) -> Result<State> {
        let to = self.state()?;
        self.at(from).mark = Some((mark, to));
        Ok(to)
    }

    /// White space of this kind leads from one state to another.
    pub(super) fn space(&mut self, from: State, kind: Space, to: State) {
        self.at(from).space = Some((kind, to));
    }

    /// A new state behind at most one space.
    pub(super) fn optional_blank(&mut self, from: State) -> Result<State> {
        let to = self.state()?;
        self.range(from, b' ', b' ', to);
        self.at(from).skips.push(to);
        Ok(to)
    }

    /// Any character inside of quotes, in any spelling but half of a pair of surrogates; where each value has one only, in that.
    pub(super) fn any_char(&mut self) -> Result<Rule> {
        if self.is_strict {
            return self.class(&[(0, MAX_CHAR)]);
        }
        if let Some(rule) = self.any_char {
            return Ok(rule);
        }
        let (start, end, escape) = (self.state()?, self.end()?, self.state()?);
        self.raw_chars(start, &[(0x20, MAX_CHAR)], end)?;
        self.range(start, b'\\', b'\\', escape);
        for byte in *b"\"\\/bfnrt" {
            self.range(escape, byte, byte, end);
        }
        let unit = self.state()?;
        self.range(escape, b'u', b'u', unit);
        // Three digits, two digits, one digit from the end; the first digit decides which.
        let (three, two, one) = (self.state()?, self.state()?, self.state()?);
        let hex = [(b'0', b'9'), (b'a', b'f'), (b'A', b'F')];
        for (from, to) in [(three, two), (two, one), (one, end)] {
            hex.iter().for_each(|&(low, high)| self.range(from, low, high, to));
        }
        for (low, high) in [(b'0', b'9'), (b'a', b'c'), (b'e', b'f'), (b'A', b'C'), (b'E', b'F')] {
            self.range(unit, low, high, three);
        }
        let (surrogate, low_2, low_1, back) = (self.state()?, self.state()?, self.state()?, self.state()?);
        for d in *b"dD" {
            self.range(unit, d, d, surrogate);
        }
        self.range(surrogate, b'0', b'7', two);
        for (low, high) in [(b'8', b'9'), (b'a', b'b'), (b'A', b'B')] {
            self.range(surrogate, low, high, low_2);
        }
        hex.iter().for_each(|&(low, high)| self.range(low_2, low, high, low_1));
        hex.iter().for_each(|&(low, high)| self.range(low_1, low, high, back));
        let second = self.text(back, "\\u")?;
        let (d, x) = (self.state()?, self.state()?);
        for byte in *b"dD" {
            self.range(second, byte, byte, d);
        }
        for (low, high) in [(b'c', b'f'), (b'C', b'F')] {
            self.range(d, low, high, x);
        }
        hex.iter().for_each(|&(low, high)| self.range(x, low, high, one));
        let rule = self.rule(start);
        self.rules[rule.0 as usize].is_any_char = true;
        self.any_char = Some(rule);
        Ok(rule)
    }

    /// One character of a set of code points, in the only spelling that [`super::json::spell`] gives it. The ranges ascend and do not touch.
    pub(super) fn class(&mut self, set: &[(u32, u32)]) -> Result<Rule> {
        if let Some(&rule) = self.classes.get(set) {
            return Ok(rule);
        }
        let (start, end) = (self.state()?, self.end()?);
        self.raw_chars(start, set, end)?;
        let has = |c: u32| set.iter().any(|&(low, high)| (low..=high).contains(&c));
        let mut spelling = String::new();
        for c in (0..0x20).chain([u32::from(b'"'), u32::from(b'\\')]).filter(|&c| has(c)) {
            spelling.clear();
            super::json::spell(char::from(c as u8), &mut spelling);
            self.text_to(start, &spelling, end)?;
        }
        let rule = self.rule(start);
        self.rules[rule.0 as usize].is_any_char = set == [(0, MAX_CHAR)];
        self.classes.insert(set.to_vec(), rule);
        Ok(rule)
    }

    /// One character of a set outside of quotes, where it has no other spelling.
    pub(super) fn plain_class(&mut self, set: &[(u32, u32)]) -> Result<Rule> {
        const ALL: [(u32, u32); 5] = [(0, 0x7f), (0x80, 0x7ff), (0x800, 0xd7ff), (0xe000, 0xffff), (0x1_0000, MAX_CHAR)];
        if let Some(&rule) = self.plain_classes.get(set) {
            return Ok(rule);
        }
        let (start, end) = (self.state()?, self.end()?);
        self.chars_within(&ALL, start, set, end)?;
        let rule = self.rule(start);
        self.plain_classes.insert(set.to_vec(), rule);
        Ok(rule)
    }

    /// The characters of a set that may stand in quotes as they are.
    fn raw_chars(&mut self, from: State, set: &[(u32, u32)], to: State) -> Result<()> {
        // Between control characters, the quotation mark, the backslash and the surrogates, by the length of their UTF-8.
        const RAW: [(u32, u32); 7] =
            [(0x20, 0x21), (0x23, 0x5b), (0x5d, 0x7f), (0x80, 0x7ff), (0x800, 0xd7ff), (0xe000, 0xffff), (0x1_0000, MAX_CHAR)];
        self.chars_within(&RAW, from, set, to)
    }

    /// The characters that are in both sets, the ranges of the first being of one length in UTF-8 each.
    fn chars_within(&mut self, within: &[(u32, u32)], from: State, set: &[(u32, u32)], to: State) -> Result<()> {
        let mut tails: [Option<State>; 4] = [Some(to), None, None, None];
        for &(raw_low, raw_high) in within {
            for &(low, high) in set {
                let (low, high) = (low.max(raw_low), high.min(raw_high));
                if low <= high {
                    self.utf8(from, low, high, to, &mut tails)?;
                }
            }
        }
        Ok(())
    }

    /// Code points of a range whose UTF-8 is of one length. `tails[n]` is a state behind which any `n` continuation bytes lead to `to`.
    fn utf8(&mut self, from: State, low: u32, high: u32, to: State, tails: &mut [Option<State>; 4]) -> Result<()> {
        let bytes = |c: u32| {
            let mut buffer = [0; 4];
            // Surrogates are not asked for.
            let n = char::from_u32(c).map_or(0, |c| c.encode_utf8(&mut buffer).len());
            (buffer, n)
        };
        let ((low, n), (high, _)) = (bytes(low), bytes(high));
        self.utf8_bytes(from, &low[..n], &high[..n], to, tails)
    }

    fn utf8_bytes(&mut self, from: State, low: &[u8], high: &[u8], to: State, tails: &mut [Option<State>; 4]) -> Result<()> {
        let ([low_1, low_rest @ ..], [high_1, high_rest @ ..]) = (low, high) else { return Ok(()) };
        let n = low_rest.len();
        if n == 0 {
            self.range(from, *low_1, *high_1, to);
            return Ok(());
        }
        let (least, most) = ([0x80; 3], [0xbf; 3]);
        let (least, most) = (&least[..n], &most[..n]);
        if low_1 == high_1 && (low_rest, high_rest) != (least, most) {
            let next = self.state()?;
            self.range(from, *low_1, *low_1, next);
            return self.utf8_bytes(next, low_rest, high_rest, to, tails);
        }
        let (mut first, mut last) = (*low_1, *high_1);
        if low_rest != least {
            let next = self.state()?;
            self.range(from, first, first, next);
            self.utf8_bytes(next, low_rest, most, to, tails)?;
            first += 1;
        }
        if high_rest != most {
            let next = self.state()?;
            self.range(from, last, last, next);
            self.utf8_bytes(next, least, high_rest, to, tails)?;
            last -= 1;
        }
        if first <= last {
            let tail = self.tail(n, tails)?;
            self.range(from, first, last, tail);
        }
        Ok(())
    }

    fn tail(&mut self, n: usize, tails: &mut [Option<State>; 4]) -> Result<State> {
        let mut next = tails[0].unwrap_or_default();
        for slot in &mut tails[1..=n] {
            next = match *slot {
                Some(state) => state,
                None => {
                    let state = self.state()?;
                    self.range(state, 0x80, 0xbf, next);
                    *slot.insert(state)
                }
            };
        }
        Ok(next)
    }

    /// At most one blank.
    fn blank(&mut self) -> Result<Rule> {
        let (start, end) = (self.end()?, self.end()?);
        self.range(start, b' ', b' ', end);
        Ok(self.rule(start))
    }

    /// A line break and the indentation of the next line.
    fn line(&mut self) -> Result<Rule> {
        let (start, end) = (self.state()?, self.end()?);
        let one = self.state()?;
        self.range(one, b' ', b' ', end);
        let body = self.rule(one);
        let indentation = self.repeat(body, INDENTATION, INDENTATION)?;
        let ways = self.at(indentation);
        ways.is_end = true;
        ways.repeat = ways.repeat.map(|repeat| Repeat { is_indentation: true, ..repeat });
        self.range(start, b'\n', b'\n', indentation);
        Ok(self.rule(start))
    }

    /// Finishes the rules; `None` where nothing can be written by `root`.
    ///
    /// # Errors
    /// `invalid_request` where there are too many states.
    pub(super) fn finish(mut self, root: Rule) -> Result<Option<Automata>> {
        let (blank, line) = (self.blank()?, self.line()?);
        self.measure(Measure::Depth);
        if !self.places.is_empty() {
            self.measure(Measure::Length);
        }
        let depths: Vec<u32> = self.ways.iter().map(|w| w.depth).collect();
        let is_written = |state: State| depths[state as usize] != NEVER;
        let starts: Vec<bool> = self.rules.iter().map(|r| is_written(r.state)).collect();
        for ways in &mut self.ways {
            ways.bytes.retain(|&(.., to)| is_written(to));
            ways.skips.retain(|&to| is_written(to));
            ways.calls.retain(|&(rule, to)| starts[rule.0 as usize] && is_written(to));
            ways.space = ways.space.filter(|&(_, to)| is_written(to));
            ways.mark = ways.mark.filter(|&(_, to)| is_written(to));
            // What must be repeated and cannot be written has made its state one that leads nowhere.
            ways.repeat = ways.repeat.filter(|r| starts[r.body.0 as usize] && r.max > 0);
        }
        for (rule, values) in &self.endless {
            let n_written = values.iter().filter(|value| starts[value.0 as usize]).count();
            self.rules[rule.0 as usize].others = match n_written {
                0 => Others::None,
                n if n == values.len() => Others::Endless,
                _ => Others::Few,
            };
        }
        self.places.retain(|place| is_written(place.state));
        let start = self.start(root);
        Ok(is_written(start).then(|| {
            let (class_of, n_classes) = self.byte_classes();
            let orders = if self.places.is_empty() { Vec::new() } else { vec![Rc::new(self.order)] };
            Automata { ways: self.ways, rules: self.rules, start, blank, line, class_of, n_classes, places: self.places, orders }
        }))
    }

    /// Finds out for every state what it needs to come to an end.
    fn measure(&mut self, measure: Measure) {
        let is_depth = measure == Measure::Depth;
        let n = self.ways.len();
        let mut users: Vec<Vec<State>> = vec![Vec::new(); n];
        for (from, ways) in (0..).zip(&self.ways) {
            let starts = ways.calls.iter().map(|c| c.0).chain(ways.repeat.map(|r| r.body)).map(|r| self.start(r));
            let next = ways.bytes.iter().map(|b| b.2).chain(ways.skips.iter().copied()).chain(ways.calls.iter().map(|c| c.1));
            let next = next.chain(ways.space.map(|(_, to)| to)).chain(ways.mark.map(|(_, to)| to));
            for to in starts.chain(next) {
                users[to as usize].push(from);
            }
        }
        let mut found = vec![NEVER; n];
        let mut waiting: VecDeque<State> = (0..n as State).rev().collect();
        let mut is_waiting = vec![true; n];
        while let Some(state) = waiting.pop_front() {
            is_waiting[state as usize] = false;
            let ways = &self.ways[state as usize];
            let of_rule = |rule: Rule| {
                let RuleStart { state, is_nested, .. } = self.rules[rule.0 as usize];
                found[state as usize].saturating_add(u32::from(is_nested && is_depth))
            };
            let both = |a: u32, b: u32| if is_depth { a.max(b) } else { a.saturating_add(b) };
            let out = ways.skips.iter().map(|&to| found[to as usize]).chain(ways.is_end.then_some(0)).min().unwrap_or(NEVER);
            let out = match ways.repeat {
                Some(Repeat { body, min, .. }) if min > 0 => {
                    both(out, of_rule(body).saturating_mul(if is_depth { 1 } else { min }))
                }
                _ => out,
            };
            let bytes = ways.bytes.iter().map(|b| found[b.2 as usize].saturating_add(u32::from(!is_depth)));
            let empty = ways.space.map(|(_, to)| to).into_iter().chain(ways.mark.map(|(_, to)| to)).map(|to| found[to as usize]);
            let calls = ways.calls.iter().map(|&(rule, to)| both(of_rule(rule), found[to as usize]));
            let least = bytes.chain(empty).chain(calls).fold(out, u32::min);
            // What is too deep is never written: each state comes down few times.
            if (!is_depth || least <= MAX_DEPTH) && least < found[state as usize] {
                found[state as usize] = least;
                for &user in &users[state as usize] {
                    if !std::mem::replace(&mut is_waiting[user as usize], true) {
                        waiting.push_back(user);
                    }
                }
            }
        }
        for (ways, found) in self.ways.iter_mut().zip(found) {
            *(if is_depth { &mut ways.depth } else { &mut ways.length }) = found;
        }
    }

    /// Bytes that no state tells apart are of one class. Where what was written is compared with what comes, each is of its own.
    fn byte_classes(&self) -> ([u8; 256], usize) {
        let mut begins = [!self.places.is_empty(); 257];
        for &(low, high, _) in self.ways.iter().flat_map(|w| &w.bytes) {
            begins[usize::from(low)] = true;
            begins[usize::from(high) + 1] = true;
        }
        let mut class = 0;
        let classes = std::array::from_fn(|byte| {
            class += u8::from(byte > 0 && begins[byte]);
            class
        });
        (classes, usize::from(class) + 1)
    }
}

/// What a state needs to come to its rule's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// Objects and lists within each other.
    Depth,
    /// Bytes.
    Length,
}

/// Rules that are finished.
#[derive(Debug)]
pub(super) struct Automata {
    pub(super) ways: Vec<Ways>,
    pub(super) rules: Vec<RuleStart>,
    pub(super) start: State,
    /// At most one blank.
    pub(super) blank: Rule,
    /// A line break, and two blanks for each object and list that is open.
    pub(super) line: Rule,
    /// The class of each byte.
    pub(super) class_of: [u8; 256],
    pub(super) n_classes: usize,
    /// The places of lists whose items differ.
    pub(super) places: Vec<Place>,
    /// The orders of members that marks name.
    pub(super) orders: Vec<Rc<Order>>,
}

impl Automata {
    pub(super) fn at(&self, state: State) -> &Ways {
        &self.ways[state as usize]
    }

    /// All states that a rule can come to.
    pub(super) fn reached(&self, rule: Rule) -> HashSet<State> {
        let start = |rule: Rule| self.rules[rule.0 as usize].state;
        let mut reached = HashSet::new();
        let mut waiting = vec![start(rule)];
        while let Some(state) = waiting.pop() {
            if reached.insert(state) {
                let ways = self.at(state);
                waiting.extend(ways.bytes.iter().map(|b| b.2).chain(ways.skips.iter().copied()));
                waiting.extend(ways.calls.iter().flat_map(|&(rule, to)| [start(rule), to]));
                waiting.extend(ways.repeat.map(|repeat| start(repeat.body)));
                waiting.extend(ways.space.map(|(_, to)| to).into_iter().chain(ways.mark.map(|(_, to)| to)));
            }
        }
        reached
    }
}
