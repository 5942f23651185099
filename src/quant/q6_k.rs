//! Q6_K: 256 elements in 210 bytes, sixteen groups of 16 with an 8-bit scale each.
//!
//! ggml's `block_q6_K`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..128 | `ql`: byte `64 h + 32 p + l` holds the low four bits of element `128 h + 32 p + l` in its low half, those of element `128 h + 64 + 32 p + l` in its high half (`p` is 0 or 1) |
//! | 128..192 | `qh`: byte `32 h + l` holds the upper two bits of elements `128 h + 32 j + l` in its bits `2 j` and `2 j + 1` |
//! | 192..208 | the scales of the groups, signed bytes |
//! | 208..210 | `d`, F16, the scale of the scales |
//!
//! `x = d · scale · (q − 32)` with the group `element / 16`, `q` from 0 to 63.

use super::{half_at, half_is_finite};

/// The definition of the format.
pub fn decode_block(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for (g, group) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[192 + g] as i8);
        let (half, j, odd) = (g / 8, g / 2 % 4, g % 2);
        let ql = &block[64 * half + 32 * (j % 2) + 16 * odd..][..16];
        let qh = &block[128 + 32 * half + 16 * odd..][..16];
        for ((x, l), h) in group.iter_mut().zip(ql).zip(qh) {
            let q = l >> (4 * (j / 2)) & 15 | (h >> (2 * j) & 3) << 4;
            *x = scale * f32::from(q as i8 - 32);
        }
    }
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 210]) -> bool {
    half_is_finite(block, 208)
}
