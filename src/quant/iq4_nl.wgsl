// IQ4_NL: d VALUES[q]. Planes: elements (128 bits per block), d (16).
// The 16 values are signed bytes, four to a u32.
fn M_value(q: u32) -> u32 {
    let values = vec4<u32>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
    return (values[(q >> 2u) & 3u] >> (8u * (q & 3u))) & 0xffu;
}

fn M_looked_up(q: u32) -> u32 {
    return M_value(q) | (M_value(q >> 8u) << 8u) | (M_value(q >> 16u) << 16u) | (M_value(q >> 24u) << 24u);
}

fn M_block(block: u32) -> Block {
    let q = M_w[block];
    let h = q >> vec4<u32>(4u);
    return Block(
        vec4<u32>(M_looked_up(q.x), M_looked_up(q.y), M_looked_up(q.z), M_looked_up(q.w)),
        vec4<u32>(M_looked_up(h.x), M_looked_up(h.y), M_looked_up(h.z), M_looked_up(h.w)),
        vec2<f32>(M_plane_half(P.M_n_blocks, block)),
        vec2<f32>(0.0));
}
