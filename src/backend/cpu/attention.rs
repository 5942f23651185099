//! Attention, and the cache of keys and values.
//!
//! A step of decoding has one query per head: keys and values are read once, in the order in which they lie. With more
//! queries the keys and values of a head are first laid out in panels ([`super::panel`]), then the queries pass over them
//! in tiles: scores of a tile with all keys, softmax of its rows, sum of the values.

use super::lanes::{mul_add_float, splat, splat_float, store};
use super::math::{dot, exp, half_to_float, sum};
use super::panel::{self, Stored, WIDTH};
use super::zeroed;
use crate::backend::{Heads, KvFormat, KvSpec};
use crate::error::Result;

/// Queries (of all heads that share keys and values) in a tile: its scores with 4096 keys are 256 KiB.
const QUERY_TILE: usize = 16;

/// Keys that one query meets at once: their scores, or the sum of their values, share the loads of the query or of the sum.
/// One token after 1000 with 32 heads of 128, in Chromium with simd128: 7.4 ms one key at a time, 3.2 ms in tiles of four
/// left to the compiler, 1.3 ms with vectors.
const KEY_TILE: usize = 4;

/// Keys and values of all decoder layers: `[n_layers, n_ctx, n_kv]` each.
#[derive(Debug, Clone)]
pub struct KvCache {
    spec: KvSpec,
    k: Rows,
    v: Rows,
}

/// Rows of keys or of values.
#[derive(Debug, Clone)]
enum Rows {
    F32(Vec<f32>),
    F16(Vec<u16>),
}

impl Rows {
    fn new(spec: &KvSpec) -> Result<Self> {
        let n = spec.n_layers.saturating_mul(spec.n_ctx).saturating_mul(spec.n_kv);
        let what = format!("the keys and values of {} positions", spec.n_ctx);
        Ok(match spec.format {
            KvFormat::F32 => Self::F32(zeroed(n, &what)?),
            KvFormat::F16 => Self::F16(zeroed(n, &what)?),
        })
    }

    /// Puts `data` at element `at`. Halves end at 65504; what is beyond is kept as that, for an infinity among the keys
    /// would make every later token not a number.
    fn write(&mut self, at: usize, data: &[f32]) {
        match self {
            Self::F32(rows) => rows[at..at + data.len()].copy_from_slice(data),
            Self::F16(rows) => {
                for (row, x) in rows[at..at + data.len()].iter_mut().zip(data) {
                    *row = half::f16::from_f32(x.clamp(-65504.0, 65504.0)).to_bits();
                }
            }
        }
    }

    /// `out.len()` elements from element `at` on.
    #[inline(always)]
    fn read(&self, at: usize, out: &mut [f32]) {
        match self {
            Self::F32(rows) => out.copy_from_slice(&rows[at..at + out.len()]),
            Self::F16(rows) => {
                for (out, row) in out.iter_mut().zip(&rows[at..]) {
                    *out = half_to_float(*row);
                }
            }
        }
    }
}

impl KvCache {
    pub(super) fn new(spec: &KvSpec) -> Result<Self> {
        Ok(Self { spec: *spec, k: Rows::new(spec)?, v: Rows::new(spec)? })
    }

    /// Where a position's row begins.
    fn at(&self, layer: usize, position: usize) -> usize {
        (layer * self.spec.n_ctx + position) * self.spec.n_kv
    }

    pub(super) fn write(&mut self, layer: usize, position: usize, k: &[f32], v: &[f32]) {
        let n = k.len() / self.spec.n_kv;
        assert!(layer < self.spec.n_layers && position + n <= self.spec.n_ctx, "kv_write: beyond the cache");
        let at = self.at(layer, position);
        self.k.write(at, k);
        self.v.write(at, v);
    }
}

/// Memory that attention works in.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Keys of a head, `[keys / WIDTH][head_dim][WIDTH]`.
    k: Vec<[f32; WIDTH]>,
    /// Values of a head, `[head_dim / WIDTH][keys][WIDTH]`.
    v: Vec<[f32; WIDTH]>,
    /// A row of keys or values, or a tile of them.
    row: Vec<f32>,
    /// Scaled queries of a tile, `[QUERY_TILE, head_dim]`.
    q: Vec<f32>,
    /// Their scores, then weights, `[QUERY_TILE, keys]` (keys rounded up to whole panels).
    weights: Vec<f32>,
}

/// `x = softmax(x)`, in place.
#[inline(never)]
fn softmax(x: &mut [f32]) {
    let max = x.iter().fold(f32::NEG_INFINITY, |max, x| max.max(*x));
    for x in x.iter_mut() {
        *x = exp(*x - max);
    }
    let scale = 1.0 / sum(x);
    for x in x {
        *x *= scale;
    }
}

/// `rows[i] · q` for the rows of a tile.
#[inline(always)]
fn dot_tile(q: &[f32], rows: &[f32]) -> [f32; KEY_TILE] {
    let n = q.len();
    assert!(rows.len() >= KEY_TILE * n);
    let mut sums = [splat(0); KEY_TILE];
    let whole = n / 4 * 4;
    for j in (0..whole).step_by(4) {
        for (i, sum) in sums.iter_mut().enumerate() {
            // SAFETY: four floats at `j < whole` of a row of `n`, in rows that are as many as asserted.
            *sum = unsafe { mul_add_float(f32::load(q.as_ptr().add(j)), f32::load(rows.as_ptr().add(i * n + j)), *sum) };
        }
    }
    std::array::from_fn(|i| {
        let mut lanes = [0.0; 4];
        // SAFETY: `lanes` has room for four floats.
        unsafe { store(lanes.as_mut_ptr(), sums[i]) };
        (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]) + dot(&q[whole..], &rows[i * n + whole..(i + 1) * n])
    })
}

/// `out += Σ_i weights[i] · rows[i]` for the rows of a tile.
#[inline(always)]
fn add_tile(out: &mut [f32], weights: [f32; KEY_TILE], rows: &[f32]) {
    let n = out.len();
    assert!(rows.len() >= KEY_TILE * n);
    let whole = n / 4 * 4;
    let splats = weights.map(splat_float);
    for j in (0..whole).step_by(4) {
        // SAFETY: four floats at `j < whole` of `out` and of rows of the same length, which are as many as asserted.
        unsafe {
            let mut sum = f32::load(out.as_ptr().add(j));
            for (i, weight) in splats.iter().enumerate() {
                sum = mul_add_float(*weight, f32::load(rows.as_ptr().add(i * n + j)), sum);
            }
            store(out.as_mut_ptr().add(j), sum);
        }
    }
    for j in whole..n {
        out[j] += weights.iter().enumerate().map(|(i, weight)| weight * rows[i * n + j]).sum::<f32>();
    }
}

impl Scratch {
    /// [`crate::backend::Backend::attention`] on slices.
    #[allow(clippy::too_many_arguments, reason = "a formula with that many operands")]
    pub fn causal(
        &mut self,
        q: &[f32],
        cache: &KvCache,
        layer: usize,
        position: usize,
        heads: Heads,
        scale: f32,
        out: &mut [f32],
    ) {
        let Heads { n_heads, n_kv_heads, head_dim } = heads;
        let (n, group) = (q.len() / (n_heads * head_dim), n_heads / n_kv_heads);
        assert!(cache.spec.n_kv == n_kv_heads * head_dim && position + n <= cache.spec.n_ctx, "attention: beyond the cache");
        for kv_head in 0..n_kv_heads {
            let at = |key: usize| cache.at(layer, key) + kv_head * head_dim;
            if n == 1 {
                let queries = kv_head * group * head_dim..(kv_head + 1) * group * head_dim;
                let read_k = |key: usize, row: &mut [f32]| cache.k.read(at(key), row);
                let read_v = |key: usize, row: &mut [f32]| cache.v.read(at(key), row);
                self.one_query(&q[queries.clone()], position + 1, head_dim, read_k, read_v, scale, &mut out[queries]);
            } else {
                self.load(position + n, head_dim, |key, row| cache.k.read(at(key), row), |key, row| cache.v.read(at(key), row));
                self.queries(q, heads, kv_head, position + n, |token| position + token + 1, scale, out);
            }
        }
    }

    /// [`crate::backend::Backend::attention_full`] on slices.
    pub fn full(&mut self, q: &[f32], k: &[f32], v: &[f32], heads: Heads, scale: f32, out: &mut [f32]) {
        let Heads { n_heads, head_dim, .. } = heads;
        let cols = n_heads * head_dim;
        let n = q.len() / cols;
        for head in 0..n_heads {
            let at = |key: usize| key * cols + head * head_dim;
            let read_k = |key: usize, row: &mut [f32]| row.copy_from_slice(&k[at(key)..][..head_dim]);
            let read_v = |key: usize, row: &mut [f32]| row.copy_from_slice(&v[at(key)..][..head_dim]);
            self.load(n, head_dim, read_k, read_v);
            self.queries(q, heads, head, n, |_| n, scale, out);
        }
    }

    /// One position's queries of the heads that share keys and values: `q, out [group, head_dim]`.
    #[allow(clippy::too_many_arguments, reason = "a formula with that many operands")]
    #[inline(never)]
    fn one_query(
        &mut self,
        q: &[f32],
        n_keys: usize,
        head_dim: usize,
        read_k: impl Fn(usize, &mut [f32]),
        read_v: impl Fn(usize, &mut [f32]),
        scale: f32,
        out: &mut [f32],
    ) {
        let group = q.len() / head_dim;
        // The weights of keys beyond the last tile's end are zeros, and its rows are whatever came before: finite numbers.
        let stride = n_keys.next_multiple_of(KEY_TILE);
        self.weights.resize(self.weights.len().max(group * stride), 0.0);
        self.row.resize(self.row.len().max(KEY_TILE * head_dim), 0.0);
        let rows = &mut self.row[..KEY_TILE * head_dim];
        rows.fill(0.0);
        let read_tile = |first: usize, read: &dyn Fn(usize, &mut [f32]), rows: &mut [f32]| {
            for (key, row) in (first..n_keys).zip(rows.chunks_exact_mut(head_dim)) {
                read(key, row);
            }
        };
        for first in (0..n_keys).step_by(KEY_TILE) {
            read_tile(first, &read_k, rows);
            for (h, q) in q.chunks_exact(head_dim).enumerate() {
                let scores = dot_tile(q, rows).map(|score| scale * score);
                self.weights[h * stride + first..][..KEY_TILE].copy_from_slice(&scores);
            }
        }
        for weights in self.weights[..group * stride].chunks_exact_mut(stride) {
            let (seen, unseen) = weights.split_at_mut(n_keys);
            softmax(seen);
            unseen.fill(0.0);
        }
        out.fill(0.0);
        for first in (0..n_keys).step_by(KEY_TILE) {
            read_tile(first, &read_v, rows);
            for (h, out) in out.chunks_exact_mut(head_dim).enumerate() {
                let weights = self.weights[h * stride + first..].first_chunk().expect("a whole tile");
                add_tile(out, *weights, rows);
            }
        }
    }

    /// Lays the keys and values of a head out in panels.
    #[inline(never)]
    fn load(&mut self, n_keys: usize, head_dim: usize, read_k: impl Fn(usize, &mut [f32]), read_v: impl Fn(usize, &mut [f32])) {
        let (k_len, v_len) = (n_keys.div_ceil(WIDTH) * head_dim, head_dim.div_ceil(WIDTH) * n_keys);
        self.k.resize(self.k.len().max(k_len), [0.0; WIDTH]);
        self.v.resize(self.v.len().max(v_len), [0.0; WIDTH]);
        self.row.resize(self.row.len().max(head_dim), 0.0);
        let row = &mut self.row[..head_dim];
        for key in 0..n_keys {
            read_k(key, row);
            for (panel, x) in self.k[key / WIDTH * head_dim..].iter_mut().zip(row.iter()) {
                panel[key % WIDTH] = *x;
            }
            read_v(key, row);
            for (i, x) in row.chunks(WIDTH).enumerate() {
                self.v[i * n_keys + key][..x.len()].copy_from_slice(x);
            }
        }
    }

    /// Attention of all queries of the heads that share the keys and values just laid out. `n_visible(token)` is the
    /// number of keys that a token sees.
    #[allow(clippy::too_many_arguments, reason = "a formula with that many operands")]
    fn queries(
        &mut self,
        q: &[f32],
        heads: Heads,
        kv_head: usize,
        n_keys: usize,
        n_visible: impl Fn(usize) -> usize,
        scale: f32,
        out: &mut [f32],
    ) {
        let Heads { n_heads, n_kv_heads, head_dim } = heads;
        let (cols, group) = (n_heads * head_dim, n_heads / n_kv_heads);
        let n_queries = q.len() / cols * group;
        let stride = n_keys.next_multiple_of(WIDTH);
        self.q.resize(self.q.len().max(QUERY_TILE * head_dim), 0.0);
        self.weights.resize(self.weights.len().max(QUERY_TILE * stride), 0.0);
        // Query i is of token i / group and head i % group, so a tile sees about the same keys.
        let at = |query: usize| query / group * cols + (kv_head * group + query % group) * head_dim;
        for first in (0..n_queries).step_by(QUERY_TILE) {
            let tile = first..n_queries.min(first + QUERY_TILE);
            for (query, scaled) in tile.clone().zip(self.q.chunks_exact_mut(head_dim)) {
                for (scaled, q) in scaled.iter_mut().zip(&q[at(query)..]) {
                    *scaled = scale * q;
                }
            }
            let most = n_visible((tile.end - 1) / group);
            for (p, panel) in self.k.chunks_exact(head_dim).take(most.div_ceil(WIDTH)).enumerate() {
                panel::for_each_row(&self.q, tile.len(), head_dim, panel, |t, scores| {
                    self.weights[t * stride + p * WIDTH..][..WIDTH].copy_from_slice(scores);
                });
            }
            for (query, weights) in tile.clone().zip(self.weights.chunks_exact_mut(stride)) {
                let (seen, unseen) = weights.split_at_mut(n_visible(query / group));
                softmax(seen);
                unseen.fill(0.0);
            }
            for (i, panel) in self.v.chunks_exact(n_keys).take(head_dim.div_ceil(WIDTH)).enumerate() {
                panel::for_each_row(&self.weights, tile.len(), stride, &panel[..most], |t, y| {
                    let width = WIDTH.min(head_dim - i * WIDTH);
                    out[at(tile.start + t) + i * WIDTH..][..width].copy_from_slice(&y[..width]);
                });
            }
        }
    }
}
