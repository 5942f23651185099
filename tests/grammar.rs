//! Answers of a given form: whatever is chosen among the tokens that are allowed parses, and satisfies the schema. The oracle is
//! `serde_json` and a plain validator that knows nothing of grammars.

#[allow(dead_code, reason = "no test binary uses all of it")]
use crate::common::random;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use llava_web::gguf::Gguf;
use llava_web::gguf::source::FileSource;
use llava_web::runtime::grammar::{Constraint, Grammar, ResponseFormat, TokenTrie};
use llava_web::text::Tokenizer;
use random::Random;
use serde_json::{Value, json};

/// A vocabulary beside the tests or in models/.
fn tokenizer(path: &str) -> Tokenizer {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(path.exists(), "{} is not there; run ./build.sh fetch-models first", path.display());
    let source = Box::new(FileSource::open(path).expect("a file"));
    let mut gguf = pollster::block_on(Gguf::open(vec![source])).expect("a GGUF file");
    Tokenizer::from_metadata(&mut gguf.metadata).expect("a tokenizer")
}

const TINY: &str = "tests/golden/tiny-llava/tiny-llava-q4_0.gguf";

fn trie(tokenizer: &Tokenizer) -> Rc<TokenTrie> {
    Rc::new(TokenTrie::new(tokenizer, tokenizer.n_vocab()))
}

fn format(schema: &str) -> llava_web::Result<ResponseFormat> {
    let text = format!(r#"{{"type":"json_schema","json_schema":{{"name":"x","schema":{schema}}}}}"#);
    llava_web::runtime::request::parse(&text)
}

fn grammar(schema: &str) -> llava_web::Result<Grammar> {
    Grammar::new(&format(schema)?).map(|g| g.expect("a form"))
}

fn constraint(schema: &Value, trie: &Rc<TokenTrie>) -> Constraint {
    Constraint::new(grammar(&schema.to_string()).unwrap_or_else(|e| panic!("{e}\n{schema}")), trie.clone())
}

/// Whether the whole text can be written, byte by byte.
fn accepts(schema: &str, text: &str) -> bool {
    thread_local!(static TRIE: Rc<TokenTrie> = trie(&tokenizer(TINY)));
    let mut constraint = Constraint::new(grammar(schema).unwrap_or_else(|e| panic!("{e}\n{schema}")), TRIE.with(Rc::clone));
    constraint.push(text.as_bytes()).is_ok() && constraint.is_complete()
}

fn bytes_of(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokenizer.token_bytes(id, false, &mut bytes);
    bytes
}

/// A model of noise: any of the allowed tokens with the same probability; after `patience` tokens, one of those that end things soonest.
fn answer(tokenizer: &Tokenizer, constraint: &mut Constraint, random: &mut Random, patience: usize) -> String {
    let mut bytes = Vec::new();
    for n in 0.. {
        if constraint.is_done() {
            break;
        }
        assert!(n < patience + 20_000, "no end: {}", String::from_utf8_lossy(&bytes[..300]));
        let allowed = constraint.allowed();
        let ids: Vec<u32> = (0..tokenizer.n_vocab() as u32).filter(|&id| allowed.contains(id)).collect();
        assert!(!ids.is_empty(), "nothing can follow {}", String::from_utf8_lossy(&bytes));
        let ends = |&id: &u32| tokenizer.is_end_of_generation(id);
        assert_eq!(ids.iter().any(ends), constraint.is_complete());
        assert!(ids.iter().all(|&id| ends(&id) || tokenizer.is_text(id)));
        let id = if n < patience {
            ids[random.below(ids.len())]
        } else {
            let rank = |id: &u32| match bytes_of(tokenizer, *id).as_slice() {
                _ if tokenizer.is_end_of_generation(*id) => 0,
                // A text may lack a character that is no sign.
                [_] if n % 11 == 0 => random_rank(*id, n),
                b"\"" => 1,
                b"}" => 2,
                b"]" => 3,
                [_] => 4 + random_rank(*id, n),
                _ => usize::MAX,
            };
            *ids.iter().min_by_key(|id| rank(id)).expect("there is one")
        };
        if ends(&id) {
            break;
        }
        let piece = bytes_of(tokenizer, id);
        constraint.push(&piece).expect("it was allowed");
        bytes.extend(piece);
    }
    String::from_utf8(bytes).expect("UTF-8")
}

fn random_rank(id: u32, n: usize) -> usize {
    (id as usize).wrapping_mul(2_654_435_761).wrapping_add(n.wrapping_mul(40_503)) % 1000
}

// ---- A plain validator.

/// A pattern and what it means.
type Pattern = (&'static str, fn(&str) -> bool);

const PATTERNS: [Pattern; 4] = [
    ("^[a-z]{2,5}$", |t| (2..=5).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_lowercase())),
    ("\\d", |t| t.bytes().any(|b| b.is_ascii_digit())),
    ("^(ab|c\"é)*x?$", |mut t| {
        while let Some(rest) = t.strip_prefix("ab").or_else(|| t.strip_prefix("c\"é")) {
            t = rest;
        }
        t.is_empty() || t == "x"
    }),
    ("^[^\\s\"]+$", |t| !t.is_empty() && t.chars().all(|c| c != '"' && !c.is_whitespace() && c != '\u{feff}')),
];

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|v| v.fract() == 0.0),
        "object" => value.is_object(),
        "array" => value.is_array(),
        _ => false,
    }
}

/// Floats are not decimals: 0.07 is a multiple of 0.01 all the same.
fn is_multiple(value: f64, of: f64) -> bool {
    let n = value / of;
    (n - n.round()).abs() <= n.abs() * 1e-15 + 1e-9
}

fn valid(value: &Value, schema: &Value, root: &Value) -> bool {
    let Value::Object(keywords) = schema else { return schema == &Value::Bool(true) };
    let sub = |value: &Value, schema: &Value| valid(value, schema, root);
    let list = |schemas: &Value| schemas.as_array().expect("a list").clone();
    keywords.iter().all(|(keyword, arg)| {
        let limit = arg.as_f64().unwrap_or(0.0);
        match (keyword.as_str(), value) {
            ("$ref", _) => sub(value, root.pointer(&arg.as_str().expect("a text")[1..]).expect("it is there")),
            ("type", _) => match arg {
                Value::Array(names) => names.iter().any(|n| is_type(value, n.as_str().expect("a name"))),
                name => is_type(value, name.as_str().expect("a name")),
            },
            ("enum", _) => list(arg).iter().any(|v| equal(v, value)),
            ("const", _) => equal(arg, value),
            ("anyOf", _) => list(arg).iter().any(|s| sub(value, s)),
            ("allOf", _) => list(arg).iter().all(|s| sub(value, s)),
            ("oneOf", _) => list(arg).iter().filter(|s| sub(value, s)).count() == 1,
            ("minimum", Value::Number(n)) => n.as_f64().expect("a number") >= limit,
            ("maximum", Value::Number(n)) => n.as_f64().expect("a number") <= limit,
            ("exclusiveMinimum", Value::Number(n)) => n.as_f64().expect("a number") > limit,
            ("exclusiveMaximum", Value::Number(n)) => n.as_f64().expect("a number") < limit,
            ("multipleOf", Value::Number(n)) => is_multiple(n.as_f64().expect("a number"), limit),
            ("minLength", Value::String(t)) => t.chars().count() as f64 >= limit,
            ("maxLength", Value::String(t)) => t.chars().count() as f64 <= limit,
            ("pattern", Value::String(t)) => PATTERNS.iter().find(|(p, _)| arg == p).expect("a known pattern").1(t),
            ("minItems", Value::Array(items)) => items.len() as f64 >= limit,
            ("maxItems", Value::Array(items)) => items.len() as f64 <= limit,
            ("prefixItems", Value::Array(items)) => items.iter().zip(list(arg)).all(|(item, schema)| sub(item, &schema)),
            ("items", Value::Array(items)) => {
                let n = keywords.get("prefixItems").map_or(0, |p| list(p).len());
                items.iter().skip(n).all(|item| sub(item, arg))
            }
            ("uniqueItems", Value::Array(items)) => {
                items.iter().enumerate().all(|(i, a)| items[..i].iter().all(|b| !equal(a, b)))
            }
            ("required", Value::Object(members)) => {
                list(arg).iter().all(|name| members.contains_key(name.as_str().expect("a name")))
            }
            ("properties", Value::Object(members)) => {
                arg.as_object().expect("an object").iter().all(|(name, schema)| members.get(name).is_none_or(|v| sub(v, schema)))
            }
            ("additionalProperties", Value::Object(members)) => {
                let known = |name: &str| keywords.get("properties").is_some_and(|p| p.get(name).is_some());
                members.iter().all(|(name, v)| known(name) || sub(v, arg))
            }
            ("minProperties", Value::Object(members)) => members.len() as f64 >= limit,
            _ => true,
        }
    })
}

// ---- Random schemas.

fn schema(random: &mut Random, depth: usize) -> Value {
    let mut out = serde_json::Map::new();
    let mut set = |key: &str, value: Value| out.insert(key.to_owned(), value);
    match random.below(if depth == 0 { 8 } else { 14 }) {
        0 => drop(set("type", json!(["null", "boolean"][random.below(2)]))),
        1 => {
            set("type", json!(if random.below(4) == 0 { json!(["string", "null"]) } else { json!("string") }));
            if random.below(2) == 0 {
                set("minLength", json!(random.below(5)));
            }
            if random.below(2) == 0 {
                set("maxLength", json!(5 + random.below(30)));
            }
        }
        2 => {
            set("type", json!("string"));
            set("pattern", json!(PATTERNS[random.below(PATTERNS.len())].0));
            if random.below(3) == 0 {
                set("maxLength", json!(3 + random.below(9)));
            }
        }
        3 | 4 => {
            let is_integer = random.below(2) == 0;
            set("type", json!(if is_integer { "integer" } else { "number" }));
            let scale = [1.0, 10.0, 1000.0, 1e-3, 123_456.0][random.below(5)];
            let (a, b) = (f64::from(random.float()) * scale, f64::from(random.float()) * scale);
            let wide = if is_integer { b.abs().max(a.abs()) + 20.0 } else { b.abs() + a.abs() };
            let bound = |v: f64, random: &mut Random| if random.below(2) == 0 { json!(v) } else { json!(v.round() as i64) };
            if random.below(2) == 0 {
                set(["minimum", "exclusiveMinimum"][random.below(2)], bound(a, random));
            }
            if random.below(2) == 0 {
                set(["maximum", "exclusiveMaximum"][random.below(2)], bound(a + wide + 1.0, random));
            }
            if is_integer && random.below(3) == 0 {
                set("multipleOf", json!(1 + random.below(9)));
            }
        }
        5 => drop(set(
            "enum",
            json!(
                json!([1, "é\"\\\n", null, { "a": [1.5, {}] }, "x", true, []]).as_array().expect("a list")[..2 + random.below(5)]
            ),
        )),
        6 => drop(set("const", json!(["only", 0, { "k": "v" }])[random.below(3)].clone())),
        7 => drop(set("$ref", json!("#/$defs/node"))),
        8 | 9 => {
            set("type", json!("object"));
            let names = ["a", "b\"", "long name", "é", "$"];
            let n = random.below(5);
            let properties: serde_json::Map<_, _> =
                names[..n].iter().map(|name| ((*name).to_owned(), schema(random, depth - 1))).collect();
            let required: Vec<&str> = names[..n].iter().copied().filter(|_| random.below(2) == 0).collect();
            if n > 0 || random.below(2) == 0 {
                set("properties", Value::Object(properties));
            }
            set("required", json!(required));
            match random.below(4) {
                0 => drop(set("additionalProperties", json!(false))),
                1 => drop(set("additionalProperties", schema(random, depth - 1))),
                _ => {}
            }
            if random.below(5) == 0 {
                // Where there can be none at all, it could not be satisfied.
                let names = if n > 0 { n } else { 0 };
                set("minProperties", json!(usize::from(names > 0)));
            }
        }
        10 | 11 => {
            set("type", json!("array"));
            set("items", schema(random, depth - 1));
            if random.below(2) == 0 {
                set("prefixItems", json!([schema(random, depth - 1), schema(random, 0)][..1 + random.below(2)]));
            }
            let min = random.below(3);
            set("minItems", json!(min));
            if random.below(2) == 0 {
                set("maxItems", json!(min + random.below(4)));
            }
        }
        12 => drop(set("anyOf", json!([schema(random, depth - 1), schema(random, depth - 1), { "type": "null" }]))),
        _ => {
            let kind = |name: &str, more: Value| json!({ "type": "object", "properties": { "kind": { "const": name }, "more": more }, "required": ["kind"] });
            match random.below(3) {
                0 => drop(set("oneOf", json!([kind("x", schema(random, depth - 1)), kind("y", schema(random, depth - 1))]))),
                1 => {
                    set(
                        "allOf",
                        json!([
                            { "type": "object", "properties": { "p": schema(random, depth - 1) }, "required": ["p"] },
                            { "properties": { "q": schema(random, 0) } },
                        ]),
                    );
                }
                _ => {
                    set("type", json!(["object", "integer"]));
                    set("properties", json!({ "a": schema(random, 0), "b": schema(random, 0) }));
                    set("anyOf", json!([{ "required": ["a"] }, { "required": ["b"] }]));
                }
            }
        }
    }
    Value::Object(out)
}

fn with_definitions(random: &mut Random, schema: Value) -> Value {
    let node = json!({
        "type": "object",
        "properties": { "value": { "type": "integer", "minimum": 0 }, "next": { "anyOf": [{ "type": "null" }, { "$ref": "#/$defs/node" }] },
                        "children": { "type": "array", "items": { "$ref": "#/$defs/node" }, "maxItems": 1 + random.below(2) } },
        "required": ["value"], "additionalProperties": false,
    });
    let mut all = schema;
    all.as_object_mut().expect("an object").insert("$defs".to_owned(), json!({ "node": node }));
    all
}

/// A value that may satisfy a schema, by the other way round: made from it without any grammar.
fn instance(schema: &Value, root: &Value, random: &mut Random, depth: usize) -> Value {
    let any = |random: &mut Random| json!([null, 12, -0.5, "a\"é\\\n\u{1f600}\u{1}", [], [true]])[random.below(6)].clone();
    let Value::Object(keywords) = schema else { return any(random) };
    if depth == 0 {
        return any(random);
    }
    let pick = |list: &Value, random: &mut Random| list.as_array().map(|l| l[random.below(l.len())].clone());
    let limit = |name: &str| keywords.get(name).and_then(Value::as_f64);
    if let Some(target) = keywords.get("$ref") {
        return instance(root.pointer(&target.as_str().expect("a text")[1..]).expect("it is there"), root, random, depth);
    }
    for name in ["enum", "const"] {
        match keywords.get(name) {
            Some(Value::Array(values)) if name == "enum" => return values[random.below(values.len())].clone(),
            Some(value) if name == "const" => return value.clone(),
            _ => {}
        }
    }
    if let Some(choice) = keywords.get("oneOf").or(keywords.get("anyOf")).and_then(|list| pick(list, random))
        && !keywords.contains_key("type")
    {
        return instance(&choice, root, random, depth - 1);
    }
    if let Some(Value::Array(parts)) = keywords.get("allOf") {
        let mut all = serde_json::Map::new();
        for part in parts {
            if let Value::Object(members) = instance(part, root, random, depth - 1) {
                all.extend(members);
            }
        }
        return Value::Object(all);
    }
    let kind = match keywords.get("type") {
        Some(Value::Array(names)) => names[random.below(names.len())].clone(),
        Some(name) => name.clone(),
        None => return any(random),
    };
    match kind.as_str().expect("a name") {
        "null" => Value::Null,
        "boolean" => json!(random.below(2) == 0),
        "string" if keywords.contains_key("pattern") => json!(["abc", "x1", "abc\"éab", "zé/\u{7f}"][random.below(4)]),
        "string" => {
            let n = limit("minLength").unwrap_or(0.0) as usize + random.below(6);
            json!(
                (0..n)
                    .map(|_| ['a', '"', '\\', 'é', '\u{1f600}', '\n', '/', '\u{1f}', ' ', '語'][random.below(10)])
                    .collect::<String>()
            )
        }
        "integer" | "number" => {
            let low = limit("minimum").or(limit("exclusiveMinimum"));
            let high = limit("maximum").or(limit("exclusiveMaximum"));
            let base = low.or(high.map(|h| h - 10.0)).unwrap_or(-5.0);
            let value = base + (high.unwrap_or(base + 20.0) - base) * f64::from(random.float().abs());
            match (kind == "integer", limit("multipleOf")) {
                (true, of) => json!(((value / of.unwrap_or(1.0)).ceil() * of.unwrap_or(1.0)) as i64),
                // A few digits, as a person would write them.
                _ => format!("{value:.2}").parse().expect("a number"),
            }
        }
        "object" => {
            let mut members = serde_json::Map::new();
            for (name, schema) in keywords.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let required = keywords.get("required").and_then(Value::as_array).is_some_and(|r| r.contains(&json!(name)));
                if required || random.below(2) == 0 {
                    members.insert(name.clone(), instance(schema, root, random, depth - 1));
                }
            }
            Value::Object(members)
        }
        _ => {
            let prefix = keywords.get("prefixItems").and_then(Value::as_array).cloned().unwrap_or_default();
            let n = limit("minItems").unwrap_or(0.0) as usize + random.below(3);
            (0..n).map(|i| instance(prefix.get(i).unwrap_or(&keywords["items"]), root, random, depth - 1)).collect()
        }
    }
}

#[test]
fn what_satisfies_a_schema_can_be_written() {
    let mut random = Random::new(2);
    let mut n_valid = 0;
    for _ in 0..400 {
        let inner = schema(&mut random, 3);
        let schema = with_definitions(&mut random, inner);
        let text = schema.to_string();
        for _ in 0..10 {
            let value = instance(&schema, &schema, &mut random, 5);
            if valid(&value, &schema, &schema) {
                n_valid += 1;
                assert!(accepts(&text, &value.to_string()), "{text} must accept {value}");
            } else if grammar(&text).is_ok() {
                assert!(!accepts(&text, &value.to_string()), "{text} must not accept {value}");
            }
        }
    }
    assert!(n_valid > 2000, "{n_valid}");
}

#[test]
fn whatever_a_model_of_noise_answers_parses_and_satisfies_the_schema() {
    let vocabularies = [tokenizer(TINY), tokenizer("models/vocab/ggml-vocab-gpt-2.gguf")];
    let tries: Vec<_> = vocabularies.iter().map(trie).collect();
    let mut random = Random::new(1);
    let mut unsatisfiable = 0;
    let n = std::env::var("LLAVA_WEB_SCHEMAS").map_or(300, |n| n.parse().expect("a number"));
    for i in 0..n {
        let inner = schema(&mut random, 3);
        let schema = with_definitions(&mut random, inner);
        let text = schema.to_string();
        let grammar = match grammar(&text) {
            Ok(grammar) => grammar,
            // Bounds that contradict each other.
            Err(error) if error.message().contains("nothing satisfies") => {
                unsatisfiable += 1;
                continue;
            }
            Err(error) => panic!("{error}\n{text}"),
        };
        let v = usize::from(i % 8 == 0);
        let mut constraint = Constraint::new(grammar, tries[v].clone());
        let patience = [0, 10, 60][random.below(3)];
        let answer = answer(&vocabularies[v], &mut constraint, &mut random, patience);
        let value: Value = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{e}\n{text}\n{answer}"));
        assert!(valid(&value, &schema, &schema), "{text}\n{answer}");
    }
    assert!(unsatisfiable < n / 4, "{unsatisfiable} of {n}");
}

#[test]
fn a_json_object_is_one_whatever_is_chosen() {
    let tokenizer = tokenizer(TINY);
    let trie = trie(&tokenizer);
    for seed in 0..20 {
        let format = llava_web::runtime::request::parse(r#"{"type":"json_object"}"#).expect("sound");
        let mut constraint = Constraint::new(Grammar::new(&format).expect("sound").expect("a form"), trie.clone());
        let answer = answer(&tokenizer, &mut constraint, &mut Random::new(seed), 200);
        assert!(serde_json::from_str::<Value>(&answer).expect("it parses").is_object(), "{answer}");
    }
    let text: ResponseFormat = llava_web::runtime::request::parse(r#"{"type":"text"}"#).expect("sound");
    assert!(Grammar::new(&text).expect("sound").is_none());
}

#[test]
fn masks_are_what_trying_each_token_finds() {
    let paths = [TINY, "models/vocab/ggml-vocab-llama-spm.gguf", "models/vocab/ggml-vocab-llama-bpe.gguf"];
    let schemas = [
        json!({}),
        json!({ "type": "string", "maxLength": 7 }),
        json!({ "type": "string", "pattern": "^[a-z é]+$" }),
        json!({ "anyOf": [{ "type": "string", "maxLength": 3 }, { "enum": ["a long text of one value", 12.5] }] }),
        json!({ "type": "object", "properties": { "name": { "type": "string" }, "n": { "type": "integer", "maximum": 99 } }, "additionalProperties": { "type": "array" } }),
    ];
    for (p, path) in paths.into_iter().enumerate() {
        let tokenizer = tokenizer(path);
        let trie = trie(&tokenizer);
        let mut random = Random::new(p as u64);
        for schema in &schemas {
            let mut written = Vec::new();
            for _ in 0..if p == 0 { 40 } else { 8 } {
                let mut now = constraint(schema, &trie);
                now.push(&written).expect("it was allowed");
                if now.is_done() {
                    break;
                }
                let allowed = now.allowed();
                let mut plain = now;
                let mut found = Vec::new();
                for id in 0..tokenizer.n_vocab() as u32 {
                    let bytes = bytes_of(&tokenizer, id);
                    let expected = if tokenizer.is_end_of_generation(id) {
                        plain.is_complete()
                    } else {
                        tokenizer.is_text(id) && plain.allows(&bytes)
                    };
                    assert_eq!(
                        allowed.contains(id),
                        expected,
                        "{path} {schema} after {:?}: {id} {:?}",
                        String::from_utf8_lossy(&written),
                        String::from_utf8_lossy(&bytes)
                    );
                    found.extend(expected.then_some(id));
                }
                assert_eq!(allowed.len(), found.len());
                written.extend(bytes_of(&tokenizer, found[random.below(found.len())]));
            }
        }
    }
}

#[test]
fn forms_are_what_they_should_be() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "true",
            &[
                "1",
                "[{}]",
                "[1, {\"a\": 2,\"b\":3}]",
                "\"\"",
                "{\n  \"a\": null\n}",
                " 1",
                "-0.5e+10",
                "\"\\ud83d\\ude00\\u00e9\"",
            ],
            &[
                "",
                "01",
                "1.",
                "[1 ,2]",
                "[ 1]",
                "[1 ]",
                "[ ]",
                "{\n}",
                "[1,  2]",
                "[1,\n2]",
                "{\"a\"  :1}",
                "{\"a\" :1}",
                "  1",
                "\"\\ud83d\"",
                "\"\\x\"",
                "\"\n\"",
                "nul",
                "1e999",
            ],
        ),
        (r#"{"type":"integer","minimum":-5,"maximum":12}"#, &["-5", "-1", "0", "9", "12"], &["-6", "13", "-0", "1.0", "100"]),
        (
            r#"{"type":"number","minimum":-0.25,"exclusiveMaximum":10}"#,
            &["-0.25", "-0.2", "0", "0.0", "9.999", "5"],
            &["-0.26", "10", "10.0", "-0", "1e0", "-0.0"],
        ),
        (r#"{"type":"number","exclusiveMinimum":99.5}"#, &["99.51", "100", "123456789"], &["99.5", "99", "0", "99.50"]),
        (r#"{"type":"integer","multipleOf":7,"minimum":10}"#, &["14", "21", "7000"], &["7", "15", "0"]),
        (r#"{"type":["integer","null"]}"#, &["null", "3"], &["3.5", "\"\""]),
        (
            r#"{"enum":["a","ab",1,{"x":[1]},null]}"#,
            &["\"a\"", "\"ab\"", "1", "{\n  \"x\": [\n    1\n  ]\n}", "null"],
            &["\"b\"", "{}", "true"],
        ),
        (r#"{"enum":["a","abc",1],"type":"string","maxLength":2}"#, &["\"a\""], &["\"abc\"", "1"]),
        (
            r#"{"type":"string","minLength":1,"maxLength":2}"#,
            &["\"a\"", "\"\\n\u{1f600}\"", "\"\\ud83d\\ude00a\""],
            &["\"\"", "\"abc\""],
        ),
        (r#"{"type":"string","format":"date"}"#, &["\"2024-02-29\""], &["\"2023-02-29\"", "\"\""]),
        (r#"{"type":"string","format":"made-up"}"#, &["\"x\""], &["1"]),
        (
            r#"{"properties":{"b":{"type":"integer"},"a":{}},"required":["a"]}"#,
            &[r#"{"b":1,"a":[]}"#, r#"{"a": 2}"#],
            &[r#"{"a":1,"b":1}"#, r#"{"b":1}"#, r#"{"a":1,"c":1}"#, "1", r#"{"a":1,}"#, r#"{,"a":1}"#],
        ),
        (
            r#"{"properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"null"}}"#,
            &["{}", r#"{"a":1,"b":null,"aa":null}"#, r#"{"":null}"#],
            &[r#"{"a":null}"#, r#"{"\u0061":null}"#, r#"{"b":null,"a":1}"#, r#"{"b":1}"#],
        ),
        (r#"{"type":"object","minProperties":1}"#, &[r#"{"a":1}"#], &["{}"]),
        (r#"{"type":"object","required":["x"]}"#, &[r#"{"x":1}"#, r#"{"x":1,"y":2}"#], &["{}", r#"{"y":1}"#]),
        (
            r#"{"type":"array","prefixItems":[{"const":1},{"const":2}],"items":false}"#,
            &["[]", "[1]", "[1, 2]"],
            &["[2]", "[1,2,3]"],
        ),
        (
            r#"{"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3}"#,
            &["[1,2]", "[\n  1,\n  2,\n  3\n]"],
            &["[1]", "[1,2,3,4]", "[]"],
        ),
        (r#"{"type":"array","maxItems":0}"#, &["[]"], &["[1]"]),
        (r#"{"type":"array","items":[{"const":1}],"additionalItems":{"const":2}}"#, &["[1,2,2]"], &["[2]", "[1,1]"]),
        (r#"{"items":false}"#, &["[]"], &["[1]"]),
        (r##"{"$ref":"#/$defs/a~1b%41","$defs":{"a/bA":{"type":"null"}}}"##, &["null"], &["1"]),
        (
            r##"{"type":"object","properties":{"x":{"$ref":"#"}},"additionalProperties":false}"##,
            &["{}", r#"{"x":{"x":{}}}"#],
            &[r#"{"x":1}"#],
        ),
        (
            r#"{"allOf":[{"type":["integer","string"]},{"minimum":3},{"type":["integer","null"],"maximum":4}]}"#,
            &["3", "4"],
            &["2", "\"\"", "null"],
        ),
        (
            r#"{"allOf":[{"properties":{"a":{"type":"integer"}}},{"properties":{"b":{},"a":{"minimum":5}},"required":["b"]}]}"#,
            &[r#"{"a":5,"b":0}"#, r#"{"b":0}"#],
            &[r#"{"a":4,"b":0}"#, "{}"],
        ),
        (
            r#"{"oneOf":[{"type":"string"},{"type":"integer"},{"type":"object","properties":{"k":{"const":1}},"required":["k"]},{"type":"object","properties":{"k":{"const":2}},"required":["k"]}]}"#,
            &["1", "\"\"", r#"{"k":2}"#],
            &["null", r#"{"k":3}"#],
        ),
        (
            r#"{"anyOf":[{"type":"array","items":{"type":"null"}},{"type":"array","items":{"type":"boolean"}}]}"#,
            &["[null,null]", "[true]", "[]"],
            &["[null,true]"],
        ),
        (
            r#"{"type":"object","properties":{"a":{},"b":false},"unevaluatedProperties":false,"additionalProperties":true}"#,
            &["{}", r#"{"a":1}"#],
            &[r#"{"b":1}"#],
        ),
        (r#"{"type":"number","multipleOf":0.25}"#, &["0.5", "1.75", "3", "-2.25", "0", "1.50"], &["0.3", "1.125", "1e1"]),
        (r#"{"type":"integer","multipleOf":2.5}"#, &["5", "-10", "0"], &["2", "2.5"]),
        (r#"{"type":"string","nullable":true}"#, &["null", "\"a\""], &["1"]),
        (r#"{"type":"integer","format":"int32"}"#, &["2147483647", "-2147483648"], &["2147483648"]),
        (r#"{"not":{"type":"null"}}"#, &["1", "\"\"", "[]", "{}"], &["null"]),
        (r#"{"type":"number","not":{"enum":[0,2.5]}}"#, &["1", "0.5", "2.4", "-3"], &["0", "2.5", "0.0", "2.50"]),
        (r#"{"type":"string","not":{"enum":["a","b"]}}"#, &["\"\"", "\"ab\""], &["\"a\"", "\"b\""]),
        (r#"{"type":"string","not":{"pattern":"^a"}}"#, &["\"ba\"", "\"\""], &["\"ab\""]),
        (
            r#"{"type":"object","patternProperties":{"^x-":{"type":"string"},"n$":{"minLength":2}},"additionalProperties":false}"#,
            &["{}", r#"{"x-a":"b","x-n":"bb"}"#, r#"{"n":"bb","mn":"cc"}"#],
            &[r#"{"y":1}"#, r#"{"x-a":1}"#, r#"{"x-n":"b"}"#, r#"{"n":"b"}"#],
        ),
        (r#"{"type":"object","patternProperties":{"^x-":{"type":"string"}}}"#, &["{}", r#"{"x-a":"b"}"#], &[r#"{"y":1}"#]),
        (
            r#"{"type":"object","propertyNames":{"pattern":"^[a-z]+$","maxLength":2},"additionalProperties":{"type":"number"}}"#,
            &["{}", r#"{"a":1,"bc":2}"#],
            &[r#"{"A":1}"#, r#"{"abc":1}"#, r#"{"a":"b"}"#],
        ),
        (
            r#"{"type":"object","properties":{"a":{},"b":{},"c":{}},"minProperties":2,"maxProperties":2}"#,
            &[r#"{"a":1,"c":1}"#, r#"{"b":1,"c":1}"#],
            &["{}", r#"{"a":1}"#, r#"{"a":1,"b":1,"c":1}"#],
        ),
        (r#"{"type":"object","maxProperties":2}"#, &["{}", r#"{"a":1,"b":2}"#], &[r#"{"a":1,"b":2,"c":3}"#]),
        (
            r#"{"type":"object","properties":{"a":{},"b":{}},"dependentRequired":{"a":["b"]}}"#,
            &["{}", r#"{"b":1}"#, r#"{"a":1,"b":1}"#],
            &[r#"{"a":1}"#],
        ),
        (
            r#"{"type":"object","properties":{"k":{"enum":["x","y"]},"v":{}},"required":["k","v"],"if":{"properties":{"k":{"const":"x"}}},"then":{"properties":{"v":{"type":"integer"}}},"else":{"properties":{"v":{"type":"string"}}}}"#,
            &[r#"{"k":"x","v":1}"#, r#"{"k":"y","v":""}"#],
            &[r#"{"k":"x","v":""}"#, r#"{"k":"y","v":1}"#, r#"{"k":"x"}"#],
        ),
        (
            r#"{"type":"array","items":{"type":"integer"},"contains":{"minimum":5},"minContains":1,"maxContains":2}"#,
            &["[5]", "[1,7,2,9]", "[9,9]"],
            &["[]", "[1]", "[5,6,7]"],
        ),
        (
            r#"{"type":"array","items":{"enum":["a","b",null]},"uniqueItems":true}"#,
            &["[]", r#"["b","a"]"#, r#"[null,"a","b"]"#],
            &[r#"["a","a"]"#, r#"["a",null,"a"]"#],
        ),
        (r#"{"oneOf":[{"type":"integer"},{"type":"number","minimum":5}]}"#, &["3", "5.5"], &["5", "4.5"]),
        (
            r#"{"type":"object","oneOf":[{"required":["a"]},{"required":["b"]}],"properties":{"a":{},"b":{}}}"#,
            &[r#"{"a":1}"#, r#"{"b":1}"#],
            &["{}", r#"{"a":1,"b":1}"#],
        ),
        (r##"{"$defs":{"n":{"$anchor":"node","type":"string"}},"$ref":"#node"}"##, &["\"\""], &["1"]),
        // What extends a tree says what its nodes are.
        (
            r##"{"$id":"strict","$dynamicAnchor":"node","$ref":"tree","properties":{"size":{"type":"integer"}},"unevaluatedProperties":false,
                "$defs":{"tree":{"$id":"tree","$dynamicAnchor":"node","type":"object","properties":{"children":{"type":"array","items":{"$dynamicRef":"#node"}}}}}}"##,
            &[r#"{"size":2,"children":[{"size":1,"children":[]}]}"#],
            &[r#"{"children":[{"colour":"red"}]}"#, r#"{"children":[{"size":"1"}]}"#],
        ),
        (
            r##"{"$defs":{"n":{"$dynamicAnchor":"node","type":"string"}},"type":"array","items":{"$dynamicRef":"#node"}}"##,
            &["[\"\"]"],
            &["[1]"],
        ),
        (
            r#"{"type":"array","items":{"type":"string"},"uniqueItems":true}"#,
            &["[]", r#"["a","A","aa",""]"#, "[\n  \"a\",\n  \"b\"\n]", r#"["\\n","\n","/"]"#],
            // Each value has one spelling.
            &[
                r#"["a","a"]"#,
                r#"["a", "b", "a"]"#,
                r#"["a","\u0061"]"#,
                r#"["b","a","\u0062"]"#,
                "[\n  \"a\",\n  \"a\"\n]",
                r#"["/","\/"]"#,
            ],
        ),
        (
            r#"{"type":"array","items":{"type":"number"},"uniqueItems":true}"#,
            &["[1,2,1.5,-1,10,0.1]", "[0,9007199254740991]"],
            &["[1,1]", "[1,1.0]", "[1,1e0]", "[0,-0]", "[1.5,1.50]", "[1,2,1]"],
        ),
        (
            r#"{"type":"array","items":{"type":"string","maxLength":1},"uniqueItems":true}"#,
            &[r#"["","a","b"]"#],
            &[r#"["a","a"]"#, r#"["",""]"#],
        ),
        (
            r#"{"type":"array","prefixItems":[{"type":"boolean"}],"items":{"type":["string","boolean"]},"uniqueItems":true,"minItems":3}"#,
            &[r#"[true,"a",false]"#, r#"[false,true,"","x"]"#],
            &[r#"[true,true,"a"]"#, r#"[true,false]"#, r#"[true,"a","a"]"#],
        ),
        // Members in any order, some of them twice; within a list, within an object.
        (
            r#"{"type":"array","items":{"type":["object","array"]},"uniqueItems":true}"#,
            &[r#"[{"a":1},{"a":2},{"b":1},{}]"#, r#"[[{"a":1}],[{"a":1},2],[]]"#],
            &[
                r#"[{"a":1,"b":2},{"b":2,"a":1}]"#,
                r#"[{"a":1},{"a":2,"a":1}]"#,
                r#"[[{"a":1, "b":{}}],[{"b":{},"a":1}]]"#,
                r#"[{"x":{"a":1,"b":2}},{"x":{"b":2,"a":1}}]"#,
            ],
        ),
        (
            r#"{"type":"array","uniqueItems":true,"items":{"anyOf":[{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"required":["a","b"]},
                {"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"integer"}},"required":["b"]},{"const":{"b":1,"a":2}}]}}"#,
            &[r#"[{"a":1,"b":2},{"b":2},{"a":2,"b":1}]"#],
            &[r#"[{"a":1,"b":2},{"a":1,"b":2}]"#, r#"[{"a":2,"b":1},{"a":2,"b":1}]"#],
        ),
        (
            r#"{"allOf":[{"properties":{"a":{}}},{"properties":{"b":{}},"unevaluatedProperties":false}],"type":"object"}"#,
            &["{}", r#"{"b":1}"#],
            &[r#"{"a":1}"#],
        ),
    ];
    for (schema, yes, no) in cases {
        yes.iter().for_each(|text| assert!(accepts(schema, text), "{schema} must accept {text}"));
        no.iter().for_each(|text| assert!(!accepts(schema, text), "{schema} must not accept {text}"));
    }
    // Nesting has an end that leaves room for what must follow.
    assert!(accepts("{}", &format!("{}{}", "[".repeat(64), "]".repeat(64))));
    assert!(!accepts("{}", &"[".repeat(65)));
    let chain = r##"{"type":"array","items":{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]},"minItems":0}"##;
    assert!(accepts(chain, &format!("{}[]{}", "[{\"a\":".repeat(31), "}]".repeat(31))));
    assert!(!accepts(chain, &format!("{}[]{}", "[{\"a\":".repeat(32), "}]".repeat(32))));
}

/// Whatever is chosen, items differ, and the list can always be finished, also where there are few values left.
#[test]
fn items_that_must_differ_do_whatever_is_chosen() {
    let tokenizer = tokenizer(TINY);
    let trie = trie(&tokenizer);
    let mut random = Random::new(11);
    let schemas = [
        json!({ "type": "array", "uniqueItems": true, "items": { "type": "string", "pattern": "^[ab]{1,2}$" }, "minItems": 6 }),
        json!({ "type": "array", "uniqueItems": true, "items": { "type": "string", "pattern": "^(a|b+|ab?)$" }, "minItems": 3, "maxItems": 9 }),
        json!({ "type": "array", "uniqueItems": true, "items": { "type": "string", "maxLength": 1 }, "minItems": 40, "maxItems": 50 }),
        json!({ "type": "array", "uniqueItems": true, "items": { "type": "integer", "minimum": -20, "maximum": 20 }, "minItems": 41 }),
        json!({ "type": "array", "uniqueItems": true, "items": { "type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.05 }, "minItems": 21 }),
        json!({ "type": "array", "uniqueItems": true, "items": { "enum": (0..40).collect::<Vec<_>>() }, "minItems": 40 }),
        json!({ "type": "array", "uniqueItems": true, "minItems": 8, "maxItems": 12 }),
        json!({ "type": "array", "uniqueItems": true, "minItems": 30, "maxItems": 30, "items": {
            "type": "array", "prefixItems": [{ "type": "boolean" }, { "enum": ["x", "y", 1, 1.0] }], "items": { "type": "null" }, "minItems": 1, "maxItems": 6 } }),
        json!({ "type": "array", "uniqueItems": true, "minItems": 12, "items": { "type": "object", "properties": {
            "a": { "type": "boolean" }, "b": { "enum": [1, 2] }, "c": { "type": "null" } }, "required": ["a"] } }),
        json!({ "type": "array", "uniqueItems": true, "minItems": 6, "items": { "type": "object", "properties": {
            "a": { "type": "object", "additionalProperties": { "const": 1 } }, "b": { "type": "boolean" } }, "required": ["a", "b"] } }),
        json!({ "type": "object", "properties": { "x": { "type": "array", "items": { "type": "array", "uniqueItems": true, "items": { "type": "string", "maxLength": 1 }, "minItems": 2 }, "minItems": 2 } }, "required": ["x"] }),
    ];
    for schema in schemas {
        for seed in 0..12 {
            let mut constraint = constraint(&schema, &trie);
            let text = answer(&tokenizer, &mut constraint, &mut random, if seed % 2 == 0 { 30 } else { 200 });
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            let mut rest = schema.clone();
            if let Some(pattern) = rest.pointer_mut("/items").and_then(|items| items.as_object_mut()?.remove("pattern")) {
                let is_long = |text: &str| pattern == "^(a|b+|ab?)$" && text.bytes().all(|b| b == b'b');
                let fits = |text: &str| {
                    ["a", "b", "ab"].contains(&text) || pattern == "^[ab]{1,2}$" && ["aa", "ba", "bb"].contains(&text)
                };
                let texts = value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text"));
                assert!(texts.into_iter().all(|text| fits(text) || !text.is_empty() && is_long(text)), "{schema}: {text}");
            }
            assert!(valid(&value, &rest, &rest), "{schema}: {text}");
        }
    }
}

#[test]
fn white_space_is_what_a_printer_writes() {
    let schema = r#"{"type":"object","properties":{"a":{"type":"array"},"b":{"enum":[{"c":[1,2]}]}}}"#;
    let yes = [
        r#"{"a":[],"b":{"c":[1,2]}}"#,
        r#"{"a": [1, {"x": 2}], "b": {"c": [1, 2]}}"#,
        "{\n  \"a\": [\n    1,\n    {\n      \"x\": 2\n    }\n  ],\n  \"b\": {\n    \"c\": [\n      1,\n      2\n    ]\n  }\n}",
        // What models write: short lists on one line.
        "{\n  \"a\": [1, {\"x\": 2}, []],\n  \"b\": {\"c\": [1, 2]}\n}",
    ];
    let no = [
        // Lines begun stay lines, with their indentation, and one line stays one.
        "{\n  \"a\": [], \"b\": {\"c\": [1, 2]}\n}",
        "{\n  \"a\": []}",
        "{\n    \"a\": []\n}",
        "{\n\"a\": []\n}",
        "{\"a\": [],\n  \"b\": {\"c\": [1, 2]}}",
        "{\"a\": [\n    1\n  ]}",
        "{\n  \"a\": [\n  ]\n}",
        "{ \"a\": [] }",
        "{\n\t\"a\": []\n}",
        "{\n  \"a\": [[\n      1\n    ]]\n}",
    ];
    yes.iter().for_each(|text| assert!(accepts(schema, text), "must accept {text}"));
    no.iter().for_each(|text| assert!(!accepts(schema, text), "must not accept {text}"));
    for text in yes {
        let value: Value = serde_json::from_str(text).expect("it is JSON");
        assert!(accepts(schema, &value.to_string()) && accepts(schema, &serde_json::to_string_pretty(&value).expect("a text")));
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_place() {
    let cases = [
        (r#"{"not":{"const":{"a":1}}}"#, "object or list", "#/not/const"),
        (r#"{"not":{"multipleOf":2}}"#, "'multipleOf'", "#/not/multipleOf"),
        (r#"{"enum":[["x"]],"items":{"not":{"format":"date"}}}"#, "'format'", "#/items/not/format"),
        (
            r#"{"properties":{"a":{"type":"array","uniqueItems":true,"items":{"type":"array","items":{"type":"string"},"uniqueItems":true}}}}"#,
            "'uniqueItems'",
            "#/properties/a/uniqueItems",
        ),
        (r#"{"type":"array","uniqueItems":true,"contains":{"type":"string"}}"#, "'contains'", "#/uniqueItems"),
        (
            r#"{"type":"array","uniqueItems":true,"items":{"type":"object","propertyNames":{"pattern":"^[ab]$"}}}"#,
            "without names of their own",
            "#/uniqueItems",
        ),
        (
            r#"{"type":"array","uniqueItems":true,"items":{"type":"string","pattern":"^[ab]c?$"},"minItems":5}"#,
            "5 different values",
            "#/uniqueItems",
        ),
        (r#"{"type":"array","uniqueItems":true,"items":{"type":"string"},"minItems":1001}"#, "minItems", "#/uniqueItems"),
        (r#"{"type":"array","contains":{},"minContains":100000}"#, "'contains'", "#/contains"),
        (r#"{"type":"object","patternProperties":{"(":{}}}"#, "pattern", "#/patternProperties/("),
        (r#"{"type":"object","propertyNames":{"pattern":"(a)\\1"}}"#, "pattern", "#/propertyNames/pattern"),
        (r#"{"type":"object","minProperties":2}"#, "minProperties", "#"),
        (r#"{"type":"number","multipleOf":0.01234}"#, "'multipleOf'", "#/multipleOf"),
        (r#"{"type":"number","multipleOf":0}"#, "'multipleOf'", "#/multipleOf"),
        (r#"{"type":"string","pattern":"("}"#, "pattern", "#/pattern"),
        (r##"{"$dynamicRef":"#x"}"##, "$dynamicRef '#x'", "#/$dynamicRef"),
        (r##"{"$recursiveRef":"#"}"##, "'$recursiveRef'", "#/$recursiveRef"),
        (
            r##"{"$ref":"b","$defs":{"a":{"$id":"a","$dynamicAnchor":"x","type":"null"},"b":{"$id":"b","$dynamicAnchor":"x","items":{"$dynamicRef":"#x"}}}}"##,
            "'$dynamicRef'",
            "#/$defs/b/items/$dynamicRef",
        ),
        (r##"{"not":{"$ref":"#"}}"##, "itself", "#/not"),
        (r#"{"dependentRequired":{"a":"b"}}"#, "schema", "#/dependentRequired/a"),
        (r#"{"$ref":"https://example.org/x"}"#, "$ref", "#/$ref"),
        (r##"{"$ref":"#/nowhere"}"##, "nowhere", "#/$ref"),
        (r##"{"$ref":"#"}"##, "itself", "#"),
        (r##"{"anyOf":[{"type":"null"},{"allOf":[{"$ref":"#"}]}]}"##, "itself", "#"),
        (r#"{"type":"thing"}"#, "'type'", "#/type"),
        (r#"{"type":"string","maxLength":-1}"#, "count", "#/maxLength"),
        (r#"{"type":"integer","exclusiveMinimum":true}"#, "'exclusiveMinimum'", "#/exclusiveMinimum"),
        (r#"{"properties":[]}"#, "'properties'", "#/properties"),
        (r#"{"items":3}"#, "schema", "#/items"),
        (r#"{"anyOf":[]}"#, "'anyOf'", "#/anyOf"),
        (r#"[1]"#, "schema", "#"),
    ];
    for (schema, what, place) in cases {
        let error = grammar(schema).map(|_| ()).expect_err(schema);
        assert_eq!(error.code(), "invalid_request");
        assert!(error.message().contains(what) && error.message().contains(&format!("(at {place})")), "{schema}: {error}");
    }
    for schema in [
        "false",
        r#"{"enum":[]}"#,
        r#"{"type":"string","enum":[1]}"#,
        r#"{"type":"integer","minimum":3,"maximum":2}"#,
        r#"{"type":"integer","minimum":1.2,"maximum":1.8}"#,
        r##"{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}"##,
        r#"{"type":"array","items":false,"minItems":1}"#,
        r#"{"allOf":[{"type":"null"},{"type":"string"}]}"#,
        r#"{"type":"object","properties":{"a":{}},"required":["b"],"additionalProperties":false}"#,
        r#"{"type":"string","minLength":3,"maxLength":2}"#,
        r#"{"type":"array","minItems":3,"maxItems":2}"#,
        r#"{"not":{}}"#,
        r#"{"not":{"format":"date"}}"#,
        r#"{"type":"string","not":{"minLength":0}}"#,
        r#"{"if":{},"then":false}"#,
        r#"{"type":"object","required":["a"],"not":{"required":["a"]}}"#,
        r#"{"type":"object","maxProperties":1,"required":["a","b"]}"#,
        r#"{"type":"object","required":["ab"],"propertyNames":{"maxLength":1}}"#,
        r#"{"type":"array","items":{"type":"boolean"},"uniqueItems":true,"minItems":3}"#,
        r#"{"type":"array","contains":{"const":1},"items":{"const":2}}"#,
        r#"{"type":"array","contains":{},"maxItems":0}"#,
        r#"{"enum":["a"],"pattern":"b"}"#,
        r#"{"type":"string","pattern":"(?=a)(?=b)"}"#,
    ] {
        let error = grammar(schema).map(|_| ()).expect_err(schema);
        assert!(error.message().contains("nothing satisfies"), "{schema}: {error}");
    }
    // What is about another type does no harm.
    assert!(accepts(r#"{"type":"string","uniqueItems":true,"maxProperties":1,"multipleOf":0.1,"title":"x","x-y":1}"#, "\"\""));
}

#[test]
fn hostile_schemas_are_refused_or_bounded() {
    let tokenizer = tokenizer(TINY);
    let trie = trie(&tokenizer);
    let many = |n: usize, item: &dyn Fn(usize) -> String| (0..n).map(item).collect::<Vec<_>>().join(",");
    let schemas = [
        "{\"items\":".repeat(100_000) + "{}" + &"}".repeat(100_000),
        "{\"items\":".repeat(120) + "{\"type\":\"null\"}" + &"}".repeat(120),
        format!(r#"{{"title":"{}"}}"#, "x".repeat(3_000_000)),
        format!(r#"{{"enum":[{}]}}"#, many(100_000, &|i| i.to_string())),
        format!(r#"{{"properties":{{{}}}}}"#, many(5000, &|i| format!(r#""p{i}":{{}}"#))),
        format!(r#"{{"properties":{{{}}}}}"#, many(1000, &|i| format!(r#""p{i}":{{}}"#))),
        format!(r#"{{"allOf":[{}]}}"#, many(30, &|i| format!(r#"{{"anyOf":[{{"minLength":{i}}},{{"minimum":{i}}}]}}"#))),
        format!(r#"{{"$defs":{{{}}},"$ref":"{}"}}"#, many(3000, &|i| format!(r##""d{i}":{{"$ref":"#/$defs/d{}"}}"##, i + 1)), "#/$defs/d0"),
        format!(
            r#"{{"$defs":{{{}}},"$ref":"{}"}}"#,
            many(3000, &|i| format!(r##""d{i}":{{"type":"array","items":{{"$ref":"#/$defs/d{}"}}}}"##, (i + 1) % 3000)),
            "#/$defs/d0"
        ),
        r#"{"type":"array","minItems":4000000000}"#.to_owned(),
        r#"{"type":"array","minItems":90000,"items":{"type":"string","minLength":90000}}"#.to_owned(),
        r#"{"type":"array","maxItems":4000000000,"items":{"type":"string","maxLength":4000000000}}"#.to_owned(),
        r#"{"type":"string","pattern":"((a{1000}){1000}){1000}"}"#.to_owned(),
        r#"{"type":"string","pattern":"(a|b)*a(a|b){40}$"}"#.to_owned(),
        r#"{"type":"string","pattern":"^[a-z]*$","maxLength":100000}"#.to_owned(),
        // Each level in four ways that nothing tells apart: 4^depth stacks.
        r##"{"anyOf":[{"type":"array","items":{"$ref":"#"}},{"type":"array","items":{"$ref":"#"},"minItems":0},{"type":"array","items":{"$ref":"#"},"title":"a"},{"type":"array","items":{"$ref":"#"},"title":"b"}]}"##.to_owned(),
        format!(r#"{{"oneOf":[{}]}}"#, many(300, &|i| format!(r#"{{"properties":{{"k":{{"const":{i}}}}},"required":["k"]}}"#))),
        format!(r#"{{"oneOf":[{}]}}"#, many(3000, &|i| format!(r#"{{"const":{i}}}"#))),
        format!(r#"{{"oneOf":[{{"enum":[{0}]}},{{"enum":[{0}]}}]}}"#, many(20_000, &|i| i.to_string())),
        format!(r#"{{"allOf":[{{"enum":[{0}]}},{{"enum":[{0}]}}]}}"#, many(20_000, &|i| i.to_string())),
        format!(r#"{{"properties":{{{}}}}}"#, many(900, &|i| format!(r#""p{i}":{{"type":"string","pattern":"(a|b)*a(a|b){{9}}x{i}"}}"#))),
        format!(r#"{{"$defs":{{{}}},"$ref":"{}"}}"#, many(900, &|i| format!(r##""d{i}":{{"minItems":1,"items":{{"$ref":"#/$defs/d{}"}}}}"##, i + 1)) + r#","d900":{"type":"null"}"#, "#/$defs/d0"),
        // Conditions that multiply.
        format!(r#"{{"allOf":[{}]}}"#, many(40, &|i| format!(r#"{{"if":{{"properties":{{"p{i}":{{"const":1}}}}}},"then":{{"required":["q{i}"]}}}}"#))),
        format!(r#"{{"oneOf":[{}]}}"#, many(40, &|i| format!(r#"{{"required":["p{i}"]}}"#))),
        format!(r#"{{"not":{{"anyOf":[{}]}}}}"#, many(40, &|i| format!(r#"{{"required":["p{i}","q{i}"],"properties":{{"p{i}":{{"minimum":{i}}}}}}}"#))),
        format!(r#"{{"type":"object","dependentRequired":{{{}}}}}"#, many(40, &|i| format!(r#""p{i}":["q{i}"]"#))),
        format!(r#"{{"type":"object","patternProperties":{{{}}}}}"#, many(24, &|i| format!(r#""(a|b)*a(a|b){{{i}}}":{{}}"#))),
        format!(r#"{{"type":"object","patternProperties":{{{}}}}}"#, many(1000, &|i| format!(r#""p{i}":{{}}"#))),
        format!(r#"{{"type":"object","properties":{{{}}},"minProperties":400,"maxProperties":500}}"#, many(1000, &|i| format!(r#""p{i}":{{}}"#))),
        format!(r#"{{"type":"object","properties":{{{}}},"minProperties":9}}"#, many(20, &|i| format!(r#""p{i}":{{}}"#))),
        format!(r#"{{"type":"array","items":{{"enum":[{}]}},"uniqueItems":true}}"#, many(30, &|i| i.to_string())),
        format!(r#"{{"type":"array","items":{{"enum":[{}]}},"uniqueItems":true}}"#, many(11, &|i| i.to_string())),
        r#"{"type":"array","uniqueItems":true,"minItems":1000,"items":{"type":"string","minLength":90000,"maxLength":90000}}"#.to_owned(),
        r#"{"type":"array","uniqueItems":true,"minItems":1000,"items":{"type":"string","pattern":"^(a|b){10}$"}}"#.to_owned(),
        r##"{"type":"array","uniqueItems":true,"items":{"$ref":"#"}}"##.to_owned(),
        r##"{"type":"array","uniqueItems":true,"minItems":2,"items":{"type":"array","minItems":3,"items":{"type":"array","items":{"$ref":"#/items"}}}}"##.to_owned(),
        format!(r#"{{"properties":{{{}}}}}"#, many(900, &|i| format!(r#""p{i}":{{"type":"array","uniqueItems":true,"minItems":{i}}}"#))),
        format!(r#"{{"properties":{{{}}}}}"#, many(900, &|i| format!(r#""p{i}":{{"type":"array","uniqueItems":true,"minItems":9,"items":{{"type":"string","pattern":"^(x|y){{5}}{i}$"}}}}"#))),
        r#"{"type":"array","contains":{"const":1},"minContains":100,"maxContains":150,"maxItems":10000}"#.to_owned(),
        r#"{"type":"array","allOf":[{"contains":{"const":1}},{"contains":{"const":2},"maxContains":9},{"contains":{"const":3},"minContains":9}]}"#.to_owned(),
        format!(r#"{{"enum":[{}],"pattern":"(a|b)*a(a|b){{9}}"}}"#, many(5000, &|i| format!(r#""{i}""#))),
        format!(r#"{{"enum":[{}],"allOf":[{{"not":{{"contains":{{"uniqueItems":true}}}}}}]}}"#, many(300, &|i| format!("[[{i}]]"))),
        r##"{"$defs":{"a":{"not":{"properties":{"x":{"$ref":"#/$defs/a"}}}}},"$ref":"#/$defs/a"}"##.to_owned(),
        r##"{"not":{"items":{"not":{"items":{"$ref":"#"}}}}}"##.to_owned(),
        r#"{"type":"string","pattern":"^(?=(.*a){30})(?=(.*b){30})(?!(.*c){30}).*$"}"#.to_owned(),
        format!(r#"{{"type":"string","pattern":"{}"}}"#, "(?=".repeat(60) + "a" + &")".repeat(60)),
        format!(r#"{{"type":"string","pattern":"{}"}}"#, "(?!.*a)|".repeat(5000)),
        format!(r#"{{"type":"string","pattern":"{}"}}"#, r"(?i:\\p{L})\\b".repeat(5000)),
        r#"{"type":"string","pattern":"^(?=.{1,253}\\.?$)[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\\.[a-zA-Z0-9](?:[-0-9a-zA-Z]{0,61}[0-9a-zA-Z])?)*\\.?$"}"#.to_owned(),
        r#"{"type":"number","minimum":1e300,"maximum":1e308}"#.to_owned(),
        r#"{"type":"number","minimum":1e-300,"maximum":1e-299}"#.to_owned(),
        r#"{"type":"integer","minimum":-1e300,"maximum":1e300,"multipleOf":997}"#.to_owned(),
    ];
    for schema in schemas {
        let start = Instant::now();
        let shown: String = schema.chars().take(80).collect();
        match grammar(&schema) {
            Ok(grammar) => {
                let mut constraint = Constraint::new(grammar, trie.clone());
                let mut random = Random::new(7);
                for _ in 0..20 {
                    if constraint.is_done() {
                        break;
                    }
                    let allowed = constraint.allowed();
                    assert!(!allowed.is_empty(), "{shown}");
                    let ids: Vec<u32> =
                        (0..tokenizer.n_vocab() as u32).filter(|&id| allowed.contains(id) && tokenizer.is_text(id)).collect();
                    // Opening brackets are what makes it hard.
                    let brackets = ids
                        .iter()
                        .filter(|&&id| bytes_of(&tokenizer, id).contains(&b'['))
                        .max_by_key(|&&id| bytes_of(&tokenizer, id).len());
                    match brackets.or(ids.get(random.below(ids.len().max(1)))) {
                        Some(&id) => constraint.push(&bytes_of(&tokenizer, id)).expect("allowed"),
                        None => break,
                    }
                }
            }
            Err(error) => assert_eq!(error.code(), "invalid_request", "{shown}: {error}"),
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{seconds:.2} s: {shown}");
        assert!(seconds < 20.0, "{shown}: {seconds} s");
    }
}

/// What a mask costs: `cargo test --release --test grammar -- --ignored --nocapture mask_times`.
#[test]
#[ignore = "a measurement"]
fn mask_times() {
    let person = json!({ "type": "object", "properties": {
        "title": { "type": "string" }, "objects": { "type": "array", "items": { "type": "object", "properties": {
            "name": { "type": "string", "maxLength": 40 }, "color": { "enum": ["red", "green", "blue", "white", "black"] },
            "count": { "type": "integer", "minimum": 0, "maximum": 100 }, "box": { "type": "array", "items": { "type": "number" }, "minItems": 4, "maxItems": 4 } },
            "required": ["name", "color", "count"], "additionalProperties": false } },
        "taken": { "type": "string", "format": "date" }, "id": { "type": "string", "pattern": "^[A-Z][a-z]+( [A-Z][a-z]+)*$" } },
        "required": ["title", "objects", "taken", "id"], "additionalProperties": false });
    for (name, path) in [
        ("LLaMA 2", "models/vocab/ggml-vocab-llama-spm.gguf"),
        ("LLaMA 3", "models/vocab/ggml-vocab-llama-bpe.gguf"),
        ("Qwen 2", "models/vocab/ggml-vocab-qwen2.gguf"),
        ("Gemma 4", "models/vocab/ggml-vocab-gemma-4.gguf"),
    ] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
        if !path.exists() {
            continue;
        }
        let source = Box::new(FileSource::open(path).expect("a file"));
        let mut gguf = pollster::block_on(Gguf::open(vec![source])).expect("a GGUF file");
        let Ok(tokenizer) = Tokenizer::from_metadata(&mut gguf.metadata) else { continue };
        let start = Instant::now();
        let trie = trie(&tokenizer);
        let trie_ms = start.elapsed().as_secs_f64() * 1e3;
        for (what, schema) in [("any object", json!({ "type": "object" })), ("schema", person.clone())] {
            let start = Instant::now();
            let mut now = constraint(&schema, &trie);
            let compile_ms = start.elapsed().as_secs_f64() * 1e3;
            let mut micros = Vec::new();
            for seed in 0..20 {
                if seed > 0 {
                    now = constraint(&schema, &trie);
                }
                let mut random = Random::new(seed);
                for _ in 0..100 {
                    if now.is_done() {
                        break;
                    }
                    let start = Instant::now();
                    let allowed = now.allowed();
                    micros.push(start.elapsed().as_secs_f64() * 1e6);
                    let mut ids: Vec<u32> =
                        (0..tokenizer.n_vocab() as u32).filter(|&id| allowed.contains(id) && tokenizer.is_text(id)).collect();
                    // Every other time what goes on, so that there is something of everything.
                    if random.below(3) == 0 && ids.iter().any(|&id| bytes_of(&tokenizer, id).contains(&b'"')) {
                        ids.retain(|&id| bytes_of(&tokenizer, id).contains(&b'"'));
                    }
                    now.push(&bytes_of(&tokenizer, ids[random.below(ids.len())])).expect("allowed");
                }
            }
            let n = micros.len();
            let mean = micros.iter().sum::<f64>() / n as f64;
            micros.sort_by(f64::total_cmp);
            println!(
                "{name} ({} tokens, trie {trie_ms:.0} ms), {what} (compiled in {compile_ms:.2} ms): {n} masks, mean {mean:.0} µs, median {:.0} µs, \
                 99 % {:.0} µs, worst {:.0} µs",
                tokenizer.n_vocab(),
                micros[n / 2],
                micros[n * 99 / 100],
                micros[n - 1]
            );
        }
    }
}
