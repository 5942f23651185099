//! Which alternatives of `oneOf` cannot both hold.

use super::merge::Merged;
use super::{ALL, At, Compiler, MAX_CHAIN, MAX_COMPARED, OBJECT, Sense, Types, type_of};
use crate::runtime::grammar::json::Json;

/// How what is written for one alternative does not satisfy another.
pub(super) enum Apart<'a> {
    /// It does not.
    Surely,
    /// It does not where it is of these types, which are those that are meant.
    Only(Types),
    /// It does not where this member is not there, which is not one that is meant.
    Without(&'a str),
    /// It may.
    Perhaps,
}

fn types(types: Types, values: Option<&[&Json]>) -> Types {
    match values {
        Some(values) => types & values.iter().fold(0, |all, value| all | type_of(value)),
        None => types,
    }
}

fn differ(a: Option<&[&Json]>, b: Option<&[&Json]>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) if a.len().saturating_mul(b.len()) <= MAX_COMPARED => !a.iter().any(|a| b.iter().any(|b| a.equals(b))),
        _ => false,
    }
}

impl<'a> Compiler<'a> {
    /// Whether what is written for `a` may satisfy `b`.
    pub(super) fn tell_apart(&mut self, a: &Merged<'a>, b: &Merged<'a>, is_condition: bool) -> Apart<'a> {
        let (values_a, values_b) = (a.values.as_deref(), b.values.as_deref());
        let common = types(a.types, values_a) & types(b.types, values_b);
        if common == 0 || differ(values_a, values_b) {
            return Apart::Surely;
        }
        let is_apart_as_object = common & OBJECT == 0 || self.members_differ(a, b);
        let common = if is_apart_as_object { common & !OBJECT } else { common };
        if common == 0 {
            return Apart::Surely;
        }
        let written = a.written();
        if is_condition {
            return Apart::Perhaps;
        }
        if common & written == 0 {
            return Apart::Only(written);
        }
        // A member that the other must have, and that is not among those that are meant.
        if common & written == OBJECT && written == OBJECT && values_a.is_none() && a.declares_members() {
            let is_written = |name: &str| {
                a.members.iter().any(|part| {
                    part.properties.iter().any(|(n, _)| n == name) || part.additional.is_some() || !part.patterns.is_empty()
                }) || a.required.contains(&name)
            };
            if let Some(name) = b.required.iter().find(|name| !is_written(name)) {
                return Apart::Without(name);
            }
        }
        Apart::Perhaps
    }

    /// Whether an object that satisfies `a` has a member that `b` does not allow.
    fn members_differ(&mut self, a: &Merged<'a>, b: &Merged<'a>) -> bool {
        // With patterns it might be allowed.
        let excludes = |m: &Merged<'a>, name: &str| {
            let is_false = |at: &At<'a>| matches!(at.schema, Json::Bool(false));
            m.lacking.contains(&name)
                || m.members.iter().any(|m| {
                    m.additional.as_ref().is_some_and(is_false)
                        && m.patterns.is_empty()
                        && !m.properties.iter().any(|(n, _)| n == name)
                        && !m.evaluated.contains(&name)
                })
        };
        let both = [(a, b), (b, a)];
        for (a, b) in both {
            for name in &a.required {
                let (types_a, values_a) = self.member(a, name);
                let (types_b, values_b) = self.member(b, name);
                let common = types(types_a, values_a.as_deref()) & types(types_b, values_b.as_deref());
                if common == 0 || differ(values_a.as_deref(), values_b.as_deref()) || excludes(b, name) {
                    return true;
                }
            }
        }
        false
    }

    /// What a member must be, as far as that can be seen from outside.
    fn member(&mut self, merged: &Merged<'a>, name: &str) -> (Types, Option<Vec<&'a Json>>) {
        let mut all = (ALL, None::<Vec<&Json>>);
        let declared: Vec<&'a Json> =
            merged.members.iter().flat_map(|m| m.properties).filter(|(n, _)| n == name).map(|(_, schema)| schema).collect();
        for schema in declared {
            let mut at = At::new(schema, "").with(Sense::Condition);
            for _ in 0..MAX_CHAIN {
                let word = if at.schema.get("$ref").is_some() { "$ref" } else { "$dynamicRef" };
                match at.schema.get(word).map(|reference| self.references.resolve(&at, word, reference)) {
                    Some(Ok(target)) => at = target,
                    _ => break,
                }
            }
            if let Ok(merged) = self.merge_schema(&at) {
                all.0 &= merged.types;
                all.1 = all.1.or(merged.values);
            }
        }
        all
    }
}
