// gelu(g) = g / 2 (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))) = g / (1 + exp(-2 sqrt(2 / pi) (g + 0.044715 g^3))).
fn gated(g: vec4<f32>) -> vec4<f32> {
    // From |g| = 10 on the sigmoid is 0 or 1 to all digits, and a cube could overflow. exp(80) is finite.
    let z = clamp(g, vec4<f32>(-10.0), vec4<f32>(10.0));
    return g / (1.0 + exp(min(-1.5957691 * z * (0.044715 * z * z + 1.0), vec4<f32>(80.0))));
}
