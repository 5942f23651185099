// Q6_K: d scale (q - 32). Planes: low bits (128 bits per block), upper pairs of bits (64), scales (16), d as a 32-bit float (4).
fn M_block(block: u32) -> Block {
    let q = M_w[block];
    let groups = P.M_n_blocks + P.M_n_blocks / 2u;
    let d = M_plane_float(groups + P.M_n_blocks / 8u, block >> 3u) * M_plane_signed_bytes(groups, block);
    return Block(
        low(q) | (spread_pairs(M_plane_word(P.M_n_blocks, 2u * block)) << vec4<u32>(4u)),
        high(q) | (spread_pairs(M_plane_word(P.M_n_blocks, 2u * block + 1u)) << vec4<u32>(4u)),
        d,
        -32.0 * d);
}
