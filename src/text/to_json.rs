//! The `tojson` filter of chat templates.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::bounded::Budget;

/// Python's `json.dumps`: `", "` and `": "` between, nothing escaped for HTML; with `indent` over several lines.
pub(super) fn to_json(value: &Value, options: &Kwargs, budget: &Budget) -> std::result::Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Other options of Python's (ensure_ascii, separators, sort_keys) are accepted and ignored.
    let mut out = String::new();
    write_json(value, indent, 0, &mut out, budget)?;
    Ok(out)
}

fn write_json(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
    budget: &Budget,
) -> std::result::Result<(), Error> {
    const MAX_DEPTH: usize = 64;
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value is nested too deeply for JSON"));
    }
    let new_line = |out: &mut String, depth: usize| match indent {
        Some(indent) => {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent.min(16) * depth));
        }
        None if out.ends_with(',') => out.push(' '),
        None => {}
    };
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            let map = value.kind() == ValueKind::Map;
            out.push(if map { '{' } else { '[' });
            let mut empty = true;
            for item in value.try_iter()? {
                if !empty {
                    out.push(',');
                }
                empty = false;
                // What stands in the value is charged where the filter is called; what is added to it is not.
                budget.charge((indent.unwrap_or(0).min(16) * depth + 8) as u64)?;
                new_line(out, depth + 1);
                if map {
                    *out += &serde_json::Value::from(item.to_string()).to_string();
                    *out += ": ";
                    write_json(&value.get_item(&item)?, indent, depth + 1, out, budget)?;
                } else {
                    write_json(&item, indent, depth + 1, out, budget)?;
                }
            }
            if !empty && indent.is_some() {
                new_line(out, depth);
            }
            out.push(if map { '}' } else { ']' });
        }
        ValueKind::String => *out += &serde_json::Value::from(value.as_str().unwrap_or("")).to_string(),
        ValueKind::None | ValueKind::Undefined => *out += "null",
        ValueKind::Bool => *out += if value.is_true() { "true" } else { "false" },
        ValueKind::Number => *out += &value.to_string(),
        _ => *out += &serde_json::Value::from(value.to_string()).to_string(),
    }
    Ok(())
}
