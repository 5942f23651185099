// out[i] = gating(out[i]) x[i].
// Shapes: x, out [rows, stride]; strides are the same, in vec4. Mapping: one thread a vec4, one row a workgroup row.
struct Params {
    stride: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < P.stride) {
        let at = id.y * P.stride + id.x;
        out[at] = gated(out[at]) * x[at];
    }
}
