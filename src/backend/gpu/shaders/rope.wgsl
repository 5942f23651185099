// (x[a], x[b]) = (x[a] cos - x[b] sin, x[a] sin + x[b] cos) for each pair (a, b) of the first n_rot elements of each head.
// Shapes: x [rows, stride]; angles [n_ctx, angle_stride], a row holds n_rot / 2 cosines, then as many sines.
// Mapping: one thread a pair, one row of x a workgroup row.
struct Params {
    stride: u32,
    angle_stride: u32,
    n_pairs: u32,
    half: u32,
    head_dim: u32,
    halves: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> angles: array<f32>;
@group(0) @binding(2) var<storage, read_write> x: array<f32>;
@group(0) @binding(3) var<uniform> S: Step;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= P.n_pairs) {
        return;
    }
    let head = id.x / P.half;
    let pair = id.x % P.half;
    let first = id.y * P.stride + head * P.head_dim;
    let a = first + select(2u * pair, pair, P.halves == 1u);
    let b = select(a + 1u, a + P.half, P.halves == 1u);
    let angle = (S.position + id.y) * P.angle_stride + pair;
    let c = angles[angle];
    let s = angles[angle + P.half];
    let v = vec2<f32>(x[a], x[b]);
    x[a] = v.x * c - v.y * s;
    x[b] = v.x * s + v.y * c;
}
