//! The regular expressions of `pattern`, as ECMA-262 means them with the flag `u`, and what else is said of texts, to automata over characters.
//!
//! All but references back is here: alternatives, groups, classes, properties of Unicode, quantifiers, the anchors `^` and `$`, word boundaries,
//! flags within the pattern, and what looks ahead and behind. A pattern may match anywhere in the text, as JSON Schema says.
//!
//! What looks ahead is a duty of those that come by: another automaton that runs beside them from there on, and that must match, or must not.
//! What looks behind is an automaton that runs from the beginning of the text on. All that is said of a text (patterns, texts it is not, what
//! holds of it or what does not) is put as one condition that looks ahead from its beginning, and made deterministic as a whole.

mod engine;
mod syntax;
mod unicode;
mod unicode_table;

use std::collections::HashMap;
use std::rc::Rc;

use self::syntax::Node;
use super::automaton::MAX_CHAR;

pub(super) use self::engine::texts;

/// The highest count of a quantifier.
const MAX_COUNT: u32 = 1000;

/// Code points: ranges that ascend and do not touch.
pub(super) type CharSet = Vec<(u32, u32)>;

/// An automaton over characters. From every state an end can be reached.
#[derive(Debug)]
pub(super) struct CharDfa {
    /// Sets of characters that lead from each state to another. The first state is the start.
    pub(super) edges: Vec<Vec<(CharSet, usize)>>,
    /// Where a text may end, and then which labels it has, a bit each.
    pub(super) ends: Vec<Option<u32>>,
}

/// Why there is no automaton.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// No text matches.
    Nothing,
    /// The pattern is none, or has what is not supported: what, at which character; and where it stands.
    Pattern(String, Rc<str>),
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

/// What may be said of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Text {
    /// A pattern matches somewhere in it; and where the pattern stands.
    Pattern(Rc<str>, Rc<str>),
    /// It is one of these.
    OneOf(Vec<Rc<str>>),
    /// It has so many characters at least, and at most.
    Length(u32, Option<u32>),
    /// All of these hold.
    All(Vec<Text>),
    /// One of these holds.
    Any(Vec<Text>),
    /// It does not hold.
    Not(Box<Text>),
}

impl Text {
    /// What holds of no text.
    pub(super) const NONE: Self = Self::Any(Vec::new());

    /// The same as something that matches at the beginning of the text, and takes no characters.
    fn node(&self) -> Result<Node, Refusal> {
        let any = || Node::Chars(Rc::new(vec![(0, MAX_CHAR)]));
        let ahead = |all: Vec<Node>| Node::Look { is_behind: false, is_negated: false, body: Box::new(Node::All(all)) };
        let count = |n: u32| if n > MAX_COUNT { Err(Refusal::TooLarge) } else { Ok(n) };
        let nodes = |all: &[Self]| all.iter().map(Self::node).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Self::Pattern(pattern, path) => {
                let node = syntax::parse(pattern).map_err(|what| Refusal::Pattern(what, path.clone()))?;
                ahead(vec![Node::Repeat(Box::new(any()), 0, None), node])
            }
            Self::OneOf(texts) => {
                let text = |text: &Rc<str>| Node::All(text.chars().map(syntax::one).chain([Node::End]).collect());
                ahead(vec![Node::Any(texts.iter().map(text).collect())])
            }
            Self::Length(min, None) => ahead(vec![Node::Repeat(Box::new(any()), count(*min)?, None)]),
            Self::Length(min, Some(max)) if min > max => Self::NONE.node()?,
            Self::Length(min, Some(max)) => {
                ahead(vec![Node::Repeat(Box::new(any()), count(*min)?, Some(count(*max)?)), Node::End])
            }
            Self::All(all) => Node::All(nodes(all)?),
            Self::Any(all) => Node::Any(nodes(all)?),
            Self::Not(inner) => Node::Look { is_behind: false, is_negated: true, body: Box::new(inner.node()?) },
        })
    }
}

/// The automaton of all texts but these.
pub(super) fn other_texts<'a>(texts: impl Iterator<Item = &'a str>) -> CharDfa {
    const OTHER: usize = 1;
    let mut children: Vec<HashMap<u32, usize>> = vec![HashMap::new(), HashMap::new()];
    let mut ends = vec![Some(0), Some(0)];
    for text in texts {
        let mut at = 0;
        for c in text.chars() {
            let next = children.len();
            let found = *children[at].entry(c.into()).or_insert(next);
            if found == next {
                children.push(HashMap::new());
                ends.push(Some(0));
            }
            at = found;
        }
        ends[at] = None;
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
fn trimmed(mut edges: Vec<Vec<(CharSet, usize)>>, ends: Vec<Option<u32>>) -> Result<CharDfa, Refusal> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    for (from, out) in edges.iter().enumerate() {
        out.iter().for_each(|&(_, to)| before[to].push(from));
    }
    let mut is_live: Vec<bool> = ends.iter().map(Option::is_some).collect();
    let mut waiting: Vec<usize> = (0..ends.len()).filter(|&s| is_live[s]).collect();
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
    Ok(CharDfa { edges, ends })
}

impl CharDfa {
    /// Whether there are texts without end. Every state leads to an end of one.
    pub(super) fn is_endless(&self) -> bool {
        // Whether each state is on the way to the one that is looked at, or was looked at.
        let mut known = vec![None; self.edges.len()];
        let mut way = vec![(0, 0)];
        known[0] = Some(true);
        while let Some((state, n)) = way.last_mut() {
            let state = *state;
            match self.edges[state].get(*n) {
                Some(&(_, to)) => {
                    *n += 1;
                    match known[to] {
                        Some(true) => return true,
                        Some(false) => {}
                        None => {
                            known[to] = Some(true);
                            way.push((to, 0));
                        }
                    }
                }
                None => {
                    known[state] = Some(false);
                    way.pop();
                }
            }
        }
        false
    }

    /// Whether a text is one of its texts.
    pub(super) fn matches(&self, text: &str) -> bool {
        let step = |state: usize, c: char| {
            let c = u32::from(c);
            self.edges[state].iter().find(|(set, _)| set.iter().any(|&(low, high)| (low..=high).contains(&c))).map(|(_, to)| *to)
        };
        text.chars().try_fold(0, step).is_some_and(|state| self.ends[state].is_some())
    }
}

/// The pattern of a `format`; `None` where any text will do, as JSON Schema allows. What is written for one that the standard has is of it;
/// not all that is of it is written.
pub(super) fn of_format(format: &str) -> Option<String> {
    // Every day of its month, and the 29th of February in leap years.
    const DATE: &str = "(\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))\
                        |(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)";
    const TIME: &str = "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
    const BYTE: &str = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
    // In ASCII; two hyphens behind two characters announce a name in other letters.
    const LABEL: &str = "(?![A-Za-z0-9-]{2}--)[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?";
    const HEX: &str = "[0-9a-f]{1,4}";
    // Of RFC 3986, in ASCII.
    const PCHAR: &str = "([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})";
    Some(match format {
        "date" => format!("^{DATE}$"),
        "time" => format!("^{TIME}$"),
        "date-time" => format!("^{DATE}T{TIME}$"),
        "duration" => "^P(\\d{1,6}W|(\\d{1,6}Y(\\d{1,6}M(\\d{1,6}D)?)?|\\d{1,6}M(\\d{1,6}D)?|\\d{1,6}D)(T(\\d{1,6}H(\\d{1,6}M(\\d{1,6}S)?)?|\\d{1,6}M(\\d{1,6}S)?|\\d{1,6}S))?\
                       |T(\\d{1,6}H(\\d{1,6}M(\\d{1,6}S)?)?|\\d{1,6}M(\\d{1,6}S)?|\\d{1,6}S))$"
            .to_owned(),
        "uuid" => "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$".to_owned(),
        "ipv4" => format!("^({BYTE}\\.){{3}}{BYTE}$"),
        "ipv6" => {
            // The two colons stand for one group or more.
            let short = (0..=7).map(|before| {
                let after = 7 - before;
                let before = if before == 0 { String::new() } else { format!("{HEX}(:{HEX}){{0,{}}}", before - 1) };
                let after = if after == 0 { String::new() } else { format!("({HEX}(:{HEX}){{0,{}}})?", after - 1) };
                format!("{before}::{after}")
            });
            let all: Vec<String> = short.chain([format!("({HEX}:){{7}}{HEX}")]).collect();
            format!("^({})$", all.join("|"))
        }
        "hostname" | "idn-hostname" => format!("^{LABEL}(\\.{LABEL}){{0,6}}$"),
        "email" | "idn-email" => format!("^[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@{LABEL}(\\.{LABEL})+$"),
        "uri" | "iri" => {
            format!("^[A-Za-z][A-Za-z0-9+.-]*:(//{LABEL}(\\.{LABEL})*(:\\d{{1,5}})?(/{PCHAR}*)*|{PCHAR}+(/{PCHAR}*)*)(\\?({PCHAR}|[/?])*)?(#({PCHAR}|[/?])*)?$")
        }
        "uri-reference" | "iri-reference" => {
            // Without a colon in its first part, which would make that a scheme.
            format!("^([A-Za-z][A-Za-z0-9+.-]*:|(?![^/?#]*:))(//{LABEL}(\\.{LABEL})*(:\\d{{1,5}})?(/{PCHAR}*)*|/?{PCHAR}+(/{PCHAR}*)*)(\\?({PCHAR}|[/?])*)?(#({PCHAR}|[/?])*)?$")
        }
        "json-pointer" => "^(/([^~/]|~[01])*)*$".to_owned(),
        "relative-json-pointer" => "^(0|[1-9]\\d{0,5})(#|(/([^~/]|~[01])*)*)$".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(patterns: &[String], min: u32, max: Option<u32>) -> Result<CharDfa, Refusal> {
        let patterns: Vec<Text> = patterns.iter().map(|p| Text::Pattern(p.as_str().into(), "#".into())).collect();
        super::texts(&patterns, &[], (min, max), &|_| true, &mut 0)
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
            ("^(?=.*\\d)(?!.*aa)[a-z\\d]+$", &["a1", "1aba"], &["ab", "aa1", ""]),
            ("(?<=a)b", &["ab", "xab"], &["b", "bb", "cb"]),
            ("(?<!a)b", &["b", "bb", "ab b"], &["ab", "a"]),
            ("^(?:a(?!b)|b)*$", &["aa", "ba", ""], &["ab", "aab"]),
            ("(?<=(?<!x)a)b", &["ab", "yab"], &["xab"]),
            ("^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$", &["1", "+0.5", ".5"], &["", "+", ".", "a"]),
            ("\\bcat\\b", &["cat", "a cat.", "cat cat"], &["cats", "concat", ""]),
            ("^\\B.\\B$", &["!", "é"], &["a", ""]),
            ("a(?=b$)", &["ab", "aab"], &["abc", "a"]),
            ("a(?!.)", &["a", "ba", "a\n"], &["ab"]),
            ("(?=(a|b)c)\\w{3}$", &["acx", "xbcy"], &["axc", "ac"]),
            ("^(?i:ab)c$", &["ABc", "abc", "aBc"], &["abC"]),
            ("^(?s:.)$", &["\n", "x"], &["xx"]),
            ("(?m:^b$)", &["a\nb", "b\nc", "b"], &["ab", "a\nbc"]),
            ("^\\p{Lu}\\P{L}+$", &["É1", "A--"], &["é1", "AA"]),
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
            "(",
            ")",
            "a**",
            "*",
            "[a",
            "[b-a]",
            "\\",
            "(a)\\1",
            "(?=a",
            "(?<=(?=a)b)",
            "(?<=a$)b",
            "(?i)a",
            "(?x:a)",
            "(?=a)*",
            "\\p{Klingon}",
            "\\pL",
            "\\p{L",
            "a{2,1}",
            "a{99999}",
            "\\q",
            "}",
            "^*",
            "(?<n",
            "\\u12",
            "(?<=\\b)a",
        ] {
            assert!(matches!(texts(&[pattern.to_owned()], 0, None), Err(Refusal::Pattern(..))), "{pattern}");
        }
        let deep = "(".repeat(10_000) + &")".repeat(10_000);
        assert!(matches!(texts(&[deep], 0, None), Err(Refusal::Pattern(..))));
        for pattern in [
            "(?=(.*a){20})(?=(.*b){20})(?=(.*c){20})(?=(.*d){20})x",
            "^(?:(?!a.{30}b).)*$",
            "(?<=a.{40})b",
            "((a{1000}){1000}){1000}",
            "(a|b)*a(a|b){40}$",
            "(.*a.*b.*c){300}x(a|b){300}y",
        ] {
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
    fn conditions_on_texts_hold_together() {
        let pattern = |p: &str| Text::Pattern(p.into(), "#".into());
        let of = |must: &[Text], labels: &[Text]| super::texts(must, labels, (0, None), &|_| true, &mut 0);
        let not_listed = Text::Not(Box::new(Text::OneOf(vec!["a".into(), "".into()])));
        let dfa = of(&[not_listed.clone(), Text::Length(0, Some(2))], &[]).unwrap();
        assert!(["b", "aa", "é"].iter().all(|t| dfa.matches(t)));
        assert!(!["", "a", "aaa"].iter().any(|t| dfa.matches(t)));
        let either = Text::Any(vec![Text::All(vec![pattern("^x"), not_listed]), Text::OneOf(vec!["yes".into()])]);
        let dfa = of(std::slice::from_ref(&either), &[]).unwrap();
        assert!(["x", "xa", "yes"].iter().all(|t| dfa.matches(t)));
        assert!(!["a", "ye", "yess"].iter().any(|t| dfa.matches(t)));
        assert_eq!(of(&[either.clone(), Text::Not(Box::new(either))], &[]).err(), Some(Refusal::Nothing));
        assert_eq!(of(&[Text::NONE], &[]).err(), Some(Refusal::Nothing));
        // Labels tell apart what a text is besides.
        let dfa = of(&[], &[pattern("^a"), pattern("b$")]).unwrap();
        let bits = |text: &str| {
            let step = |state: usize, c: char| {
                dfa.edges[state].iter().find(|(set, _)| set.iter().any(|r| (r.0..=r.1).contains(&c.into()))).unwrap().1
            };
            dfa.ends[text.chars().fold(0, step)]
        };
        assert_eq!(["", "a", "b", "axb"].map(bits), [Some(0), Some(1), Some(2), Some(3)]);
    }

    /// The engine of ECMA-262 that JSON Schema refers to finds a match in the same texts.
    #[test]
    fn patterns_match_what_another_engine_matches() {
        let parts = [
            "a",
            "b",
            "[ab]",
            ".",
            "^",
            "$",
            "\\b",
            "\\B",
            "(?=a)",
            "(?!b)",
            "(?<=a)",
            "(?<!b)",
            "(?=a|.b)",
            "(?!.b$)",
            "(?<=^a|bb)",
            "(a|b)",
            "(?:ab)?",
            "a*",
            "[^a]+",
            "b{1,2}",
            "\\w",
            " ",
            "(?<!\\w)",
            "(?:(?!ab).)*",
            "(?=.*b)",
            "|",
        ];
        let mut state = 7_u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        let texts_tried: Vec<String> = (0..4_usize.pow(5))
            .map(|n| (0..5).map(|i| ["", "a", "b", " "][n / 4_usize.pow(i) % 4]).collect::<String>())
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        for _ in 0..300 {
            let pattern: String = (0..1 + random(5)).map(|_| parts[random(parts.len())]).collect();
            let regex = regress::Regex::with_flags(&pattern, "u").unwrap_or_else(|e| panic!("{pattern}: {e}"));
            let dfa = match texts(std::slice::from_ref(&pattern), 0, None) {
                Ok(dfa) => Some(dfa),
                Err(Refusal::Nothing) => None,
                Err(other) => panic!("{pattern}: {other:?}"),
            };
            for text in &texts_tried {
                let ours = dfa.as_ref().is_some_and(|dfa| dfa.matches(text));
                assert_eq!(ours, regex.find(text).is_some(), "{pattern} on {text:?}");
            }
        }
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
            ("duration", &["P1Y2M3D", "PT1H30M", "P2W", "P1DT2S"], &["P", "PT", "P1S", "P1W2D", "P1Y3D", "1D"]),
            ("uuid", &["01234567-89ab-cdef-0123-456789abCDEF"], &["0123456789abcdef0123456789abcdef"]),
            (
                "ipv6",
                &["::", "::1", "1::", "2001:db8::1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6::8"],
                &["1", "1:2", ":::", "1::2::3", "1:2:3:4:5:6:7::8", "12345::"],
            ),
            ("hostname", &["a", "a-b.example.org", "x--y"], &["", "-a", "a-", "a..b", "ab--c", "a_b"]),
            ("uri", &["https://a.org/b?c=d#e", "mailto:a@b.c", "urn:x:y"], &["a", "//a.org", "http://a b", ":"]),
            ("uri-reference", &["/a/b", "a?b", "https://a.org", "a#b"], &["a b", "1:b", "\\"]),
            ("json-pointer", &["", "/a/b~0~1", "/"], &["a", "/~2", "/~"]),
            ("relative-json-pointer", &["0", "12/a", "1#"], &["", "01", "/a", "-1"]),
            ("ipv4", &["0.0.0.0", "255.249.199.10"], &["256.0.0.1", "1.2.3", "01.2.3.4", "1.2.3.4."]),
            ("email", &["a.b+c@d-e.org"], &["a@b", "a..b@c.d", "@b.c"]),
        ];
        for (format, yes, no) in cases {
            let pattern = of_format(format).unwrap();
            yes.iter().for_each(|text| assert!(matches(&pattern, text), "{format} {text}"));
            no.iter().for_each(|text| assert!(!matches(&pattern, text), "{format} {text}"));
        }
        assert_eq!(of_format("made-up"), None);
    }
}
