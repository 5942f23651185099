// IQ4_NL: d VALUES[q]. Planes: elements (128 bits per block), d (16).
// The 16 values are signed bytes, four to a u32.
fn value(q: u32) -> f32 {
    let values = vec4<u32>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
    return f32(bitcast<i32>(values[q >> 2u] << (24u - 8u * (q & 3u))) >> 24u);
}

fn looked_up(q: u32) -> vec4<f32> {
    return vec4<f32>(value(q & 15u), value((q >> 8u) & 15u), value((q >> 16u) & 15u), value((q >> 24u) & 15u));
}

fn weights(block: u32) -> array<vec4<f32>, 8> {
    let d = plane_half(P.n_blocks, block);
    let q = w[block];
    let h = q >> vec4<u32>(4u);
    let x = array<vec4<f32>, 8>(
        looked_up(q.x), looked_up(q.y), looked_up(q.z), looked_up(q.w), looked_up(h.x), looked_up(h.y), looked_up(h.z), looked_up(h.w));
    return scaled(x, 0.0, vec2<f32>(d));
}
