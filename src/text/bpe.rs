//! Byte-level byte-pair encoding: `tokenizers`' model over this module's own pre-tokenizers.
//!
//! Only the `BPE` type is used, never `tokenizers`' JSON or its wrapper enums: they would link every model, normalizer and
//! decoder of that crate into the module.

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use super::pieces::{Kind, Pieces};
use super::pretokenize::{Family, PreTokenizer};
use crate::error::{Error, Result};

/// The longest word given to the model at once, in bytes: longer ones are cut, so that a hostile text cannot make one word of a
/// whole book. No piece comes near it.
const MAX_WORD: usize = 1 << 20;

/// The character that stands for each byte: printable Latin-1 for itself, the rest from U+0100 on in their order.
pub(super) fn byte_chars() -> [char; 256] {
    let mut table = ['\0'; 256];
    let mut next = 0x100;
    for byte in 0..=255u8 {
        table[usize::from(byte)] = match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap_or('\0')
            }
        };
    }
    table
}

/// A byte-level model.
#[derive(Debug)]
pub(super) struct ByteLevelBpe {
    model: BPE,
    pre: PreTokenizer,
    chars: [char; 256],
}

impl ByteLevelBpe {
    /// `merges` are pairs joined by one space, the most urgent first.
    pub(super) fn new(pieces: &Pieces, merges: Vec<String>, family: &Family) -> Result<Self> {
        let mut vocab = Vocab::with_capacity(pieces.len());
        // Without control tokens, so that plain text can never become one, whatever its words.
        for (id, text, kind) in pieces.iter() {
            if !text.is_empty() && !matches!(kind, Kind::Control | Kind::Unknown) {
                vocab.insert(text.to_owned(), id);
            }
        }
        // A merge of what is not in the vocabulary can never apply; the builder would refuse the whole list for it.
        let mut joined = String::new();
        let merges: Vec<(String, String)> = merges
            .into_iter()
            .filter_map(|merge| {
                // A space at the very start would belong to the left piece.
                let (at, _) = merge.char_indices().skip(1).find(|&(_, c)| c == ' ')?;
                let (left, right) = (&merge[..at], &merge[at + 1..]);
                joined.clear();
                joined.push_str(left);
                joined.push_str(right);
                let known = vocab.contains_key(left) && vocab.contains_key(right) && vocab.contains_key(&joined);
                known.then(|| (left.to_owned(), right.to_owned()))
            })
            .collect();
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges)
            // The crate's cache is per thread and outlives the model.
            .cache_capacity(0)
            .ignore_merges(family.whole_words)
            .build()
            .map_err(|e| Error::invalid_gguf(format!("The vocabulary's merges make no sense ({e}). Download the file again.")))?;
        Ok(Self { model, pre: PreTokenizer::new(family)?, chars: byte_chars() })
    }

    /// Appends the tokens of a text.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut spelled = String::new();
        self.pre.split(text, &mut |word| {
            for chunk in word.as_bytes().chunks(MAX_WORD) {
                spelled.clear();
                spelled.extend(chunk.iter().map(|&byte| self.chars[usize::from(byte)]));
                // The model fails only where an unknown token is set and missing; none is set.
                out.extend(self.model.tokenize(&spelled).unwrap_or_default().iter().map(|token| token.id));
            }
        });
    }
}
