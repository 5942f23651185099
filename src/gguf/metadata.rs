//! The key-value part of a GGUF file.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// One metadata value. Numbers keep the width they were stored with; the typed getters of [`Metadata`] convert.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any of the unsigned integers (`uint8` … `uint64`).
    Uint(u64),
    /// Any of the signed integers (`int8` … `int64`).
    Int(i64),
    /// `float32` or `float64`.
    Float(f64),
    /// `bool`.
    Bool(bool),
    /// `string`; bytes that are not UTF-8 are replaced.
    String(String),
    /// `array` of integers, booleans included.
    Ints(Vec<i64>),
    /// `array` of floats.
    Floats(Vec<f32>),
    /// `array` of strings.
    Strings(Vec<String>),
    /// `array` of arrays: no key this program reads has one, so only its length is kept.
    Nested(usize),
}

/// All key-value pairs of a file.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    map: BTreeMap<String, Value>,
}

impl Metadata {
    /// Adds a pair, for building metadata in tests and writers.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) {
        self.map.insert(key.into(), value);
    }

    /// Whether the key is there.
    pub fn contains(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The raw value.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// Keys and values in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.map.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// A non-negative integer, whatever its stored width; `None` where the key is absent or of another kind.
    pub fn uint(&self, key: &str) -> Option<u64> {
        match self.map.get(key)? {
            Value::Uint(v) => Some(*v),
            Value::Int(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }

    /// [`Self::uint`] as a size. One beyond what this platform can address is the largest there is, which no check of a range lets pass.
    pub fn size(&self, key: &str) -> Option<usize> {
        self.uint(key).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }

    /// A signed integer.
    pub fn int(&self, key: &str) -> Option<i64> {
        match self.map.get(key)? {
            Value::Uint(v) => i64::try_from(*v).ok(),
            Value::Int(v) => Some(*v),
            _ => None,
        }
    }

    /// A float; integers are accepted.
    pub fn float(&self, key: &str) -> Option<f32> {
        match self.map.get(key)? {
            #[expect(clippy::cast_possible_truncation, reason = "rounded, as the networks compute in f32")]
            Value::Float(v) => Some(*v as f32),
            Value::Uint(v) => Some(*v as f32),
            Value::Int(v) => Some(*v as f32),
            _ => None,
        }
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.map.get(key)? {
            Value::Bool(v) => Some(*v),
            _ => None,
        }
    }

    /// A string.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.map.get(key)? {
            Value::String(v) => Some(v),
            _ => None,
        }
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.map.get(key)? {
            Value::Strings(v) => Some(v),
            _ => None,
        }
    }

    /// An array of floats.
    pub fn floats(&self, key: &str) -> Option<&[f32]> {
        match self.map.get(key)? {
            Value::Floats(v) => Some(v),
            _ => None,
        }
    }

    /// An array of integers.
    pub fn ints(&self, key: &str) -> Option<&[i64]> {
        match self.map.get(key)? {
            Value::Ints(v) => Some(v),
            _ => None,
        }
    }

    /// Takes an array of strings out, so that a large vocabulary is not held twice.
    pub fn take_strings(&mut self, key: &str) -> Option<Vec<String>> {
        match self.map.get_mut(key)? {
            Value::Strings(v) => Some(std::mem::take(v)),
            _ => None,
        }
    }

    /// [`Self::uint`] as a `usize`, the key being required.
    ///
    /// # Errors
    /// `invalid_gguf` naming the key where it is absent, of another kind or over 2³¹.
    pub fn require_usize(&self, key: &str) -> Result<usize> {
        let value = self.uint(key).ok_or_else(|| {
            Error::invalid_gguf(format!(
                "The file's metadata lacks the number '{key}'; it may be damaged or made for another program."
            ))
        })?;
        match usize::try_from(value) {
            Ok(n) if value <= i32::MAX as u64 => Ok(n),
            _ => Err(Error::invalid_gguf(format!("The file's metadata gives '{key}' as {value}, which cannot be right."))),
        }
    }
}
