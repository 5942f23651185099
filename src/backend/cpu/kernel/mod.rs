//! Products of quantized weights with 8-bit activations.
//!
//! Weights are kept in quads: four rows side by side, so that a 32-bit lane of a vector belongs to a row and no sum ever
//! runs across lanes. In groups of 32 elements, whatever the format's own blocks are: eight vectors of 16 bytes, byte
//! `4 r + c` of vector `v` holding element `4 v + c` of row `r` as an unsigned number. Vectors `v` and `v + 4` are made
//! from the same loads (in a nibble plane the one is the low, the other the high half of each byte): a "pair".
//!
//! A format implements [`Quant`]: how blocks are packed and unpacked. The products are generic over it, in three twins that
//! give the same sums: [`scalar`] (the specification), `simd` (multiplications in 16 bits) and `relaxed` (in 8 bits).

#![allow(non_camel_case_types, reason = "formats are spelled as in GGUF files")]

use super::lanes;
use super::math::half_to_float;
use super::quantize_activations::Block;
use crate::quant::{Format, iq4_nl, q3_k, q4_k};

use super::lanes::Lanes;

#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
pub mod relaxed;
pub mod scalar;
pub mod simd;

/// Rows in a quad.
pub const QUAD: usize = 4;
/// Elements in a group.
pub const GROUP: usize = 32;
/// Bytes of a nibble plane of a group: 4 bits for each element of a quad.
const NIBBLES: usize = QUAD * GROUP / 2;
/// Bytes of a bit plane of a group.
const BITS: usize = QUAD * GROUP / 8;
/// Bytes of the two planes of 2 bits of a group.
const CRUMBS: usize = QUAD * GROUP / 4;
/// Bytes of a half-precision number for each row.
const HALVES: usize = QUAD * 2;

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
    /// Whether `q` is 8 bits long, which is more than relaxed dots take.
    const IS_WIDE: bool = false;

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

    /// Scales of a half of a group, divided by [`lanes::HALF_SCALE`].
    ///
    /// # Safety
    /// `block` points at [`Self::BYTES`] bytes.
    unsafe fn scale_lanes(block: *const u8, group: usize, half: usize) -> Lanes;

    /// Minima of a half of a group, divided by [`lanes::HALF_SCALE`].
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

/// The half at byte `at`.
fn half_at(bytes: &[u8], at: usize) -> f32 {
    half_to_float(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Puts the halves at byte `at` of four blocks beside each other.
#[inline(always)]
fn pack_halves(rows: [&[u8]; QUAD], at: usize, out: &mut [u8]) {
    for (out, row) in out.as_chunks_mut::<2>().0.iter_mut().zip(rows) {
        *out = [row[at], row[at + 1]];
    }
}

/// The same with the sign turned.
#[inline(always)]
fn pack_negated_halves(rows: [&[u8]; QUAD], at: usize, out: &mut [u8]) {
    for (out, row) in out.as_chunks_mut::<2>().0.iter_mut().zip(rows) {
        *out = [row[at], row[at + 1] ^ 0x80];
    }
}

/// Where element `k` of a row lies in a nibble plane: byte, shift.
#[inline(always)]
fn nibble_place(row: usize, k: usize) -> (usize, usize) {
    (k % 16 / 4 * 16 + 4 * row + k % 4, k / 16 * 4)
}

/// The elements of a row of a group by fours, the first in the low byte.
#[inline(always)]
fn words(q: &[u8; GROUP]) -> [u32; GROUP / 4] {
    std::array::from_fn(|v| u32::from_le_bytes([q[4 * v], q[4 * v + 1], q[4 * v + 2], q[4 * v + 3]]))
}

/// The low four bits.
#[inline(always)]
fn pack_nibbles(q: &[[u8; GROUP]; QUAD], out: &mut [u8]) {
    for (r, q) in q.iter().enumerate() {
        let words = words(q).map(|word| word & 0x0f0f_0f0f);
        for (v, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            out[4 * r..4 * r + 4].copy_from_slice(&(words[v] | words[4 + v] << 4).to_le_bytes());
        }
    }
}

/// The same from rows that have element `j` in the low and element `16 + j` in the high half of byte `at + j`: as they are.
#[inline(always)]
fn pack_split_nibbles(rows: [&[u8]; QUAD], at: usize, out: &mut [u8]) {
    for (v, out) in out[..NIBBLES].as_chunks_mut::<16>().0.iter_mut().enumerate() {
        for (out, row) in out.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
            out.copy_from_slice(&row[at + 4 * v..][..4]);
        }
    }
}

fn nibble(plane: &[u8], row: usize, k: usize) -> u8 {
    let (at, shift) = nibble_place(row, k);
    plane[at] >> shift & 15
}

/// Bit `BIT` of each element: byte `4 r + c`, bit `v`.
fn pack_bits<const BIT: u32>(q: &[[u8; GROUP]; QUAD], out: &mut [u8]) {
    for (out, q) in out.as_chunks_mut::<4>().0.iter_mut().zip(q) {
        let bits = words(q).into_iter().enumerate().map(|(v, word)| (word >> BIT & 0x0101_0101) << v);
        *out = bits.fold(0, |bits, bit| bits | bit).to_le_bytes();
    }
}

fn bit(plane: &[u8], row: usize, k: usize) -> u8 {
    plane[4 * row + k % 4] >> (k / 4) & 1
}

/// Bits `BIT` and `BIT + 1` of each element: byte `4 r + c`, bits `2 v` and `2 v + 1`, in one plane for each half of the group.
fn pack_crumbs<const BIT: u32>(q: &[[u8; GROUP]; QUAD], out: &mut [u8]) {
    let (planes, _) = out.as_chunks_mut::<16>();
    for (r, q) in q.iter().enumerate() {
        let words = words(q).map(|word| word >> BIT & 0x0303_0303);
        for (plane, words) in planes.iter_mut().zip(words.as_chunks::<4>().0) {
            let crumbs = words[0] | words[1] << 2 | words[2] << 4 | words[3] << 6;
            plane[4 * r..4 * r + 4].copy_from_slice(&crumbs.to_le_bytes());
        }
    }
}

fn crumb(planes: &[u8], row: usize, k: usize) -> u8 {
    planes[k / 16 * 16 + 4 * row + k % 4] >> (k % 16 / 4 * 2) & 3
}

/// The unpacking of the planes with vectors.
mod planes {
    use super::super::lanes::{self, Lanes};

    /// Vectors `v` and `v + 4` of a nibble plane.
    #[inline(always)]
    pub unsafe fn nibbles(plane: *const u8, v: usize) -> (Lanes, Lanes) {
        // SAFETY: the caller vouches for the 64 bytes of the plane.
        let q = unsafe { lanes::load(plane.add(16 * v)) };
        let mask = lanes::splat(0x0f0f_0f0f);
        (lanes::and(q, mask), lanes::and(lanes::shr_16::<4>(q), mask))
    }

    /// Bit 4 of vectors `v` and `v + 4` from a bit plane.
    #[inline(always)]
    pub unsafe fn bits(plane: *const u8, v: usize) -> (Lanes, Lanes) {
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
    pub unsafe fn third_bits(plane: *const u8, v: usize) -> (Lanes, Lanes) {
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
    pub unsafe fn low_crumbs(planes: *const u8, v: usize) -> (Lanes, Lanes) {
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
    pub unsafe fn crumbs(planes: *const u8, v: usize) -> (Lanes, Lanes) {
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
}

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

/// Four halves; a nibble plane.
#[derive(Debug)]
pub struct Q4_0;

impl Quant for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    const BYTES: usize = HALVES + NIBBLES;
    const OFFSET_LOG2: Option<u32> = Some(3);

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        pack_halves(rows, 0, &mut out[..HALVES]);
        pack_split_nibbles(rows, 2, &mut out[HALVES..]);
    }

    fn q(block: &[u8], _group: usize, row: usize, k: usize) -> u8 {
        nibble(&block[HALVES..], row, k)
    }

    fn scale(block: &[u8], _group: usize, row: usize, _half: usize) -> f32 {
        half_at(block, 2 * row)
    }

    lane_functions! {
        fn pair(block, _group: usize, v: usize) -> (Lanes, Lanes) = planes::nibbles(block.add(HALVES), v);
        fn scale_lanes(block, _group: usize, _half: usize) -> Lanes = lanes::load_halves(block);
    }
}

/// Four halves of scales, four of minima; a nibble plane.
#[derive(Debug)]
pub struct Q4_1;

impl Quant for Q4_1 {
    const FORMAT: Format = Format::Q4_1;
    const BYTES: usize = 2 * HALVES + NIBBLES;
    const OFFSET_LOG2: Option<u32> = None;
    const HAS_MIN: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        pack_halves(rows, 0, &mut out[..HALVES]);
        pack_halves(rows, 2, &mut out[HALVES..2 * HALVES]);
        pack_split_nibbles(rows, 4, &mut out[2 * HALVES..]);
    }

    fn q(block: &[u8], _group: usize, row: usize, k: usize) -> u8 {
        nibble(&block[2 * HALVES..], row, k)
    }

    fn scale(block: &[u8], _group: usize, row: usize, _half: usize) -> f32 {
        half_at(block, 2 * row)
    }

    fn min(block: &[u8], _group: usize, row: usize, _half: usize) -> f32 {
        half_at(block, HALVES + 2 * row)
    }

    lane_functions! {
        fn pair(block, _group: usize, v: usize) -> (Lanes, Lanes) = planes::nibbles(block.add(2 * HALVES), v);
        fn scale_lanes(block, _group: usize, _half: usize) -> Lanes = lanes::load_halves(block);
        fn min_lanes(block, _group: usize, _half: usize) -> Lanes = lanes::load_halves(block.add(HALVES));
    }
}

/// Bit 4 of the elements of Q5_0 and Q5_1: bit `k % 8` of byte `k / 8`.
#[inline(always)]
fn spread_bits(bytes: &[u8]) -> [u8; GROUP] {
    std::array::from_fn(|k| bytes[k / 8] >> (k % 8) & 1)
}

/// Four halves; a nibble plane; a bit plane.
#[derive(Debug)]
pub struct Q5_0;

impl Quant for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
    const BYTES: usize = HALVES + NIBBLES + BITS;
    const OFFSET_LOG2: Option<u32> = Some(4);

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        pack_halves(rows, 0, &mut out[..HALVES]);
        pack_split_nibbles(rows, 6, &mut out[HALVES..]);
        pack_bits::<0>(&rows.map(|row| spread_bits(&row[2..6])), &mut out[HALVES + NIBBLES..]);
    }

    fn q(block: &[u8], _group: usize, row: usize, k: usize) -> u8 {
        nibble(&block[HALVES..], row, k) | bit(&block[HALVES + NIBBLES..], row, k) << 4
    }

    fn scale(block: &[u8], _group: usize, row: usize, _half: usize) -> f32 {
        half_at(block, 2 * row)
    }

    lane_functions! {
        fn pair(block, _group: usize, v: usize) -> (Lanes, Lanes) = {
            let (low, high) = planes::nibbles(block.add(HALVES), v);
            let (low_bits, high_bits) = planes::bits(block.add(HALVES + NIBBLES), v);
            (lanes::or(low, low_bits), lanes::or(high, high_bits))
        };
        fn scale_lanes(block, _group: usize, _half: usize) -> Lanes = lanes::load_halves(block);
    }
}

/// Four halves of scales, four of minima; a nibble plane; a bit plane.
#[derive(Debug)]
pub struct Q5_1;

impl Quant for Q5_1 {
    const FORMAT: Format = Format::Q5_1;
    const BYTES: usize = 2 * HALVES + NIBBLES + BITS;
    const OFFSET_LOG2: Option<u32> = None;
    const HAS_MIN: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        pack_halves(rows, 0, &mut out[..HALVES]);
        pack_halves(rows, 2, &mut out[HALVES..2 * HALVES]);
        pack_split_nibbles(rows, 8, &mut out[2 * HALVES..]);
        pack_bits::<0>(&rows.map(|row| spread_bits(&row[4..8])), &mut out[2 * HALVES + NIBBLES..]);
    }

    fn q(block: &[u8], _group: usize, row: usize, k: usize) -> u8 {
        nibble(&block[2 * HALVES..], row, k) | bit(&block[2 * HALVES + NIBBLES..], row, k) << 4
    }

    fn scale(block: &[u8], _group: usize, row: usize, _half: usize) -> f32 {
        half_at(block, 2 * row)
    }

    fn min(block: &[u8], _group: usize, row: usize, _half: usize) -> f32 {
        half_at(block, HALVES + 2 * row)
    }

    lane_functions! {
        fn pair(block, _group: usize, v: usize) -> (Lanes, Lanes) = {
            let (low, high) = planes::nibbles(block.add(2 * HALVES), v);
            let (low_bits, high_bits) = planes::bits(block.add(2 * HALVES + NIBBLES), v);
            (lanes::or(low, low_bits), lanes::or(high, high_bits))
        };
        fn scale_lanes(block, _group: usize, _half: usize) -> Lanes = lanes::load_halves(block);
        fn min_lanes(block, _group: usize, _half: usize) -> Lanes = lanes::load_halves(block.add(HALVES));
    }
}

/// Four halves; eight vectors of bytes. The signed bytes of the format are kept with 128 added.
#[derive(Debug)]
pub struct Q8_0;

impl Quant for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    const BYTES: usize = HALVES + QUAD * GROUP;
    const OFFSET_LOG2: Option<u32> = Some(7);
    const IS_WIDE: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        pack_halves(rows, 0, &mut out[..HALVES]);
        for (v, out) in out[HALVES..].as_chunks_mut::<16>().0.iter_mut().enumerate() {
            for (out, row) in out.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
                *out = std::array::from_fn(|c| row[2 + 4 * v + c] ^ 0x80);
            }
        }
    }

    fn q(block: &[u8], _group: usize, row: usize, k: usize) -> u8 {
        block[HALVES + k / 4 * 16 + 4 * row + k % 4]
    }

    fn scale(block: &[u8], _group: usize, row: usize, _half: usize) -> f32 {
        half_at(block, 2 * row)
    }

    lane_functions! {
        fn pair(block, _group: usize, v: usize) -> (Lanes, Lanes) =
            (lanes::load(block.add(HALVES + 16 * v)), lanes::load(block.add(HALVES + 64 + 16 * v)));
        fn scale_lanes(block, _group: usize, _half: usize) -> Lanes = lanes::load_halves(block);
    }
}

/// Bytes before the planes of Q4_K and Q5_K: four `d`, four negated `dmin`, then for each group four scales and four minima
/// of a byte each. The format packs these in 6 bits; the two bits cost 2.8 % of memory and save the kernel the unpacking.
const K_HEADER: usize = 2 * HALVES + 8 * 2 * QUAD;

#[inline(always)]
fn pack_k_header(rows: [&[u8]; QUAD], out: &mut [u8]) {
    pack_halves(rows, 0, &mut out[..HALVES]);
    pack_negated_halves(rows, 2, &mut out[HALVES..2 * HALVES]);
    for (r, row) in rows.iter().enumerate() {
        let packed = row[4..16].as_array().expect("12 bytes");
        for (g, (scale, min)) in q4_k::scales_mins(packed).into_iter().enumerate() {
            out[2 * HALVES + 8 * g + r] = scale;
            out[2 * HALVES + 8 * g + 4 + r] = min;
        }
    }
}

fn k_scale(block: &[u8], group: usize, row: usize) -> f32 {
    half_at(block, 2 * row) * f32::from(block[2 * HALVES + 8 * group + row])
}

fn k_min(block: &[u8], group: usize, row: usize) -> f32 {
    half_at(block, HALVES + 2 * row) * f32::from(block[2 * HALVES + 8 * group + 4 + row])
}

/// The nibbles of group `g` of the 128 bytes of Q4_K and Q5_K.
#[inline(always)]
fn k_nibbles(bytes: &[u8], g: usize) -> [u8; GROUP] {
    let bytes = &bytes[32 * (g / 2)..][..GROUP];
    std::array::from_fn(|k| bytes[k] >> (4 * (g % 2)) & 15)
}

/// The header; eight nibble planes.
#[derive(Debug)]
pub struct Q4_K;

impl Quant for Q4_K {
    const FORMAT: Format = Format::Q4_K;
    const BYTES: usize = K_HEADER + 8 * NIBBLES;
    const OFFSET_LOG2: Option<u32> = None;
    const HAS_MIN: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        let (header, planes) = out.split_at_mut(K_HEADER);
        pack_k_header(rows, header);
        for (g, plane) in planes.chunks_exact_mut(NIBBLES).enumerate() {
            pack_nibbles(&rows.map(|row| k_nibbles(&row[16..], g)), plane);
        }
    }

    fn q(block: &[u8], group: usize, row: usize, k: usize) -> u8 {
        nibble(&block[K_HEADER + group * NIBBLES..], row, k)
    }

    fn scale(block: &[u8], group: usize, row: usize, _half: usize) -> f32 {
        k_scale(block, group, row)
    }

    fn min(block: &[u8], group: usize, row: usize, _half: usize) -> f32 {
        k_min(block, group, row)
    }

    lane_functions! {
        fn pair(block, group: usize, v: usize) -> (Lanes, Lanes) = planes::nibbles(block.add(K_HEADER + group * NIBBLES), v);
        fn scale_lanes(block, group: usize, _half: usize) -> Lanes =
            lanes::mul_float(lanes::load_halves(block), lanes::to_float(lanes::load_bytes(block.add(2 * HALVES + 8 * group))));
        fn min_lanes(block, group: usize, _half: usize) -> Lanes =
            lanes::mul_float(lanes::load_halves(block.add(HALVES)), lanes::to_float(lanes::load_bytes(block.add(2 * HALVES + 8 * group + 4))));
    }
}

/// The header; for each of eight groups a nibble plane and a bit plane.
#[derive(Debug)]
pub struct Q5_K;

impl Quant for Q5_K {
    const FORMAT: Format = Format::Q5_K;
    const BYTES: usize = K_HEADER + 8 * (NIBBLES + BITS);
    const OFFSET_LOG2: Option<u32> = None;
    const HAS_MIN: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        let (header, planes) = out.split_at_mut(K_HEADER);
        pack_k_header(rows, header);
        for (g, planes) in planes.chunks_exact_mut(NIBBLES + BITS).enumerate() {
            let q = rows.map(|row| {
                let low = k_nibbles(&row[48..], g);
                std::array::from_fn(|k| low[k] | (row[16 + k] >> g & 1) << 4)
            });
            let (nibbles, bits) = planes.split_at_mut(NIBBLES);
            pack_nibbles(&q, nibbles);
            pack_bits::<4>(&q, bits);
        }
    }

    fn q(block: &[u8], group: usize, row: usize, k: usize) -> u8 {
        let planes = &block[K_HEADER + group * (NIBBLES + BITS)..];
        nibble(planes, row, k) | bit(&planes[NIBBLES..], row, k) << 4
    }

    fn scale(block: &[u8], group: usize, row: usize, _half: usize) -> f32 {
        k_scale(block, group, row)
    }

    fn min(block: &[u8], group: usize, row: usize, _half: usize) -> f32 {
        k_min(block, group, row)
    }

    lane_functions! {
        fn pair(block, group: usize, v: usize) -> (Lanes, Lanes) = {
            let plane = block.add(K_HEADER + group * (NIBBLES + BITS));
            let (low, high) = planes::nibbles(plane, v);
            let (low_bits, high_bits) = planes::bits(plane.add(NIBBLES), v);
            (lanes::or(low, low_bits), lanes::or(high, high_bits))
        };
        fn scale_lanes(block, group: usize, half: usize) -> Lanes = Q4_K::scale_lanes(block, group, half);
        fn min_lanes(block, group: usize, half: usize) -> Lanes = Q4_K::min_lanes(block, group, half);
    }
}

/// Bytes before the planes of Q6_K: four `d`, then four signed bytes of scales for each of the 16 half groups.
const Q6_K_HEADER: usize = HALVES + 16 * QUAD;

/// The header; for each of eight groups a nibble plane and two planes of 2 bits.
#[derive(Debug)]
pub struct Q6_K;

impl Quant for Q6_K {
    const FORMAT: Format = Format::Q6_K;
    const BYTES: usize = Q6_K_HEADER + 8 * (NIBBLES + CRUMBS);
    const OFFSET_LOG2: Option<u32> = Some(5);
    const HAS_HALF_SCALES: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        let (header, planes) = out.split_at_mut(Q6_K_HEADER);
        pack_halves(rows, 208, &mut header[..HALVES]);
        for (i, scales) in header[HALVES..].as_chunks_mut::<QUAD>().0.iter_mut().enumerate() {
            *scales = rows.map(|row| row[192 + i]);
        }
        for (g, planes) in planes.chunks_exact_mut(NIBBLES + CRUMBS).enumerate() {
            // Of each 128 elements, the low four bits are in 64 bytes (groups 0, 1 in the low halves, 2, 3 in the high ones),
            // the high two in 32 bytes (two bits a group).
            let (half, g) = (g / 4, g % 4);
            let q = rows.map(|row| {
                std::array::from_fn(|k| {
                    let low = row[64 * half + 32 * (g % 2) + k] >> (4 * (g / 2)) & 15;
                    low | (row[128 + 32 * half + k] >> (2 * g) & 3) << 4
                })
            });
            let (nibbles, crumbs) = planes.split_at_mut(NIBBLES);
            pack_nibbles(&q, nibbles);
            pack_crumbs::<4>(&q, crumbs);
        }
    }

    fn q(block: &[u8], group: usize, row: usize, k: usize) -> u8 {
        let planes = &block[Q6_K_HEADER + group * (NIBBLES + CRUMBS)..];
        nibble(planes, row, k) | crumb(&planes[NIBBLES..], row, k) << 4
    }

    fn scale(block: &[u8], group: usize, row: usize, half: usize) -> f32 {
        half_at(block, 2 * row) * f32::from(block[HALVES + QUAD * (2 * group + half) + row] as i8)
    }

    lane_functions! {
        fn pair(block, group: usize, v: usize) -> (Lanes, Lanes) = {
            let plane = block.add(Q6_K_HEADER + group * (NIBBLES + CRUMBS));
            let (low, high) = planes::nibbles(plane, v);
            let (low_bits, high_bits) = planes::crumbs(plane.add(NIBBLES), v);
            (lanes::or(low, low_bits), lanes::or(high, high_bits))
        };
        fn scale_lanes(block, group: usize, half: usize) -> Lanes = lanes::mul_float(
            lanes::load_halves(block),
            lanes::load_signed_bytes(block.add(HALVES + QUAD * (2 * group + half))),
        );
    }
}

/// The two bits of Q2_K and Q3_K: of each 128 elements, 32 bytes with two bits for each group.
#[inline(always)]
fn two_bits(bytes: &[u8], g: usize) -> [u8; GROUP] {
    let bytes = &bytes[32 * (g / 4)..][..GROUP];
    std::array::from_fn(|k| bytes[k] >> (2 * (g % 4)) & 3)
}

/// Bytes before the planes of Q2_K: four `d`, four negated `dmin`, then four bytes for each of the 16 half groups, the
/// scale in the low and the minimum in the high four bits.
const Q2_K_HEADER: usize = 2 * HALVES + 16 * QUAD;

/// The header; for each of eight groups two planes of 2 bits.
#[derive(Debug)]
pub struct Q2_K;

impl Quant for Q2_K {
    const FORMAT: Format = Format::Q2_K;
    const BYTES: usize = Q2_K_HEADER + 8 * CRUMBS;
    const OFFSET_LOG2: Option<u32> = None;
    const HAS_HALF_SCALES: bool = true;
    const HAS_MIN: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        let (header, planes) = out.split_at_mut(Q2_K_HEADER);
        pack_halves(rows, 80, &mut header[..HALVES]);
        pack_negated_halves(rows, 82, &mut header[HALVES..2 * HALVES]);
        for (i, scales) in header[2 * HALVES..].as_chunks_mut::<QUAD>().0.iter_mut().enumerate() {
            *scales = rows.map(|row| row[i]);
        }
        for (g, planes) in planes.chunks_exact_mut(CRUMBS).enumerate() {
            pack_crumbs::<0>(&rows.map(|row| two_bits(&row[16..], g)), planes);
        }
    }

    fn q(block: &[u8], group: usize, row: usize, k: usize) -> u8 {
        crumb(&block[Q2_K_HEADER + group * CRUMBS..], row, k)
    }

    fn scale(block: &[u8], group: usize, row: usize, half: usize) -> f32 {
        half_at(block, 2 * row) * f32::from(block[2 * HALVES + QUAD * (2 * group + half) + row] & 15)
    }

    fn min(block: &[u8], group: usize, row: usize, half: usize) -> f32 {
        half_at(block, HALVES + 2 * row) * f32::from(block[2 * HALVES + QUAD * (2 * group + half) + row] >> 4)
    }

    lane_functions! {
        fn pair(block, group: usize, v: usize) -> (Lanes, Lanes) =
            planes::low_crumbs(block.add(Q2_K_HEADER + group * CRUMBS), v);
        fn scale_lanes(block, group: usize, half: usize) -> Lanes = {
            let bytes = lanes::load_bytes(block.add(2 * HALVES + QUAD * (2 * group + half)));
            lanes::mul_float(lanes::load_halves(block), lanes::to_float(lanes::and(bytes, lanes::splat(15))))
        };
        fn min_lanes(block, group: usize, half: usize) -> Lanes = {
            let bytes = lanes::load_bytes(block.add(2 * HALVES + QUAD * (2 * group + half)));
            lanes::mul_float(lanes::load_halves(block.add(HALVES)), lanes::to_float(lanes::shr_16::<4>(bytes)))
        };
    }
}

/// Bytes before the planes of Q3_K: as in Q6_K. The format packs the scales in 6 bits; the two bits cost 3.6 % of memory.
const Q3_K_HEADER: usize = HALVES + 16 * QUAD;

/// The header; for each of eight groups two planes of 2 bits and a bit plane.
#[derive(Debug)]
pub struct Q3_K;

impl Quant for Q3_K {
    const FORMAT: Format = Format::Q3_K;
    const BYTES: usize = Q3_K_HEADER + 8 * (CRUMBS + BITS);
    const OFFSET_LOG2: Option<u32> = Some(2);
    const HAS_HALF_SCALES: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        let (header, planes) = out.split_at_mut(Q3_K_HEADER);
        pack_halves(rows, 108, &mut header[..HALVES]);
        for (r, row) in rows.iter().enumerate() {
            let packed = row[96..108].as_array().expect("12 bytes");
            for (i, scale) in q3_k::scales(packed).into_iter().enumerate() {
                header[HALVES + QUAD * i + r] = scale as u8;
            }
        }
        for (g, planes) in planes.chunks_exact_mut(CRUMBS + BITS).enumerate() {
            let q = rows.map(|row| {
                let low = two_bits(&row[32..], g);
                std::array::from_fn(|k| low[k] | (row[k] >> g & 1) << 2)
            });
            let (crumbs, bits) = planes.split_at_mut(CRUMBS);
            pack_crumbs::<0>(&q, crumbs);
            pack_bits::<2>(&q, bits);
        }
    }

    fn q(block: &[u8], group: usize, row: usize, k: usize) -> u8 {
        let planes = &block[Q3_K_HEADER + group * (CRUMBS + BITS)..];
        crumb(planes, row, k) | bit(&planes[CRUMBS..], row, k) << 2
    }

    fn scale(block: &[u8], group: usize, row: usize, half: usize) -> f32 {
        Q6_K::scale(block, group, row, half)
    }

    lane_functions! {
        fn pair(block, group: usize, v: usize) -> (Lanes, Lanes) = {
            let plane = block.add(Q3_K_HEADER + group * (CRUMBS + BITS));
            let (low, high) = planes::low_crumbs(plane, v);
            let (low_bits, high_bits) = planes::third_bits(plane.add(CRUMBS), v);
            (lanes::or(low, low_bits), lanes::or(high, high_bits))
        };
        fn scale_lanes(block, group: usize, half: usize) -> Lanes = Q6_K::scale_lanes(block, group, half);
    }
}

/// As Q4_0, but that the nibbles are indices.
#[derive(Debug)]
pub struct IQ4_NL;

impl IQ4_NL {
    /// The values with 128 added.
    const VALUES: [u8; 16] = {
        let mut values = [0; 16];
        let mut i = 0;
        while i < 16 {
            values[i] = iq4_nl::VALUES[i] as u8 ^ 0x80;
            i += 1;
        }
        values
    };
}

impl Quant for IQ4_NL {
    const FORMAT: Format = Format::IQ4_NL;
    const BYTES: usize = Q4_0::BYTES;
    const OFFSET_LOG2: Option<u32> = Some(7);
    const IS_WIDE: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        Q4_0::pack(rows, out);
    }

    fn q(block: &[u8], group: usize, row: usize, k: usize) -> u8 {
        Self::VALUES[usize::from(Q4_0::q(block, group, row, k))]
    }

    fn scale(block: &[u8], group: usize, row: usize, half: usize) -> f32 {
        Q4_0::scale(block, group, row, half)
    }

    lane_functions! {
        fn pair(block, group: usize, v: usize) -> (Lanes, Lanes) = {
            let (low, high) = Q4_0::pair(block, group, v);
            (lanes::lookup(&Self::VALUES, low), lanes::lookup(&Self::VALUES, high))
        };
        fn scale_lanes(block, group: usize, half: usize) -> Lanes = Q4_0::scale_lanes(block, group, half);
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
