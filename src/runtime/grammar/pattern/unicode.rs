//! Characters by their properties in Unicode, and which are the same but for being capital or small.

use std::cell::RefCell;
use std::collections::HashMap;

use super::unicode_table::PROPERTIES;
use super::{CharSet, normalized};
use crate::runtime::grammar::automaton::MAX_CHAR;
use crate::text::unicode::ranges;

/// The characters with a property, by its name in `\p{…}`; `None` where it is not known here: the general categories of one letter and
/// those of letters, a few others, and the scripts and properties that patterns of forms name.
pub(super) fn property(name: &str) -> Option<CharSet> {
    let name = ["General_Category=", "gc=", "Script=", "sc="].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
    let name = match name {
        "Letter" => "L",
        "Uppercase_Letter" => "Lu",
        "Lowercase_Letter" => "Ll",
        "Titlecase_Letter" => "Lt",
        "Modifier_Letter" => "Lm",
        "Other_Letter" => "Lo",
        "Mark" | "Combining_Mark" => "M",
        "Number" => "N",
        "Decimal_Number" | "digit" => "Nd",
        "Punctuation" | "punct" => "P",
        "Dash_Punctuation" => "Pd",
        "Symbol" => "S",
        "Currency_Symbol" => "Sc",
        "Math_Symbol" => "Sm",
        "Space_Separator" => "Zs",
        "Alpha" => "Alphabetic",
        "Upper" => "Uppercase",
        "Lower" => "Lowercase",
        "space" => "White_Space",
        "Control" | "cntrl" => "Cc",
        "AHex" => "ASCII_Hex_Digit",
        "RI" => "Regional_Indicator",
        "EPres" => "Emoji_Presentation",
        "EComp" => "Emoji_Component",
        "EMod" => "Emoji_Modifier",
        "ExtPict" => "Extended_Pictographic",
        "Latn" => "Latin",
        "Grek" => "Greek",
        "Cyrl" => "Cyrillic",
        "Arab" => "Arabic",
        "Hebr" => "Hebrew",
        "Deva" => "Devanagari",
        "Hani" => "Han",
        "Hira" => "Hiragana",
        "Kana" => "Katakana",
        "Hang" => "Hangul",
        name => name,
    };
    let by_char: fn(char) -> bool = match name {
        "Any" => return Some(vec![(0, MAX_CHAR)]),
        "ASCII" => return Some(vec![(0, 0x7f)]),
        "ASCII_Hex_Digit" => return Some(vec![(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)]),
        "Regional_Indicator" => return Some(vec![(0x1_f1e6, 0x1_f1ff)]),
        "Emoji_Modifier" => return Some(vec![(0x1_f3fb, 0x1_f3ff)]),
        "Emoji_Component" => {
            let signs = [(0x23, 0x23), (0x2a, 0x2a), (0x30, 0x39), (0x200d, 0x200d), (0x20e3, 0x20e3), (0xfe0f, 0xfe0f)];
            let wide = [(0x1_f1e6, 0x1_f1ff), (0x1_f3fb, 0x1_f3ff), (0x1_f9b0, 0x1_f9b3), (0xe_0020, 0xe_007f)];
            return Some([signs.as_slice(), &wide].concat());
        }
        "LC" | "Cased_Letter" => {
            return Some(normalized(["Lu", "Ll", "Lt"].iter().filter_map(|name| ranges(name)).flatten().collect()));
        }
        "Alphabetic" => char::is_alphabetic,
        "Uppercase" => char::is_uppercase,
        "Lowercase" => char::is_lowercase,
        "White_Space" => char::is_whitespace,
        "Cc" => char::is_control,
        _ => {
            let of_table = || {
                PROPERTIES
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, ranges)| ranges.chunks_exact(2).map(|range| (range[0], range[1])).collect())
            };
            return ranges(name).or_else(of_table);
        }
    };
    thread_local!(static KNOWN: RefCell<HashMap<&'static str, CharSet>> = RefCell::new(HashMap::new()));
    let key = ["Alphabetic", "Uppercase", "Lowercase", "White_Space", "Cc"].into_iter().find(|key| *key == name)?;
    let find = || normalized((0..=MAX_CHAR).filter(|&c| char::from_u32(c).is_some_and(by_char)).map(|c| (c, c)).collect());
    KNOWN.with(|known| Some(known.borrow_mut().entry(key).or_insert_with(find).clone()))
}

/// A set with what is the same as its characters but for being capital or small.
pub(super) fn folded(set: &CharSet) -> CharSet {
    thread_local! {
        /// Each character that has another form, and that form; both ways round.
        static PAIRS: Vec<(u32, u32)> = {
            let one = |mut chars: &mut dyn Iterator<Item = char>| (&mut chars).next().filter(|_| chars.next().is_none());
            let small = (0..=MAX_CHAR).filter_map(char::from_u32).filter_map(|c| Some((c, one(&mut c.to_lowercase())?)));
            let small = small.filter(|(c, small)| c != small && one(&mut small.to_uppercase()).is_some());
            small.flat_map(|(c, small)| [(u32::from(c), u32::from(small)), (u32::from(small), u32::from(c))]).collect()
        };
    }
    let has = |c: u32| {
        set.binary_search_by(|&(low, high)| {
            if high < c {
                std::cmp::Ordering::Less
            } else if low > c {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Equal
            }
        })
        .is_ok()
    };
    let others: Vec<(u32, u32)> = if set.iter().all(|&(_, high)| high < 0x80) {
        let ascii = set.iter().flat_map(|&(low, high)| low..=high).filter_map(char::from_u32).filter(char::is_ascii_alphabetic);
        let mut ascii: Vec<u32> = ascii.map(|c| u32::from(c) ^ 0x20).collect();
        // The sign of Kelvin, and the long s.
        ascii.extend(has(u32::from('k')).then_some(0x212a).into_iter().chain(has(u32::from('K')).then_some(0x212a)));
        ascii.extend(has(u32::from('s')).then_some(0x17f).into_iter().chain(has(u32::from('S')).then_some(0x17f)));
        ascii.into_iter().map(|c| (c, c)).collect()
    } else {
        PAIRS.with(|pairs| pairs.iter().filter(|pair| has(pair.0)).map(|pair| (pair.1, pair.1)).collect())
    };
    normalized(set.iter().copied().chain(others).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_those_of_another_engine() {
        let names = [
            "L",
            "Lu",
            "Ll",
            "Lt",
            "Lm",
            "Lo",
            "M",
            "N",
            "P",
            "S",
            "LC",
            "Nd",
            "Pd",
            "Sc",
            "Sm",
            "Zs",
            "Cc",
            "Any",
            "ASCII",
            "Alphabetic",
            "Uppercase",
            "Lowercase",
            "White_Space",
            "ASCII_Hex_Digit",
            "Regional_Indicator",
            "Emoji",
            "Emoji_Presentation",
            "Emoji_Component",
            "Emoji_Modifier",
            "Extended_Pictographic",
            "Script=Latin",
            "Script=Greek",
            "Script=Cyrillic",
            "Script=Arabic",
            "Script=Hebrew",
            "Script=Devanagari",
            "Script=Thai",
            "Script=Han",
            "Script=Hiragana",
            "Script=Katakana",
            "Script=Hangul",
            "General_Category=Uppercase_Letter",
        ];
        for name in names {
            let ours = property(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(ours, normalized(ours.clone()), "{name}");
            let theirs = regress::Regex::with_flags(&format!("^\\p{{{name}}}$"), "u").unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut text = String::new();
            let mut n_different = 0;
            for c in (0..0x600).chain((0x600..=MAX_CHAR).step_by(23)).filter_map(char::from_u32) {
                text.clear();
                text.push(c);
                let is_ours = ours.iter().any(|&(low, high)| (low..=high).contains(&u32::from(c)));
                n_different += usize::from(is_ours != theirs.find(&text).is_some());
            }
            // What a version of Unicode adds.
            assert!(n_different < 600, "{name}: {n_different}");
            println!("{name}: {n_different}");
        }
        assert_eq!(property("Sinhala"), None);
    }

    #[test]
    fn capital_and_small_letters_are_the_same() {
        let set = |text: &str| normalized(text.chars().map(|c| (c.into(), c.into())).collect());
        assert_eq!(folded(&set("aZ1")), set("aAzZ1"));
        assert_eq!(folded(&set("kéΔ")), set("kK\u{212a}éÉΔδ"));
        assert_eq!(folded(&vec![(0, MAX_CHAR)]), vec![(0, MAX_CHAR)]);
    }
}
