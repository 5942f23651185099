// y = x W^T for many rows of x in signed bytes (quantize_rows) and weights of a quantized format: four products to an instruction.
// A block's sum is scale (d · Σ q x) + m · Σ x for each half, exactly as the CPU's kernels have it.
// Mapping: a tile of 64 rows of W by 64 rows of x a workgroup, 8 by 8 of them a thread. Each thread unpacks the block of one row of W and
// loads that of one row of x.
var<workgroup> ws: array<vec4<u32>, 128>;
var<workgroup> ds: array<vec4<f32>, 64>;
var<workgroup> xs: array<vec4<u32>, 128>;
var<workgroup> es: array<vec4<f32>, 64>;

fn dot16(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return (dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y)) + (dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_row = 64u * group.x;
    let first_x = 64u * group.y;
    let a = thread & 7u;
    let b = thread >> 3u;
    // sums[8 j + i]: row a + 8 j of W with row b + 8 i of x.
    var sums = array<f32, 64>();
    let w_row = min(first_row + thread, P.n_out - 1u) * P.row_blocks;
    let x_row = min(first_x + thread, P.n - 1u) * P.row_blocks;
    for (var block = 0u; block < P.row_blocks; block++) {
        let w = w_block(w_row + block);
        // The first halves of all rows, then the second ones: neighbours meet different banks.
        ws[thread] = w.q0;
        ws[64u + thread] = w.q1;
        ds[thread] = vec4<f32>(w.d, w.m);
        let at = x_row + block;
        xs[thread] = x_bytes[2u * at];
        xs[64u + thread] = x_bytes[2u * at + 1u];
        es[thread] = x_scales[at];
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) {
            let x0 = xs[b + 8u * i];
            let x1 = xs[64u + b + 8u * i];
            let e = es[b + 8u * i];
            for (var j = 0u; j < 8u; j++) {
                let row = a + 8u * j;
                let d = ds[row];
                let p = vec2<f32>(f32(dot16(x0, ws[row])), f32(dot16(x1, ws[64u + row])));
                sums[8u * j + i] += e.x * dot(d.xy, p) + dot(d.zw, e.yz);
            }
        }
        workgroupBarrier();
    }
    for (var j = 0u; j < 8u; j++) {
        let column = first_row + a + 8u * j;
        for (var i = 0u; i < 8u; i++) {
            let row = first_x + b + 8u * i;
            if (row < P.n && column < P.n_out) {
                finish(row, column, sums[8u * j + i]);
            }
        }
    }
}
