//! What satisfies schemas that are merged: the automata of its values, texts, objects and lists.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    ANYTHING, ARRAY, At, BOOLEAN, Compiler, FRACTION, MAX_MINIMUM, MAX_PROPERTIES, Members, Merged, NULL, NUMBER, OBJECT, STRING,
    Types, refused, type_of,
};
use crate::error::Result;
use crate::runtime::grammar::automaton::{MAX_CHAR, Repeat, Rule, Space, State};
use crate::runtime::grammar::decimal;
use crate::runtime::grammar::json::{Json, spelled};
use crate::runtime::grammar::pattern::{self, CharDfa, Refusal};

impl<'a> Compiler<'a> {
    pub(super) fn build_merged(&mut self, rule: Rule, all: &[At<'a>]) -> Result<()> {
        let merged = self.merged(all)?;
        let types = merged.written();
        let about = match &merged.values {
            Some(values) => types & values.iter().fold(0, |all, v| all | type_of(v)),
            None => types,
        };
        let repeats = merged.is_unique.iter().filter(|_| about & ARRAY != 0 && merged.max_items > 1);
        if let Some(error) = merged.refused.iter().filter(|(of, _)| about & of != 0).map(|(_, error)| error).chain(repeats).next()
        {
            return Err(error.clone());
        }
        let start = self.builder.start(rule);
        let end = self.builder.end()?;
        if let Some(values) = &merged.values {
            return self.build_values(&merged, types, values, start, end);
        }
        let mut texts = Vec::new();
        if types & NULL != 0 {
            texts.push("null".to_owned());
        }
        if types & BOOLEAN != 0 {
            texts.extend(["true", "false"].map(str::to_owned));
        }
        self.build_texts(&texts, start, end)?;
        if types & NUMBER != 0 {
            let last = if types & FRACTION != 0 {
                decimal::number(&mut self.builder, start, &merged.range)?
            } else {
                decimal::integer(&mut self.builder, start, &merged.range)?
            };
            self.builder.at(last).skips.push(end);
        }
        if types & STRING != 0
            && let Some(text) = self.text(&merged)?
        {
            self.builder.at(start).calls.push((text, end));
        }
        if types & OBJECT != 0 {
            let object = self.object(&merged)?;
            self.builder.set_nested(object);
            self.builder.at(start).calls.push((object, end));
        }
        if types & ARRAY != 0 {
            let array = self.array(&merged)?;
            self.builder.set_nested(array);
            self.builder.at(start).calls.push((array, end));
        }
        Ok(())
    }

    /// Texts that share their beginnings.
    fn build_texts(&mut self, texts: &[String], start: State, end: State) -> Result<()> {
        let mut next: HashMap<(State, u8), State> = HashMap::new();
        for text in texts {
            let mut at = start;
            for &byte in text.as_bytes() {
                at = match next.get(&(at, byte)) {
                    Some(&to) => to,
                    None => {
                        let to = self.builder.state()?;
                        self.builder.range(at, byte, byte, to);
                        next.insert((at, byte), to);
                        to
                    }
                };
            }
            self.builder.at(at).skips.push(end);
        }
        Ok(())
    }

    fn build_values(&mut self, merged: &Merged<'a>, types: Types, values: &[&'a Json], start: State, end: State) -> Result<()> {
        let dfa = if merged.patterns.is_empty() && merged.min_length == 0 && merged.max_length.is_none() {
            None
        } else {
            Some(self.dfa(merged)?)
        };
        let mut texts = Vec::new();
        for &value in values.iter().filter(|v| type_of(v) & types != 0) {
            let fits = match value {
                Json::Number(n) => merged.range.contains(n),
                Json::String(text) => match &dfa {
                    Some(dfa) => dfa.as_ref().is_some_and(|dfa| dfa.matches(text)),
                    None => true,
                },
                Json::Object(_)
                    if !merged.members.is_empty() || merged.min_properties > 0 || merged.max_properties < u32::MAX =>
                {
                    return Err(refused(
                        &merged.path,
                        "a list of values that has objects, beside keywords about their members, is not supported",
                    ));
                }
                Json::Array(_) if !merged.items.is_empty() || merged.min_items > 0 || merged.max_items < u32::MAX => {
                    return Err(refused(
                        &merged.path,
                        "a list of values that has lists, beside keywords about their items, is not supported",
                    ));
                }
                _ => true,
            };
            match value {
                _ if !fits => {}
                Json::Object(_) | Json::Array(_) => {
                    let last = self.literal(value, start)?;
                    self.builder.at(last).skips.push(end);
                }
                scalar => texts.push(scalar.to_string()),
            }
        }
        self.build_texts(&texts, start, end)
    }

    /// A new state behind a value.
    fn literal(&mut self, value: &Json, from: State) -> Result<State> {
        let (open, close, items): (_, _, Vec<(Option<&String>, &Json)>) = match value {
            Json::Array(items) => ("[", "]", items.iter().map(|item| (None, item)).collect()),
            Json::Object(members) => ("{", "}", members.iter().map(|(name, value)| (Some(name), value)).collect()),
            scalar => return self.builder.text(from, &scalar.to_string()),
        };
        let start = self.builder.state()?;
        let mut at = self.builder.text(start, open)?;
        let is_empty = items.is_empty();
        for (i, (name, item)) in items.into_iter().enumerate() {
            if i > 0 {
                at = self.builder.text(at, ",")?;
            }
            let next = self.builder.state()?;
            self.builder.space(at, if i == 0 { Space::Open } else { Space::Comma }, next);
            at = next;
            if let Some(name) = name {
                at = self.builder.text(at, &format!("{}:", spelled(name)))?;
                at = self.builder.optional_blank(at)?;
            }
            at = self.literal(item, at)?;
        }
        if !is_empty {
            let next = self.builder.state()?;
            self.builder.space(at, Space::Close, next);
            at = next;
        }
        let last = self.builder.text(at, close)?;
        self.builder.at(last).is_end = true;
        let rule = self.builder.rule(start);
        self.builder.set_nested(rule);
        self.builder.call(from, rule)
    }

    /// The automaton of a text's patterns and lengths; `None` where no text will do.
    fn dfa(&mut self, merged: &Merged<'a>) -> Result<Option<CharDfa>> {
        let patterns: Vec<String> = merged.patterns.iter().map(|(pattern, _)| pattern.clone()).collect();
        let path = merged.patterns.first().map_or_else(|| merged.path.to_string(), |(_, path)| path.clone());
        match pattern::texts(&patterns, merged.min_length, merged.max_length, &mut self.pattern_work) {
            Ok(dfa) => Ok(Some(dfa)),
            Err(Refusal::Nothing) => Ok(None),
            Err(Refusal::Pattern(what)) => {
                Err(refused(&path, &format!("the pattern has {what}; that is no regular expression, or not supported")))
            }
            Err(Refusal::TooLarge) => Err(refused(&path, "the pattern, or pattern and lengths together, are too complex")),
        }
    }

    /// The rule of a text; `None` where there is none.
    fn text(&mut self, merged: &Merged<'a>) -> Result<Option<Rule>> {
        let (min, max) = (merged.min_length, merged.max_length);
        if min > MAX_MINIMUM {
            return Err(refused(&merged.path, &format!("a minLength of {min} is more than can be written")));
        }
        if max.is_some_and(|max| max < min) {
            return Ok(None);
        }
        let key = (merged.patterns.iter().map(|(p, _)| p.clone()).collect(), min, max);
        if let Some(&rule) = self.texts.get(&key) {
            return Ok(Some(rule));
        }
        let start = self.builder.state()?;
        let end = self.builder.end()?;
        if merged.patterns.is_empty() {
            let open = self.builder.text(start, "\"")?;
            let any_char = self.builder.any_char()?;
            let inside = self.builder.repeat(any_char, min, max.unwrap_or(u32::MAX))?;
            self.builder.at(open).skips.push(inside);
            let last = self.builder.state()?;
            self.builder.at(inside).skips.push(last);
            self.builder.range(last, b'"', b'"', end);
        } else {
            let Some(dfa) = self.dfa(merged)? else { return Ok(None) };
            self.build_dfa(&dfa, start, end)?;
        }
        let rule = self.builder.rule(start);
        self.texts.insert(key, rule);
        Ok(Some(rule))
    }

    /// The texts of an automaton, in quotes.
    fn build_dfa(&mut self, dfa: &CharDfa, start: State, end: State) -> Result<()> {
        let states = dfa.edges.iter().map(|_| self.builder.state()).collect::<Result<Vec<_>>>()?;
        self.builder.range(start, b'"', b'"', states[0]);
        for (i, edges) in dfa.edges.iter().enumerate() {
            for (set, to) in edges {
                let class = self.builder.class(set)?;
                if *to == i && set.as_slice() == [(0, MAX_CHAR)] {
                    // The same, and known for what it is.
                    self.builder.at(states[i]).repeat = Some(Repeat { body: class, min: 0, max: u32::MAX, is_indentation: false });
                } else {
                    self.builder.at(states[i]).calls.push((class, states[*to]));
                }
            }
            if dfa.ends[i] {
                self.builder.range(states[i], b'"', b'"', end);
            }
        }
        Ok(())
    }

    fn object(&mut self, merged: &Merged<'a>) -> Result<Rule> {
        let mut names: Vec<&'a str> = Vec::new();
        let mut known = HashSet::new();
        let mut required = HashSet::new();
        let mut declared: BTreeMap<&str, Vec<(usize, &'a Json)>> = BTreeMap::new();
        for (i, part) in merged.members.iter().enumerate() {
            for (name, schema) in part.properties {
                declared.entry(name).or_default().push((i, schema));
                names.extend(known.insert(name.as_str()).then_some(name.as_str()));
            }
        }
        for name in merged.members.iter().flat_map(|part| &part.required) {
            required.insert(*name);
            names.extend(known.insert(name).then_some(*name));
        }
        if names.len() > MAX_PROPERTIES {
            let what = format!("an object has {} members with names; at most {MAX_PROPERTIES} are supported", names.len());
            return Err(refused(&merged.path, &what));
        }
        let is_false = |schema: Option<&Json>| matches!(schema, Some(Json::Bool(false)));
        let is_open = !merged.is_closed
            && !merged.members.iter().any(|part| is_false(part.additional))
            && (merged.members.iter().any(|part| part.additional.is_some())
                || !merged.members.iter().any(|part| part.has_properties));
        let n_required = required.len() as u32;
        if merged.min_properties > n_required.max(1) {
            return Err(refused(&merged.path, "a minProperties above 1 and above what is required is not supported"));
        }
        if merged.max_properties < u32::MAX && (is_open || (merged.max_properties as usize) < names.len()) {
            return Err(refused(&merged.path, "a maxProperties below what there may be is not supported"));
        }
        let additional = |part: &Members<'a>| part.additional.map(|schema| part.at.below(schema, &["additionalProperties"]));

        let start = self.builder.state()?;
        let open = self.builder.text(start, "{")?;
        // Before each member: the first of all, behind a member, and behind a comma.
        let first = (0..=names.len()).map(|_| self.builder.state()).collect::<Result<Vec<_>>>()?;
        let behind = (0..=names.len()).map(|_| self.builder.state()).collect::<Result<Vec<_>>>()?;
        let next = (0..=names.len()).map(|_| self.builder.state()).collect::<Result<Vec<_>>>()?;
        self.builder.space(open, Space::Open, first[0]);
        let brace = self.builder.state()?;
        let end = self.builder.end()?;
        self.builder.range(brace, b'}', b'}', end);
        let close = self.builder.state()?;
        self.builder.space(close, Space::Close, brace);
        if merged.min_properties == 0 && n_required == 0 {
            self.builder.at(open).skips.push(brace);
        }
        let mut can_close = true;
        for i in (0..=names.len()).rev() {
            if i < names.len() {
                let name = names[i];
                let mut all = Vec::new();
                let parts = declared.get(name).map_or(&[][..], Vec::as_slice);
                for (p, part) in merged.members.iter().enumerate() {
                    match parts.iter().find(|(of, _)| *of == p) {
                        Some((_, schema)) => all.push(part.at.below(schema, &["properties", name])),
                        None => all.extend(additional(part)),
                    }
                }
                let value = self.value(all)?;
                let member = self.builder.state()?;
                let named = self.builder.text(member, &format!("{}:", spelled(name)))?;
                let named = self.builder.optional_blank(named)?;
                self.builder.at(named).calls.push((value, behind[i + 1]));
                let is_required = required.contains(name);
                for from in [first[i], next[i]] {
                    self.builder.at(from).skips.push(member);
                    if !is_required {
                        let after = if from == first[i] { first[i + 1] } else { next[i + 1] };
                        self.builder.at(from).skips.push(after);
                    }
                }
                can_close &= !is_required;
            } else if is_open {
                let value = self.value(merged.members.iter().filter_map(additional).collect())?;
                let member = self.builder.state()?;
                let named = self.builder.state()?;
                self.build_dfa(&pattern::other_texts(names.iter().copied()), member, named)?;
                let named = self.builder.text(named, ":")?;
                let named = self.builder.optional_blank(named)?;
                self.builder.at(named).calls.push((value, behind[i]));
                for from in [first[i], next[i]] {
                    self.builder.at(from).skips.push(member);
                }
            }
            if can_close {
                self.builder.at(behind[i]).skips.push(close);
            }
            let comma = self.builder.text(behind[i], ",")?;
            self.builder.space(comma, Space::Comma, next[i]);
        }
        Ok(self.builder.rule(start))
    }

    fn array(&mut self, merged: &Merged<'a>) -> Result<Rule> {
        let (min, mut max) = (merged.min_items, merged.max_items);
        if min > MAX_MINIMUM {
            return Err(refused(&merged.path, &format!("a minItems of {min} is more than can be written")));
        }
        let n_places = merged.items.iter().map(|part| part.prefix.len()).max().unwrap_or(0);
        if merged.is_fixed && merged.items.iter().all(|part| std::ptr::eq(part.rest.schema, &raw const ANYTHING)) {
            max = max.min(n_places as u32);
        }
        let start = self.builder.state()?;
        let rule = self.builder.rule(start);
        if min > max {
            return Ok(rule);
        }
        let open = self.builder.text(start, "[")?;
        let bracket = self.builder.state()?;
        let end = self.builder.end()?;
        self.builder.range(bracket, b']', b']', end);
        let close = self.builder.state()?;
        self.builder.space(close, Space::Close, bracket);
        if min == 0 {
            self.builder.at(open).skips.push(bracket);
        }
        let item = |place: usize| -> Vec<At<'a>> {
            merged.items.iter().map(|part| part.prefix.get(place).unwrap_or(&part.rest).clone()).collect()
        };
        // One by one those that have places of their own, and the first.
        let n_single = n_places.max(1).min(max as usize);
        let mut before = self.builder.state()?;
        self.builder.space(open, Space::Open, before);
        for i in 0..n_single {
            let value = self.value(item(i))?;
            let behind = self.builder.call(before, value)?;
            let n = i as u32 + 1;
            if n >= min {
                self.builder.at(behind).skips.push(close);
            }
            if i + 1 < n_single {
                let comma = self.builder.text(behind, ",")?;
                before = self.builder.state()?;
                self.builder.space(comma, Space::Comma, before);
            } else if n < max {
                let more = self.builder.state()?;
                let comma = self.builder.text(more, ",")?;
                let next = self.builder.state()?;
                self.builder.space(comma, Space::Comma, next);
                let value = self.value(item(n_single))?;
                let last = self.builder.call(next, value)?;
                self.builder.at(last).is_end = true;
                let body = self.builder.rule(more);
                let left = if max == u32::MAX { max } else { max - n };
                let rest = self.builder.repeat(body, min.saturating_sub(n), left)?;
                self.builder.at(behind).skips.push(rest);
                self.builder.at(rest).skips.push(close);
            }
        }
        Ok(rule)
    }
}
