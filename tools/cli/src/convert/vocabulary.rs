//! The tokenizer of a folder, as GGUF's metadata has it.

use std::collections::BTreeMap;
use std::path::Path;

use llava_web::gguf::{Metadata as Read, Value as ReadValue};
use llava_web::text::{Special, Tokenizer};
use serde_json::Value as Json;

use super::json;
use super::writer::{Metadata, Value};
use crate::error::{Error, Result};

/// GGUF's kinds of pieces.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;
/// The score of pieces that no merge makes.
const NO_SCORE: f32 = -1000.0;

/// Ways of cutting words that are tried, by the names in `tokenizer.ggml.pre`; where two agree the first is taken.
const WAYS: [&str; 9] = ["qwen2", "llama-bpe", "smollm", "gpt-2", "qwen35", "tekken", "gpt-4o", "deepseek-llm", "default"];
/// A text in which all those ways differ.
const PROBE: &str = "Hello, world! It's 12345 o'clock: we'LL see…\n\n\n  Zwölf Boxkämpfer\t\tjagen   Viktor 3,14159\r\n \n HTTPServer isn't camelCase x²+y²=z² \
    (foo_bar)/baz.qux() 中文字符 是好的 देवनागरी ไทย עברית العربية 🙂🙃 \u{200b}— «quoted» `code` $9.99 <tag> ^~|\n\tif x == 10: return y\n";

/// Pieces under construction.
struct Pieces {
    texts: Vec<String>,
    scores: Vec<f32>,
    kinds: Vec<i32>,
}

impl Pieces {
    fn new(n: usize) -> Self {
        let texts = (0..n).map(|i| format!("[PAD{i}]")).collect();
        Self { texts, scores: vec![NO_SCORE; n], kinds: vec![UNUSED; n] }
    }

    fn set(&mut self, id: usize, text: &str, score: f32, kind: i32) -> Result<()> {
        let n = self.texts.len();
        if id >= n {
            return Err(Error::new(format!(
                "The tokenizer has the token '{text}' with the number {id}, but the model embeds {n}. Do the tokenizer's files belong to the \
                 model?"
            )));
        }
        self.texts[id] = text.into();
        self.scores[id] = score;
        self.kinds[id] = kind;
        Ok(())
    }
}

/// Whether a token is structure by its spelling, whatever its file says.
fn looks_special(text: &str) -> bool {
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text)
        || (text.starts_with("<|") && text.ends_with("|>"))
        || (text.starts_with("<｜") && text.ends_with("｜>"))
}

/// An added token.
struct Added {
    id: usize,
    text: String,
    is_special: bool,
}

/// The added tokens that the folder's files list, by their ids.
fn added_tokens(folder: &Path, tokenizer: &Json, config: &Json) -> Result<BTreeMap<usize, Added>> {
    let mut found = BTreeMap::new();
    let path = folder.join("added_tokens.json");
    if path.exists() {
        for (text, id) in json(&path)?.as_object().into_iter().flatten() {
            if let Some(id) = id.as_u64() {
                let id = id as usize;
                found.insert(id, Added { id, text: text.clone(), is_special: looks_special(text) });
            }
        }
    }
    for token in tokenizer["added_tokens"].as_array().into_iter().flatten() {
        if let (Some(id), Some(text)) = (token["id"].as_u64(), token["content"].as_str()) {
            let is_special = token["special"].as_bool() == Some(true) || looks_special(text);
            found.insert(id as usize, Added { id: id as usize, text: text.into(), is_special });
        }
    }
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        if let (Ok(id), Some(text)) = (id.parse(), token["content"].as_str()) {
            let is_special = token["special"].as_bool() == Some(true) || looks_special(text);
            found.insert(id, Added { id, text: text.into(), is_special });
        }
    }
    Ok(found)
}

/// Adds `tokenizer.*` to the metadata of a model that embeds `n_vocab` tokens; gives back what a person should know.
pub fn add(folder: &Path, model_config: &Json, n_vocab: usize, metadata: &mut Metadata) -> Result<Vec<String>> {
    let optional = |name: &str| {
        let path = folder.join(name);
        if path.exists() { json(&path) } else { Ok(Json::Null) }
    };
    let tokenizer = optional("tokenizer.json")?;
    let config = optional("tokenizer_config.json")?;
    let added = added_tokens(folder, &tokenizer, &config)?;
    let spm = folder.join("tokenizer.model");
    let has_bytes = tokenizer["model"]["byte_fallback"].as_bool() == Some(true);
    if spm.exists() {
        let bytes = std::fs::read(&spm).map_err(|e| Error::of_file("read", &spm, &e))?;
        let mut pieces = Pieces::new(n_vocab);
        let (all, has_prefix) = sentencepiece(&bytes)
            .ok_or_else(|| Error::new(format!("'{}' is no sound SentencePiece model. Download it again.", spm.display())))?;
        for (id, (text, score, kind)) in all.iter().enumerate() {
            pieces.set(id, text, *score, *kind)?;
        }
        add_spm(pieces, &added, has_prefix, metadata)?;
    } else if has_bytes {
        let (pieces, has_prefix) = from_merges(&tokenizer, n_vocab)?;
        add_spm(pieces, &added, has_prefix, metadata)?;
    } else if tokenizer["model"]["type"].as_str() == Some("BPE") || tokenizer["model"]["merges"].is_array() {
        add_bpe(&folder.join("tokenizer.json"), &tokenizer, &added, n_vocab, metadata)?;
    } else {
        return Err(Error::new(format!(
            "'{}' has no tokenizer that can be converted: neither tokenizer.model nor a tokenizer.json with byte-pair merges.",
            folder.display()
        )));
    }
    special_tokens(&config, model_config, &added, metadata)?;
    let mut notes = Vec::new();
    match chat_template(folder, &config)? {
        Some(template) => metadata.set("tokenizer.chat_template", Value::Text(template)),
        None => notes.push("The folder has no chat template; the reader will choose one.".into()),
    }
    Ok(notes)
}

/// A piece of a SentencePiece model: its text, its score, its kind.
type Piece = (String, f32, i32);

/// The pieces of a SentencePiece model (its protocol buffer's field 1: text, score, kind), and whether texts begin with a space (field 3 of
/// the normalizer, field 3).
fn sentencepiece(bytes: &[u8]) -> Option<(Vec<Piece>, bool)> {
    let mut pieces = Vec::new();
    let mut has_prefix = true;
    for (field, content) in Fields(bytes) {
        match (field, content?) {
            (1, Content::Bytes(piece)) => {
                let (mut text, mut score, mut kind) = (String::new(), 0.0, NORMAL);
                for (field, content) in Fields(piece) {
                    match (field, content?) {
                        (1, Content::Bytes(bytes)) => text = String::from_utf8(bytes.to_vec()).ok()?,
                        (2, Content::Fixed32(bits)) => score = f32::from_bits(bits),
                        (3, Content::Number(n)) => kind = i32::try_from(n).ok().filter(|n| (NORMAL..=BYTE).contains(n))?,
                        _ => {}
                    }
                }
                pieces.push((text, score, kind));
            }
            (3, Content::Bytes(normalizer)) => {
                for (field, content) in Fields(normalizer) {
                    if let (3, Content::Number(n)) = (field, content?) {
                        has_prefix = n != 0;
                    }
                }
            }
            _ => {}
        }
    }
    (!pieces.is_empty()).then_some((pieces, has_prefix))
}

/// What a field of a protocol buffer holds.
enum Content<'a> {
    Number(u64),
    Fixed32(u32),
    Fixed64,
    Bytes(&'a [u8]),
}

/// The fields of a protocol buffer in their order; `None` ends a damaged one.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            n |= u64::from(byte & 127) << shift;
            if byte & 128 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn field(&mut self) -> Option<(u64, Content<'a>)> {
        let key = self.number()?;
        let content = match key & 7 {
            0 => Content::Number(self.number()?),
            1 => self.take(8).map(|_| Content::Fixed64)?,
            2 => {
                let n = usize::try_from(self.number()?).ok()?;
                Content::Bytes(self.take(n)?)
            }
            5 => Content::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, content))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Option<Content<'a>>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        match self.field() {
            Some((field, content)) => Some((field, Some(content))),
            None => {
                self.0 = &[];
                Some((0, None))
            }
        }
    }
}

/// SentencePiece's pieces of a `tokenizer.json` that was made of them. It keeps the order of merges instead of scores; a score is then minus the
/// rank of the first merge that makes the piece, which gives the same merges in the same order.
fn from_merges(tokenizer: &Json, n_vocab: usize) -> Result<(Pieces, bool)> {
    let mut pieces = Pieces::new(n_vocab);
    let mut ranks = BTreeMap::new();
    for (rank, (left, right)) in merges(tokenizer)?.into_iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    let unknown = tokenizer["model"]["unk_token"].as_str();
    for (text, id) in vocabulary(tokenizer)? {
        let is_byte = text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
        let (score, kind) = match ranks.get(text) {
            _ if Some(text) == unknown => (0.0, UNKNOWN),
            _ if is_byte => (0.0, BYTE),
            Some(rank) => (-(*rank as f32), NORMAL),
            // A single character, or what nothing makes.
            None => (-(ranks.len() as f32), NORMAL),
        };
        pieces.set(id, text, score, kind)?;
    }
    // A normalizer that prepends, or a pre-tokenizer that does.
    let says = |part: &Json| {
        let text = part.to_string();
        text.contains("Prepend") || text.contains(r#""prepend_scheme":"first""#) || text.contains(r#""prepend_scheme":"always""#)
    };
    Ok((pieces, says(&tokenizer["normalizer"]) || says(&tokenizer["pre_tokenizer"])))
}

fn vocabulary(tokenizer: &Json) -> Result<Vec<(&str, usize)>> {
    let all = tokenizer["model"]["vocab"].as_object().ok_or_else(|| Error::new("tokenizer.json has no vocabulary"))?;
    all.iter()
        .map(|(text, id)| id.as_u64().map(|id| (text.as_str(), id as usize)))
        .collect::<Option<_>>()
        .ok_or_else(|| Error::new("tokenizer.json gives a token a number that is none"))
}

fn merges(tokenizer: &Json) -> Result<Vec<(&str, &str)>> {
    let all = tokenizer["model"]["merges"].as_array().ok_or_else(|| Error::new("tokenizer.json has no merges"))?;
    all.iter()
        .map(|merge| match merge {
            Json::String(text) => text.split_once(' '),
            pair => Some((pair[0].as_str()?, pair[1].as_str()?)),
        })
        .collect::<Option<_>>()
        .ok_or_else(|| Error::new("tokenizer.json has a merge that is no pair"))
}

fn put(pieces: Pieces, with_scores: bool, metadata: &mut Metadata) {
    metadata.set("tokenizer.ggml.tokens", Value::Texts(pieces.texts));
    if with_scores {
        metadata.set("tokenizer.ggml.scores", Value::Floats(pieces.scores));
    }
    metadata.set("tokenizer.ggml.token_type", Value::Ints(pieces.kinds));
}

fn add_spm(mut pieces: Pieces, added: &BTreeMap<usize, Added>, has_prefix: bool, metadata: &mut Metadata) -> Result<()> {
    for Added { id, text, is_special } in added.values() {
        let (text, kind) = if *is_special { (text.clone(), CONTROL) } else { (text.replace('▁', " "), USER_DEFINED) };
        pieces.set(*id, &text, NO_SCORE, kind)?;
    }
    metadata.set("tokenizer.ggml.model", "llama");
    metadata.set("tokenizer.ggml.pre", "default");
    put(pieces, true, metadata);
    if !has_prefix {
        metadata.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    }
    Ok(())
}

fn add_bpe(path: &Path, tokenizer: &Json, added: &BTreeMap<usize, Added>, n_vocab: usize, metadata: &mut Metadata) -> Result<()> {
    let mut pieces = Pieces::new(n_vocab);
    for (text, id) in vocabulary(tokenizer)? {
        pieces.set(id, text, 0.0, NORMAL)?;
    }
    for Added { id, text, is_special } in added.values() {
        pieces.set(*id, text, 0.0, if *is_special { CONTROL } else { USER_DEFINED })?;
    }
    let merges: Vec<String> = merges(tokenizer)?.into_iter().map(|(a, b)| format!("{a} {b}")).collect();
    let pre = way_of_cutting(path, &pieces, &merges)?;
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", pre);
    put(pieces, false, metadata);
    metadata.set("tokenizer.ggml.merges", Value::Texts(merges));
    Ok(())
}

/// The name of the way in which a tokenizer cuts texts into words: the one with which the engine makes the same tokens of a text as the
/// original does.
fn way_of_cutting(path: &Path, pieces: &Pieces, merges: &[String]) -> Result<&'static str> {
    let original = tokenizers::Tokenizer::from_file(path).map_err(|e| Error::of_file("read", path, &e))?;
    let expected = original.encode(PROBE, false).map_err(|e| Error::new(format!("tokenizer.json cannot encode: {e}")))?;
    for way in WAYS {
        let mut metadata = Read::default();
        metadata.insert("tokenizer.ggml.model", ReadValue::String("gpt2".into()));
        metadata.insert("tokenizer.ggml.pre", ReadValue::String(way.into()));
        metadata.insert("tokenizer.ggml.tokens", ReadValue::Strings(pieces.texts.clone()));
        metadata.insert("tokenizer.ggml.token_type", ReadValue::Ints(pieces.kinds.iter().map(|k| i64::from(*k)).collect()));
        metadata.insert("tokenizer.ggml.merges", ReadValue::Strings(merges.to_vec()));
        if Tokenizer::from_metadata(&mut metadata)?.encode(PROBE, Special::Plain, false) == expected.get_ids() {
            return Ok(way);
        }
    }
    Err(Error::new(format!(
        "'{}' cuts texts into words in a way that this program does not know; it tried {}. Convert with llama.cpp's convert_hf_to_gguf.py.",
        path.display(),
        WAYS.join(", ")
    )))
}

/// The numbers of the tokens with a meaning, and what stands around a text.
fn special_tokens(config: &Json, model: &Json, added: &BTreeMap<usize, Added>, metadata: &mut Metadata) -> Result<()> {
    let text_config = if model["text_config"].is_object() { &model["text_config"] } else { model };
    for (name, key) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
        let said = &config[format!("{name}_token")];
        let text = said.as_str().or(said["content"].as_str());
        let of_text = text.and_then(|text| added.values().find(|a| a.text == text)).map(|a| a.id as u64);
        // Some list several ends; the first is the usual one.
        let of_model = [model, text_config].iter().find_map(|c| {
            let id = &c[format!("{name}_token_id")];
            id.as_u64().or(id[0].as_u64())
        });
        if let Some(id) = of_text.or(of_model) {
            metadata.u32(format!("tokenizer.ggml.{key}_token_id"), id as usize)?;
        }
    }
    for name in ["bos", "eos"] {
        if let Some(is) = config[format!("add_{name}_token")].as_bool() {
            metadata.set(format!("tokenizer.ggml.add_{name}_token"), Value::Bool(is));
        }
    }
    Ok(())
}

/// The chat template: a file of its own, or the configuration's, of several the one called default.
fn chat_template(folder: &Path, config: &Json) -> Result<Option<String>> {
    let path = folder.join("chat_template.jinja");
    if path.exists() {
        return std::fs::read_to_string(&path).map(Some).map_err(|e| Error::of_file("read", &path, &e));
    }
    let of = |json: &Json| match json {
        Json::String(text) => Some(text.clone()),
        Json::Array(all) => {
            let named = all.iter().find(|t| t["name"].as_str() == Some("default")).or(all.first());
            named.and_then(|t| t["template"].as_str()).map(str::to_string)
        }
        _ => None,
    };
    for file in ["chat_template.json", "processor_config.json"] {
        let path = folder.join(file);
        // A processor's knows pictures; the tokenizer's may not.
        if path.exists()
            && let Some(template) = of(&json(&path)?["chat_template"])
        {
            return Ok(Some(template));
        }
    }
    Ok(of(&config["chat_template"]))
}
