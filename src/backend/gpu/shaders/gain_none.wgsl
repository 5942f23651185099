// x as it is.
fn gain(i: u32) -> vec4<f32> {
    return vec4<f32>(1.0);
}

fn scale_of(square: f32) -> f32 {
    return 1.0;
}
