// The product of a block of a quantized matrix (a template, see plane.wgsl) with 32 elements: the small integers first, then the scales.
fn M_dot(block: u32, x: Input) -> f32 {
    let w = M_block(block);
    let p0 = (dot(bytes(w.q0.x), x.x0) + dot(bytes(w.q0.y), x.x1)) + (dot(bytes(w.q0.z), x.x2) + dot(bytes(w.q0.w), x.x3));
    let p1 = (dot(bytes(w.q1.x), x.x4) + dot(bytes(w.q1.y), x.x5)) + (dot(bytes(w.q1.z), x.x6) + dot(bytes(w.q1.w), x.x7));
    return dot(w.d, vec2<f32>(p0, p1)) + dot(w.m, x.sums);
}
