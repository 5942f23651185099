// Q8_0: d q. Planes: elements (256 bits per block), d (16).
fn signed(q: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(q));
}

fn weights(block: u32) -> array<vec4<f32>, 8> {
    let d = plane_half(2u * P.n_blocks, block);
    let a = w[2u * block];
    let b = w[2u * block + 1u];
    let q = array<vec4<f32>, 8>(signed(a.x), signed(a.y), signed(a.z), signed(a.w), signed(b.x), signed(b.y), signed(b.z), signed(b.w));
    return scaled(q, 0.0, vec2<f32>(d));
}
