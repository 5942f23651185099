//! A plain validator of JSON schemas that knows nothing of grammars.

use serde_json::{Map, Value};

/// Whether a value satisfies a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Valid,
    /// It does not.
    Invalid,
    /// The schema says something that this validator does not follow.
    Unknown,
}

use Verdict::{Invalid, Unknown, Valid};

fn if_holds(holds: bool) -> Verdict {
    if holds { Valid } else { Invalid }
}

/// One invalid is enough; else one unknown.
fn all(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let mut out = Valid;
    for verdict in verdicts {
        match verdict {
            Invalid => return Invalid,
            Unknown => out = Unknown,
            Valid => {}
        }
    }
    out
}

fn any(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    let mut out = Invalid;
    for verdict in verdicts {
        match verdict {
            Valid => return Valid,
            Unknown => out = Unknown,
            Invalid => {}
        }
    }
    out
}

/// Whether both are one value: 1 is 1.0, and the order of members does not count.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

fn is_type(value: &Value, name: &Value) -> Verdict {
    if_holds(match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.as_f64().is_some_and(|v| v.fract() == 0.0),
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        _ => return Unknown,
    })
}

/// Whether the value satisfies the schema, whose references are within it.
pub fn validate(value: &Value, schema: &Value) -> Verdict {
    let has_addresses = schema.to_string().contains("$id");
    Validator { root: schema, has_addresses }.check(value, schema, 0)
}

struct Validator<'a> {
    root: &'a Value,
    has_addresses: bool,
}

impl Validator<'_> {
    fn check(&self, value: &Value, schema: &Value, depth: usize) -> Verdict {
        let keywords = match schema {
            Value::Bool(holds) => return if_holds(*holds),
            Value::Object(keywords) => keywords,
            _ => return Unknown,
        };
        if depth > 100 {
            return Unknown;
        }
        all(keywords.iter().map(|(keyword, arg)| self.keyword(value, keywords, keyword, arg, depth + 1)))
    }

    fn keyword(&self, value: &Value, keywords: &Map<String, Value>, keyword: &str, arg: &Value, depth: usize) -> Verdict {
        let sub = |value: &Value, schema: &Value| self.check(value, schema, depth);
        let list = arg.as_array().map(Vec::as_slice);
        // As a float: exact for every number that a grammar writes, for those have at most 16 digits on either side of the point.
        let holds = |relation: fn(f64, f64) -> bool| match (value.as_f64(), arg.as_f64()) {
            (Some(v), Some(limit)) => if_holds(relation(v, limit)),
            _ => Unknown,
        };
        let count =
            |n: usize, relation: fn(f64, f64) -> bool| arg.as_f64().map_or(Unknown, |limit| if_holds(relation(n as f64, limit)));
        match (keyword, value) {
            // Addresses and anchors are not followed, nor what is evaluated elsewhere.
            ("$ref", _) if self.has_addresses => Unknown,
            ("unevaluatedProperties" | "unevaluatedItems" | "$dynamicRef", _) => Unknown,
            ("$ref", _) => match arg.as_str().and_then(|path| path.strip_prefix('#')).and_then(|path| self.root.pointer(path)) {
                Some(target) => sub(value, target),
                None => Unknown,
            },
            // OpenAPI's.
            ("type", Value::Null) if keywords.get("nullable") == Some(&Value::Bool(true)) => Valid,
            ("type", _) => list.map_or_else(|| is_type(value, arg), |names| any(names.iter().map(|name| is_type(value, name)))),
            ("enum", _) => list.map_or(Unknown, |values| if_holds(values.iter().any(|v| equal(v, value)))),
            ("const", _) => if_holds(equal(arg, value)),
            ("anyOf", _) => list.map_or(Unknown, |all| any(all.iter().map(|s| sub(value, s)))),
            ("allOf", _) => list.map_or(Unknown, |parts| all(parts.iter().map(|s| sub(value, s)))),
            ("oneOf", _) => {
                let Some(parts) = list else { return Unknown };
                let verdicts: Vec<Verdict> = parts.iter().map(|s| sub(value, s)).collect();
                let n_valid = verdicts.iter().filter(|v| **v == Valid).count();
                match (n_valid, verdicts.contains(&Unknown)) {
                    (2.., _) => Invalid,
                    (_, true) => Unknown,
                    (n, false) => if_holds(n == 1),
                }
            }
            ("minimum", Value::Number(_)) => holds(|v, limit| v >= limit),
            ("maximum", Value::Number(_)) => holds(|v, limit| v <= limit),
            ("exclusiveMinimum", Value::Number(_)) => holds(|v, limit| v > limit),
            ("exclusiveMaximum", Value::Number(_)) => holds(|v, limit| v < limit),
            // Floats are not decimals: 0.07 is a multiple of 0.01 all the same.
            ("multipleOf", Value::Number(_)) => holds(|v, of| {
                let n = v / of;
                (n - n.round()).abs() <= n.abs() * 1e-15 + 1e-9
            }),
            ("minLength", Value::String(t)) => count(t.chars().count(), |n, limit| n >= limit),
            ("maxLength", Value::String(t)) => count(t.chars().count(), |n, limit| n <= limit),
            ("pattern", Value::String(t)) => match arg.as_str().and_then(|p| regress::Regex::with_flags(p, "u").ok()) {
                Some(regex) => if_holds(regex.find(t).is_some()),
                None => Unknown,
            },
            ("minItems", Value::Array(items)) => count(items.len(), |n, limit| n >= limit),
            ("maxItems", Value::Array(items)) => count(items.len(), |n, limit| n <= limit),
            ("prefixItems", Value::Array(items)) => {
                list.map_or(Unknown, |schemas| all(items.iter().zip(schemas).map(|(item, schema)| sub(item, schema))))
            }
            ("items", Value::Array(items)) => match list {
                // Draft 7.
                Some(schemas) => all(items.iter().zip(schemas).map(|(item, schema)| sub(item, schema))),
                None => {
                    let n = keywords.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
                    all(items.iter().skip(n).map(|item| sub(item, arg)))
                }
            },
            ("required", Value::Object(members)) => list.map_or(Unknown, |names| {
                all(names.iter().map(|name| name.as_str().map_or(Unknown, |name| if_holds(members.contains_key(name)))))
            }),
            ("properties", Value::Object(members)) => arg.as_object().map_or(Unknown, |properties| {
                all(properties.iter().filter_map(|(name, schema)| Some(sub(members.get(name)?, schema))))
            }),
            ("patternProperties", Value::Object(members)) => arg.as_object().map_or(Unknown, |patterns| {
                all(patterns.iter().flat_map(|(pattern, schema)| {
                    let regex = regress::Regex::with_flags(pattern, "u").ok();
                    members.iter().map(move |(name, v)| match &regex {
                        Some(regex) if regex.find(name).is_some() => sub(v, schema),
                        Some(_) => Valid,
                        None => Unknown,
                    })
                }))
            }),
            ("additionalProperties", Value::Object(members)) => {
                let matches = |name: &str| {
                    keywords.get("patternProperties").and_then(Value::as_object).is_some_and(|patterns| {
                        patterns.keys().any(|p| regress::Regex::with_flags(p, "u").is_ok_and(|regex| regex.find(name).is_some()))
                    })
                };
                let known = |name: &str| keywords.get("properties").is_some_and(|p| p.get(name).is_some()) || matches(name);
                all(members.iter().filter(|(name, _)| !known(name)).map(|(_, v)| sub(v, arg)))
            }
            ("propertyNames", Value::Object(members)) => all(members.keys().map(|name| sub(&Value::String(name.clone()), arg))),
            ("dependentRequired", Value::Object(members)) => arg.as_object().map_or(Unknown, |all_of| {
                all(all_of.iter().filter(|(name, _)| members.contains_key(*name)).map(|(_, names)| match names.as_array() {
                    Some(names) => {
                        if_holds(names.iter().all(|name| name.as_str().is_some_and(|name| members.contains_key(name))))
                    }
                    None => Unknown,
                }))
            }),
            ("dependentSchemas", Value::Object(members)) => arg.as_object().map_or(Unknown, |schemas| {
                all(schemas.iter().filter(|(name, _)| members.contains_key(*name)).map(|(_, schema)| sub(value, schema)))
            }),
            ("if", _) => {
                let branch = |name: &str| keywords.get(name).map_or(Valid, |schema| sub(value, schema));
                match sub(value, arg) {
                    Valid => branch("then"),
                    Invalid => branch("else"),
                    Unknown => Unknown,
                }
            }
            ("contains", Value::Array(items)) => {
                let limit = |name: &str, other: f64| keywords.get(name).map_or(Some(other), Value::as_f64);
                let (Some(min), Some(max)) = (limit("minContains", 1.0), limit("maxContains", f64::MAX)) else { return Unknown };
                let verdicts: Vec<Verdict> = items.iter().map(|item| sub(item, arg)).collect();
                if verdicts.contains(&Unknown) {
                    return Unknown;
                }
                let n = verdicts.iter().filter(|v| **v == Valid).count() as f64;
                if_holds(n >= min && n <= max)
            }
            ("uniqueItems", Value::Array(items)) if arg == &Value::Bool(true) => {
                if_holds(!items.iter().enumerate().any(|(i, a)| items[i + 1..].iter().any(|b| equal(a, b))))
            }
            ("minProperties", Value::Object(members)) => count(members.len(), |n, limit| n >= limit),
            ("maxProperties", Value::Object(members)) => count(members.len(), |n, limit| n <= limit),
            ("not", _) => match sub(value, arg) {
                Valid => Invalid,
                Invalid => Valid,
                Unknown => Unknown,
            },
            _ => Valid,
        }
    }
}
