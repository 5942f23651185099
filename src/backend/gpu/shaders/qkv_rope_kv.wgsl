// q = rope(n Wq^T + bq), keys[position + i] = rope(n Wk^T + bk), values[position + i] = n Wv^T + bv, n = rms_norm(x), for few rows of x: decoding.
// Shapes: q_w, k_w, v_w in planes of blocks of 32, formats apart; x [rows, x_stride], x_stride in vec4; norm [x_stride] with the biases of q, k
// and v behind it, where there are any; angles [n_ctx, angle_stride], a row holds `half` cosines, then as many sines; q [rows, q_stride];
// kv keys [n_ctx, kv_stride], then values from v_first on; where a fragment's kv_row says so, rows of them that are on their way to the cache.
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
    kv_stride: u32,
    v_first: u32,
    angle_stride: u32,
    half: u32,
    head_dim: u32,
    halves: u32,
    // Workgroups of q, and those of q and k.
    q_groups: u32,
    qk_groups: u32,
    n_cols: f32,
    eps: f32,
    // Where the biases of q, k and v begin, in floats; 0 where there is none.
    biases: vec3<u32>,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> norm: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> q_w: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> k_w: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> v_w: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> angles: array<f32>;
@group(0) @binding(7) var<storage, read_write> q: array<f32>;
@group(0) @binding(9) var<uniform> S: Step;

var<workgroup> products: array<f32, 4>;

fn bias_of(start: u32, row: u32) -> f32 {
    if (start == 0u) {
        return 0.0;
    }
    let i = start + row;
    return norm[i >> 2u][i & 3u];
}

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
    var sum = vec3<f32>(0.0);
    if (is_q) {
        for (var b = lane; b < P.row_blocks; b += 16u) {
            let part = input(xs, b);
            sum += vec3<f32>(q_dot(row * P.row_blocks + b, part), 0.0, part.square);
        }
    } else if (is_v) {
        for (var b = lane; b < P.row_blocks; b += 16u) {
            let part = input(xs, b);
            sum += vec3<f32>(v_dot(row * P.row_blocks + b, part), 0.0, part.square);
        }
    } else {
        for (var b = lane; b < P.row_blocks; b += 16u) {
            let part = input(xs, b);
            sum += vec3<f32>(k_dot(row * P.row_blocks + b, part), 0.0, part.square);
        }
    }
    let total = sum16(thread, sum);
    if (lane == 0u) {
        let bias = select(select(P.biases.y, P.biases.x, is_q), P.biases.z, is_v);
        products[r] = total.x * scale_of(total.z) + bias_of(bias, row);
    }
    workgroupBarrier();
    if (thread > 0u) {
        return;
    }
    var y = vec4<f32>(products[0], products[1], products[2], products[3]);
    let position = S.position + group.y;
    if (is_turned) {
        let angle = position * P.angle_stride + 2u * in_head;
        let c = vec2<f32>(angles[angle], angles[angle + 1u]);
        let s = vec2<f32>(angles[angle + P.half], angles[angle + P.half + 1u]);
        if (is_apart) {
            y = vec4<f32>(y.xy * c - y.zw * s, y.xy * s + y.zw * c);
        } else {
            y = vec4<f32>(y.x * c.x - y.y * s.x, y.x * s.x + y.y * c.x, y.z * c.y - y.w * s.y, y.z * s.y + y.w * c.y);
        }
    }
    if (is_q) {
        let to = group.y * P.q_stride;
        q[to + first] = y.x;
        q[to + first + 1u] = y.y;
        q[to + second] = y.z;
        q[to + second + 1u] = y.w;
    } else {
        let to = kv_row(position, group.y) * P.kv_stride + select(0u, P.v_first, is_v);
        store(to + first, y.xy);
        store(to + second, y.zw);
    }
}
