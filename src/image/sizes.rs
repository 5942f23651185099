//! How many tiles a picture is cut into, and what size it is resized to: arithmetic on widths and heights that several recipes share, in
//! the operations and the order of the reference implementations, since a quotient may fall on either side of a whole number.

use super::place::Grid;

/// Python's `round`: to the nearest whole number, halves to the even one.
fn round_half_even(x: f64) -> f64 {
    x.round_ties_even()
}

/// The size `[height, width]` that keeps a picture's proportions nearly, with both sides whole multiples of `unit` and, where that can be,
/// `min_pixels ..= max_pixels` pixels. Qwen2-VL's `smart_resize`, also LFM2-VL's.
pub fn smart_resize([height, width]: [usize; 2], unit: usize, min_pixels: usize, max_pixels: usize) -> [usize; 2] {
    let (h, w, u) = (height as f64, width as f64, unit as f64);
    let sides = |f: &dyn Fn(f64) -> f64| [h, w].map(|side| (f(side) * u).max(u));
    let rounded = sides(&|side| round_half_even(side / u));
    let area = rounded[0] * rounded[1];
    let chosen = if area > max_pixels as f64 {
        let beta = (h * w / max_pixels as f64).sqrt();
        sides(&|side| (side / beta / u).floor())
    } else if area < min_pixels as f64 {
        let beta = (min_pixels as f64 / (h * w)).sqrt();
        sides(&|side| (side * beta / u).ceil())
    } else {
        rounded
    };
    // A picture so thin that one side stays at a unit could be of any length.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole numbers of at least a unit; what is too large saturates"
    )]
    let [h, w] = chosen.map(|side| side as usize);
    let most = (max_pixels / unit / unit).max(1) * unit;
    [h.min(most), w.min(most)]
}

/// Whether LFM2-VL cuts a picture into tiles rather than taking it as one of at most `max_pixels`: it does from twice as many on.
pub fn is_too_large_for_one([height, width]: [usize; 2], patch: usize, unit: usize, max_pixels: usize) -> bool {
    let [h, w] = [height, width].map(|side| (round_half_even(side as f64 / unit as f64) * unit as f64).max(patch as f64));
    h * w > 2.0 * max_pixels as f64
}

/// The grid of `min ..= max` tiles of `side` pixels squared whose proportions are nearest to the picture's. Of several that are equally
/// near the larger wins while its tiles are not less than half filled. InternVL's and LFM2-VL's choice.
pub fn grid_by_aspect(width: usize, height: usize, min: usize, max: usize, side: usize) -> Grid {
    let aspect = width as f64 / height as f64;
    let area = width as f64 * height as f64;
    let mut grids: Vec<Grid> = (1..=max)
        .flat_map(|cols| (1..=max).map(move |rows| Grid { rows, cols }))
        .filter(|g| (min..=max).contains(&(g.rows * g.cols)))
        .collect();
    grids.sort_by_key(|grid| grid.rows * grid.cols);
    let (mut best, mut least) = (Grid { rows: 1, cols: 1 }, f64::INFINITY);
    for grid in grids {
        let off = (aspect - grid.cols as f64 / grid.rows as f64).abs();
        let half_filled = area > 0.5 * (side * side * grid.rows * grid.cols) as f64;
        if off < least || (off == least && half_filled) {
            (best, least) = (grid, off);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_to_the_even_multiple() {
        // 400 / 32 = 12.5 and 432 / 32 = 13.5.
        assert_eq!(smart_resize([400, 432], 32, 65_536, 262_144), [384, 448]);
        assert_eq!(smart_resize([512, 512], 32, 65_536, 262_144), [512, 512]);
    }

    #[test]
    fn pictures_too_small_and_too_large_are_brought_within_the_bounds() {
        let [h, w] = smart_resize([20, 40], 32, 65_536, 262_144);
        assert!(h * w >= 65_536 && h % 32 == 0 && w % 32 == 0, "{h} {w}");
        let [h, w] = smart_resize([3000, 4000], 28, 3136, 802_816);
        assert!(h * w <= 802_816 && h % 28 == 0 && w % 28 == 0, "{h} {w}");
        for size in [[1, 16_384], [16_384, 1], [1, 1]] {
            let [h, w] = smart_resize(size, 28, 3136, 802_816);
            assert!(h >= 28 && w >= 28 && h * w <= 802_816, "{size:?}: {h} {w}");
        }
    }

    #[test]
    fn the_grid_is_chosen_by_proportions_then_by_area() {
        assert_eq!(grid_by_aspect(451, 300, 1, 12, 56), Grid { rows: 2, cols: 3 });
        assert_eq!(grid_by_aspect(100, 100, 1, 12, 448), Grid { rows: 1, cols: 1 });
        assert_eq!(grid_by_aspect(1024, 1024, 2, 10, 512), Grid { rows: 2, cols: 2 });
        assert_eq!(grid_by_aspect(10_000, 10, 1, 6, 448), Grid { rows: 1, cols: 6 });
    }
}
