//! Objects.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::merge::{Exists, Members, Merged};
use super::{At, Compiler, MAX_COUNTED, MAX_PROPERTIES, STRING, Sense, refused, type_of};
use crate::error::Result;
use crate::runtime::grammar::automaton::{Mark, Others as OtherMembers, Rule, Space, State};
use crate::runtime::grammar::json::{Json, spelled};
use crate::runtime::grammar::pattern::{self, CharDfa, Text};

/// Patterns of names in one object.
const MAX_LABELS: usize = 24;
/// Members that there must be, by what holds of their names.
const MAX_EXISTS: usize = 8;

/// Where one is in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// Before the member of this number, or one behind it; behind all that have numbers, before one of the others.
    Before(usize),
    /// Before one of the others, of which there was one already.
    BeforeOther,
    /// Behind a member; the next is of this number or one behind it.
    Behind(usize),
    /// Behind one of the others.
    BehindOther,
    /// Behind the last member that there can be.
    BehindLast,
}

/// What there is to know of an object's members.
struct Plan<'a> {
    /// Those with names of their own, in the order they are written in; whether each must be there; and their values.
    named: Vec<(&'a str, bool, Rule)>,
    /// The names of all others by labels, and the rules of their values by these; the last one's, where there must be one.
    others: Option<Others>,
    last: Option<Others>,
    min: u32,
    max: u32,
    /// Counts of members from here on are all the same.
    most: u32,
}

struct Others {
    names: CharDfa,
    values: HashMap<u32, Rule>,
}

impl<'a> Compiler<'a> {
    /// The rules of an object: more than one where a member must be there that may have one name or another.
    pub(super) fn objects(&mut self, merged: &Merged<'a>) -> Result<Vec<Rule>> {
        let Some((exists, rest)) = merged.exists.split_first() else { return Ok(vec![self.object(merged, None)?]) };
        if merged.exists.len() > MAX_EXISTS {
            return Err(refused(&exists.path, "this many members that must fail are not supported"));
        }
        // Any of those with names may be it, or one of the others.
        let mut out = Vec::new();
        let merged = Merged { exists: rest.to_vec(), ..merged.clone() };
        for name in self.known_names(&merged)? {
            if self.text_holds(&exists.name, name)? {
                let mut with = merged.clone();
                with.required.push(name);
                with.forced.push((name, exists.value.clone()));
                out.extend(self.objects(&with)?);
            }
        }
        if rest.is_empty() {
            out.push(self.object(&merged, Some(exists))?);
        } else {
            return Err(refused(&exists.path, "more than one member that must fail, whatever its name, is not supported"));
        }
        Ok(out)
    }

    /// The names that are said somewhere, in the order they are written in.
    fn known_names(&mut self, merged: &Merged<'a>) -> Result<Vec<&'a str>> {
        let mut known = HashSet::new();
        let declared = merged.members.iter().flat_map(|part| part.properties).map(|(name, _)| name.as_str());
        let mut names: Vec<&'a str> =
            declared.chain(merged.required.iter().copied()).filter(|name| known.insert(*name)).collect();
        if self.is_open(merged) || merged.members.iter().any(|part| !part.patterns.is_empty()) {
            names.extend(merged.members.iter().flat_map(|part| &part.evaluated).copied().filter(|name| known.insert(*name)));
            // Names that are listed.
            for at in merged.names.clone() {
                if let Some(listed) = self.listed_names(&at)? {
                    names.extend(listed.into_iter().filter(|name| known.insert(*name)));
                    break;
                }
            }
        }
        if names.len() > MAX_PROPERTIES {
            let what = format!("an object has {} members with names; at most {MAX_PROPERTIES} are supported", names.len());
            return Err(refused(&merged.path, &what));
        }
        names.sort_by_key(|name| self.place_of(name));
        Ok(names)
    }

    /// The place of a name in the one order of members, where there is one; else all are at the same.
    pub(super) fn place_of(&self, name: &str) -> u32 {
        if self.builder.is_strict { self.builder.order.get(&spelled(name)).copied().unwrap_or(u32::MAX) } else { 0 }
    }

    /// Whether there may be members that nobody names.
    fn is_open(&self, merged: &Merged<'a>) -> bool {
        !merged.declares_members() || merged.members.iter().any(|part| part.additional.is_some())
    }

    /// The names that a schema of names lists.
    fn listed_names(&mut self, at: &At<'a>) -> Result<Option<Vec<&'a str>>> {
        let mut names = Vec::new();
        for way in self.ways(std::slice::from_ref(at))? {
            let Some(values) = self.merge(&way.facts)?.values else { return Ok(None) };
            names.extend(
                values.into_iter().filter_map(|value| if let Json::String(name) = value { Some(name.as_str()) } else { None }),
            );
        }
        Ok(Some(names))
    }

    /// What a schema of names says of a text.
    pub(super) fn text_of(&mut self, at: &At<'a>) -> Result<Text> {
        let mut any = Vec::new();
        for way in self.ways(std::slice::from_ref(at))? {
            let merged = self.merge(&way.facts)?;
            if merged.types & STRING == 0 {
                continue;
            }
            if let Some((_, error)) = merged.refused.iter().find(|(of, _)| STRING & of != 0) {
                return Err(error.clone());
            }
            let mut all = merged.texts;
            if let Some(values) = &merged.values {
                let texts = values
                    .iter()
                    .filter_map(|value| if let Json::String(text) = value { Some(text.as_str().into()) } else { None });
                all.push(Text::OneOf(texts.collect()));
            }
            let excluded = merged.excluded.iter().filter(|value| type_of(value) == STRING);
            let excluded =
                excluded.filter_map(|value| if let Json::String(text) = value { Some(text.as_str().into()) } else { None });
            let excluded: Vec<Rc<str>> = excluded.collect();
            if !excluded.is_empty() {
                all.push(Text::Not(Box::new(Text::OneOf(excluded))));
            }
            if merged.min_length > 0 || merged.max_length.is_some() {
                all.push(Text::Length(merged.min_length, merged.max_length));
            }
            any.push(Text::All(all));
        }
        Ok(match any.pop() {
            Some(one) if any.is_empty() => one,
            Some(one) => Text::Any(any.into_iter().chain([one]).collect()),
            None => Text::NONE,
        })
    }

    /// The schemas of a member's value.
    fn values_of(&mut self, merged: &Merged<'a>, name: &str) -> Result<Vec<At<'a>>> {
        let mut all = Vec::new();
        for part in &merged.members {
            let mut is_known = part.names(name);
            all.extend(
                part.properties.iter().find(|(n, _)| n == name).map(|(n, schema)| part.at.below(schema, &["properties", n])),
            );
            for (pattern, schema) in &part.patterns {
                if self.text_holds(pattern, name)? {
                    is_known = true;
                    all.push(schema.clone());
                }
            }
            if !is_known {
                all.extend(part.additional.clone());
            }
        }
        all.extend(merged.forced.iter().filter(|(n, _)| *n == name).map(|(_, schema)| schema.clone()));
        Ok(all)
    }

    /// Names that nobody names, with the rules of their values; `None` where there are none. `exists` is what must hold of the member besides.
    fn others(&mut self, merged: &Merged<'a>, names: &[&'a str], exists: Option<&Exists<'a>>) -> Result<Option<Others>> {
        let is_open = self.is_open(merged);
        let is_false = |part: &Members<'a>| {
            part.additional.as_ref().is_some_and(|at| matches!(at.schema, Json::Bool(false)) && at.sense != Sense::Fails)
        };
        let has_patterns = merged.members.iter().any(|part| !part.patterns.is_empty());
        if !has_patterns && (!is_open || merged.members.iter().any(is_false)) {
            return Ok(None);
        }
        let mut labels: Vec<Text> = Vec::new();
        for (pattern, _) in merged.members.iter().flat_map(|part| &part.patterns) {
            if !labels.contains(pattern) {
                labels.push(pattern.clone());
            }
        }
        if labels.len() > MAX_LABELS {
            return Err(refused(
                &merged.path,
                &format!("an object with more than {MAX_LABELS} patterns of names is not supported"),
            ));
        }
        // Not those that are named, nor those that must not be there.
        let taken: Vec<&str> = names.iter().chain(&merged.lacking).copied().collect();
        let mut must = Vec::new();
        for at in &merged.names {
            must.push(self.text_of(at)?);
        }
        must.extend(exists.map(|exists| exists.name.clone()));
        must.retain(|text| !matches!(text, Text::All(all) if all.is_empty()));
        let is_wanted = |bits: u32| {
            let is_matched = |part: &Members<'a>| {
                part.patterns.iter().any(|(p, _)| labels.iter().position(|label| label == p).is_some_and(|i| bits >> i & 1 == 1))
            };
            (is_open || merged.members.iter().any(is_matched))
                && !merged.members.iter().any(|part| is_false(part) && !is_matched(part))
        };
        let dfa = if must.is_empty() && labels.is_empty() {
            pattern::other_texts(taken.iter().copied())
        } else {
            if !taken.is_empty() {
                must.push(Text::Not(Box::new(Text::OneOf(taken.iter().map(|&name| name.into()).collect()))));
            }
            let dfa = pattern::texts(&must, &labels, (0, None), &is_wanted, &mut self.pattern_work);
            let Some(dfa) = super::write::dfa_or_none(dfa, &merged.path)? else { return Ok(None) };
            dfa
        };
        let mut values = HashMap::new();
        for bits in dfa.ends.iter().flatten().copied().collect::<HashSet<u32>>() {
            let mut all = Vec::new();
            for part in &merged.members {
                let matching = part
                    .patterns
                    .iter()
                    .filter(|(p, _)| labels.iter().position(|label| label == p).is_some_and(|i| bits >> i & 1 == 1));
                let matching: Vec<At<'a>> = matching.map(|(_, schema)| schema.clone()).collect();
                if matching.is_empty() {
                    all.extend(part.additional.clone());
                }
                all.extend(matching);
            }
            all.extend(exists.map(|exists| exists.value.clone()));
            values.insert(bits, self.value(all)?);
        }
        Ok(Some(Others { names: dfa, values }))
    }

    fn plan(&mut self, merged: &Merged<'a>, exists: Option<&Exists<'a>>) -> Result<Plan<'a>> {
        let names = self.known_names(merged)?;
        let (required, lacking): (HashSet<&str>, HashSet<&str>) =
            (merged.required.iter().copied().collect(), merged.lacking.iter().copied().collect());
        let mut texts = Vec::new();
        for at in &merged.names {
            texts.push(self.text_of(at)?);
        }
        let never = self.value(vec![At::anything().with(Sense::Fails)])?;
        let mut named = Vec::new();
        for &name in &names {
            let mut is_allowed = !lacking.contains(name);
            for text in &texts {
                is_allowed = is_allowed && self.text_holds(text, name)?;
            }
            let value = if is_allowed {
                let all = self.values_of(merged, name)?;
                self.value(all)?
            } else {
                never
            };
            named.push((name, required.contains(name), value));
        }
        let last = match exists {
            Some(exists) => Some(match self.others(merged, &names, Some(exists))? {
                Some(others) => others,
                // There is none, so nothing is right.
                None => Others { names: pattern::other_texts(std::iter::empty()), values: HashMap::from([(0, never)]) },
            }),
            None => None,
        };
        let others = self.others(merged, &names, None)?;
        let (min, max) = (merged.min_properties, merged.max_properties);
        if others.is_some() && min as usize > names.len() + 1 {
            let what = format!("a minProperties of {min} is not supported where names may be any, for they might be the same");
            return Err(refused(&merged.path, &what));
        }
        // More than there are is no limit.
        let max = if others.is_none() && last.is_none() && max as usize >= names.len() { u32::MAX } else { max };
        let least = if min as usize <= required.len() { 0 } else { min };
        let most = if max == u32::MAX { least.max(1) } else { max.max(1) };
        if (most as usize).saturating_add(1).saturating_mul(names.len() + 2) > MAX_COUNTED {
            return Err(refused(&merged.path, "minProperties or maxProperties beside this many members is not supported"));
        }
        Ok(Plan { named, others, last, min: least, max, most })
    }

    fn object(&mut self, merged: &Merged<'a>, exists: Option<&Exists<'a>>) -> Result<Rule> {
        let plan = self.plan(merged, exists)?;
        let start = self.builder.state()?;
        let rule = self.builder.rule(start);
        let open = self.builder.text(start, "{")?;
        let close = self.builder.state()?;
        let brace = self.behind_space(close, Space::Close)?;
        let end = self.builder.end()?;
        let is_open = self.builder.is_strict && (plan.others.is_some() || plan.last.is_some());
        let closed = if is_open { self.builder.state()? } else { end };
        self.builder.range(brace, b'}', b'}', closed);
        if is_open {
            self.builder.at(closed).mark = Some((Mark::Opened(0), end));
            self.builder.set_others(rule, OtherMembers::Few);
            if let Some(others) = plan
                .others
                .as_ref()
                .filter(|others| plan.last.is_none() && merged.max_properties == u32::MAX && others.names.is_endless())
            {
                self.builder.endless.push((rule, others.values.values().copied().collect()));
            }
        }
        let n_named = plan.named.len();
        // From each on, whether nothing must be there.
        let mut is_optional = vec![plan.last.is_none(); n_named + 1];
        for i in (0..n_named).rev() {
            is_optional[i] = is_optional[i + 1] && !plan.named[i].1;
        }
        if plan.min == 0 && is_optional[0] {
            self.builder.at(open).skips.push(brace);
        }
        if plan.max == 0 {
            return Ok(rule);
        }
        let mut states: HashMap<(Place, u32), State> = HashMap::new();
        let mut waiting = Vec::new();
        // Names are written once for each count.
        let mut members: HashMap<(usize, u32), State> = HashMap::new();
        let first = self.place(&mut states, &mut waiting, (Place::Before(0), 0))?;
        self.builder.space(open, Space::Open, first);
        while let Some((place, n)) = waiting.pop() {
            let state = states[&(place, n)];
            let may_grow = n < plan.max;
            let grown = (n + 1).min(plan.most);
            match place {
                Place::Before(i) if i < n_named => {
                    let (name, is_required, value) = plan.named[i];
                    if may_grow {
                        let member = match members.get(&(i, grown)) {
                            Some(&member) => member,
                            None => {
                                let member = self.builder.state()?;
                                let named = self.builder.text(member, &format!("{}:", spelled(name)))?;
                                let named = self.builder.optional_blank(named)?;
                                let behind = self.place(&mut states, &mut waiting, (Place::Behind(i + 1), grown))?;
                                self.builder.at(named).calls.push((value, behind));
                                members.insert((i, grown), member);
                                member
                            }
                        };
                        self.builder.at(state).skips.push(member);
                    }
                    if !is_required {
                        let after = self.place(&mut states, &mut waiting, (Place::Before(i + 1), n))?;
                        self.builder.at(state).skips.push(after);
                    }
                }
                Place::Before(_) | Place::BeforeOther => {
                    // Those that nobody names may all have the same name: only one of them counts for the least.
                    let is_enough = place == Place::BeforeOther || n + 1 >= plan.min;
                    if let Some(others) = plan.others.as_ref().filter(|_| may_grow && is_enough) {
                        let behind = self.place(&mut states, &mut waiting, (Place::BehindOther, grown))?;
                        self.other(state, others, behind)?;
                    }
                    if let Some(last) = plan.last.as_ref().filter(|_| may_grow && is_enough) {
                        let behind = self.place(&mut states, &mut waiting, (Place::BehindLast, grown))?;
                        self.other(state, last, behind)?;
                    }
                }
                Place::Behind(i) => {
                    if is_optional[i] && n >= plan.min {
                        self.builder.at(state).skips.push(close);
                    }
                    self.comma(&mut states, &mut waiting, state, (Place::Before(i), n))?;
                }
                Place::BehindOther => {
                    if plan.last.is_none() {
                        self.builder.at(state).skips.push(close);
                    }
                    self.comma(&mut states, &mut waiting, state, (Place::BeforeOther, n))?;
                }
                Place::BehindLast => self.builder.at(state).skips.push(close),
            }
        }
        Ok(rule)
    }

    fn place(
        &mut self,
        states: &mut HashMap<(Place, u32), State>,
        waiting: &mut Vec<(Place, u32)>,
        key: (Place, u32),
    ) -> Result<State> {
        if let Some(&state) = states.get(&key) {
            return Ok(state);
        }
        let state = self.builder.state()?;
        states.insert(key, state);
        waiting.push(key);
        Ok(state)
    }

    fn comma(
        &mut self,
        states: &mut HashMap<(Place, u32), State>,
        waiting: &mut Vec<(Place, u32)>,
        from: State,
        to: (Place, u32),
    ) -> Result<()> {
        let comma = self.builder.text(from, ",")?;
        let to = self.place(states, waiting, to)?;
        self.builder.space(comma, Space::Comma, to);
        Ok(())
    }

    /// A member that nobody names.
    fn other(&mut self, from: State, others: &Others, behind: State) -> Result<()> {
        let mut ends = HashMap::new();
        for (&labels, &value) in &others.values {
            let named = self.builder.state()?;
            let colon = self.builder.text(named, ":")?;
            let colon = self.builder.optional_blank(colon)?;
            self.builder.at(colon).calls.push((value, behind));
            ends.insert(labels, named);
        }
        self.build_dfa(&others.names, from, &ends)
    }
}
