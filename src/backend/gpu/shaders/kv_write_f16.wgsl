// Rows of keys and values into a layer's cache, as pairs of 16-bit floats.
// Shapes: k, v [rows, stride] floats; k_cache, v_cache [n_ctx, cache_stride], cache_stride in pairs.
// Mapping: one thread a pair, one row a workgroup row. What is beyond a half's range is kept as its largest: an infinity among the
// keys would make every later token not a number.
struct Params {
    stride: u32,
    cache_stride: u32,
    position: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> k: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> k_cache: array<u32>;
@group(0) @binding(4) var<storage, read_write> v_cache: array<u32>;

fn packed(x: vec2<f32>) -> u32 {
    return pack2x16float(clamp(x, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < P.cache_stride) {
        let at = (P.position + id.y) * P.cache_stride + id.x;
        let i = id.y * (P.stride / 2u) + id.x;
        k_cache[at] = packed(k[i]);
        v_cache[at] = packed(v[i]);
    }
}
