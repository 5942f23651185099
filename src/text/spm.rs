//! SentencePiece's byte-pair model: repeatedly joins the neighbours whose union has the best score.
//!
//! Not `tokenizers`' BPE: that needs a list of merges, which a SentencePiece vocabulary does not have. Deriving it (each split
//! of each piece) makes some 600,000 pairs for Gemma's 262,144 pieces, each with two owned strings on the way in, and it
//! ranks equal scores by list position where SentencePiece takes the leftmost. Looking unions up by text needs no list.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::pieces::{Index, Kind, Pieces};
use crate::error::Result;

/// Stands for a space inside pieces.
pub(super) const SPACE: char = '\u{2581}';

const NONE: usize = usize::MAX;

/// The scores and look-ups of a SentencePiece vocabulary.
#[derive(Debug)]
pub(super) struct Spm {
    scores: Vec<f32>,
    index: Index,
    /// The token of each byte, for what no piece spells.
    bytes: Box<[Option<u32>; 256]>,
    unknown: Option<u32>,
}

/// A stretch of the text that is, or may become, one token. A linked list over positions of a vector.
struct Symbol {
    start: usize,
    /// In bytes; 0 once it is joined to the symbol on its left.
    len: usize,
    prev: usize,
    next: usize,
    id: Option<u32>,
}

/// A possible join. `len` tells an outdated one: both symbols must still have together the length they had.
struct Join {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
    id: u32,
}

impl Ord for Join {
    fn cmp(&self, other: &Self) -> Ordering {
        // The best score first, among equals the leftmost.
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Join {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Join {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Join {}

/// The byte that a piece such as `<0x0A>` stands for.
pub(super) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 { None } else { u8::from_str_radix(digits, 16).ok() }
}

impl Spm {
    /// `scores` has one entry for each piece.
    ///
    /// # Errors
    /// As [`Index::new`].
    pub(super) fn new(pieces: &Pieces, scores: Vec<f32>, unknown: Option<u32>) -> Result<Self> {
        let mut bytes = Box::new([None; 256]);
        for (id, text, kind) in pieces.iter() {
            if kind == Kind::Byte
                && let Some(byte) = byte_of(text)
            {
                bytes[usize::from(byte)] = Some(id);
            }
        }
        // Control tokens and bytes are left out, so that plain text can never join up to one.
        let index = Index::new(pieces, |kind| matches!(kind, Kind::Normal | Kind::UserDefined | Kind::Unused))?;
        Ok(Self { scores, index, bytes, unknown })
    }

    /// Appends the tokens of `text`, in which spaces are already [`SPACE`].
    pub(super) fn encode(&self, pieces: &Pieces, text: &str, out: &mut Vec<u32>) {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (start, c) in text.char_indices() {
            let at = symbols.len();
            let len = c.len_utf8();
            symbols.push(Symbol { start, len, prev: at.wrapping_sub(1), next: at + 1, id: None });
        }
        let Some(last) = symbols.last_mut() else { return };
        last.next = NONE;

        let mut joins = BinaryHeap::new();
        let propose = |symbols: &[Symbol], left: usize, right: usize| {
            if left == NONE || right == NONE {
                return None;
            }
            let (start, len) = (symbols[left].start, symbols[left].len + symbols[right].len);
            let id = self.index.get(pieces, &text[start..start + len])?;
            Some(Join { score: self.scores[id as usize], left, right, len, id })
        };
        joins.extend((1..symbols.len()).filter_map(|right| propose(&symbols, right - 1, right)));
        while let Some(join) = joins.pop() {
            let (left, right) = (join.left, join.right);
            if symbols[left].len == 0 || symbols[right].len == 0 || symbols[left].len + symbols[right].len != join.len {
                continue;
            }
            let next = symbols[right].next;
            symbols[right].len = 0;
            symbols[left].len = join.len;
            symbols[left].id = Some(join.id);
            symbols[left].next = next;
            if next != NONE {
                symbols[next].prev = left;
            }
            joins.extend(propose(&symbols, symbols[left].prev, left));
            joins.extend(propose(&symbols, left, next));
        }

        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            let text = &text[symbol.start..symbol.start + symbol.len];
            match symbol.id.or_else(|| self.index.get(pieces, text)) {
                Some(id) => out.push(id),
                // Without byte pieces the whole character is one unknown token.
                None if text.bytes().any(|byte| self.bytes[usize::from(byte)].is_none()) => out.extend(self.unknown),
                None => out.extend(text.bytes().filter_map(|byte| self.bytes[usize::from(byte)])),
            }
        }
    }
}
