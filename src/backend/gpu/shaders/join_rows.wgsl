// out[i] = x[first + k·i], …, x[first + k·i + k − 1] side by side, for n rows; beyond them zeros.
// Shapes: x [rows, stride], out [n, out_stride], strides in vec4; a row of x holds cols vec4 of numbers.
// Mapping: one thread a vec4 of out, one row a workgroup row.
struct Params {
    stride: u32,
    first: u32,
    cols: u32,
    k: u32,
    out_stride: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < P.out_stride) {
        let part = id.x / P.cols;
        var value = vec4<f32>();
        if (part < P.k) {
            value = x[(P.first + id.y * P.k + part) * P.stride + id.x % P.cols];
        }
        out[id.y * P.out_stride + id.x] = value;
    }
}
