// Q4_K: d scale q - dmin min. Planes: elements (128 bits per block), scale and min (16), d and dmin (4).
fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let group = vec2<f32>(M_plane_bytes(P.M_n_blocks, block));
    let d = unpack2x16float(M_plane_word(P.M_n_blocks + P.M_n_blocks / 8u, block >> 3u)) * group;
    return affine(nibbles(M_w[block]), d.xx, -d.yy);
}
