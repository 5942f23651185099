// Rows of keys and values into a layer's cache, exactly.
// Shapes: k, v [rows, stride]; k_cache, v_cache [n_ctx, cache_stride]. Mapping: one thread an element, one row a workgroup row.
struct Params {
    stride: u32,
    cache_stride: u32,
    position: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read_write> k_cache: array<f32>;
@group(0) @binding(4) var<storage, read_write> v_cache: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < P.cache_stride) {
        let at = (P.position + id.y) * P.cache_stride + id.x;
        let i = id.y * P.stride + id.x;
        k_cache[at] = k[i];
        v_cache[at] = v[i];
    }
}
