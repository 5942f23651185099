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

use super::{half_at, half_is_finite, push_floats};

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

/// Bits per 32 elements in each plane of [`repack`]: low four bits as Q4_0 has them, upper two bits (element `e` at bit `2 e`), the
/// scales of both groups, `d` as a 32-bit float.
pub const PLANES: &[u32] = &[128, 64, 16, 4];

/// The block in the planes that `q6_k.wgsl` reads.
pub fn repack(block: &[u8; 210], planes: &mut [Vec<u8>]) {
    for b in 0..8 {
        let (half, j) = (b / 4, b % 4);
        let ql = &block[64 * half + 32 * (j % 2)..][..32];
        let qh = &block[128 + 32 * half..][..32];
        let shift = 4 * (j / 2);
        planes[0].extend((0..16).map(|l| (ql[l] >> shift & 15) | (ql[l + 16] >> shift & 15) << 4));
        repack_pairs(qh, 2 * j, &mut planes[1]);
    }
    planes[2].extend_from_slice(&block[192..208]);
    push_floats(block, [208], &mut planes[3]);
}

/// Two bits of each of 32 bytes, from bit `shift` on: element `e` in bits `2 e` and `2 e + 1` of 64.
pub(crate) fn repack_pairs(bytes: &[u8], shift: usize, plane: &mut Vec<u8>) {
    let pairs = bytes.iter().enumerate().fold(0, |pairs, (e, byte)| pairs | u64::from(byte >> shift & 3) << (2 * e));
    plane.extend(pairs.to_le_bytes());
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 210]) -> bool {
    half_is_finite(block, 208)
}
