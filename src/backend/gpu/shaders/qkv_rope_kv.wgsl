// q = rope(x Wq^T), k_cache[position + i] = rope(x Wk^T), v_cache[position + i] = x Wv^T for few rows of x: decoding.
// Shapes: q_w, k_w, v_w in planes of blocks of 32, formats apart; x [rows, x_stride], x_stride in vec4; angles [n_ctx, angle_stride], a
// row holds `half` cosines, then as many sines; q [rows, q_stride]; caches [n_ctx, cache_stride].
// Mapping: as mat_vec, four rows of one of the matrices a workgroup: those of q first, then k, then v. The four are two pairs that
// rope turns together, and at the same time two pairs of neighbours, which is what a cache of halves takes.
// Needs: head_dim and 2 half multiples of 4.
struct Params {
    q_n_blocks: u32,
    k_n_blocks: u32,
    v_n_blocks: u32,
    row_blocks: u32,
    x_stride: u32,
    q_stride: u32,
    cache_stride: u32,
    position: u32,
    angle_stride: u32,
    half: u32,
    head_dim: u32,
    halves: u32,
    // Workgroups of q, and those of q and k.
    q_groups: u32,
    qk_groups: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> q_w: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> k_w: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> v_w: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> angles: array<f32>;
@group(0) @binding(6) var<storage, read_write> q: array<f32>;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let is_q = group.x < P.q_groups;
    let is_v = group.x >= P.qk_groups;
    // Four rows: of which matrix the how manieth, in which head, and the how manieth there.
    let four = group.x - select(select(P.q_groups, 0u, is_q), P.qk_groups, is_v);
    let head = 4u * four / P.head_dim * P.head_dim;
    let in_head = four - head / 4u;
    let is_turned = !is_v && 4u * in_head < 2u * P.half;
    let is_apart = is_turned && P.halves == 1u;
    // The neighbours `first`, `first + 1` and `second`, `second + 1`.
    let first = select(4u * four, head + 2u * in_head, is_apart);
    let second = first + select(2u, P.half, is_apart);

    let lane = thread & 15u;
    let r = thread >> 4u;
    let row = select(first, second, r >= 2u) + (r & 1u);
    let xs = group.y * P.x_stride;
    var sum = 0.0;
    if (is_q) {
        sum = q_row_part(row, lane, xs);
    } else if (is_v) {
        sum = v_row_part(row, lane, xs);
    } else {
        sum = k_row_part(row, lane, xs);
    }
    sums[thread] = sum;
    workgroupBarrier();
    if (thread > 0u) {
        return;
    }
    var y = vec4<f32>(0.0);
    for (var i = 0u; i < 16u; i++) {
        y += vec4<f32>(sums[i], sums[16u + i], sums[32u + i], sums[48u + i]);
    }
    if (is_turned) {
        let angle = (P.position + group.y) * P.angle_stride + 2u * in_head;
        let c = vec2<f32>(angles[angle], angles[angle + 1u]);
        let s = vec2<f32>(angles[angle + P.half], angles[angle + P.half + 1u]);
        if (is_apart) {
            y = vec4<f32>(y.xy * c - y.zw * s, y.xy * s + y.zw * c);
        } else {
            y = vec4<f32>(y.x * c.x - y.y * s.x, y.x * s.x + y.y * c.x, y.z * c.y - y.w * s.y, y.z * s.y + y.w * c.y);
        }
    }
    let at = (P.position + group.y) * P.cache_stride;
    if (is_q) {
        let to = group.y * P.q_stride;
        q[to + first] = y.x;
        q[to + first + 1u] = y.y;
        q[to + second] = y.z;
        q[to + second + 1u] = y.w;
    } else if (is_v) {
        store_v(at + first, y.xy);
        store_v(at + second, y.zw);
    } else {
        store_k(at + first, y.xy);
        store_k(at + second, y.zw);
    }
}
