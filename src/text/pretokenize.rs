//! How each family of byte-pair vocabularies cuts text into words before merging (`tokenizer.ggml.pre`).

use super::pattern::Pattern;
use crate::error::{Error, Result};

const DIGIT: &str = r"\p{N}";
const DIGITS: &str = r"\p{N}+";
const ASCII_DIGITS_BY_THREE: &str = "[0-9][0-9][0-9]";
const LINE_BREAK: &str = r"[\r\n]";
/// GPT-2's own.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// English contractions in any case; `ſ` is an `s` in any case.
macro_rules! contractions {
    () => {
        "'[sSſ]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    };
}
/// What the tiktoken family shares after letters and digits.
macro_rules! tail {
    () => {
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    };
}
const LLAMA3: &str = concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}", tail!());
const QWEN2: &str = concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}", tail!());
const QWEN35: &str =
    concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+");
const SEED: &str = concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+");
const BAILING: &str =
    concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+");
/// Words also end where capitals follow small letters.
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:",
    contractions!(),
    r")?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:",
    contractions!(),
    r")?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Punctuation in runs, before GPT-2's.
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";
const PUNCTUATION_FALCON: &str = r"[\p{P}\$\+<=>\^~\|`]+";
/// Words with the space before them; some scripts' sentence marks stand alone.
const BLOOM: &str = r" ?[^\(\s\|.,!?…。，、।۔،\)]+";
const CJK: &str = "[一-龥ࠀ-一가-퟿]+";

/// A model family's way.
pub(super) struct Family {
    /// The names of `tokenizer.ggml.pre` for it.
    names: &'static [&'static str],
    /// Applied one after another, each to the pieces that the one before left.
    patterns: &'static [&'static str],
    /// Whether a word that is itself a piece is taken whole, even where the merges would not build it.
    pub(super) whole_words: bool,
    /// Whether texts begin with the BOS token when the file does not say.
    pub(super) add_bos: bool,
}

const fn family(names: &'static [&'static str], patterns: &'static [&'static str]) -> Family {
    Family { names, patterns, whole_words: false, add_bos: false }
}

const FAMILIES: &[Family] = &[
    family(
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v1-en",
            "jina-v2-code",
            "gigachat",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "roberta-bpe",
            "modern-bert",
            "a.x-4.0",
            "mellum",
            "exaone4",
        ],
        &[GPT2],
    ),
    Family {
        names: &["llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"],
        patterns: &[LLAMA3],
        whole_words: true,
        add_bos: true,
    },
    family(&["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"], &[LLAMA3]),
    family(&["qwen2", "stablelm2", "deepseek-r1-qwen", "megrez", "hunyuan", "solar-open", "kormo", "grok-2"], &[QWEN2]),
    family(&["qwen35"], &[QWEN35]),
    family(&["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b"], &[DIGIT, GPT2]),
    family(&["default"], &[PUNCTUATION, GPT2, DIGITS, ASCII_DIGITS_BY_THREE]),
    family(&["falcon"], &[PUNCTUATION_FALCON, GPT2, ASCII_DIGITS_BY_THREE]),
    family(
        &["deepseek-llm"],
        // The original lists the cased letters of some scripts one by one; the categories add rare mathematical ones.
        &[LINE_BREAK, r"\s?[\p{Lu}\p{Ll}\p{Lt}]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", CJK, DIGITS],
    ),
    family(&["deepseek-coder"], &[LINE_BREAK, r"\s?\p{L}+", r"\s?\p{P}+", CJK, DIGIT]),
    family(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        &[
            r"\p{N}{1,3}",
            "[一-龥぀-ゟ゠-ヿ]+",
            r"[!-/:-@\[-`\{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
    ),
    Family { names: &["tekken"], patterns: &[TEKKEN], whole_words: true, add_bos: true },
    family(&["gpt-4o", "llama4", "kanana2"], &[GPT4O]),
    family(&["seed-coder"], &[SEED]),
    family(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING]),
    family(&["poro-chat", "poro", "bloom", "gpt3-finnish"], &[BLOOM]),
    family(&["viking"], &[BLOOM, DIGIT]),
];

/// The family of this name.
pub(super) fn find(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.names.contains(&name))
}

/// One name and the patterns of each family.
pub(super) fn families() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    FAMILIES.iter().map(|family| (family.names[0], family.patterns))
}

/// Every pattern in use, for the test against a regex engine.
#[cfg(test)]
pub(super) fn all_patterns() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.patterns.iter().copied())
}

/// Every family with its patterns, for the test of how long they take.
#[cfg(test)]
pub(super) fn all_families() -> impl Iterator<Item = (&'static Family, &'static [&'static str])> {
    FAMILIES.iter().map(|family| (family, family.patterns))
}

/// Cuts texts into words.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    patterns: Vec<Pattern>,
}

impl PreTokenizer {
    pub(super) fn new(family: &Family) -> Result<Self> {
        let patterns = family.patterns.iter().map(|source| Pattern::new(source)).collect::<std::result::Result<_, _>>();
        Ok(Self { patterns: patterns.map_err(|e| Error::internal(format!("A pre-tokenizer's pattern is malformed: {e}.")))? })
    }

    /// Passes on the words of `text`, in order.
    pub(super) fn split<'t>(&self, text: &'t str, each: &mut dyn FnMut(&'t str)) {
        fn level<'t>(patterns: &[Pattern], text: &'t str, each: &mut dyn FnMut(&'t str)) {
            match patterns.split_first() {
                Some((pattern, rest)) => pattern.split(text, |piece| level(rest, piece, each)),
                None => each(text),
            }
        }
        level(&self.patterns, text, each);
    }
}
