//! The formats with one scale for each block of 32: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and IQ4_NL.

use super::super::lanes::{self, Lanes};
use super::planes::{self, BITS, HALVES, NIBBLES, bit, half_at, nibble, pack_bits, pack_halves, pack_split_nibbles};
use super::{GROUP, QUAD, Quant};
use crate::quant::{Format, iq4_nl};

/// Four halves; a nibble plane.
#[derive(Debug)]
pub struct Q4_0;

impl Quant for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
    const IS_UNIFORM: bool = true;
    const AT_ONCE: usize = 2;
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
    const IS_UNIFORM: bool = true;
    const AT_ONCE: usize = 2;
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
    const IS_UNIFORM: bool = true;
    const AT_ONCE: usize = 2;
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
    const IS_UNIFORM: bool = true;
    const AT_ONCE: usize = 2;
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
