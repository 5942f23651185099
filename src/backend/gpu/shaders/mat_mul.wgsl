// y = x W^T for some rows of x: the end of a prompt, or a matrix too small for mat_mul_64.
// Mapping: a tile of 32 rows of W by 32 rows of x a workgroup, 4 by 4 of them a thread. Block by block of 32 elements, half of the
// threads decode the tile's weights into workgroup memory while the others load x; rows there are 9 vec4 apart, so that threads
// of different rows meet different banks.
var<workgroup> ws: array<vec4<f32>, 288>;
var<workgroup> xs: array<vec4<f32>, 288>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_row = 32u * group.x;
    let first_x = 32u * group.y;
    let a = thread & 7u;
    let b = thread >> 3u;
    var sums = array<vec4<f32>, 4>();
    for (var block = 0u; block < P.row_blocks; block++) {
        if (thread < 32u) {
            let row = min(first_row + thread, P.n_out - 1u);
            let q = w_weights(row * P.row_blocks + block);
            let to = 9u * thread;
            ws[to] = q[0];
            ws[to + 1u] = q[1];
            ws[to + 2u] = q[2];
            ws[to + 3u] = q[3];
            ws[to + 4u] = q[4];
            ws[to + 5u] = q[5];
            ws[to + 6u] = q[6];
            ws[to + 7u] = q[7];
        } else {
            for (var i = thread - 32u; i < 256u; i += 32u) {
                let row = min(first_x + (i >> 3u), P.n - 1u);
                xs[9u * (i >> 3u) + (i & 7u)] = x[row * P.x_stride + 8u * block + (i & 7u)];
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
            let x0 = xs[9u * b + i];
            let x1 = xs[9u * (b + 8u) + i];
            let x2 = xs[9u * (b + 16u) + i];
            let x3 = xs[9u * (b + 24u) + i];
            for (var j = 0u; j < 4u; j++) {
                let q = ws[9u * (a + 8u * j) + i];
                sums[j] += vec4<f32>(dot(q, x0), dot(q, x1), dot(q, x2), dot(q, x3));
            }
        }
        workgroupBarrier();
    }
    for (var j = 0u; j < 4u; j++) {
        let column = first_row + a + 8u * j;
        for (var i = 0u; i < 4u; i++) {
            let row = first_x + b + 8u * i;
            if (row < P.n && column < P.n_out) {
                finish(row, column, sums[j][i]);
            }
        }
    }
}
