//! Tokens to text as they come, never splitting a character.

use super::tokenizer::Tokenizer;

/// Turns tokens into text one at a time. What it gives out, joined, is what [`Tokenizer::decode`] gives for all tokens at once.
#[derive(Debug)]
pub struct StreamDecoder {
    /// The beginning of a character whose end has not come: at most 3 bytes between calls.
    pending: Vec<u8>,
    /// Whether the next token is the first of a text, whose leading space is not the text's.
    first: bool,
}

impl Default for StreamDecoder {
    /// For a text that begins here.
    fn default() -> Self {
        Self::new()
    }
}

impl StreamDecoder {
    /// A decoder for a text that begins here.
    pub fn new() -> Self {
        Self { pending: vec![], first: true }
    }

    /// A decoder for an answer: the tokens continue a prompt, so a leading space of the first is the text's own.
    pub fn continuing() -> Self {
        Self { pending: vec![], first: false }
    }

    /// The text that is complete with this token; empty for special tokens and inside a character.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let start = self.pending.len();
        tokenizer.token_bytes(id, false, &mut self.pending);
        if std::mem::take(&mut self.first) && tokenizer.begins_with_own_space(id) && self.pending.get(start) == Some(&b' ') {
            self.pending.remove(start);
        }
        self.take(false)
    }

    /// The rest: a character cut short becomes U+FFFD.
    pub fn flush(&mut self) -> String {
        self.take(true)
    }

    fn take(&mut self, all: bool) -> String {
        let mut text = String::new();
        let mut used = 0;
        let n_chunks = self.pending.utf8_chunks().count();
        for (i, chunk) in self.pending.utf8_chunks().enumerate() {
            text.push_str(chunk.valid());
            used += chunk.valid().len();
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            // The last bytes may be the beginning of a character; anything else invalid stays so whatever follows.
            if !all && i + 1 == n_chunks && may_continue(invalid) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            used += invalid.len();
        }
        self.pending.drain(..used);
        text
    }
}

/// Whether these bytes, the longest beginning of a character that stands there, lack only their end.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}
