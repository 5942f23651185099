//! Products of quantized weights with 8-bit activations.
//!
//! Weights are kept in quads: four rows side by side, so that a 32-bit lane of a vector belongs to a row and no sum ever
//! runs across lanes. In groups of 32 elements, whatever the format's own blocks are: eight vectors of 16 bytes, byte
//! `4 r + c` of vector `v` holding element `4 v + c` of row `r` as an unsigned number. Vectors `v` and `v + 4` are made
//! from the same loads (in a nibble plane the one is the low, the other the high half of each byte): a "pair".
//!
//! Two quads lie block by block beside each other (`[blocks][QUADS][Quant::BYTES]`), so that a product reads one sequence of
//! bytes from memory: with a quad behind the other, read together, the processor's prefetching lost track (measured in
//! Chromium, Q4_0 from memory: 5.5 GB/s, and 23 GB/s so).
//!
//! A format implements [`Quant`]: how blocks are packed and unpacked. The products are generic over it, in three twins that
//! give the same sums: [`scalar`] (the specification), `simd` (multiplications in 16 bits) and `relaxed` (in 8 bits).

#![allow(non_camel_case_types, reason = "formats are spelled as in GGUF files")]

use super::lanes::{self, Lanes};
use super::quantize_activations::{Block, SHIFT};
use crate::quant::Format;

/// The vector functions of a format, each of them unsafe in the same way.
macro_rules! lane_functions {
    ($(fn $name:ident($block:ident $(, $arg:ident: $t:ty)*) -> $out:ty = $body:expr;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($block: *const u8 $(, $arg: $t)*) -> $out {
                // SAFETY: the caller vouches for the bytes of a block, and nothing beyond them is read.
                unsafe { $body }
            }
        )*
    };
}

/// Does something for each of a group's four pairs, unrolled here: where their unpacking differs by the number of the pair and a compiler leaves the
/// loop as it is, which hangs on what else is in the crate, the number is found out again and again (measured: Q5_0 1.6 ms instead of 0.65).
macro_rules! unrolled {
    ($v:ident => $body:expr) => {{
        {
            let $v = 0usize;
            $body
        }
        {
            let $v = 1usize;
            $body
        }
        {
            let $v = 2usize;
            $body
        }
        {
            let $v = 3usize;
            $body
        }
    }};
}

mod k_quants;
mod legacy;
mod planes;
#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
pub mod relaxed;
pub mod scalar;
pub mod simd;

pub use k_quants::{Q2_K, Q3_K, Q4_K, Q5_K, Q6_K};
pub use legacy::{IQ4_NL, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};

/// Rows in a quad.
pub const QUAD: usize = 4;
/// Quads that lie beside each other.
pub const QUADS: usize = 2;
/// Elements in a group.
pub const GROUP: usize = 32;

/// A format whose weights are `x = scale · (q − OFFSET) + min`, `q` an unsigned number.
pub trait Quant {
    /// The format as files have it.
    const FORMAT: Format;
    /// Groups in a block.
    const GROUPS: usize = Self::FORMAT.block_len() / GROUP;
    /// Bytes of the blocks of a quad.
    const BYTES: usize;
    /// OFFSET = 2^this, or 0.
    const OFFSET_LOG2: Option<u32>;
    /// Whether each half of a group has a scale (and a minimum, if any) of its own.
    const HAS_HALF_SCALES: bool = false;
    /// Whether there is a `min`.
    const HAS_MIN: bool = false;
    /// What finished sums are multiplied by: scales come to the kernels divided by the product of this and [`SHIFT`], by which activations
    /// are too large.
    const FINISH: f32 = SHIFT;
    /// Whether `q` is 8 bits long, which is more than relaxed dots take.
    const IS_WIDE: bool = false;

    /// Quads that are multiplied with several tokens at once: two where unpacking takes few registers, so that they share the loads of the
    /// activations. Measured in Chromium with relaxed SIMD, 64 tokens, in GFLOP/s with two and with one: Q4_0 130 and 116, Q4_1 124
    /// and 101, but Q5_0 81 and 100, Q4_K 89 and 93, Q6_K 70 and 79; that was with one quad behind the other and every loop unrolled. With
    /// one token it is always both.
    const AT_ONCE: usize = 1;

    /// Whether [`Self::pair`] is the same instructions for every `v`, so that a loop can go over them.
    const IS_UNIFORM: bool = false;

    /// Packs the blocks of four rows.
    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]);
    /// `q` of element `k` of a group.
    fn q(block: &[u8], group: usize, row: usize, k: usize) -> u8;
    /// The scale of a half of a group.
    fn scale(block: &[u8], group: usize, row: usize, half: usize) -> f32;
    /// What is added to each element of a half of a group.
    fn min(_block: &[u8], _group: usize, _row: usize, _half: usize) -> f32 {
        0.0
    }

    /// Vectors `v` and `v + 4` of a group.
    ///
    /// # Safety
    /// `block` points at [`Self::BYTES`] bytes.
    unsafe fn pair(block: *const u8, group: usize, v: usize) -> (Lanes, Lanes);

    /// Scales of a half of a group, divided by [`SHIFT`] and [`Self::FINISH`].
    ///
    /// # Safety
    /// `block` points at [`Self::BYTES`] bytes.
    unsafe fn scale_lanes(block: *const u8, group: usize, half: usize) -> Lanes;

    /// Minima of a half of a group, divided by [`SHIFT`] and [`Self::FINISH`].
    ///
    /// # Safety
    /// `block` points at [`Self::BYTES`] bytes.
    unsafe fn min_lanes(_block: *const u8, _group: usize, _half: usize) -> Lanes {
        lanes::splat(0)
    }
}

/// Decodes one row of a quad's block.
pub fn decode<Q: Quant>(block: &[u8], row: usize, out: &mut [f32]) {
    let offset = Q::OFFSET_LOG2.map_or(0.0, |log2| (1 << log2) as f32);
    for (g, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        for (k, out) in out.iter_mut().enumerate() {
            let (scale, min) = (Q::scale(block, g, row, k / 16), Q::min(block, g, row, k / 16));
            *out = scale * (f32::from(Q::q(block, g, row, k)) - offset) + min;
        }
    }
}

/// Runs an expression with `$q` standing for the type that packs `$format`, which must be a quantized one.
macro_rules! with_quant {
    ($format:expr, $q:ident => $body:expr) => {{
        use $crate::backend::cpu::kernel;
        use $crate::quant::Format;
        macro_rules! with {
            ($name:ident) => {{
                type $q = kernel::$name;
                $body
            }};
        }
        match $format {
            Format::Q4_0 => with!(Q4_0),
            Format::Q4_1 => with!(Q4_1),
            Format::Q5_0 => with!(Q5_0),
            Format::Q5_1 => with!(Q5_1),
            Format::Q8_0 => with!(Q8_0),
            Format::Q4_K => with!(Q4_K),
            Format::Q5_K => with!(Q5_K),
            Format::Q6_K => with!(Q6_K),
            Format::Q2_K => with!(Q2_K),
            Format::Q3_K => with!(Q3_K),
            Format::IQ4_NL => with!(IQ4_NL),
            Format::F32 | Format::F16 | Format::BF16 => unreachable!("floats are kept in panels"),
        }
    }};
}
pub(crate) use with_quant;
