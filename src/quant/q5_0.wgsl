// Q5_0: d (q - 16). Planes: low bits (128 bits per block), fifth bits (32), d (16).
fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let d = M_plane_half(P.M_n_blocks + P.M_n_blocks / 4u, block);
    return scaled(with_bits(nibbles(M_w[block]), M_plane_word(P.M_n_blocks, block), 16.0), -16.0, vec2<f32>(d));
}
