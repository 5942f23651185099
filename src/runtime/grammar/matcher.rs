//! What may follow what was written: a set of stacks of states, each a way in which the grammar can have written it.
//!
//! Sets and stacks that are met again are the same ones by number, and where a byte leads from a set is noted, so that in the long run a
//! byte costs one look into a table.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::automaton::{Automata, MAX_DEPTH, Mark, Others, Rule, Space, State};
use super::trie::{TokenSet, TokenTrie, Tree};
use super::unique::{Inside, LOOK, NONE, Notes, is_space, sorted, without_space};

/// Ways at most that are followed at once. Of more the last are given up: that rules out answers that were right, but lets none through that
/// is wrong, and those that are left can be finished like all others.
const MAX_WAYS: usize = 2048;
/// Ways that are looked at for one byte.
const MAX_STEPS: usize = 1 << 15;
/// Ways that are looked at for one mask; beyond, only the tokens of one byte are found.
const MAX_WORK: usize = 1 << 22;
/// Numbers that sets and stacks may take within one mask, and those that are kept between two.
const MAX_MET: usize = 1 << 22;
const MAX_KEPT: usize = 1 << 20;
/// Bytes that are tried to see whether an item can still differ from all others.
const MAX_TRIED: usize = 20_000;
/// Masks that are kept.
const MAX_MASKS: usize = 32;

/// Where nothing leads.
const DEAD: u32 = u32::MAX;
/// Not looked at yet.
const UNKNOWN: u32 = u32::MAX - 1;
/// Below the lowest of a stack.
const BOTTOM: u32 = u32::MAX;

/// The top of a stack: a state, how often what is repeated there was written, and what is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Way {
    state: State,
    count: u32,
    below: u32,
    /// How many objects and lists are open.
    depth: u32,
    /// How many of them, from the outermost on, have their parts on lines of their own.
    n_broken: u32,
    /// How far the line is indented, in objects and lists.
    indent: u32,
    /// What is noted of the list whose items differ that one is in; at the top of a stack alone.
    note: u32,
}

impl Way {
    /// At the beginning of all, at a state.
    fn at(state: State) -> Self {
        Self { state, count: 0, below: BOTTOM, depth: 0, n_broken: 0, indent: 0, note: NONE }
    }

    /// White space of a kind, before `to`: which of the rules `(blank, line)` stands there, and where it goes on.
    fn space(self, kind: Space, to: State) -> [Option<(Layout, Self)>; 2] {
        let to = Self { state: to, count: 0, ..self };
        let is_broken = self.n_broken == self.depth;
        match kind {
            // Within what is on one line, nothing is broken.
            Space::Open if self.n_broken + 1 == self.depth => {
                [Some((Layout::None, to)), Some((Layout::Line(self.depth), Self { n_broken: self.depth, ..to }))]
            }
            Space::Open => [Some((Layout::None, to)), None],
            Space::Comma if is_broken => [Some((Layout::Line(self.depth), to)), None],
            Space::Comma => [Some((Layout::Blank, to)), None],
            Space::Close if is_broken => [Some((Layout::Line(self.depth - 1), to)), None],
            Space::Close => [Some((Layout::None, to)), None],
        }
    }
}

/// What stands between two parts.
#[derive(Debug, Clone, Copy)]
enum Layout {
    /// Nothing.
    None,
    /// At most one blank.
    Blank,
    /// A line break, and the indentation of so many objects and lists.
    Line(u32),
}

/// Ways that are followed at once, ascending, at each of which a byte can follow; and whether what was written is complete.
type Set = (Rc<[u32]>, bool);

/// The state of one answer.
#[derive(Debug)]
pub(super) struct Matcher {
    automata: Rc<Automata>,
    ways: Vec<Way>,
    way_numbers: HashMap<Way, u32>,
    sets: Vec<Set>,
    set_numbers: HashMap<Set, u32>,
    /// Where each class of bytes leads from each set.
    next: Vec<u32>,
    /// Members of all sets.
    n_members: usize,
    /// Ways looked at for this mask.
    work: usize,
    masks: HashMap<u32, Rc<TokenSet>>,
    now: u32,
    /// The answer, and what is tried behind it, where marks need it.
    answer: Vec<u8>,
    notes: Notes,
    /// Whether a way can still become an item that differs from all others.
    can_differ: HashMap<Way, bool>,
    /// Whether a mark was met, behind which it matters what was written.
    has_met: bool,
    /// What a look ahead has come to.
    found: Found,
}

/// What a look ahead has come to.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    /// The end of the item.
    end: bool,
    /// An object that can differ from all others.
    endless: bool,
}

impl Matcher {
    /// Before the first byte.
    pub(super) fn new(automata: Rc<Automata>) -> Self {
        let start = automata.start;
        let mut matcher = Self::empty(automata);
        matcher.now = matcher.closure(vec![Way::at(start)]);
        matcher
    }

    fn empty(automata: Rc<Automata>) -> Self {
        Self {
            automata,
            ways: Vec::new(),
            way_numbers: HashMap::new(),
            sets: Vec::new(),
            set_numbers: HashMap::new(),
            next: Vec::new(),
            n_members: 0,
            work: 0,
            masks: HashMap::new(),
            now: 0,
            answer: Vec::new(),
            notes: Notes::default(),
            can_differ: HashMap::new(),
            has_met: false,
            found: Found::default(),
        }
    }

    /// Whether what was written is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.sets[self.now as usize].1
    }

    /// Whether nothing can follow.
    pub(super) fn is_done(&self) -> bool {
        self.sets[self.now as usize].0.is_empty()
    }

    /// Goes on by these bytes; `false`, and nothing else, where they cannot follow.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> bool {
        let set = self.behind(bytes);
        if set != DEAD {
            self.now = set;
            if self.has_marks() {
                self.answer.extend(bytes);
            }
        }
        set != DEAD
    }

    /// Whether these bytes can follow.
    pub(super) fn allows(&mut self, bytes: &[u8]) -> bool {
        self.behind(bytes) != DEAD
    }

    fn behind(&mut self, bytes: &[u8]) -> u32 {
        let n = self.answer.len();
        let behind = bytes.iter().fold(self.now, |set, &byte| if set == DEAD { DEAD } else { self.step(set, byte) });
        self.answer.truncate(n);
        behind
    }

    fn has_marks(&self) -> bool {
        !self.automata.places.is_empty()
    }

    /// The tokens that may follow.
    pub(super) fn mask(&mut self, trie: &TokenTrie) -> Rc<TokenSet> {
        if let Some(mask) = self.masks.get(&self.now) {
            return mask.clone();
        }
        if self.size() > MAX_KEPT {
            self.forget();
        }
        if self.masks.len() >= MAX_MASKS {
            self.masks.clear();
        }
        self.work = 0;
        self.has_met = false;
        let (ways, is_complete) = self.sets[self.now as usize].clone();
        let mut mask = TokenSet::new(trie.n_vocab);
        if is_complete {
            mask.add(&trie.ends);
        }
        self.walk(&trie.other, self.now, &mut mask);
        // Inside of quotes all plain tokens may follow for which there is room.
        let room = ways.iter().map(|&way| self.room(way)).max().unwrap_or(0);
        if room >= trie.longest_plain() {
            mask.add(&trie.all_plain);
        } else {
            trie.plain_by_length.iter().take_while(|&&(n, _)| u32::from(n) <= room).for_each(|&(_, id)| mask.insert(id));
        }
        let others: Vec<u32> = ways.iter().copied().filter(|&way| self.room(way) == 0).collect();
        if !others.is_empty() {
            let set = self.set_number(others, false);
            self.walk(&trie.plain, set, &mut mask);
        }
        let mask = Rc::new(mask);
        if !self.has_met {
            self.masks.insert(self.now, mask.clone());
        }
        mask
    }

    /// Adds the tokens of a tree that may follow.
    fn walk(&mut self, tree: &Tree, from: u32, mask: &mut TokenSet) {
        // The sets on the way to the node.
        let mut way = vec![from];
        let n = self.answer.len();
        let mut node = 0;
        while node < tree.bytes.len() {
            let depth = usize::from(tree.depths[node]);
            if depth > 0 && (self.work > MAX_WORK || self.size() > MAX_MET) {
                node += 1;
                continue;
            }
            way.truncate(depth + 1);
            self.answer.truncate(n + depth);
            let set = self.step(way[depth], tree.bytes[node]);
            if set == DEAD {
                node = tree.skips[node] as usize;
                continue;
            }
            way.push(set);
            tree.ids(node).iter().for_each(|&id| mask.insert(id));
            node += 1;
        }
        self.answer.truncate(n);
    }

    /// How many plain characters may follow at a way that is inside of quotes; 0 for others.
    fn room(&self, way: u32) -> u32 {
        let Way { state, below, note, .. } = self.ways[way as usize];
        let Some(below) = self.ways.get(below as usize) else { return 0 };
        match self.automata.at(below.state).repeat {
            Some(repeat) => {
                let body = self.automata.rules[repeat.body.0 as usize];
                match (body.is_any_char && body.state == state, repeat.max) {
                    (false, _) => 0,
                    (true, u32::MAX) => u32::MAX,
                    // The last of them might make it equal to another.
                    (true, _) if self.notes.open_question(note).is_some() => 0,
                    // The character that is to come is counted already.
                    (true, max) => max - below.count + 1,
                }
            }
            None => 0,
        }
    }

    /// Where a byte leads, which is noted as what was tried.
    fn step(&mut self, set: u32, byte: u8) -> u32 {
        if self.has_marks() {
            self.answer.push(byte);
        }
        let at = set as usize * self.automata.n_classes + usize::from(self.automata.class_of[usize::from(byte)]);
        if self.next[at] != UNKNOWN {
            return self.next[at];
        }
        let (ways, _) = self.sets[set as usize].clone();
        let ways: Vec<Way> = ways.iter().map(|&way| self.ways[way as usize]).collect();
        let waiting = self.behind_byte(&ways, byte);
        let has_met = std::mem::replace(&mut self.has_met, false);
        let to = if waiting.is_empty() { DEAD } else { self.closure(waiting) };
        if !self.has_met {
            self.next[at] = to;
        }
        self.has_met |= has_met;
        to
    }

    /// The ways behind a byte.
    fn behind_byte(&mut self, ways: &[Way], byte: u8) -> Vec<Way> {
        let mut waiting = Vec::new();
        // The first is looked at first.
        for &way in ways.iter().rev() {
            let to = self.automata.at(way.state).bytes.iter().filter(|(low, high, _)| (*low..=*high).contains(&byte));
            let note = if way.note > LOOK { self.notes.behind(way.note, byte) } else { way.note };
            waiting.extend(to.map(|&(.., state)| Way { state, count: 0, note, ..way }));
        }
        waiting
    }

    /// The set of all ways that one is in besides these.
    fn closure(&mut self, waiting: Vec<Way>) -> u32 {
        let (mut ways, is_complete) = self.expanded(waiting);
        ways.retain(|&way| self.can_differ(way));
        if ways.is_empty() && !is_complete {
            return DEAD;
        }
        let ways = ways.into_iter().map(|way| self.way_number(way)).collect();
        self.set_number(ways, is_complete)
    }

    /// All ways that one is in besides these, of which a byte leads somewhere; and whether what was written is complete.
    fn expanded(&mut self, mut waiting: Vec<Way>) -> (Vec<Way>, bool) {
        let automata = self.automata.clone();
        let mut seen = HashSet::new();
        let (mut ways, mut is_complete) = (Vec::new(), false);
        while let Some(way) = waiting.pop() {
            if !Self::can_end(&automata, way) || !seen.insert(way) {
                continue;
            }
            if seen.len() > MAX_STEPS || ways.len() >= MAX_WAYS {
                break;
            }
            let at = automata.at(way.state);
            if !at.bytes.is_empty() {
                ways.push(way);
            }
            let repeat = at.repeat.map(|repeat| (repeat, repeat.bounds(way.indent)));
            if repeat.is_none_or(|(_, (min, _))| way.count >= min) {
                waiting.extend(at.skips.iter().map(|&state| Way { state, count: 0, ..way }));
                if at.is_end {
                    match self.ways.get(way.below as usize) {
                        Some(&below) => waiting.push(Way { note: way.note, ..below }),
                        None => is_complete = true,
                    }
                }
            }
            if let Some((mark, state)) = at.mark {
                waiting.extend(self.marked(mark, Way { state, count: 0, ..way }));
            }
            for &(rule, state) in &at.calls {
                waiting.extend(self.call(rule, Way { state, count: 0, ..way }));
            }
            for (layout, back) in at.space.iter().flat_map(|&(kind, to)| way.space(kind, to)).flatten() {
                // What it can come to does not depend on white space.
                let layout = if way.note == LOOK { Layout::None } else { layout };
                match layout {
                    Layout::None => waiting.push(back),
                    Layout::Blank => waiting.extend(self.call(automata.blank, back)),
                    Layout::Line(indent) => {
                        waiting.extend(self.call(automata.line, back).map(|way| Way { indent, ..way }));
                    }
                }
            }
            if let Some((repeat, (min, max))) = repeat.filter(|(_, (_, max))| way.count < *max) {
                // Where there is no most, more than the least are all the same.
                let most = if max == u32::MAX { min } else { max };
                waiting.extend(self.call(repeat.body, Way { count: (way.count + 1).min(most), ..way }));
            }
        }
        self.work += seen.len();
        (ways, is_complete)
    }

    /// Behind a mark.
    fn marked(&mut self, mark: Mark, way: Way) -> Option<Way> {
        let order = |of: u32| self.automata.orders[of as usize].clone();
        self.has_met |= way.note > LOOK || mark == Mark::Item;
        let note = match mark {
            _ if way.note == LOOK => {
                self.found.end |= matches!(mark, Mark::Done(_));
                return (!matches!(mark, Mark::Done(_))).then_some(way);
            }
            Mark::Item => self.notes.begun(way.note, self.answer.len()),
            Mark::Done(of) => self.notes.done(way.note, &self.answer, &order(of))?,
            Mark::Close => NONE,
            // Objects are elsewhere, too.
            Mark::Opened(_) if way.note == NONE => return Some(way),
            Mark::Opened(of) => self.notes.closed(way.note, &self.answer, &order(of)),
        };
        Some(Way { note, ..way })
    }

    /// Whether a way can become an item that differs from all others of its list, where it is in one.
    fn can_differ(&mut self, way: Way) -> bool {
        if way.note <= LOOK {
            return true;
        }
        let Some((begun, n_others)) = self.notes.open_question(way.note) else { return true };
        if let Some(&known) = self.can_differ.get(&way) {
            return known;
        }
        let note = way.note;
        let is_new = |matcher: &mut Self, text: &[u8]| !matcher.notes.has(note, &without_space(text));
        let can_differ = self.look_ahead(Way { note: LOOK, ..way }, begun, n_others, is_new);
        self.can_differ.insert(way, can_differ);
        can_differ
    }

    /// Whether an item that is begun can be finished as one that is wanted; `n_unwanted` are not. Each time the shortest way to an end is
    /// taken, from the last place where there was another: as values have one spelling, that is one more than what is unwanted at most.
    fn look_ahead(
        &mut self,
        way: Way,
        mut text: Vec<u8>,
        n_unwanted: usize,
        is_wanted: impl Fn(&mut Self, &[u8]) -> bool,
    ) -> bool {
        let has_met = self.has_met;
        let start = text.iter().fold(Inside::No, |inside, &byte| inside.behind(byte));
        let mut places = vec![(self.choices(&[way], start, n_unwanted + 2), vec![way], start)];
        let mut n_tried = 0;
        let mut is_found = false;
        while let Some((choices, ways, inside)) = places.last_mut() {
            let Some(byte) = choices.pop() else {
                places.pop();
                text.pop();
                continue;
            };
            n_tried += 1;
            if n_tried > MAX_TRIED {
                break;
            }
            let (ways, inside) = (std::mem::take(ways), *inside);
            let waiting = self.behind_byte(&ways, byte);
            if let Some(last) = places.last_mut() {
                last.1 = ways;
            }
            self.found = Found::default();
            let (next, _) = self.expanded(waiting);
            text.push(byte);
            if self.found.endless || (self.found.end && is_wanted(self, &text)) {
                is_found = true;
                break;
            }
            let inside = inside.behind(byte);
            places.push((self.choices(&next, inside, n_unwanted + 2), next, inside));
        }
        self.has_met = has_met;
        is_found
    }

    /// The bytes that may follow, those last that lead to an end the soonest; so many at most.
    fn choices(&self, ways: &[Way], inside: Inside, most: usize) -> Vec<u8> {
        let mut choices: Vec<(u32, u8)> = Vec::new();
        for &way in ways {
            let mut behind = 0_u32;
            let mut below = way.below;
            while let Some(&way) = self.ways.get(below as usize) {
                behind = behind.saturating_add(self.length(way));
                below = way.below;
            }
            for &(low, high, state) in &self.automata.at(way.state).bytes {
                let length = behind.saturating_add(self.length(Way { state, count: 0, ..way }));
                choices.extend((low..=high).take(most).map(|byte| (length, byte)));
            }
        }
        let is_blank = |byte: u8| inside == Inside::No && is_space(byte);
        if choices.iter().any(|&(_, byte)| !is_blank(byte)) {
            choices.retain(|&(_, byte)| !is_blank(byte));
        }
        choices.sort_unstable();
        let mut seen = HashSet::new();
        choices.retain(|&(_, byte)| seen.insert(byte));
        choices.truncate(most);
        choices.into_iter().rev().map(|(_, byte)| byte).collect()
    }

    /// Bytes to the end of a way's rule at least.
    fn length(&self, way: Way) -> u32 {
        let at = self.automata.at(way.state);
        match at.repeat {
            Some(repeat) if !repeat.is_indentation => {
                let body = self.automata.at(self.automata.rules[repeat.body.0 as usize].state).length;
                at.length.saturating_sub(body.saturating_mul(way.count.min(repeat.min)))
            }
            _ => at.length,
        }
    }

    /// Whether there are so many values of an item that begins at this state, in a list whose items differ.
    pub(super) fn has_values(automata: &Rc<Automata>, state: State, n: usize) -> bool {
        let mut matcher = Self::empty(automata.clone());
        let order = automata.orders.first().cloned().unwrap_or_default();
        let seen = std::cell::RefCell::new(HashSet::new());
        let is_last = |_: &mut Self, text: &[u8]| {
            seen.borrow_mut().insert(sorted(text, &order));
            seen.borrow().len() >= n
        };
        let way = Way { note: LOOK, ..Way::at(state) };
        matcher.found = Found::default();
        let (ways, _) = matcher.expanded(vec![way]);
        // One that is no byte long there is not.
        matcher.found.endless || ways.into_iter().any(|way| matcher.look_ahead(way, Vec::new(), n, is_last))
    }

    /// Whether a way can come to its rule's end within the depth that is allowed.
    fn can_end(automata: &Automata, way: Way) -> bool {
        way.depth.saturating_add(automata.at(way.state).depth) <= MAX_DEPTH
    }

    /// At the start of a rule, `back` being where it goes on behind it.
    fn call(&mut self, rule: Rule, back: Way) -> Option<Way> {
        if !Self::can_end(&self.automata, back) {
            return None;
        }
        let start = self.automata.rules[rule.0 as usize];
        let at = self.automata.at(back.state);
        // Behind it there is only the end.
        let is_last = at.is_end
            && at.bytes.is_empty()
            && at.skips.is_empty()
            && at.calls.is_empty()
            && at.repeat.is_none()
            && at.space.is_none()
            && at.mark.is_none();
        let below = if is_last { back.below } else { self.way_number(Way { note: NONE, ..back }) };
        let note = match (start.others, back.note) {
            (Others::Endless, LOOK) => {
                self.found.endless = true;
                return None;
            }
            (Others::Endless, note) => self.notes.opened(note),
            (_, note) => note,
        };
        Some(Way {
            state: start.state,
            count: 0,
            below,
            depth: back.depth + u32::from(start.is_nested),
            n_broken: back.n_broken,
            indent: 0,
            note,
        })
    }

    fn way_number(&mut self, way: Way) -> u32 {
        let ways = &mut self.ways;
        *self.way_numbers.entry(way).or_insert_with(|| {
            ways.push(way);
            (ways.len() - 1) as u32
        })
    }

    fn set_number(&mut self, mut ways: Vec<u32>, is_complete: bool) -> u32 {
        ways.sort_unstable();
        let set: Set = (ways.into(), is_complete);
        if let Some(&number) = self.set_numbers.get(&set) {
            return number;
        }
        let number = self.sets.len() as u32;
        self.n_members += set.0.len();
        self.sets.push(set.clone());
        self.set_numbers.insert(set, number);
        self.next.resize(self.sets.len() * self.automata.n_classes, UNKNOWN);
        number
    }

    /// About how many numbers are kept.
    fn size(&self) -> usize {
        self.next.len() + self.n_members + 8 * self.ways.len() + self.notes.size()
    }

    /// Forgets all but where it is.
    fn forget(&mut self) {
        let old = std::mem::take(&mut self.ways);
        let (now, is_complete) = self.sets[self.now as usize].clone();
        self.way_numbers.clear();
        self.sets.clear();
        self.set_numbers.clear();
        self.next.clear();
        self.masks.clear();
        self.can_differ.clear();
        let notes = std::mem::take(&mut self.notes);
        self.n_members = 0;
        let ways = now.iter().map(|&way| {
            let mut stack = vec![old[way as usize]];
            while let Some(&below) = stack.last().and_then(|way| old.get(way.below as usize)) {
                stack.push(below);
            }
            stack.into_iter().rev().fold(BOTTOM, |below, way| {
                let note = self.notes.adopted(way.note, &notes);
                self.way_number(Way { below, note, ..way })
            })
        });
        let ways = ways.collect();
        self.now = self.set_number(ways, is_complete);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::grammar::{Grammar, Json, NamedSchema, ResponseFormat};

    /// A stack in full, its top last; what is below stands below.
    type Stack = Vec<Way>;

    /// The same by the book: nothing is shared, kept or given up.
    struct Plain<'a> {
        automata: &'a Automata,
        stacks: HashSet<Stack>,
        is_complete: bool,
    }

    impl<'a> Plain<'a> {
        fn new(automata: &'a Automata) -> Self {
            Self::of(automata, vec![vec![Way::at(automata.start)]])
        }

        fn of(automata: &'a Automata, mut waiting: Vec<Stack>) -> Self {
            let mut plain = Self { automata, stacks: HashSet::new(), is_complete: false };
            while let Some(stack) = waiting.pop() {
                let Some(&way) = stack.last() else {
                    plain.is_complete = true;
                    continue;
                };
                // A stack that cannot come to its end leads nowhere.
                let fits = stack.iter().all(|way| way.depth + automata.at(way.state).depth <= MAX_DEPTH);
                if !fits || !plain.stacks.insert(stack.clone()) {
                    continue;
                }
                let at = automata.at(way.state);
                let below = &stack[..stack.len() - 1];
                let with = |way: Way| [below, &[way]].concat();
                let to = |state: State| with(Way { state, count: 0, ..way });
                let call = |rule: Rule, back: Stack, indent: u32| {
                    let start = automata.rules[rule.0 as usize];
                    let back_way = *back.last().unwrap();
                    let depth = way.depth + u32::from(start.is_nested);
                    [back, vec![Way { state: start.state, count: 0, depth, indent, ..back_way }]].concat()
                };
                let bounds = at.repeat.map(|repeat| repeat.bounds(way.indent));
                if bounds.is_none_or(|(min, _)| way.count >= min) {
                    waiting.extend(at.skips.iter().map(|&state| to(state)));
                    waiting.extend(at.is_end.then(|| below.to_vec()));
                }
                waiting.extend(at.calls.iter().map(|&(rule, state)| call(rule, to(state), 0)));
                if let Some((repeat, (min, max))) = at.repeat.zip(bounds).filter(|(_, (_, max))| way.count < *max) {
                    let most = if max == u32::MAX { min } else { max };
                    waiting.push(call(repeat.body, with(Way { count: (way.count + 1).min(most), ..way }), 0));
                }
                if let Some((kind, state)) = at.space {
                    let (is_broken, depth) = (way.n_broken == way.depth, way.depth);
                    let line =
                        |depth: u32, n_broken: u32| call(automata.line, with(Way { state, count: 0, n_broken, ..way }), depth);
                    match kind {
                        Space::Open => {
                            waiting.push(to(state));
                            waiting.extend((way.n_broken == depth - 1).then(|| line(depth, depth)));
                        }
                        Space::Comma if is_broken => waiting.push(line(depth, depth)),
                        Space::Comma => waiting.push(call(automata.blank, to(state), 0)),
                        Space::Close if is_broken => waiting.push(line(depth - 1, depth)),
                        Space::Close => waiting.push(to(state)),
                    }
                }
            }
            plain
        }

        fn behind(&self, byte: u8) -> Self {
            let mut next = Vec::new();
            for stack in &self.stacks {
                let &way = stack.last().unwrap();
                for &(low, high, state) in &self.automata.at(way.state).bytes {
                    if (low..=high).contains(&byte) {
                        next.push([&stack[..stack.len() - 1], &[Way { state, count: 0, ..way }]].concat());
                    }
                }
            }
            Self::of(self.automata, next)
        }

        fn is_dead(&self) -> bool {
            self.stacks.is_empty() && !self.is_complete
        }
    }

    #[test]
    fn bytes_lead_where_plain_stacks_lead() {
        let schemas = [
            "true",
            r#"{"type":"array","items":{"type":"string","minLength":1,"maxLength":3},"minItems":2,"maxItems":3}"#,
            r#"{"anyOf":[{"type":"array","items":{"type":"integer","minimum":5}},{"type":"array","items":{"type":["number","null"]}}]}"#,
            r#"{"properties":{"a":{"type":"number"},"ab":{"enum":["x","xy",[1]]}},"additionalProperties":{"type":"boolean"}}"#,
            r##"{"type":"object","properties":{"n":{"$ref":"#"},"t":{"type":"string","pattern":"^(ab|a\"c)*$"}},"required":["t"]}"##,
            r##"{"type":"array","items":{"type":"array","items":{"$ref":"#"},"minItems":1}}"##,
        ];
        let mut state = 1_u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for schema in schemas {
            let schema: Json = serde_json::from_str(schema).unwrap();
            let format = ResponseFormat::JsonSchema { json_schema: NamedSchema { schema } };
            let Grammar(automata) = Grammar::new(&format).unwrap().unwrap();
            for _ in 0..8 {
                let mut matcher = Matcher::new(automata.clone());
                let mut plain = Plain::new(&automata);
                for n in 0..80 {
                    assert_eq!(matcher.is_complete(), plain.is_complete);
                    let mut may_follow = Vec::new();
                    for byte in 0..=255 {
                        let next = plain.behind(byte);
                        assert_eq!(matcher.allows(&[byte]), !next.is_dead(), "{byte}");
                        may_follow.extend((!next.is_dead()).then_some((byte, next)));
                    }
                    assert_eq!(matcher.is_done(), may_follow.is_empty());
                    if may_follow.is_empty() {
                        break;
                    }
                    // Brackets, so that it goes deep.
                    let brackets = may_follow.iter().position(|(byte, _)| matches!(byte, b'[' | b'{'));
                    let (byte, next) =
                        may_follow.swap_remove(brackets.filter(|_| random(3) > 0).unwrap_or(random(may_follow.len())));
                    assert!(matcher.advance(&[byte]));
                    plain = next;
                    if n % 7 == 6 {
                        matcher.forget();
                    }
                }
            }
        }
    }
}
