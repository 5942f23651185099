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

/// Whether the value is finite.
pub fn is_finite(block: &[u8; 4]) -> bool {
    f32::from_le_bytes(*block).is_finite()
}
