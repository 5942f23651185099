//! LFM2's short convolution. The specification: plain loops.

use std::ops::Range;

use crate::backend::{CONV_RING, conv_state_row};

/// The products before a row that its sum takes.
const BEFORE: usize = 2;

/// The rows `rows` of `y[i] = C[i] ⊙ (kernel[0] ⊙ u[t−2] + kernel[1] ⊙ u[t−1] + kernel[2] ⊙ u[t])`, `t = first + i`. `bcx [n, 3 · cols]`,
/// `kernel [3, cols]`, `state` as [`keep`] leaves it, `out [rows, cols]`.
pub fn rows(bcx: &[f32], kernel: &[f32], state: &[f32], first: usize, rows: Range<usize>, out: &mut [f32]) {
    let cols = kernel.len() / 3;
    let parts = |row: usize| {
        let row = &bcx[row * 3 * cols..][..3 * cols];
        (&row[..cols], &row[cols..2 * cols], &row[2 * cols..])
    };
    for (row, out) in rows.zip(out.chunks_exact_mut(cols)) {
        let (b, c, x) = parts(row);
        for (i, out) in out.iter_mut().enumerate() {
            *out = kernel[BEFORE * cols + i] * (b[i] * x[i]);
        }
        for back in 1..=BEFORE.min(first + row) {
            let kernel = &kernel[(BEFORE - back) * cols..][..cols];
            if row >= back {
                let (b, _, x) = parts(row - back);
                for (i, out) in out.iter_mut().enumerate() {
                    *out += kernel[i] * (b[i] * x[i]);
                }
            } else {
                let kept = &state[(first + row - back) % CONV_RING * cols..][..cols];
                for (i, out) in out.iter_mut().enumerate() {
                    *out += kernel[i] * kept[i];
                }
            }
        }
        out.iter_mut().zip(c).for_each(|(out, c)| *out *= c);
    }
}

/// Keeps the products of rows at the slots `first ..`: those of the last slots in the ring, and the last two of each whole block.
pub fn keep(bcx: &[f32], state: &mut [f32], first: usize, cols: usize) {
    let n = bcx.len() / (3 * cols);
    for (row, bcx) in bcx.chunks_exact(3 * cols).enumerate() {
        let slot = first + row;
        let mut put = |at: usize| {
            let (b, x) = (&bcx[..cols], &bcx[2 * cols..]);
            for ((out, b), x) in state[at * cols..][..cols].iter_mut().zip(b).zip(x) {
                *out = b * x;
            }
        };
        if row + CONV_RING >= n {
            put(slot % CONV_RING);
        }
        if let Some(at) = conv_state_row(slot) {
            put(at);
        }
    }
}
