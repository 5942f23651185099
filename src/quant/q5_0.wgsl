// Q5_0: d (q - 16). Planes: low bits (128 bits per block), fifth bits (32), d (16).
fn weights(block: u32) -> array<vec4<f32>, 8> {
    let d = plane_half(P.n_blocks + P.n_blocks / 4u, block);
    return scaled(with_bits(nibbles(w[block]), plane_word(P.n_blocks, block), 16.0), -16.0, vec2<f32>(d));
}
