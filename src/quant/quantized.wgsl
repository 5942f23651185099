// The elements of a block of a quantized matrix (a template, see plane.wgsl).
fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let w = M_block(block);
    let d0 = vec4<f32>(w.d.x);
    let d1 = vec4<f32>(w.d.y);
    let m0 = vec4<f32>(w.m.x);
    let m1 = vec4<f32>(w.m.y);
    return array<vec4<f32>, 8>(
        fma(bytes(w.q0.x), d0, m0), fma(bytes(w.q0.y), d0, m0), fma(bytes(w.q0.z), d0, m0), fma(bytes(w.q0.w), d0, m0),
        fma(bytes(w.q1.x), d1, m1), fma(bytes(w.q1.y), d1, m1), fma(bytes(w.q1.z), d1, m1), fma(bytes(w.q1.w), d1, m1));
}
