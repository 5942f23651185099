//! JSON schemas (draft 2020-12, and what draft 7 and OpenAPI spell otherwise) to automata.
//!
//! | keywords | |
//! | --- | --- |
//! | `type`, `enum`, `const`, `nullable` | all |
//! | `properties`, `patternProperties`, `additionalProperties`, `required` | members are written in the order of `properties`; others behind them, where there are neither `properties` nor `patternProperties`, or where `additionalProperties` says so |
//! | `propertyNames`, `dependentRequired`, `dependentSchemas`, `dependencies` | all |
//! | `minProperties`, `maxProperties` | of members without names of their own only one counts as certain, since names might be the same |
//! | `items`, `prefixItems`, `minItems`, `maxItems`, `additionalItems` | all |
//! | `contains`, `minContains`, `maxContains` | where the numbers are small |
//! | `uniqueItems` | all but beside `contains`, within itself, and of objects with few members without names |
//! | `unevaluatedProperties`, `unevaluatedItems` | all but beside `contains` |
//! | `minLength`, `maxLength`, `pattern` | all together; see [`super::pattern`] |
//! | `format` | those that [`pattern::of_format`] has, and `int32`, `uint32`; others are remarks, as the standard allows |
//! | `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum` | without exponents |
//! | `multipleOf` | a whole number up to 1000, or that with a decimal point somewhere |
//! | `allOf`, `anyOf`, `oneOf`, `not`, `if`, `then`, `else` | where their ways to be satisfied are few |
//! | `$ref`, `$anchor`, `$id` | within the schema, recursive ones too |
//! | `$dynamicRef`, `$dynamicAnchor` | where the whole has the anchor, or only one schema within it |
//! | titles, descriptions, defaults, examples and unknown words | change nothing |
//! | all other keywords of the standard, and what these say that is not held to | refused |
//!
//! Where there is no `type`, the other keywords say which types are meant: with `properties` an object is written, although the standard
//! would let numbers pass too. Whole numbers are within ±(2⁵³ − 1), other numbers have at most 16 digits on either side of the point; white
//! space is what a printer would write: none, a blank behind `:` and `,`, or each part on a line of its own, indented by two blanks a level.
//!
//! ```text
//! schemas at one place ─▶ ways to satisfy them: lists of facts ─▶ what the facts of a way say together ─▶ automata
//!            choose                                        merge                                  write
//! ```
//!
//! A fact is a schema of which all that is said flatly holds, or one keyword of a schema that does not hold. Schemas that hold at one place
//! together (by `allOf`, `$ref`, or as alternatives chosen) make one rule, known by their addresses; that is what lets recursive schemas end.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use self::refer::References;
use super::automaton::{Automata, Builder, Mark, Others, Rule};
use super::json::{Json, spelled};
use super::matcher::Matcher;
use super::pattern::{self, CharDfa, Text};
use super::unique::Order;
use crate::error::{Error, Result, shown};

mod apart;
mod check;
mod choose;
mod list;
mod merge;
mod object;
mod refer;
mod write;

/// The largest schema.
const MAX_SCHEMA_BYTES: usize = 256 << 10;
/// Members of an object that have names.
const MAX_PROPERTIES: usize = 1000;
/// Ways to satisfy the schemas of one place, and facts in all ways of all places.
const MAX_WAYS: usize = 1000;
const MAX_FACTS: usize = 100_000;
/// `$ref`, `allOf` and the like within each other with nothing between them.
const MAX_CHAIN: usize = 64;
/// Pairs of values that are compared.
const MAX_COMPARED: usize = 1_000_000;
/// The most items or characters that may be demanded.
const MAX_MINIMUM: u32 = 100_000;
/// States that are looked at to see whether lists can be held to `uniqueItems`, and what finding a list's values counts as.
const MAX_LOOKED_AT: usize = 2_000_000;
const COST_OF_VALUES: usize = 5000;
/// States that count the members of one object or the items of one list.
const MAX_COUNTED: usize = 20_000;

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

/// How a schema is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Sense {
    /// It holds.
    Holds,
    /// It holds as a condition: what it names is not what is meant to be written.
    Condition,
    /// The same within what does not hold: what it names does not count as evaluated.
    Hidden,
    /// It does not hold.
    Fails,
}

impl Sense {
    /// The fact that a schema holds in this sense.
    fn holding(self) -> What {
        match self {
            Self::Holds => What::Holds,
            Self::Condition => What::Condition,
            Self::Hidden | Self::Fails => What::Hidden,
        }
    }
}

/// A schema, where it is, and how it is asked for.
#[derive(Debug, Clone)]
struct At<'a> {
    schema: &'a Json,
    path: Rc<str>,
    sense: Sense,
}

/// By what schemas are told apart: where they are in memory.
fn address(schema: &Json) -> usize {
    std::ptr::from_ref(schema) as usize
}

impl<'a> At<'a> {
    fn new(schema: &'a Json, path: &str) -> Self {
        Self { schema, path: path.into(), sense: Sense::Holds }
    }

    /// Anything at all.
    fn anything() -> Self {
        Self::new(&ANYTHING, "#")
    }

    /// A schema within it.
    fn below(&self, schema: &'a Json, words: &[&str]) -> Self {
        Self { schema, path: below(&self.path, words).into(), sense: self.sense }
    }

    fn with(&self, sense: Sense) -> Self {
        Self { sense, ..self.clone() }
    }

    /// The same asked for as a condition, unless it is asked not to hold.
    fn as_condition(&self) -> Self {
        self.with(match self.sense {
            Sense::Holds => Sense::Condition,
            sense => sense,
        })
    }

    fn key(&self) -> (usize, Sense) {
        (address(self.schema), self.sense)
    }
}

/// The JSON pointer of what is within a place.
fn below(path: &str, words: &[&str]) -> String {
    let mut path = path.to_owned();
    for word in words {
        path.push('/');
        path.push_str(&word.replace('~', "~0").replace('/', "~1"));
    }
    path
}

/// What is said of a value with no choice left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum What {
    /// All keywords of the schema that leave no choice hold.
    Holds,
    /// The same, as a condition.
    Condition,
    /// The same, within what does not hold.
    Hidden,
    /// The keyword of this number does not hold.
    Fails(usize),
    /// Of the keyword of this number, the property or item of the other number is there and does not satisfy its schema.
    FailsAt(usize, usize),
    /// It is an object that has the member of the name.
    Has,
    /// It is an object that lacks it.
    Lacks,
    /// If it is an object, it lacks it.
    LacksIfObject,
    /// It is of these types.
    Only(Types),
    /// What no schema of this list of schemas names is as the schema says of what is unevaluated.
    Unevaluated(usize),
}

/// One thing that is said of a value.
#[derive(Debug, Clone)]
struct Fact<'a> {
    schema: &'a Json,
    /// The member that is meant.
    name: &'a str,
    path: Rc<str>,
    what: What,
}

impl Fact<'_> {
    fn key(&self) -> (usize, What) {
        match self.what {
            What::Has | What::Lacks | What::LacksIfObject => (self.name.as_ptr() as usize, self.what),
            _ => (address(self.schema), self.what),
        }
    }
}

/// A way to satisfy schemas: what must be so, and the types that leaves.
#[derive(Debug, Clone)]
struct Way<'a> {
    facts: Vec<Fact<'a>>,
    types: Types,
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
    let (automata, needs_strict) = built(schema, false)?;
    let automata = if needs_strict { built(schema, true)?.0 } else { automata };
    automata.ok_or_else(|| {
        Error::invalid_request(
            "response_format: nothing satisfies the schema, or only what is more than 64 objects and lists deep. Look for bounds, types or \
             required members that contradict each other.",
        )
    })
}

/// The automata of a schema, `None` where nothing satisfies it; and whether they must be built so that each value has one spelling.
fn built(schema: &Json, is_strict: bool) -> Result<(Option<Automata>, bool)> {
    let order = if is_strict { names_in_order(schema) } else { Order::new() };
    let mut compiler = Compiler::new(schema, Builder::strict(is_strict, order));
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
            Job::Merged(facts) => compiler.build_merged(rule, &facts)?,
        }
    }
    if compiler.needs_strict {
        return Ok((None, true));
    }
    let automata = compiler.builder.finish(root)?;
    if let Some(automata) = automata {
        let automata = Rc::new(automata);
        check_places(&automata)?;
        return Ok((Rc::into_inner(automata), false));
    }
    Ok((None, false))
}

/// The texts that satisfy a schema, where nothing but texts does, less those that have `never` in them; `None` for other schemas, and where
/// there are none.
///
/// # Errors
/// As [`super::Grammar::new`].
pub(super) fn texts(schema: &Json, never: &str) -> Result<Option<CharDfa>> {
    let mut compiler = Compiler::new(schema, Builder::default());
    let at = At::new(schema, "#");
    for way in compiler.ways(std::slice::from_ref(&at))? {
        let merged = compiler.merge(&way.facts)?;
        let listed = merged.values.as_ref().map_or(ALL, |values| values.iter().fold(0, |types, value| types | type_of(value)));
        if merged.written() & listed & !STRING != 0 {
            return Ok(None);
        }
    }
    let not = Text::Not(Box::new(Text::Pattern(never.into(), "#".into())));
    let dfa = pattern::texts(&[compiler.text_of(&at)?, not], &[], (0, None), &|_| true, &mut compiler.pattern_work);
    write::dfa_or_none(dfa, "#")
}

/// All names of a schema, of what it describes and its own, in the order they are met.
fn names_in_order(schema: &Json) -> Order {
    fn note(json: &Json, order: &mut Order) {
        match json {
            Json::Array(items) => items.iter().for_each(|item| note(item, order)),
            Json::Object(members) => members.iter().for_each(|(name, value)| {
                let n = order.len() as u32;
                order.entry(spelled(name)).or_insert(n);
                note(value, order);
            }),
            Json::String(name) => {
                let n = order.len() as u32;
                order.entry(spelled(name)).or_insert(n);
            }
            _ => {}
        }
    }
    let mut order = Order::new();
    note(schema, &mut order);
    order
}

/// Whether lists whose items differ can be held to that, and finished whatever their items are.
///
/// # Errors
/// `invalid_request` where not.
fn check_places(automata: &Rc<Automata>) -> Result<()> {
    let mut seen = HashSet::new();
    let mut work = 0;
    for place in &automata.places {
        if !seen.insert((place.item, place.n_values)) {
            continue;
        }
        let is_hard = |rule: Rule| automata.rules[rule.0 as usize].others == Others::Few;
        let reached = automata.reached(place.item);
        work += reached.len() + if place.n_values > 1 { COST_OF_VALUES } else { 0 };
        if work > MAX_LOOKED_AT {
            return Err(refused(&place.path, "there are too many lists with 'uniqueItems', or their items are too large"));
        }
        for state in reached {
            let ways = automata.at(state);
            if matches!(ways.mark, Some((Mark::Item, _))) {
                return Err(refused(&place.path, "'uniqueItems' of lists that have 'uniqueItems' within them is not supported"));
            }
            if ways.calls.iter().any(|&(rule, _)| is_hard(rule)) {
                let what = "'uniqueItems' of objects that may have only few or so many members without names of their own is not supported";
                return Err(refused(&place.path, what));
            }
        }
        if place.n_values > 1 && !Matcher::has_values(automata, place.state, place.n_values as usize) {
            let what = format!("'uniqueItems' needs {} different values here, and fewer were found", place.n_values);
            return Err(refused(&place.path, &what));
        }
    }
    Ok(())
}

/// What is still to be built.
enum Job<'a> {
    /// What satisfies all of these.
    Value(Vec<At<'a>>),
    /// What these facts hold of.
    Merged(Vec<Fact<'a>>),
}

/// Texts by what is said of them, and by their least and most characters.
type TextKey = (Vec<Text>, u32, Option<u32>);

struct Compiler<'a> {
    references: References<'a>,
    builder: Builder,
    values: HashMap<Vec<(usize, Sense)>, Rule>,
    merged: HashMap<Vec<(usize, What)>, Rule>,
    texts: HashMap<TextKey, Option<Rule>>,
    /// What is said of texts, as it is asked about one; `None` where it holds of no text.
    patterns: HashMap<Text, Option<Rc<CharDfa>>>,
    /// Lists of schemas whose names are evaluated.
    scopes: Vec<Vec<&'a Json>>,
    waiting: Vec<(Rule, Job<'a>)>,
    /// Whether it matters which schemas have evaluated a member or an item.
    has_unevaluated: bool,
    n_facts: usize,
    n_checked: usize,
    pattern_work: usize,
    /// Whether each value must have one spelling only, and may have more as it is built.
    needs_strict: bool,
}

impl<'a> Compiler<'a> {
    fn new(schema: &'a Json, builder: Builder) -> Self {
        Self {
            references: References::new(schema),
            builder,
            values: HashMap::new(),
            merged: HashMap::new(),
            texts: HashMap::new(),
            patterns: HashMap::new(),
            scopes: Vec::new(),
            waiting: Vec::new(),
            has_unevaluated: schema.has_key("unevaluatedProperties") || schema.has_key("unevaluatedItems"),
            n_facts: 0,
            n_checked: 0,
            pattern_work: 0,
            needs_strict: false,
        }
    }

    /// The rule of what satisfies all these schemas.
    fn value(&mut self, mut all: Vec<At<'a>>) -> Result<Rule> {
        // They stay in their order, which is that of the members of objects.
        let mut seen = HashSet::new();
        all.retain(|at| !(at.sense != Sense::Fails && matches!(at.schema, Json::Bool(true))) && seen.insert(at.key()));
        let mut key: Vec<_> = all.iter().map(At::key).collect();
        key.sort_unstable();
        if let Some(&rule) = self.values.get(&key) {
            return Ok(rule);
        }
        let start = self.builder.state()?;
        let rule = self.builder.rule(start);
        self.values.insert(key, rule);
        self.waiting.push((rule, Job::Value(all)));
        Ok(rule)
    }

    /// The rule of what some facts hold of.
    fn facts(&mut self, mut facts: Vec<Fact<'a>>) -> Result<Rule> {
        let mut seen = HashSet::new();
        facts.retain(|fact| seen.insert(fact.key()));
        let mut key: Vec<_> = facts.iter().map(Fact::key).collect();
        key.sort_unstable();
        if let Some(&rule) = self.merged.get(&key) {
            return Ok(rule);
        }
        let start = self.builder.state()?;
        let rule = self.builder.rule(start);
        self.merged.insert(key, rule);
        self.waiting.push((rule, Job::Merged(facts)));
        Ok(rule)
    }

    fn build_value(&mut self, rule: Rule, all: &[At<'a>]) -> Result<()> {
        let ways = self.ways(all)?;
        let start = self.builder.start(rule);
        let end = self.builder.end()?;
        let mut seen = HashSet::new();
        for way in ways {
            let merged = self.facts(way.facts)?;
            if seen.insert(merged) {
                self.builder.at(start).calls.push((merged, end));
            }
        }
        Ok(())
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

/// The types that a schema's `type` names, and `nullable` beside it; `None` where `value` is none.
fn types_named(schema: &Json, value: &Json) -> Option<Types> {
    let types = match value {
        Json::String(one) => type_named(one),
        Json::Array(many) => many.iter().try_fold(0, |all, one| match one {
            Json::String(one) => type_named(one).map(|one| all | one),
            _ => None,
        }),
        _ => None,
    };
    // OpenAPI's.
    let or_null = if matches!(schema.get("nullable"), Some(Json::Bool(true))) { NULL } else { 0 };
    types.map(|types| types | or_null)
}

fn type_of(value: &Json) -> Types {
    match value {
        Json::Null => NULL,
        Json::Bool(_) => BOOLEAN,
        Json::String(_) => STRING,
        Json::Number(n) if super::decimal::float(n).fract() == 0.0 => INTEGER,
        Json::Number(_) => FRACTION,
        Json::Object(_) => OBJECT,
        Json::Array(_) => ARRAY,
    }
}
