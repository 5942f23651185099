// silu(g) = g / (1 + exp(-g)).
fn gated(g: vec4<f32>) -> vec4<f32> {
    // exp(80) is finite, and so large that the quotient is zero in any activation's company.
    return g / (1.0 + exp(min(-g, vec4<f32>(80.0))));
}
