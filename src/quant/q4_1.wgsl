// Q4_1: d q + m. Planes: elements (128 bits per block), d and m (32).
fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let d = unpack2x16float(M_plane_word(P.M_n_blocks, block));
    return affine(nibbles(M_w[block]), d.xx, d.yy);
}
