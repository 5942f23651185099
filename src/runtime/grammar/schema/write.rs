//! What some facts hold of: the automata of its values, texts and numbers.

use std::collections::HashMap;

use super::merge::Merged;
use super::{
    ARRAY, BOOLEAN, Compiler, FRACTION, Fact, INTEGER, MAX_MINIMUM, NULL, NUMBER, OBJECT, STRING, Types, refused, type_of,
};
use crate::error::Result;
use crate::runtime::grammar::automaton::{MAX_CHAR, Repeat, Rule, Space, State};
use crate::runtime::grammar::decimal;
use crate::runtime::grammar::json::{Json, spelled};
use crate::runtime::grammar::pattern::{self, CharDfa, Refusal, Text};

/// An automaton of texts, or `None` where no text will do.
///
/// # Errors
/// `invalid_request` where there is none for another reason; `path` is where what is said of the text stands.
pub(super) fn dfa_or_none(dfa: std::result::Result<CharDfa, Refusal>, path: &str) -> Result<Option<CharDfa>> {
    match dfa {
        Ok(dfa) => Ok(Some(dfa)),
        Err(Refusal::Nothing) => Ok(None),
        Err(Refusal::Pattern(what, path)) => {
            Err(refused(&path, &format!("the pattern has {what}; that is no regular expression, or not supported")))
        }
        Err(Refusal::TooLarge) => Err(refused(path, "the pattern, or patterns and lengths together, are too complex")),
    }
}

impl<'a> Compiler<'a> {
    pub(super) fn build_merged(&mut self, rule: Rule, facts: &[Fact<'a>]) -> Result<()> {
        let merged = self.merge(facts)?;
        let types = merged.written();
        let start = self.builder.start(rule);
        let end = self.builder.end()?;
        if let Some(values) = &merged.values {
            return self.build_values(facts, types, values, start, end);
        }
        if let Some((_, error)) = merged.refused.iter().find(|(of, _)| types & of != 0) {
            return Err(error.clone());
        }
        self.check_excluded(&merged, types)?;
        let is_excluded = |value: &Json| merged.excluded.iter().any(|excluded| excluded.equals(value));
        let constants = [(NULL, Json::Null), (BOOLEAN, Json::Bool(true)), (BOOLEAN, Json::Bool(false))];
        let constants = constants.iter().filter(|(of, value)| types & of != 0 && !is_excluded(value));
        let texts: Vec<String> = constants.map(|(_, value)| value.to_string()).collect();
        self.build_texts(&texts, start, end)?;
        if types & NUMBER != 0 {
            let numbers = merged.excluded.iter().filter_map(|value| if let Json::Number(n) = value { Some(n) } else { None });
            for range in merged.range.without(&numbers.collect::<Vec<_>>()) {
                let last = if types & FRACTION != 0 {
                    decimal::number(&mut self.builder, start, &range, types & INTEGER != 0)?
                } else {
                    decimal::integer(&mut self.builder, start, &range)?
                };
                self.builder.at(last).skips.push(end);
            }
        }
        if types & STRING != 0
            && let Some(text) = self.text(&merged)?
        {
            self.builder.at(start).calls.push((text, end));
        }
        if types & OBJECT != 0 {
            for object in self.objects(&merged)? {
                self.builder.set_nested(object);
                self.builder.at(start).calls.push((object, end));
            }
        }
        if types & ARRAY != 0 {
            let array = self.list(&merged)?;
            self.builder.set_nested(array);
            self.builder.at(start).calls.push((array, end));
        }
        Ok(())
    }

    /// Numbers that are not whole are written only where whole ones are, too; and objects and lists are not told from all others.
    fn check_excluded(&self, merged: &Merged<'a>, types: Types) -> Result<()> {
        let is_hard = |value: &&&Json| matches!(value, Json::Object(_) | Json::Array(_)) && type_of(value) & types != 0;
        match merged.excluded.iter().find(is_hard) {
            Some(_) => Err(refused(
                &merged.excluded_at,
                "an object or list that must not be is not supported; say which types or members there may be",
            )),
            None => Ok(()),
        }
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

    fn build_values(&mut self, facts: &[Fact<'a>], types: Types, values: &[&'a Json], start: State, end: State) -> Result<()> {
        let mut texts = Vec::new();
        for &value in values {
            if type_of(value) & types == 0 || !self.all_hold(value, facts)? {
                continue;
            }
            match value {
                Json::Object(_) | Json::Array(_) => {
                    let last = self.literal(value, start)?;
                    self.builder.at(last).skips.push(end);
                }
                scalar => texts.push(self.scalar(scalar)),
            }
        }
        self.build_texts(&texts, start, end)
    }

    /// A new state behind a value.
    pub(super) fn literal(&mut self, value: &Json, from: State) -> Result<State> {
        let (open, close, mut items): (_, _, Vec<(Option<&String>, &Json)>) = match value {
            Json::Array(items) => ("[", "]", items.iter().map(|item| (None, item)).collect()),
            Json::Object(members) => ("{", "}", members.iter().map(|(name, value)| (Some(name), value)).collect()),
            scalar => return self.builder.text(from, &self.scalar(scalar)),
        };
        items.sort_by_key(|(name, _)| name.map(|name| self.place_of(name)));
        let start = self.builder.state()?;
        let mut at = self.builder.text(start, open)?;
        let is_empty = items.is_empty();
        for (i, (name, item)) in items.into_iter().enumerate() {
            at = if i == 0 { self.behind_space(at, Space::Open)? } else { self.behind_comma(at)? };
            if let Some(name) = name {
                at = self.builder.text(at, &format!("{}:", spelled(name)))?;
                at = self.builder.optional_blank(at)?;
            }
            at = self.literal(item, at)?;
        }
        if !is_empty {
            at = self.behind_space(at, Space::Close)?;
        }
        let last = self.builder.text(at, close)?;
        self.builder.at(last).is_end = true;
        let rule = self.builder.rule(start);
        self.builder.set_nested(rule);
        self.builder.call(from, rule)
    }

    /// What is neither a list nor an object, as it is written.
    fn scalar(&self, value: &Json) -> String {
        match value {
            Json::Number(number) if self.builder.is_strict => decimal::spelled(number),
            value => value.to_string(),
        }
    }

    /// A new state behind white space.
    pub(super) fn behind_space(&mut self, from: State, kind: Space) -> Result<State> {
        let to = self.builder.state()?;
        self.builder.space(from, kind, to);
        Ok(to)
    }

    /// A new state behind a comma and the white space behind it.
    pub(super) fn behind_comma(&mut self, from: State) -> Result<State> {
        let comma = self.builder.text(from, ",")?;
        self.behind_space(comma, Space::Comma)
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
        let mut texts = merged.texts.clone();
        let excluded = merged
            .excluded
            .iter()
            .filter_map(|value| if let Json::String(text) = value { Some(text.as_str().into()) } else { None });
        let excluded: Vec<_> = excluded.collect();
        if !excluded.is_empty() {
            texts.push(Text::Not(Box::new(Text::OneOf(excluded))));
        }
        texts.sort();
        texts.dedup();
        let key = (texts, min, max);
        if let Some(&rule) = self.texts.get(&key) {
            return Ok(rule);
        }
        let start = self.builder.state()?;
        let end = self.builder.end()?;
        if key.0.is_empty() {
            let open = self.builder.text(start, "\"")?;
            let any_char = self.builder.any_char()?;
            let inside = self.builder.repeat(any_char, min, max.unwrap_or(u32::MAX))?;
            self.builder.at(open).skips.push(inside);
            let last = self.builder.state()?;
            self.builder.at(inside).skips.push(last);
            self.builder.range(last, b'"', b'"', end);
        } else {
            let path =
                merged.texts.iter().find_map(|text| if let Text::Pattern(_, path) = text { Some(path.clone()) } else { None });
            let dfa = pattern::texts(&key.0, &[], (min, max), &|_| true, &mut self.pattern_work);
            let Some(dfa) = dfa_or_none(dfa, &path.unwrap_or_else(|| merged.path.clone()))? else {
                self.texts.insert(key, None);
                return Ok(None);
            };
            self.build_dfa(&dfa, start, &HashMap::from([(0, end)]))?;
        }
        let rule = self.builder.rule(start);
        self.texts.insert(key, Some(rule));
        Ok(Some(rule))
    }

    /// The texts of an automaton, in quotes; by their labels, they lead to the states of `ends`.
    pub(super) fn build_dfa(&mut self, dfa: &CharDfa, start: State, ends: &HashMap<u32, State>) -> Result<()> {
        let states = dfa.edges.iter().map(|_| self.builder.state()).collect::<Result<Vec<_>>>()?;
        self.builder.range(start, b'"', b'"', states[0]);
        for (i, edges) in dfa.edges.iter().enumerate() {
            for (set, to) in edges {
                let class = self.builder.class(set)?;
                if *to == i && set.as_slice() == [(0, MAX_CHAR)] {
                    // The same, and known for what it is.
                    let repeat = Repeat { body: class, min: 0, max: u32::MAX, is_indentation: false };
                    self.builder.at(states[i]).repeat = Some(repeat);
                } else {
                    self.builder.at(states[i]).calls.push((class, states[*to]));
                }
            }
            if let Some(&end) = dfa.ends[i].and_then(|labels| ends.get(&labels)) {
                self.builder.range(states[i], b'"', b'"', end);
            }
        }
        Ok(())
    }
}
