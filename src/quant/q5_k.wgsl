// Q5_K: d scale q - dmin min. Planes: low bits (128 bits per block), fifth bits (32), scale and min (16), d and dmin (4).
fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let groups = P.M_n_blocks + P.M_n_blocks / 4u;
    let group = vec2<f32>(M_plane_bytes(groups, block));
    let d = unpack2x16float(M_plane_word(groups + P.M_n_blocks / 8u, block >> 3u)) * group;
    return affine(with_bits(nibbles(M_w[block]), M_plane_word(P.M_n_blocks, block), 16.0), d.xx, -d.yy);
}
