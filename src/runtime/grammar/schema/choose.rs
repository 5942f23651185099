//! The ways to satisfy a schema: what is left when all choices between alternatives, conditions and the like are made.

use std::collections::HashMap;
use std::rc::Rc;

use super::apart::Apart;
use super::{
    ALL, ARRAY, At, Compiler, Fact, MAX_CHAIN, MAX_FACTS, MAX_WAYS, NUMBER, OBJECT, STRING, Sense, Types, Way, What, refused,
    type_of, types_named,
};
use crate::error::Result;
use crate::runtime::grammar::json::Json;

/// Listed values that are compared to see whether facts contradict each other.
const MAX_LISTED: usize = 64;

/// The schemas that one is within, with nothing between them.
type Chain = Vec<(usize, Sense)>;

/// What a keyword that does not hold makes of a value, as far as its types go; 0 for what cannot fail. A `format` cannot: to the standard it
/// is a remark.
fn types_failing(schema: &Json, name: &str, value: &Json) -> Types {
    let is_said = match name {
        "unevaluatedProperties" | "unevaluatedItems" | "additionalProperties" | "propertyNames" | "items" => {
            !matches!(value, Json::Bool(true))
        }
        "additionalItems" => matches!(schema.get("items"), Some(Json::Array(_))),
        "uniqueItems" => !matches!(value, Json::Bool(false)),
        _ => true,
    };
    match name {
        _ if !is_said => 0,
        "type" => types_named(schema, value).map_or(ALL, |types| ALL & !types),
        "enum" | "const" | "unevaluatedProperties" | "unevaluatedItems" | "$recursiveRef" => ALL,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => NUMBER,
        "minLength" | "maxLength" | "pattern" => STRING,
        "additionalProperties" | "propertyNames" | "minProperties" | "maxProperties" => OBJECT,
        "items" | "additionalItems" | "minItems" | "maxItems" | "contains" | "uniqueItems" => ARRAY,
        _ => 0,
    }
}

/// The types that all a schema says flatly leaves.
fn types_holding(schema: &Json) -> Types {
    let Json::Object(members) = schema else { return if matches!(schema, Json::Bool(false)) { 0 } else { ALL } };
    members.iter().fold(ALL, |types, (name, value)| match (name.as_str(), value) {
        ("type", value) => types & types_named(schema, value).unwrap_or(ALL),
        ("const", value) => types & type_of(value),
        ("enum", Json::Array(values)) => types & values.iter().fold(0, |all, value| all | type_of(value)),
        _ => types,
    })
}

/// The schemas of a list of alternatives.
fn schemas<'a>(at: &At<'a>, name: &str, value: &'a Json) -> Result<Vec<At<'a>>> {
    match value {
        Json::Array(all) if !all.is_empty() => {
            Ok(all.iter().enumerate().map(|(i, schema)| at.below(schema, &[name, &i.to_string()])).collect())
        }
        _ => Err(refused(&format!("{}/{name}", at.path), &format!("'{name}' must be a list of schemas"))),
    }
}

/// The members of a keyword's object.
fn members<'a>(at: &At<'a>, name: &str, value: &'a Json) -> Result<&'a [(String, Json)]> {
    match value {
        Json::Object(members) => Ok(members),
        _ => Err(refused(&format!("{}/{name}", at.path), &format!("'{name}' must be an object"))),
    }
}

/// The names of a list.
fn names<'a>(path: &str, value: &'a Json) -> Result<Vec<&'a str>> {
    let name = |name: &'a Json| match name {
        Json::String(name) => Some(name.as_str()),
        _ => None,
    };
    match value {
        Json::Array(all) => all.iter().map(name).collect(),
        _ => None,
    }
    .ok_or_else(|| refused(path, "here must be a list of texts"))
}

impl<'a> Way<'a> {
    fn of(facts: Vec<Fact<'a>>) -> Self {
        Self { facts, types: ALL }
    }

    /// One fact about a schema.
    fn fact(at: &At<'a>, what: What, types: Types) -> Self {
        Self { facts: vec![Fact { schema: at.schema, name: "", path: at.path.clone(), what }], types }
    }

    /// One fact about a member.
    fn member(at: &At<'a>, name: &'a str, what: What) -> Self {
        let fact = Fact { schema: at.schema, name, path: at.path.clone(), what };
        Self { facts: vec![fact], types: if what == What::LacksIfObject { ALL } else { OBJECT } }
    }
}

impl<'a> Compiler<'a> {
    /// Every way to satisfy all these schemas.
    pub(super) fn ways(&mut self, all: &[At<'a>]) -> Result<Vec<Way<'a>>> {
        let mut ways = vec![Way::of(Vec::new())];
        for at in all {
            let choices = self.choices(at, &mut Vec::new())?;
            ways = self.both(ways, &choices, &at.path)?;
        }
        Ok(ways)
    }

    /// Every way to satisfy a schema, or not to satisfy it where that is asked for.
    fn choices(&mut self, at: &At<'a>, chain: &mut Chain) -> Result<Vec<Way<'a>>> {
        let members = match at.schema {
            Json::Bool(holds) if *holds == (at.sense != Sense::Fails) => return Ok(vec![Way::of(Vec::new())]),
            Json::Bool(_) => return Ok(Vec::new()),
            Json::Object(members) => members,
            _ => return Err(refused(&at.path, "a schema must be an object, true or false")),
        };
        if chain.contains(&at.key()) {
            return Err(refused(&at.path, "the schema refers to itself with nothing between, so it says nothing"));
        }
        if chain.len() >= MAX_CHAIN {
            return Err(refused(&at.path, "too many $ref, allOf, anyOf, oneOf, not or if within each other"));
        }
        chain.push(at.key());
        let ways = match at.sense {
            Sense::Fails => self.choices_failing(at, members, chain)?,
            _ => self.choices_holding(at, members, chain)?,
        };
        chain.pop();
        Ok(ways)
    }

    fn choices_holding(&mut self, at: &At<'a>, keywords: &'a [(String, Json)], chain: &mut Chain) -> Result<Vec<Way<'a>>> {
        let mut ways = vec![Way::fact(at, at.sense.holding(), types_holding(at.schema))];
        for (name, value) in keywords {
            let path = || super::below(&at.path, &[name]);
            let choices = match name.as_str() {
                "$ref" | "$dynamicRef" => {
                    let target = self.references.resolve(at, name, value)?;
                    self.choices(&target, chain)?
                }
                "allOf" => self.all_of(&schemas(at, name, value)?, chain)?,
                "anyOf" => {
                    let parts = schemas(at, name, value)?;
                    let ways = self.any_of(&parts, chain)?;
                    if self.has_unevaluated { self.also_together(ways, &parts, chain)? } else { ways }
                }
                "oneOf" => self.one_of(at, &schemas(at, name, value)?, chain)?,
                "not" => self.choices(&at.below(value, &[name]).with(Sense::Fails), chain)?,
                "if" => {
                    let (then, other) = (at.schema.get("then"), at.schema.get("else"));
                    if then.is_none() && other.is_none() && !self.has_unevaluated {
                        continue;
                    }
                    let condition = at.below(value, &[name]).as_condition();
                    let branch = |schema: Option<&'a Json>, name: &str| schema.map(|schema| at.below(schema, &[name]));
                    let mut choices = self.branch(&condition, branch(then, "then"), chain)?;
                    choices.extend(self.branch(&condition.with(Sense::Fails), branch(other, "else"), chain)?);
                    choices
                }
                "dependentRequired" | "dependentSchemas" | "dependencies" => {
                    let mut all = vec![Way::of(Vec::new())];
                    for (member, dependency) in members(at, name, value)? {
                        let there = vec![Way::member(at, member, What::Has)];
                        let then = match dependency {
                            Json::Array(_) => {
                                let has = |name| Way::member(at, name, What::Has);
                                let names = names(&super::below(&path(), &[member]), dependency)?;
                                names.into_iter().map(has).try_fold(there, |ways, way| self.both(ways, &[way], &path()))?
                            }
                            schema => {
                                let schema = at.below(schema, &[name, member]);
                                let choices = self.choices(&schema, chain)?;
                                self.both(there, &choices, &schema.path)?
                            }
                        };
                        let mut choices = vec![Way::member(at, member, What::LacksIfObject)];
                        choices.extend(then);
                        all = self.both(all, &choices, &path())?;
                    }
                    all
                }
                _ => continue,
            };
            ways = self.both(ways, &choices, &at.path)?;
        }
        let is_said = |name: &str| at.schema.get(name).is_some_and(|value| !matches!(value, Json::Bool(true)));
        if is_said("unevaluatedProperties") || is_said("unevaluatedItems") {
            for way in &mut ways {
                let is_hidden = at.sense == Sense::Hidden;
                let names = |fact: &&Fact<'a>| match fact.what {
                    What::Hidden => is_hidden,
                    what => matches!(what, What::Holds | What::Condition),
                };
                self.scopes.push(way.facts.iter().filter(names).map(|fact| fact.schema).collect());
                self.n_facts += way.facts.len();
                let what = What::Unevaluated(self.scopes.len() - 1);
                way.facts.push(Fact { schema: at.schema, name: "", path: at.path.clone(), what });
            }
        }
        Ok(ways)
    }

    fn choices_failing(&mut self, at: &At<'a>, keywords: &'a [(String, Json)], chain: &mut Chain) -> Result<Vec<Way<'a>>> {
        let mut ways = Vec::new();
        for (number, (name, value)) in keywords.iter().enumerate() {
            let more = match name.as_str() {
                "$ref" | "$dynamicRef" => {
                    let target = self.references.resolve(at, name, value)?;
                    self.choices(&target, chain)?
                }
                "allOf" => self.any_of(&schemas(at, name, value)?, chain)?,
                "anyOf" => self.all_of(&schemas(at, name, value)?, chain)?,
                "oneOf" => {
                    // None, or two.
                    let parts = schemas(at, name, value)?;
                    let mut ways = self.all_of(&parts, chain)?;
                    let holding: Vec<At<'a>> = parts.iter().map(|part| part.with(Sense::Hidden)).collect();
                    for (i, a) in holding.iter().enumerate() {
                        for b in &holding[i + 1..] {
                            ways.extend(self.all_of(&[a.clone(), b.clone()], chain)?);
                            self.check_number(&ways, &part_path(at, name))?;
                        }
                    }
                    ways
                }
                "not" => self.choices(&at.below(value, &[name]).with(Sense::Hidden), chain)?,
                "if" => {
                    let (then, other) = (at.schema.get("then"), at.schema.get("else"));
                    let condition = at.below(value, &[name]).with(Sense::Hidden);
                    let mut ways = Vec::new();
                    if let Some(then) = then {
                        ways.extend(self.branch(&condition, Some(at.below(then, &["then"])), chain)?);
                    }
                    if let Some(other) = other {
                        ways.extend(self.branch(&condition.with(Sense::Fails), Some(at.below(other, &["else"])), chain)?);
                    }
                    ways
                }
                "dependentRequired" | "dependentSchemas" | "dependencies" => {
                    let mut ways = Vec::new();
                    for (member, dependency) in members(at, name, value)? {
                        let there = vec![Way::member(at, member, What::Has)];
                        let choices = match dependency {
                            Json::Array(_) => {
                                let names = names(&part_path(at, name), dependency)?;
                                names.into_iter().map(|name| Way::member(at, name, What::Lacks)).collect()
                            }
                            schema => self.choices(&at.below(schema, &[name, member]), chain)?,
                        };
                        ways.extend(self.both(there, &choices, &at.path)?);
                    }
                    ways
                }
                "required" => {
                    names(&part_path(at, name), value)?.into_iter().map(|name| Way::member(at, name, What::Lacks)).collect()
                }
                "properties" | "patternProperties" => {
                    let n = members(at, name, value)?.len();
                    (0..n).map(|i| Way::fact(at, What::FailsAt(number, i), OBJECT)).collect()
                }
                "prefixItems" | "items" if matches!(value, Json::Array(_)) => {
                    let n = if let Json::Array(items) = value { items.len() } else { 0 };
                    (0..n).map(|i| Way::fact(at, What::FailsAt(number, i), ARRAY)).collect()
                }
                _ => match types_failing(at.schema, name, value) {
                    0 => continue,
                    types => vec![Way::fact(at, What::Fails(number), types)],
                },
            };
            ways.extend(more);
            self.check_number(&ways, &at.path)?;
        }
        Ok(ways)
    }

    /// Alternatives, and several of them at once, which evaluate more together.
    fn also_together(&mut self, mut ways: Vec<Way<'a>>, parts: &[At<'a>], chain: &mut Chain) -> Result<Vec<Way<'a>>> {
        const MAX_TOGETHER: usize = 5;
        if parts.len() <= MAX_TOGETHER {
            for chosen in (1..1_usize << parts.len()).filter(|chosen| chosen.count_ones() > 1) {
                let parts: Vec<At<'a>> = (0..parts.len()).filter(|i| chosen >> i & 1 == 1).map(|i| parts[i].clone()).collect();
                ways.extend(self.all_of(&parts, chain)?);
                self.check_number(&ways, &parts[0].path)?;
            }
        }
        Ok(ways)
    }

    fn all_of(&mut self, parts: &[At<'a>], chain: &mut Chain) -> Result<Vec<Way<'a>>> {
        let mut ways = vec![Way::of(Vec::new())];
        for part in parts {
            let choices = self.choices(part, chain)?;
            ways = self.both(ways, &choices, &part.path)?;
        }
        Ok(ways)
    }

    fn any_of(&mut self, parts: &[At<'a>], chain: &mut Chain) -> Result<Vec<Way<'a>>> {
        let mut ways = Vec::new();
        for part in parts {
            ways.extend(self.choices(part, chain)?);
            self.check_number(&ways, &part.path)?;
        }
        Ok(ways)
    }

    fn branch(&mut self, condition: &At<'a>, then: Option<At<'a>>, chain: &mut Chain) -> Result<Vec<Way<'a>>> {
        let ways = self.choices(condition, chain)?;
        match then {
            Some(then) => {
                let choices = self.choices(&then, chain)?;
                self.both(ways, &choices, &then.path)
            }
            None => Ok(ways),
        }
    }

    /// One alternative and none of the others; where it can be seen that another does not hold, that need not be said.
    fn one_of(&mut self, at: &At<'a>, parts: &[At<'a>], chain: &mut Chain) -> Result<Vec<Way<'a>>> {
        let mut choices = Vec::new();
        for part in parts {
            choices.push(self.choices(part, chain)?);
        }
        let path: Rc<str> = part_path(at, "oneOf").into();
        let mut merged = Vec::new();
        for way in choices.iter() {
            let mut all = Vec::new();
            for way in way {
                let what = at.sense.holding();
                let own = Fact { schema: at.schema, name: "", path: at.path.clone(), what };
                let facts: Vec<Fact<'a>> = std::iter::once(own).chain(way.facts.iter().cloned()).collect();
                all.push(self.merge(&facts)?);
            }
            merged.push(all);
        }
        // Each is held against each.
        let n = choices.iter().map(Vec::len).sum::<usize>();
        self.n_facts = self.n_facts.saturating_add(n.saturating_mul(n));
        if self.n_facts > MAX_FACTS {
            return Err(refused(&path, "oneOf has too many alternatives, or is at too many places; use anyOf"));
        }
        let mut out = Vec::new();
        for (i, ways) in choices.iter().enumerate() {
            for (way, a) in ways.iter().zip(&merged[i]) {
                let mut kept = vec![way.clone()];
                for (j, others) in merged.iter().enumerate().filter(|(j, _)| *j != i) {
                    let mut fails = false;
                    for b in others {
                        match self.tell_apart(a, b, at.sense != Sense::Holds) {
                            Apart::Surely => {}
                            Apart::Only(types) => {
                                kept = self.both(kept, &[Way::fact(at, What::Only(types), types)], &path)?;
                            }
                            Apart::Without(name) => kept = self.both(kept, &[Way::member(at, name, What::Lacks)], &path)?,
                            Apart::Perhaps => fails = true,
                        }
                    }
                    if fails {
                        let choices = self.choices(&parts[j].with(Sense::Fails), chain)?;
                        kept = self.both(kept, &choices, &path)?;
                    }
                }
                out.extend(kept);
                self.check_number(&out, &path)?;
            }
        }
        Ok(out)
    }

    fn check_number(&mut self, ways: &[Way<'a>], path: &str) -> Result<()> {
        if ways.len() > MAX_WAYS || self.n_facts > MAX_FACTS {
            return Err(refused(
                path,
                "there are too many ways to choose among the alternatives of anyOf, oneOf, not, if and the like together",
            ));
        }
        Ok(())
    }

    /// Every way of the one with every way of the other, as far as their types leave any.
    pub(super) fn both(&mut self, a: Vec<Way<'a>>, b: &[Way<'a>], path: &str) -> Result<Vec<Way<'a>>> {
        let mut out = Vec::new();
        let is_alone = a.len() * b.len() <= 1;
        for a in &a {
            for b in b {
                let types = a.types & b.types;
                if types == 0 {
                    continue;
                }
                let facts: Vec<Fact<'a>> = a.facts.iter().chain(&b.facts).cloned().collect();
                self.n_facts = self.n_facts.saturating_add(facts.len());
                // Few of the many ways through several conditions on the same member are possible.
                if !is_alone && contradict(&facts, types == OBJECT) {
                    continue;
                }
                out.push(Way { facts, types });
            }
            self.check_number(&out, path)?;
        }
        Ok(out)
    }
}

/// The values that a schema lists.
fn listed(schema: &Json) -> Option<Vec<&Json>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Json::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// The keyword of a fact's schema by its number.
fn keyword<'a>(fact: &Fact<'a>, number: usize) -> Option<&'a (String, Json)> {
    match fact.schema {
        Json::Object(keywords) => keywords.get(number),
        _ => None,
    }
}

/// Whether it can be seen that facts do not hold together: a member that must be there must not, or has none of the values it may have.
fn contradict(facts: &[Fact<'_>], is_object: bool) -> bool {
    // Of each member that must be there: the values that it may have, and those that it must not have.
    let mut members: HashMap<&str, (Option<Vec<&Json>>, Vec<&Json>)> = HashMap::new();
    let mut lacking = Vec::new();
    for fact in facts {
        match fact.what {
            What::Has => drop(members.entry(fact.name).or_default()),
            What::Lacks | What::LacksIfObject => lacking.push(fact.name),
            What::FailsAt(number, i) => {
                if let Some((name, Json::Object(properties))) = keyword(fact, number)
                    && name == "properties"
                    && let Some((name, schema)) = properties.get(i)
                {
                    let member = members.entry(name).or_default();
                    let is_all = matches!(schema, Json::Object(keywords) if keywords.len() == 1);
                    member.1.extend(listed(schema).filter(|_| is_all).into_iter().flatten());
                }
            }
            What::Holds | What::Condition | What::Hidden if is_object => {
                if let Some(Json::Array(names)) = fact.schema.get("required") {
                    for name in names {
                        if let Json::String(name) = name {
                            members.entry(name).or_default();
                        }
                    }
                }
            }
            _ => {}
        }
    }
    if lacking.iter().any(|name| members.contains_key(name)) {
        return true;
    }
    for fact in facts.iter().filter(|fact| matches!(fact.what, What::Holds | What::Condition | What::Hidden)) {
        let Some(Json::Object(properties)) = fact.schema.get("properties") else { continue };
        for (name, schema) in properties {
            if let Some(member) = members.get_mut(name.as_str())
                && let Some(values) = listed(schema).filter(|values| values.len() <= MAX_LISTED)
            {
                member.0 = Some(match member.0.take() {
                    Some(old) => old.into_iter().filter(|old| values.iter().any(|value| value.equals(old))).collect(),
                    None => values,
                });
            }
        }
    }
    members.values().any(|(values, excluded)| {
        values.as_ref().is_some_and(|values| values.iter().all(|value| excluded.iter().any(|excluded| excluded.equals(value))))
    })
}

fn part_path(at: &At<'_>, name: &str) -> String {
    format!("{}/{name}", at.path)
}
