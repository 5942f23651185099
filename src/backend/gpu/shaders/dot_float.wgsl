// The product of 32 elements of a row of floats (a template, see plane.wgsl) with 32 elements.
fn M_dot(block: u32, x: Input) -> f32 {
    let w = M_weights(block);
    return ((dot(w[0], x.x0) + dot(w[1], x.x1)) + (dot(w[2], x.x2) + dot(w[3], x.x3)))
        + ((dot(w[4], x.x4) + dot(w[5], x.x5)) + (dot(w[6], x.x6) + dot(w[7], x.x7)));
}
