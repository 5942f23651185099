//! The vocabulary: every piece's text once, in one string, with an optional index from text to id.

use crate::error::{Error, Result};

/// The most pieces a vocabulary may have; the largest published ones have a quarter of a million.
const MAX_PIECES: usize = 1 << 22;
/// The most bytes all pieces may have together.
const MAX_BYTES: usize = 1 << 28;

/// What a piece is for, as `tokenizer.ggml.token_type` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ordinary text.
    Normal,
    /// Stands for what the vocabulary cannot spell.
    Unknown,
    /// Structures a conversation (start, end, roles); never comes from plain text.
    Control,
    /// Text that is always one token, whatever the merges say.
    UserDefined,
    /// Reserved.
    Unused,
    /// One byte, spelled `<0xNN>`.
    Byte,
}

impl Kind {
    fn from_number(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// All pieces, by id.
#[derive(Debug)]
pub(super) struct Pieces {
    text: String,
    /// Where each piece ends in `text`, in bytes; it starts where the one before ends.
    ends: Vec<u32>,
    kinds: Vec<Kind>,
}

impl Pieces {
    /// Packs the pieces; `kinds` are the numbers of the file, empty where it has none.
    pub(super) fn new(tokens: Vec<String>, kinds: &[i64]) -> Result<Self> {
        let n = tokens.len();
        if n == 0 || n > MAX_PIECES {
            return Err(Error::invalid_gguf(format!(
                "The vocabulary has {n} pieces; between 1 and {MAX_PIECES} can be right. The file is damaged."
            )));
        }
        if !kinds.is_empty() && kinds.len() != n {
            return Err(Error::invalid_gguf(format!(
                "The vocabulary has {n} pieces but {} token types. The file is damaged; download it again.",
                kinds.len()
            )));
        }
        let bytes: usize = tokens.iter().map(String::len).sum();
        if bytes > MAX_BYTES {
            return Err(Error::invalid_gguf(format!(
                "The vocabulary's pieces have {bytes} bytes together, more than the {MAX_BYTES} that can be right. The file is damaged."
            )));
        }
        let mut text = String::with_capacity(bytes);
        let mut ends = Vec::with_capacity(n);
        for token in tokens {
            text.push_str(&token);
            ends.push(text.len() as u32);
        }
        let kinds = if kinds.is_empty() {
            vec![Kind::Normal; n]
        } else {
            kinds.iter().map(|&number| Kind::from_number(number)).collect()
        };
        Ok(Self { text, ends, kinds })
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The piece's text as the file spells it; `None` where there is no such id.
    pub(super) fn get(&self, id: u32) -> Option<&str> {
        let end = *self.ends.get(id as usize)? as usize;
        let start = if id == 0 { 0 } else { self.ends[id as usize - 1] as usize };
        Some(&self.text[start..end])
    }

    /// The kind of a piece; an id beyond the vocabulary counts as unused.
    pub(super) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Unused)
    }

    pub(super) fn set_kind(&mut self, id: u32, kind: Kind) {
        if let Some(slot) = self.kinds.get_mut(id as usize) {
            *slot = kind;
        }
    }

    /// Ids with their texts and kinds, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        let mut start = 0;
        self.ends.iter().zip(&self.kinds).enumerate().map(move |(id, (&end, &kind))| {
            let text = &self.text[start..end as usize];
            start = end as usize;
            (id as u32, text, kind)
        })
    }
}

/// From a piece's text to its id. Holds ids only (4 bytes a slot); the texts stay where they are.
#[derive(Debug)]
pub(super) struct Index {
    /// Open addressing with linear probing; 0 is free, otherwise the id plus one. The length is a power of two.
    slots: Vec<u32>,
    /// The longest indexed text in bytes: longer texts need no look-up.
    longest: usize,
}

impl Index {
    /// Indexes the pieces that `wanted` accepts. Of pieces with one text the last wins.
    pub(super) fn new(pieces: &Pieces, wanted: impl Fn(Kind) -> bool) -> Self {
        let mut index = Self { slots: vec![0; (pieces.len() * 2).next_power_of_two()], longest: 0 };
        for (id, text, kind) in pieces.iter() {
            if wanted(kind) && !text.is_empty() {
                let slot = index.slot(pieces, text);
                index.slots[slot] = id + 1;
                index.longest = index.longest.max(text.len());
            }
        }
        index
    }

    pub(super) fn get(&self, pieces: &Pieces, text: &str) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        self.slots[self.slot(pieces, text)].checked_sub(1)
    }

    /// The slot that holds this text, or the free one where it would go. Ends because at most half the slots are taken.
    fn slot(&self, pieces: &Pieces, text: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash(text.as_bytes()) as usize & mask;
        while let Some(id) = self.slots[slot].checked_sub(1) {
            if pieces.get(id) == Some(text) {
                break;
            }
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// Eight bytes a step, multiply and fold: pieces are short, and a stronger hash would cost more than the look-up.
fn hash(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = (state ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
        state ^= state >> 32;
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_finds_each_piece_and_nothing_else() {
        let tokens: Vec<String> = (0..5000).map(|i| format!("piece number {i}")).collect();
        let pieces = Pieces::new(tokens.clone(), &[]).unwrap();
        let index = Index::new(&pieces, |kind| kind == Kind::Normal);
        for (id, token) in tokens.iter().enumerate() {
            assert_eq!(index.get(&pieces, token), Some(id as u32));
            assert_eq!(pieces.get(id as u32), Some(token.as_str()));
        }
        assert_eq!(index.get(&pieces, "piece number"), None);
        assert_eq!(index.get(&pieces, ""), None);
        assert_eq!(pieces.get(5000), None);
    }
}
