// Q4_0: d (q - 8). Planes: elements (128 bits per block), d (16).
fn M_block(block: u32) -> Block {
    let q = M_w[block];
    let d = M_plane_half(P.M_n_blocks, block);
    return Block(low(q), high(q), vec2<f32>(d), vec2<f32>(-8.0 * d));
}
