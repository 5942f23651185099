//! From an answer's tokens to what is told of them: text, without a stop string and what is behind it, and calls of tools.

use crate::runtime::call_reader::{CallReader, ReadPiece};
use crate::runtime::stop::StopMatcher;
use crate::text::{StreamDecoder, Tokenizer};

/// The text of an answer in the making.
#[derive(Debug)]
pub struct AnswerText {
    decoder: StreamDecoder,
    /// Where the answer may call tools.
    calls: Option<CallReader>,
    stop: StopMatcher,
}

impl AnswerText {
    /// Before the first token.
    pub fn new(decoder: StreamDecoder, calls: Option<CallReader>, stop: StopMatcher) -> Self {
        Self { decoder, calls, stop }
    }

    /// What is certain with this token; where it is one of the model's structure that counts as a text, that is its `mark`.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32, mark: Option<&str>) -> ReadPiece {
        let text = match mark {
            Some(mark) => self.decoder.flush() + mark,
            None => self.decoder.push(tokenizer, id),
        };
        self.read(&text)
    }

    /// The rest.
    pub fn flush(&mut self) -> ReadPiece {
        let text = self.decoder.flush();
        let mut read = self.read(&text);
        let held = self.calls.as_mut().map(CallReader::flush).unwrap_or_default();
        read.text.push_str(&self.stop.push(&held));
        read.text.push_str(&self.stop.flush());
        read
    }

    /// Stop strings end the text; the arguments of calls are none of it.
    fn read(&mut self, text: &str) -> ReadPiece {
        let mut read = match &mut self.calls {
            Some(calls) => calls.push(text),
            None => ReadPiece { text: text.to_owned(), calls: Vec::new() },
        };
        read.text = self.stop.push(&read.text);
        if !read.calls.is_empty() {
            read.text.push_str(&self.stop.flush());
        }
        read
    }

    /// Whether a stop string was found.
    pub fn is_stopped(&self) -> bool {
        self.stop.finished()
    }

    /// Whether tools are called, the last call being whole.
    pub fn has_called(&self) -> bool {
        self.calls.as_ref().is_some_and(CallReader::has_called)
    }
}
