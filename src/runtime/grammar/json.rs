//! JSON as it was written: the members of an object stay in their order, which is the order that answers are written in.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// A JSON value.
#[derive(Debug, Clone)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Self>),
    /// Names with their values, in the order they were written in; no name is there twice.
    Object(Vec<(String, Self)>),
}

impl Json {
    /// The member of an object with this name.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(n, _)| n == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Whether there is a member with this name anywhere.
    pub(super) fn has_key(&self, name: &str) -> bool {
        match self {
            Self::Array(items) => items.iter().any(|item| item.has_key(name)),
            Self::Object(members) => members.iter().any(|(n, value)| n == name || value.has_key(name)),
            _ => false,
        }
    }

    /// About how many bytes it was written in: more than there is structure or text to it.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => 4,
            Self::String(text) => 4 + text.len(),
            Self::Array(items) => 4 + items.iter().map(Self::size).sum::<usize>(),
            Self::Object(members) => 4 + members.iter().map(|(name, value)| 4 + name.len() + value.size()).sum::<usize>(),
        }
    }

    /// Whether both are the same value: 1 is 1.0, and the order of members does not count.
    pub(super) fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b || a.as_f64() == b.as_f64(),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Array(a), Self::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            (Self::Object(a), Self::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(name, a)| other.get(name).is_some_and(|b| a.equals(b)))
            }
            _ => false,
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut names = HashSet::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("'{name}' is there twice")));
            }
            members.push((name, value));
        }
        Ok(Json::Object(members))
    }
}

/// Compact JSON.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, items: &mut dyn Iterator<Item = (Option<&str>, &Self)>| {
            for (i, (name, item)) in items.enumerate() {
                f.write_str(if i > 0 { "," } else { "" })?;
                if let Some(name) = name {
                    write!(f, "{}:", spelled(name))?;
                }
                item.fmt(f)?;
            }
            Ok(())
        };
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::String(text) => f.write_str(&spelled(text)),
            Self::Array(items) => {
                f.write_str("[")?;
                list(f, &mut items.iter().map(|item| (None, item)))?;
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                list(f, &mut members.iter().map(|(name, value)| (Some(name.as_str()), value)))?;
                f.write_str("}")
            }
        }
    }
}

/// A text as JSON writes it, in quotes: each character in one way only, itself where that is allowed.
pub(super) fn spelled(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    text.chars().for_each(|c| spell(c, &mut out));
    out.push('"');
    out
}

/// A character inside of quotes.
pub(super) fn spell(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read_in_its_order() {
        let text = r#"{"b":[1,-2.5,1e300,null,true],"a":{"\"\\\u0001\n":"é/"}}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        assert_eq!(json.to_string(), text.replace("1e300", "1e+300"));
        let other: Json = serde_json::from_str(r#"{"a":{"\"\\\u0001\n":"é/"},"b":[1.0,-2.5,1e300,null,true]}"#).unwrap();
        assert!(json.equals(&other));
        assert!(serde_json::from_str::<Json>(r#"{"a":1,"a":2}"#).is_err());
    }
}
