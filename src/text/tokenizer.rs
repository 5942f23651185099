//! Text to tokens and back, from what a GGUF file says about its vocabulary.

use std::hash::Hasher;

use super::bpe::{ByteLevelBpe, byte_chars};
use super::pieces::{Kind, Pieces};
use super::pretokenize;
use super::special::Finder;
use super::spm::{SPACE, Spm, byte_of};
use crate::error::{Error, Result};
use crate::gguf::metadata::{Metadata, Value};

/// What to do with the texts of special tokens in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// They are ordinary text. For what people typed.
    Plain,
    /// They are the tokens. For templates and for prompts that the caller wrote in full.
    Parse,
}

#[derive(Debug)]
enum Model {
    Spm(Spm),
    Bpe(Box<ByteLevelBpe>),
}

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    pieces: Pieces,
    model: Model,
    /// Found in every text.
    always: Finder,
    /// Found where special tokens are parsed; a superset of `always`.
    parsed: Finder,
    /// From the stand-in characters of byte-level pieces to bytes: the entry of U+0000 … U+0143.
    byte_of_char: Box<[Option<u8>]>,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    add_bos: bool,
    /// Whether each stretch of text begins with a space of its own.
    space_prefix: bool,
    /// Whether special tokens swallow the white space after them.
    swallows_space: bool,
    /// Ascending.
    ends: Vec<u32>,
    /// Structure that is printed all the same. Ascending.
    printed: Vec<u32>,
    warning: Option<String>,
}

/// Texts that end an answer in one model family or another.
const END_TEXTS: &[&str] = &[
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|eom|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<end▁of▁sentence>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
    "<|endofturn|>",
    "<|user_end|>",
    "[EOT]",
    "[EOS]",
    "< EOT >",
];

/// Of [`END_TEXTS`], those that are ordinary words of some vocabularies and so count only as control tokens.
fn ends_answer(text: &str, kind: Kind) -> bool {
    END_TEXTS.contains(&text) && (kind != Kind::Normal || text.starts_with("<|") || text == "<end_of_turn>")
}

/// Whether a piece is a tag of the documents that SmolDocling and Granite-Docling write, like `<loc_12>`, `</table>` or `<_Python_>`, and not
/// one of the marks that stand in a prompt.
fn is_document_tag(text: &str) -> bool {
    const MARKS: [&str; 8] = ["s", "unk", "pad", "eos", "bos", "image", "fake_token_around_image", "end_of_utterance"];
    let Some(name) = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')) else { return false };
    let name = name.strip_prefix('/').unwrap_or(name);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_+#.-".contains(c));
    is_name && !MARKS.contains(&name) && !name.starts_with("row_") && !name.starts_with("global-img")
}

/// Whether a piece always means structure: control tokens, and others spelled like `<|user|>` or `[INST]`, which some
/// converters file under ordinary added text. Such a piece never comes out of plain text.
/// One character alone is none: there would be no way to write it.
fn is_marker(text: &str, kind: Kind) -> bool {
    if text.chars().nth(1).is_none() {
        return false;
    }
    match kind {
        Kind::Control | Kind::Unknown => true,
        Kind::UserDefined => {
            (text.starts_with("<|") && text.ends_with("|>"))
                || (text.starts_with('[')
                    && text.ends_with(']')
                    && text.len() > 2
                    && text[1..text.len() - 1].bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b == b'/'))
        }
        _ => false,
    }
}

/// The id under `key`: `None` where the file does not say, or says −1 or the 2³²−1 that some converters write for "none".
fn token_id(metadata: &Metadata, key: &str, n_vocab: usize) -> Result<Option<u32>> {
    match metadata.get(key) {
        None => Ok(None),
        Some(_) if metadata.int(key) == Some(-1) || metadata.uint(key) == Some(u64::from(u32::MAX)) => Ok(None),
        Some(_) => match metadata.uint(key) {
            Some(id) if id < n_vocab as u64 => Ok(u32::try_from(id).ok()),
            _ => Err(Error::invalid_gguf(format!(
                "The file's '{key}' is not a token of its vocabulary of {n_vocab}. The file is damaged; download it again."
            ))),
        },
    }
}

impl Tokenizer {
    /// Reads `tokenizer.ggml.*`. Takes the pieces, their scores and kinds and the merges out of the metadata, so that they are not
    /// held twice.
    ///
    /// # Errors
    /// `invalid_gguf` where something is missing or contradictory; `unsupported_architecture` for a kind of tokenizer that this
    /// program does not have.
    pub fn from_metadata(metadata: &mut Metadata) -> Result<Self> {
        let kind = metadata.str("tokenizer.ggml.model").ok_or_else(|| {
            Error::invalid_gguf(
                "The file has no tokenizer ('tokenizer.ggml.model'). Choose the language model's file, not the vision file.",
            )
        })?;
        let spm = match kind {
            "llama" => true,
            "gpt2" => false,
            other => {
                return Err(Error::unsupported_architecture(format!(
                    "The model's tokenizer is of the kind '{other}'; this program has 'llama' (SentencePiece) and 'gpt2' \
                     (byte-level BPE). Choose a model of the LLaMA, Mistral, Qwen, Phi or Gemma families."
                )));
            }
        };
        let missing = |key: &str| {
            Error::invalid_gguf(format!(
                "The file's metadata lacks '{key}', without which there is no tokenizer. Download it again."
            ))
        };
        let tokens = metadata.take_strings("tokenizer.ggml.tokens").ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        let mut pieces = Pieces::new(tokens, metadata.ints("tokenizer.ggml.token_type").unwrap_or(&[]))?;
        let n_vocab = pieces.len();

        let id = |name: &str| token_id(metadata, &format!("tokenizer.ggml.{name}_token_id"), n_vocab);
        let in_vocab = |id: u32| Some(id).filter(|&id| (id as usize) < n_vocab);
        let bos = if spm { id("bos")?.or(in_vocab(1)) } else { id("bos")? };
        let eos = if spm { id("eos")?.or(in_vocab(2)) } else { id("eos")? };
        let unknown = if spm { id("unknown")?.or(in_vocab(0)) } else { None };
        let (mut eot, eom) = (id("eot")?, id("eom")?);

        let mut ends: Vec<u32> = vec![];
        let mut has_llama3_marks = 0;
        for (id, text, kind) in pieces.iter() {
            if text.starts_with(['<', '[', '_']) {
                if ends_answer(text, kind) {
                    ends.push(id);
                    if eot.is_none() && matches!(text, "<|eot_id|>" | "<|im_end|>" | "<|end|>" | "<end_of_turn>") {
                        eot = Some(id);
                    }
                }
                has_llama3_marks += usize::from(matches!(text, "<|begin_of_text|>" | "<|eot_id|>"));
            }
        }
        // What ends an answer is structure, even where a converter filed it under ordinary text.
        ends.iter().for_each(|&id| pieces.set_kind(id, Kind::Control));
        ends.extend([eos, eot, eom].into_iter().flatten());
        ends.sort_unstable();
        ends.dedup();

        // The tags of a document are the answer of a model that writes them, though converters file them under structure.
        let writes_tags = pieces.iter().any(|(_, text, _)| text == "<doctag>");
        let printed: Vec<u32> = match writes_tags {
            true => pieces
                .iter()
                .filter(|(_, text, kind)| *kind == Kind::Control && is_document_tag(text))
                .map(|(id, ..)| id)
                .collect(),
            false => Vec::new(),
        };

        let mut warning = None;
        let (model, default_bos) = if spm {
            let Some(Value::Floats(scores)) = metadata.get("tokenizer.ggml.scores") else {
                return Err(missing("tokenizer.ggml.scores"));
            };
            if scores.len() != n_vocab {
                return Err(Error::invalid_gguf(format!(
                    "The vocabulary has {n_vocab} pieces but {} scores. The file is damaged; download it again.",
                    scores.len()
                )));
            }
            (Model::Spm(Spm::new(&pieces, scores.clone(), unknown)?), true)
        } else {
            let name = metadata.str("tokenizer.ggml.pre");
            let family = name.and_then(pretokenize::find);
            // Wrong word boundaries change few tokens of common text, and new names appear with each new model: going on with a
            // warning serves better than refusing. Files from before the key existed were all made for GPT-2's or LLaMA 3's.
            let fallback = if has_llama3_marks == 2 { "llama-bpe" } else { "gpt-2" };
            if family.is_none() {
                let said = name.map_or("does not say".into(), |name| format!("says '{name}', which is unknown here,"));
                warning = Some(format!(
                    "The file {said} how to cut text into words; cutting as '{fallback}' does. Answers may be slightly worse."
                ));
            }
            let family = family
                .or_else(|| pretokenize::find(fallback))
                .ok_or_else(|| Error::internal(format!("The pre-tokenizer '{fallback}' is gone.")))?;
            let merges = metadata.take_strings("tokenizer.ggml.merges").ok_or_else(|| missing("tokenizer.ggml.merges"))?;
            (Model::Bpe(Box::new(ByteLevelBpe::new(&pieces, merges, family)?)), family.add_bos)
        };

        for key in ["tokenizer.ggml.scores", "tokenizer.ggml.token_type"] {
            if metadata.contains(key) {
                metadata.insert(key, Value::Nested(n_vocab));
            }
        }
        let found = |wanted: &dyn Fn(&str, Kind) -> bool| {
            let ids: Vec<u32> = pieces.iter().filter(|&(_, text, kind)| wanted(text, kind)).map(|(id, ..)| id).collect();
            Finder::new(&pieces, ids.into_iter())
        };
        let always = found(&|text, kind| kind == Kind::UserDefined && !is_marker(text, kind));
        let parsed = found(&|text, kind| kind == Kind::UserDefined || is_marker(text, kind));
        let mut byte_of_char = vec![None; 0x144].into_boxed_slice();
        for (byte, c) in (0..=u8::MAX).zip(byte_chars()) {
            byte_of_char[c as usize] = Some(byte);
        }
        let name = metadata.str("general.name").unwrap_or("").to_ascii_lowercase();
        Ok(Self {
            model,
            always,
            parsed,
            byte_of_char,
            bos,
            eos,
            eot,
            add_bos: metadata.bool("tokenizer.ggml.add_bos_token").unwrap_or(default_bos),
            space_prefix: spm && metadata.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true),
            swallows_space: spm && (name.contains("phi-3") || name.contains("phi3")),
            ends,
            printed,
            warning,
            pieces,
        })
    }

    /// The number of tokens.
    pub fn n_vocab(&self) -> usize {
        self.pieces.len()
    }

    /// A doubt about the file that the person should hear of.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Whether the model wants texts to begin with [`Self::bos`].
    pub fn add_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that ends a turn of a conversation.
    pub fn eot(&self) -> Option<u32> {
        self.eot
    }

    /// Whether the model ends its answer with this token.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// A token as the vocabulary spells it; `None` where there is no such id.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.pieces.get(id)
    }

    /// Whether a token is structure and not text: it prints as nothing.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.pieces.kind(id), Kind::Control | Kind::Unknown)
    }

    /// Whether a token is a piece of what people and models write: no structure, whatever a converter filed it under, and not reserved.
    pub fn is_text(&self, id: u32) -> bool {
        let (text, kind) = (self.pieces.get(id).unwrap_or(""), self.pieces.kind(id));
        !text.is_empty() && kind != Kind::Unused && !self.is_special(id) && !is_marker(text, kind)
    }

    /// The token that the vocabulary spells so. Looks at each: not for use on every token of a text.
    pub fn find_token(&self, text: &str) -> Option<u32> {
        self.pieces.iter().find(|&(_, piece, _)| piece == text).map(|(id, ..)| id)
    }

    /// The texts that [`Special::Parse`] takes as tokens and [`Special::Plain`] does not.
    pub(super) fn markers(&self) -> impl Iterator<Item = &str> {
        self.parsed.ids().iter().filter_map(|&id| self.pieces.get(id).filter(|text| is_marker(text, self.pieces.kind(id))))
    }

    /// The tokens of a text. With `bos` they begin with the BOS token if the model wants it ([`Self::add_bos`]).
    pub fn encode(&self, text: &str, special: Special, bos: bool) -> Vec<u32> {
        let mut out = vec![];
        if bos && self.add_bos() {
            out.extend(self.bos);
        }
        self.encode_escaped(text, special, None, true, &mut out);
        out
    }

    /// Appends the tokens of a text in which the character `escape`, where given, keeps special tokens apart: it is taken out once
    /// they are found. `begins` says whether it begins a text, and so gets the space that a SentencePiece vocabulary puts there.
    pub(super) fn encode_escaped(&self, text: &str, special: Special, escape: Option<char>, begins: bool, out: &mut Vec<u32>) {
        let mut begins = begins;
        self.encode_stretches(text, special, escape, &mut begins, out);
    }

    /// `after_special` says whether a special token or the beginning precedes: a stretch of text there gets its space.
    fn encode_stretches(&self, text: &str, special: Special, escape: Option<char>, after_special: &mut bool, out: &mut Vec<u32>) {
        let finder = if special == Special::Parse { &self.parsed } else { &self.always };
        let mut at = 0;
        while at < text.len() {
            let found = finder.find(&self.pieces, text, at);
            let plain = &text[at..found.as_ref().map_or(text.len(), |(_, range)| range.start)];
            if !plain.is_empty() {
                match escape.filter(|&escape| plain.contains(escape)) {
                    Some(escape) => {
                        let plain: String = plain.chars().filter(|&c| c != escape).collect();
                        self.encode_stretches(&plain, Special::Plain, None, after_special, out);
                    }
                    None => {
                        self.encode_plain(plain, *after_special, out);
                        *after_special = false;
                    }
                }
            }
            let Some((id, range)) = found else { break };
            out.push(id);
            *after_special = true;
            at = range.end;
            if self.swallows_space && is_marker(self.pieces.get(id).unwrap_or(""), self.pieces.kind(id)) && Some(id) != self.bos {
                at += text[at..].len() - text[at..].trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']).len();
            }
        }
    }

    fn encode_plain(&self, text: &str, first: bool, out: &mut Vec<u32>) {
        match &self.model {
            Model::Bpe(bpe) => bpe.encode(text, out),
            Model::Spm(spm) => {
                let mut escaped = String::with_capacity(text.len() + text.len() / 2 + SPACE.len_utf8());
                if first && self.space_prefix {
                    escaped.push(SPACE);
                }
                escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
                spm.encode(&self.pieces, &escaped, out);
            }
        }
    }

    /// Hashes what every id stands for.
    pub fn fingerprint(&self, hasher: &mut impl Hasher) {
        for id in (0u32..).take(self.n_vocab()) {
            let text = self.pieces.get(id).unwrap_or_default();
            hasher.write(&(text.len() as u64).to_le_bytes());
            hasher.write(text.as_bytes());
        }
    }

    /// Appends the bytes that a token prints as: nothing for an id beyond the vocabulary, and for a special token unless
    /// `unparse_special` or where it is a tag of the documents that the model writes.
    pub fn token_bytes(&self, id: u32, unparse_special: bool, out: &mut Vec<u8>) {
        let Some(text) = self.pieces.get(id) else { return };
        match (self.pieces.kind(id), &self.model) {
            (Kind::Control | Kind::Unknown, _) => {
                if unparse_special || self.printed.binary_search(&id).is_ok() {
                    out.extend_from_slice(text.as_bytes());
                }
            }
            (Kind::UserDefined, _) => out.extend_from_slice(text.as_bytes()),
            (_, Model::Bpe(_)) => {
                for c in text.chars() {
                    match self.byte_of_char.get(c as usize).copied().flatten() {
                        Some(byte) => out.push(byte),
                        None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
            }
            (Kind::Byte, Model::Spm(_)) => match byte_of(text) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(text.as_bytes()),
            },
            (_, Model::Spm(_)) => {
                for c in text.chars() {
                    out.extend_from_slice((if c == SPACE { ' ' } else { c }).encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
    }

    /// Whether a leading space of this token, the first of a text, is the tokenizer's own and not the text's.
    pub(super) fn begins_with_own_space(&self, id: u32) -> bool {
        self.space_prefix && self.pieces.kind(id) == Kind::Normal
    }

    /// The text of tokens. The space that the tokenizer put before the first is taken away; bytes that are not UTF-8 become
    /// U+FFFD. Special tokens print as their text where `unparse_special`, else as nothing.
    pub fn decode(&self, ids: &[u32], unparse_special: bool) -> String {
        let mut bytes = vec![];
        for (i, &id) in ids.iter().enumerate() {
            let start = bytes.len();
            self.token_bytes(id, unparse_special, &mut bytes);
            if i == 0 && self.begins_with_own_space(id) && bytes.get(start) == Some(&b' ') {
                bytes.remove(start);
            }
        }
        String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::is_document_tag;

    #[test]
    fn tags_of_documents_are_told_from_marks_of_prompts() {
        for tag in ["<doctag>", "</doctag>", "<loc_123>", "<_Python_>", "<_C++_>", "<section_header_level_1>", "<nl>"] {
            assert!(is_document_tag(tag), "{tag}");
        }
        for mark in ["<image>", "</s>", "<row_1_col_2>", "<global-img>", "<|im_end|>", "<end_of_utterance>", "<>", "loc", "<a b>"]
        {
            assert!(!is_document_tag(mark), "{mark}");
        }
    }
}
