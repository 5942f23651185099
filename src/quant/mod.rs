//! The formats in which GGUF stores tensors. One file per format, and one table that names them all.
//!
//! A quantized row is a sequence of blocks: [`Format::block_len`] elements in [`Format::block_bytes`] bytes, a few small
//! integers per element and the scales that turn them into floats. Each format's file writes down the layout of its block
//! with byte offsets, and its `decode_block` is the definition of the format: kernels of every backend are tested against
//! it. It computes in 32-bit floats in the order ggml's `dequantize_row_*` functions do, so that the results are the same
//! bits. [`quantize_row`] is the other direction, for the formats that have a simple one.
//!
//! A GPU does not like blocks of 18 bytes. Beside each format's block there is a second arrangement, in planes: all low
//! bits of a matrix, then all high bits, then all scales, each in an order that 32-bit loads suit. `repack` takes a block
//! there without losing anything, and a fragment of WGSL with the same name as the file decodes 32 elements from it.
//!
//! To add a format: write its file with `decode_block`, `is_finite`, `PLANES` and `repack`, its `.wgsl`, and add its row to
//! the table below. Formats that kernels need not know, because a matrix is as well kept in another one, are in [`load_only`];
//! a tensor of a file is [`Stored`] in one of either kind.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "blocks are numbers of a few bits, packed into bytes"
)]

pub mod bfloat16;
pub mod float16;
pub mod float32;
pub mod iq4_nl;
pub mod load_only;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;

mod quantize;
mod stored;

pub use load_only::LoadOnly;
pub use quantize::quantize_row;
pub use stored::Stored;

/// Makes [`Format`] out of the table of formats: `Name = ggml's type number, elements in bytes of a block, module`.
/// The types of `module::decode_block` hold the block's sizes once more, so a row cannot disagree with its file.
macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $len:literal in $bytes:literal, $module:ident;)*) => {
        /// A storage format. The discriminants are ggml's type numbers.
        #[allow(non_camel_case_types, reason = "spelled as in GGUF files and everywhere in this field")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Format { $($(#[$doc])* $name = $number,)* }

        /// How many formats there are.
        const N_FORMATS: usize = [$($number),*].len();

        impl Format {
            /// All formats.
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

            /// Decodes whole blocks: `bytes` holds exactly the blocks of `out.len()` elements. Any bytes decode to
            /// something; see [`Self::check_finite`].
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

            /// The planes in which a GPU keeps a matrix, in their order: bits per 32 elements of each.
            #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the GPU's arrangement"))]
            pub(crate) const fn planes(self) -> &'static [u32] {
                match self { $(Self::$name => $module::PLANES,)* }
            }

            /// The WGSL that reads those planes; see `plane.wgsl`.
            #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the GPU's arrangement"))]
            pub(crate) const fn wgsl(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!(stringify!($module), ".wgsl")),)* }
            }

            /// Appends whole blocks to the planes, which are one vector each.
            fn repack_blocks(self, bytes: &[u8], planes: &mut [Vec<u8>]) {
                match self {
                    $(Self::$name => bytes.as_chunks::<$bytes>().0.iter().for_each(|block| $module::repack(block, planes)),)*
                }
            }

            /// Whether all elements of these whole blocks decode to finite numbers. Looks only at what can be otherwise:
            /// the blocks' scales and minima, or the values of the float formats.
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

formats! {
    /// 32-bit floats.
    F32 = 0, 1 in 4, float32;
    /// 16-bit IEEE floats.
    F16 = 1, 1 in 2, float16;
    /// 16-bit brain floats.
    BF16 = 30, 1 in 2, bfloat16;
    /// 4 bits, scale per 32.
    Q4_0 = 2, 32 in 18, q4_0;
    /// 4 bits, scale and minimum per 32.
    Q4_1 = 3, 32 in 20, q4_1;
    /// 5 bits, scale per 32.
    Q5_0 = 6, 32 in 22, q5_0;
    /// 5 bits, scale and minimum per 32.
    Q5_1 = 7, 32 in 24, q5_1;
    /// 8 bits, scale per 32.
    Q8_0 = 8, 32 in 34, q8_0;
    /// 2 bits, super-blocks of 256.
    Q2_K = 10, 256 in 84, q2_k;
    /// 3 bits, super-blocks of 256.
    Q3_K = 11, 256 in 110, q3_k;
    /// 4 bits, super-blocks of 256.
    Q4_K = 12, 256 in 144, q4_k;
    /// 5 bits, super-blocks of 256.
    Q5_K = 13, 256 in 176, q5_k;
    /// 6 bits, super-blocks of 256.
    Q6_K = 14, 256 in 210, q6_k;
    /// 4 bits through a table of 16 values, scale per 32.
    IQ4_NL = 20, 32 in 18, iq4_nl;
}

impl Format {
    /// Bytes of a row of `n` elements; `n` is a multiple of [`Self::block_len`].
    pub const fn row_bytes(self, n: usize) -> usize {
        n / self.block_len() * self.block_bytes()
    }

    /// Whether elements share scales, which is to say, whether it is anything but plain floats.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }

    /// Appends rows of `n_in` elements to [`Self::planes`]. Floats fill their rows' last 32 elements up with zeros.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the GPU's arrangement"))]
    pub(crate) fn repack_rows(self, bytes: &[u8], n_in: usize, planes: &mut [Vec<u8>]) {
        if self.is_quantized() || n_in.is_multiple_of(32) {
            // Floats are one plane as they are.
            return if self.is_quantized() { self.repack_blocks(bytes, planes) } else { planes[0].extend_from_slice(bytes) };
        }
        let padding = (n_in.next_multiple_of(32) - n_in) * self.block_bytes();
        for row in bytes.chunks_exact(self.row_bytes(n_in)) {
            self.repack_blocks(row, planes);
            planes[0].resize(planes[0].len() + padding, 0);
        }
    }

    /// Bits per element, scales included.
    pub const fn bits_per_weight(self) -> f32 {
        (self.block_bytes() * 8) as f32 / self.block_len() as f32
    }
}

/// The 16-bit float at byte `at` of a block. Decoding is exact: every one is a 32-bit float.
#[inline(always)]
pub(crate) fn half_at(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Appends 16-bit floats of a super-block as 32-bit ones. `d` of such a block is the step of its scales' step: in Q6_K the largest weight
/// divided by 4096, which is a subnormal half wherever no weight reaches 0.25. GPUs may take those for zero; and as floats they cost 32 bits
/// for 256 elements, less than a kernel would pay to take them apart. (The scales of blocks of 32 stay halves, for which 32 bits would be up to
/// an eighth more to read; kernels decode them by integers.)
fn push_floats<const N: usize>(block: &[u8], at: [usize; N], plane: &mut Vec<u8>) {
    plane.extend(at.into_iter().flat_map(|at| half_at(block, at).to_le_bytes()));
}

/// Whether the 16-bit float at byte `at` is neither infinite nor not a number.
#[inline(always)]
fn half_is_finite(block: &[u8], at: usize) -> bool {
    half::f16::from_le_bytes([block[at], block[at + 1]]).is_finite()
}
