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

use std::rc::Rc;

use serde::Deserialize;

use crate::error::{Error, Result};

mod automaton;
mod decimal;
mod json;
mod matcher;
mod pattern;
mod schema;
mod trie;

pub use json::Json;
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
        let automata = match format {
            ResponseFormat::Text => return Ok(None),
            ResponseFormat::JsonObject => {
                let name = || "type".to_owned();
                schema::compile(&Json::Object(vec![(name(), Json::String("object".to_owned()))]))?
            }
            ResponseFormat::JsonSchema { json_schema } => schema::compile(&json_schema.schema)?,
        };
        Ok(Some(Self(Rc::new(automata))))
    }
}

/// One answer's grammar and how far the answer has come. Nothing of it is on a device.
#[derive(Debug)]
pub struct Constraint {
    trie: Rc<TokenTrie>,
    matcher: matcher::Matcher,
}

impl Constraint {
    /// Before the first token.
    pub fn new(grammar: Grammar, trie: Rc<TokenTrie>) -> Self {
        Self { trie, matcher: matcher::Matcher::new(grammar.0) }
    }

    /// The tokens that may come next; those that end an answer are among them where it is complete.
    pub fn allowed(&mut self) -> Rc<TokenSet> {
        self.matcher.mask(&self.trie)
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
