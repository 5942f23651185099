// Q5_1: d q + m. Planes: low bits (128 bits per block), fifth bits (32), d and m (32).
fn weights(block: u32) -> array<vec4<f32>, 8> {
    let d = unpack2x16float(plane_word(P.n_blocks + P.n_blocks / 4u, block));
    return affine(with_bits(nibbles(w[block]), plane_word(P.n_blocks, block), 16.0), d.xx, d.yy);
}
