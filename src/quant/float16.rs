//! F16: 16-bit IEEE floats, little-endian. A "block" is one element.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..2 | sign (1 bit), exponent (5), fraction (10) |

use half::f16;

/// The value of one element.
#[inline(always)]
pub fn decode_block(block: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f16::from_le_bytes(*block).to_f32();
}

/// Bits per 32 elements in each plane of [`repack`].
pub const PLANES: &[u32] = &[512];

/// The block in the planes that `float16.wgsl` reads.
pub fn repack(block: &[u8; 2], planes: &mut [Vec<u8>]) {
    planes[0].extend_from_slice(block);
}

/// Whether the value is finite.
pub fn is_finite(block: &[u8; 2]) -> bool {
    f16::from_le_bytes(*block).is_finite()
}
