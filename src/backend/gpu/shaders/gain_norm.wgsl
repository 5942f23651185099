// x through rms_norm: the elements times the norm's weights here; what the sum of squares makes of the row is one factor of each product,
// so that nobody waits for it.
fn gain(i: u32) -> vec4<f32> {
    return norm[i];
}

fn scale_of(square: f32) -> f32 {
    return 1.0 / sqrt(square / P.n_cols + P.eps);
}
