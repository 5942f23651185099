// y = x W^T for few rows of x: decoding.
// Mapping: four rows of W a workgroup, 16 threads each, which take every 16th block; one barrier, then one thread of the 16 adds up
// their sums. Rows of W go along x (and y, where there are more than fit), rows of x along z.
var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let lane = thread & 15u;
    let row = 4u * (group.x + 32768u * group.y) + (thread >> 4u);
    var sum = 0.0;
    if (row < P.n_out) {
        sum = row_part(row, lane, group.z * P.x_stride);
    }
    sums[thread] = sum;
    workgroupBarrier();
    if (lane == 0u && row < P.n_out) {
        var total = 0.0;
        for (var i = 0u; i < 16u; i++) {
            total += sums[thread + i];
        }
        finish(group.z, row, total);
    }
}
