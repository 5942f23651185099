//! Rotary position embedding.

use crate::backend::RopeStyle;

/// Turns the pairs `(x0, x1)` of the first `n_rot` elements of every head by the angle of their position:
/// `(x0 cos − x1 sin, x0 sin + x1 cos)`. `x [n, n_heads · head_dim]`, `rope [n, n_rot]` (cosines, then sines).
pub fn rope(x: &mut [f32], rope: &[f32], n_rot: usize, style: RopeStyle, n_heads: usize, head_dim: usize) {
    let half = n_rot / 2;
    if half == 0 {
        return;
    }
    for (x, angles) in x.chunks_exact_mut(n_heads * head_dim).zip(rope.chunks_exact(n_rot)) {
        let (cosines, sines) = angles.split_at(half);
        for head in x.chunks_exact_mut(head_dim) {
            match style {
                RopeStyle::Adjacent => {
                    for ((pair, cos), sin) in head[..2 * half].as_chunks_mut::<2>().0.iter_mut().zip(cosines).zip(sines) {
                        *pair = [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos];
                    }
                }
                RopeStyle::Halves => {
                    let (first, second) = head[..2 * half].split_at_mut(half);
                    for (((x0, x1), cos), sin) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
                        (*x0, *x1) = (*x0 * cos - *x1 * sin, *x0 * sin + *x1 * cos);
                    }
                }
            }
        }
    }
}
