// out[i] = (x[i] - mean) / sqrt(var + eps) * weight + bias.
// Shapes: x, out [rows, stride]; weight, bias [stride]; strides in vec4, what is beyond n_cols is zero in all of them.
// Mapping: one row a workgroup; two passes, because a mean that dwarfs the deviation would drown it in one.
struct Params {
    stride: u32,
    n_cols: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

var<workgroup> sums: array<f32, 64>;
var<workgroup> squares: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.x * P.stride;
    var sum = 0.0;
    for (var i = thread; i < P.stride; i += 64u) {
        sum += dot(x[first + i], vec4<f32>(1.0));
    }
    sums[thread] = sum;
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < 64u; i++) {
        total += sums[i];
    }
    let mean = total / f32(P.n_cols);
    var square = 0.0;
    for (var i = thread; i < P.stride; i += 64u) {
        let inside = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(P.n_cols);
        let d = select(vec4<f32>(0.0), x[first + i] - mean, inside);
        square += dot(d, d);
    }
    squares[thread] = square;
    workgroupBarrier();
    var variance = 0.0;
    for (var i = 0u; i < 64u; i++) {
        variance += squares[i];
    }
    let scale = 1.0 / sqrt(variance / f32(P.n_cols) + P.eps);
    for (var i = thread; i < P.stride; i += 64u) {
        out[first + i] = (x[first + i] - mean) * scale * weight[i] + bias[i];
    }
}
