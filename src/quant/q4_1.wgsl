// Q4_1: d q + m. Planes: elements (128 bits per block), d and m (32).
fn M_block(block: u32) -> Block {
    let q = M_w[block];
    let d = halves_of(M_plane_word(P.M_n_blocks, block));
    return Block(low(q), high(q), d.xx, d.yy);
}
