//! Positions of patches: learned ones of another grid than the table's, and the angles of rotary ones.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "angles and weights are computed in f64 and kept in f32; places on a grid are rounded down"
)]

use crate::model::vision::config::Corners;

/// The base of the geometric row of frequencies by which Qwen's towers turn queries and keys.
const ROPE_BASE: f64 = 10_000.0;

/// The angles of patches at `(row, column)` for heads of `head_dim` elements, as [`Ops::rope`](crate::backend::Ops::rope) has them: the first
/// half of the pairs is turned by the row, the other by the column, with the same frequencies. `[n, head_dim]`.
pub fn rotary(patches: impl Iterator<Item = (usize, usize)>, head_dim: usize) -> Vec<f32> {
    let quarter = head_dim / 4;
    let frequencies: Vec<f64> = (0..quarter).map(|i| ROPE_BASE.powf(-4.0 * i as f64 / head_dim as f64)).collect();
    let mut out = Vec::new();
    for (row, col) in patches {
        let angles = || [row, col].into_iter().flat_map(|at| frequencies.iter().map(move |frequency| at as f64 * frequency));
        out.extend(angles().map(|angle| angle.cos() as f32));
        out.extend(angles().map(|angle| angle.sin() as f32));
    }
    out
}

/// A table `[rows · cols, width]` in reading order, resized to another grid along one axis after the other. Where both grids are the same, so
/// is the table.
pub fn resized(
    table: &[f32],
    [rows, cols]: [usize; 2],
    [to_rows, to_cols]: [usize; 2],
    width: usize,
    corners: Corners,
) -> Vec<f32> {
    let weights = match corners {
        Corners::Apart => filtered,
        Corners::Aligned => aligned,
    };
    let by_col = weights(cols, to_cols);
    let mut narrowed = vec![0.0f32; rows * to_cols * width];
    for y in 0..rows {
        for (x, (from, weights)) in by_col.iter().enumerate() {
            let out = &mut narrowed[(y * to_cols + x) * width..][..width];
            for (i, weight) in weights.iter().enumerate() {
                let row = &table[(y * cols + from + i) * width..][..width];
                out.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
            }
        }
    }
    let mut out = vec![0.0f32; to_rows * to_cols * width];
    for (y, (from, weights)) in weights(rows, to_rows).iter().enumerate() {
        let line = &mut out[y * to_cols * width..][..to_cols * width];
        for (i, weight) in weights.iter().enumerate() {
            let row = &narrowed[(from + i) * to_cols * width..][..to_cols * width];
            line.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
        }
    }
    out
}

/// For each of `n_out` places the first of `n_in` that it is made of, and the weights of that and those behind it: the triangle filter, which
/// spans more of the table when it shrinks.
fn filtered(n_in: usize, n_out: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = n_in as f64 / n_out as f64;
    let radius = scale.max(1.0);
    let of = |i: usize| {
        let center = scale * (i as f64 + 0.5);
        let first = (center - radius + 0.5).max(0.0) as usize;
        let end = ((center + radius + 0.5) as usize).min(n_in);
        let raw: Vec<f64> = (first..end).map(|j| (1.0 - (j as f64 + 0.5 - center).abs() / radius).max(0.0)).collect();
        let sum: f64 = raw.iter().sum();
        (first, raw.iter().map(|weight| (weight / sum) as f32).collect())
    };
    (0..n_out).map(of).collect()
}

/// Like [`filtered`], by plain interpolation between the two neighbours, both ends lying on the table's.
fn aligned(n_in: usize, n_out: usize) -> Vec<(usize, Vec<f32>)> {
    let of = |i: usize| {
        let at = if n_out > 1 { i as f64 * (n_in - 1) as f64 / (n_out - 1) as f64 } else { 0.0 };
        let first = (at as usize).min(n_in - 1);
        let beyond = (at - first as f64) as f32;
        (first, if beyond > 0.0 && first + 1 < n_in { vec![1.0 - beyond, beyond] } else { vec![1.0] })
    };
    (0..n_out).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_the_same_size_is_the_table_itself() {
        let table: Vec<f32> = (0..5 * 7 * 3).map(|i| (i * i % 97) as f32).collect();
        for corners in [Corners::Apart, Corners::Aligned] {
            assert_eq!(resized(&table, [5, 7], [5, 7], 3, corners), table);
        }
    }

    #[test]
    fn aligned_corners_stay_where_they_are() {
        let out = resized(&[0.0, 4.0, 8.0], [1, 3], [1, 5], 1, Corners::Aligned);
        assert_eq!(out, [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(resized(&[3.0, 4.0, 8.0], [3, 1], [1, 1], 1, Corners::Aligned), [3.0]);
        assert_eq!(resized(&[3.0, 4.0, 8.0], [1, 3], [1, 2], 1, Corners::Aligned), [3.0, 8.0]);
    }

    #[test]
    fn patches_are_turned_by_their_row_and_their_column() {
        let out = rotary([(0, 0), (2, 3)].into_iter(), 8);
        assert_eq!(out[..8], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        let want = [2.0f64, 0.02, 3.0, 0.03];
        let want: Vec<f32> = want.iter().map(|x| x.cos()).chain(want.iter().map(|x| x.sin())).map(|x| x as f32).collect();
        assert!(out[8..].iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{out:?}");
    }

    #[test]
    fn an_even_table_stays_even_and_a_slope_a_slope() {
        assert!(resized(&[2.0; 16], [4, 4], [7, 3], 1, Corners::Apart).iter().all(|x| (x - 2.0).abs() < 1e-6));
        // Twice as many places: those of the middle lie a quarter beside the old ones.
        let out = resized(&[0.0, 4.0, 8.0], [1, 3], [1, 6], 1, Corners::Apart);
        assert!(out.iter().zip([0.0, 1.0, 3.0, 5.0, 7.0, 8.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{out:?}");
        // Half as many: each from a wider neighbourhood.
        let out = resized(&[0.0, 1.0, 2.0, 3.0], [1, 4], [1, 2], 1, Corners::Apart);
        assert!((out[0] + out[1] - 3.0).abs() < 1e-6 && out[0] < 1.0 && out[0] > 0.4, "{out:?}");
    }
}
