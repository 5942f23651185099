//! `$ref` and `$dynamicRef`: schemas by address, within the one that is compiled.

use std::collections::HashMap;

use super::{At, refused};
use crate::error::{Result, shown};
use crate::runtime::grammar::json::Json;

/// Keywords whose value is a schema, or a list of schemas.
const SCHEMAS: [&str; 16] = [
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "allOf",
    "anyOf",
    "oneOf",
    "prefixItems",
    "contentSchema",
];
/// Keywords whose value has schemas by name.
const BY_NAME: [&str; 6] = ["$defs", "definitions", "properties", "patternProperties", "dependentSchemas", "dependencies"];

/// The schemas that can be referred to.
pub(super) struct References<'a> {
    root: &'a Json,
    /// The address that each schema's own references are relative to, where it is not that of the whole.
    bases: HashMap<usize, String>,
    /// Schemas by their addresses, and by address and anchor.
    resources: HashMap<String, (&'a Json, String)>,
    /// The addresses that have a dynamic anchor, by its name.
    dynamic: HashMap<&'a str, Vec<String>>,
}

impl<'a> References<'a> {
    pub(super) fn new(root: &'a Json) -> Self {
        let mut references = Self { root, bases: HashMap::new(), resources: HashMap::new(), dynamic: HashMap::new() };
        references.resources.insert(String::new(), (root, "#".to_owned()));
        references.note(root, "", "#");
        references
    }

    /// Notes the addresses and anchors within a schema, as deep as JSON is read.
    fn note(&mut self, schema: &'a Json, base: &str, path: &str) {
        let Json::Object(members) = schema else {
            if let Json::Array(all) = schema {
                all.iter().enumerate().for_each(|(i, schema)| self.note(schema, base, &format!("{path}/{i}")));
            }
            return;
        };
        let mut base = base.to_owned();
        if let Some(Json::String(id)) = schema.get("$id") {
            match id.strip_prefix('#') {
                // Draft 7's anchor.
                Some(anchor) => drop(self.resources.insert(format!("{base}#{anchor}"), (schema, path.to_owned()))),
                None => {
                    base = joined(&base, id.trim_end_matches('#'));
                    self.resources.insert(base.clone(), (schema, path.to_owned()));
                }
            }
        }
        for word in ["$anchor", "$dynamicAnchor"] {
            if let Some(Json::String(anchor)) = schema.get(word) {
                self.resources.insert(format!("{base}#{anchor}"), (schema, path.to_owned()));
                if word == "$dynamicAnchor" {
                    self.dynamic.entry(anchor).or_default().push(base.clone());
                }
            }
        }
        if !base.is_empty() {
            self.bases.insert(super::address(schema), base.clone());
        }
        for (name, value) in members {
            let path = super::below(path, &[name]);
            if SCHEMAS.contains(&name.as_str()) {
                self.note(value, &base, &path);
            } else if BY_NAME.contains(&name.as_str())
                && let Json::Object(schemas) = value
            {
                schemas.iter().for_each(|(name, schema)| self.note(schema, &base, &super::below(&path, &[name])));
            }
        }
    }

    /// What a schema's `$ref` or `$dynamicRef` refers to, asked for in the same sense.
    ///
    /// Where several addresses have the dynamic anchor, the outermost of those that one has come through to here is meant. That of the whole
    /// is always the outermost; which it is of others is not known here.
    ///
    /// # Errors
    /// `invalid_request` where that is not within the schema, or not known.
    pub(super) fn resolve(&self, at: &At<'a>, word: &str, reference: &Json) -> Result<At<'a>> {
        let path = format!("{}/{word}", at.path);
        let Json::String(reference) = reference else { return Err(refused(&path, &format!("{word} must be a text"))) };
        let base = self.bases.get(&super::address(at.schema)).map_or("", String::as_str);
        let (address, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let address = joined(base, address);
        let nowhere = || {
            let what = format!("{word} '{}' leads nowhere within the schema, which is all that is looked at", shown(reference));
            refused(&path, &what)
        };
        let found = |address: &str| self.resources.get(address);
        if !fragment.is_empty() && !fragment.starts_with('/') {
            let mut address = address;
            let all = self.dynamic.get(fragment).filter(|all| word == "$dynamicRef" && all.contains(&address));
            if let Some(all) = all.filter(|all| all.len() > 1) {
                let whole = self.bases.get(&super::address(self.root)).map_or("", String::as_str);
                if !all.iter().any(|one| one == whole) {
                    let what =
                        format!("'{word}' to the one of several '{fragment}' that depends on what refers to it is not supported");
                    return Err(refused(&path, &what));
                }
                whole.clone_into(&mut address);
            }
            let (schema, path) = found(&format!("{address}#{fragment}")).ok_or_else(nowhere)?;
            return Ok(At { schema, path: path.as_str().into(), sense: at.sense });
        }
        let (mut schema, mut place) = match found(&address) {
            Some((schema, place)) => (*schema, place.clone()),
            None if address.is_empty() => (self.root, "#".to_owned()),
            None => return Err(nowhere()),
        };
        for word in fragment.split('/').skip(1) {
            let word = percent_decoded(word).replace("~1", "/").replace("~0", "~");
            let next = match schema {
                Json::Array(items) => word.parse().ok().and_then(|i: usize| items.get(i)),
                _ => schema.get(&word),
            };
            schema = next.ok_or_else(nowhere)?;
            place = super::below(&place, &[&word]);
        }
        Ok(At { schema, path: place.into(), sense: at.sense })
    }
}

/// An address relative to another (RFC 3986 as far as schemas go: no `..`).
fn joined(base: &str, address: &str) -> String {
    let has_scheme = |text: &str| {
        text.split_once(':').is_some_and(|(scheme, _)| {
            !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c))
        })
    };
    if address.is_empty() {
        return base.to_owned();
    }
    if has_scheme(address) || base.is_empty() {
        return address.to_owned();
    }
    let address = address.strip_prefix("./").unwrap_or(address);
    // Behind `scheme://host`.
    let path = base.find("://").map_or(0, |i| base[i + 3..].find('/').map_or(base.len(), |j| i + 3 + j));
    if address.starts_with('/') {
        return format!("{}{address}", &base[..path]);
    }
    match base[path..].rfind('/') {
        Some(i) => format!("{}{address}", &base[..=path + i]),
        None if path > 0 => format!("{base}/{address}"),
        None => address.to_owned(),
    }
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
