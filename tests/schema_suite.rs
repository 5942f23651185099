//! JSON schemas against the JSON Schema Test Suite, in both directions: whatever the suite calls invalid cannot be written, whatever it calls
//! valid can, in one of its spellings; and how many of its groups are taken at all.
//!
//! What a schema means beside what it says (objects where there are `properties`, and none but those) is a decision of the grammar, not of the
//! standard. So each schema is tried as it stands, where nothing invalid may be written; and with all types and additional members spelled out,
//! which means the same to the standard, where all that is valid must be written.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use llava_web::gguf::Gguf;
use llava_web::gguf::source::FileSource;
use llava_web::runtime::grammar::{Constraint, Grammar, ResponseFormat, TokenTrie};
use llava_web::text::Tokenizer;
use serde_json::{Map, Value, json};

/// Groups of the suite's required files that are taken, in percent, at least.
const LEAST_SHARE: f64 = 97.0;
/// Spellings of one value that are tried.
const MAX_SPELLINGS: usize = 100_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/json-schema-suite")
}

fn trie() -> Rc<TokenTrie> {
    thread_local!(static TRIE: Rc<TokenTrie> = {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny-llava/tiny-llava-q4_0.gguf");
        let source = Box::new(FileSource::open(path).expect("a file"));
        let mut gguf = pollster::block_on(Gguf::open(vec![source])).expect("a GGUF file");
        let tokenizer = Tokenizer::from_metadata(&mut gguf.metadata).expect("a tokenizer");
        Rc::new(TokenTrie::new(&tokenizer, tokenizer.n_vocab()))
    });
    TRIE.with(Rc::clone)
}

fn grammar(schema: &Value) -> llava_web::Result<Grammar> {
    let text = format!(r#"{{"type":"json_schema","json_schema":{{"name":"x","schema":{schema}}}}}"#);
    let format: ResponseFormat = llava_web::runtime::request::parse(&text)?;
    Grammar::new(&format).map(|grammar| grammar.expect("a form"))
}

/// What of a schema can be written: nothing, where nothing satisfies it.
struct Writer(Option<Grammar>);

impl Writer {
    fn writes(&self, text: &str) -> bool {
        let Some(grammar) = &self.0 else { return false };
        let mut constraint = Constraint::new(grammar.clone(), trie());
        constraint.push(text.as_bytes()).is_ok() && constraint.is_complete()
    }
}

/// Or why a schema is refused.
fn writer(schema: &Value) -> Result<Writer, String> {
    match grammar(schema) {
        Ok(grammar) => Ok(Writer(Some(grammar))),
        Err(error) if error.message().contains("nothing satisfies") => Ok(Writer(None)),
        Err(error) => {
            assert_eq!(error.code(), "invalid_request", "{schema}: {error}");
            Err(error.message().to_owned())
        }
    }
}

/// The same schema with all types named where none are, and additional members allowed where they are not spoken of.
fn spelled_out(schema: &Value, opens: bool) -> Value {
    const SCHEMAS: [&str; 13] = [
        "additionalProperties",
        "unevaluatedProperties",
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
    ];
    const BY_NAME: [&str; 6] = ["$defs", "definitions", "properties", "patternProperties", "dependentSchemas", "dependencies"];
    let Value::Object(keywords) = schema else { return schema.clone() };
    let list = |all: &[Value]| Value::Array(all.iter().map(|schema| spelled_out(schema, opens)).collect());
    let mut out: Map<String, Value> = keywords
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Value::Array(all) if SCHEMAS.contains(&name.as_str()) || name == "prefixItems" => list(all),
                Value::Object(all) if BY_NAME.contains(&name.as_str()) => {
                    all.iter().map(|(name, schema)| (name.clone(), spelled_out(schema, opens))).collect()
                }
                value if SCHEMAS.contains(&name.as_str()) => spelled_out(value, opens),
                value => value.clone(),
            };
            (name.clone(), value)
        })
        .collect();
    if !out.contains_key("type") {
        out.insert("type".into(), json!(["null", "boolean", "string", "number", "object", "array"]));
    }
    let declares = out.contains_key("properties") || out.contains_key("patternProperties");
    if opens && declares && !out.contains_key("additionalProperties") {
        out.insert("additionalProperties".into(), json!(true));
    }
    Value::Object(out)
}

/// The ways to write a value: members in any order, numbers in the shortest way.
fn spellings(value: &Value) -> Vec<String> {
    let joined = |parts: Vec<Vec<String>>, open: &str, close: &str| {
        let all = parts.into_iter().fold(vec![Vec::new()], |all: Vec<Vec<String>>, part| {
            all.iter()
                .flat_map(|before| part.iter().map(move |next| [before.as_slice(), std::slice::from_ref(next)].concat()))
                .take(MAX_SPELLINGS)
                .collect()
        });
        all.into_iter().map(|parts| format!("{open}{}{close}", parts.join(","))).collect::<Vec<_>>()
    };
    match value {
        Value::Number(n) => match n.as_f64() {
            Some(0.0) => vec!["0".to_owned()],
            Some(float) if float.fract() == 0.0 && float.abs() < 1e16 => vec![format!("{float:.0}"), format!("{float:.1}")],
            _ => vec![n.to_string()],
        },
        Value::Array(items) => joined(items.iter().map(spellings).collect(), "[", "]"),
        Value::Object(members) => {
            let members: Vec<Vec<String>> = members
                .iter()
                .map(|(name, value)| spellings(value).into_iter().map(|value| format!("{}:{value}", json!(name))).collect())
                .collect();
            permutations(members.len())
                .into_iter()
                .flat_map(|order| joined(order.iter().map(|&i| members[i].clone()).collect(), "{", "}"))
                .take(MAX_SPELLINGS)
                .collect()
        }
        other => vec![other.to_string()],
    }
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    (0..n).rev().flat_map(|at| shorter.iter().map(move |p| [&p[..at], &[n - 1], &p[at..]].concat())).take(MAX_SPELLINGS).collect()
}

fn has_word(value: &Value, word: &str) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| name.starts_with(word) || has_word(value, word)),
        Value::Array(items) => items.iter().any(|item| has_word(item, word)),
        _ => false,
    }
}

/// Whether the documented limits leave a value out: numbers that floats of 64 bits do not keep.
fn is_beyond_limits(value: &Value) -> bool {
    match value {
        Value::Number(n) => n.as_f64().is_none_or(|n| n.abs() > 9_007_199_254_740_991.0 || (n != 0.0 && n.abs() < 1e-9)),
        Value::Array(items) => items.iter().any(is_beyond_limits),
        Value::Object(members) => members.values().any(is_beyond_limits),
        _ => false,
    }
}

#[derive(Debug, Default)]
struct Count {
    groups: usize,
    taken: usize,
    refused: Vec<String>,
    valid: usize,
    written: usize,
    faults: Vec<String>,
}

/// Tries all groups of a file. A format is held to, but not all that is of it is written.
fn try_file(file: &Path, count: &mut Count) {
    let name = file.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
    let groups: Vec<Value> = serde_json::from_slice(&std::fs::read(file).expect("it can be read")).expect("it is JSON");
    let is_format = name.starts_with("format");
    for group in groups {
        let (schema, description) = (&group["schema"], format!("{name}: {}", group["description"].as_str().expect("a text")));
        count.groups += 1;
        let literal = spelled_out(schema, !has_word(schema, "unevaluated"));
        let writers = match (writer(schema), writer(&literal)) {
            (Ok(plain), Ok(literal)) => [plain, literal],
            (Err(why), _) | (_, Err(why)) => {
                count.refused.push(format!("{description}: {why}"));
                continue;
            }
        };
        count.taken += 1;
        for test in group["tests"].as_array().expect("a list") {
            let (data, valid) = (&test["data"], test["valid"] == json!(true));
            let what = || format!("{description}: {}: {data}\n    of {schema}", test["description"]);
            let all = spellings(data);
            if valid {
                if is_beyond_limits(data) {
                    continue;
                }
                count.valid += 1;
                if all.iter().any(|text| writers[1].writes(text)) {
                    count.written += 1;
                } else if !is_format {
                    count.faults.push(format!("cannot be written: {}", what()));
                }
            } else if name != "format" && all.iter().any(|text| writers.iter().any(|writer| writer.writes(text))) {
                count.faults.push(format!("can be written: {}", what()));
            }
        }
    }
}

fn try_files(is_wanted: impl Fn(&str) -> bool) -> Count {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).expect("the suite").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| {
        file.extension().is_some_and(|e| e == "json") && is_wanted(file.file_stem().and_then(|n| n.to_str()).unwrap_or(""))
    });
    files.sort();
    let mut count = Count::default();
    files.iter().for_each(|file| try_file(file, &mut count));
    let share = 100.0 * count.taken as f64 / count.groups as f64;
    println!("{} of {} groups are taken: {share:.1} %", count.taken, count.groups);
    println!("{} of {} valid instances are written", count.written, count.valid);
    count.refused.iter().for_each(|refused| println!("refused: {refused}"));
    assert!(count.faults.is_empty(), "{} faults:\n{}", count.faults.len(), count.faults.join("\n"));
    count
}

#[test]
fn what_the_suite_calls_valid_is_written_and_nothing_else() {
    let count = try_files(|name| !name.starts_with("optional") && !name.starts_with("format"));
    let share = 100.0 * count.taken as f64 / count.groups as f64;
    assert!(share >= LEAST_SHARE, "{share:.1} % of the groups are taken");
}

#[test]
fn optional_parts_of_the_suite_hold_where_they_are_taken() {
    try_files(|name| name.starts_with("optional"));
}

#[test]
fn what_is_written_for_a_format_is_of_it() {
    let count = try_files(|name| name.starts_with("format"));
    assert!(count.written * 100 > count.valid * 75, "{} of {}", count.written, count.valid);
}

/// What generators of schemas really emit: each line a schema with texts that satisfy it and texts that do not.
#[test]
fn schemas_as_generators_emit_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/generated-schemas.jsonl");
    let text = std::fs::read_to_string(path).expect("it can be read");
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect("it is JSON");
        let (name, schema) = (&case["name"], &case["schema"]);
        let writer = writer(schema).unwrap_or_else(|why| panic!("{name}: {why}"));
        for (key, is_valid) in [("valid", true), ("invalid", false)] {
            for value in case[key].as_array().expect("a list") {
                let is_written = spellings(value).iter().any(|text| writer.writes(text));
                assert_eq!(is_written, is_valid, "{name}: {value} of {schema}");
            }
        }
    }
}
