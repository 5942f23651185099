//! The formats in which GGUF stores tensors. One file per format; this table is what the rest of the crate sees.

/// A storage format. The discriminants are ggml's type numbers.
#[allow(non_camel_case_types, reason = "spelled as in GGUF files and everywhere in this field")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Format {
    /// 32-bit floats.
    F32 = 0,
    /// 16-bit IEEE floats.
    F16 = 1,
    /// 4 bits, scale per 32.
    Q4_0 = 2,
    /// 4 bits, scale and minimum per 32.
    Q4_1 = 3,
    /// 5 bits, scale per 32.
    Q5_0 = 6,
    /// 5 bits, scale and minimum per 32.
    Q5_1 = 7,
    /// 8 bits, scale per 32.
    Q8_0 = 8,
    /// 2 bits, super-blocks of 256.
    Q2_K = 10,
    /// 3 bits, super-blocks of 256.
    Q3_K = 11,
    /// 4 bits, super-blocks of 256.
    Q4_K = 12,
    /// 5 bits, super-blocks of 256.
    Q5_K = 13,
    /// 6 bits, super-blocks of 256.
    Q6_K = 14,
    /// 4 bits through a table of 16 values, scale per 32.
    IQ4_NL = 20,
    /// 16-bit brain floats.
    BF16 = 30,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 14] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ4_NL,
    ];

    /// The format with this ggml type number.
    pub fn from_ggml_type(kind: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|f| *f as u32 == kind)
    }

    /// The name as in GGUF.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2_K => "Q2_K",
            Self::Q3_K => "Q3_K",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
            Self::IQ4_NL => "IQ4_NL",
        }
    }

    /// Elements per block.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4_NL => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 | Self::IQ4_NL => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Bytes of a row of `n` elements; `n` is a multiple of [`Self::block_len`].
    pub const fn row_bytes(self, n: usize) -> usize {
        n / self.block_len() * self.block_bytes()
    }
}
