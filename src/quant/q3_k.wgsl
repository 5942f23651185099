// Q3_K: d scale (q - 4). Planes: lower pairs of bits (64 bits per block), third bits (32), scales (16), d (2).
fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let third = P.M_n_blocks / 2u;
    let groups = third + P.M_n_blocks / 4u;
    let d = M_plane_half(groups + P.M_n_blocks / 8u, block >> 3u) * M_plane_signed_bytes(groups, block);
    return scaled(with_bits(M_pairs(0u, block), M_plane_word(third, block), 4.0), -4.0, d);
}
