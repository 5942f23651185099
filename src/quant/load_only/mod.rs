//! Formats that files use and no kernel computes with: the i-quants below IQ4_NL, the ternary formats and the 4-bit floats.
//!
//! Their matrices are converted while they are loaded, block by block, into the format of [`Format`] that lies nearest; both backends then
//! compute with that one, and all that is reckoned about memory is reckoned with it. One file per format again: the layout of its block,
//! `decode_block`, which is its definition, `is_finite`, and `convert`, which appends the same elements in the other format.
//!
//! Nearest means: the smallest format with which a matrix is at most a tenth farther from the weights that it was quantized from than it was
//! before. Codebooks and scales are carried over as what they are, integers, and not rounded anew from floats; what is lost that way stands
//! at each `convert`, as the normalized mean square error that it adds and the one that the format had already (weights of SmolLM2-135M,
//! nearest codes). Many are carried over exactly, or but for the rounding of a scale to 11 bits (below 10⁻⁶).
//!
//! To add a format: write its file, and add its row to the table below.

mod fp4;
mod groups;
pub mod iq1_m;
pub mod iq1_s;
pub mod iq2_s;
pub mod iq2_xs;
pub mod iq2_xxs;
pub mod iq3_s;
pub mod iq3_xxs;
pub mod iq4_xs;
pub mod mxfp4;
pub mod nvfp4;
pub mod tq1_0;
pub mod tq2_0;

use super::Format;

/// Makes [`LoadOnly`] out of the table of formats: `Name = ggml's type number, elements in bytes of a block, module => what it becomes`.
macro_rules! load_only {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $len:literal in $bytes:literal, $module:ident => $kept_as:ident;)*) => {
        /// A format that is converted when it is loaded. The discriminants are ggml's type numbers.
        #[allow(non_camel_case_types, reason = "spelled as in GGUF files and everywhere in this field")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum LoadOnly { $($(#[$doc])* $name = $number,)* }

        /// How many formats there are.
        const N_FORMATS: usize = [$($number),*].len();

        impl LoadOnly {
            /// All of them.
            pub const ALL: [Self; N_FORMATS] = [$(Self::$name),*];

            /// The name as in GGUF.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Elements per block.
            pub const fn block_len(self) -> usize {
                match self { $(Self::$name => $len,)* }
            }

            /// Bytes per block.
            pub const fn block_bytes(self) -> usize {
                match self { $(Self::$name => $bytes,)* }
            }

            /// The format that it is converted to. Its blocks are no longer than this one's and divide them.
            pub const fn kept_as(self) -> Format {
                match self { $(Self::$name => Format::$kept_as,)* }
            }

            /// Decodes whole blocks, as [`Format::decode_row`] does.
            ///
            /// # Panics
            /// Where the lengths do not fit each other or the block.
            pub fn decode_row(self, bytes: &[u8], out: &mut [f32]) {
                match self {
                    $(Self::$name => {
                        let (blocks, odd_bytes) = bytes.as_chunks::<$bytes>();
                        let (rows, odd_len) = out.as_chunks_mut::<$len>();
                        assert!(
                            blocks.len() == rows.len() && odd_bytes.is_empty() && odd_len.is_empty(),
                            "a row of {} takes whole blocks of {} elements in {} bytes", self.name(), $len, $bytes
                        );
                        for (block, row) in blocks.iter().zip(rows) {
                            $module::decode_block(block, row);
                        }
                    })*
                }
            }

            /// Appends whole blocks in the format [`Self::kept_as`]. Numbers too large for its scales become infinite, which
            /// [`Format::check_finite`] finds.
            ///
            /// # Panics
            /// Where `bytes` are not whole blocks.
            pub fn convert(self, bytes: &[u8], out: &mut Vec<u8>) {
                match self {
                    $(Self::$name => {
                        let (blocks, odd) = bytes.as_chunks::<$bytes>();
                        assert!(odd.is_empty(), "a row of {} takes whole blocks of {} bytes", self.name(), $bytes);
                        blocks.iter().for_each(|block| $module::convert(block, out));
                    })*
                }
            }

            /// Whether all elements of these whole blocks decode to finite numbers.
            ///
            /// # Panics
            /// Where `bytes` are not whole blocks.
            pub fn check_finite(self, bytes: &[u8]) -> bool {
                match self {
                    $(Self::$name => {
                        let (blocks, odd) = bytes.as_chunks::<$bytes>();
                        assert!(odd.is_empty(), "a row of {} takes whole blocks of {} bytes", self.name(), $bytes);
                        blocks.iter().all($module::is_finite)
                    })*
                }
            }
        }
    };
}

load_only! {
    /// 4 bits through IQ4_NL's table, super-blocks of 256.
    IQ4_XS = 23, 256 in 136, iq4_xs => IQ4_NL;
    /// 3 bits and a sign through a codebook of 512, super-blocks of 256.
    IQ3_S = 21, 256 in 110, iq3_s => Q4_K;
    /// 3 bits through a codebook of 256, super-blocks of 256.
    IQ3_XXS = 18, 256 in 98, iq3_xxs => Q4_K;
    /// 2 bits and a sign through a codebook of 1024, super-blocks of 256.
    IQ2_S = 22, 256 in 82, iq2_s => Q4_K;
    /// 2 bits through a codebook of 512, super-blocks of 256.
    IQ2_XS = 17, 256 in 74, iq2_xs => Q4_K;
    /// 2 bits through a codebook of 256, super-blocks of 256.
    IQ2_XXS = 16, 256 in 66, iq2_xxs => Q4_K;
    /// 1 bit through a codebook of 2048, super-blocks of 256 with scales per 16.
    IQ1_M = 29, 256 in 56, iq1_m => Q4_K;
    /// 1 bit through a codebook of 2048, super-blocks of 256 with scales per 32.
    IQ1_S = 19, 256 in 50, iq1_s => Q2_K;
    /// Three values, five in a byte, scale per 256.
    TQ1_0 = 34, 256 in 54, tq1_0 => Q2_K;
    /// Three values, four in a byte, scale per 256.
    TQ2_0 = 35, 256 in 66, tq2_0 => Q2_K;
    /// 4-bit floats, a power of two as scale per 32.
    MXFP4 = 39, 32 in 17, mxfp4 => Q5_0;
    /// 4-bit floats, an 8-bit float as scale per 16.
    NVFP4 = 40, 64 in 36, nvfp4 => Q8_0;
}
