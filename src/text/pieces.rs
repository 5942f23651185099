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
            // No more than MAX_BYTES.
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
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
        (0u32..).zip(self.ends.iter().zip(&self.kinds)).map(move |(id, (&end, &kind))| {
            let text = &self.text[start..end as usize];
            start = end as usize;
            (id, text, kind)
        })
    }
}

/// The most slots that a look-up goes over. With half of the slots taken at most, the longest run of taken ones among 2²³ is below a
/// hundred for any hash that spreads; a vocabulary made to collide would make one as long as itself.
const MAX_PROBES: usize = 1024;
/// How many hashes are tried before a vocabulary is taken for such a one.
const MAX_SEEDS: u64 = 4;

/// From a piece's text to its id. Holds ids only (4 bytes a slot); the texts stay where they are.
#[derive(Debug)]
pub(super) struct Index {
    /// Open addressing with linear probing; 0 is free, otherwise the id plus one. The length is a power of two.
    slots: Vec<u32>,
    /// What the hash begins with.
    seed: u64,
    /// The longest indexed text in bytes: longer texts need no look-up.
    longest: usize,
}

impl Index {
    /// Indexes the pieces that `wanted` accepts. Of pieces with one text the last wins.
    ///
    /// # Errors
    /// `invalid_gguf` where the pieces were made to collide.
    pub(super) fn new(pieces: &Pieces, wanted: impl Fn(Kind) -> bool) -> Result<Self> {
        (0..MAX_SEEDS).find_map(|seed| Self::with_seed(seed, pieces, &wanted)).ok_or_else(|| {
            Error::invalid_gguf(
                "The vocabulary's pieces are such that looking one up takes for ever. Download the file from another source.",
            )
        })
    }

    fn with_seed(seed: u64, pieces: &Pieces, wanted: impl Fn(Kind) -> bool) -> Option<Self> {
        let mut index = Self { slots: vec![0; (pieces.len() * 2).next_power_of_two()], seed, longest: 0 };
        for (id, text, kind) in pieces.iter() {
            if wanted(kind) && !text.is_empty() {
                let slot = index.slot(pieces, text)?;
                index.slots[slot] = id + 1;
                index.longest = index.longest.max(text.len());
            }
        }
        Some(index)
    }

    pub(super) fn get(&self, pieces: &Pieces, text: &str) -> Option<u32> {
        if text.len() > self.longest {
            return None;
        }
        self.slots[self.slot(pieces, text)?].checked_sub(1)
    }

    /// The slot that holds this text, or the free one where it would go; `None` where there is neither among the first
    /// [`MAX_PROBES`].
    fn slot(&self, pieces: &Pieces, text: &str) -> Option<usize> {
        let mask = self.slots.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash do")]
        let first = hash(self.seed, text.as_bytes()) as usize;
        (0..MAX_PROBES).map(|probe| first.wrapping_add(probe) & mask).find(|slot| match self.slots[*slot].checked_sub(1) {
            Some(id) => pieces.get(id) == Some(text),
            None => true,
        })
    }
}

/// Eight bytes a step, multiply and fold: pieces are short, and a stronger hash would cost more than the look-up.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = seed.wrapping_mul(FACTOR).rotate_left(32) ^ bytes.len() as u64;
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
        let index = Index::new(&pieces, |kind| kind == Kind::Normal).unwrap();
        for (id, token) in tokens.iter().enumerate() {
            assert_eq!(index.get(&pieces, token), Some(id as u32));
            assert_eq!(pieces.get(id as u32), Some(token.as_str()));
        }
        assert_eq!(index.get(&pieces, "piece number"), None);
        assert_eq!(index.get(&pieces, ""), None);
        assert_eq!(pieces.get(5000), None);
    }

    /// `n` texts of 8 letters whose hashes with this seed agree in all bits that choose a slot among `n_slots`.
    fn colliding(seed: u64, n: usize, n_slots: usize) -> Vec<String> {
        let mask = n_slots as u64 - 1;
        // Four bits of the number to a letter.
        let letters = (0u64..1 << 32).map(|i| std::array::from_fn::<u8, 8, _>(|k| b'a' + (i >> (4 * k) & 15) as u8));
        let colliding = letters.filter(|text| hash(seed, text) & mask == 0);
        colliding.take(n).map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
    }

    #[test]
    fn pieces_that_collide_are_looked_up_by_another_hash() {
        let n = MAX_PROBES + 200;
        let tokens = colliding(0, n, (2 * n).next_power_of_two());
        let pieces = Pieces::new(tokens.clone(), &[]).unwrap();
        assert!(Index::with_seed(0, &pieces, |_| true).is_none(), "they do collide");
        let index = Index::new(&pieces, |_| true).expect("another seed spreads them");
        assert!(index.seed > 0);
        for (id, token) in tokens.iter().enumerate() {
            assert_eq!(index.get(&pieces, token), Some(id as u32));
        }
    }

    #[test]
    fn a_vocabulary_that_collides_whatever_the_hash_is_refused_at_once() {
        // The pieces of all seeds together: each seed finds its own in one place.
        let (per_seed, n_seeds) = (MAX_PROBES + 1, MAX_SEEDS as usize);
        let n_slots = (2 * per_seed * n_seeds).next_power_of_two();
        let tokens: Vec<String> = (0..MAX_SEEDS).flat_map(|seed| colliding(seed, per_seed, n_slots)).collect();
        let pieces = Pieces::new(tokens, &[]).unwrap();
        assert_eq!(Index::new(&pieces, |_| true).expect_err("is refused").code(), "invalid_gguf");
    }
}
