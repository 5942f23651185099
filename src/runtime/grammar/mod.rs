//! Answers that are JSON: `response_format`.
//!
//! ```text
//! JSON schema ─▶ schema ─▶ automata over bytes that call each other ─┐
//! vocabulary  ─▶ trie of the tokens' bytes ──────────────────────────┴─▶ matcher ─▶ the tokens that may come next
//! ```
//!
//! Whatever the model's logits are, what is written is the beginning of a JSON text that the schema accepts, and can always be finished:
//! states that lead to no end are not there, tokens are taken byte by byte, and each byte is checked. Where the grammar has a choice
//! (`schema` says which), it allows less than the schema rather than more. What it cannot hold an answer to is refused.
//!
//! Why not a library: llguidance knows more of JSON Schema, and takes 0.5 MB after compression, half of what all the rest does; this takes 0.1 MB.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "states and tokens are numbered with 32 bits, and bounded in number far below"
)]

use std::rc::Rc;

use serde::Deserialize;

use crate::error::{Error, Result};

mod automaton;
mod decimal;
mod json;
mod matcher;
mod pattern;
mod schema;
mod tool_call;
mod trie;
mod unique;

pub use json::Json;
pub(crate) use tool_call::PARAMETER_END;
pub use tool_call::{Callable, Calling, plain_members};
pub use trie::{TokenSet, TokenTrie};

/// The form of an answer, as OpenAI's `response_format` has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any text.
    Text,
    /// A JSON object.
    JsonObject,
    /// What a JSON schema accepts.
    JsonSchema {
        /// The schema with its name.
        json_schema: NamedSchema,
    },
}

/// A JSON schema as OpenAI's requests carry it; a name, a description and `strict` beside it change nothing.
#[derive(Debug, Clone, Deserialize)]
pub struct NamedSchema {
    /// The schema.
    pub schema: Json,
}

/// What may be written. Copies are cheap.
#[derive(Debug, Clone)]
pub struct Grammar(Rc<automaton::Automata>);

impl Grammar {
    /// The grammar of a form; `None` for any text.
    ///
    /// # Errors
    /// `invalid_request` that names the keyword and where it is, for a schema that is none, has what is not supported, is too large, or
    /// that nothing satisfies.
    pub fn new(format: &ResponseFormat) -> Result<Option<Self>> {
        Ok(automata(format)?.map(|automata| Self(Rc::new(automata))))
    }
}

/// What [`Grammar::new`] is made of.
fn automata(format: &ResponseFormat) -> Result<Option<automaton::Automata>> {
    Ok(Some(match format {
        ResponseFormat::Text => return Ok(None),
        ResponseFormat::JsonObject => {
            let name = || "type".to_owned();
            schema::compile(&Json::Object(vec![(name(), Json::String("object".to_owned()))]))?
        }
        ResponseFormat::JsonSchema { json_schema } => schema::compile(&json_schema.schema)?,
    }))
}

/// One answer's grammar and how far the answer has come. Nothing of it is on a device.
#[derive(Debug)]
pub struct Constraint {
    trie: Rc<TokenTrie>,
    matcher: matcher::Matcher,
    /// Tokens that print as nothing elsewhere, and here are the text that the vocabulary spells them by.
    marks: Vec<(u32, String)>,
}

impl Constraint {
    /// Before the first token.
    pub fn new(grammar: Grammar, trie: Rc<TokenTrie>) -> Self {
        Self { trie, matcher: matcher::Matcher::new(grammar.0), marks: Vec::new() }
    }

    /// With tokens of the model's structure that count as these texts.
    pub fn with_marks(self, marks: Vec<(u32, String)>) -> Self {
        Self { marks, ..self }
    }

    /// The tokens that may come next; those that end an answer are among them where it is complete.
    pub fn allowed(&mut self) -> Rc<TokenSet> {
        let mut allowed = self.matcher.mask(&self.trie);
        for (id, text) in &self.marks {
            if self.matcher.allows(text.as_bytes()) {
                Rc::make_mut(&mut allowed).insert(*id);
            }
        }
        allowed
    }

    /// The text that a token counts as, where it is one of the model's structure.
    pub fn mark(&self, id: u32) -> Option<&str> {
        self.marks.iter().find(|(mark, _)| *mark == id).map(|(_, text)| text.as_str())
    }

    /// Notes the next token's bytes.
    ///
    /// # Errors
    /// `internal` where they cannot follow.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.matcher.advance(bytes) {
            return Ok(());
        }
        Err(Error::internal("A token was chosen that the response format does not allow."))
    }

    /// Whether these bytes may follow.
    pub fn allows(&mut self, bytes: &[u8]) -> bool {
        self.matcher.allows(bytes)
    }

    /// Whether the answer may end here.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_complete()
    }

    /// Whether nothing can follow.
    pub fn is_done(&self) -> bool {
        self.matcher.is_done()
    }
}
