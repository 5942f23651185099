//! Float matrix products. The right operand comes in panels of [`WIDTH`] columns, `[k][WIDTH]`: a step of the inner loop
//! reads one short contiguous row of the panel and needs no sum across lanes.

/// Columns of a panel: two 128-bit vectors.
pub const WIDTH: usize = 8;

/// Rows of the left operand that are multiplied at once: 4 rows by 8 columns take 8 of the 16 registers that a wasm
/// engine has on x86-64 for their sums.
pub const TILE: usize = 4;

/// `y[t][j] = Σ_k a[t][k] · panel[k][j]` for `T` rows of `a [T, stride]`.
#[inline(never)]
fn multiply<const T: usize>(a: &[f32], stride: usize, panel: &[[f32; WIDTH]]) -> [[f32; WIDTH]; T] {
    let rows: [&[f32]; T] = std::array::from_fn(|t| &a[t * stride..][..panel.len()]);
    let mut sums = [[0.0; WIDTH]; T];
    for (k, columns) in panel.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = row[k];
            for (sum, w) in sums.iter_mut().zip(columns) {
                *sum += x * w;
            }
        }
    }
    sums
}

/// Products of all rows of `a [n, stride]` with a panel, handed to `store` row by row.
pub fn for_each_row(a: &[f32], n: usize, stride: usize, panel: &[[f32; WIDTH]], mut store: impl FnMut(usize, &mut [f32; WIDTH])) {
    let mut t = 0;
    while t + TILE <= n {
        for (i, y) in multiply::<TILE>(&a[t * stride..], stride, panel).iter_mut().enumerate() {
            store(t + i, y);
        }
        t += TILE;
    }
    while t < n {
        store(t, &mut multiply::<1>(&a[t * stride..], stride, panel)[0]);
        t += 1;
    }
}
