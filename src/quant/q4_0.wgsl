// Q4_0: d (q - 8). Planes: elements (128 bits per block), d (16).
fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let d = M_plane_half(P.M_n_blocks, block);
    return scaled(nibbles(M_w[block]), -8.0, vec2<f32>(d));
}
