// x[i, h] = x[i, h] / sqrt(mean(x[i, h]^2) + eps) * weight for each head h of each row i, in place.
// Shapes: x [rows, stride], heads of head_dim elements side by side; weight [head_dim].
// Mapping: one head a workgroup row of 64 threads; each thread sums every 64th element, then all threads add the 64 sums in the same order.
struct Params {
    stride: u32,
    head_dim: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.y * P.stride + group.x * P.head_dim;
    var sum = 0.0;
    for (var i = thread; i < P.head_dim; i += 64u) {
        let v = x[first + i];
        sum += v * v;
    }
    sums[thread] = sum;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < 64u; i++) {
        total += sums[i];
    }
    let scale = 1.0 / sqrt(total / f32(P.head_dim) + P.eps);
    for (var i = thread; i < P.head_dim; i += 64u) {
        x[first + i] = x[first + i] * scale * weight[i];
    }
}
