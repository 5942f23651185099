//! Metadata that changes the network is computed or refused, never left out of account.
//!
//! A file's own keys (those under its architecture's name) say what its network computes. One that this program does not know may
//! change every answer without any sign of it, as a sliding window does that nobody reads. So each is read, harmless by a list, or the
//! file is refused by the key's name.

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::gguf::metadata::Value;

/// More keys than this are counted, not listed, in an error.
const MAX_NAMED: usize = 4;
/// More characters than this of a value are left out of an error.
const MAX_VALUE: usize = 40;

/// What a key is to the network.
#[derive(Debug, Clone, Copy)]
pub enum Key {
    /// It is read where the configuration is made.
    Read,
    /// It says nothing of what is computed.
    Harmless,
    /// It changes what is computed, unless it is one of these numbers (every element of an array; 0 and 1 for booleans).
    Only(&'static [f64]),
    /// It changes what is computed, unless it is one of these texts.
    Text(&'static [&'static str]),
}

/// Switched off, as a number or a boolean.
pub const OFF: Key = Key::Only(&[0.0]);
/// A factor that changes nothing; 0 stands for none.
pub const NO_FACTOR: Key = Key::Only(&[0.0, 1.0]);

impl Key {
    fn allows(self, value: &Value) -> bool {
        match self {
            Self::Read | Self::Harmless => true,
            Self::Only(numbers) => {
                let among = |x: f64| numbers.contains(&x);
                match value {
                    Value::Uint(x) => among(*x as f64),
                    Value::Int(x) => among(*x as f64),
                    Value::Float(x) => among(*x),
                    Value::Bool(x) => among(f64::from(*x)),
                    Value::Ints(all) => all.iter().all(|x| among(*x as f64)),
                    Value::Floats(all) => all.iter().all(|x| among(f64::from(*x))),
                    Value::String(_) | Value::Strings(_) | Value::Nested(_) => false,
                }
            }
            Self::Text(texts) => matches!(value, Value::String(text) if texts.contains(&text.as_str())),
        }
    }
}

/// Holds every key that begins with `prefix.` against a table of what may follow; an entry that ends with a dot stands for all keys that
/// begin so.
///
/// # Errors
/// `unsupported_architecture` naming the keys that are not in the table, or have a value that is not computed.
pub fn check(gguf: &Gguf, prefix: &str, table: &[(&str, Key)]) -> Result<()> {
    let refused: Vec<String> = gguf
        .metadata
        .iter()
        .filter_map(|(key, value)| Some((key, key.strip_prefix(prefix)?.strip_prefix('.')?, value)))
        .filter(|(_, name, value)| {
            let is_it = |entry: &str| if entry.ends_with('.') { name.starts_with(entry) } else { *name == entry };
            !table.iter().any(|(entry, rule)| is_it(entry) && rule.allows(value))
        })
        .map(|(key, _, value)| format!("'{key}' = {}", shown(value)))
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    let more = refused.len().saturating_sub(MAX_NAMED);
    let listed = refused.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    Err(Error::unsupported_architecture(format!(
        "'{}' asks for something that this program does not compute: {listed}{}. Without it the answers would be wrong. Use another model, \
         or another conversion of this one.",
        gguf.name(),
        if more > 0 { format!(" and {more} more") } else { String::new() }
    )))
}

/// A value for a message.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Uint(x) => x.to_string(),
        Value::Int(x) => x.to_string(),
        Value::Float(x) => x.to_string(),
        Value::Bool(x) => x.to_string(),
        Value::String(text) => format!("'{text}'"),
        Value::Ints(all) => format!("{all:?}"),
        Value::Floats(all) => format!("{all:?}"),
        Value::Strings(all) => format!("{} texts", all.len()),
        Value::Nested(n) => format!("{n} lists"),
    };
    if text.chars().count() <= MAX_VALUE { text } else { text.chars().take(MAX_VALUE).chain("…".chars()).collect() }
}
