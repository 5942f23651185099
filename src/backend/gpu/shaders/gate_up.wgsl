// out = gating(n Wgate^T) (n Wup^T), n = rms_norm(x), for few rows of x: decoding.
// Shapes: gate_w, up_w [n_out, n_in] in planes of blocks of 32, formats apart; x [rows, x_stride], norm [x_stride], x_stride in vec4;
// out [rows, out_stride].
// Mapping: four rows of both matrices a workgroup, 16 threads each, so that neither product is ever written and a block of x is loaded once
// for both.
struct Params {
    gate_n_blocks: u32,
    up_n_blocks: u32,
    row_blocks: u32,
    n_out: u32,
    x_stride: u32,
    out_stride: u32,
    n_cols: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> norm: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> gate_w: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> up_w: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread & 15u;
    let row = 4u * (group.x + 32768u * group.y) + (thread >> 4u);
    let first = min(row, P.n_out - 1u) * P.row_blocks;
    let xs = group.z * P.x_stride;
    var sum = vec3<f32>(0.0);
    for (var b = lane; b < P.row_blocks; b += 16u) {
        let part = input(xs, b);
        sum += vec3<f32>(gate_dot(first + b, part), up_dot(first + b, part), part.square);
    }
    let total = sum16(thread, sum);
    let y = total.xy * scale_of(total.z);
    if (lane == 0u && row < P.n_out) {
        out[group.z * P.out_stride + row] = gated(vec4<f32>(y.x)).x * y.y;
    }
}
