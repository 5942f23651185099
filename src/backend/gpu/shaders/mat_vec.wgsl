// y = x W^T for few rows of x: decoding.
// Mapping: four rows of W a workgroup, 16 threads each, which take every 16th block, then add up their sums (sum16). Rows of W go along x (and y, where there are more than fit), rows of x along z.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread & 15u;
    let row = 4u * (group.x + 32768u * group.y) + (thread >> 4u);
    var sum = 0.0;
    if (row < P.n_out) {
        sum = row_part(row, lane, group.z * P.x_stride);
    }
    let total = sum16(thread, vec2<f32>(sum, 0.0));
    if (lane == 0u && row < P.n_out) {
        finish(group.z, row, total.x);
    }
}
