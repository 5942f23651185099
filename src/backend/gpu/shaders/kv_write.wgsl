// keys[position + i] = k[i], values[position + i] = v[i] for n rows.
// Shapes: k, v [rows, stride] floats; kv keys [n_ctx, kv_stride], then values from v_first on.
// Mapping: one thread a pair of elements, one row a workgroup row.
struct Params {
    // In pairs.
    stride: u32,
    kv_stride: u32,
    v_first: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> k: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> v: array<vec2<f32>>;
@group(0) @binding(4) var<uniform> S: Step;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (2u * id.x < P.kv_stride) {
        let at = (S.position + id.y) * P.kv_stride + 2u * id.x;
        let i = id.y * P.stride + id.x;
        store(at, k[i]);
        store(P.v_first + at, v[i]);
    }
}
