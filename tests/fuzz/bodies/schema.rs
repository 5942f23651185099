//! JSON schemas: as text, or made from the bytes so that most mean something; then an answer that they allow, chosen by the rest.
//!
//! * A schema is taken, or refused as `invalid_request`.
//! * Until an answer is complete something may follow, and the tokens that may are those whose bytes may.
//! * A complete answer parses and satisfies the schema, as a plain validator has it.

use std::rc::Rc;

use llava_web::runtime::grammar::{Constraint, Grammar, ResponseFormat, TokenTrie};
use llava_web::runtime::request;
use llava_web::text::Tokenizer;
use serde_json::{Map, Value, json};

use super::choices::Choices;
use super::validator::{Verdict, validate};
use super::{expect_code, memory, models, text};

/// Tokens that are chosen at most.
const PATIENCE: usize = 300;

/// The body. A first byte of 0 to 31 means that the schema is made from the bytes; otherwise it stands there, up to a zero byte.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let schema = match data.first() {
        Some(0..=31) => {
            choices.byte();
            let mut schema = any_schema(&mut choices, 3);
            if let Value::Object(keywords) = &mut schema
                && choices.below(2) == 1
            {
                keywords.insert("$defs".into(), json!({ "a": any_schema(&mut choices, 2), "b": any_schema(&mut choices, 1) }));
            }
            schema.to_string()
        }
        _ => text(choices.until_zero()),
    };
    memory::within(64 << 20, || answer(&schema, &mut choices));
}

/// The grammar of a schema, if it is one.
pub fn grammar(schema: &str) -> Option<Grammar> {
    let format = format!(r#"{{"type":"json_schema","json_schema":{{"name":"x","schema":{schema}}}}}"#);
    let grammar = request::parse::<ResponseFormat>(&format).and_then(|format| Grammar::new(&format));
    match grammar {
        Ok(grammar) => grammar,
        Err(error) => {
            expect_code(&error, &["invalid_request"]);
            None
        }
    }
}

/// A vocabulary of bytes and a few longer tokens.
pub fn trie() -> Rc<TokenTrie> {
    thread_local!(static TRIE: Rc<TokenTrie> = TOKENIZER.with(|tokenizer| Rc::new(TokenTrie::new(tokenizer, tokenizer.n_vocab()))));
    TRIE.with(Rc::clone)
}

thread_local!(static TOKENIZER: Tokenizer = models::byte_level_tokenizer("gpt-2"));

fn answer(schema: &str, choices: &mut Choices<'_>) {
    let Some(grammar) = grammar(schema) else { return };
    let mut constraint = Constraint::new(grammar, trie());
    let Some(answer) = walk(&mut constraint, choices) else { return };
    let answer = String::from_utf8(answer).expect("UTF-8");
    let value: Value = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}: {answer}\n{schema}"));
    let schema: Value = serde_json::from_str(schema).expect("it was parsed already");
    assert!(validate(&value, &schema) != Verdict::Invalid, "{answer}\ndoes not satisfy\n{schema}");
}

/// Chooses tokens until the answer is complete; `None` where that takes too long.
pub fn walk(constraint: &mut Constraint, choices: &mut Choices<'_>) -> Option<Vec<u8>> {
    TOKENIZER.with(|tokenizer| {
        let bytes_of = |id: u32| {
            let mut bytes = Vec::new();
            tokenizer.token_bytes(id, false, &mut bytes);
            bytes
        };
        let mut out = Vec::new();
        for n in 0..PATIENCE {
            let allowed = constraint.allowed();
            let ids: Vec<u32> = (0..tokenizer.n_vocab() as u32).filter(|&id| allowed.contains(id)).collect();
            let may_end = ids.iter().any(|&id| tokenizer.is_end_of_generation(id));
            assert_eq!(may_end, constraint.is_complete());
            assert!(!ids.is_empty(), "nothing may follow {}", String::from_utf8_lossy(&out));
            if n % 8 == 0 {
                // The mask is right for a token in twelve.
                for id in (n as u32 / 8 % 12..tokenizer.n_vocab() as u32).step_by(12).filter(|&id| tokenizer.is_text(id)) {
                    assert_eq!(
                        allowed.contains(id),
                        constraint.allows(&bytes_of(id)),
                        "token {id} behind {}",
                        String::from_utf8_lossy(&out)
                    );
                }
            }
            if may_end && (choices.is_empty() || choices.below(4) == 0 || ids.len() == 1) {
                return Some(out);
            }
            let ids: Vec<u32> = ids.into_iter().filter(|&id| !tokenizer.is_end_of_generation(id)).collect();
            let id = if choices.is_empty() {
                // What ends things soonest.
                let rank = |id: &u32| match bytes_of(*id).as_slice() {
                    b"\"" => 0,
                    b"}" => 1,
                    b"]" => 2,
                    [b'0'..=b'9'] => 3 + n % 3,
                    [b'a'..=b'z'] => 4,
                    [_] => 5,
                    _ => 6,
                };
                *ids.iter().min_by_key(|id| (rank(id), **id)).expect("there is one")
            } else {
                ids[choices.below(ids.len())]
            };
            let bytes = bytes_of(id);
            constraint.push(&bytes).expect("it was allowed");
            out.extend(bytes);
        }
        None
    })
}

const NAMES: &[&str] = &["a", "b", "", "é\"", "long name", "$ref"];
const PATTERNS: &[&str] =
    &["^[a-z]{2,5}$", "\\d", "^(ab|c\"é)*x?$", "^[^\\s\"]+$", "a|b$", "^.{3}$", "", "^(?!a)", "(?=.*b)\\w", "\\ba", "(?<!a)b$"];
const FORMATS: &[&str] = &["date", "time", "date-time", "uuid", "ipv4", "ipv6", "email", "uri", "hostname", "duration"];

/// A number as schemas have them.
fn number(choices: &mut Choices<'_>) -> Value {
    match choices.below(8) {
        0 => json!(0),
        1 => json!(choices.below(256)),
        2 => json!(-(choices.below(256) as i64)),
        3 => json!(choices.below(65536) as i64 - 1000),
        4 => json!(choices.below(256) as f64 / 8.0),
        5 => json!(-(choices.below(65536) as f64) / 1000.0),
        6 => json!([9_007_199_254_740_991_i64, -9_007_199_254_740_992, i64::MAX, i64::MIN][choices.below(4)]),
        _ => json!([1e300, 1e-300, 0.1, -0.0, 123_456_789.123, 1e15, 1e16][choices.below(7)]),
    }
}

fn value(choices: &mut Choices<'_>, depth: usize) -> Value {
    match choices.below(if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(choices.below(2) == 0),
        2 | 3 => number(choices),
        4 => json!(text(choices.bytes(6))),
        5 => json!(choices.one_of(NAMES)),
        6 => (0..choices.below(3)).map(|_| value(choices, depth - 1)).collect(),
        _ => Value::Object((0..choices.below(3)).map(|_| ((*choices.one_of(NAMES)).into(), value(choices, depth - 1))).collect()),
    }
}

fn small(choices: &mut Choices<'_>) -> Value {
    if choices.below(16) == 15 { number(choices) } else { json!(choices.below(6)) }
}

fn schemas(choices: &mut Choices<'_>, depth: usize) -> Value {
    (0..1 + choices.below(3)).map(|_| any_schema(choices, depth)).collect()
}

/// A schema of a few keywords that may contradict each other.
fn any_schema(choices: &mut Choices<'_>, depth: usize) -> Value {
    let below = depth.saturating_sub(1);
    let mut out = Map::new();
    let kind = choices.below(12);
    if kind == 0 {
        return json!(choices.below(4) != 0);
    }
    let types = ["null", "boolean", "string", "integer", "number", "object", "array"];
    if kind < 10 {
        let one = *choices.one_of(&types);
        out.insert("type".into(), if choices.below(5) == 4 { json!([one, choices.one_of(&types)]) } else { json!(one) });
    }
    for _ in 0..choices.below(5) {
        let (key, arg) = match choices.below(if depth == 0 { 18 } else { 40 }) {
            0 => ("minLength", small(choices)),
            1 => ("maxLength", small(choices)),
            2 => ("pattern", json!(choices.one_of(PATTERNS))),
            3 => ("format", json!(choices.one_of(FORMATS))),
            4 => ("minimum", number(choices)),
            5 => ("maximum", number(choices)),
            6 => ("exclusiveMinimum", number(choices)),
            7 => ("exclusiveMaximum", number(choices)),
            8 => ("multipleOf", if choices.below(4) == 0 { number(choices) } else { json!(1 + choices.below(12)) }),
            9 => ("enum", (0..1 + choices.below(3)).map(|_| value(choices, 2)).collect()),
            10 => ("const", value(choices, 2)),
            11 => ("minItems", small(choices)),
            12 => ("maxItems", small(choices)),
            13 => ("minProperties", small(choices)),
            14 => ("maxProperties", small(choices)),
            15 => ("required", (0..choices.below(3)).map(|_| json!(choices.one_of(NAMES))).collect()),
            16 => ("additionalProperties", json!(choices.below(2) == 0)),
            17 => ("$ref", json!(choices.one_of(&["#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/items", "#/nowhere"]))),
            18 | 19 => {
                let n = choices.below(4);
                (
                    "properties",
                    Value::Object((0..n).map(|_| ((*choices.one_of(NAMES)).into(), any_schema(choices, below))).collect()),
                )
            }
            20 => ("additionalProperties", any_schema(choices, below)),
            21 => ("items", any_schema(choices, below)),
            22 => ("prefixItems", schemas(choices, below)),
            23 => ("anyOf", schemas(choices, below)),
            24 => ("allOf", schemas(choices, below)),
            25 => ("oneOf", schemas(choices, below)),
            26 => ("unevaluatedProperties", json!(false)),
            27 => (
                "patternProperties",
                Value::Object(
                    (0..1 + choices.below(2)).map(|_| ((*choices.one_of(PATTERNS)).into(), any_schema(choices, below))).collect(),
                ),
            ),
            28 => ("dependentRequired", json!({ *choices.one_of(NAMES): [choices.one_of(NAMES)] })),
            29 => ("dependentSchemas", json!({ *choices.one_of(NAMES): any_schema(choices, below) })),
            30 => (*choices.one_of(&["minContains", "maxContains"]), small(choices)),
            31 => (*choices.one_of(&["uniqueItems", "nullable"]), json!(true)),
            _ => (
                *choices.one_of(&["not", "if", "then", "else", "contains", "propertyNames", "title", "default"]),
                any_schema(choices, below),
            ),
        };
        out.insert(key.into(), arg);
    }
    Value::Object(out)
}
