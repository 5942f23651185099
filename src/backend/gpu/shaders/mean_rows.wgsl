// out[i] = factor / k * (x[k i] + … + x[k i + k - 1]) for n rows of out: the mean of each k neighbours, or with k = 1 a multiple of each row.
// Shapes: x, out [rows, stride]; strides are the same, in vec4. Mapping: one thread a vec4, one row of out a workgroup row.
struct Params {
    stride: u32,
    k: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < P.stride) {
        var sum = vec4<f32>();
        for (var i = 0u; i < P.k; i++) {
            sum += x[(id.y * P.k + i) * P.stride + id.x];
        }
        out[id.y * P.stride + id.x] = sum * (P.factor / f32(P.k));
    }
}
