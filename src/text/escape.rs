//! Keeps what people typed from becoming special tokens or images.
//!
//! Tokenizing a message's text apart from the template's would change the tokens at its edges. So the text stays in its
//! place, and where it spells a special token a noncharacter is put inside. The template carries it through, the search for special
//! tokens misses, and it is taken out before the words are tokenized.

use super::pieces::Pieces;
use super::special::Finder;
use crate::error::Result;

/// The texts to break.
#[derive(Debug)]
pub(super) struct Escaper {
    texts: Pieces,
    finder: Finder,
}

impl Escaper {
    /// An escaper of these texts. Those of one character are left out: nothing fits inside them.
    pub(super) fn new<'a>(markers: impl Iterator<Item = &'a str>) -> Result<Self> {
        // A piece that cannot be: `Pieces` refuses an empty list, and a model may have no markers.
        let texts: Vec<String> =
            std::iter::once("").chain(markers.filter(|text| text.chars().nth(1).is_some())).map(str::to_owned).collect();
        let n = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        let texts = Pieces::new(texts, &[])?;
        Ok(Self { finder: Finder::new(&texts, 1..n), texts })
    }

    /// The text with `escape` inside every marker, and at an end that begins a marker or a start that ends one: what stands
    /// beside it in the rendered conversation, such as the next part of the same message, could complete it.
    pub(super) fn escape(&self, text: &str, escape: char) -> String {
        let mut out = String::with_capacity(text.len() + 8);
        let trimmed = text.trim();
        let start = text.len() - text.trim_start().len();
        let markers = || self.finder.ids().iter().filter_map(|&id| self.texts.get(id));
        if markers().any(|marker| ends_with_start(marker, trimmed)) {
            out.push_str(&text[..start]);
            out.push(escape);
        } else {
            out.push_str(&text[..start]);
        }
        let mut at = start;
        while let Some((_, range)) = self.finder.find(&self.texts, text, at) {
            let inside = range.start + text[range.start..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[at..inside]);
            out.push(escape);
            at = inside;
        }
        let end = (start + trimmed.len()).max(at);
        out.push_str(&text[at..end]);
        if markers().any(|marker| ends_with_start(trimmed, marker)) {
            out.push(escape);
        }
        out.push_str(&text[end..]);
        out
    }
}

/// Whether `left` ends with the beginning of `right`, which is neither nothing nor all of `left` and `right`.
fn ends_with_start(left: &str, right: &str) -> bool {
    let longest = left.len().min(right.len());
    right.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|&len| len <= longest).any(|len| left.ends_with(&right[..len]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_broken_and_their_halves_sealed() {
        let escaper = Escaper::new(["<|end|>", "<image>", "x"].into_iter()).unwrap();
        let escape = |text: &str| escaper.escape(text, '!');
        assert_eq!(escape("a <|end|> b"), "a <!|end|> b");
        assert_eq!(escape("plain x"), "plain x");
        assert_eq!(escape(" say <|en  "), " say <|en!  ");
        assert_eq!(escape("d|> now"), "!d|> now");
        assert_eq!(escape("<image>"), "!<!image>!");
        assert_eq!(escape(""), "");
        assert_eq!(escape("  "), "  ");
    }
}
