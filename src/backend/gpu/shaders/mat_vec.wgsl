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
        let xs = group.z * P.x_stride;
        for (var b = lane; b < P.row_blocks; b += 16u) {
            let q = weights(row * P.row_blocks + b);
            let i = xs + 8u * b;
            sum += dot(q[0], x[i]) + dot(q[1], x[i + 1u]) + dot(q[2], x[i + 2u]) + dot(q[3], x[i + 3u])
                + dot(q[4], x[i + 4u]) + dot(q[5], x[i + 5u]) + dot(q[6], x[i + 6u]) + dot(q[7], x[i + 7u]);
        }
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
