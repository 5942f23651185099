// y = x W^T for many rows of x: prefill and the vision tower.
// Mapping: a tile of 64 rows of W by 64 rows of x a workgroup, 8 by 8 of them a thread, so that a vec4 from workgroup memory serves 32
// multiply-adds (mat_mul: 16). Block by block of 32 elements each thread decodes the block of one row of W and loads as much of x. Both tiles
// take 16 KiB together, all that is sure to be there; so rows are not padded, but their eight vec4s change places with the row.
// Quad is what a vec4 is kept as there: vec4<f32>, or vec4<f16> where shaders have it; sums have 32 bits.
var<workgroup> ws: array<Quad, 512>;
var<workgroup> xs: array<Quad, 512>;

fn place(row: u32, i: u32) -> u32 {
    return 8u * row + (i ^ (row & 7u));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_row = 64u * group.x;
    let first_x = 64u * group.y;
    let a = thread & 7u;
    let b = thread >> 3u;
    // sums[2 j] and sums[2 j + 1]: row a + 8 j of W with the rows b + 8 i of x, i = 0..4 and 4..8.
    var sums = array<vec4<f32>, 16>();
    let w_row = min(first_row + thread, P.n_out - 1u) * P.row_blocks;
    for (var block = 0u; block < P.row_blocks; block++) {
        let q = w_weights(w_row + block);
        ws[place(thread, 0u)] = quad(q[0]);
        ws[place(thread, 1u)] = quad(q[1]);
        ws[place(thread, 2u)] = quad(q[2]);
        ws[place(thread, 3u)] = quad(q[3]);
        ws[place(thread, 4u)] = quad(q[4]);
        ws[place(thread, 5u)] = quad(q[5]);
        ws[place(thread, 6u)] = quad(q[6]);
        ws[place(thread, 7u)] = quad(q[7]);
        for (var i = 0u; i < 8u; i++) {
            let row = b + 8u * i;
            xs[place(row, a)] = quad(x[min(first_x + row, P.n - 1u) * P.x_stride + 8u * block + a]);
        }
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
            let x0 = vec4<f32>(xs[place(b, i)]);
            let x1 = vec4<f32>(xs[place(b + 8u, i)]);
            let x2 = vec4<f32>(xs[place(b + 16u, i)]);
            let x3 = vec4<f32>(xs[place(b + 24u, i)]);
            let x4 = vec4<f32>(xs[place(b + 32u, i)]);
            let x5 = vec4<f32>(xs[place(b + 40u, i)]);
            let x6 = vec4<f32>(xs[place(b + 48u, i)]);
            let x7 = vec4<f32>(xs[place(b + 56u, i)]);
            for (var j = 0u; j < 8u; j++) {
                let w = vec4<f32>(ws[place(a + 8u * j, i)]);
                sums[2u * j] += vec4<f32>(dot(w, x0), dot(w, x1), dot(w, x2), dot(w, x3));
                sums[2u * j + 1u] += vec4<f32>(dot(w, x4), dot(w, x5), dot(w, x6), dot(w, x7));
            }
        }
        workgroupBarrier();
    }
    for (var j = 0u; j < 8u; j++) {
        let column = first_row + a + 8u * j;
        for (var i = 0u; i < 8u; i++) {
            let row = first_x + b + 8u * i;
            if (row < P.n && column < P.n_out) {
                finish(row, column, sums[2u * j + (i >> 2u)][i & 3u]);
            }
        }
    }
}
