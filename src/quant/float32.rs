//! F32: 32-bit IEEE floats, little-endian. A "block" is one element.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | the value |

/// The value of one element.
#[inline(always)]
pub fn decode_block(block: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*block);
}

/// Bits per 32 elements in each plane of [`repack`].
pub const PLANES: &[u32] = &[1024];

/// The block in the planes that `float32.wgsl` reads.
pub fn repack(block: &[u8; 4], planes: &mut [Vec<u8>]) {
    planes[0].extend_from_slice(block);
}

/// Whether the value is finite.
pub fn is_finite(block: &[u8; 4]) -> bool {
    f32::from_le_bytes(*block).is_finite()
}
