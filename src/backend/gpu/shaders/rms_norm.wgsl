// out[i] = x[i] / sqrt(mean(x[i]^2) + eps) * weight.
// Shapes: x, out [rows, stride]; weight [stride]; strides in vec4, what is beyond n_cols is zero in all of them.
// Mapping: one row a workgroup; each thread sums every 64th vec4, then all threads add the 64 sums in the same order.
struct Params {
    stride: u32,
    n_cols: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.x * P.stride;
    var sum = 0.0;
    for (var i = thread; i < P.stride; i += 64u) {
        let v = x[first + i];
        sum += dot(v, v);
    }
    sums[thread] = sum;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < 64u; i++) {
        total += sums[i];
    }
    let square = total / P.n_cols;
    let scale = 1.0 / sqrt(square + P.eps);
    for (var i = thread; i < P.stride; i += 64u) {
        out[first + i] = x[first + i] * scale * weight[i];
    }
}
