// Two neighbouring elements into a cache of 32-bit floats.
@group(0) @binding(7) var<storage, read_write> k_cache: array<f32>;
@group(0) @binding(8) var<storage, read_write> v_cache: array<f32>;

fn store_k(at: u32, y: vec2<f32>) {
    k_cache[at] = y.x;
    k_cache[at + 1u] = y.y;
}

fn store_v(at: u32, y: vec2<f32>) {
    v_cache[at] = y.x;
    v_cache[at + 1u] = y.y;
}
