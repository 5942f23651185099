//! What keeps the text of a message from meaning anything to the tokenizer, and a conversation rendered so.

use super::chat::{Content, Message, Part};
use super::escape::Escaper;
use super::prompt::{IMAGE, Segment, split_at_images};
use super::tools::{self, Tool};

/// The characters that a rendering uses for itself, and how message text is kept from meaning anything.
pub(super) struct Guard<'a> {
    escape: char,
    /// What stands for an image.
    pub(super) image: char,
    /// Where a message ends that is to be gone on with.
    pub(super) end: char,
    escaper: &'a Escaper,
}

impl<'a> Guard<'a> {
    /// Picks noncharacters that occur nowhere in the template, the messages and the tools.
    pub(super) fn new(source: &str, messages: &[Message], tools: &[Tool], escaper: &'a Escaper) -> Self {
        let mut used = 0u32;
        let mut note = |text: &str| {
            text.chars().filter(|c| ('\u{fdd0}'..='\u{fdef}').contains(c)).for_each(|c| used |= 1 << (c as u32 - 0xfdd0));
        };
        note(source);
        tools::each_text(messages, tools, &mut note);
        for message in messages {
            match &message.content {
                Content::Text(text) => note(text),
                Content::Parts(parts) => parts.iter().for_each(|part| {
                    if let Part::Text(text) = part {
                        note(text);
                    }
                }),
            }
        }
        let mut free = ('\u{fdd0}'..='\u{fdef}').filter(|c| used >> (*c as u32 - 0xfdd0) & 1 == 0);
        // Where somebody used them all, three are taken from the text; they mean nothing there.
        match (free.next(), free.next(), free.next()) {
            (Some(escape), Some(image), Some(end)) => Self { escape, image, end, escaper },
            _ => Self { escape: '\u{fdd0}', image: '\u{fdd1}', end: '\u{fdd2}', escaper },
        }
    }

    pub(super) fn text(&self, text: &str) -> String {
        let own = [self.escape, self.image, self.end];
        if text.contains(own) {
            return self.escaper.escape(&text.replace(own, ""), self.escape);
        }
        self.escaper.escape(text, self.escape)
    }

    /// A message as one string, with `self.image` for each image.
    pub(super) fn flatten(&self, content: &Content) -> String {
        let parts = match content {
            Content::Text(text) => return self.text(text),
            Content::Parts(parts) => parts,
        };
        let n_images = parts.iter().filter(|part| **part == Part::Image).count();
        let mut out = String::new();
        let mut after_text = false;
        if n_images == 1 {
            out.extend([self.image, '\n']);
        }
        for part in parts {
            match part {
                Part::Image if n_images == 1 => {}
                Part::Image => {
                    if after_text && !out.ends_with(char::is_whitespace) {
                        out.push('\n');
                    }
                    out.extend([self.image, '\n']);
                    after_text = false;
                }
                Part::Text(text) => {
                    if after_text {
                        out.push('\n');
                    }
                    out += &self.text(text);
                    after_text = true;
                }
            }
        }
        out
    }

    pub(super) fn rendered(&self, text: String) -> Rendered {
        Rendered { text, escape: self.escape, image: self.image }
    }
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    text: String,
    escape: char,
    image: char,
}

impl Rendered {
    /// The prompt as a person reads it, with [`IMAGE`] for each image.
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(self.text.len());
        for c in self.text.chars() {
            if c == self.image {
                out.push_str(IMAGE);
            } else if c != self.escape {
                out.push(c);
            }
        }
        out
    }

    /// The prompt in stretches, for [`super::encode_segments`].
    pub fn segments(&self) -> Vec<Segment> {
        split_at_images(&self.text, self.image.encode_utf8(&mut [0; 4]), Some(self.escape))
    }
}
