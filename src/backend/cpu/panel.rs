//! Float matrix products. The right operand comes in panels of [`WIDTH`] columns, `[k][WIDTH]`: a step of the inner loop
//! reads one short contiguous row of the panel and needs no sum across lanes.

use super::lanes::{self, HALF_SCALE, Lanes, load, load_splat, mul_add_float, mul_float, splat, splat_float, store};

/// Columns of a panel: two vectors.
pub const WIDTH: usize = 8;

/// Rows of the left operand that are multiplied at once: 4 rows by 8 columns take 8 of the 16 registers that a wasm
/// engine has on x86-64 for their sums.
pub const TILE: usize = 4;

/// How the floats of a panel are stored.
pub trait Stored: Copy + Default + Send + Sync {
    /// The root of what the loaded numbers are too small by: what the other operand and the product must be multiplied by.
    const SHIFT: f32 = 1.0;

    /// Four of them as floats.
    ///
    /// # Safety
    /// There are four at `at`.
    unsafe fn load(at: *const Self) -> Lanes;
}

impl Stored for f32 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> Lanes {
        // SAFETY: the caller's.
        unsafe { load(at.cast()) }
    }
}

impl Stored for half::f16 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> Lanes {
        // SAFETY: the caller's.
        let halves = unsafe { lanes::load_halves(at.cast()) };
        mul_float(halves, splat_float(HALF_SCALE))
    }
}

/// A half whose exponent is not put right when it is loaded, which saves a multiplication each.
#[derive(Debug, Clone, Copy, Default)]
#[repr(transparent)]
pub struct ShrunkHalf(pub u16);

impl Stored for ShrunkHalf {
    const SHIFT: f32 = super::quantize_activations::SHIFT;

    #[inline(always)]
    unsafe fn load(at: *const Self) -> Lanes {
        // SAFETY: the caller's.
        unsafe { lanes::load_halves(at.cast()) }
    }
}

impl Stored for half::bf16 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> Lanes {
        // SAFETY: the caller's.
        unsafe { lanes::load_brain_floats(at.cast()) }
    }
}

/// `sums[t][j] += Σ_k a[t][k] · panel[k][j]` for the `T` rows of `a [T, stride]`. A `stride` that is known when this is compiled is a part of the
/// instructions.
#[inline(always)]
fn add_products<S: Stored, const T: usize>(a: &[f32], stride: usize, panel: &[[S; WIDTH]], sums: &mut [[Lanes; 2]; T]) {
    assert!(a.len() >= (T - 1) * stride + panel.len(), "panel: the left operand is too short");
    let mut x = a.as_ptr();
    for columns in panel {
        // SAFETY: `columns` are eight; `x` goes over as many elements of each row as there are columns, as asserted above.
        unsafe {
            let columns = [S::load(columns.as_ptr()), S::load(columns.as_ptr().add(4))];
            for (t, sums) in sums.iter_mut().enumerate() {
                let x = load_splat(x.add(t * stride));
                *sums = [mul_add_float(x, columns[0], sums[0]), mul_add_float(x, columns[1], sums[1])];
            }
            x = x.add(1);
        }
    }
}

/// `y[t][j] = Σ_k a[t][k] · panel[k][j]` for the `T` rows of `a [T, stride]`.
#[inline(never)]
fn multiply<S: Stored, const T: usize>(a: &[f32], stride: usize, panel: &[[S; WIDTH]]) -> [[f32; WIDTH]; T] {
    let mut sums = [[splat(0); 2]; T];
    add_products(a, stride, panel, &mut sums);
    sums.map(finish)
}

/// `y[j] = Σ_k a[k] · panel[k][j]`. One row is bound by the latency of its additions, so there are four sums for it.
#[inline(never)]
fn multiply_row<S: Stored>(a: &[f32], panel: &[[S; WIDTH]]) -> [f32; WIDTH] {
    const STEPS: usize = 4;
    let mut sums = [[splat(0); 2]; STEPS];
    let step = |x: &f32, columns: &[S; WIDTH], sums: &mut [Lanes; 2]| {
        // SAFETY: `x` is a float, `columns` are eight elements.
        unsafe {
            let x = load_splat(x);
            sums[0] = mul_add_float(x, S::load(columns.as_ptr()), sums[0]);
            sums[1] = mul_add_float(x, S::load(columns.as_ptr().add(4)), sums[1]);
        }
    };
    let (a, a_rest) = a[..panel.len()].as_chunks::<STEPS>();
    let (panel, panel_rest) = panel.as_chunks::<STEPS>();
    for (x, columns) in a.iter().zip(panel) {
        for i in 0..STEPS {
            step(&x[i], &columns[i], &mut sums[i]);
        }
    }
    for (x, columns) in a_rest.iter().zip(panel_rest) {
        step(x, columns, &mut sums[0]);
    }
    let [a, b, c, d] = sums;
    finish(std::array::from_fn(|i| lanes::add_float(lanes::add_float(a[i], b[i]), lanes::add_float(c[i], d[i]))))
}

/// The floats of two vectors.
#[inline(always)]
pub fn finish(sums: [Lanes; 2]) -> [f32; WIDTH] {
    let mut out = [0.0; WIDTH];
    // SAFETY: `out` has room for eight floats.
    unsafe {
        store(out.as_mut_ptr(), sums[0]);
        store(out.as_mut_ptr().add(4), sums[1]);
    }
    out
}

/// Products of rows `first..n` of `a [n, stride]`, at most [`TILE`] of them, with a panel, handed to `store` row by row.
/// Returns how many rows it took.
#[inline(always)]
pub fn tile<S: Stored>(
    a: &[f32],
    first: usize,
    n: usize,
    stride: usize,
    panel: &[[S; WIDTH]],
    mut store: impl FnMut(usize, &[f32; WIDTH]),
) -> usize {
    let a = &a[first * stride..];
    if first + TILE <= n {
        for (t, y) in multiply::<S, TILE>(a, stride, panel).iter().enumerate() {
            store(first + t, y);
        }
        return TILE;
    }
    store(first, &multiply_row(a, panel));
    1
}

/// Floats of whatever they are stored as.
#[inline(never)]
pub fn convert<S: Stored>(panel: &[[S; WIDTH]], out: &mut [[f32; WIDTH]]) {
    for (columns, out) in panel.iter().zip(out) {
        // SAFETY: both are eight elements long.
        unsafe {
            store(out.as_mut_ptr(), S::load(columns.as_ptr()));
            store(out.as_mut_ptr().add(4), S::load(columns.as_ptr().add(4)));
        }
    }
}

/// `y[t][j] = Σ_k a[t][k] · panel[k][j]` for `T` rows of `a [T, stride]`, or added to `y [T, out_stride]`. `STRIDE` is `stride`, or 0. A distance between rows that is
/// known when this is compiled is a part of the instructions: the loop then advances two pointers, not `T` + 1. (Tiles of five and six rows,
/// and steps of four columns at once, take 1.3 to 1.6 times as long in V8: it runs out of registers.)
#[inline(never)]
fn multiply_into<S: Stored, const T: usize, const STRIDE: usize, const ADDS: bool>(
    a: &[f32],
    stride: usize,
    panel: &[[S; WIDTH]],
    out: &mut [f32],
    out_stride: usize,
) {
    let stride = if STRIDE > 0 { STRIDE } else { stride };
    assert!(out.len() >= (T - 1) * out_stride + WIDTH, "panel: the product is too short");
    let mut sums = [[splat(0); 2]; T];
    if ADDS {
        for (t, sums) in sums.iter_mut().enumerate() {
            // SAFETY: there are eight floats of row `t`, as asserted above.
            unsafe {
                let y = out.as_ptr().add(t * out_stride);
                *sums = [load(y.cast()), load(y.add(4).cast())];
            }
        }
    }
    add_products(a, stride, panel, &mut sums);
    for (t, sums) in sums.into_iter().enumerate() {
        // SAFETY: as above.
        unsafe {
            let y = out.as_mut_ptr().add(t * out_stride);
            store(y, sums[0]);
            store(y.add(4), sums[1]);
        }
    }
}

/// Products of all rows of `a [n, stride]` with a panel, where `STRIDE` is `stride` or 0, put or added to the first columns of `out [n, out_stride]`. The last rows are
/// multiplied together too: attention has few, and panels of 16-bit numbers, whose unpacking they share.
pub fn rows_into<S: Stored, const STRIDE: usize, const ADDS: bool>(
    a: &[f32],
    stride: usize,
    n: usize,
    panel: &[[S; WIDTH]],
    out: &mut [f32],
    out_stride: usize,
) {
    let stride = if STRIDE > 0 { STRIDE } else { stride };
    let mut first = 0;
    while first < n {
        let (a, out) = (&a[first * stride..], &mut out[first * out_stride..]);
        first += match n - first {
            1 => {
                for (out, y) in out.iter_mut().zip(multiply_row(a, panel)) {
                    *out = if ADDS { *out + y } else { y };
                }
                1
            }
            2 => {
                multiply_into::<S, 2, STRIDE, ADDS>(a, stride, panel, out, out_stride);
                2
            }
            3 => {
                multiply_into::<S, 3, STRIDE, ADDS>(a, stride, panel, out, out_stride);
                3
            }
            _ => {
                multiply_into::<S, TILE, STRIDE, ADDS>(a, stride, panel, out, out_stride);
                TILE
            }
        };
    }
}
