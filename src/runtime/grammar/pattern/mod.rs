//! The regular expressions of `pattern`, as ECMA-262 means them with the flag `u`, to automata over characters.
//!
//! Alternatives, groups, classes, quantifiers and the anchors `^` and `$` are here. What looks around or back, word boundaries and Unicode
//! properties are refused. A pattern may match anywhere in the text, as JSON Schema says.

mod syntax;

use std::collections::HashMap;
use std::rc::Rc;

use self::syntax::Node;
use super::automaton::MAX_CHAR;

/// States that a pattern may have before it is made deterministic.
const MAX_NFA: usize = 20_000;
/// States that the patterns and lengths of one text may have together.
const MAX_DFA: usize = 20_000;
/// What all patterns of a schema may cost: about so many states looked at.
pub(super) const MAX_WORK: usize = 4_000_000;

/// Code points: ranges that ascend and do not touch.
pub(super) type CharSet = Vec<(u32, u32)>;

/// An automaton over characters. From every state an end can be reached.
#[derive(Debug)]
pub(super) struct CharDfa {
    /// Sets of characters that lead from each state to another. The first state is the start.
    pub(super) edges: Vec<Vec<(CharSet, usize)>>,
    /// Where a text may end.
    pub(super) ends: Vec<bool>,
}

/// Why there is no automaton.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// No text matches.
    Nothing,
    /// The pattern is none, or has what is not supported: what, at which character.
    Pattern(String),
    /// It would be too large.
    TooLarge,
}

/// Sorts and joins ranges.
pub(super) fn normalized(mut set: CharSet) -> CharSet {
    set.retain(|(low, high)| low <= high);
    set.sort_unstable();
    let mut out: CharSet = Vec::with_capacity(set.len());
    for (low, high) in set {
        match out.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => out.push((low, high)),
        }
    }
    out
}

/// All other characters.
pub(super) fn complement(set: &CharSet) -> CharSet {
    let mut next = 0;
    let mut out = Vec::with_capacity(set.len() + 1);
    for &(low, high) in set {
        if low > next {
            out.push((next, low - 1));
        }
        next = high + 1;
    }
    if next <= MAX_CHAR {
        out.push((next, MAX_CHAR));
    }
    out
}

/// A state of an automaton that may be in several.
#[derive(Debug)]
enum Step {
    /// A character of the set leads to the state.
    Char(Rc<CharSet>, usize),
    /// One is in both.
    Split(usize, usize),
    /// One is in the other at the beginning of the text alone.
    IfStart(usize),
    /// One is in the other at the end of the text alone.
    IfEnd(usize),
    /// It has matched, whatever follows.
    Match,
}

struct Nfa {
    steps: Vec<Step>,
    start: usize,
}

impl Nfa {
    fn new(pattern: &str) -> Result<Self, Refusal> {
        let node = syntax::parse(pattern)?;
        let mut nfa = Self { steps: vec![Step::Match], start: 0 };
        let body = nfa.add(&node, 0)?;
        // It may begin anywhere.
        let search = nfa.push(Step::Split(body, 0))?;
        let skip = nfa.push(Step::Char(Rc::new(vec![(0, MAX_CHAR)]), search))?;
        nfa.steps[search] = Step::Split(body, skip);
        nfa.start = search;
        Ok(nfa)
    }

    fn push(&mut self, step: Step) -> Result<usize, Refusal> {
        if self.steps.len() >= MAX_NFA {
            return Err(Refusal::TooLarge);
        }
        self.steps.push(step);
        Ok(self.steps.len() - 1)
    }

    /// Adds what leads to `next`, and gives its start.
    fn add(&mut self, node: &Node, next: usize) -> Result<usize, Refusal> {
        match node {
            Node::Chars(set) => self.push(Step::Char(set.clone(), next)),
            Node::Start => self.push(Step::IfStart(next)),
            Node::End => self.push(Step::IfEnd(next)),
            Node::All(all) => all.iter().rev().try_fold(next, |next, node| self.add(node, next)),
            Node::Any(all) => {
                let mut start = None;
                for node in all.iter().rev() {
                    let way = self.add(node, next)?;
                    start = Some(match start {
                        Some(other) => self.push(Step::Split(way, other))?,
                        None => way,
                    });
                }
                Ok(start.unwrap_or(next))
            }
            Node::Repeat(node, min, max) => {
                let mut start = next;
                match max {
                    Some(max) => {
                        for _ in *min..*max {
                            let way = self.add(node, start)?;
                            start = self.push(Step::Split(way, next))?;
                        }
                    }
                    None => {
                        let split = self.push(Step::Split(next, next))?;
                        let way = self.add(node, split)?;
                        self.steps[split] = Step::Split(way, next);
                        start = split;
                    }
                }
                for _ in 0..*min {
                    let before = start;
                    start = self.add(node, start)?;
                    // Nothing, however often.
                    if start == before {
                        break;
                    }
                }
                Ok(start)
            }
        }
    }

    /// All states one is in besides these, ascending: those at which something is read or has matched.
    fn closure(&self, from: impl Iterator<Item = usize>, is_start: bool, is_end: bool) -> Vec<usize> {
        let mut out = Vec::new();
        let mut seen = vec![false; self.steps.len()];
        let mut waiting: Vec<usize> = from.collect();
        while let Some(state) = waiting.pop() {
            if std::mem::replace(&mut seen[state], true) {
                continue;
            }
            match &self.steps[state] {
                Step::Char(..) | Step::Match => out.push(state),
                Step::Split(a, b) => waiting.extend([*a, *b]),
                // Whether it is the end is known only later.
                Step::IfEnd(next) => {
                    out.push(state);
                    waiting.extend(is_end.then_some(*next));
                }
                Step::IfStart(next) => waiting.extend(is_start.then_some(*next)),
            }
        }
        out.sort_unstable();
        out
    }

    fn may_end(&self, states: &[usize], is_start: bool) -> bool {
        states.contains(&0) || self.closure(states.iter().copied(), is_start, true).contains(&0)
    }
}

/// What has been read so far, as far as it matters: the states of each pattern, and the number of characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seen {
    states: Vec<Vec<usize>>,
    n_chars: u32,
    is_start: bool,
}

/// The automaton of texts that all the patterns match and that have so many characters, at most `max` where there is one.
/// `work` is what other patterns have cost.
pub(super) fn texts(patterns: &[String], min: u32, max: Option<u32>, work: &mut usize) -> Result<CharDfa, Refusal> {
    let nfas = patterns.iter().map(|p| Nfa::new(p)).collect::<Result<Vec<_>, _>>()?;
    *work += nfas.iter().map(|n| n.steps.len()).sum::<usize>();
    let start =
        Seen { states: nfas.iter().map(|n| n.closure([n.start].into_iter(), true, false)).collect(), n_chars: 0, is_start: true };
    let mut numbers = HashMap::from([(start.clone(), 0)]);
    let mut all = vec![start];
    let mut edges: Vec<Vec<(CharSet, usize)>> = Vec::new();
    let mut ends = Vec::new();
    while edges.len() < all.len() {
        let seen = all[edges.len()].clone();
        ends.push(seen.n_chars >= min && nfas.iter().zip(&seen.states).all(|(n, states)| n.may_end(states, seen.is_start)));
        let mut out: Vec<(CharSet, usize)> = Vec::new();
        if max.is_none_or(|max| seen.n_chars < max) {
            let sets = nfas.iter().zip(&seen.states).flat_map(|(n, states)| {
                states.iter().filter_map(|&s| match &n.steps[s] {
                    Step::Char(set, _) => Some(set.as_slice()),
                    _ => None,
                })
            });
            let mut borders: Vec<u32> =
                sets.flatten().flat_map(|&(low, high)| [low, high + 1]).chain([0, MAX_CHAR + 1]).collect();
            borders.sort_unstable();
            borders.dedup();
            let mut by_next: HashMap<usize, CharSet> = HashMap::new();
            for pair in borders.windows(2) {
                let (low, high) = (pair[0], pair[1] - 1);
                let mut states = Vec::with_capacity(nfas.len());
                for (nfa, now) in nfas.iter().zip(&seen.states) {
                    let moved = now.iter().filter_map(|&s| match &nfa.steps[s] {
                        Step::Char(set, next) => set.iter().any(|&(a, b)| a <= low && low <= b).then_some(*next),
                        Step::Match => Some(s),
                        _ => None,
                    });
                    let mut next = nfa.closure(moved, false, false);
                    // What has matched stays so: the other states need not be known any more.
                    if next.first() == Some(&0) {
                        next = vec![0];
                    }
                    *work += nfa.steps.len() / 8 + now.len() + 1;
                    states.push(next);
                }
                if *work > MAX_WORK {
                    return Err(Refusal::TooLarge);
                }
                if states.iter().any(Vec::is_empty) {
                    continue;
                }
                // Behind the largest number that matters all are the same.
                let n_chars = (seen.n_chars + 1).min(max.unwrap_or(min));
                let next = Seen { states, n_chars, is_start: false };
                let number = match numbers.get(&next) {
                    Some(&number) => number,
                    None => {
                        if all.len() >= MAX_DFA {
                            return Err(Refusal::TooLarge);
                        }
                        numbers.insert(next.clone(), all.len());
                        all.push(next);
                        all.len() - 1
                    }
                };
                by_next.entry(number).or_default().push((low, high));
            }
            out.extend(by_next.into_iter().map(|(next, set)| (normalized(set), next)));
            out.sort_unstable_by_key(|(_, next)| *next);
        }
        edges.push(out);
    }
    trimmed(edges, &ends)
}

/// The automaton of all texts but these.
pub(super) fn other_texts<'a>(texts: impl Iterator<Item = &'a str>) -> CharDfa {
    const OTHER: usize = 1;
    let mut children: Vec<HashMap<u32, usize>> = vec![HashMap::new(), HashMap::new()];
    let mut ends = vec![true, true];
    for text in texts {
        let mut at = 0;
        for c in text.chars() {
            let next = children.len();
            let found = *children[at].entry(c.into()).or_insert(next);
            if found == next {
                children.push(HashMap::new());
                ends.push(true);
            }
            at = found;
        }
        ends[at] = false;
    }
    let edges = children.into_iter().map(|children| {
        let taken = normalized(children.keys().map(|&c| (c, c)).collect());
        let mut edges: Vec<(CharSet, usize)> = children.into_iter().map(|(c, next)| (vec![(c, c)], next)).collect();
        edges.push((complement(&taken), OTHER));
        edges.sort_unstable_by_key(|(_, next)| *next);
        edges
    });
    CharDfa { edges: edges.collect(), ends }
}

/// Without the states from which no end can be reached.
fn trimmed(mut edges: Vec<Vec<(CharSet, usize)>>, ends: &[bool]) -> Result<CharDfa, Refusal> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (from, out) in edges.iter().enumerate() {
        out.iter().for_each(|&(_, to)| before[to].push(from));
    }
    let mut is_live = ends.to_vec();
    let mut waiting: Vec<usize> = (0..ends.len()).filter(|&s| ends[s]).collect();
    while let Some(state) = waiting.pop() {
        for &from in &before[state] {
            if !std::mem::replace(&mut is_live[from], true) {
                waiting.push(from);
            }
        }
    }
    if !is_live[0] {
        return Err(Refusal::Nothing);
    }
    edges.iter_mut().for_each(|out| out.retain(|&(_, to)| is_live[to]));
    Ok(CharDfa { edges, ends: ends.to_vec() })
}

impl CharDfa {
    /// Whether a text is one of its texts.
    pub(super) fn matches(&self, text: &str) -> bool {
        let step = |state: usize, c: char| {
            let c = u32::from(c);
            self.edges[state].iter().find(|(set, _)| set.iter().any(|&(low, high)| (low..=high).contains(&c))).map(|(_, to)| *to)
        };
        text.chars().try_fold(0, step).is_some_and(|state| self.ends[state])
    }
}

/// The pattern of a `format`; `None` where any text will do, as JSON Schema allows.
pub(super) fn of_format(format: &str) -> Option<String> {
    // Every day of its month, and the 29th of February in leap years.
    const DATE: &str = "(\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))\
                        |(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)";
    const TIME: &str = "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
    const BYTE: &str = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
    Some(match format {
        "date" => format!("^{DATE}$"),
        "time" => format!("^{TIME}$"),
        "date-time" => format!("^{DATE}T{TIME}$"),
        "uuid" => "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$".to_owned(),
        "ipv4" => format!("^({BYTE}\\.){{3}}{BYTE}$"),
        "email" => "^[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?)+$"
            .to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(patterns: &[String], min: u32, max: Option<u32>) -> Result<CharDfa, Refusal> {
        super::texts(patterns, min, max, &mut 0)
    }

    fn matches(pattern: &str, text: &str) -> bool {
        texts(&[pattern.to_owned()], 0, None).unwrap().matches(text)
    }

    #[test]
    fn patterns_match_what_ecma_262_says() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("", &["", "x"], &[]),
            ("a", &["a", "xay"], &["", "b"]),
            ("^a", &["a", "ab"], &["ba", ""]),
            ("a$", &["a", "ba"], &["ab"]),
            ("^(a|bc)+$", &["a", "bca", "abcbc"], &["", "b", "ac"]),
            ("^a|b$", &["ax", "xb", "ab"], &["xa", "bx"]),
            ("^$", &[""], &["a"]),
            ("a^", &[], &["a", ""]),
            ("^[a-c\\d_-]{2,3}$", &["a1", "-_c"], &["a", "abcd", "d1"]),
            ("^[^a]$", &["b", "é", "\n"], &["a", ""]),
            ("^.$", &["a", "\u{1f600}"], &["\n", "\u{2028}", "ab"]),
            ("^\\w+?\\s\\S$", &["ab é"], &["é x", "ab "]),
            ("^(?:x{0}y{2,}|(?<n>z)?)$", &["", "z", "yy", "yyyy"], &["y", "x"]),
            ("^\\u00e9\\x41\\u{1F600}\\ud83d\\ude00\\/\\.$", &["éA\u{1f600}\u{1f600}/."], &["eA"]),
            ("^[\\]\\\\^-]+$", &["]\\^-"], &["a"]),
        ];
        for (pattern, yes, no) in cases {
            if yes.is_empty() && !pattern.is_empty() {
                assert_eq!(texts(&[(*pattern).to_owned()], 0, None).err(), Some(Refusal::Nothing), "{pattern}");
                continue;
            }
            yes.iter().for_each(|text| assert!(matches(pattern, text), "{pattern} {text:?}"));
            no.iter().for_each(|text| assert!(!matches(pattern, text), "{pattern} {text:?}"));
        }
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for pattern in [
            "(", ")", "a**", "*", "[a", "[b-a]", "\\", "\\b", "(a)\\1", "(?=a)", "(?<!a)", "(?i)a", "\\p{L}", "a{2,1}",
            "a{99999}", "\\q", "}", "^*", "(?<n", "\\u12",
        ] {
            assert!(matches!(texts(&[pattern.to_owned()], 0, None), Err(Refusal::Pattern(_))), "{pattern}");
        }
        let deep = "(".repeat(10_000) + &")".repeat(10_000);
        assert!(matches!(texts(&[deep], 0, None), Err(Refusal::Pattern(_))));
        for pattern in ["((a{1000}){1000}){1000}", "(a|b)*a(a|b){40}$", "(.*a.*b.*c){300}x(a|b){300}y"] {
            assert_eq!(texts(&[pattern.to_owned()], 0, None).err(), Some(Refusal::TooLarge), "{pattern}");
        }
        assert_eq!(texts(&["(((((){1000}){1000}){1000}){1000}){1000}x".to_owned()], 0, None).map(|d| d.matches("x")), Ok(true));
        assert_eq!(texts(&["(((((a*)*)*)*)*)*$".to_owned()], 0, None).map(|d| d.matches("b")), Ok(true));
    }

    #[test]
    fn patterns_and_lengths_hold_together() {
        let dfa = texts(&["^(ab)*$".to_owned(), "b".to_owned()], 3, Some(6)).unwrap();
        assert!(["abab", "ababab"].iter().all(|t| dfa.matches(t)));
        assert!(!["", "ab", "aba", "abababab"].iter().any(|t| dfa.matches(t)));
        assert_eq!(texts(&["^(aaa)*$".to_owned()], 4, Some(5)).err(), Some(Refusal::Nothing));
        assert_eq!(texts(&["^a$".to_owned(), "b".to_owned()], 0, None).err(), Some(Refusal::Nothing));
    }

    #[test]
    fn formats_have_valid_texts_alone() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                "date",
                &["2024-02-29", "1999-12-31", "2000-02-29"],
                &["2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01", "24-1-1"],
            ),
            ("time", &["23:59:59Z", "00:00:00.123+01:30"], &["24:00:00Z", "12:00:00"]),
            ("date-time", &["2024-01-02T03:04:05Z"], &["2024-01-02 03:04:05Z", "2024-01-02"]),
            ("uuid", &["01234567-89ab-cdef-0123-456789abcdef"], &["0123456789abcdef0123456789abcdef"]),
            ("ipv4", &["0.0.0.0", "255.249.199.10"], &["256.0.0.1", "1.2.3", "01.2.3.4", "1.2.3.4."]),
            ("email", &["a.b+c@d-e.org"], &["a@b", "a..b@c.d", "@b.c"]),
        ];
        for (format, yes, no) in cases {
            let pattern = of_format(format).unwrap();
            yes.iter().for_each(|text| assert!(matches(&pattern, text), "{format} {text}"));
            no.iter().for_each(|text| assert!(!matches(&pattern, text), "{format} {text}"));
        }
        assert_eq!(of_format("idn-hostname"), None);
    }
}
