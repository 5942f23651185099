// x[i] = x[i] * scale for n rows, each column with a factor of its own.
// Shapes: x [rows, stride], scale [stride]; strides are the same, in vec4. Mapping: one thread a vec4, one row a workgroup row.
struct Params {
    stride: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> scale: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < P.stride) {
        let at = id.y * P.stride + id.x;
        x[at] = x[at] * scale[id.x];
    }
}
