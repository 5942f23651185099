//! The small part of regular expressions that pre-tokenizers are written in.
//!
//! Why not the `regex` family: its Unicode tables and engines would be several hundred kilobytes of the module for about ten
//! fixed patterns, and the backtracking one that these patterns need (they look ahead) gives up on long runs of spaces. The
//! tests run every pattern against that engine.
//!
//! A pattern is alternatives `a|b`, each a sequence of: a character or class (`x`, `\s`, `\p{L}`, `[^\s\p{L}'a-z]`) with `?`, `*`,
//! `+` or `{m,n}`; an optional group `(?:…|…)?`; `(?!\S)`, which holds where a space or the end follows; `$`, the end. As
//! in the originals the first alternative that matches wins, and repetitions take as much as they can.

use super::unicode::{self, Category};

/// A set of characters.
#[derive(Debug, Default, Clone)]
struct Set {
    negated: bool,
    /// White space, as `\s`.
    space: bool,
    /// One bit for each [`Category`].
    categories: u16,
    ranges: Vec<(char, char)>,
    /// Which of the first 128 characters are in the set, all the above considered.
    ascii: u128,
}

impl Set {
    fn finish(mut self) -> Self {
        self.ascii = (0..128u8).filter(|&c| self.slow_contains(char::from(c))).fold(0, |bits, c| bits | 1 << c);
        self
    }

    fn slow_contains(&self, c: char) -> bool {
        let inside = (self.space && c.is_whitespace())
            || self.ranges.iter().any(|&(low, high)| (low..=high).contains(&c))
            || (self.categories != 0 && self.categories & 1 << unicode::category(c) as u16 != 0);
        inside != self.negated
    }

    fn contains(&self, c: char) -> bool {
        if c.is_ascii() { self.ascii >> (c as u32) & 1 != 0 } else { self.slow_contains(c) }
    }
}

#[derive(Debug)]
enum Item {
    /// From `min` to `max` characters of a set.
    Repeat { set: Set, min: usize, max: usize },
    /// One of these sequences, or nothing.
    Optional(Vec<Vec<Item>>),
    /// A space or the end follows.
    BeforeSpace,
    /// The end of the text.
    End,
}

/// A parsed pattern.
#[derive(Debug)]
pub(super) struct Pattern {
    alternatives: Vec<Vec<Item>>,
}

struct Parser<'a> {
    rest: &'a str,
}

/// What is wrong with a pattern. All patterns are constants of this program, so this is for its authors.
type Parse<T> = Result<T, String>;

impl Parser<'_> {
    fn eat(&mut self, prefix: &str) -> bool {
        self.rest.strip_prefix(prefix).map(|rest| self.rest = rest).is_some()
    }

    fn next(&mut self) -> Parse<char> {
        let c = self.rest.chars().next().ok_or("the pattern ends too early")?;
        self.rest = &self.rest[c.len_utf8()..];
        Ok(c)
    }

    fn alternatives(&mut self) -> Parse<Vec<Vec<Item>>> {
        let mut all = vec![vec![]];
        while !self.rest.is_empty() && !self.rest.starts_with(')') {
            if self.eat("|") {
                all.push(vec![]);
            } else if let Some(sequence) = all.last_mut() {
                sequence.push(self.item()?);
            }
        }
        Ok(all)
    }

    fn item(&mut self) -> Parse<Item> {
        if self.eat("(?!\\S)") {
            return Ok(Item::BeforeSpace);
        }
        if self.eat("$") {
            return Ok(Item::End);
        }
        if self.eat("(?:") {
            let alternatives = self.alternatives()?;
            return if self.eat(")?") { Ok(Item::Optional(alternatives)) } else { Err("a group must be optional".into()) };
        }
        let mut set = Set::default();
        if self.eat("[") {
            set.negated = self.eat("^");
            while !self.eat("]") {
                self.member(&mut set)?;
            }
        } else {
            self.member(&mut set)?;
        }
        let (min, max) = if self.eat("?") {
            (0, 1)
        } else if self.eat("*") {
            (0, usize::MAX)
        } else if self.eat("+") {
            (1, usize::MAX)
        } else if self.eat("{") {
            let (bounds, rest) = self.rest.split_once('}').ok_or("an open repetition")?;
            self.rest = rest;
            let (min, max) = bounds.split_once(',').unwrap_or((bounds, bounds));
            let number = |text: &str| text.parse().map_err(|_| format!("'{bounds}' is no repetition"));
            (number(min)?, number(max)?)
        } else {
            (1, 1)
        };
        Ok(Item::Repeat { set: set.finish(), min, max })
    }

    /// One character, range, `\s` or `\p{…}`.
    fn member(&mut self, set: &mut Set) -> Parse<()> {
        let low = match self.next()? {
            '\\' => match self.next()? {
                's' => {
                    set.space = true;
                    return Ok(());
                }
                'p' => {
                    let (name, rest) =
                        self.rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).ok_or("a malformed property")?;
                    self.rest = rest;
                    set.categories |= Category::bits(name).ok_or_else(|| format!("no property '{name}'"))?;
                    return Ok(());
                }
                'r' => '\r',
                'n' => '\n',
                c => c,
            },
            c => c,
        };
        let mut high = low;
        if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
            self.rest = &self.rest[1..];
            high = self.next()?;
        }
        set.ranges.push((low, high));
        Ok(())
    }
}

/// Where a match of this sequence that starts at `at` ends.
fn match_sequence(items: &[Item], text: &str, at: usize) -> Option<usize> {
    let Some((item, rest)) = items.split_first() else { return Some(at) };
    match item {
        Item::Repeat { set, min, max } => {
            let (mut end, mut count) = (at, 0);
            for c in text[at..].chars().take(*max).take_while(|&c| set.contains(c)) {
                end += c.len_utf8();
                count += 1;
            }
            // From the longest to the shortest.
            while count >= *min {
                if let Some(found) = match_sequence(rest, text, end) {
                    return Some(found);
                }
                end -= text[at..end].chars().next_back()?.len_utf8();
                count -= 1;
            }
            None
        }
        Item::Optional(alternatives) => alternatives
            .iter()
            .find_map(|sequence| match_sequence(sequence, text, at).and_then(|end| match_sequence(rest, text, end)))
            .or_else(|| match_sequence(rest, text, at)),
        Item::BeforeSpace => {
            if text[at..].chars().next().is_none_or(char::is_whitespace) {
                match_sequence(rest, text, at)
            } else {
                None
            }
        }
        Item::End => {
            if at == text.len() {
                match_sequence(rest, text, at)
            } else {
                None
            }
        }
    }
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Says what this small grammar does not know.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: source };
        let alternatives = parser.alternatives()?;
        if parser.rest.is_empty() { Ok(Self { alternatives }) } else { Err(format!("'{}' is left over", parser.rest)) }
    }

    fn match_at(&self, text: &str, at: usize) -> Option<usize> {
        self.alternatives.iter().find_map(|sequence| match_sequence(sequence, text, at)).filter(|&end| end > at)
    }

    /// Splits a text into the pattern's matches and what lies between them, passing each stretch on.
    pub(super) fn split<'t>(&self, text: &'t str, mut each: impl FnMut(&'t str)) {
        let (mut gap, mut at) = (0, 0);
        while let Some(c) = text[at..].chars().next() {
            if let Some(end) = self.match_at(text, at) {
                if gap < at {
                    each(&text[gap..at]);
                }
                each(&text[at..end]);
                (gap, at) = (end, end);
            } else {
                at += c.len_utf8();
            }
        }
        if gap < text.len() {
            each(&text[gap..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::pretokenize;
    use tokenizers::tokenizer::pattern::Pattern as _;
    use tokenizers::utils::SysRegex;

    /// Everything that tells the patterns' classes apart, close together and in runs.
    fn samples() -> Vec<String> {
        let alphabet: Vec<char> =
            "aZbé ÀßǅʰªחΩжქ中あカ한ะ́ा\u{1d400}0٣Ⅷ½²九 \u{a0}\u{2003}\u{200b}\u{3000}\t\r\n'’\u{17f}sStTrRlLvVeEdDmM.,!?-_$+<=>^~|`@[]{}()/\\\"#%&*:;。、！€©№🦙\u{200d}\u{fe0f}\0\u{7f}\u{fffd}"
                .chars()
                .collect();
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % n
        };
        let mut all: Vec<String> = (0..3000)
            .map(|_| {
                let mut text = String::new();
                for _ in 0..random(12) {
                    let c = alphabet[random(alphabet.len())];
                    (0..=random(4) * random(2)).for_each(|_| text.push(c));
                }
                text
            })
            .collect();
        all.push("  Hello, I'm   here\n\n \n it's 2024 and WE'LL see camelCase ÉCOLE\u{301}s 12345\t\tend  ".into());
        all
    }

    #[test]
    fn patterns_split_as_the_regex_engine_splits() {
        let samples = samples();
        for source in pretokenize::all_patterns() {
            let ours = Pattern::new(source).unwrap_or_else(|e| panic!("{source}: {e}"));
            let regex = tokenizers::pre_tokenizers::split::Split::new(
                tokenizers::pre_tokenizers::split::SplitPattern::Regex(source.into()),
                tokenizers::SplitDelimiterBehavior::Isolated,
                false,
            )
            .unwrap()
            .regex;
            let regex: &SysRegex = &regex;
            for text in &samples {
                let mut got = vec![];
                ours.split(text, |piece| got.push(piece));
                let want: Vec<&str> =
                    regex.find_matches(text).unwrap().iter().map(|&((a, b), _)| &text[a..b]).filter(|p| !p.is_empty()).collect();
                assert_eq!(got, want, "{source} on {text:?}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for source in ["a)", "(?:a)", "[a", r"\p{Qq}", "a{x}", r"\"] {
            assert!(Pattern::new(source).is_err(), "{source}");
        }
    }
}
