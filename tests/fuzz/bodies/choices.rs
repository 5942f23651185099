//! Bytes as a source of decisions: a fuzzer that changes a byte changes one decision.

/// Reads decisions from bytes; when they are used up, every decision is the first.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// All the bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether no byte is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte, or 0.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// From 0 to `n - 1`.
    pub fn below(&mut self, n: usize) -> usize {
        let value = if n <= 256 { usize::from(self.byte()) } else { usize::from(self.byte()) << 8 | usize::from(self.byte()) };
        value % n
    }

    /// One of a list.
    pub fn one_of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }

    /// Up to `max` bytes, their number first.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let n = self.below(max + 1).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(n);
        self.rest = rest;
        bytes
    }

    /// The bytes up to the next 0, which is taken too.
    pub fn until_zero(&mut self) -> &'a [u8] {
        let n = self.rest.iter().position(|&b| b == 0).unwrap_or(self.rest.len());
        let bytes = &self.rest[..n];
        self.rest = self.rest.get(n + 1..).unwrap_or_default();
        bytes
    }
}
