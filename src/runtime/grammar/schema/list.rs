//! Lists.

use std::collections::HashMap;
use std::rc::Rc;

use super::merge::{Contains, Merged};
use super::{At, BOOLEAN, Compiler, MAX_COUNTED, MAX_MINIMUM, NULL, Sense, refused};
use crate::error::Result;
use crate::runtime::grammar::automaton::{Mark, Place, Rule, Space, State};
use crate::runtime::grammar::json::Json;

static CONSTANTS: [Json; 3] = [Json::Null, Json::Bool(true), Json::Bool(false)];
/// What is counted in one list.
const MAX_CONTAINS: usize = 3;

/// Values, and those of them that places may have, a bit each.
type FewValues<'a> = (Vec<&'a Json>, Vec<u32>);

/// The brackets of a list in the making.
struct Brackets {
    /// Before the first item.
    first: State,
    /// Before the closing bracket's white space.
    close: State,
}

impl<'a> Compiler<'a> {
    pub(super) fn list(&mut self, merged: &Merged<'a>) -> Result<Rule> {
        if merged.min_items > MAX_MINIMUM {
            return Err(refused(&merged.path, &format!("a minItems of {} is more than can be written", merged.min_items)));
        }
        let start = self.builder.state()?;
        let rule = self.builder.rule(start);
        if merged.min_items > merged.max_items {
            return Ok(rule);
        }
        let contains: Vec<&Contains<'a>> = merged.contains.iter().filter(|c| c.min > 0 || c.max < u32::MAX).collect();
        let unique = merged.is_unique.as_ref().filter(|_| merged.max_items > 1);
        let few = match unique {
            Some(path) if !contains.is_empty() => return Err(refused(path, "'uniqueItems' beside 'contains' is not supported")),
            Some(_) => self.few_values(merged)?,
            None => None,
        };
        let is_marked = unique.is_some() && few.is_none();
        if is_marked && !self.builder.is_strict {
            // All is made once more.
            self.needs_strict = true;
            return Ok(rule);
        }
        let open = self.builder.text(start, "[")?;
        let begun = if is_marked { self.builder.mark(open, Mark::Item)? } else { open };
        let first = self.behind_space(begun, Space::Open)?;
        let close = self.builder.state()?;
        let closed = if is_marked { self.builder.mark(close, Mark::Close)? } else { close };
        let bracket = self.behind_space(closed, Space::Close)?;
        let end = self.builder.end()?;
        self.builder.range(bracket, b']', b']', end);
        if merged.min_items == 0 && contains.iter().all(|c| c.min == 0) {
            self.builder.at(open).skips.push(bracket);
        }
        if merged.max_items == 0 {
            return Ok(rule);
        }
        let brackets = Brackets { first, close };
        match (unique, few) {
            (Some(_), Some(few)) => self.few_unique_items(merged, &brackets, few)?,
            (Some(path), None) => self.unique_items(merged, &brackets, path)?,
            _ if contains.is_empty() => self.plain_items(merged, &brackets)?,
            _ => self.counted_items(merged, &brackets, &contains)?,
        }
        Ok(rule)
    }

    /// Those that have places of their own.
    fn n_places(merged: &Merged<'a>) -> usize {
        let of_items = merged.items.iter().map(|part| part.prefix.len());
        of_items.chain(merged.places.iter().map(|(place, _)| place + 1)).max().unwrap_or(0)
    }

    /// The schemas of the item at a place.
    fn item(merged: &Merged<'a>, place: usize) -> Vec<At<'a>> {
        let of_items = merged.items.iter().map(|part| part.prefix.get(place).unwrap_or(&part.rest));
        of_items.chain(merged.places.iter().filter(|(at, _)| *at == place).map(|(_, schema)| schema)).cloned().collect()
    }

    fn plain_items(&mut self, merged: &Merged<'a>, brackets: &Brackets) -> Result<()> {
        let (min, max) = (merged.min_items, merged.max_items);
        // One by one those that have places of their own, and the first.
        let n_single = Self::n_places(merged).max(1).min(max as usize);
        let mut before = brackets.first;
        for i in 0..n_single {
            let value = self.value(Self::item(merged, i))?;
            let behind = self.builder.call(before, value)?;
            let n = i as u32 + 1;
            if n >= min {
                self.builder.at(behind).skips.push(brackets.close);
            }
            if i + 1 < n_single {
                before = self.behind_comma(behind)?;
            } else if n < max {
                let more = self.builder.state()?;
                let next = self.behind_comma(more)?;
                let value = self.value(Self::item(merged, n_single))?;
                let last = self.builder.call(next, value)?;
                self.builder.at(last).is_end = true;
                let body = self.builder.rule(more);
                let left = if max == u32::MAX { max } else { max - n };
                let rest = self.builder.repeat(body, min.saturating_sub(n), left)?;
                self.builder.at(behind).skips.push(rest);
                self.builder.at(rest).skips.push(brackets.close);
            }
        }
        Ok(())
    }

    /// Items of which it is counted how many satisfy a schema.
    fn counted_items(&mut self, merged: &Merged<'a>, brackets: &Brackets, contains: &[&Contains<'a>]) -> Result<()> {
        let too_many = |contains: &[&Contains<'a>]| {
            let path = contains.first().map_or(&merged.path, |c| &c.path);
            Err(refused(path, "'contains' with numbers this large, or more than three of it, is not supported"))
        };
        if contains.len() > MAX_CONTAINS {
            return too_many(contains);
        }
        // Behind the last place that matters all are the same; and so are counts that are enough.
        let n_places =
            contains.iter().map(|c| c.from).max().unwrap_or(0).max(Self::n_places(merged)).max(merged.min_items as usize);
        let most = |c: &Contains<'a>| if c.max == u32::MAX { c.min } else { c.max };
        let n_places = if merged.max_items == u32::MAX { n_places } else { merged.max_items as usize };
        let n_states = contains.iter().fold(n_places.saturating_add(1), |n, c| n.saturating_mul(most(c) as usize + 1));
        if n_states > MAX_COUNTED {
            return too_many(contains);
        }
        let mut states: HashMap<(usize, Vec<u32>), State> = HashMap::new();
        let none = vec![0; contains.len()];
        states.insert((0, none.clone()), brackets.first);
        // Places, counts, and the state before the item.
        let mut waiting = vec![(0, none, brackets.first)];
        while let Some((place, counts, before)) = waiting.pop() {
            for chosen in 0..1_u32 << contains.len() {
                let mut all = Self::item(merged, place);
                let mut next = counts.clone();
                let mut is_possible = true;
                for (i, c) in contains.iter().enumerate() {
                    let is_chosen = chosen >> i & 1 == 1;
                    if place < c.from {
                        is_possible &= !is_chosen;
                    } else if is_chosen {
                        // More than enough need not be counted.
                        is_possible &= next[i] < most(c);
                        next[i] += 1;
                        all.push(c.item.clone());
                    } else if c.max < u32::MAX {
                        all.push(c.item.with(if c.item.sense == Sense::Fails { Sense::Hidden } else { Sense::Fails }));
                    }
                }
                if !is_possible {
                    continue;
                }
                let value = self.value(all)?;
                let behind = self.builder.call(before, value)?;
                let n = (place + 1).min(n_places);
                if place + 1 >= merged.min_items as usize && contains.iter().zip(&next).all(|(c, n)| *n >= c.min) {
                    self.builder.at(behind).skips.push(brackets.close);
                }
                if place + 1 >= merged.max_items as usize {
                    continue;
                }
                let comma = self.builder.text(behind, ",")?;
                let to = match states.get(&(n, next.clone())) {
                    // The state before the first item is one that no comma leads to.
                    Some(&to) if to != brackets.first => to,
                    _ => {
                        let to = self.builder.state()?;
                        states.insert((n, next.clone()), to);
                        waiting.push((n, next, to));
                        to
                    }
                };
                self.builder.space(comma, Space::Comma, to);
            }
        }
        Ok(())
    }

    /// Items that differ, whatever they are: what is written is noted and compared; see [`super::super::unique`].
    fn unique_items(&mut self, merged: &Merged<'a>, brackets: &Brackets, path: &Rc<str>) -> Result<()> {
        const MOST: u32 = 1000;
        let (min, max) = (merged.min_items, merged.max_items);
        if min > MOST {
            return Err(refused(
                path,
                &format!("'uniqueItems' beside a minItems of {min} is not supported, only of {MOST} at most"),
            ));
        }
        // Those that have places of their own, and one more; behind it all are the same.
        let n_single = (Self::n_places(merged) + 1).min(max as usize);
        let mut before = brackets.first;
        for i in 0..=n_single {
            let n = i as u32 + 1;
            let is_rest = i == n_single;
            if n > max {
                break;
            }
            let item = self.value(Self::item(merged, i))?;
            // Of what is before the item there are as many others at most.
            let n_values = match min {
                min if min < n => 0,
                min if is_rest => min,
                _ => n,
            };
            if is_rest {
                let more = self.builder.state()?;
                let next = self.next_unique(more)?;
                self.builder.places.push(Place { state: next, item, n_values, path: path.clone() });
                let behind = self.builder.call(next, item)?;
                let last = self.builder.mark(behind, Mark::Done(0))?;
                self.builder.at(last).is_end = true;
                let body = self.builder.rule(more);
                let left = if max == u32::MAX { max } else { max - i as u32 };
                let rest = self.builder.repeat(body, min.saturating_sub(i as u32), left)?;
                self.builder.at(before).skips.push(rest);
                self.builder.at(rest).skips.push(brackets.close);
            } else {
                if i > 0 {
                    before = self.next_unique(before)?;
                }
                self.builder.places.push(Place { state: before, item, n_values, path: path.clone() });
                let behind = self.builder.call(before, item)?;
                before = self.builder.mark(behind, Mark::Done(0))?;
                if n >= min {
                    self.builder.at(before).skips.push(brackets.close);
                }
            }
        }
        Ok(())
    }

    /// A new state before the next item of those that differ, behind a comma and white space.
    fn next_unique(&mut self, from: State) -> Result<State> {
        let comma = self.builder.text(from, ",")?;
        let begun = self.builder.mark(comma, Mark::Item)?;
        self.behind_space(begun, Space::Comma)
    }

    /// The values that the items of a list may have, and which of them each place, the last for all behind it; `None` where there are many.
    fn few_values(&mut self, merged: &Merged<'a>) -> Result<Option<FewValues<'a>>> {
        let n_places = Self::n_places(merged);
        let mut values: Vec<&Json> = Vec::new();
        // The values that each place may have, the last for all behind it.
        let mut places: Vec<u32> = Vec::new();
        for place in 0..=n_places {
            let Some(all) = self.finite(&Self::item(merged, place))? else { return Ok(None) };
            let mut mask = 0;
            for value in all {
                let at = values.iter().position(|known| known.equals(value)).unwrap_or_else(|| {
                    values.push(value);
                    values.len() - 1
                });
                if at >= 31 {
                    break;
                }
                mask |= 1 << at;
            }
            places.push(mask);
        }
        let is_few = values.len() <= 31 && (1_usize << values.len()).saturating_mul(n_places + 1) <= MAX_COUNTED;
        Ok(is_few.then_some((values, places)))
    }

    /// Items that differ, where there are few values that they may have.
    fn few_unique_items(&mut self, merged: &Merged<'a>, brackets: &Brackets, (values, places): FewValues<'a>) -> Result<()> {
        let n_places = places.len() - 1;
        let mut states: HashMap<u32, State> = HashMap::new();
        states.insert(0, brackets.first);
        let mut rules = Vec::new();
        for value in values {
            let start = self.builder.state()?;
            let last = self.literal(value, start)?;
            self.builder.at(last).is_end = true;
            rules.push(self.builder.rule(start));
        }
        let mut waiting = vec![(0_u32, brackets.first)];
        while let Some((used, before)) = waiting.pop() {
            // As many as are used were written.
            let n = used.count_ones();
            let allowed = places[(n as usize).min(n_places)] & !used;
            if n >= merged.max_items {
                continue;
            }
            for (i, &rule) in rules.iter().enumerate().filter(|(i, _)| allowed >> i & 1 == 1) {
                let behind = self.builder.call(before, rule)?;
                if n + 1 >= merged.min_items {
                    self.builder.at(behind).skips.push(brackets.close);
                }
                let next = used | 1 << i;
                let comma = self.builder.text(behind, ",")?;
                let to = match states.get(&next) {
                    Some(&to) => to,
                    None => {
                        let to = self.builder.state()?;
                        states.insert(next, to);
                        waiting.push((next, to));
                        to
                    }
                };
                self.builder.space(comma, Space::Comma, to);
            }
        }
        Ok(())
    }

    /// All values that satisfy schemas, where those are listed.
    fn finite(&mut self, all: &[At<'a>]) -> Result<Option<Vec<&'a Json>>> {
        let mut values = Vec::new();
        for way in self.ways(all)? {
            let merged = self.merge(&way.facts)?;
            let listed: Vec<&'a Json> = match &merged.values {
                Some(listed) => listed.clone(),
                None if merged.written() & !(NULL | BOOLEAN) == 0 => CONSTANTS.iter().collect(),
                None => return Ok(None),
            };
            for value in listed {
                if super::type_of(value) & merged.written() != 0 && self.all_hold(value, &way.facts)? {
                    values.push(value);
                }
            }
        }
        Ok(Some(values))
    }
}
