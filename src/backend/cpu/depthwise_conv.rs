//! A depthwise convolution over a grid. The specification: plain loops, the innermost over columns, of which compilers make vectors.

use std::ops::Range;

/// The output rows `rows` of `out[y, x] = bias + Σ kernel[3i + j] ⊙ in[s·y + i − 1, s·x + j − 1]`. `x [height · width, cols]`, zero beyond it,
/// `kernel [9, cols]`, `bias [cols]`, `out [rows, cols]`.
pub fn rows(
    x: &[f32],
    [height, width]: [usize; 2],
    kernel: &[f32],
    bias: Option<&[f32]>,
    stride: usize,
    rows: Range<usize>,
    out: &mut [f32],
) {
    let cols = kernel.len() / 9;
    let out_width = width.div_ceil(stride);
    // The place that a tap meets, counted from the one before the first; the last is beyond the grid as well.
    let within = |at: usize, side: usize| at.checked_sub(1).filter(|at| *at < side);
    for (row, out) in rows.zip(out.chunks_exact_mut(cols)) {
        let (top, left) = (stride * (row / out_width), stride * (row % out_width));
        match bias {
            Some(bias) => out.copy_from_slice(bias),
            None => out.fill(0.0),
        }
        for (tap, kernel) in kernel.chunks_exact(cols).enumerate() {
            let (Some(y), Some(x_at)) = (within(top + tap / 3, height), within(left + tap % 3, width)) else { continue };
            let x = &x[(y * width + x_at) * cols..][..cols];
            for ((out, kernel), x) in out.iter_mut().zip(kernel).zip(x) {
                *out += kernel * x;
            }
        }
    }
}
