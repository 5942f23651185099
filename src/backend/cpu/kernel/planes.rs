//! Planes: how the bits of the weights of a quad lie beside each other, packed with plain loops when a model is loaded, unpacked
//! with vectors by the kernels.
//!
//! A group of a quad is four rows `r` of 32 elements `k`. In a nibble plane a byte has two elements of a row, 16 apart; four bytes, a 32-bit lane, belong
//! to one row, and 16 bytes are one vector `v`:
//!
//! ```text
//! byte               0       1       2       3    |  4 to 7  |  8 to 11  |  12 to 15  |   16    …
//! row                0       0       0       0    |    1     |     2     |     3      |    0    …
//! low, high half   0, 16   1, 17   2, 18   3, 19  |          the same elements        |  4, 20  …
//! ```
//!
//! A bit plane is one vector: bit `v` of byte `4 r + c` belongs to element `4 v + c` of row `r`. 2-bit planes ("crumbs") are one vector for each half of the
//! group: bits `2 v` and `2 v + 1` of byte `4 r + c` belong to its element `4 v + c`.

use super::super::lanes::{self, Lanes};
use super::super::math::half_to_float;
use super::super::quantize_activations::SHIFT;
use super::{GROUP, QUAD};
use crate::quant;

/// Bytes of a nibble plane of a group: 4 bits for each element of a quad.
pub(super) const NIBBLES: usize = QUAD * GROUP / 2;
/// Bytes of a bit plane of a group.
pub(super) const BITS: usize = QUAD * GROUP / 8;
/// Bytes of the two planes of 2 bits of a group.
pub(super) const CRUMBS: usize = QUAD * GROUP / 4;
/// Bytes of a half-precision number for each row.
pub(super) const HALVES: usize = QUAD * 2;

/// Bytes of a 32-bit float for each row.
pub(super) const FLOATS: usize = QUAD * 4;

/// The half at byte `at`.
pub(super) fn half_at(bytes: &[u8], at: usize) -> f32 {
    half_to_float(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Puts the halves at byte `at` of four blocks beside each other.
#[inline(always)]
pub(super) fn pack_halves(rows: [&[u8]; QUAD], at: usize, out: &mut [u8]) {
    for (out, row) in out.as_chunks_mut::<2>().0.iter_mut().zip(rows) {
        *out = [row[at], row[at + 1]];
    }
}

/// Puts `sign` times the halves at byte `at` of four blocks beside each other as 32-bit floats, divided by [`SHIFT`].
#[inline(always)]
pub(super) fn pack_floats(rows: [&[u8]; QUAD], at: usize, sign: f32, out: &mut [u8]) {
    for (out, row) in out.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
        *out = (sign * quant::half_at(row, at) / SHIFT).to_le_bytes();
    }
}

/// The number that [`pack_floats`] put at byte `at`.
pub(super) fn float_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) * SHIFT
}

/// Where element `k` of a row lies in a nibble plane: byte, shift.
#[inline(always)]
pub(super) fn nibble_place(row: usize, k: usize) -> (usize, usize) {
    (k % 16 / 4 * 16 + 4 * row + k % 4, k / 16 * 4)
}

/// The elements of a row of a group by fours, the first in the low byte.
#[inline(always)]
pub(super) fn words(q: &[u8; GROUP]) -> [u32; GROUP / 4] {
    std::array::from_fn(|v| u32::from_le_bytes([q[4 * v], q[4 * v + 1], q[4 * v + 2], q[4 * v + 3]]))
}

/// The low four bits.
#[inline(always)]
pub(super) fn pack_nibbles(q: &[[u8; GROUP]; QUAD], out: &mut [u8]) {
    for (r, q) in q.iter().enumerate() {
        let words = words(q).map(|word| word & 0x0f0f_0f0f);
        for (v, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            out[4 * r..4 * r + 4].copy_from_slice(&(words[v] | words[4 + v] << 4).to_le_bytes());
        }
    }
}

/// The same from rows that have element `j` in the low and element `16 + j` in the high half of byte `at + j`: as they are.
#[inline(always)]
pub(super) fn pack_split_nibbles(rows: [&[u8]; QUAD], at: usize, out: &mut [u8]) {
    for (v, out) in out[..NIBBLES].as_chunks_mut::<16>().0.iter_mut().enumerate() {
        for (out, row) in out.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
            out.copy_from_slice(&row[at + 4 * v..][..4]);
        }
    }
}

pub(super) fn nibble(plane: &[u8], row: usize, k: usize) -> u8 {
    let (at, shift) = nibble_place(row, k);
    plane[at] >> shift & 15
}

/// Bit `BIT` of each element: byte `4 r + c`, bit `v`.
pub(super) fn pack_bits<const BIT: u32>(q: &[[u8; GROUP]; QUAD], out: &mut [u8]) {
    for (out, q) in out.as_chunks_mut::<4>().0.iter_mut().zip(q) {
        let bits = words(q).into_iter().enumerate().map(|(v, word)| (word >> BIT & 0x0101_0101) << v);
        *out = bits.fold(0, |bits, bit| bits | bit).to_le_bytes();
    }
}

pub(super) fn bit(plane: &[u8], row: usize, k: usize) -> u8 {
    plane[4 * row + k % 4] >> (k / 4) & 1
}

/// Bits `BIT` and `BIT + 1` of each element: byte `4 r + c`, bits `2 v` and `2 v + 1`, in one plane for each half of the group.
pub(super) fn pack_crumbs<const BIT: u32>(q: &[[u8; GROUP]; QUAD], out: &mut [u8]) {
    let (planes, _) = out.as_chunks_mut::<16>();
    for (r, q) in q.iter().enumerate() {
        let words = words(q).map(|word| word >> BIT & 0x0303_0303);
        for (plane, words) in planes.iter_mut().zip(words.as_chunks::<4>().0) {
            let crumbs = words[0] | words[1] << 2 | words[2] << 4 | words[3] << 6;
            plane[4 * r..4 * r + 4].copy_from_slice(&crumbs.to_le_bytes());
        }
    }
}

pub(super) fn crumb(planes: &[u8], row: usize, k: usize) -> u8 {
    planes[k / 16 * 16 + 4 * row + k % 4] >> (k % 16 / 4 * 2) & 3
}

/// Vectors `v` and `v + 4` of a nibble plane.
#[inline(always)]
pub(super) unsafe fn nibbles(plane: *const u8, v: usize) -> (Lanes, Lanes) {
    // SAFETY: the caller vouches for the 64 bytes of the plane.
    let q = unsafe { lanes::load(plane.add(16 * v)) };
    let mask = lanes::splat(0x0f0f_0f0f);
    (lanes::and(q, mask), lanes::and(lanes::shr_16::<4>(q), mask))
}

/// Bit 4 of vectors `v` and `v + 4` from a bit plane.
#[inline(always)]
pub(super) unsafe fn bits(plane: *const u8, v: usize) -> (Lanes, Lanes) {
    // SAFETY: the caller vouches for the 16 bytes of the plane.
    let bits = unsafe { lanes::load(plane) };
    // Shifts of 16-bit lanes: the mask takes away what comes from the neighbouring byte.
    let (low, high) = match v {
        0 => (lanes::shl_16::<4>(bits), bits),
        1 => (lanes::shl_16::<3>(bits), lanes::shr_16::<1>(bits)),
        2 => (lanes::shl_16::<2>(bits), lanes::shr_16::<2>(bits)),
        _ => (lanes::shl_16::<1>(bits), lanes::shr_16::<3>(bits)),
    };
    let mask = lanes::splat(0x1010_1010);
    (lanes::and(low, mask), lanes::and(high, mask))
}

/// Bit 2 of vectors `v` and `v + 4` from a bit plane.
#[inline(always)]
pub(super) unsafe fn third_bits(plane: *const u8, v: usize) -> (Lanes, Lanes) {
    // SAFETY: the caller vouches for the 16 bytes of the plane.
    let bits = unsafe { lanes::load(plane) };
    let (low, high) = match v {
        0 => (lanes::shl_16::<2>(bits), lanes::shr_16::<2>(bits)),
        1 => (lanes::shl_16::<1>(bits), lanes::shr_16::<3>(bits)),
        2 => (bits, lanes::shr_16::<4>(bits)),
        _ => (lanes::shr_16::<1>(bits), lanes::shr_16::<5>(bits)),
    };
    let mask = lanes::splat(0x0404_0404);
    (lanes::and(low, mask), lanes::and(high, mask))
}

/// Bits 0 and 1 of vectors `v` and `v + 4`.
#[inline(always)]
pub(super) unsafe fn low_crumbs(planes: *const u8, v: usize) -> (Lanes, Lanes) {
    let mask = lanes::splat(0x0303_0303);
    let shifted = |bits: Lanes| match v {
        0 => bits,
        1 => lanes::shr_16::<2>(bits),
        2 => lanes::shr_16::<4>(bits),
        _ => lanes::shr_16::<6>(bits),
    };
    // SAFETY: the caller vouches for the 32 bytes of the planes.
    let (low, high) = unsafe { (lanes::load(planes), lanes::load(planes.add(16))) };
    (lanes::and(shifted(low), mask), lanes::and(shifted(high), mask))
}

/// Bits 4 and 5 of vectors `v` and `v + 4`.
#[inline(always)]
pub(super) unsafe fn crumbs(planes: *const u8, v: usize) -> (Lanes, Lanes) {
    let mask = lanes::splat(0x3030_3030);
    let shifted = |bits: Lanes| match v {
        0 => lanes::shl_16::<4>(bits),
        1 => lanes::shl_16::<2>(bits),
        2 => bits,
        _ => lanes::shr_16::<2>(bits),
    };
    // SAFETY: the caller vouches for the 32 bytes of the planes.
    let (low, high) = unsafe { (lanes::load(planes), lanes::load(planes.add(16))) };
    (lanes::and(shifted(low), mask), lanes::and(shifted(high), mask))
}
