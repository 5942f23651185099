// Q6_K: d scale (q - 32). Planes: low bits (128 bits per block), upper pairs of bits (64), scales (16), d (2).
fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let groups = P.M_n_blocks + P.M_n_blocks / 2u;
    let d = M_plane_half(groups + P.M_n_blocks / 8u, block >> 3u) * M_plane_signed_bytes(groups, block);
    let l = nibbles(M_w[block]);
    let h = M_pairs(P.M_n_blocks, block);
    let q = array<vec4<f32>, 8>(
        l[0] + 16.0 * h[0], l[1] + 16.0 * h[1], l[2] + 16.0 * h[2], l[3] + 16.0 * h[3],
        l[4] + 16.0 * h[4], l[5] + 16.0 * h[5], l[6] + 16.0 * h[6], l[7] + 16.0 * h[7]);
    return scaled(q, -32.0, d);
}
