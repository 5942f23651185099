// Q8_0: d q. Planes: elements (256 bits per block), d (16).
fn M_signed(q: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(q));
}

fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let d = M_plane_half(2u * P.M_n_blocks, block);
    let a = M_w[2u * block];
    let b = M_w[2u * block + 1u];
    let q = array<vec4<f32>, 8>(M_signed(a.x), M_signed(a.y), M_signed(a.z), M_signed(a.w), M_signed(b.x), M_signed(b.y), M_signed(b.z), M_signed(b.w));
    return scaled(q, 0.0, vec2<f32>(d));
}
