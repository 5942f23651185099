alias Quad = vec4<f16>;

// What is beyond a half's range is kept as its largest: an infinity would spread over the whole row.
fn quad(x: vec4<f32>) -> Quad {
    return vec4<f16>(clamp(x, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}
