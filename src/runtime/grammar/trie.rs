//! A vocabulary's tokens by their bytes, so that one walk finds all that may follow.

use crate::text::Tokenizer;

/// A set of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSet {
    words: Vec<u32>,
}

impl TokenSet {
    /// The empty set of a vocabulary of `n` tokens.
    pub fn new(n: usize) -> Self {
        Self { words: vec![0; n.div_ceil(32)] }
    }

    /// Puts a token in.
    pub fn insert(&mut self, id: u32) {
        if let Some(word) = self.words.get_mut(id as usize / 32) {
            *word |= 1 << (id % 32);
        }
    }

    /// Whether a token is in it.
    pub fn contains(&self, id: u32) -> bool {
        self.words.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }
}

/// Tokens by their bytes. A node stands for the bytes on the way to it; nodes stand before those below them.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Each node's last byte.
    pub(super) bytes: Vec<u8>,
    /// How many bytes come before each node's last one.
    pub(super) depths: Vec<u16>,
    /// The first node that is not below each node.
    pub(super) skips: Vec<u32>,
    /// Where each node's tokens begin in `ids`; one more entry for the end.
    first: Vec<u32>,
    ids: Vec<u32>,
}

impl Tree {
    /// Of tokens in the order of their bytes.
    fn new<'a>(tokens: impl Iterator<Item = (&'a [u8], u32)>) -> Self {
        let mut tree = Self::default();
        // The nodes on the way to the token before.
        let mut way: Vec<u32> = Vec::new();
        let mut before: &[u8] = &[];
        for (bytes, id) in tokens {
            let n_common = before.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            for node in way.drain(n_common..) {
                tree.skips[node as usize] = tree.bytes.len() as u32;
            }
            for (depth, &byte) in bytes.iter().enumerate().skip(n_common) {
                way.push(tree.bytes.len() as u32);
                tree.bytes.push(byte);
                tree.depths.push(depth as u16);
                tree.skips.push(0);
                tree.first.push(tree.ids.len() as u32);
            }
            tree.ids.push(id);
            before = bytes;
        }
        for node in way {
            tree.skips[node as usize] = tree.bytes.len() as u32;
        }
        tree.first.push(tree.ids.len() as u32);
        tree
    }

    pub(super) fn ids(&self, node: usize) -> &[u32] {
        &self.ids[self.first[node] as usize..self.first[node + 1] as usize]
    }
}

/// The tokens that print as text. Those of plain characters, which may stand anywhere in a JSON text as they are, are apart from the others:
/// inside of quotes all of them may follow, which need not be found out one by one.
#[derive(Debug)]
pub struct TokenTrie {
    pub(super) n_vocab: usize,
    pub(super) plain: Tree,
    pub(super) other: Tree,
    pub(super) all_plain: TokenSet,
    /// Plain tokens with their numbers of characters, the shortest first.
    pub(super) plain_by_length: Vec<(u16, u32)>,
    /// What ends an answer.
    pub(super) ends: TokenSet,
}

impl TokenTrie {
    /// Of a vocabulary; `n_vocab` is the number of the model's logits, which may be more.
    pub fn new(tokenizer: &Tokenizer, n_vocab: usize) -> Self {
        let mut text = Vec::new();
        // Where each token's bytes are in `text`.
        let mut tokens: Vec<(usize, usize, u32)> = Vec::new();
        let mut ends = TokenSet::new(n_vocab);
        for id in 0..tokenizer.n_vocab().min(n_vocab) as u32 {
            if tokenizer.is_end_of_generation(id) {
                ends.insert(id);
            } else if tokenizer.is_text(id) {
                let start = text.len();
                tokenizer.token_bytes(id, false, &mut text);
                // No vocabulary has tokens of that length.
                if text.len() > start && text.len() - start <= usize::from(u16::MAX) {
                    tokens.push((start, text.len(), id));
                }
            }
        }
        let bytes = |&(start, end, _): &(usize, usize, u32)| &text[start..end];
        // Of the same bytes, in the order of their ids.
        tokens.sort_by(|a, b| bytes(a).cmp(bytes(b)));
        let n_plain = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok()?;
            text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\').then(|| text.chars().count() as u16)
        };
        let (plain, other): (Vec<_>, Vec<_>) = tokens.iter().partition(|&t| n_plain(bytes(t)).is_some());
        let mut all_plain = TokenSet::new(n_vocab);
        let mut plain_by_length: Vec<(u16, u32)> = plain.iter().filter_map(|t| Some((n_plain(bytes(t))?, t.2))).collect();
        plain_by_length.iter().for_each(|&(_, id)| all_plain.insert(id));
        plain_by_length.sort_unstable();
        let tree = |tokens: &[(usize, usize, u32)]| Tree::new(tokens.iter().map(|t| (bytes(t), t.2)));
        Self { n_vocab, plain: tree(&plain), other: tree(&other), all_plain, plain_by_length, ends }
    }

    /// The longest plain token's characters.
    pub(super) fn longest_plain(&self) -> u32 {
        self.plain_by_length.last().map_or(0, |&(n, _)| u32::from(n))
    }
}
