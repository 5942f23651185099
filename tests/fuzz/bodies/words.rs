//! Pre-tokenizers: every family of patterns on any text.
//!
//! * The words are the text, in order.
//! * They are those that a regex engine finds, where it finds an end.
//! * The text made 128 KiB long by repetition takes no longer than such a text may: the fuzzing engine's time limit sees to that.

use llava_web::text::words::{Words, families};
use tokenizers::tokenizer::pattern::Pattern as _;
use tokenizers::utils::SysRegex;

use super::{memory, text};

struct Family {
    words: Words,
    regexes: Vec<SysRegex>,
}

fn family((name, patterns): (&'static str, &'static [&'static str])) -> Family {
    let regexes = patterns.iter().map(|p| SysRegex::new(p).expect("a pattern in use")).collect();
    Family { words: Words::new(name).expect("a family in use"), regexes }
}

/// What lies between matches are words too.
fn split<'t>(regexes: &[SysRegex], text: &'t str, out: &mut Vec<&'t str>) -> Option<()> {
    let Some((regex, rest)) = regexes.split_first() else {
        out.push(text);
        return Some(());
    };
    for ((from, to), _) in regex.find_matches(text).ok()? {
        if from < to {
            split(rest, &text[from..to], out)?;
        }
    }
    Some(())
}

/// The body. The first byte chooses the family, the second whether the text is made long.
pub fn run(data: &[u8]) {
    thread_local!(static FAMILIES: Vec<Family> = families().map(family).collect());
    let [which, how, rest @ ..] = data else { return };
    let text = text(rest);
    FAMILIES.with(|families| {
        let family = &families[usize::from(*which) % families.len()];
        memory::within(64 << 20, || {
            if *how == 0xa5 && !text.is_empty() {
                let long = text.repeat((128 << 10) / text.len());
                assert_eq!(family.words.split(&long).concat(), long);
                return;
            }
            let words = family.words.split(&text);
            assert_eq!(words.concat(), text);
            let mut wanted = Vec::new();
            if text.len() <= 256 && split(&family.regexes, &text, &mut wanted).is_some() {
                assert_eq!(words, wanted);
            }
        });
    });
}
