//! Regular expressions of schemas against an engine of ECMA-262, which JSON Schema refers to.
//!
//! * What a pattern lets be written, the engine finds a match in.
//! * A given text can be written exactly where the engine finds a match in it.

use llava_web::runtime::grammar::Constraint;
use serde_json::json;

use super::choices::Choices;
use super::{memory, schema, text};

/// The engine tries one way after the other, so long texts and patterns may take it for ever.
const MAX_PATTERN: usize = 48;
const MAX_TEXT: usize = 8;

/// The body: a pattern up to a zero byte, a text up to another, and choices.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let pattern = text(choices.until_zero());
    let candidate: String = text(choices.until_zero()).chars().take(MAX_TEXT).collect();
    memory::within(64 << 20, || {
        let schema = json!({ "type": "string", "pattern": pattern }).to_string();
        let Some(grammar) = schema::grammar(&schema) else { return };
        // Counted repetitions within each other take the engine too long, too.
        let oracle =
            Some(&pattern).filter(|p| p.len() <= MAX_PATTERN && p.matches('{').count() < 2 && p.matches(['*', '+']).count() < 4);
        let oracle = oracle.and_then(|pattern| regress::Regex::with_flags(pattern, "u").ok());
        let mut constraint = Constraint::new(grammar, schema::trie());
        let whole = serde_json::to_string(&candidate).expect("a text");
        let can_be_written = writes(&mut Constraint::new(schema::grammar(&schema).expect("it was one"), schema::trie()), &whole);
        if let Some(regex) = &oracle {
            assert_eq!(can_be_written, regex.find(&candidate).is_some(), "{pattern:?} on {candidate:?}");
        }
        let Some(written) = schema::walk(&mut constraint, &mut choices) else { return };
        let written: String = serde_json::from_slice(&written).expect("a text in JSON");
        if let Some(regex) = oracle.filter(|_| written.chars().count() <= 2 * MAX_TEXT) {
            assert!(regex.find(&written).is_some(), "{pattern:?} wrote {written:?}");
        }
    });
}

fn writes(constraint: &mut Constraint, text: &str) -> bool {
    constraint.push(text.as_bytes()).is_ok() && constraint.is_complete()
}
