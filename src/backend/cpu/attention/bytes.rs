//! Keys and values in 8 bits: panels of bytes with scales, and their products in integers.
//!
//! The panels are those of [`super`], but that [`STEP`] neighbours in the direction of a sum lie together, for an instruction multiplies and
//! adds up as many: elements of a key, positions of the values. A few queries (a decoding step) are multiplied in integers; for many a panel
//! is unpacked to floats first, as one of halves is.
//!
//! The other operand is an integer of 14 bits: queries by blocks of a head's elements that share a scale, softmax's weights, multiplied with
//! the values' scales, by blocks of keys. So it is off by at most 2⁻¹⁴ of its block's largest, an eighth of what a half is off by, and what 8
//! bits cost is the cache's alone. With fewer bits the many small weights behind a large one would vanish. The integers' sums are exact, and the same
//! in all forms.

#![allow(clippy::needless_range_loop, reason = "arrays of vectors stay in registers where loops over them are plain")]

use std::ops::Range;

use super::{BLOCK, FEW, Head, Kept, PART_WORK, QUERY_TILE, Shape, Tile, query_stride};
use crate::backend::cpu::lanes::{
    self, HALF_SCALE, Lanes, load_halves, load_splat, mul_add_float, mul_float, splat, splat_float, to_float,
};
use crate::backend::cpu::math::{float_to_half, half_to_float};
use crate::backend::cpu::panel::{self, WIDTH};
use crate::backend::cpu::pool::{Disjoint, Pool};
use crate::backend::cpu::{grow, zeroed};
use crate::backend::{KV_BLOCK, KvPart, KvSpec};
use crate::error::Result;

/// Whether there is an instruction that multiplies bytes. Its second operand has 7 bits, so that the integers of 14 are two of those.
const HAS_BYTE_DOTS: bool = cfg!(all(target_arch = "wasm32", target_feature = "relaxed-simd"));

/// Neighbours that lie together.
const STEP: usize = if HAS_BYTE_DOTS { 4 } else { 2 };

/// [`STEP`] neighbours in each column: those of column `j` from `j · STEP` on.
type Row = [i8; STEP * WIDTH];

/// Keys and values in panels of bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct BytePanels {
    shape: Shape,
    /// Keys, `[layers][n_heads][n_ctx / WIDTH][⌈head_dim / STEP⌉]`.
    k: Vec<Row>,
    /// Their scales, halves, `[layers][n_heads][n_ctx / WIDTH][⌈head_dim / KV_BLOCK⌉]`.
    k_scales: Vec<[u16; WIDTH]>,
    /// Values, `[layers][n_heads][n_ctx / BLOCK][⌈head_dim / WIDTH⌉][BLOCK / STEP]`.
    v: Vec<Row>,
    /// Their scales, halves, `[layers][n_heads][n_ctx / BLOCK][⌈head_dim / KV_BLOCK⌉][BLOCK]`.
    v_scales: Vec<u16>,
}

/// A block of a key or of a value in 8 bits: the scale, a half, and the elements, `x ≈ scale · q`. What is beyond the largest scale is kept as
/// 127 of it, and what is not a number as some number: neither may poison every later token.
fn quantize(x: &[f32]) -> (u16, [i8; KV_BLOCK]) {
    const MOST: f32 = 127.0 * 65504.0;
    let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs())).min(MOST);
    let scale = float_to_half(largest / 127.0);
    // Of the scale as it is kept.
    let d = half_to_float(scale);
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    let mut q = [0; KV_BLOCK];
    for (q, x) in q.iter_mut().zip(x) {
        *q = to_int((x * inverse).clamp(-127.0, 127.0)) as i8;
    }
    (scale, q)
}

/// The nearest integer; of two equally near ones the even one. For numbers below 2²².
#[inline(always)]
fn to_int(x: f32) -> i32 {
    // Adding 1.5·2²³ rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32
}

/// Numbers as integers of 14 bits, `x ≈ scale · a`; returns the scale. Signed ones are from −8191 to 8191, others, which are not negative, to
/// 16383. Where there are dots of bytes, the upper 7 bits of all come first, then the lower ones; signed ones have 8192 added.
///
/// What is not a number makes the scale not a number, and so whatever is multiplied with it.
#[inline(always)]
fn split<const SIGNED: bool>(x: &[f32], out: &mut [u8]) -> f32 {
    // As integers, the bits of absolute values are in the order of the values, and "not a number" is above infinity.
    let largest = x.iter().fold(0, |largest, x| largest.max((x.to_bits() & 0x7fff_ffff) as i32));
    let scale = f32::from_bits(largest as u32) / if SIGNED { 8191.0 } else { 16383.0 };
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    if HAS_BYTE_DOTS {
        let (high, low) = out.split_at_mut(x.len());
        for ((x, high), low) in x.iter().zip(high).zip(low) {
            let a = to_int(x * inverse) + if SIGNED { 8192 } else { 0 };
            *high = (a >> 7) as u8 & 127;
            *low = a as u8 & 127;
        }
    } else {
        for (x, out) in x.iter().zip(out.as_chunks_mut().0) {
            *out = (to_int(x * inverse) as i16).to_le_bytes();
        }
    }
    scale
}

/// `sums[t][j] = Σ_i a[t][i] · rows[i][j]`: integers that [`split`] made of `N` numbers each, `stride` bytes apart, with as many rows as there are.
///
/// # Safety
/// There are `T` times `2 N` bytes at `a`, and no more rows than make `N` elements.
#[inline(always)]
unsafe fn products<const T: usize, const N: usize, const SIGNED: bool>(
    a: *const u8,
    stride: usize,
    rows: &[Row],
) -> [[Lanes; 2]; T] {
    let mut sums = [[splat(0); 2]; T];
    #[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
    {
        use lanes::{dot_bytes_add, load, shl, sub};
        // 64 times the bytes: as much as was added to a signed integer's upper half.
        let mut added = [splat(0); 2];
        for (i, row) in rows.iter().enumerate() {
            let at: *const u8 = row.as_ptr().cast();
            // SAFETY: a row is 32 bytes; the rest is the caller's.
            unsafe {
                let (first, second) = (load(at), load(at.add(16)));
                for t in 0..T {
                    let a = load_splat(a.add(t * stride + STEP * i));
                    sums[t][0] = dot_bytes_add(first, a, sums[t][0]);
                    sums[t][1] = dot_bytes_add(second, a, sums[t][1]);
                }
                if SIGNED {
                    added[0] = dot_bytes_add(first, splat(0x4040_4040), added[0]);
                    added[1] = dot_bytes_add(second, splat(0x4040_4040), added[1]);
                }
            }
        }
        for t in 0..T {
            if SIGNED {
                sums[t][0] = sub(sums[t][0], added[0]);
                sums[t][1] = sub(sums[t][1], added[1]);
            }
            sums[t][0] = shl::<7>(sums[t][0]);
            sums[t][1] = shl::<7>(sums[t][1]);
        }
        for (i, row) in rows.iter().enumerate() {
            let at: *const u8 = row.as_ptr().cast();
            // SAFETY: as above.
            unsafe {
                let (first, second) = (load(at), load(at.add(16)));
                for t in 0..T {
                    let a = load_splat(a.add(t * stride + N + STEP * i));
                    sums[t][0] = dot_bytes_add(first, a, sums[t][0]);
                    sums[t][1] = dot_bytes_add(second, a, sums[t][1]);
                }
            }
        }
    }
    #[cfg(not(all(target_arch = "wasm32", target_feature = "relaxed-simd")))]
    {
        use lanes::{add, dot, load_bytes_signed_16};
        for (i, row) in rows.iter().enumerate() {
            let at: *const u8 = row.as_ptr().cast();
            // SAFETY: a row is 16 bytes.
            let columns = unsafe { [load_bytes_signed_16(at), load_bytes_signed_16(at.add(8))] };
            for (t, sums) in sums.iter_mut().enumerate() {
                // SAFETY: the caller's.
                let a = unsafe { load_splat(a.add(t * stride + 2 * STEP * i)) };
                *sums = [0, 1].map(|j| add(sums[j], dot(columns[j], a)));
            }
        }
    }
    sums
}

/// `y[t][j]`, the products of `T` queries with eight keys: queries in [`split`]'s integers with their scales, both one after another, keys with theirs.
#[inline(never)]
fn scores<const T: usize>(q: &[u8], q_scales: &[f32], k: &[Row], k_scales: &[[u16; WIDTH]]) -> [[f32; WIDTH]; T] {
    let n = k_scales.len();
    assert!(q.len() >= T * n * 2 * KV_BLOCK && q_scales.len() >= T * n, "attention: the queries are too short");
    let mut sums = [[splat(0); 2]; T];
    for (b, (k, scales)) in k.chunks(KV_BLOCK / STEP).zip(k_scales).enumerate() {
        // SAFETY: as asserted above; there are eight scales; chunks have at most so many rows.
        unsafe {
            let block = products::<T, KV_BLOCK, true>(q.as_ptr().add(b * 2 * KV_BLOCK), n * 2 * KV_BLOCK, k);
            let at: *const u8 = scales.as_ptr().cast();
            let scales = [load_halves(at), load_halves(at.add(8))].map(|scales| mul_float(scales, splat_float(HALF_SCALE)));
            for t in 0..T {
                let scale = splat_float(*q_scales.get_unchecked(t * n + b));
                sums[t][0] = mul_add_float(to_float(block[t][0]), mul_float(scales[0], scale), sums[t][0]);
                sums[t][1] = mul_add_float(to_float(block[t][1]), mul_float(scales[1], scale), sums[t][1]);
            }
        }
    }
    sums.map(panel::finish)
}

/// `y[t][j]`, the sums of eight elements of a block's values by `T` rows of weights, which are `stride` bytes apart, without their scales.
#[inline(never)]
fn value_sums<const T: usize>(weights: &[u8], stride: usize, v: &[Row]) -> [[f32; WIDTH]; T] {
    assert!(weights.len() >= (T - 1) * stride + 2 * BLOCK && v.len() <= BLOCK / STEP, "attention: the weights are too short");
    // SAFETY: as asserted.
    let sums = unsafe { products::<T, BLOCK, false>(weights.as_ptr(), stride, v) };
    sums.map(|sums| panel::finish(sums.map(to_float)))
}

/// Calls `rows` with the first of a number of rows, and how many: 1 to 4, all of them in turn.
macro_rules! for_rows {
    ($n:expr, $first:ident, $make:ident($($argument:expr),*), $put:expr) => {
        let mut $first = 0;
        while $first < $n {
            let mut put = |rows: &[[f32; WIDTH]]| {
                for (i, y) in rows.iter().enumerate() {
                    $put($first + i, y);
                }
                rows.len()
            };
            $first += match $n - $first {
                1 => put(&$make::<1>($($argument),*)),
                2 => put(&$make::<2>($($argument),*)),
                3 => put(&$make::<3>($($argument),*)),
                _ => put(&$make::<4>($($argument),*)),
            };
        }
    };
}

/// What a tile needs for panels of bytes.
#[derive(Debug, Default)]
pub(super) struct Integers {
    /// How many of the tile's queries are to be taken in yet: all or none.
    pub(super) n_waiting: usize,
    /// Queries, `[QUERY_TILE][⌈head_dim / KV_BLOCK⌉]` times [`split`]'s bytes of a block.
    q: Vec<u8>,
    q_scales: Vec<f32>,
    /// Weights, `[FEW][⌈head_dim / KV_BLOCK⌉]` times [`split`]'s bytes of a block of keys.
    weights: Vec<u8>,
    weight_scales: Vec<f32>,
    /// Scales of a block's values, `[⌈head_dim / KV_BLOCK⌉][BLOCK]`.
    v_scales: Vec<f32>,
}

impl Integers {
    /// Makes room for heads of this width.
    pub(super) fn fit(&mut self, head_dim: usize) -> Result<()> {
        let (n, what) = (head_dim.div_ceil(KV_BLOCK), "a thread's part of attention");
        grow(&mut self.q, QUERY_TILE * n * 2 * KV_BLOCK, what)?;
        grow(&mut self.q_scales, QUERY_TILE * n, what)?;
        grow(&mut self.weights, FEW * n * 2 * BLOCK, what)?;
        grow(&mut self.weight_scales, FEW * n, what)?;
        grow(&mut self.v_scales, n * BLOCK, what)
    }

    /// Takes in the queries, where that has not been done.
    fn take_queries(&mut self, q: &[f32], head_dim: usize) {
        let n_scales = head_dim.div_ceil(KV_BLOCK);
        let queries = q.chunks_exact(query_stride(head_dim)).take(self.n_waiting);
        let out = self.q.chunks_exact_mut(n_scales * 2 * KV_BLOCK).zip(self.q_scales.chunks_exact_mut(n_scales));
        for (q, (out, scales)) in queries.zip(out) {
            for ((q, out), scale) in q[..head_dim].chunks(KV_BLOCK).zip(out.chunks_exact_mut(2 * KV_BLOCK)).zip(scales) {
                let mut whole = [0.0; KV_BLOCK];
                whole[..q.len()].copy_from_slice(q);
                *scale = split::<true>(&whole, out);
            }
        }
        self.n_waiting = 0;
    }
}

/// How panels of bytes lie.
impl Shape {
    /// Scales of a head at a position.
    fn n_scales(self) -> usize {
        self.head_dim.div_ceil(KV_BLOCK)
    }

    /// The how manieth panel of eight keys.
    fn group_at(self, head: Head, position: usize) -> usize {
        (head.layer * self.n_heads + head.index) * (self.n_ctx / WIDTH) + position / WIDTH
    }

    /// The how manieth block of values.
    fn block_at(self, head: Head, position: usize) -> usize {
        (head.layer * self.n_heads + head.index) * (self.n_ctx / BLOCK) + position / BLOCK
    }

    /// The row of the `octet`th eight elements of a block of values that a position is in.
    fn value_row(self, block: usize, position: usize, octet: usize) -> usize {
        (block * self.head_dim.div_ceil(WIDTH) + octet) * (BLOCK / STEP) + position % BLOCK / STEP
    }

    /// Where an element of a key or a value is: the row, and the place there.
    fn byte_at(self, part: KvPart, head: Head, position: usize, element: usize) -> (usize, usize) {
        match part {
            KvPart::Keys => {
                let first = self.group_at(head, position) * self.head_dim.div_ceil(STEP);
                (first + element / STEP, position % WIDTH * STEP + element % STEP)
            }
            KvPart::Values => {
                let row = self.value_row(self.block_at(head, position), position, element / WIDTH);
                (row, element % WIDTH * STEP + position % STEP)
            }
        }
    }

    /// Where the scale of the `block`th block of a head's elements is.
    fn scale_at(self, part: KvPart, head: Head, position: usize, block: usize) -> usize {
        let (panel, width) = match part {
            KvPart::Keys => (self.group_at(head, position), WIDTH),
            KvPart::Values => (self.block_at(head, position), BLOCK),
        };
        (panel * self.n_scales() + block) * width + position % width
    }
}

impl BytePanels {
    pub(super) fn new(spec: &KvSpec) -> Result<Self> {
        let what = format!("the keys and values of {} positions", spec.n_ctx);
        let (shape, n_panels) = Shape::new(spec);
        let n_scales = n_panels.saturating_mul(shape.n_scales());
        let n_rows = shape.head_dim.next_multiple_of(WIDTH) / STEP;
        Ok(Self {
            shape,
            k: zeroed(n_panels.saturating_mul(shape.head_dim.div_ceil(STEP)), &what)?,
            k_scales: zeroed(n_scales, &what)?,
            v: zeroed(n_panels.saturating_mul(n_rows), &what)?,
            v_scales: zeroed(n_scales.saturating_mul(WIDTH), &what)?,
        })
    }

    /// Puts rows in from `position` on. Threads divide the groups of positions.
    pub(super) fn write(&mut self, pool: &Pool, layer: usize, position: usize, k: &[f32], v: &[f32]) {
        let shape = self.shape;
        let Shape { n_heads, head_dim, .. } = shape;
        let (n_kv, n_scales, k_rows) = (shape.n_kv(), shape.n_scales(), head_dim.div_ceil(STEP));
        let n = k.len() / n_kv;
        let first = position / WIDTH;
        let (k_out, k_scales) = (Disjoint::new(&mut self.k), Disjoint::new(&mut self.k_scales));
        let (v_out, v_scales) = (Disjoint::new(&mut self.v), Disjoint::new(&mut self.v_scales));
        let least = PART_WORK.div_ceil(WIDTH * n_kv);
        pool.for_ranges((position + n).div_ceil(WIDTH) - first, 1, least, |groups, _| {
            for group in first + groups.start..first + groups.end {
                let positions = position.max(group * WIDTH)..(position + n).min((group + 1) * WIDTH);
                for index in 0..n_heads {
                    let head = Head { layer, index };
                    let (panel, block) = (shape.group_at(head, group * WIDTH), shape.block_at(head, group * WIDTH));
                    // SAFETY: parts of an op have different groups.
                    let (keys, key_scales) = unsafe {
                        (
                            k_out.part(panel * k_rows..(panel + 1) * k_rows),
                            k_scales.part(panel * n_scales..(panel + 1) * n_scales),
                        )
                    };
                    for at in positions.clone() {
                        let row = (at - position) * n_kv + index * head_dim;
                        for (b, x) in k[row..row + head_dim].chunks(KV_BLOCK).enumerate() {
                            let (scale, q) = quantize(x);
                            key_scales[b][at % WIDTH] = scale;
                            for (steps, row) in q[..x.len()].chunks(STEP).zip(&mut keys[b * (KV_BLOCK / STEP)..]) {
                                row[at % WIDTH * STEP..][..steps.len()].copy_from_slice(steps);
                            }
                        }
                        for (b, x) in v[row..row + head_dim].chunks(KV_BLOCK).enumerate() {
                            let (scale, q) = quantize(x);
                            let to = (block * n_scales + b) * BLOCK + at % BLOCK;
                            // SAFETY: as above.
                            unsafe { v_scales.part(to..to + 1)[0] = scale };
                            for (octet, q) in q[..x.len()].chunks(WIDTH).enumerate() {
                                let to = shape.value_row(block, at, b * (KV_BLOCK / WIDTH) + octet);
                                // SAFETY: as above; a group has whole rows.
                                let row = unsafe { &mut v_out.part(to..to + 1)[0] };
                                for (j, q) in q.iter().enumerate() {
                                    row[j * STEP + at % STEP] = *q;
                                }
                            }
                        }
                    }
                }
            }
        });
    }

    /// Appends a position's key or value.
    pub(super) fn read(&self, part: KvPart, layer: usize, position: usize, out: &mut Vec<u8>) {
        let (panels, scales) = match part {
            KvPart::Keys => (&self.k, self.k_scales.as_flattened()),
            KvPart::Values => (&self.v, &self.v_scales[..]),
        };
        for head in (0..self.shape.n_heads).map(|index| Head { layer, index }) {
            for first in (0..self.shape.head_dim).step_by(KV_BLOCK) {
                out.extend(scales[self.shape.scale_at(part, head, position, first / KV_BLOCK)].to_le_bytes());
                for element in first..self.shape.head_dim.min(first + KV_BLOCK) {
                    let (row, place) = self.shape.byte_at(part, head, position, element);
                    out.push(panels[row][place] as u8);
                }
            }
        }
    }

    /// Puts a position's key or value back in.
    pub(super) fn restore(&mut self, part: KvPart, layer: usize, position: usize, bytes: &[u8]) {
        let (panels, scales) = match part {
            KvPart::Keys => (&mut self.k, self.k_scales.as_flattened_mut()),
            KvPart::Values => (&mut self.v, &mut self.v_scales[..]),
        };
        for (index, bytes) in bytes.chunks_exact(bytes.len() / self.shape.n_heads).enumerate() {
            let head = Head { layer, index };
            for (block, bytes) in bytes.chunks(2 + KV_BLOCK).enumerate() {
                scales[self.shape.scale_at(part, head, position, block)] = u16::from_le_bytes([bytes[0], bytes[1]]);
                for (i, q) in bytes[2..].iter().enumerate() {
                    let (row, place) = self.shape.byte_at(part, head, position, block * KV_BLOCK + i);
                    panels[row][place] = *q as i8;
                }
            }
        }
    }
}

/// The numbers of a row, [`STEP`] for each column: `out[i][j]` is the `i`th of column `j`, times the `j`th of `scales(i)`. A column's lie in one
/// integer, of which shifts take each with its sign.
#[inline(always)]
fn unpack(row: &Row, out: &mut [[f32; WIDTH]], scales: impl Fn(usize) -> [Lanes; 2]) {
    let at: *const u8 = row.as_ptr().cast();
    // SAFETY: a row is as many bytes.
    let columns = unsafe {
        match STEP {
            4 => [lanes::load(at), lanes::load(at.add(16))],
            _ => [lanes::load_bytes_signed_16(at), lanes::load_bytes_signed_16(at.add(8))],
        }
    };
    // The `i`th of each column, at the top of its integer; with two of them they have 16 bits each.
    let put = |i: usize, numbers: [Lanes; 2], out: &mut [f32; WIDTH]| {
        let scales = scales(i);
        // SAFETY: `out` has room for eight floats.
        unsafe {
            lanes::store(out.as_mut_ptr(), mul_float(to_float(numbers[0]), scales[0]));
            lanes::store(out.as_mut_ptr().add(4), mul_float(to_float(numbers[1]), scales[1]));
        }
    };
    let [first, second, rest @ ..] = out else {
        out.iter_mut().for_each(|out| put(0, columns.map(first_of), out));
        return;
    };
    put(0, columns.map(first_of), first);
    match STEP {
        4 => put(1, columns.map(|x| lanes::shr_signed::<24>(lanes::shl::<16>(x))), second),
        _ => put(1, columns.map(lanes::shr_signed::<16>), second),
    }
    if let [third, fourth @ ..] = rest {
        put(2, columns.map(|x| lanes::shr_signed::<24>(lanes::shl::<8>(x))), third);
        if let [fourth, ..] = fourth {
            put(3, columns.map(lanes::shr_signed::<24>), fourth);
        }
    }
}

/// The first number of each column in its integer.
#[inline(always)]
fn first_of(columns: Lanes) -> Lanes {
    match STEP {
        4 => lanes::shr_signed::<24>(lanes::shl::<24>(columns)),
        _ => lanes::shr_signed::<16>(lanes::shl::<16>(columns)),
    }
}

impl Kept for BytePanels {
    const SHIFT: f32 = 1.0;

    #[inline(never)]
    fn scores(&self, tile: &mut Tile, queries: Range<usize>, head: Head, keys: &Range<usize>) {
        let (head_dim, n_scales) = (self.shape.head_dim, self.shape.n_scales());
        let k_rows = head_dim.div_ceil(STEP);
        let (first, n) = (queries.start, queries.len());
        let Tile { q, weights, k: unpacked, integers, .. } = tile;
        if n < FEW {
            integers.take_queries(q, head_dim);
        }
        for (i, from) in keys.clone().step_by(WIDTH).enumerate() {
            let weights = &mut weights[first * BLOCK + i * WIDTH..];
            let mut put = |t: usize, y: &[f32; WIDTH]| weights[t * BLOCK..t * BLOCK + WIDTH].copy_from_slice(y);
            let panel = self.shape.group_at(head, from);
            let (k, scales) = (&self.k[panel * k_rows..][..k_rows], &self.k_scales[panel * n_scales..][..n_scales]);
            if n >= FEW {
                let rows = k.chunks(KV_BLOCK / STEP).zip(scales).flat_map(|(k, scales)| {
                    let at: *const u8 = scales.as_ptr().cast();
                    // SAFETY: there are eight scales.
                    let scales = unsafe { [load_halves(at), load_halves(at.add(8))] }
                        .map(|scales| mul_float(scales, splat_float(HALF_SCALE)));
                    k.iter().map(move |row| (row, scales))
                });
                for ((row, scales), out) in rows.zip(unpacked[..head_dim].chunks_mut(STEP)) {
                    unpack(row, out, |_| scales);
                }
                super::scores(&q[first * query_stride(head_dim)..], n, &unpacked[..head_dim], weights);
            } else {
                let (q, q_scales) = (&integers.q[first * n_scales * 2 * KV_BLOCK..], &integers.q_scales[first * n_scales..]);
                for_rows!(n, t, scores(&q[t * n_scales * 2 * KV_BLOCK..], &q_scales[t * n_scales..], k, scales), put);
            }
        }
    }

    #[inline(never)]
    fn add_values(&self, tile: &mut Tile, queries: Range<usize>, head: Head, keys: &Range<usize>) {
        let (head_dim, n_scales) = (self.shape.head_dim, self.shape.n_scales());
        let stride = head_dim.next_multiple_of(WIDTH);
        let (first, n) = (queries.start, queries.len());
        let block = self.shape.block_at(head, keys.start);
        let Tile { weights, sums, v: unpacked, integers, .. } = tile;
        let Integers { weights: split_weights, weight_scales, v_scales, .. } = integers;
        for (scale, out) in self.v_scales[block * n_scales * BLOCK..].iter().zip(&mut v_scales[..n_scales * BLOCK]) {
            *out = half_to_float(*scale);
        }
        if n < FEW {
            let out = split_weights.chunks_exact_mut(2 * BLOCK).zip(weight_scales.iter_mut());
            let rows = weights[first * BLOCK..]
                .chunks_exact(BLOCK)
                .flat_map(|w| v_scales.chunks_exact(BLOCK).take(n_scales).map(move |s| (w, s)));
            for ((weights, v_scales), (out, scale)) in rows.take(n * n_scales).zip(out) {
                let mut scaled = [0.0; BLOCK];
                for ((scaled, weight), v_scale) in scaled.iter_mut().zip(weights).zip(v_scales).take(keys.len()) {
                    *scaled = weight * v_scale;
                }
                *scale = split::<false>(&scaled, out);
            }
        }
        for octet in 0..head_dim.div_ceil(WIDTH) {
            let sums = &mut sums[first * stride + octet * WIDTH..];
            let mut add = |t: usize, y: &[f32; WIDTH], scale: f32| {
                for (sum, y) in sums[t * stride..t * stride + WIDTH].iter_mut().zip(y) {
                    *sum += scale * y;
                }
            };
            let b = octet * WIDTH / KV_BLOCK;
            let v = &self.v[self.shape.value_row(block, 0, octet)..][..keys.len().div_ceil(STEP)];
            if n >= FEW {
                let unpacked = &mut unpacked[..keys.len()];
                let scales = v_scales[b * BLOCK..].chunks_exact(STEP);
                for ((row, scales), out) in v.iter().zip(scales).zip(unpacked.chunks_mut(STEP)) {
                    unpack(row, out, |i| [splat_float(scales[i]); 2]);
                }
                panel::rows_into::<f32, BLOCK, true>(&weights[first * BLOCK..], BLOCK, n, unpacked, sums, stride);
            } else {
                let by = n_scales * 2 * BLOCK;
                let put = |t: usize, y: &[f32; WIDTH]| add(t, y, weight_scales[t * n_scales + b]);
                let mut put = put;
                for_rows!(n, t, value_sums(&split_weights[t * by + b * 2 * BLOCK..], by, v), put);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of both signs, among them the largest.
    fn numbers(n: usize, is_signed: bool) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + 11) % 101) as f32 / 100.0 - if is_signed { 0.5 } else { 0.0 }).collect()
    }

    /// The integers that [`split`] made.
    fn joined<const SIGNED: bool>(bytes: &[u8]) -> Vec<i32> {
        let n = bytes.len() / 2;
        if HAS_BYTE_DOTS {
            let offset = if SIGNED { 8192 } else { 0 };
            (0..n).map(|i| (i32::from(bytes[i]) << 7 | i32::from(bytes[n + i])) - offset).collect()
        } else {
            bytes.as_chunks().0.iter().map(|a| i32::from(i16::from_le_bytes(*a))).collect()
        }
    }

    fn check<const T: usize, const N: usize, const SIGNED: bool>(n_rows: usize) {
        let mut bytes = vec![0; T * 2 * N];
        let mut integers = Vec::new();
        for (t, out) in bytes.chunks_exact_mut(2 * N).enumerate() {
            let mut x = numbers(N, SIGNED);
            x.rotate_left(t);
            let scale = split::<SIGNED>(&x, out);
            let of_row = joined::<SIGNED>(out);
            for (x, a) in x.iter().zip(&of_row) {
                assert!((scale * *a as f32 - x).abs() <= 0.501 * scale, "{x}: {a} times {scale}");
            }
            integers.push(of_row);
        }
        let rows: Vec<Row> = (0..n_rows).map(|i| std::array::from_fn(|j| ((i * 31 + j * 57) % 255) as i32 as u8 as i8)).collect();
        // SAFETY: there are T times 2 N bytes, and no more rows than N elements make.
        let sums = unsafe { products::<T, N, SIGNED>(bytes.as_ptr(), 2 * N, &rows) };
        for (got, a) in sums.map(|sums| panel::finish(sums.map(to_float))).iter().zip(&integers) {
            for (j, got) in got.iter().enumerate() {
                let of_row =
                    |(i, row): (usize, &Row)| -> i32 { (0..STEP).map(|s| a[i * STEP + s] * i32::from(row[j * STEP + s])).sum() };
                let want: i32 = rows.iter().enumerate().map(of_row).sum();
                assert_eq!(*got, want as f32, "{T} of {N}, {n_rows} rows, column {j}");
            }
        }
    }

    #[test]
    fn sums_of_integers_are_exact() {
        for n_rows in [1, 3, KV_BLOCK / STEP] {
            check::<1, KV_BLOCK, true>(n_rows);
            check::<3, KV_BLOCK, true>(n_rows);
            check::<4, KV_BLOCK, true>(n_rows);
        }
        for n_rows in [1, 5, BLOCK / STEP] {
            check::<1, BLOCK, false>(n_rows);
            check::<2, BLOCK, false>(n_rows);
            check::<4, BLOCK, false>(n_rows);
        }
    }

    #[test]
    fn elements_are_off_by_half_a_step_and_the_scales_rounding_at_most() {
        for factor in [1.0, 1e-3, 3e4, 1e-6] {
            let x: Vec<f32> = numbers(KV_BLOCK, true).iter().map(|x| factor * x).collect();
            let (scale, q) = quantize(&x);
            let d = half_to_float(scale);
            for (x, q) in x.iter().zip(q) {
                let error = (d * f32::from(q) - x).abs();
                assert!(error <= 0.501 * d + x.abs() / 2048.0 + 4e-6, "{x}: {q} times {d}");
            }
        }
        assert_eq!(quantize(&[0.0; 5]), (0, [0; KV_BLOCK]));
        let (scale, q) = quantize(&[1e30, -1e30, 1.0]);
        assert_eq!((half_to_float(scale), q[..3].to_vec()), (65504.0, vec![127, -127, 0]));
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(half_to_float(quantize(&[1.0, x]).0).is_finite(), "{x} poisons what is kept");
        }
    }

    #[test]
    fn what_is_no_number_poisons_its_own_products() {
        let mut out = [0; 2 * KV_BLOCK];
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut block = [1.0; KV_BLOCK];
            block[3] = x;
            assert!(!split::<true>(&block, &mut out).is_finite());
        }
        assert_eq!(split::<true>(&[0.0; KV_BLOCK], &mut out), 0.0);
        assert!(joined::<true>(&out).iter().all(|a| *a == 0));
    }
}
