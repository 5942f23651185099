// x[i] = cap tanh(x[i] / cap), in place.
// Shapes: x [rows, stride], stride in vec4. Mapping: one thread a vec4, one row a workgroup row.
struct Params {
    stride: u32,
    cap: f32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < P.stride) {
        let at = id.y * P.stride + id.x;
        // Some drivers' tanh is not a number far from 0; beyond 15 it is 1 in 32 bits.
        x[at] = P.cap * tanh(clamp(x[at] / P.cap, vec4<f32>(-15.0), vec4<f32>(15.0)));
    }
}
