// Q4_K: d scale q - dmin min. Planes: elements (128 bits per block), scale and min (16), d and dmin as 32-bit floats (8).
fn M_block(block: u32) -> Block {
    let q = M_w[block];
    let group = vec2<f32>(M_plane_bytes(P.M_n_blocks, block));
    let d = M_plane_floats(P.M_n_blocks + P.M_n_blocks / 8u, block >> 3u) * group;
    return Block(low(q), high(q), d.xx, -d.yy);
}
