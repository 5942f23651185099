// 32 elements of a row of x as the products of decoding take them, and what they need of them besides: the sums of both halves
// (for formats with minima) and the sum of squares (for the norm of the row).
struct Input {
    x0: vec4<f32>,
    x1: vec4<f32>,
    x2: vec4<f32>,
    x3: vec4<f32>,
    x4: vec4<f32>,
    x5: vec4<f32>,
    x6: vec4<f32>,
    x7: vec4<f32>,
    sums: vec2<f32>,
    square: f32,
}

fn sum4(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

// Block `b` of the row that begins at vec4 `xs`, times gain (one, or the weights of a norm).
fn input(xs: u32, b: u32) -> Input {
    let i = xs + 8u * b;
    let r0 = x[i];
    let r1 = x[i + 1u];
    let r2 = x[i + 2u];
    let r3 = x[i + 3u];
    let r4 = x[i + 4u];
    let r5 = x[i + 5u];
    let r6 = x[i + 6u];
    let r7 = x[i + 7u];
    let square = ((dot(r0, r0) + dot(r1, r1)) + (dot(r2, r2) + dot(r3, r3))) + ((dot(r4, r4) + dot(r5, r5)) + (dot(r6, r6) + dot(r7, r7)));
    let j = 8u * b;
    let x0 = r0 * gain(j);
    let x1 = r1 * gain(j + 1u);
    let x2 = r2 * gain(j + 2u);
    let x3 = r3 * gain(j + 3u);
    let x4 = r4 * gain(j + 4u);
    let x5 = r5 * gain(j + 5u);
    let x6 = r6 * gain(j + 6u);
    let x7 = r7 * gain(j + 7u);
    let sums = vec2<f32>(sum4((x0 + x1) + (x2 + x3)), sum4((x4 + x5) + (x6 + x7)));
    return Input(x0, x1, x2, x3, x4, x5, x6, x7, sums, square);
}
