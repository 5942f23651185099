//! BF16: brain floats, the upper halves of 32-bit IEEE floats, little-endian. A "block" is one element.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | sign (1 bit), exponent (8), fraction (7) |

use half::bf16;

/// The value of one element.
#[inline(always)]
pub fn decode_block(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*block)) << 16);
}

/// Bits per 32 elements in each plane of [`repack`].
pub const PLANES: &[u32] = &[512];

/// The block in the planes that `bfloat16.wgsl` reads.
pub fn repack(block: &[u8; 2], planes: &mut [Vec<u8>]) {
    planes[0].extend_from_slice(block);
}

/// Whether the value is finite.
pub fn is_finite(block: &[u8; 2]) -> bool {
    bf16::from_le_bytes(*block).is_finite()
}
