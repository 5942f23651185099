// Q4_K: d scale q - dmin min. Planes: elements (128 bits per block), scale and min (16), d and dmin (4).
fn weights(block: u32) -> array<vec4<f32>, 8> {
    let group = vec2<f32>(plane_bytes(P.n_blocks, block));
    let d = unpack2x16float(plane_word(P.n_blocks + P.n_blocks / 8u, block >> 3u)) * group;
    return affine(nibbles(w[block]), d.xx, -d.yy);
}
