// Q5_1: d q + m. Planes: low bits (128 bits per block), fifth bits (32), d and m (32).
fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let d = unpack2x16float(M_plane_word(P.M_n_blocks + P.M_n_blocks / 4u, block));
    return affine(with_bits(nibbles(M_w[block]), M_plane_word(P.M_n_blocks, block), 16.0), d.xx, d.yy);
}
