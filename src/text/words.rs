//! Where each family of vocabularies cuts text into words, for tests that compare it with other engines.

use super::pretokenize::{self, PreTokenizer};
use crate::error::{Error, Result};

/// One name and the patterns of each family.
pub fn families() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    pretokenize::families()
}

/// A family's way of cutting.
#[derive(Debug)]
pub struct Words(PreTokenizer);

impl Words {
    /// The way that `tokenizer.ggml.pre` names.
    ///
    /// # Errors
    /// `invalid_request` for a name that is not known.
    pub fn new(name: &str) -> Result<Self> {
        let family = pretokenize::find(name);
        let family = family.ok_or_else(|| Error::invalid_request(format!("There is no pre-tokenizer '{name}'.")))?;
        PreTokenizer::new(family).map(Self)
    }

    /// The words of a text, in order.
    pub fn split<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        self.0.split(text, &mut |word| words.push(word));
        words
    }
}
