// out = silu(x Wgate^T) (x Wup^T) for few rows of x: decoding.
// Shapes: gate_w, up_w [n_out, n_in] in planes of blocks of 32, formats apart; x [rows, x_stride], x_stride in vec4; out [rows, out_stride].
// Mapping: as mat_vec; each workgroup computes the same four rows of both matrices, so that neither product is ever written.
struct Params {
    gate_n_blocks: u32,
    up_n_blocks: u32,
    row_blocks: u32,
    n_out: u32,
    x_stride: u32,
    out_stride: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> gate_w: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> up_w: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread & 15u;
    let row = 4u * (group.x + 32768u * group.y) + (thread >> 4u);
    var sum = vec2<f32>(0.0);
    if (row < P.n_out) {
        let xs = group.z * P.x_stride;
        sum = vec2<f32>(gate_row_part(row, lane, xs), up_row_part(row, lane, xs));
    }
    let total = sum16(thread, sum);
    if (lane == 0u && row < P.n_out) {
        out[group.z * P.out_stride + row] = total.x / (1.0 + exp(min(-total.x, 80.0))) * total.y;
    }
}
