// IQ4_NL: d VALUES[q]. Planes: elements (128 bits per block), d (16).
// The 16 values are signed bytes, four to a u32.
fn M_value(q: u32) -> f32 {
    let values = vec4<u32>(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);
    return f32(bitcast<i32>(values[q >> 2u] << (24u - 8u * (q & 3u))) >> 24u);
}

fn M_looked_up(q: u32) -> vec4<f32> {
    return vec4<f32>(M_value(q & 15u), M_value((q >> 8u) & 15u), M_value((q >> 16u) & 15u), M_value((q >> 24u) & 15u));
}

fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let d = M_plane_half(P.M_n_blocks, block);
    let q = M_w[block];
    let h = q >> vec4<u32>(4u);
    let x = array<vec4<f32>, 8>(
        M_looked_up(q.x), M_looked_up(q.y), M_looked_up(q.z), M_looked_up(q.w), M_looked_up(h.x), M_looked_up(h.y), M_looked_up(h.z), M_looked_up(h.w));
    return scaled(x, 0.0, vec2<f32>(d));
}
