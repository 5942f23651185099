// What thread `lane` of 16 adds to the product of row `row` of a matrix (a template, see plane.wgsl) with the vec4s of x from `xs` on:
// every 16th block.
fn M_row_part(row: u32, lane: u32, xs: u32) -> f32 {
    var sum = 0.0;
    for (var b = lane; b < P.row_blocks; b += 16u) {
        let q = M_weights(row * P.row_blocks + b);
        let i = xs + 8u * b;
        sum += dot(q[0], x[i]) + dot(q[1], x[i + 1u]) + dot(q[2], x[i + 2u]) + dot(q[3], x[i + 3u])
            + dot(q[4], x[i + 4u]) + dot(q[5], x[i + 5u]) + dot(q[6], x[i + 6u]) + dot(q[7], x[i + 7u]);
    }
    return sum;
}
