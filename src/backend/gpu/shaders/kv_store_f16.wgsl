// Two neighbouring elements into a cache of pairs of 16-bit floats; `at` is even. What is beyond a half's range is kept as its largest.
@group(0) @binding(7) var<storage, read_write> k_cache: array<u32>;
@group(0) @binding(8) var<storage, read_write> v_cache: array<u32>;

fn packed(y: vec2<f32>) -> u32 {
    return pack2x16float(clamp(y, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}

fn store_k(at: u32, y: vec2<f32>) {
    k_cache[at >> 1u] = packed(y);
}

fn store_v(at: u32, y: vec2<f32>) {
    v_cache[at >> 1u] = packed(y);
}
