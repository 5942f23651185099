// Q5_K: d scale q - dmin min. Planes: low bits (128 bits per block), fifth bits (32), scale and min (16), d and dmin as 32-bit floats (8).
fn M_block(block: u32) -> Block {
    let q = M_w[block];
    let bits = M_plane_word(P.M_n_blocks, block);
    let groups = P.M_n_blocks + P.M_n_blocks / 4u;
    let group = vec2<f32>(M_plane_bytes(groups, block));
    let d = M_plane_floats(groups + P.M_n_blocks / 8u, block >> 3u) * group;
    return Block(low(q) | (bits_low(bits) << vec4<u32>(4u)), high(q) | (bits_high(bits) << vec4<u32>(4u)), d.xx, -d.yy);
}
