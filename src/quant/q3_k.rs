//! Q3_K: 256 elements in 110 bytes, sixteen groups of 16 with a 6-bit scale each.
//!
//! ggml's `block_q3_K`:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..32 | `hmask`: bit `4 h + j` of byte `l` is the third bit of element `128 h + 32 j + l` |
//! | 32..96 | `qs`: byte `32 h + l` holds the other bits of elements `128 h + 32 j + l` in its bits `2 j` and `2 j + 1` |
//! | 96..108 | the scales of the groups, 6 bits each, packed as [`scales`] unpacks them |
//! | 108..110 | `d`, F16, the scale of the scales |
//!
//! `x = d · (scale − 32) · (q − 4)` with the group `element / 16`, `q` from 0 to 7.

use super::q6_k::repack_pairs;
use super::{half_at, half_is_finite, push_floats};

/// The groups' scales, from −32 to 31. Of scale `g`, the low four bits are in byte `g % 8` (its low half for `g < 8`, its
/// high half otherwise), the high two in byte `8 + g % 4` at bit `2 (g / 4)`.
#[inline(always)]
pub(crate) fn scales(packed: &[u8; 12]) -> [i8; 16] {
    std::array::from_fn(|g| {
        let low = packed[g % 8] >> (4 * (g / 8)) & 15;
        let high = packed[8 + g % 4] >> (2 * (g / 4)) & 3;
        (low | high << 4) as i8 - 32
    })
}

/// The definition of the format.
pub fn decode_block(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half_at(block, 108);
    let scales = scales(block[96..108].as_array().expect("12 bytes"));
    for (g, group) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scales[g]);
        // As in Q2_K, with the third bits of both halves in the same 32 bytes.
        let (half, j, odd) = (g / 8, g / 2 % 4, g % 2);
        let qs = &block[32 + 32 * half + 16 * odd..][..16];
        let third = &block[16 * odd..][..16];
        for ((x, q), h) in group.iter_mut().zip(qs).zip(third) {
            let q = q >> (2 * j) & 3 | (h >> (4 * half + j) & 1) << 2;
            *x = scale * f32::from(q as i8 - 4);
        }
    }
}

/// Bits per 32 elements in each plane of [`repack`]: the lower two bits (element `e` at bit `2 e`), the third bits (`e` at bit `e`), the
/// scales of both groups, `d` as a 32-bit float.
pub const PLANES: &[u32] = &[64, 32, 16, 4];

/// The block in the planes that `q3_k.wgsl` reads.
pub fn repack(block: &[u8; 110], planes: &mut [Vec<u8>]) {
    for b in 0..8 {
        repack_pairs(&block[32 + 32 * (b / 4)..][..32], 2 * (b % 4), &mut planes[0]);
        let third = block[..32].iter().enumerate().fold(0, |bits, (l, h)| bits | u32::from(h >> b & 1) << l);
        planes[1].extend(third.to_le_bytes());
    }
    planes[2].extend(scales(block[96..108].as_array().expect("12 bytes")).map(|s| s as u8));
    push_floats(block, [108], &mut planes[3]);
}

/// Whether the scale of the scales is finite.
pub fn is_finite(block: &[u8; 110]) -> bool {
    half_is_finite(block, 108)
}
