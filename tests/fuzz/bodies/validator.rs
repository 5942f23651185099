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
    Validator { root: schema }.check(value, schema, 0)
}

struct Validator<'a> {
    root: &'a Value,
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
            ("$ref", _) => match arg.as_str().and_then(|path| path.strip_prefix('#')).and_then(|path| self.root.pointer(path)) {
                Some(target) => sub(value, target),
                None => Unknown,
            },
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
            ("multipleOf", Value::Number(_)) => holds(|v, of| v % of == 0.0),
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
            ("additionalProperties", Value::Object(members)) => {
                let known = |name: &str| keywords.get("properties").is_some_and(|p| p.get(name).is_some());
                all(members.iter().filter(|(name, _)| !known(name)).map(|(_, v)| sub(v, arg)))
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
