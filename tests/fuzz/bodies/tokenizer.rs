//! Vocabularies of any content, and texts in them.
//!
//! * A vocabulary is taken or refused by the file's fault; ids are within it.
//! * What a stream decoder gives piece by piece is what decoding gives at once.
//! * Where every byte has a piece, what was encoded decodes to the same text.

use llava_web::gguf::{Metadata, Value};
use llava_web::text::{Special, StreamDecoder, Tokenizer};

use super::choices::Choices;
use super::{expect_code, memory, models, text};

const PRE: &[&str] = &["llama-bpe", "gpt-2", "qwen2", "deepseek-llm", "tekken", "default", "gpt-4o", "bloom", "unheard-of"];

/// The body.
pub fn run(data: &[u8]) {
    memory::within(64 << 20, || vocabulary(data));
}

fn vocabulary(data: &[u8]) {
    let mut choices = Choices::new(data);
    let flags = choices.byte();
    let (is_spm, has_bytes, is_plain) = (flags & 1 == 0, flags & 2 == 0, flags & 4 == 0);
    let mut pieces: Vec<String> = Vec::new();
    let mut kinds: Vec<i64> = Vec::new();
    let mut add = |piece: String, kind: i64| {
        pieces.push(piece);
        kinds.push(kind);
    };
    if is_spm {
        add("<unk>".into(), 2);
        add("<s>".into(), 3);
        add("</s>".into(), 3);
    }
    if has_bytes {
        (0..=255u8).for_each(|b| if is_spm { add(format!("<0x{b:02X}>"), 6) } else { add(models::byte_char(b).into(), 1) });
        if is_spm {
            add("▁".into(), 1);
        }
    }
    let pre = *choices.one_of(PRE);
    let n_more = choices.below(24);
    let mut merges = Vec::new();
    for _ in 0..n_more {
        let piece = text(choices.bytes(12));
        let kind = if is_plain { 1 } else { choices.below(8) as i64 };
        if !is_spm {
            let at = piece.char_indices().nth(1).map_or(piece.len(), |(at, _)| at);
            merges.push(format!("{} {}", &piece[..at], &piece[at..]));
        }
        // Twice the same is a fault of vocabularies that is met in the field; but then it is not said which id a text has.
        add(piece, kind);
    }
    let n_vocab = pieces.len();
    let mut metadata = Metadata::default();
    let mut set = |key: &str, value: Value| metadata.insert(format!("tokenizer.ggml.{key}"), value);
    set("model", Value::String(if is_spm { "llama" } else { "gpt2" }.into()));
    set("pre", Value::String(pre.into()));
    set("scores", Value::Floats((0..n_vocab).map(|i| score(i, flags)).collect()));
    set("token_type", Value::Ints(kinds));
    set("merges", Value::Strings(merges));
    set("tokens", Value::Strings(pieces));
    if flags & 8 != 0 {
        let key = *choices.one_of(&["bos_token_id", "eos_token_id", "eot_token_id"]);
        set(key, Value::Uint(choices.below(300) as u64));
        set("add_bos_token", Value::Bool(flags & 16 != 0));
        set("add_space_prefix", Value::Bool(flags & 32 != 0));
    }
    let tokenizer = match Tokenizer::from_metadata(&mut metadata) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return expect_code(&error, &["invalid_gguf", "unsupported_architecture"]),
    };
    assert_eq!(tokenizer.n_vocab(), n_vocab);
    let text = text(choices.rest());
    for special in [Special::Plain, Special::Parse] {
        let ids = tokenizer.encode(&text, special, false);
        assert!(ids.iter().all(|&id| (id as usize) < n_vocab), "{ids:?} of {n_vocab}");
        let decoded = tokenizer.decode(&ids, false);
        let mut decoder = StreamDecoder::new();
        let mut streamed: String = ids.iter().map(|&id| decoder.push(&tokenizer, id)).collect();
        streamed += &decoder.flush();
        assert_eq!(streamed, decoded);
        // U+2581 is the space of SentencePiece, so it comes back as one.
        let is_whole = has_bytes && is_plain && special == Special::Plain && !(is_spm && text.contains('▁'));
        if is_whole {
            assert_eq!(decoded, text);
        }
    }
}

/// Scores in some order, with ties, and now and then what is no number.
fn score(i: usize, flags: u8) -> f32 {
    match flags >> 6 {
        0 => -(i as f32),
        1 => i as f32,
        2 => 0.0,
        _ if i % 7 == 3 => f32::NAN,
        _ => f32::NEG_INFINITY,
    }
}
