//! A pattern's text to its parts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::{CharSet, MAX_COUNT, complement, normalized, unicode};
use crate::runtime::grammar::automaton::MAX_CHAR;

/// Groups within each other.
const MAX_GROUPS: usize = 64;

/// Reads a pattern.
///
/// # Errors
/// What it has that makes it no pattern or is not supported, at which character.
pub(super) fn parse(pattern: &str) -> Result<Node, String> {
    let text: Vec<char> = pattern.chars().collect();
    let mut parser =
        Parser { text: &text, at: 0, n_groups: 0, flags: Flags::default(), is_behind: false, folded: RefCell::default() };
    let node = parser.alternatives()?;
    if parser.at < text.len() {
        return parser.refuse("')' without '('");
    }
    Ok(node)
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Node {
    /// A character of the set.
    Chars(Rc<CharSet>),
    /// `^`
    Start,
    /// `$`
    End,
    /// Something matches from here on, or up to here, or does not. It takes no characters.
    Look { is_behind: bool, is_negated: bool, body: Box<Node> },
    /// One after the other.
    All(Vec<Node>),
    /// One of them.
    Any(Vec<Node>),
    /// So often at least, and at most.
    Repeat(Box<Node>, u32, Option<u32>),
}

/// Flags within a pattern, as in `(?i:…)`.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    /// `i`: small letters are capital ones.
    ignores_case: bool,
    /// `m`: lines begin and end as texts do.
    has_lines: bool,
    /// `s`: `.` is a line break, too.
    dot_is_all: bool,
}

struct Parser<'a> {
    text: &'a [char],
    at: usize,
    n_groups: usize,
    flags: Flags,
    /// Within what looks behind.
    is_behind: bool,
    /// Sets without regard to capital and small letters, which patterns may have the same of many times.
    folded: RefCell<HashMap<CharSet, CharSet>>,
}

/// One character.
pub(super) fn one(c: char) -> Node {
    Node::Chars(Rc::new(vec![(c.into(), c.into())]))
}

fn chars(set: CharSet) -> Node {
    Node::Chars(Rc::new(set))
}

fn look(is_behind: bool, is_negated: bool, body: Node) -> Node {
    Node::Look { is_behind, is_negated, body: Box::new(body) }
}

fn line_breaks() -> CharSet {
    vec![(0xa, 0xa), (0xd, 0xd), (0x2028, 0x2029)]
}

fn digits() -> CharSet {
    vec![(0x30, 0x39)]
}

fn word() -> CharSet {
    vec![(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)]
}

fn space() -> CharSet {
    vec![
        (0x9, 0xd),
        (0x20, 0x20),
        (0xa0, 0xa0),
        (0x1680, 0x1680),
        (0x2000, 0x200a),
        (0x2028, 0x2029),
        (0x202f, 0x202f),
        (0x205f, 0x205f),
        (0x3000, 0x3000),
        (0xfeff, 0xfeff),
    ]
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn refuse<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("{what} at character {}", self.at))
    }

    fn alternatives(&mut self) -> Result<Node, String> {
        let mut all = vec![self.sequence()?];
        while self.take('|') {
            all.push(self.sequence()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Node::Any(all) })
    }

    fn sequence(&mut self) -> Result<Node, String> {
        let mut all = Vec::new();
        while let Some(c) = self.peek().filter(|c| !matches!(c, '|' | ')')) {
            let atom = self.atom(c)?;
            all.push(self.quantified(atom)?);
        }
        Ok(Node::All(all))
    }

    fn quantified(&mut self, atom: Node) -> Result<Node, String> {
        let (min, max) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => {
                self.at += 1;
                let min = self.count()?;
                let max =
                    if self.take(',') { if self.peek() == Some('}') { None } else { Some(self.count()?) } } else { Some(min) };
                if self.peek() != Some('}') || max.is_some_and(|max| max < min) {
                    return self.refuse("a count that makes no sense");
                }
                (min, max)
            }
            _ => return Ok(atom),
        };
        self.at += 1;
        // Which of several ways is tried first does not matter here.
        self.take('?');
        if matches!(atom, Node::Start | Node::End | Node::Look { .. }) || matches!(self.peek(), Some('*' | '+' | '?' | '{')) {
            return self.refuse("a quantifier with nothing before it");
        }
        Ok(Node::Repeat(Box::new(atom), min, max))
    }

    fn count(&mut self) -> Result<u32, String> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let digits: String = self.text[start..self.at].iter().collect();
        match digits.parse() {
            Ok(n) if n <= MAX_COUNT => Ok(n),
            _ if digits.is_empty() => self.refuse("a count that is none"),
            _ => self.refuse(&format!("a count above {MAX_COUNT}")),
        }
    }

    fn atom(&mut self, c: char) -> Result<Node, String> {
        self.at += 1;
        Ok(match c {
            '^' if self.flags.has_lines => Node::Any(vec![Node::Start, look(true, false, chars(line_breaks()))]),
            '$' if self.flags.has_lines => Node::Any(vec![Node::End, look(false, false, chars(line_breaks()))]),
            '$' if self.is_behind => return self.refuse("'$' within what looks behind"),
            '^' => Node::Start,
            '$' => Node::End,
            '.' if self.flags.dot_is_all => chars(vec![(0, MAX_CHAR)]),
            '.' => chars(complement(&line_breaks())),
            '(' => {
                let before = (self.flags, self.is_behind);
                let look_around = self.group()?;
                self.n_groups += 1;
                if self.n_groups > MAX_GROUPS {
                    return self.refuse("too many groups within each other");
                }
                if let Some((is_behind, _)) = look_around {
                    if self.is_behind && !is_behind {
                        return self.refuse("what looks ahead within what looks behind");
                    }
                    self.is_behind |= is_behind;
                }
                let inner = self.alternatives()?;
                self.n_groups -= 1;
                if !self.take(')') {
                    return self.refuse("a group without an end");
                }
                (self.flags, self.is_behind) = before;
                match look_around {
                    Some((is_behind, is_negated)) => look(is_behind, is_negated, inner),
                    None => inner,
                }
            }
            '[' => {
                let is_negated = self.take('^');
                let mut set = Vec::new();
                while !self.take(']') {
                    let low = self.class_item()?;
                    if self.peek() == Some('-') && self.text.get(self.at + 1).is_some_and(|&c| c != ']') {
                        self.at += 1;
                        let high = self.class_item()?;
                        match (low.as_slice(), high.as_slice()) {
                            (&[(low, a)], &[(b, high)]) if low == a && b == high && low <= high => set.push((low, high)),
                            _ => return self.refuse("a range that makes no sense"),
                        }
                    } else {
                        set.extend(low);
                    }
                }
                let set = self.folded(normalized(set));
                chars(if is_negated { complement(&set) } else { set })
            }
            '\\' => match self.peek() {
                Some(c @ ('b' | 'B')) => {
                    if self.is_behind {
                        return self.refuse("a word boundary within what looks behind");
                    }
                    self.at += 1;
                    let word = || chars(self.folded(word()));
                    let is =
                        |before: bool, after: bool| Node::All(vec![look(true, !before, word()), look(false, !after, word())]);
                    Node::Any(if c == 'b' {
                        vec![is(true, false), is(false, true)]
                    } else {
                        vec![is(true, true), is(false, false)]
                    })
                }
                Some('1'..='9' | 'k') => return self.refuse("a reference to a group"),
                _ => chars(self.escape().map(|set| self.folded(set))?),
            },
            '*' | '+' | '?' | '{' => {
                self.at -= 1;
                return self.refuse("a quantifier with nothing before it");
            }
            ']' | '}' => {
                self.at -= 1;
                return self.refuse(&format!("'{c}', which must be written '\\{c}',"));
            }
            c => chars(self.folded(vec![(c.into(), c.into())])),
        })
    }

    /// What stands behind a group's bracket: whether it looks behind and whether it is negated, where it looks around; flags are set.
    fn group(&mut self) -> Result<Option<(bool, bool)>, String> {
        if !self.take('?') {
            return Ok(None);
        }
        let is_behind = self.peek() == Some('<') && matches!(self.text.get(self.at + 1), Some('=' | '!'));
        self.at += usize::from(is_behind);
        if self.take('=') {
            return Ok(Some((is_behind, false)));
        }
        if self.take('!') {
            return Ok(Some((is_behind, true)));
        }
        if self.take('<') {
            while !self.take('>') {
                self.at += 1;
                if self.at >= self.text.len() {
                    return self.refuse("a group's name without an end");
                }
            }
            return Ok(None);
        }
        let mut is_on = true;
        loop {
            let Some(c) = self.peek() else { return self.refuse("a group without an end") };
            self.at += 1;
            match c {
                ':' => return Ok(None),
                '-' if is_on => is_on = false,
                'i' => self.flags.ignores_case = is_on,
                'm' => self.flags.has_lines = is_on,
                's' => self.flags.dot_is_all = is_on,
                _ => {
                    self.at -= 1;
                    return self.refuse("'(?' with something else than ':', '=', '!', '<' or flags with ':' behind it");
                }
            }
        }
    }

    /// A set with the capital letters of its small ones and the other way round, where the flags say so.
    fn folded(&self, set: CharSet) -> CharSet {
        if !self.flags.ignores_case {
            return set;
        }
        self.folded.borrow_mut().entry(set).or_insert_with_key(unicode::folded).clone()
    }

    fn class_item(&mut self) -> Result<CharSet, String> {
        let Some(c) = self.peek() else { return self.refuse("a class without an end") };
        self.at += 1;
        match c {
            '\\' if self.take('b') => Ok(vec![(8, 8)]),
            '\\' if self.take('-') => Ok(vec![(0x2d, 0x2d)]),
            '\\' => self.escape(),
            c => Ok(vec![(c.into(), c.into())]),
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result<CharSet, String> {
        let Some(c) = self.peek() else { return self.refuse("a backslash with nothing behind it") };
        self.at += 1;
        let code = match c {
            'd' => return Ok(digits()),
            'D' => return Ok(complement(&digits())),
            'w' => return Ok(word()),
            'W' => return Ok(complement(&word())),
            's' => return Ok(space()),
            'S' => return Ok(complement(&space())),
            'p' | 'P' => {
                let set = self.property()?;
                return Ok(if c == 'P' { complement(&set) } else { set });
            }
            't' => 0x9,
            'n' => 0xa,
            'v' => 0xb,
            'f' => 0xc,
            'r' => 0xd,
            '0' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => 0,
            'c' if self.peek().is_some_and(|c| c.is_ascii_alphabetic()) => {
                self.at += 1;
                u32::from(self.text[self.at - 1]) % 32
            }
            'x' => self.hex(2)?,
            'u' if self.take('{') => {
                let start = self.at;
                while self.peek().is_some_and(|c| c.is_ascii_hexdigit()) && self.at - start < 6 {
                    self.at += 1;
                }
                let digits: String = self.text[start..self.at].iter().collect();
                match u32::from_str_radix(&digits, 16) {
                    Ok(code) if code <= MAX_CHAR && self.take('}') => code,
                    _ => return self.refuse("an escape that is none"),
                }
            }
            'u' => {
                let code = self.hex(4)?;
                let is_pair = (0xd800..0xdc00).contains(&code) && self.text[self.at..].starts_with(&['\\', 'u']) && {
                    self.at += 2;
                    true
                };
                if is_pair {
                    let low = self.hex(4)?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return self.refuse("half of a pair of surrogates");
                    }
                    0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00)
                } else {
                    code
                }
            }
            c if c.is_ascii_punctuation() => c.into(),
            _ => {
                self.at -= 1;
                return self.refuse(&format!("'\\{c}', which is not supported,"));
            }
        };
        Ok(vec![(code, code)])
    }

    /// The characters with a property, as in `\\p{L}`.
    fn property(&mut self) -> Result<CharSet, String> {
        if !self.take('{') {
            return self.refuse("'\\p' without '{'");
        }
        let start = self.at;
        while self.peek().is_some_and(|c| c != '}') {
            self.at += 1;
        }
        let name: String = self.text[start..self.at].iter().collect();
        if !self.take('}') {
            return self.refuse("a property without an end");
        }
        match unicode::property(&name) {
            Some(set) => Ok(set),
            None => self.refuse(&format!("the property '{}', which is not supported,", crate::error::shown(&name))),
        }
    }

    fn hex(&mut self, n: usize) -> Result<u32, String> {
        let digits: String = self.text[self.at..].iter().take(n).filter(|c| c.is_ascii_hexdigit()).collect();
        if digits.len() != n {
            return self.refuse("an escape that is none");
        }
        self.at += n;
        u32::from_str_radix(&digits, 16).or_else(|_| self.refuse("an escape that is none"))
    }
}
