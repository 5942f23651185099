// Q4_1: d q + m. Planes: elements (128 bits per block), d and m (32).
fn weights(block: u32) -> array<vec4<f32>, 8> {
    let d = unpack2x16float(plane_word(P.n_blocks, block));
    return affine(nibbles(w[block]), d.xx, d.yy);
}
