// F16. One plane: the elements (512 bits per block). An element is only itself, not the scale of a block: where a driver takes subnormal ones
// (below 6.1e-5) for zero, that is an error beneath the rounding which a matrix in 16 bits bears in any case. So they may be unpacked.
fn M_halves(a: u32, b: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(a), unpack2x16float(b));
}

fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let a = M_w[4u * block];
    let b = M_w[4u * block + 1u];
    let c = M_w[4u * block + 2u];
    let d = M_w[4u * block + 3u];
    return array<vec4<f32>, 8>(
        M_halves(a.x, a.y), M_halves(a.z, a.w), M_halves(b.x, b.y), M_halves(b.z, b.w),
        M_halves(c.x, c.y), M_halves(c.z, c.w), M_halves(d.x, d.y), M_halves(d.z, d.w));
}
