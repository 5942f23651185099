//! How a tensor of a file is stored: in a format that is kept, or in one that is converted while it is loaded.

use super::{Format, LoadOnly};

/// A format that GGUF files use and that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stored {
    /// Matrices stay as they are.
    Kept(Format),
    /// Matrices become those of another format.
    Converted(LoadOnly),
}

impl From<Format> for Stored {
    fn from(format: Format) -> Self {
        Self::Kept(format)
    }
}

impl From<LoadOnly> for Stored {
    fn from(format: LoadOnly) -> Self {
        Self::Converted(format)
    }
}

impl Stored {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Format::ALL.into_iter().map(Self::Kept).chain(LoadOnly::ALL.into_iter().map(Self::Converted))
    }

    /// The format with this ggml type number.
    pub fn from_ggml_type(kind: u32) -> Option<Self> {
        Self::all().find(|stored| stored.ggml_type() == kind)
    }

    /// ggml's type number.
    pub const fn ggml_type(self) -> u32 {
        match self {
            Self::Kept(format) => format as u32,
            Self::Converted(format) => format as u32,
        }
    }

    /// The name as in GGUF.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept(format) => format.name(),
            Self::Converted(format) => format.name(),
        }
    }

    /// The format in which a matrix is in memory.
    pub const fn kept_as(self) -> Format {
        match self {
            Self::Kept(format) => format,
            Self::Converted(format) => format.kept_as(),
        }
    }

    /// Elements per block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Kept(format) => format.block_len(),
            Self::Converted(format) => format.block_len(),
        }
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Kept(format) => format.block_bytes(),
            Self::Converted(format) => format.block_bytes(),
        }
    }

    /// Bytes of a row of `n` elements; `n` is a multiple of [`Self::block_len`].
    pub const fn row_bytes(self, n: usize) -> usize {
        n / self.block_len() * self.block_bytes()
    }

    /// Whether elements share scales, which is to say, whether it is anything but plain floats.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Decodes whole blocks: `bytes` holds exactly the blocks of `out.len()` elements.
    ///
    /// # Panics
    /// Where the lengths do not fit each other or the block.
    pub fn decode_row(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::Kept(format) => format.decode_row(bytes, out),
            Self::Converted(format) => format.decode_row(bytes, out),
        }
    }

    /// Whether all elements of these whole blocks decode to finite numbers.
    ///
    /// # Panics
    /// Where `bytes` are not whole blocks.
    pub fn check_finite(self, bytes: &[u8]) -> bool {
        match self {
            Self::Kept(format) => format.check_finite(bytes),
            Self::Converted(format) => format.check_finite(bytes),
        }
    }
}
