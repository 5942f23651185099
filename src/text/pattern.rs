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
pub(super) struct Set {
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
        #[cfg(test)]
        tests::STEPS.with(|steps| steps.set(steps.get() + 1));
        if c.is_ascii() { self.ascii >> (c as u32) & 1 != 0 } else { self.slow_contains(c) }
    }
}

#[derive(Debug)]
pub(super) enum Item {
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
pub(super) enum Pattern {
    /// Tried at one position after another.
    Alternatives(Vec<Vec<Item>>),
    /// `x+$`: the run of a set that ends the text. Tried at one position after another it would read every other run as often as that
    /// has characters, and each time as far, so it is looked for from the end.
    LastRun(Set),
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
                #[cfg(test)]
                tests::STEPS.with(|steps| steps.set(steps.get() + 1));
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
        let mut alternatives = parser.alternatives()?;
        if !parser.rest.is_empty() {
            return Err(format!("'{}' is left over", parser.rest));
        }
        if let [sequence] = &mut alternatives[..]
            && let [Item::Repeat { set, min: 1, max: usize::MAX }, Item::End] = &mut sequence[..]
        {
            return Ok(Self::LastRun(std::mem::take(set)));
        }
        Ok(Self::Alternatives(alternatives))
    }

    /// Splits a text into the pattern's matches and what lies between them, passing each stretch on.
    pub(super) fn split<'t>(&self, text: &'t str, mut each: impl FnMut(&'t str)) {
        let alternatives = match self {
            Self::Alternatives(alternatives) => alternatives,
            Self::LastRun(set) => {
                let (before, run) = text.split_at(text.trim_end_matches(|c| set.contains(c)).len());
                [before, run].into_iter().filter(|piece| !piece.is_empty()).for_each(each);
                return;
            }
        };
        let match_at = |at: usize| alternatives.iter().find_map(|s| match_sequence(s, text, at)).filter(|&end| end > at);
        let (mut gap, mut at) = (0, 0);
        while let Some(c) = text[at..].chars().next() {
            if let Some(end) = match_at(at) {
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

    thread_local! {
        /// Characters held against a set, and lengths tried of a repetition.
        pub(super) static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    /// Texts that make a backtracking matcher go over the same characters again and again, some kilobytes each, twice as long with twice
    /// the `n`: runs of one character that end in another, and runs of two in turn, of all kinds of characters that the patterns tell
    /// apart.
    fn hard_texts(n: usize) -> Vec<(String, String)> {
        let kinds =
            [' ', '\n', '\r', '\t', '\u{3000}', 'a', 'A', 'ʰ', '猫', '\u{301}', '7', '.', '\'', '<', '!', '|', '🦙', '\0'];
        let mut texts = Vec::new();
        for a in kinds {
            texts.push((format!("{a:?}s"), a.to_string().repeat(2 * n)));
            for b in kinds.into_iter().filter(|b| *b != a) {
                texts.push((format!("{a:?}s, then {b:?}"), a.to_string().repeat(2 * n) + &b.to_string()));
                texts.push((format!("{a:?}s, then {b:?}s"), a.to_string().repeat(n) + &b.to_string().repeat(n)));
                texts.push((format!("{a:?} and {b:?} in turn"), format!("{a}{b}").repeat(n)));
                let run = a.to_string().repeat(n / 8);
                texts.push((format!("runs of {a:?}, each ended by {b:?}"), format!("{run}{b}").repeat(16)));
            }
        }
        texts
    }

    #[test]
    fn every_family_splits_in_time_that_is_linear() {
        for (family, patterns) in pretokenize::all_families() {
            let pre = pretokenize::PreTokenizer::new(family).expect("sound patterns");
            let steps = |text: &str| {
                STEPS.set(0);
                let mut n_bytes = 0;
                pre.split(text, &mut |piece| n_bytes += piece.len());
                assert_eq!(n_bytes, text.len(), "nothing is lost");
                STEPS.get()
            };
            for ((what, short), (_, long)) in hard_texts(256).into_iter().zip(hard_texts(2048)) {
                let (few, many) = (steps(&short), steps(&long));
                // Eight times the text may take eight times the steps, and a little for what both have; a square would be 64 times.
                assert!(many <= 10 * few + 1000, "{patterns:?} on {what}: {few} steps, and {many} for 8 times the text");
                // Each level of patterns tries each alternative at a character a few times at most.
                let most = 40 * patterns.len() as u64 * long.chars().count() as u64;
                assert!(many <= most, "{patterns:?} on {what}: {many} steps for {} characters", long.chars().count());
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
