//! What facts say together.

use std::rc::Rc;

use super::{
    ALL, ANYTHING, ARRAY, At, Compiler, Fact, INTEGER, MAX_COMPARED, NUMBER, OBJECT, STRING, Sense, Types, What, below, refused,
    types_named,
};
use crate::error::{Error, Result};
use crate::runtime::grammar::decimal::{Bound, Factor, Range, float};
use crate::runtime::grammar::json::Json;
use crate::runtime::grammar::pattern::{self, Text};

/// A schema's say on objects.
#[derive(Debug, Clone)]
pub(super) struct Members<'a> {
    /// Where `properties` is looked up.
    pub(super) at: At<'a>,
    pub(super) properties: &'a [(String, Json)],
    /// Patterns of names with the schemas of their members.
    pub(super) patterns: Vec<(Text, At<'a>)>,
    /// Names that are said elsewhere.
    pub(super) evaluated: Vec<&'a str>,
    /// The schema of all other members.
    pub(super) additional: Option<At<'a>>,
    /// Whether it says which members are meant.
    pub(super) declares: bool,
}

impl Members<'_> {
    /// Whether it has a say of its own on a name.
    pub(super) fn names(&self, name: &str) -> bool {
        self.properties.iter().any(|(n, _)| n == name) || self.evaluated.contains(&name)
    }
}

/// A member that must be there, by what holds of its name.
#[derive(Debug, Clone)]
pub(super) struct Exists<'a> {
    pub(super) name: Text,
    pub(super) value: At<'a>,
    pub(super) path: Rc<str>,
}

/// A schema's say on lists.
#[derive(Debug, Clone)]
pub(super) struct Items<'a> {
    pub(super) prefix: Vec<At<'a>>,
    pub(super) rest: At<'a>,
}

/// How many items must and may satisfy a schema.
#[derive(Debug, Clone)]
pub(super) struct Contains<'a> {
    pub(super) item: At<'a>,
    /// The first place that counts.
    pub(super) from: usize,
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) path: Rc<str>,
}

/// What facts say together.
#[derive(Debug, Clone)]
pub(super) struct Merged<'a> {
    pub(super) path: Rc<str>,
    /// What the types may be.
    pub(super) types: Types,
    /// Whether that is said.
    pub(super) has_types: bool,
    /// What other keywords are about.
    pub(super) implied: Types,
    /// Those that are all, where they are listed.
    pub(super) values: Option<Vec<&'a Json>>,
    /// Values that it is not.
    pub(super) excluded: Vec<&'a Json>,
    /// Where the last of these stand.
    pub(super) excluded_at: Rc<str>,
    pub(super) range: Range,
    pub(super) min_length: u32,
    pub(super) max_length: Option<u32>,
    /// What else is said of texts.
    pub(super) texts: Vec<Text>,
    pub(super) members: Vec<Members<'a>>,
    pub(super) required: Vec<&'a str>,
    /// Names that there must not be.
    pub(super) lacking: Vec<&'a str>,
    /// Schemas of members beside those of `members`.
    pub(super) forced: Vec<(&'a str, At<'a>)>,
    /// Schemas of names.
    pub(super) names: Vec<At<'a>>,
    pub(super) exists: Vec<Exists<'a>>,
    pub(super) min_properties: u32,
    pub(super) max_properties: u32,
    pub(super) items: Vec<Items<'a>>,
    /// Schemas of items beside those of `items`.
    pub(super) places: Vec<(usize, At<'a>)>,
    pub(super) contains: Vec<Contains<'a>>,
    pub(super) min_items: u32,
    pub(super) max_items: u32,
    /// Where it is said that items differ.
    pub(super) is_unique: Option<Rc<str>>,
    /// Keywords that are not supported, and the types that they are about.
    pub(super) refused: Vec<(Types, Error)>,
}

impl Merged<'_> {
    fn new(path: Rc<str>) -> Self {
        Self {
            path,
            types: ALL,
            has_types: false,
            implied: 0,
            values: None,
            excluded: Vec::new(),
            excluded_at: "#".into(),
            range: Range::default(),
            min_length: 0,
            max_length: None,
            texts: Vec::new(),
            members: Vec::new(),
            required: Vec::new(),
            lacking: Vec::new(),
            forced: Vec::new(),
            names: Vec::new(),
            exists: Vec::new(),
            min_properties: 0,
            max_properties: u32::MAX,
            items: Vec::new(),
            places: Vec::new(),
            contains: Vec::new(),
            min_items: 0,
            max_items: u32::MAX,
            is_unique: None,
            refused: Vec::new(),
        }
    }

    /// The types that are written.
    pub(super) fn written(&self) -> Types {
        if self.has_types || self.implied == 0 || self.values.is_some() { self.types } else { self.types & self.implied }
    }

    /// Whether it is said which members are meant.
    pub(super) fn declares_members(&self) -> bool {
        self.members.iter().any(|part| part.declares)
    }

    fn only(&mut self, types: Types) {
        self.types &= types;
        self.has_types = true;
    }
}

/// A count as schemas write it.
fn count(value: &Json, path: &str) -> Result<u32> {
    match value {
        Json::Number(n) if float(n) >= 0.0 && float(n).fract() == 0.0 => Ok(float(n).min(f64::from(u32::MAX)) as u32),
        _ => Err(refused(path, "a count must be a whole number of at least 0")),
    }
}

/// The whole numbers of a `format` of OpenAPI.
fn bounds_of_format(format: &str) -> Option<(i64, i64)> {
    Some(match format {
        "int8" => (i8::MIN.into(), i8::MAX.into()),
        "uint8" => (0, u8::MAX.into()),
        "int16" => (i16::MIN.into(), i16::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        _ => return None,
    })
}

impl<'a> Compiler<'a> {
    /// What a schema says flatly.
    pub(super) fn merge_schema(&mut self, at: &At<'a>) -> Result<Merged<'a>> {
        let what = at.sense.holding();
        self.merge(&[Fact { schema: at.schema, name: "", path: at.path.clone(), what }])
    }

    /// What facts say together.
    pub(super) fn merge(&mut self, facts: &[Fact<'a>]) -> Result<Merged<'a>> {
        let mut out = Merged::new(facts.first().map_or_else(|| "#".into(), |fact| fact.path.clone()));
        for fact in facts {
            let sense = if fact.what == What::Holds { Sense::Holds } else { Sense::Hidden };
            let at = At { schema: fact.schema, path: fact.path.clone(), sense };
            match (fact.what, fact.schema) {
                (What::Holds | What::Condition | What::Hidden, Json::Object(keywords)) => merge_holding(&mut out, &at, keywords)?,
                (What::Holds | What::Condition | What::Hidden, _) => {
                    out.types &= if matches!(fact.schema, Json::Bool(false)) { 0 } else { ALL }
                }
                (What::Has, _) => {
                    out.only(OBJECT);
                    out.required.push(fact.name);
                }
                (What::Lacks, _) => {
                    out.only(OBJECT);
                    out.lacking.push(fact.name);
                }
                (What::LacksIfObject, _) => out.lacking.push(fact.name),
                (What::Only(types), _) => out.only(types),
                (What::Fails(number), Json::Object(keywords)) => match keywords.get(number) {
                    Some((name, value)) if name == "propertyNames" => {
                        out.only(OBJECT);
                        let names = at.below(value, &[name]);
                        if value.has_key("format") {
                            // To the standard it is a remark: a name that is not of it is no fault.
                            let what = "'propertyNames' that must not hold, with a 'format', is not supported";
                            out.refused.push((OBJECT, refused(&names.path, what)));
                        }
                        let name = Text::Not(Box::new(self.text_of(&names)?));
                        out.exists.push(Exists { name, value: At::anything(), path: names.path });
                    }
                    Some((name, value)) => merge_failing(&mut out, &at, name, value)?,
                    None => {}
                },
                (What::FailsAt(number, i), Json::Object(keywords)) => {
                    if let Some((name, value)) = keywords.get(number) {
                        merge_failing_at(&mut out, &at, name, value, i);
                    }
                }
                (What::Unevaluated(scope), _) => self.merge_unevaluated(&mut out, &at, scope),
                _ => {}
            }
        }
        let mut seen = std::collections::HashSet::new();
        out.required.retain(|name| seen.insert(*name));
        Ok(out)
    }

    /// What no schema of a scope names.
    fn merge_unevaluated(&self, out: &mut Merged<'a>, at: &At<'a>, scope: usize) {
        let scope = self.scopes.get(scope).map_or(&[][..], Vec::as_slice);
        let said = |name: &str| at.schema.get(name).filter(|value| !matches!(value, Json::Bool(true)));
        let others = |names: &[&str]| {
            scope.iter().any(|&schema| {
                names.iter().any(|name| {
                    schema.get(name).is_some() && !(std::ptr::eq(schema, at.schema) && name.starts_with("unevaluated"))
                })
            })
        };
        if let Some(schema) = said("unevaluatedProperties")
            && !others(&["additionalProperties"])
        {
            // Within it all are evaluated: any others may be there.
            let schema = if others(&["unevaluatedProperties"]) { &ANYTHING } else { schema };
            let mut members = Members {
                at: at.clone(),
                properties: &[],
                patterns: Vec::new(),
                evaluated: Vec::new(),
                additional: Some(at.below(schema, &["unevaluatedProperties"])),
                declares: false,
            };
            for schema in scope {
                if let Some(Json::Object(properties)) = schema.get("properties") {
                    members.evaluated.extend(properties.iter().map(|(name, _)| name.as_str()));
                }
                if let Some(Json::Object(patterns)) = schema.get("patternProperties") {
                    let path: Rc<str> = below(&at.path, &["unevaluatedProperties"]).into();
                    let pattern = |pattern: &'a String| (Text::Pattern(pattern.as_str().into(), path.clone()), At::anything());
                    members.patterns.extend(patterns.iter().map(|(text, _)| pattern(text)));
                }
            }
            out.implied |= if at.sense == Sense::Holds { OBJECT } else { 0 };
            out.members.push(members);
        }
        if let Some(schema) = said("unevaluatedItems") {
            if others(&["contains"]) {
                let path = below(&at.path, &["unevaluatedItems"]);
                out.refused.push((ARRAY, refused(&path, "'unevaluatedItems' beside 'contains' is not supported")));
            }
            let is_all = |schema: &&'a Json| {
                matches!(schema.get("items"), Some(items) if !matches!(items, Json::Array(_)))
                    || schema.get("additionalItems").is_some()
            };
            if !others(&["unevaluatedItems"]) && !scope.iter().any(is_all) {
                let n = |schema: &&'a Json| match schema.get("prefixItems").or_else(|| schema.get("items")) {
                    Some(Json::Array(items)) => items.len(),
                    _ => 0,
                };
                let n = scope.iter().map(n).max().unwrap_or(0);
                out.items.push(Items { prefix: vec![At::anything(); n], rest: at.below(schema, &["unevaluatedItems"]) });
            }
        }
    }
}

fn unsupported(path: &str, name: &str) -> Error {
    refused(path, &format!("'{name}' is not supported"))
}

/// What the keywords of a schema say flatly.
fn merge_holding<'a>(out: &mut Merged<'a>, at: &At<'a>, keywords: &'a [(String, Json)]) -> Result<()> {
    let mut members = Members {
        at: at.clone(),
        properties: &[],
        patterns: Vec::new(),
        evaluated: Vec::new(),
        additional: None,
        declares: false,
    };
    let mut prefix = Vec::new();
    let mut rest = None;
    let mut implied = 0;
    let is_meant = at.sense == Sense::Holds;
    for (name, value) in keywords {
        let path = below(&at.path, &[name]);
        let refuse = |what: &str| Err(refused(&path, what));
        let number = || match value {
            Json::Number(n) => Ok(n.clone()),
            _ => Err(refused(&path, &format!("'{name}' must be a number"))),
        };
        match name.as_str() {
            "type" => {
                let Some(types) = types_named(at.schema, value) else {
                    return refuse("'type' must be the name of a JSON type, or a list of such");
                };
                out.only(types);
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
                implied |= NUMBER;
                out.range.add_low(Bound { value: number()?, is_exclusive: name != "minimum" });
            }
            "maximum" | "exclusiveMaximum" => {
                implied |= NUMBER;
                out.range.add_high(Bound { value: number()?, is_exclusive: name != "maximum" });
            }
            "multipleOf" => {
                implied |= NUMBER;
                let number = number()?;
                if float(&number) <= 0.0 {
                    return refuse("'multipleOf' must be more than 0");
                }
                if !Factor::new(&number).is_some_and(|factor| out.range.add_factor(factor)) {
                    let what = format!(
                        "'multipleOf' can be a whole number from 1 to 1000 with a decimal point anywhere, alone and with others here, not {number}"
                    );
                    out.refused.push((NUMBER, refused(&path, &what)));
                }
            }
            "minLength" | "maxLength" | "pattern" | "format" => match (name.as_str(), value) {
                ("minLength", value) => {
                    implied |= STRING;
                    out.min_length = out.min_length.max(count(value, &path)?);
                }
                ("maxLength", value) => {
                    implied |= STRING;
                    out.max_length = Some(out.max_length.unwrap_or(u32::MAX).min(count(value, &path)?));
                }
                ("pattern", Json::String(pattern)) => {
                    implied |= STRING;
                    out.texts.push(Text::Pattern(pattern.as_str().into(), path.into()));
                }
                ("format", Json::String(format)) => {
                    if let Some((low, high)) = bounds_of_format(format) {
                        implied |= INTEGER;
                        out.range.add_low(Bound { value: low.into(), is_exclusive: false });
                        out.range.add_high(Bound { value: high.into(), is_exclusive: false });
                    } else if !matches!(format.as_str(), "int64" | "uint64" | "float" | "double" | "decimal") {
                        implied |= STRING;
                        // Generators put a pattern of their own beside it, which the automaton of ours would only make larger.
                        let is_doubled = format.ends_with("hostname") && at.schema.get("pattern").is_some();
                        out.texts.extend(
                            pattern::of_format(format)
                                .filter(|_| !is_doubled)
                                .map(|pattern| Text::Pattern(pattern.into(), path.into())),
                        );
                    }
                }
                _ => return refuse(&format!("'{name}' must be a text")),
            },
            "properties" => {
                let Json::Object(properties) = value else { return refuse("'properties' must be an object") };
                implied |= OBJECT;
                members.properties = properties;
                members.declares |= is_meant;
            }
            "patternProperties" => {
                let Json::Object(patterns) = value else { return refuse("'patternProperties' must be an object") };
                implied |= OBJECT;
                members.declares |= is_meant && !patterns.is_empty();
                for (pattern, schema) in patterns {
                    let schema = at.below(schema, &[name, pattern]);
                    members.patterns.push((Text::Pattern(pattern.as_str().into(), schema.path.clone()), schema));
                }
            }
            "required" => {
                let Json::Array(names) = value else { return refuse("'required' must be a list") };
                implied |= OBJECT;
                for name in names {
                    let Json::String(name) = name else { return refuse("'required' must be a list of texts") };
                    out.required.push(name);
                }
            }
            "additionalProperties" => {
                implied |= OBJECT;
                members.additional = Some(at.below(value, &[name]));
            }
            "propertyNames" => {
                implied |= OBJECT;
                out.names.push(at.below(value, &[name]).as_condition());
            }
            // Nothing is said, but that there may be others.
            "unevaluatedProperties" if matches!(value, Json::Bool(true)) && members.additional.is_none() => {
                members.additional = Some(At::anything());
            }
            "dependentRequired" | "dependentSchemas" | "dependencies" => implied |= OBJECT,
            "minProperties" => {
                implied |= OBJECT;
                out.min_properties = out.min_properties.max(count(value, &path)?);
            }
            "maxProperties" => {
                implied |= OBJECT;
                out.max_properties = out.max_properties.min(count(value, &path)?);
            }
            "items" | "prefixItems" => {
                implied |= ARRAY;
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
            "additionalItems" if matches!(at.schema.get("items"), Some(Json::Array(_))) => rest = Some(at.below(value, &[name])),
            "minItems" => {
                implied |= ARRAY;
                out.min_items = out.min_items.max(count(value, &path)?);
            }
            "maxItems" => {
                implied |= ARRAY;
                out.max_items = out.max_items.min(count(value, &path)?);
            }
            "contains" => {
                implied |= ARRAY;
                let limit = |name: &str| at.schema.get(name).map(|value| count(value, &below(&at.path, &[name]))).transpose();
                let (min, max) = (limit("minContains")?.unwrap_or(1), limit("maxContains")?.unwrap_or(u32::MAX));
                out.contains.push(Contains {
                    item: at.below(value, &[name]).as_condition(),
                    from: 0,
                    min,
                    max,
                    path: path.into(),
                });
            }
            "uniqueItems" if matches!(value, Json::Bool(true)) => {
                implied |= ARRAY;
                out.is_unique = Some(path.into());
            }
            "$recursiveRef" => out.refused.push((ALL, unsupported(&path, name))),
            _ => {}
        }
    }
    if is_meant {
        out.implied |= implied;
    }
    if !members.properties.is_empty() || members.declares || members.additional.is_some() || !members.patterns.is_empty() {
        out.members.push(members);
    }
    if rest.is_some() || !prefix.is_empty() {
        out.items.push(Items { prefix, rest: rest.unwrap_or_else(At::anything) });
    }
    Ok(())
}

/// That a keyword does not hold.
fn merge_failing<'a>(out: &mut Merged<'a>, at: &At<'a>, name: &'a str, value: &'a Json) -> Result<()> {
    let path = below(&at.path, &[name]);
    let number = || match value {
        Json::Number(n) => Ok(n.clone()),
        _ => Err(refused(&path, &format!("'{name}' must be a number"))),
    };
    let fails = || at.below(value, &[name]).with(Sense::Fails);
    // One less than a least, which nothing is below 0.
    let under = |least: u32| least.checked_sub(1);
    match name {
        "type" => out.types &= !types_named(at.schema, value).unwrap_or(0),
        "const" => {
            out.excluded.push(value);
            out.excluded_at = path.into();
        }
        "enum" => match value {
            Json::Array(values) => {
                out.excluded.extend(values);
                out.excluded_at = path.into();
            }
            _ => return Err(refused(&path, "'enum' must be a list")),
        },
        "minimum" | "exclusiveMinimum" => {
            out.only(NUMBER);
            out.range.add_high(Bound { value: number()?, is_exclusive: name == "minimum" });
        }
        "maximum" | "exclusiveMaximum" => {
            out.only(NUMBER);
            out.range.add_low(Bound { value: number()?, is_exclusive: name == "maximum" });
        }
        "minLength" => {
            out.only(STRING);
            match under(count(value, &path)?) {
                Some(max) => out.max_length = Some(out.max_length.unwrap_or(u32::MAX).min(max)),
                None => out.types = 0,
            }
        }
        "maxLength" => {
            out.only(STRING);
            out.min_length = out.min_length.max(count(value, &path)?.saturating_add(1));
        }
        "pattern" => {
            out.only(STRING);
            let Json::String(pattern) = value else { return Err(refused(&path, "'pattern' must be a text")) };
            out.texts.push(Text::Not(Box::new(Text::Pattern(pattern.as_str().into(), path.into()))));
        }
        "additionalProperties" => {
            out.only(OBJECT);
            let mut others = Vec::new();
            if let Some(Json::Object(properties)) = at.schema.get("properties") {
                others.push(Text::Not(Box::new(Text::OneOf(properties.iter().map(|(name, _)| name.as_str().into()).collect()))));
            }
            if let Some(Json::Object(patterns)) = at.schema.get("patternProperties") {
                let path: Rc<str> = below(&at.path, &["patternProperties"]).into();
                let not = |pattern: &str| Text::Not(Box::new(Text::Pattern(pattern.into(), path.clone())));
                others.extend(patterns.iter().map(|(pattern, _)| not(pattern)));
            }
            let value = fails();
            out.exists.push(Exists { name: Text::All(others), value, path: path.into() });
        }
        "minProperties" => {
            out.only(OBJECT);
            match under(count(value, &path)?) {
                Some(max) => out.max_properties = out.max_properties.min(max),
                None => out.types = 0,
            }
        }
        "maxProperties" => {
            out.only(OBJECT);
            out.min_properties = out.min_properties.max(count(value, &path)?.saturating_add(1));
        }
        "items" | "additionalItems" => {
            out.only(ARRAY);
            let from = match at.schema.get("prefixItems").or_else(|| at.schema.get("items")) {
                Some(Json::Array(items)) => items.len(),
                _ => 0,
            };
            let item = fails();
            out.contains.push(Contains { item, from, min: 1, max: u32::MAX, path: path.into() });
        }
        "minItems" => {
            out.only(ARRAY);
            match under(count(value, &path)?) {
                Some(max) => out.max_items = out.max_items.min(max),
                None => out.types = 0,
            }
        }
        "maxItems" => {
            out.only(ARRAY);
            out.min_items = out.min_items.max(count(value, &path)?.saturating_add(1));
        }
        "contains" if at.schema.get("minContains").is_none() && at.schema.get("maxContains").is_none() => {
            out.only(ARRAY);
            out.items.push(Items { prefix: Vec::new(), rest: fails() });
        }
        // Which types are left is known to those who choose.
        _ => {
            let about = match name {
                "multipleOf" => NUMBER,
                "contains" | "uniqueItems" => ARRAY,
                _ => ALL,
            };
            out.only(about);
            out.refused.push((about, refused(&path, &format!("'{name}' that must not hold is not supported"))));
        }
    }
    Ok(())
}

/// That a member or an item is there and does not satisfy its schema.
fn merge_failing_at<'a>(out: &mut Merged<'a>, at: &At<'a>, name: &'a str, value: &'a Json, i: usize) {
    match (name, value) {
        ("properties", Json::Object(properties)) => {
            if let Some((member, schema)) = properties.get(i) {
                out.only(OBJECT);
                out.required.push(member);
                out.forced.push((member, at.below(schema, &[name, member]).with(Sense::Fails)));
            }
        }
        ("patternProperties", Json::Object(patterns)) => {
            if let Some((pattern, schema)) = patterns.get(i) {
                out.only(OBJECT);
                let value = at.below(schema, &[name, pattern]).with(Sense::Fails);
                let path = value.path.clone();
                out.exists.push(Exists { name: Text::Pattern(pattern.as_str().into(), path.clone()), value, path });
            }
        }
        (_, Json::Array(items)) => {
            if let Some(item) = items.get(i) {
                out.only(ARRAY);
                out.min_items = out.min_items.max(i as u32 + 1);
                out.places.push((i, at.below(item, &[name, &i.to_string()]).with(Sense::Fails)));
            }
        }
        _ => {}
    }
}
