// Q8_0: d q. Planes: elements (256 bits per block), d (16).
fn M_block(block: u32) -> Block {
    return Block(M_w[2u * block], M_w[2u * block + 1u], vec2<f32>(M_plane_half(2u * P.M_n_blocks, block)), vec2<f32>(0.0));
}
