//! Finds the texts of special tokens in a text: leftmost first, the longest of those, in one pass.

use super::pieces::Pieces;

/// A set of tokens to find.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// Ids in the order of their texts' bytes, so that all texts with a common beginning stand together.
    sorted: Vec<u32>,
    /// Where the texts that begin with this byte start in `sorted`; one more entry for the end.
    first: Vec<u32>,
}

impl Finder {
    /// A finder of these tokens. Empty texts are left out.
    pub(super) fn new(pieces: &Pieces, ids: impl Iterator<Item = u32>) -> Self {
        let text = |id: &u32| pieces.get(*id).unwrap_or("").as_bytes();
        let mut sorted: Vec<u32> = ids.filter(|id| !text(id).is_empty()).collect();
        sorted.sort_by(|a, b| text(a).cmp(text(b)).then(b.cmp(a)));
        sorted.dedup_by(|a, b| text(a) == text(b));
        #[expect(clippy::cast_possible_truncation, reason = "ids have 32 bits, and each is there once")]
        let first = (0..=256).map(|byte| sorted.partition_point(|id| usize::from(text(id)[0]) < byte) as u32).collect();
        Self { sorted, first }
    }

    pub(super) fn ids(&self) -> &[u32] {
        &self.sorted
    }

    /// The longest token at the start of `text`: its id and length. Narrows the sorted list byte by byte, so the work is bounded
    /// by the longest token, however many there are.
    fn at_start(&self, pieces: &Pieces, text: &[u8]) -> Option<(u32, usize)> {
        let byte = usize::from(*text.first()?);
        let mut range = self.first.get(byte).map_or(0, |&i| i as usize)..self.first.get(byte + 1).map_or(0, |&i| i as usize);
        let mut best = None;
        for depth in 1.. {
            if range.is_empty() {
                break;
            }
            let piece = |i: usize| pieces.get(self.sorted[i]).unwrap_or("").as_bytes();
            // The shortest text comes first; all in the range share the first `depth` bytes with `text`.
            if piece(range.start).len() == depth {
                best = Some((self.sorted[range.start], depth));
                range.start += 1;
            }
            let Some(&next) = text.get(depth) else { break };
            let here = &self.sorted[range.clone()];
            let byte_at = |id: &u32| pieces.get(*id).unwrap_or("").as_bytes()[depth];
            let low = here.partition_point(|id| byte_at(id) < next);
            let high = here.partition_point(|id| byte_at(id) <= next);
            range = range.start + low..range.start + high;
        }
        best
    }

    /// The first token in `text` at or after `from`: its id and byte range.
    pub(super) fn find(&self, pieces: &Pieces, text: &str, from: usize) -> Option<(u32, std::ops::Range<usize>)> {
        if self.sorted.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        (from..bytes.len()).find_map(|at| {
            let byte = usize::from(bytes[at]);
            if self.first[byte] == self.first[byte + 1] {
                return None;
            }
            self.at_start(pieces, &bytes[at..]).map(|(id, len)| (id, at..at + len))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftmost_then_longest() {
        let texts = ["<a>", "<a><b>", "<", "", "x<", "<a>", "é"];
        let pieces = Pieces::new(texts.iter().map(|t| t.to_string()).collect(), &[]).unwrap();
        let finder = Finder::new(&pieces, 0..7);
        let all = |text: &str| {
            let (mut at, mut found) = (0, vec![]);
            while let Some((id, range)) = finder.find(&pieces, text, at) {
                at = range.end;
                found.push((id, range));
            }
            found
        };
        assert_eq!(all("<a><b>"), [(1, 0..6)]);
        assert_eq!(all("<a><c"), [(5, 0..3), (2, 3..4)]);
        assert_eq!(all("ax<a>é"), [(4, 1..3), (6, 5..7)]);
        assert_eq!(all("plain"), []);
        assert!(Finder::default().find(&pieces, "<a>", 0).is_none());
    }
}
