//! Whether a value that the schema itself lists satisfies what is said of it.

use std::rc::Rc;

use super::{At, Compiler, Fact, MAX_CHAIN, MAX_COMPARED, Sense, What, below, refused, type_of, types_named};
use crate::error::Result;
use crate::runtime::grammar::decimal::{Factor, float};
use crate::runtime::grammar::json::Json;
use crate::runtime::grammar::pattern::{self, Text};

/// The keywords that leave choices: facts are what is left when those are made. And those that the values are listed by.
const CHOICES: [&str; 12] = [
    "$ref",
    "$dynamicRef",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "enum",
    "const",
];

impl<'a> Compiler<'a> {
    /// Whether all facts hold of a value.
    pub(super) fn all_hold(&mut self, value: &Json, facts: &[Fact<'a>]) -> Result<bool> {
        for fact in facts {
            if !self.fact_holds(value, fact)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fact_holds(&mut self, value: &Json, fact: &Fact<'a>) -> Result<bool> {
        // Hidden: what does not hold there is not certain to be right.
        let is_holding = matches!(fact.what, What::Holds | What::Condition);
        let sense = if is_holding { Sense::Condition } else { Sense::Hidden };
        let at = At { schema: fact.schema, path: fact.path.clone(), sense };
        let is_object = matches!(value, Json::Object(_));
        let has = value.get(fact.name).is_some();
        Ok(match (fact.what, fact.schema) {
            (What::Holds | What::Condition | What::Hidden, Json::Object(keywords)) => {
                for (name, arg) in
                    keywords.iter().filter(|(name, _)| !CHOICES.contains(&name.as_str()) && !name.starts_with("unevaluated"))
                {
                    if !self.keyword_holds(value, &at, name, arg, 0)? {
                        return Ok(false);
                    }
                }
                true
            }
            (What::Holds | What::Condition | What::Hidden, schema) => !matches!(schema, Json::Bool(false)),
            (What::Fails(number), Json::Object(keywords)) => match keywords.get(number) {
                Some((name, arg)) => !self.keyword_holds(value, &at, name, arg, 0)?,
                None => true,
            },
            (What::FailsAt(number, i), Json::Object(keywords)) => match keywords.get(number) {
                Some((name, arg)) => self.fails_at(value, &at, name, arg, i)?,
                None => true,
            },
            (What::Has, _) => has,
            (What::Lacks, _) => is_object && !has,
            (What::LacksIfObject, _) => !has,
            (What::Only(types), _) => type_of(value) & types != 0,
            (What::Unevaluated(_), _) if !matches!(value, Json::Object(_) | Json::Array(_)) => true,
            (What::Unevaluated(_), _) => {
                let what = "a list of values that has objects or lists, beside what is unevaluated, is not supported";
                return Err(refused(&at.path, what));
            }
            _ => true,
        })
    }

    fn fails_at(&mut self, value: &Json, at: &At<'a>, name: &'a str, arg: &'a Json, i: usize) -> Result<bool> {
        match (name, arg, value) {
            ("properties", Json::Object(properties), _) => {
                match properties.get(i).and_then(|(n, schema)| Some((schema, value.get(n)?))) {
                    Some((schema, member)) => Ok(!self.satisfies(member, &at.below(schema, &[name]), 0)?),
                    None => Ok(false),
                }
            }
            ("patternProperties", Json::Object(patterns), Json::Object(members)) => {
                let Some((pattern, schema)) = patterns.get(i) else { return Ok(false) };
                let schema = at.below(schema, &[name, pattern]);
                for (member, value) in members {
                    if self.text_holds(&Text::Pattern(pattern.as_str().into(), schema.path.clone()), member)?
                        && !self.satisfies(value, &schema, 0)?
                    {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (_, Json::Array(schemas), Json::Array(items)) => match schemas.get(i).zip(items.get(i)) {
                Some((schema, item)) => Ok(!self.satisfies(item, &at.below(schema, &[name]), 0)?),
                None => Ok(false),
            },
            _ => Ok(false),
        }
    }

    /// Notes that so much is compared.
    fn check(&mut self, n: usize, at: &At<'a>) -> Result<()> {
        self.n_checked = self.n_checked.saturating_add(n);
        if self.n_checked >= MAX_COMPARED {
            return Err(refused(&at.path, "there are too many values in lists to check, or schemas within each other"));
        }
        Ok(())
    }

    /// Whether a value satisfies a schema, or does not where that is asked for.
    pub(super) fn satisfies(&mut self, value: &Json, at: &At<'a>, depth: usize) -> Result<bool> {
        self.check(if depth > MAX_CHAIN { MAX_COMPARED } else { 1 }, at)?;
        let holds = match at.schema {
            Json::Bool(holds) => *holds,
            Json::Object(keywords) => {
                let flat = at.with(if at.sense == Sense::Fails { Sense::Hidden } else { at.sense });
                let mut holds = true;
                for (name, arg) in keywords {
                    holds = holds && self.keyword_holds(value, &flat, name, arg, depth + 1)?;
                }
                holds
            }
            _ => return Err(refused(&at.path, "a schema must be an object, true or false")),
        };
        Ok(holds != (at.sense == Sense::Fails))
    }

    /// Whether something that is said of texts holds of one.
    pub(super) fn text_holds(&mut self, condition: &Text, text: &str) -> Result<bool> {
        let known = match self.patterns.get(condition) {
            Some(known) => known.clone(),
            None => {
                let dfa = pattern::texts(std::slice::from_ref(condition), &[], (0, None), &|_| true, &mut self.pattern_work);
                let dfa = super::write::dfa_or_none(dfa, "#")?.map(Rc::new);
                self.patterns.insert(condition.clone(), dfa.clone());
                dfa
            }
        };
        Ok(known.is_some_and(|dfa| dfa.matches(text)))
    }

    fn count_satisfying(&mut self, values: &[Json], at: &At<'a>, depth: usize) -> Result<u32> {
        let mut n = 0;
        for value in values {
            n += u32::from(self.satisfies(value, at, depth)?);
        }
        Ok(n)
    }

    fn keyword_holds(&mut self, value: &Json, at: &At<'a>, name: &'a str, arg: &'a Json, depth: usize) -> Result<bool> {
        let below_at = |schema: &'a Json| at.below(schema, &[name]);
        let limit = match arg {
            Json::Number(n) => float(n),
            _ => 0.0,
        };
        let other = |name: &str| match at.schema.get(name) {
            Some(Json::Number(n)) => Some(float(n)),
            _ => None,
        };
        Ok(match (name, value, arg) {
            ("$ref" | "$dynamicRef", ..) => {
                let target = self.references.resolve(at, name, arg)?;
                self.satisfies(value, &target, depth)?
            }
            ("allOf" | "anyOf" | "oneOf", _, Json::Array(parts)) => {
                let mut n = 0;
                for part in parts {
                    let part = below_at(part).with(if name == "oneOf" { Sense::Hidden } else { at.sense });
                    n += usize::from(self.satisfies(value, &part, depth)?);
                }
                match name {
                    "allOf" => n == parts.len(),
                    "anyOf" => n > 0,
                    _ => n == 1,
                }
            }
            ("not", ..) => self.satisfies(value, &below_at(arg).with(Sense::Fails), depth)?,
            ("if", ..) => {
                let branch = if self.satisfies(value, &below_at(arg).with(Sense::Hidden), depth)? { "then" } else { "else" };
                match at.schema.get(branch) {
                    Some(schema) => self.satisfies(value, &at.below(schema, &[branch]), depth)?,
                    None => true,
                }
            }
            ("dependentRequired" | "dependentSchemas" | "dependencies", Json::Object(_), Json::Object(all)) => {
                for (member, dependency) in all.iter().filter(|(member, _)| value.get(member).is_some()) {
                    let holds = match dependency {
                        Json::Array(names) => {
                            names.iter().all(|name| matches!(name, Json::String(name) if value.get(name).is_some()))
                        }
                        schema => self.satisfies(value, &at.below(schema, &[name, member]), depth)?,
                    };
                    if !holds {
                        return Ok(false);
                    }
                }
                true
            }
            ("type", ..) => types_named(at.schema, arg).is_some_and(|types| type_of(value) & types != 0),
            ("const", ..) => value.equals(arg),
            ("enum", _, Json::Array(values)) => {
                self.check(values.len(), at)?;
                values.iter().any(|v| v.equals(value))
            }
            ("minimum", Json::Number(n), _) => float(n) >= limit,
            ("maximum", Json::Number(n), _) => float(n) <= limit,
            ("exclusiveMinimum", Json::Number(n), _) => float(n) > limit,
            ("exclusiveMaximum", Json::Number(n), _) => float(n) < limit,
            ("multipleOf", Json::Number(n), Json::Number(of)) => match Factor::new(of) {
                Some(factor) => factor.contains(n),
                None => return Err(refused(&below(&at.path, &[name]), "'multipleOf' has too many digits")),
            },
            ("minLength", Json::String(text), _) => text.chars().count() as f64 >= limit,
            ("maxLength", Json::String(text), _) => text.chars().count() as f64 <= limit,
            ("pattern", Json::String(text), Json::String(pattern)) => {
                self.text_holds(&Text::Pattern(pattern.as_str().into(), below(&at.path, &[name]).into()), text)?
            }
            ("format", Json::String(text), Json::String(format)) => {
                let path = below(&at.path, &[name]);
                let holds = match pattern::of_format(format) {
                    Some(pattern) => self.text_holds(&Text::Pattern(pattern.into(), path.as_str().into()), text)?,
                    None => true,
                };
                // To the standard a format is a remark: that it does not hold must not make anything right.
                if !holds && at.sense == Sense::Hidden {
                    return Err(refused(
                        &path,
                        "'format' within not, if, oneOf or contains, where values are listed, is not supported",
                    ));
                }
                holds
            }
            ("minItems", Json::Array(items), _) => items.len() as f64 >= limit,
            ("maxItems", Json::Array(items), _) => items.len() as f64 <= limit,
            ("prefixItems" | "items", Json::Array(items), Json::Array(schemas)) => {
                for (item, schema) in items.iter().zip(schemas) {
                    if !self.satisfies(item, &below_at(schema), depth)? {
                        return Ok(false);
                    }
                }
                true
            }
            ("items" | "additionalItems", Json::Array(items), _) => {
                let prefix = if name == "items" { at.schema.get("prefixItems") } else { at.schema.get("items") };
                let n = match prefix {
                    Some(Json::Array(prefix)) => prefix.len(),
                    _ if name == "additionalItems" => return Ok(true),
                    _ => 0,
                };
                let rest = items.get(n..).unwrap_or(&[]);
                self.count_satisfying(rest, &below_at(arg), depth)? as usize == rest.len()
            }
            ("contains", Json::Array(items), _) => {
                let n = f64::from(self.count_satisfying(items, &below_at(arg).with(Sense::Hidden), depth)?);
                n >= other("minContains").unwrap_or(1.0) && n <= other("maxContains").unwrap_or(f64::MAX)
            }
            ("uniqueItems", Json::Array(items), Json::Bool(true)) => {
                self.check(items.len().saturating_mul(items.len()), at)?;
                !items.iter().enumerate().any(|(i, a)| items[i + 1..].iter().any(|b| a.equals(b)))
            }
            ("required", Json::Object(_), Json::Array(names)) => {
                names.iter().all(|name| matches!(name, Json::String(name) if value.get(name).is_some()))
            }
            ("minProperties", Json::Object(members), _) => members.len() as f64 >= limit,
            ("maxProperties", Json::Object(members), _) => members.len() as f64 <= limit,
            ("properties", Json::Object(_), Json::Object(properties)) => {
                for (member, schema) in properties {
                    if let Some(value) = value.get(member)
                        && !self.satisfies(value, &at.below(schema, &[name, member]), depth)?
                    {
                        return Ok(false);
                    }
                }
                true
            }
            ("patternProperties", Json::Object(_), Json::Object(patterns)) => {
                for i in 0..patterns.len() {
                    if self.fails_at(value, at, name, arg, i)? {
                        return Ok(false);
                    }
                }
                true
            }
            ("additionalProperties", Json::Object(members), _) => {
                for (member, value) in members {
                    let mut is_known = at.schema.get("properties").is_some_and(|properties| properties.get(member).is_some());
                    if let Some(Json::Object(patterns)) = at.schema.get("patternProperties") {
                        for (pattern, _) in patterns {
                            let path = below(&at.path, &["patternProperties", pattern]);
                            is_known =
                                is_known || self.text_holds(&Text::Pattern(pattern.as_str().into(), path.into()), member)?;
                        }
                    }
                    if !is_known && !self.satisfies(value, &below_at(arg), depth)? {
                        return Ok(false);
                    }
                }
                true
            }
            ("propertyNames", Json::Object(members), _) => {
                for (member, _) in members {
                    if !self.satisfies(&Json::String(member.clone()), &below_at(arg), depth)? {
                        return Ok(false);
                    }
                }
                true
            }
            ("unevaluatedProperties", Json::Object(_), _) | ("unevaluatedItems", Json::Array(_), _) | ("$recursiveRef", ..) => {
                return Err(refused(&below(&at.path, &[name]), &format!("'{name}' where values are listed is not supported")));
            }
            _ => true,
        })
    }
}
