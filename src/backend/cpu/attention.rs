//! Attention, and the cache of keys and values.
//!
//! Keys and values are kept in panels ([`super::panel`]): eight keys side by side, element after element, and eight elements
//! of the values side by side, position after position. So neither the scores nor the sums of values need a sum across
//! lanes, and heads that share keys and values share their unpacking. The panels of a head lie in the order in which a token
//! reads them, for the weights of a layer push them out of the caches before the next token (measured in Chromium, three heads to
//! a key, from memory: 8.5 GB/s, and 4.1 with the keys of all heads at a position beside each other).
//!
//! Queries meet keys in blocks of [`BLOCK`] with a running maximum (Milakov and Gimelshein 2018, arXiv 1805.02867; Dao et al.
//! 2022, arXiv 2205.14135): scores of the block, their exponentials, sum of the values. Threads divide the queries of a prompt; the
//! single query of a decoding step they divide by blocks of keys, whose results are then put together in their order. What
//! belongs to a block does not depend on the number of threads.

use std::ops::Range;
use std::sync::Mutex;

use super::math::{exp, float_to_half, max, sum};
use super::panel::{self, ShrunkHalf, Stored, WIDTH};
use super::pool::{Disjoint, MAX_THREADS, Pool};
use super::{grow, reserve, zeroed};
use crate::backend::{AttentionOp, Heads, KvFormat, KvPart, KvSpec};
use crate::error::Result;

mod bytes;

use bytes::{BytePanels, Integers};

/// Keys that queries meet at once.
const BLOCK: usize = 128;

/// Queries (of all heads that share keys and values) that a thread takes through all blocks of keys: with as many the
/// unpacking of a block is little beside the products, and a tile's scores are 32 KiB.
const QUERY_TILE: usize = 64;

/// With fewer queries 16-bit numbers are unpacked in the products, not before.
const FEW: usize = 12;

/// Multiply-adds that are worth a part of their own.
const PART_WORK: usize = 32 << 10;

/// Keys and values of all decoder layers.
#[derive(Debug, Clone)]
pub struct KvCache {
    spec: KvSpec,
    rows: Rows,
}

/// Keys and values in one of the formats.
#[derive(Debug, Clone)]
enum Rows {
    F32(Panels<f32>),
    F16(Panels<ShrunkHalf>),
    Q8_0(BytePanels),
}

/// How panels lie.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    /// Positions there is room for, a multiple of [`BLOCK`].
    n_ctx: usize,
    n_heads: usize,
    /// Elements of a head's key.
    head_dim: usize,
}

impl Shape {
    /// What a cache of this size takes, and in how many panels of eight keys.
    fn new(spec: &KvSpec) -> (Self, usize) {
        let KvSpec { n_layers, n_ctx, n_kv, head_dim, .. } = *spec;
        let shape = Self { n_ctx: n_ctx.div_ceil(BLOCK).saturating_mul(BLOCK), n_heads: n_kv / head_dim, head_dim };
        assert_eq!(n_kv, shape.n_kv(), "kv_cache: heads do not fill the rows");
        (shape, n_layers.saturating_mul(shape.n_heads).saturating_mul(shape.n_ctx / WIDTH))
    }

    /// Elements of a position's key.
    fn n_kv(self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Where the keys of a head at the positions of a group begin.
    fn k_at(self, layer: usize, head: usize, group: usize) -> usize {
        ((layer * self.n_heads + head) * (self.n_ctx / WIDTH) + group) * self.head_dim
    }

    /// Where eight elements, the `octet`th, of a head's values begin at a position.
    fn v_at(self, layer: usize, head: usize, position: usize, octet: usize) -> usize {
        let blocks = (layer * self.n_heads + head) * (self.n_ctx / BLOCK) + position / BLOCK;
        (blocks * self.head_dim.div_ceil(WIDTH) + octet) * BLOCK + position % BLOCK
    }

    /// Where the elements of a position's key or value are, in their order: the row of the panels, and the column.
    fn places(self, part: KvPart, layer: usize, position: usize) -> impl Iterator<Item = (usize, usize)> {
        let place = move |head, element| match part {
            KvPart::Keys => (self.k_at(layer, head, position / WIDTH) + element, position % WIDTH),
            KvPart::Values => (self.v_at(layer, head, position, element / WIDTH), element % WIDTH),
        };
        (0..self.n_heads).flat_map(move |head| (0..self.head_dim).map(move |element| place(head, element)))
    }
}

/// Keys and values in panels.
#[derive(Debug, Clone, Default)]
struct Panels<S> {
    shape: Shape,
    /// Keys, `[layers][n_heads][n_ctx / WIDTH][head_dim][WIDTH]`.
    k: Vec<[S; WIDTH]>,
    /// Values, `[layers][n_heads][n_ctx / BLOCK][⌈head_dim / WIDTH⌉][BLOCK][WIDTH]`.
    v: Vec<[S; WIDTH]>,
}

impl<S: Stored> Panels<S> {
    fn new(spec: &KvSpec) -> Result<Self> {
        let what = format!("the keys and values of {} positions", spec.n_ctx);
        let (shape, n_panels) = Shape::new(spec);
        Ok(Self {
            shape,
            k: zeroed(n_panels.saturating_mul(shape.head_dim), &what)?,
            v: zeroed(n_panels.saturating_mul(shape.head_dim.next_multiple_of(WIDTH)), &what)?,
        })
    }

    /// Puts rows in from `position` on. Threads divide the groups of positions.
    fn write(&mut self, pool: &Pool, layer: usize, position: usize, k: &[f32], v: &[f32], store: impl Fn(f32) -> S + Sync) {
        let shape = self.shape;
        let Shape { n_heads, head_dim, .. } = shape;
        let n_kv = shape.n_kv();
        let n = k.len() / n_kv;
        let first = position / WIDTH;
        let (k_out, v_out) = (Disjoint::new(&mut self.k), Disjoint::new(&mut self.v));
        let least = PART_WORK.div_ceil(WIDTH * n_kv);
        pool.for_ranges((position + n).div_ceil(WIDTH) - first, 1, least, |groups, _| {
            for group in first + groups.start..first + groups.end {
                let positions = position.max(group * WIDTH)..(position + n).min((group + 1) * WIDTH);
                let from = (positions.start - position) * n_kv;
                for head in 0..n_heads {
                    let at = shape.k_at(layer, head, group);
                    // SAFETY: parts of an op have different groups.
                    let panel = unsafe { k_out.part(at..at + head_dim) };
                    for (at, row) in positions.clone().zip(k[from + head * head_dim..].chunks(n_kv)) {
                        for (columns, x) in panel.iter_mut().zip(row) {
                            columns[at % WIDTH] = store(*x);
                        }
                    }
                    for (octet, element) in (0..head_dim).step_by(WIDTH).enumerate() {
                        let at = shape.v_at(layer, head, positions.start, octet);
                        // SAFETY: as above; a group's positions are all of one block.
                        let panel = unsafe { v_out.part(at..at + positions.len()) };
                        let len = WIDTH.min(head_dim - element);
                        for (columns, row) in panel.iter_mut().zip(v[from + head * head_dim + element..].chunks(n_kv)) {
                            let row = &row[..len];
                            if let Some(row) = row.as_array::<WIDTH>() {
                                *columns = row.map(&store);
                            } else {
                                columns.iter_mut().zip(row).for_each(|(column, x)| *column = store(*x));
                            }
                        }
                    }
                }
            }
        });
    }
}

impl<S: Stored> Panels<S> {
    /// The elements of a position's key or value.
    fn row(&self, part: KvPart, layer: usize, position: usize) -> impl Iterator<Item = S> {
        let panels = match part {
            KvPart::Keys => &self.k,
            KvPart::Values => &self.v,
        };
        self.shape.places(part, layer, position).map(|(row, column)| panels[row][column])
    }

    /// Puts rows of elements of `N` bytes in from `position` of a layer on.
    fn restore<const N: usize>(
        &mut self,
        part: KvPart,
        layer: usize,
        position: usize,
        bytes: &[u8],
        store: impl Fn([u8; N]) -> S,
    ) {
        let panels = match part {
            KvPart::Keys => &mut self.k,
            KvPart::Values => &mut self.v,
        };
        for (i, bytes) in bytes.chunks_exact(self.shape.n_kv() * N).enumerate() {
            for ((row, column), x) in self.shape.places(part, layer, position + i).zip(bytes.as_chunks().0) {
                panels[row][column] = store(*x);
            }
        }
    }
}

impl KvCache {
    pub(super) fn new(spec: &KvSpec) -> Result<Self> {
        let rows = match spec.format {
            KvFormat::F32 => Rows::F32(Panels::new(spec)?),
            KvFormat::F16 => Rows::F16(Panels::new(spec)?),
            KvFormat::Q8_0 => Rows::Q8_0(BytePanels::new(spec)?),
        };
        Ok(Self { spec: *spec, rows })
    }

    /// Puts rows in from `position` on. Halves end at 65504; what is beyond is kept as that, for an infinity among the keys
    /// would make every later token not a number.
    pub(super) fn write(&mut self, pool: &Pool, layer: usize, position: usize, k: &[f32], v: &[f32]) {
        let n = k.len() / self.spec.n_kv;
        assert!(layer < self.spec.n_layers && position + n <= self.spec.n_ctx, "kv_write: beyond the cache");
        match &mut self.rows {
            Rows::F32(panels) => panels.write(pool, layer, position, k, v, |x| x),
            Rows::F16(panels) => panels.write(pool, layer, position, k, v, |x| ShrunkHalf(float_to_half(x))),
            Rows::Q8_0(panels) => panels.write(pool, layer, position, k, v),
        }
    }
}

impl KvCache {
    /// [`crate::backend::Queue::kv_read`]
    pub(super) fn read(&self, part: KvPart, layers: Range<usize>, position: usize, n: usize, out: &mut Vec<u8>) -> Result<()> {
        assert!(layers.end <= self.spec.n_layers && position + n <= self.spec.n_ctx, "kv_read: beyond the cache");
        out.clear();
        reserve(out, layers.len().saturating_mul(n).saturating_mul(self.spec.row_bytes()), "a copy of keys or values")?;
        for layer in layers {
            for position in position..position + n {
                match &self.rows {
                    // `for_each` runs the heads' loops inside of each other; `extend` would ask for one byte after the other.
                    Rows::F32(panels) => panels.row(part, layer, position).for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
                    Rows::F16(panels) => {
                        panels.row(part, layer, position).for_each(|x| out.extend_from_slice(&x.0.to_le_bytes()))
                    }
                    Rows::Q8_0(panels) => panels.read(part, layer, position, out),
                }
            }
        }
        Ok(())
    }

    /// [`crate::backend::Queue::kv_restore`]
    pub(super) fn restore(&mut self, part: KvPart, layers: Range<usize>, position: usize, bytes: &[u8]) {
        let (n_layers, row_bytes) = (layers.len(), self.spec.row_bytes());
        let n = bytes.len() / (n_layers * row_bytes);
        assert_eq!(bytes.len(), n * n_layers * row_bytes, "kv_restore takes whole rows of each layer");
        assert!(layers.end <= self.spec.n_layers && position + n <= self.spec.n_ctx, "kv_restore: beyond the cache");
        for (layer, bytes) in layers.zip(bytes.chunks_exact((n * row_bytes).max(1))) {
            match &mut self.rows {
                Rows::F32(panels) => panels.restore(part, layer, position, bytes, f32::from_le_bytes),
                Rows::F16(panels) => panels.restore(part, layer, position, bytes, |x| ShrunkHalf(u16::from_le_bytes(x))),
                Rows::Q8_0(panels) => {
                    for (i, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
                        panels.restore(part, layer, position + i, bytes);
                    }
                }
            }
        }
    }
}

/// Memory that attention works in.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Each thread's.
    tiles: [Mutex<Tile>; MAX_THREADS],
    /// What blocks of keys gave a single query: for each head that shares keys and values, and each block, for each of its
    /// queries the sum of the values, the largest score and the sum of the weights.
    partial: Vec<f32>,
    /// Keys and values of a vision tower's layer.
    full: Panels<f32>,
}

/// Elements from one of a tile's queries to the next: a few distances for nearly all models, which the products know when they are compiled.
fn query_stride(head_dim: usize) -> usize {
    head_dim.next_multiple_of(BLOCK)
}

/// Scores of `n` queries with a panel of keys, into the first columns of `out [n, BLOCK]`.
fn scores<S: Stored>(q: &[f32], n: usize, k: &[[S; WIDTH]], out: &mut [f32]) {
    match query_stride(k.len()) {
        128 => panel::rows_into::<S, 128, false>(q, 128, n, k, out, BLOCK),
        256 => panel::rows_into::<S, 256, false>(q, 256, n, k, out, BLOCK),
        stride => panel::rows_into::<S, 0, false>(q, stride, n, k, out, BLOCK),
    }
}

/// Queries on their way through the blocks of keys.
#[derive(Debug, Default)]
struct Tile {
    /// Scaled queries, `[QUERY_TILE, query_stride(head_dim)]`.
    q: Vec<f32>,
    /// Scores of a block, then its weights, `[QUERY_TILE, BLOCK]`.
    weights: Vec<f32>,
    /// Sums of the values so far, `[QUERY_TILE, head_dim rounded up to whole panels]`.
    sums: Vec<f32>,
    /// For each query the largest score so far.
    largest: Vec<f32>,
    /// For each query the sum of the weights so far, which are relative to that of the largest score and, as the values want
    /// it, [`Stored::SHIFT`] times too large.
    total: Vec<f32>,
    /// A panel of keys, `[head_dim][WIDTH]`, where it is not used as it lies.
    k: Vec<[f32; WIDTH]>,
    /// A panel of the block's values, `[BLOCK][WIDTH]`, likewise.
    v: Vec<[f32; WIDTH]>,
    /// What the products of integers take.
    integers: Integers,
}

/// One head's keys and values: the layer, and the how manieth there.
#[derive(Debug, Clone, Copy)]
struct Head {
    layer: usize,
    index: usize,
}

/// Keys and values as the queries of a tile meet them.
trait Kept: Sync {
    /// [`Stored::SHIFT`]
    const SHIFT: f32;

    /// Leaves the products of queries with the keys of a block in the tile's weights.
    fn scores(&self, tile: &mut Tile, queries: Range<usize>, head: Head, keys: &Range<usize>);

    /// Adds the values of a block, each as often as the tile's weights say, to the queries' sums.
    fn add_values(&self, tile: &mut Tile, queries: Range<usize>, head: Head, keys: &Range<usize>);
}

impl<S: Stored> Panels<S> {
    /// Whether the numbers for so many queries are unpacked first.
    fn converts(queries: &Range<usize>) -> bool {
        size_of::<S>() < 4 && queries.len() >= FEW
    }
}

impl<S: Stored> Kept for Panels<S> {
    const SHIFT: f32 = S::SHIFT;

    #[inline(never)]
    fn scores(&self, tile: &mut Tile, queries: Range<usize>, head: Head, keys: &Range<usize>) {
        let head_dim = self.shape.head_dim;
        let groups = keys.start / WIDTH..keys.end.div_ceil(WIDTH);
        for (i, group) in groups.enumerate() {
            let weights = &mut tile.weights[queries.start * BLOCK + i * WIDTH..];
            let k = &self.k[self.shape.k_at(head.layer, head.index, group)..][..head_dim];
            let (q, n) = (&tile.q[queries.start * query_stride(head_dim)..], queries.len());
            if Self::converts(&queries) {
                let converted = &mut tile.k[..head_dim];
                panel::convert(k, converted);
                scores(q, n, converted, weights);
            } else {
                scores(q, n, k, weights);
            }
        }
    }

    #[inline(never)]
    fn add_values(&self, tile: &mut Tile, queries: Range<usize>, head: Head, keys: &Range<usize>) {
        let head_dim = self.shape.head_dim;
        let stride = head_dim.next_multiple_of(WIDTH);
        for octet in 0..head_dim.div_ceil(WIDTH) {
            let sums = &mut tile.sums[queries.start * stride + octet * WIDTH..];
            let (weights, n) = (&tile.weights[queries.start * BLOCK..], queries.len());
            let v = &self.v[self.shape.v_at(head.layer, head.index, keys.start, octet)..][..keys.len()];
            if Self::converts(&queries) {
                let converted = &mut tile.v[..keys.len()];
                panel::convert(v, converted);
                panel::rows_into::<f32, BLOCK, true>(weights, BLOCK, n, converted, sums, stride);
            } else {
                panel::rows_into::<S, BLOCK, true>(weights, BLOCK, n, v, sums, stride);
            }
        }
    }
}

impl Tile {
    /// Makes room for queries and keys of this length, and where keys and values are bytes for what those take.
    fn fit(&mut self, head_dim: usize, has_bytes: bool) -> Result<()> {
        let what = "a thread's part of attention";
        for (scratch, n) in [
            (&mut self.q, QUERY_TILE * query_stride(head_dim)),
            (&mut self.weights, QUERY_TILE * BLOCK),
            (&mut self.sums, QUERY_TILE * head_dim.next_multiple_of(WIDTH)),
            (&mut self.largest, QUERY_TILE),
            (&mut self.total, QUERY_TILE),
        ] {
            grow(scratch, n, what)?;
        }
        if has_bytes {
            self.integers.fit(head_dim)?;
        }
        grow(&mut self.k, head_dim, what)?;
        grow(&mut self.v, BLOCK, what)
    }

    /// Takes in `n` queries.
    fn begin<'q>(&mut self, n: usize, head_dim: usize, scale: f32, query: impl Fn(usize) -> &'q [f32]) {
        for (i, scaled) in self.q.chunks_exact_mut(query_stride(head_dim)).take(n).enumerate() {
            for (scaled, q) in scaled.iter_mut().zip(query(i)) {
                *scaled = scale * q;
            }
        }
        self.sums[..n * head_dim.next_multiple_of(WIDTH)].fill(0.0);
        self.largest[..n].fill(f32::NEG_INFINITY);
        self.total[..n].fill(0.0);
        self.integers.n_waiting = n;
    }

    /// Shows `n` queries a block of keys, from a multiple of [`BLOCK`] on. Query `i` sees the keys `visible(i)`, whose both ends do not
    /// fall as `i` grows.
    #[inline(never)]
    fn block<K: Kept>(
        &mut self,
        n: usize,
        (kept, head): (&K, Head),
        keys: &Range<usize>,
        head_dim: usize,
        softcap: Option<f32>,
        visible: &dyn Fn(usize) -> Range<usize>,
    ) {
        // The queries that see any of them: the keys are beyond those before, and behind the windows of those after.
        let Some(first) = (0..n).find(|i| visible(*i).end > keys.start) else { return };
        let until = (first..n).find(|i| visible(*i).start >= keys.end).unwrap_or(n);
        if first == until {
            return;
        }
        kept.scores(self, first..until, head, keys);
        let stride = head_dim.next_multiple_of(WIDTH);
        for i in first..until {
            let weights = &mut self.weights[i * BLOCK..][..keys.len()];
            let visible = visible(i);
            let (seen, unseen) = weights.split_at_mut(keys.len().min(visible.end - keys.start));
            let (behind, seen) = seen.split_at_mut(visible.start.saturating_sub(keys.start));
            if let Some(cap) = softcap {
                for x in seen.iter_mut() {
                    *x = cap * (K::SHIFT * *x / cap).tanh() / K::SHIFT;
                }
            }
            let largest = self.largest[i].max(K::SHIFT * max(seen));
            for x in seen.iter_mut() {
                *x = K::SHIFT * exp(K::SHIFT * *x - largest);
            }
            behind.fill(0.0);
            unseen.fill(0.0);
            let before = if self.total[i] > 0.0 { exp(self.largest[i] - largest) } else { 0.0 };
            self.total[i] = before * self.total[i] + sum(seen);
            self.largest[i] = largest;
            for x in &mut self.sums[i * stride..(i + 1) * stride] {
                *x *= before;
            }
        }
        kept.add_values(self, first..until, head, keys);
    }

    /// The attention of query `i`: the mean of the values.
    fn end<K: Kept>(&self, i: usize, out: &mut [f32]) {
        let scale = K::SHIFT * (K::SHIFT / self.total[i]);
        let stride = out.len().next_multiple_of(WIDTH);
        for (out, sum) in out.iter_mut().zip(&self.sums[i * stride..]) {
            *out = scale * sum;
        }
    }
}

impl Scratch {
    /// [`crate::backend::Ops::attention`] over a layer of a cache, on slices, from a position on; with the slots behind the last that each
    /// sees, where there are such.
    ///
    /// # Errors
    /// `out_of_memory`; then `out` is as before.
    pub fn over_cache(
        &mut self,
        pool: &Pool,
        op: &AttentionOp,
        q: &[f32],
        (cache, layer): (&KvCache, usize),
        (position, ends): (usize, Option<&[f32]>),
        out: &mut [f32],
    ) -> Result<()> {
        let Heads { n_heads, n_kv_heads, head_dim } = op.heads;
        let n = q.len() / (n_heads * head_dim);
        assert!(
            cache.spec.n_kv == n_kv_heads * head_dim && cache.spec.head_dim == head_dim,
            "attention: the cache is of another model"
        );
        assert!(position + n <= cache.spec.n_ctx, "attention: beyond the cache");
        let n_ctx = cache.spec.n_ctx;
        assert!(
            ends.is_none_or(|ends| ends.len() == n_ctx && ends[position..position + n].iter().all(|end| *end <= n_ctx as f32)),
            "attention: its ends"
        );
        self.fit(pool, head_dim, matches!(cache.rows, Rows::Q8_0(_)))?;
        let Self { tiles, partial, .. } = self;
        let whole = Whole { tiles, layer, op };
        let end = |slot: usize| ends.map_or(0, |ends| ends[slot] as usize);
        let visible = |row: usize| op.mask.keys(position + row, position + n, end(position + row));
        match (&cache.rows, n) {
            (Rows::F32(panels), 1) => whole.one_row(pool, panels, partial, q, &visible(0), out)?,
            (Rows::F16(panels), 1) => whole.one_row(pool, panels, partial, q, &visible(0), out)?,
            (Rows::Q8_0(panels), 1) => whole.one_row(pool, panels, partial, q, &visible(0), out)?,
            (Rows::F32(panels), _) => whole.rows(pool, panels, q, visible, out),
            (Rows::F16(panels), _) => whole.rows(pool, panels, q, visible, out),
            (Rows::Q8_0(panels), _) => whole.rows(pool, panels, q, visible, out),
        }
        Ok(())
    }

    /// The same over rows of keys and values.
    pub fn over_rows(&mut self, pool: &Pool, op: &AttentionOp, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]) -> Result<()> {
        let Heads { n_heads, n_kv_heads, head_dim } = op.heads;
        let n = q.len() / (n_heads * head_dim);
        self.fit(pool, head_dim, false)?;
        let Self { tiles, full, .. } = self;
        let n_ctx = n.next_multiple_of(BLOCK);
        full.shape = Shape { n_ctx, n_heads: n_kv_heads, head_dim };
        let (n_groups, what) = (n_ctx / WIDTH, "a picture's keys and values");
        grow(&mut full.k, n_groups.saturating_mul(full.shape.n_kv()), what)?;
        grow(&mut full.v, n_groups.saturating_mul(n_kv_heads).saturating_mul(head_dim.next_multiple_of(WIDTH)), what)?;
        full.write(pool, 0, 0, k, v, |x| x);
        Whole { tiles, layer: 0, op }.rows(pool, full, q, |row| op.mask.keys(row, n, 0), out);
        Ok(())
    }

    /// Sees to it that every thread has the memory it needs.
    fn fit(&mut self, pool: &Pool, head_dim: usize, has_bytes: bool) -> Result<()> {
        self.tiles[..pool.n_numbers()]
            .iter_mut()
            .try_for_each(|tile| tile.get_mut().expect("no part panics while it holds this").fit(head_dim, has_bytes))
    }
}

/// An op, for all threads.
struct Whole<'a> {
    tiles: &'a [Mutex<Tile>],
    layer: usize,
    op: &'a AttentionOp,
}

impl Whole<'_> {
    fn head(&self, kv_head: usize) -> Head {
        Head { layer: self.layer, index: kv_head }
    }

    /// Attention of several rows, of which row `i` sees the keys `visible(i)`.
    fn rows<K: Kept>(&self, pool: &Pool, kept: &K, q: &[f32], visible: impl Fn(usize) -> Range<usize> + Sync, out: &mut [f32]) {
        let Heads { n_heads, n_kv_heads, head_dim } = self.op.heads;
        let (cols, group) = (n_heads * head_dim, n_heads / n_kv_heads);
        let n_queries = q.len() / cols * group;
        let n_tiles = n_queries.div_ceil(QUERY_TILE);
        let out = Disjoint::new(out);
        pool.run(n_kv_heads * n_tiles, &|part, thread| {
            let (kv_head, first) = (part / n_tiles, part % n_tiles * QUERY_TILE);
            let n = QUERY_TILE.min(n_queries - first);
            // Query i is of row i / group and head i % group, so a tile sees about the same keys.
            let at = |i: usize| (first + i) / group * cols + (kv_head * group + (first + i) % group) * head_dim;
            let visible = |i: usize| visible((first + i) / group);
            let tile = &mut *self.tiles[thread].lock().expect("no part panics while it holds this");
            tile.begin(n, head_dim, self.op.scale * K::SHIFT, |i| &q[at(i)..]);
            let n_keys = visible(n - 1).end;
            for keys in (visible(0).start / BLOCK * BLOCK..n_keys).step_by(BLOCK) {
                let keys = keys..n_keys.min(keys + BLOCK);
                tile.block(n, (kept, self.head(kv_head)), &keys, head_dim, self.op.softcap, &visible);
            }
            for i in 0..n {
                // SAFETY: each query belongs to one part.
                tile.end::<K>(i, unsafe { out.part(at(i)..at(i) + head_dim) });
            }
        });
    }

    /// Attention of one row, which sees the keys `visible`.
    fn one_row<K: Kept>(
        &self,
        pool: &Pool,
        kept: &K,
        partial: &mut Vec<f32>,
        q: &[f32],
        visible: &Range<usize>,
        out: &mut [f32],
    ) -> Result<()> {
        let Heads { n_heads, n_kv_heads, head_dim } = self.op.heads;
        let group = n_heads / n_kv_heads;
        let first_block = visible.start / BLOCK;
        let n_blocks = visible.end.div_ceil(BLOCK) - first_block;
        // Sums, largest score, sum of weights.
        let (stride, width) = (head_dim.next_multiple_of(WIDTH), head_dim.next_multiple_of(WIDTH) + 2);
        grow(partial, n_heads.saturating_mul(n_blocks).saturating_mul(width), "attention to the whole context")?;
        let least = PART_WORK.div_ceil(2 * group * head_dim * BLOCK.min(visible.len()));
        let shared = Disjoint::new(partial);
        pool.for_ranges(n_kv_heads * n_blocks, 1, least, |parts, thread| {
            let tile = &mut *self.tiles[thread].lock().expect("no part panics while it holds this");
            for part in parts {
                let (kv_head, block) = (part / n_blocks, part % n_blocks);
                let from = (first_block + block) * BLOCK;
                let keys = from..visible.end.min(from + BLOCK);
                // As many of the heads that share these keys as a tile has room for.
                for first_head in (kv_head * group..(kv_head + 1) * group).step_by(QUERY_TILE) {
                    let n = QUERY_TILE.min((kv_head + 1) * group - first_head);
                    tile.begin(n, head_dim, self.op.scale * K::SHIFT, |i| &q[(first_head + i) * head_dim..]);
                    tile.block(n, (kept, self.head(kv_head)), &keys, head_dim, self.op.softcap, &|_| visible.clone());
                    for i in 0..n {
                        let at = ((first_head + i) * n_blocks + block) * width;
                        // SAFETY: each head and block belongs to one part.
                        let result = unsafe { shared.part(at..at + width) };
                        result[..stride].copy_from_slice(&tile.sums[i * stride..(i + 1) * stride]);
                        result[stride..].copy_from_slice(&[tile.largest[i], tile.total[i]]);
                    }
                }
            }
        });
        for (results, out) in partial.chunks_exact(n_blocks * width).zip(out.chunks_exact_mut(head_dim)) {
            let largest = results.chunks_exact(width).fold(f32::NEG_INFINITY, |largest, result| largest.max(result[stride]));
            let weight = |result: &[f32]| exp(result[stride] - largest);
            let total: f32 = results.chunks_exact(width).map(|result| weight(result) * result[stride + 1]).sum();
            out.fill(0.0);
            for result in results.chunks_exact(width) {
                let scale = K::SHIFT * (K::SHIFT / total) * weight(result);
                for (out, sum) in out.iter_mut().zip(result) {
                    *out += scale * sum;
                }
            }
        }
        Ok(())
    }
}
