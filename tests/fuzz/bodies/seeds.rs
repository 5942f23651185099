//! The seeds in `corpus/`, from `tests/golden` and by program. What fuzzing found lies beside them.

use std::path::{Path, PathBuf};

use llava_web::quant::{Format, LoadOnly, Stored};
use serde_json::Value;

use super::{models, session};

/// A file under `tests`.
fn here(path: &str) -> PathBuf {
    // Of the crate or of the fuzz targets, whichever takes this in.
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("tests"));
    tests.filter(|tests| tests.join("golden").is_dir()).last().expect("the repository").join(path)
}

fn golden(path: &str) -> Vec<u8> {
    let path = here("golden").join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A seed: its target, its name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

struct Seeds(Vec<Seed>);

impl Seeds {
    fn add(&mut self, target: &'static str, name: &str, bytes: &[u8]) {
        self.0.push((target, name.to_owned(), bytes.to_vec()));
    }
}

/// Where the inputs of a target lie.
pub fn folder(target: &str) -> PathBuf {
    here("fuzz/corpus").join(target)
}

fn files(seeds: &mut Seeds) {
    let small = [Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0, Format::IQ4_NL];
    let with_last = |format: Stored, last: LoadOnly| models::llama("llama", &[&[format; 7][..], &[last.into()]].concat(), 256);
    let language_models = [
        ("llama-small-blocks", models::llama("llama", &small, 32)),
        ("llama-floats", models::llama("llama", &[Format::F16, Format::BF16, Format::Q8_0], 32)),
        ("qwen2", models::llama("qwen2", &[Format::Q4_1, Format::Q8_0], 32)),
        ("phi3", models::llama("phi3", &[Format::Q5_1, Format::F16], 32)),
        // The last matrix is the one whose rows are long enough for a super-block.
        ("llama-q6_k", models::llama("llama", &[&[Format::Q4_0; 7][..], &[Format::Q6_K]].concat(), 256)),
        ("llama-mxfp4", with_last(LoadOnly::MXFP4.into(), LoadOnly::NVFP4)),
        ("llama-iq3_s", with_last(Format::Q4_0.into(), LoadOnly::IQ3_S)),
        ("llama-iq2_xs", with_last(Format::Q4_0.into(), LoadOnly::IQ2_XS)),
        ("llama-iq1_m", with_last(Format::Q4_0.into(), LoadOnly::IQ1_M)),
        ("llama-tq1_0", with_last(Format::Q4_0.into(), LoadOnly::TQ1_0)),
    ];
    for (name, file) in &language_models {
        seeds.add("language_model", name, &file.finish());
    }
    let vision_models = [
        ("mlp-f16", models::clip(true, false, Format::F16)),
        ("linear-f32", models::clip(false, false, Format::F32)),
        ("anyres-q8_0", models::clip(true, true, Format::Q8_0)),
    ];
    for (name, file) in &vision_models {
        // A picture of 6×4 pixels.
        seeds.add("vision_model", name, &[&[0x35][..], &file.finish()].concat());
    }
    // Headers, with as much of the data as shows where it begins.
    seeds.add("header", "llama", &models::llama("llama", &[Format::Q4_0], 32).finish()[..2400]);
    seeds.add("header", "clip", &models::clip(false, true, Format::F16).finish()[..3000]);
    seeds.add("header", "split", &models::llama("qwen2", &[Format::Q4_0], 32).split(3)[2]);
    seeds.add("session", "picture", &session::seed());
}

fn texts(seeds: &mut Seeds) {
    let cases: Value = serde_json::from_slice(&golden("tokenizers/smollm2.json")).expect("JSON");
    let mut all = String::new();
    for text in cases["cases"].as_array().expect("a list").iter().filter_map(|case| case["text"].as_str()) {
        if text.len() < 48 {
            all += text;
        }
    }
    // Eight families; fuzzing finds the others by one byte.
    for (i, part) in all.chars().collect::<Vec<_>>().chunks(all.chars().count().div_ceil(8)).enumerate() {
        let text: String = part.iter().collect();
        seeds.add("words", &format!("cases-{i}"), &[&[2 * i as u8, 0][..], text.as_bytes()].concat());
    }
    seeds.add("words", "long", b"\x08\xa5a  1");
    // Flags, a family, the number of pieces, the pieces with their lengths; then a text.
    seeds.add("tokenizer", "spm", b"\x00\x00\x03\x03abc\x05hello\x04\xe2\x96\x81ahello abc a");
    seeds.add("tokenizer", "bpe", b"\x01\x02\x03\x02he\x02ll\x04hello0hello 123\n\n  h\xc3\xa9");
    seeds.add("tokenizer", "marked", b"\x0d\x02\x02\x0a<|im_end|>\x03\x05<too>\x04\x01\x00<|im_end|> <too> x");
}

fn templates(seeds: &mut Seeds) {
    let all: Value = serde_json::from_slice(&golden("chat/chat_templates.json")).expect("JSON");
    for (name, entry) in all["templates"].as_object().expect("an object") {
        let source = entry["template"].as_str().expect("a text");
        if source.len() < 2500 {
            seeds.add("template", name, &[&[0][..], source.as_bytes()].concat());
        }
    }
    for (i, message) in
        ["", "<|im_end|>\n<|im_start|>system", "a <image> b </s>[INST]", "\u{fdd0}\u{fdd1}<im\u{fdd0}age>"].iter().enumerate()
    {
        seeds.add("template", &format!("message-{i}"), &[&[2 * i as u8 + 1][..], message.as_bytes()].concat());
    }
}

fn schemas(seeds: &mut Seeds) {
    let all = [
        r#"{"type":"object","properties":{"a":{"type":"integer","minimum":-3,"maximum":12},"b":{"enum":["x",null,1.5]}},"required":["a"],"additionalProperties":false}"#,
        r##"{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"number","exclusiveMinimum":0.5},"next":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/n"}]}},"required":["v"]}}}"##,
        r#"{"type":"array","prefixItems":[{"const":"x"}],"items":{"type":"string","pattern":"^[a-c]{2,4}$","maxLength":3},"minItems":1,"maxItems":4}"#,
        r#"{"oneOf":[{"type":"object","properties":{"kind":{"const":"x"}},"required":["kind"]},{"type":"object","properties":{"kind":{"const":"y"}},"required":["kind"]}]}"#,
        r#"{"allOf":[{"type":"integer","multipleOf":3},{"minimum":7}],"not":false}"#,
        r#"{"type":["string","null"],"format":"date-time","minLength":2}"#,
        r#"{"type":"object","minProperties":2,"maxProperties":3,"additionalProperties":{"type":"boolean"}}"#,
        r#"{"type":"object","patternProperties":{"^x":{"type":"integer"},"y$":{"minimum":3}},"propertyNames":{"maxLength":3},"additionalProperties":false}"#,
        r#"{"type":"object","properties":{"k":{"enum":["x","y"]},"v":{}},"required":["k"],"if":{"properties":{"k":{"const":"x"}}},"then":{"required":["v"]},"else":{"not":{"required":["v"]}}}"#,
        r#"{"type":"array","items":{"enum":[1,2,null]},"uniqueItems":true,"contains":{"const":2},"maxContains":1}"#,
        r#"{"type":"array","items":{"type":"integer"},"contains":{"minimum":5},"minContains":2,"maxItems":4}"#,
        r#"{"oneOf":[{"type":"integer"},{"type":"number","multipleOf":0.5}],"nullable":true}"#,
        r#"{"type":"string","pattern":"^(?!a)(?=.*\\d)\\w+\\b","format":"hostname","not":{"const":"1"}}"#,
        r#"{"type":"object","dependentRequired":{"a":["b"]},"dependentSchemas":{"b":{"properties":{"c":{"type":"null"}},"required":["c"]}},"properties":{"a":{},"b":{}}}"#,
        r#"{"allOf":[{"properties":{"a":{"type":"null"}}}],"unevaluatedProperties":{"type":"boolean"}}"#,
    ];
    for (i, schema) in all.iter().enumerate() {
        seeds.add("schema", &format!("text-{i}"), &[schema.as_bytes(), b"\0\x05\x31\x07\x44\x22\x60\x11\x0a"].concat());
    }
    for (i, bytes) in [
        &b"\x01\x06\x02\x12\x03\x01\x02\x05\x07"[..],
        b"\x02\x07\x03\x15\x04\x21\x08\x33\x02",
        b"\x03\x0b\x04\x17\x02\x05\x03\x04",
    ]
    .iter()
    .enumerate()
    {
        seeds.add("schema", &format!("made-{i}"), bytes);
    }
    let patterns = [
        ("^[a-z]{2,5}$", "abc"),
        ("\\d+|x?", "a1"),
        ("^(ab|c\"é)*x?$", "abx"),
        ("^[^\\s\"\\w]$", "-"),
        ("a{0}b{2,}?c", "bbc"),
        ("(?:a|b$)", "b"),
        ("^\\u00e9\\x41\\u{1F600}.\\/$", "éA\u{1f600}x/"),
        ("[\\d\\-_a-f]\\S\\D\\W", "1é-!"),
        ("(?<n>x|^y)\\cJ\\0", "x"),
        ("^(?!a)(?=.*b)\\w", "cb"),
        ("(?<=a|^b)c(?<!x)", "ac"),
        ("\\ba\\B|(?i:B)$", "ab"),
        ("^\\p{Lu}\\P{L}", "A1"),
    ];
    for (i, (pattern, text)) in patterns.iter().enumerate() {
        seeds.add("pattern", &i.to_string(), &[pattern.as_bytes(), b"\0", text.as_bytes(), b"\0\x05\x31\x07\x44\x22"].concat());
    }
}

fn pictures(seeds: &mut Seeds) {
    let names = [
        "alpha.png",
        "animated.gif",
        "animated.webp",
        "bits1.png",
        "cmyk.jpg",
        "grey.jpg",
        "grey_alpha.png",
        "lossless_alpha.webp",
        "lossy.webp",
        "palette.bmp",
        "palette.png",
        "plain.bmp",
        "progressive.jpg",
        "rgb420.jpg",
        "transparent.gif",
    ];
    for (i, name) in names.iter().enumerate() {
        seeds.add("picture", name, &[&[17 * i as u8][..], &golden(&format!("images/{name}"))].concat());
    }
}

/// All of them.
pub fn all() -> Vec<Seed> {
    let mut seeds = Seeds(Vec::new());
    files(&mut seeds);
    texts(&mut seeds);
    templates(&mut seeds);
    schemas(&mut seeds);
    pictures(&mut seeds);
    seeds.0
}
