// Q3_K: d scale (q - 4). Planes: lower pairs of bits (64 bits per block), third bits (32), scales (16), d (2).
fn weights(block: u32) -> array<vec4<f32>, 8> {
    let third = P.n_blocks / 2u;
    let groups = third + P.n_blocks / 4u;
    let d = plane_half(groups + P.n_blocks / 8u, block >> 3u) * plane_signed_bytes(groups, block);
    return scaled(with_bits(pairs(0u, block), plane_word(third, block), 4.0), -4.0, d);
}
