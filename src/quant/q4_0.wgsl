// Q4_0: d (q - 8). Planes: elements (128 bits per block), d (16).
fn weights(block: u32) -> array<vec4<f32>, 8> {
    let d = plane_half(P.n_blocks, block);
    return scaled(nibbles(w[block]), -8.0, vec2<f32>(d));
}
