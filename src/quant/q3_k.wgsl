// Q3_K: d scale (q - 4). Planes: lower pairs of bits (64 bits per block), third bits (32), scales (16), d as a 32-bit float (4).
fn M_block(block: u32) -> Block {
    let third = P.M_n_blocks / 2u;
    let groups = third + P.M_n_blocks / 4u;
    let d = M_plane_float(groups + P.M_n_blocks / 8u, block >> 3u) * M_plane_signed_bytes(groups, block);
    let bits = M_plane_word(third, block);
    return Block(
        spread_pairs(M_plane_word(0u, 2u * block)) | (bits_low(bits) << vec4<u32>(2u)),
        spread_pairs(M_plane_word(0u, 2u * block + 1u)) | (bits_high(bits) << vec4<u32>(2u)),
        d,
        -4.0 * d);
}
