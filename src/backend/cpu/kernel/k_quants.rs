//! The formats of 256 elements a block, with scales of scales: Q2_K to Q6_K.
//!
//! `d` and `dmin` are kept as 32-bit floats. As halves most of them are subnormal in real models (Q6_K's is the largest weight divided by
//! 4096), and moved to where a float has its bits they would be subnormal floats, with which Intel's processors multiply some forty times
//! slower; WebAssembly cannot tell them not to.

use super::super::lanes::{self, Lanes};
use super::planes::{
    self, BITS, CRUMBS, FLOATS, NIBBLES, bit, crumb, float_at, nibble, pack_bits, pack_crumbs, pack_floats, pack_nibbles,
};
use super::{GROUP, QUAD, Quant};
use crate::quant::{Format, q3_k, q4_k};

/// Bytes before the planes of Q4_K and Q5_K: four `d`, four negated `dmin`, then for each group four scales and four minima
/// of a byte each. The format packs these in 6 bits; the two bits cost 2.8 % of memory and save the kernel the unpacking.
const K_HEADER: usize = 2 * FLOATS + 8 * 2 * QUAD;

#[inline(always)]
fn pack_k_header(rows: [&[u8]; QUAD], out: &mut [u8]) {
    pack_floats(rows, 0, 1.0, &mut out[..FLOATS]);
    pack_floats(rows, 2, -1.0, &mut out[FLOATS..2 * FLOATS]);
    for (r, row) in rows.iter().enumerate() {
        let packed = row[4..16].as_array().expect("12 bytes");
        for (g, (scale, min)) in q4_k::scales_mins(packed).into_iter().enumerate() {
            out[2 * FLOATS + 8 * g + r] = scale;
            out[2 * FLOATS + 8 * g + 4 + r] = min;
        }
    }
}

fn k_scale(block: &[u8], group: usize, row: usize) -> f32 {
    float_at(block, 4 * row) * f32::from(block[2 * FLOATS + 8 * group + row])
}

fn k_min(block: &[u8], group: usize, row: usize) -> f32 {
    float_at(block, FLOATS + 4 * row) * f32::from(block[2 * FLOATS + 8 * group + 4 + row])
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
    const FINISH: f32 = 1.0;
    const FORMAT: Format = Format::Q4_K;
    const IS_UNIFORM: bool = true;
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
            lanes::mul_float(lanes::load(block), lanes::to_float(lanes::load_bytes(block.add(2 * FLOATS + 8 * group))));
        fn min_lanes(block, group: usize, _half: usize) -> Lanes =
            lanes::mul_float(lanes::load(block.add(FLOATS)), lanes::to_float(lanes::load_bytes(block.add(2 * FLOATS + 8 * group + 4))));
    }
}

/// The header; for each of eight groups a nibble plane and a bit plane.
#[derive(Debug)]
pub struct Q5_K;

impl Quant for Q5_K {
    const FINISH: f32 = 1.0;
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
const Q6_K_HEADER: usize = FLOATS + 16 * QUAD;

/// The header; for each of eight groups a nibble plane and two planes of 2 bits.
#[derive(Debug)]
pub struct Q6_K;

impl Quant for Q6_K {
    const FINISH: f32 = 1.0;
    const FORMAT: Format = Format::Q6_K;
    const BYTES: usize = Q6_K_HEADER + 8 * (NIBBLES + CRUMBS);
    const OFFSET_LOG2: Option<u32> = Some(5);
    const HAS_HALF_SCALES: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        let (header, planes) = out.split_at_mut(Q6_K_HEADER);
        pack_floats(rows, 208, 1.0, &mut header[..FLOATS]);
        for (i, scales) in header[FLOATS..].as_chunks_mut::<QUAD>().0.iter_mut().enumerate() {
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
        float_at(block, 4 * row) * f32::from(block[FLOATS + QUAD * (2 * group + half) + row] as i8)
    }

    lane_functions! {
        fn pair(block, group: usize, v: usize) -> (Lanes, Lanes) = {
            let plane = block.add(Q6_K_HEADER + group * (NIBBLES + CRUMBS));
            let (low, high) = planes::nibbles(plane, v);
            let (low_bits, high_bits) = planes::crumbs(plane.add(NIBBLES), v);
            (lanes::or(low, low_bits), lanes::or(high, high_bits))
        };
        fn scale_lanes(block, group: usize, half: usize) -> Lanes = lanes::mul_float(
            lanes::load(block),
            lanes::load_signed_bytes(block.add(FLOATS + QUAD * (2 * group + half))),
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
const Q2_K_HEADER: usize = 2 * FLOATS + 16 * QUAD;

/// The header; for each of eight groups two planes of 2 bits.
#[derive(Debug)]
pub struct Q2_K;

impl Quant for Q2_K {
    const FINISH: f32 = 1.0;
    const FORMAT: Format = Format::Q2_K;
    const BYTES: usize = Q2_K_HEADER + 8 * CRUMBS;
    const OFFSET_LOG2: Option<u32> = None;
    const HAS_HALF_SCALES: bool = true;
    const HAS_MIN: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        let (header, planes) = out.split_at_mut(Q2_K_HEADER);
        pack_floats(rows, 80, 1.0, &mut header[..FLOATS]);
        pack_floats(rows, 82, -1.0, &mut header[FLOATS..2 * FLOATS]);
        for (i, scales) in header[2 * FLOATS..].as_chunks_mut::<QUAD>().0.iter_mut().enumerate() {
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
        float_at(block, 4 * row) * f32::from(block[2 * FLOATS + QUAD * (2 * group + half) + row] & 15)
    }

    fn min(block: &[u8], group: usize, row: usize, half: usize) -> f32 {
        float_at(block, FLOATS + 4 * row) * f32::from(block[2 * FLOATS + QUAD * (2 * group + half) + row] >> 4)
    }

    lane_functions! {
        fn pair(block, group: usize, v: usize) -> (Lanes, Lanes) =
            planes::low_crumbs(block.add(Q2_K_HEADER + group * CRUMBS), v);
        fn scale_lanes(block, group: usize, half: usize) -> Lanes = {
            let bytes = lanes::load_bytes(block.add(2 * FLOATS + QUAD * (2 * group + half)));
            lanes::mul_float(lanes::load(block), lanes::to_float(lanes::and(bytes, lanes::splat(15))))
        };
        fn min_lanes(block, group: usize, half: usize) -> Lanes = {
            let bytes = lanes::load_bytes(block.add(2 * FLOATS + QUAD * (2 * group + half)));
            lanes::mul_float(lanes::load(block.add(FLOATS)), lanes::to_float(lanes::shr_16::<4>(bytes)))
        };
    }
}

/// Bytes before the planes of Q3_K: as in Q6_K. The format packs the scales in 6 bits; the two bits cost 3.6 % of memory.
const Q3_K_HEADER: usize = FLOATS + 16 * QUAD;

/// The header; for each of eight groups two planes of 2 bits and a bit plane.
#[derive(Debug)]
pub struct Q3_K;

impl Quant for Q3_K {
    const FINISH: f32 = 1.0;
    const FORMAT: Format = Format::Q3_K;
    const BYTES: usize = Q3_K_HEADER + 8 * (CRUMBS + BITS);
    const OFFSET_LOG2: Option<u32> = Some(2);
    const HAS_HALF_SCALES: bool = true;

    fn pack(rows: [&[u8]; QUAD], out: &mut [u8]) {
        let (header, planes) = out.split_at_mut(Q3_K_HEADER);
        pack_floats(rows, 108, 1.0, &mut header[..FLOATS]);
        for (r, row) in rows.iter().enumerate() {
            let packed = row[96..108].as_array().expect("12 bytes");
            for (i, scale) in q3_k::scales(packed).into_iter().enumerate() {
                header[FLOATS + QUAD * i + r] = scale as u8;
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
