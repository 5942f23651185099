// Q2_K: d scale q - dmin min. Planes: elements (64 bits per block), scales and minima (16), d and dmin as 32-bit floats (8).
fn M_block(block: u32) -> Block {
    let groups = P.M_n_blocks / 2u;
    let group = M_plane_bytes(groups, block);
    let d = M_plane_floats(groups + P.M_n_blocks / 8u, block >> 3u);
    return Block(
        spread_pairs(M_plane_word(0u, 2u * block)),
        spread_pairs(M_plane_word(0u, 2u * block + 1u)),
        d.x * vec2<f32>(group & vec2<u32>(15u)),
        -d.y * vec2<f32>(group >> vec2<u32>(4u)));
}
