//! Learned positions of another grid than the table's.

/// A table `[rows · cols, width]` in reading order, resized to another grid along one axis after the other by the triangle filter, which
/// spans more of the table when it shrinks: bilinear interpolation with antialiasing and without aligned corners, as SigLIP2's NaFlex towers
/// have it (Tschannen et al. 2025, arXiv 2502.14786). Where both grids are the same, so is the table.
pub fn resized(table: &[f32], [rows, cols]: [usize; 2], [to_rows, to_cols]: [usize; 2], width: usize) -> Vec<f32> {
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

/// For each of `n_out` places the first of `n_in` that it is made of, and the weights of that and those behind it.
fn weights(n_in: usize, n_out: usize) -> Vec<(usize, Vec<f32>)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_the_same_size_is_the_table_itself() {
        let table: Vec<f32> = (0..5 * 7 * 3).map(|i| (i * i % 97) as f32).collect();
        assert_eq!(resized(&table, [5, 7], [5, 7], 3), table);
    }

    #[test]
    fn an_even_table_stays_even_and_a_slope_a_slope() {
        assert!(resized(&[2.0; 16], [4, 4], [7, 3], 1).iter().all(|x| (x - 2.0).abs() < 1e-6));
        // Twice as many places: those of the middle lie a quarter beside the old ones.
        let out = resized(&[0.0, 4.0, 8.0], [1, 3], [1, 6], 1);
        assert!(out.iter().zip([0.0, 1.0, 3.0, 5.0, 7.0, 8.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{out:?}");
        // Half as many: each from a wider neighbourhood.
        let out = resized(&[0.0, 1.0, 2.0, 3.0], [1, 4], [1, 2], 1);
        assert!((out[0] + out[1] - 3.0).abs() < 1e-6 && out[0] < 1.0 && out[0] > 0.4, "{out:?}");
    }
}
