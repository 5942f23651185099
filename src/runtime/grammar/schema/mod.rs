//! JSON schemas (draft 2020-12, and what draft 7 spells otherwise) to automata.
//!
//! | keywords | |
//! | --- | --- |
//! | `type`, `enum`, `const` | all |
//! | `properties`, `required`, `additionalProperties` | members are written in the order of `properties`; others only where there are no `properties`, or `additionalProperties` says so |
//! | `minProperties`, `maxProperties` | 1 at least; at most what has names |
//! | `items`, `prefixItems`, `minItems`, `maxItems`, `additionalItems` | all |
//! | `minLength`, `maxLength`, `pattern` | all together; see [`super::pattern`] |
//! | `format` | `date`, `time`, `date-time`, `uuid`, `ipv4`, `email`; others are remarks, as the standard allows |
//! | `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum` | without exponents |
//! | `multipleOf` | whole numbers up to 1000 |
//! | `anyOf`, `allOf`, `oneOf`, `$ref` | `oneOf` where its alternatives can be told apart; references within the schema, recursive ones too |
//! | titles, descriptions, defaults, examples and unknown words | change nothing |
//! | all other keywords of the standard | refused |
//!
//! Where there is no `type`, the other keywords say which types are meant: with `properties` an object is written, although the standard
//! would let numbers pass too. Whole numbers are within ±(2⁵³ − 1), other numbers have at most 16 digits on either side of the point; white
//! space is what a printer would write: none, a blank behind `:` and `,`, or each part on a line of its own, indented by two blanks a level.
//!
//! Schemas that hold at one place together (by `allOf`, `$ref`, or as alternatives chosen) make one rule, known by their addresses; that is
//! what lets recursive schemas end.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::automaton::{Automata, Builder, Rule};
use super::decimal::{Bound, Range, float};
use super::json::Json;
use super::pattern;
use crate::error::{Error, Result, shown};

mod write;

/// The largest schema.
const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// Members of an object that have names.
const MAX_PROPERTIES: usize = 1000;
/// Alternatives of one place, and schemas in all alternatives of all places.
const MAX_ALTERNATIVES: usize = 1000;
const MAX_PARTS: usize = 100_000;
/// `$ref`, `allOf` and the like within each other with nothing between them.
const MAX_CHAIN: usize = 64;
/// Pairs of values that are compared.
const MAX_COMPARED: usize = 1_000_000;
/// The most items or characters that may be demanded.
const MAX_MINIMUM: u32 = 100_000;

/// Sets of types.
type Types = u8;
const NULL: Types = 1;
const BOOLEAN: Types = 2;
const STRING: Types = 4;
/// Whole numbers.
const INTEGER: Types = 8;
/// Numbers that are not whole.
const FRACTION: Types = 16;
const OBJECT: Types = 32;
const ARRAY: Types = 64;
const ALL: Types = 127;
const NUMBER: Types = INTEGER | FRACTION;

static ANYTHING: Json = Json::Bool(true);

/// A schema, and where it is.
#[derive(Debug, Clone)]
struct At<'a> {
    schema: &'a Json,
    path: Rc<str>,
}

impl<'a> At<'a> {
    fn new(schema: &'a Json, path: &str) -> Self {
        Self { schema, path: path.into() }
    }

    fn below(&self, schema: &'a Json, words: &[&str]) -> Self {
        let mut path = self.path.to_string();
        words.iter().for_each(|word| path = format!("{path}/{}", word.replace('~', "~0").replace('/', "~1")));
        Self::new(schema, &path)
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self.schema) as usize
    }
}

fn refused(at: &str, what: &str) -> Error {
    Error::invalid_request(format!("response_format: {what} (at {}). Change the schema there.", shown(at)))
}

/// The automata of a schema.
///
/// # Errors
/// As [`super::Grammar::new`].
pub(super) fn compile(schema: &Json) -> Result<Automata> {
    let size = schema.size();
    if size > MAX_SCHEMA_BYTES {
        return Err(Error::invalid_request(format!(
            "response_format: the schema is about {size} bytes; at most {MAX_SCHEMA_BYTES} can be taken. Make it smaller."
        )));
    }
    let mut compiler = Compiler {
        root: schema,
        builder: Builder::default(),
        rules: HashMap::new(),
        texts: HashMap::new(),
        waiting: Vec::new(),
        n_parts: 0,
        pattern_work: 0,
    };
    let start = compiler.builder.state()?;
    // Models of SentencePiece begin with a space.
    let value = compiler.builder.optional_blank(start)?;
    let rule = compiler.value(vec![At::new(schema, "#")])?;
    let end = compiler.builder.call(value, rule)?;
    compiler.builder.at(end).is_end = true;
    let root = compiler.builder.rule(start);
    while let Some((rule, job)) = compiler.waiting.pop() {
        match job {
            Job::Value(all) => compiler.build_value(rule, &all)?,
            Job::Merged(all) => compiler.build_merged(rule, &all)?,
        }
    }
    compiler.builder.finish(root)?.ok_or_else(|| {
        Error::invalid_request(
            "response_format: nothing satisfies the schema, or only what is more than 64 objects and lists deep. Look for bounds, types or \
             required members that contradict each other.",
        )
    })
}

/// What is still to be built.
enum Job<'a> {
    /// What satisfies all of these.
    Value(Vec<At<'a>>),
    /// The same, only that alternatives, references and the like within them are chosen and beside them.
    Merged(Vec<At<'a>>),
}

struct Compiler<'a> {
    root: &'a Json,
    builder: Builder,
    /// By whether alternatives are chosen, and the schemas.
    rules: HashMap<(bool, Vec<usize>), Rule>,
    /// Rules of texts by patterns and lengths.
    texts: HashMap<(Vec<String>, u32, Option<u32>), Rule>,
    waiting: Vec<(Rule, Job<'a>)>,
    n_parts: usize,
    pattern_work: usize,
}

/// A schema's say on objects.
struct Members<'a> {
    at: At<'a>,
    properties: &'a [(String, Json)],
    has_properties: bool,
    required: Vec<&'a str>,
    additional: Option<&'a Json>,
}

/// A schema's say on lists.
struct Items<'a> {
    prefix: Vec<At<'a>>,
    rest: At<'a>,
}

/// What schemas say together.
struct Merged<'a> {
    path: Rc<str>,
    /// What the types may be.
    types: Types,
    /// Whether that is said.
    has_types: bool,
    /// What other keywords are about.
    implied: Types,
    /// Those that are all, where they are listed.
    values: Option<Vec<&'a Json>>,
    range: Range,
    min_length: u32,
    max_length: Option<u32>,
    /// Patterns and where they are.
    patterns: Vec<(String, String)>,
    members: Vec<Members<'a>>,
    min_properties: u32,
    max_properties: u32,
    /// No members but those with names.
    is_closed: bool,
    items: Vec<Items<'a>>,
    min_items: u32,
    max_items: u32,
    /// No items but those with places.
    is_fixed: bool,
    /// What is said where items must differ, which is not supported.
    is_unique: Option<Error>,
    /// Keywords that are not supported, and the types that they are about.
    refused: Vec<(Types, Error)>,
}

impl Merged<'_> {
    /// The types that are written.
    fn written(&self) -> Types {
        if self.has_types || self.implied == 0 || self.values.is_some() { self.types } else { self.implied }
    }
}

/// A count as schemas write it.
fn count(value: &Json, path: &str) -> Result<u32> {
    match value {
        Json::Number(n) if float(n) >= 0.0 && float(n).fract() == 0.0 => Ok(float(n).min(f64::from(u32::MAX)) as u32),
        _ => Err(refused(path, "a count must be a whole number of at least 0")),
    }
}

fn type_named(name: &str) -> Option<Types> {
    Some(match name {
        "null" => NULL,
        "boolean" => BOOLEAN,
        "string" => STRING,
        "integer" => INTEGER,
        "number" => NUMBER,
        "object" => OBJECT,
        "array" => ARRAY,
        _ => return None,
    })
}

fn type_of(value: &Json) -> Types {
    match value {
        Json::Null => NULL,
        Json::Bool(_) => BOOLEAN,
        Json::String(_) => STRING,
        Json::Number(n) if float(n).fract() == 0.0 => INTEGER,
        Json::Number(_) => FRACTION,
        Json::Object(_) => OBJECT,
        Json::Array(_) => ARRAY,
    }
}

impl<'a> Compiler<'a> {
    /// The rule of what satisfies all these schemas.
    fn value(&mut self, all: Vec<At<'a>>) -> Result<Rule> {
        self.rule_of(all, false)
    }

    fn rule_of(&mut self, mut all: Vec<At<'a>>, is_merged: bool) -> Result<Rule> {
        all.retain(|at| !matches!(at.schema, Json::Bool(true)));
        all.sort_by_key(At::key);
        all.dedup_by_key(|at| at.key());
        let key = (is_merged, all.iter().map(At::key).collect());
        if let Some(&rule) = self.rules.get(&key) {
            return Ok(rule);
        }
        let start = self.builder.state()?;
        let rule = self.builder.rule(start);
        self.rules.insert(key, rule);
        self.waiting.push((rule, if is_merged { Job::Merged(all) } else { Job::Value(all) }));
        Ok(rule)
    }

    fn build_value(&mut self, rule: Rule, all: &[At<'a>]) -> Result<()> {
        let mut ways = vec![Vec::new()];
        for at in all {
            let choices = self.alternatives(at, &mut Vec::new())?;
            ways = self.both(ways, &choices, &at.path)?;
        }
        let start = self.builder.start(rule);
        let end = self.builder.end()?;
        let mut seen = HashSet::new();
        for way in ways {
            let merged = self.rule_of(way, true)?;
            if seen.insert(merged) {
                self.builder.at(start).calls.push((merged, end));
            }
        }
        Ok(())
    }

    /// Every way to choose among a schema's alternatives: the schemas that hold then.
    fn alternatives(&mut self, at: &At<'a>, chain: &mut Vec<usize>) -> Result<Vec<Vec<At<'a>>>> {
        let members = match at.schema {
            Json::Bool(true) => return Ok(vec![Vec::new()]),
            Json::Bool(false) => return Ok(Vec::new()),
            Json::Object(members) => members,
            _ => return Err(refused(&at.path, "a schema must be an object, true or false")),
        };
        if chain.contains(&at.key()) {
            return Err(refused(&at.path, "the schema refers to itself with nothing between, so it says nothing"));
        }
        if chain.len() >= MAX_CHAIN {
            return Err(refused(&at.path, "too many $ref, allOf, anyOf or oneOf within each other"));
        }
        chain.push(at.key());
        let mut ways = vec![vec![at.clone()]];
        for (name, value) in members {
            let choices = match name.as_str() {
                "$ref" => {
                    let target = self.resolve(at, value)?;
                    self.alternatives(&target, chain)?
                }
                "allOf" => {
                    let mut choices = vec![Vec::new()];
                    for part in schemas(at, name, value)? {
                        let more = self.alternatives(&part, chain)?;
                        choices = self.both(choices, &more, &part.path)?;
                    }
                    choices
                }
                "anyOf" | "oneOf" => {
                    let mut choices: Vec<Vec<Vec<At<'a>>>> = Vec::new();
                    for part in schemas(at, name, value)? {
                        choices.push(self.alternatives(&part, chain)?);
                    }
                    if name == "oneOf" {
                        self.check_apart(at, &choices)?;
                    }
                    choices.into_iter().flatten().collect()
                }
                _ => continue,
            };
            ways = self.both(ways, &choices, &at.path)?;
        }
        chain.pop();
        Ok(ways)
    }

    /// Every way of the one with every way of the other.
    fn both(&mut self, a: Vec<Vec<At<'a>>>, b: &[Vec<At<'a>>], path: &str) -> Result<Vec<Vec<At<'a>>>> {
        let n: usize = a.iter().map(Vec::len).sum::<usize>() * b.len() + b.iter().map(Vec::len).sum::<usize>() * a.len();
        self.n_parts = self.n_parts.saturating_add(n);
        if a.len() * b.len() > MAX_ALTERNATIVES || self.n_parts > MAX_PARTS {
            return Err(refused(path, "too many ways to choose among the alternatives of anyOf and oneOf together"));
        }
        Ok(a.iter().flat_map(|a| b.iter().map(move |b| a.iter().chain(b).cloned().collect())).collect())
    }

    fn resolve(&self, at: &At<'a>, reference: &Json) -> Result<At<'a>> {
        let path = format!("{}/$ref", at.path);
        let Json::String(reference) = reference else { return Err(refused(&path, "$ref must be a text")) };
        let Some(pointer) = reference.strip_prefix('#').filter(|p| p.is_empty() || p.starts_with('/')) else {
            return Err(refused(
                &path,
                &format!("$ref '{}' is not within the schema; only '#' and '#/…' are supported", shown(reference)),
            ));
        };
        let mut schema = self.root;
        for word in pointer.split('/').skip(1) {
            let word = percent_decoded(word).replace("~1", "/").replace("~0", "~");
            let next = match schema {
                Json::Array(items) => word.parse().ok().and_then(|i: usize| items.get(i)),
                _ => schema.get(&word),
            };
            schema = next.ok_or_else(|| refused(&path, &format!("$ref '{}' leads nowhere", shown(reference))))?;
        }
        Ok(At::new(schema, reference))
    }

    /// Refuses a `oneOf` of which two alternatives may hold at once, as far as can be seen.
    fn check_apart(&mut self, at: &At<'a>, choices: &[Vec<Vec<At<'a>>>]) -> Result<()> {
        let mut merged = Vec::new();
        for (i, ways) in choices.iter().enumerate() {
            for way in ways {
                let all: Vec<At<'a>> = std::iter::once(at).chain(way).cloned().collect();
                merged.push((i, self.merged(&all)?));
            }
        }
        // Each is held against each.
        self.n_parts = self.n_parts.saturating_add(merged.len().saturating_mul(merged.len()));
        if self.n_parts > MAX_PARTS {
            return Err(refused(
                &format!("{}/oneOf", at.path),
                "oneOf has too many alternatives, or is at too many places; use anyOf",
            ));
        }
        for (n, (i, a)) in merged.iter().enumerate() {
            for (j, b) in &merged[n + 1..] {
                if i != j && !(self.is_apart(a, b) && self.is_apart(b, a)) {
                    let what =
                        format!("the alternatives {i} and {j} of oneOf may hold both; use anyOf, or tell them apart by a const");
                    return Err(refused(&format!("{}/oneOf", at.path), &what));
                }
            }
        }
        Ok(())
    }

    /// Whether what is written for `a` certainly does not satisfy `b`.
    fn is_apart(&self, a: &Merged<'a>, b: &Merged<'a>) -> bool {
        let differ = |a: &Option<Vec<&Json>>, b: &Option<Vec<&Json>>| match (a, b) {
            (Some(a), Some(b)) if a.len().saturating_mul(b.len()) <= MAX_COMPARED => {
                !a.iter().any(|a| b.iter().any(|b| a.equals(b)))
            }
            _ => false,
        };
        let types = |types: Types, values: &Option<Vec<&Json>>| match values {
            Some(values) => types & values.iter().fold(0, |all, v| all | type_of(v)),
            None => types,
        };
        let common = types(a.written(), &a.values) & types(b.types, &b.values);
        if common == 0 || differ(&a.values, &b.values) {
            return true;
        }
        if common != OBJECT || a.values.is_some() {
            return false;
        }
        let required = |m: &Merged<'a>| m.members.iter().flat_map(|m| m.required.iter().copied()).collect::<Vec<_>>();
        let declares = |m: &Merged<'a>, name: &str| m.members.iter().any(|m| m.properties.iter().any(|(n, _)| n == name));
        let allows_others =
            |m: &Merged<'a>| !m.is_closed && m.members.iter().all(|m| !matches!(m.additional, Some(Json::Bool(false))));
        // What a member must be, seen from outside.
        let member = |m: &Merged<'a>, name: &str| {
            let mut all = (ALL, None::<Vec<&Json>>);
            let declared = m.members.iter().flat_map(|m| m.properties).filter(|(n, _)| n == name);
            for (_, schema) in declared {
                let mut at = At::new(schema, "");
                for _ in 0..MAX_CHAIN {
                    match at.schema.get("$ref").map(|reference| self.resolve(&at, reference)) {
                        Some(Ok(target)) => at = target,
                        _ => break,
                    }
                }
                if let Ok(merged) = self.merged(&[at]) {
                    all.0 &= merged.types;
                    all.1 = all.1.or(merged.values);
                }
            }
            all
        };
        let written_by_a = |name: &str| {
            declares(a, name)
                || required(a).contains(&name)
                || (allows_others(a) && a.members.iter().any(|m| m.additional.is_some()))
        };
        required(a).iter().any(|name| {
            let ((types_a, values_a), (types_b, values_b)) = (member(a, name), member(b, name));
            let common = types(types_a, &values_a) & types(types_b, &values_b);
            common == 0 || differ(&values_a, &values_b) || (!allows_others(b) && !declares(b, name))
        }) || (a.members.iter().any(|m| m.has_properties) && required(b).iter().any(|name| !written_by_a(name)))
    }

    /// What schemas say together beside their alternatives and references.
    fn merged(&self, all: &[At<'a>]) -> Result<Merged<'a>> {
        let mut out = Merged {
            path: all.first().map_or_else(|| "#".into(), |at| at.path.clone()),
            types: ALL,
            has_types: false,
            implied: 0,
            values: None,
            range: Range::default(),
            min_length: 0,
            max_length: None,
            patterns: Vec::new(),
            members: Vec::new(),
            min_properties: 0,
            max_properties: u32::MAX,
            is_closed: false,
            items: Vec::new(),
            min_items: 0,
            max_items: u32::MAX,
            is_fixed: false,
            is_unique: None,
            refused: Vec::new(),
        };
        for at in all {
            match at.schema {
                Json::Object(members) => self.merge(&mut out, at, members)?,
                Json::Bool(false) => out.types = 0,
                _ => {}
            }
        }
        Ok(out)
    }

    fn merge(&self, out: &mut Merged<'a>, at: &At<'a>, keywords: &'a [(String, Json)]) -> Result<()> {
        let mut members =
            Members { at: at.clone(), properties: &[], has_properties: false, required: Vec::new(), additional: None };
        let mut prefix = Vec::new();
        let mut rest = None;
        for (name, value) in keywords {
            let path = format!("{}/{name}", at.path);
            let refuse = |what: &str| Err(refused(&path, what));
            let unsupported = || refused(&path, &format!("'{name}' is not supported"));
            let number = || match value {
                Json::Number(n) => Ok(n.clone()),
                _ => Err(refused(&path, &format!("'{name}' must be a number"))),
            };
            let is_false = matches!(value, Json::Bool(false));
            match name.as_str() {
                "type" => {
                    let types = match value {
                        Json::String(one) => type_named(one),
                        Json::Array(many) => many.iter().try_fold(0, |all, one| match one {
                            Json::String(one) => type_named(one).map(|one| all | one),
                            _ => None,
                        }),
                        _ => None,
                    };
                    let Some(types) = types else { return refuse("'type' must be the name of a JSON type, or a list of such") };
                    out.types &= types;
                    out.has_types = true;
                }
                "enum" | "const" => {
                    let values: Vec<&Json> = match (name.as_str(), value) {
                        ("const", value) => vec![value],
                        (_, Json::Array(values)) => values.iter().collect(),
                        _ => return refuse("'enum' must be a list"),
                    };
                    out.values = Some(match out.values.take() {
                        Some(old) if old.len().saturating_mul(values.len()) > MAX_COMPARED => {
                            return refuse("there are too many values in the lists that hold here together");
                        }
                        Some(old) => old.into_iter().filter(|old| values.iter().any(|v| old.equals(v))).collect(),
                        None => values,
                    });
                }
                "minimum" | "exclusiveMinimum" => {
                    out.implied |= NUMBER;
                    out.range.add_low(Bound { value: number()?, is_exclusive: name != "minimum" });
                }
                "maximum" | "exclusiveMaximum" => {
                    out.implied |= NUMBER;
                    out.range.add_high(Bound { value: number()?, is_exclusive: name != "maximum" });
                }
                "multipleOf" => {
                    out.implied |= NUMBER;
                    let factor = float(&number()?);
                    let old = out.range.multiple_of.max(1);
                    let least = |factor: u32| old / greatest_divisor(old, factor) * factor;
                    if factor.fract() == 0.0 && (1.0..=1000.0).contains(&factor) && least(factor as u32) <= 1000 {
                        out.range.multiple_of = least(factor as u32);
                    } else {
                        let what = format!("'multipleOf' can be a whole number from 1 to 1000, not {factor}");
                        out.refused.push((NUMBER, refused(&path, &what)));
                    }
                }
                "minLength" | "maxLength" | "pattern" | "format" => {
                    out.implied |= STRING;
                    match (name.as_str(), value) {
                        ("minLength", value) => out.min_length = out.min_length.max(count(value, &path)?),
                        ("maxLength", value) => {
                            out.max_length = Some(out.max_length.unwrap_or(u32::MAX).min(count(value, &path)?));
                        }
                        ("pattern", Json::String(pattern)) => out.patterns.push((pattern.clone(), path)),
                        ("format", Json::String(format)) => out.patterns.extend(pattern::of_format(format).map(|p| (p, path))),
                        _ => return refuse(&format!("'{name}' must be a text")),
                    }
                }
                "properties" => {
                    let Json::Object(properties) = value else { return refuse("'properties' must be an object") };
                    out.implied |= OBJECT;
                    members.properties = properties;
                    members.has_properties = true;
                }
                "required" => {
                    let Json::Array(names) = value else { return refuse("'required' must be a list") };
                    out.implied |= OBJECT;
                    for name in names {
                        let Json::String(name) = name else { return refuse("'required' must be a list of texts") };
                        members.required.push(name);
                    }
                }
                "additionalProperties" => {
                    out.implied |= OBJECT;
                    members.additional = Some(value);
                }
                "minProperties" => out.min_properties = out.min_properties.max(count(value, &path)?),
                "maxProperties" => out.max_properties = out.max_properties.min(count(value, &path)?),
                // What the schemas at this place name is what is evaluated: nothing else is written.
                "unevaluatedProperties" => out.is_closed |= !matches!(value, Json::Bool(true)),
                "items" | "prefixItems" => {
                    out.implied |= ARRAY;
                    match value {
                        Json::Array(items) => {
                            let place = |(i, item)| at.below(item, &[name, &format!("{i}")]);
                            prefix = items.iter().enumerate().map(place).collect();
                        }
                        _ if name == "items" => rest = Some(at.below(value, &[name])),
                        _ => return refuse("'prefixItems' must be a list"),
                    }
                }
                // Draft 7's name for the items behind a list of them.
                "additionalItems" if matches!(at.schema.get("items"), Some(Json::Array(_))) => {
                    rest = Some(at.below(value, &[name]))
                }
                "minItems" => {
                    out.implied |= ARRAY;
                    out.min_items = out.min_items.max(count(value, &path)?);
                }
                "maxItems" => {
                    out.implied |= ARRAY;
                    out.max_items = out.max_items.min(count(value, &path)?);
                }
                "unevaluatedItems" => out.is_fixed |= !matches!(value, Json::Bool(true)),
                "uniqueItems" if !is_false => out.is_unique = Some(unsupported()),
                "contains" => out.refused.push((ARRAY, unsupported())),
                "patternProperties" | "dependentRequired" | "dependentSchemas" | "dependencies" if !matches!(value, Json::Object(members) if members.is_empty()) =>
                {
                    out.refused.push((OBJECT, unsupported()));
                }
                "propertyNames" if !matches!(value, Json::Bool(true)) => out.refused.push((OBJECT, unsupported())),
                "if" if at.schema.get("then").is_some() || at.schema.get("else").is_some() => {
                    out.refused.push((ALL, unsupported()))
                }
                "not" if !is_false => out.refused.push((ALL, unsupported())),
                "$dynamicRef" | "$recursiveRef" => out.refused.push((ALL, unsupported())),
                _ => {}
            }
        }
        if members.has_properties || members.additional.is_some() || !members.required.is_empty() {
            out.members.push(members);
        }
        if rest.is_some() || !prefix.is_empty() {
            out.items.push(Items { prefix, rest: rest.unwrap_or_else(|| At::new(&ANYTHING, "#")) });
        }
        Ok(())
    }
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

fn greatest_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

/// `%41` is `A`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match code {
            Some(code) if *first == b'%' => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
