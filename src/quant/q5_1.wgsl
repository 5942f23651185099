// Q5_1: d q + m. Planes: low bits (128 bits per block), fifth bits (32), d and m (32).
fn M_block(block: u32) -> Block {
    let q = M_w[block];
    let bits = M_plane_word(P.M_n_blocks, block);
    let d = halves_of(M_plane_word(P.M_n_blocks + P.M_n_blocks / 4u, block));
    return Block(low(q) | (bits_low(bits) << vec4<u32>(4u)), high(q) | (bits_high(bits) << vec4<u32>(4u)), d.xx, d.yy);
}
