// BF16. One plane: the elements (512 bits per block).
fn halves(a: u32, b: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}

fn weights(block: u32) -> array<vec4<f32>, 8> {
    let a = w[4u * block];
    let b = w[4u * block + 1u];
    let c = w[4u * block + 2u];
    let d = w[4u * block + 3u];
    return array<vec4<f32>, 8>(
        halves(a.x, a.y), halves(a.z, a.w), halves(b.x, b.y), halves(b.z, b.w),
        halves(c.x, c.y), halves(c.z, c.w), halves(d.x, d.y), halves(d.z, d.w));
}
