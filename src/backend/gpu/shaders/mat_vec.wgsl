// y = x W^T for few rows of x: decoding.
// Mapping: eight rows of W a workgroup, two to 16 threads, which take every 16th block of both (so that each block of x is loaded once for
// two rows), then add up their sums (sum16). Rows of W go along x (and y, where there are more than fit), rows of x along z.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread & 15u;
    let row = 8u * (group.x + 32768u * group.y) + 2u * (thread >> 4u);
    let first = min(row, P.n_out - 1u) * P.row_blocks;
    let second = min(row + 1u, P.n_out - 1u) * P.row_blocks;
    let xs = group.z * P.x_stride;
    var sum = vec3<f32>(0.0);
    for (var b = lane; b < P.row_blocks; b += 16u) {
        let part = input(xs, b);
        sum += vec3<f32>(w_dot(first + b, part), w_dot(second + b, part), part.square);
    }
    let total = sum16(thread, sum);
    let scale = scale_of(total.z);
    if (lane == 0u && row < P.n_out) {
        finish(group.z, row, total.x * scale);
    }
    if (lane == 1u && row + 1u < P.n_out) {
        finish(group.z, row + 1u, total.y * scale);
    }
}
