// out[i, h] = softmax(scale q[i, h] K^T) V over the keys that query i sees, with the key-value head h / group, for few queries: decoding.
// Mapping: one part of the keys of one query of one head a workgroup. Keys pass in tiles of 64, one thread a key for the scores; then
// four elements of the head a thread, and as many keys side by side as the threads are enough for. The softmax is online, so no more than a
// tile of scores is ever kept. With more than one part, out is scratch: attention_merge puts the parts together.
// Needs: head_dim <= 256.
var<workgroup> query: array<vec4<f32>, 64>;
var<workgroup> scores: array<f32, 64>;
var<workgroup> weights: array<f32, 64>;
var<workgroup> sums: array<vec4<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.y * P.stride + group.x * P.head_dim;
    let kv_first = group.x / P.group * P.kv_dim;
    let n_keys = keys_of(group.y);
    let first_key = first_key_of(group.y);
    let per_split = (n_keys - first_key + 64u * P.n_splits - 1u) / (64u * P.n_splits) * 64u;
    let start = min(first_key + group.z * per_split, n_keys);
    let until = min(start + per_split, n_keys);
    let n_quads = (P.head_dim + 3u) / 4u;
    if (thread < n_quads) {
        var x = vec4<f32>(0.0);
        for (var i = 0u; i < min(4u, P.head_dim - 4u * thread); i++) {
            x[i] = q[first + 4u * thread + i];
        }
        query[thread] = x;
    }
    // Keys that are weighed side by side, which of them this thread takes, and which elements.
    let n_lanes = 64u / n_quads;
    let lane = thread / n_quads;
    let element = 4u * (thread % n_quads);
    workgroupBarrier();
    var largest = -3.0e38;
    var total = 0.0;
    var sum = vec4<f32>(0.0);
    for (var tile = start; tile < until; tile += 64u) {
        let n_tile = min(64u, until - tile);
        var score = -3.0e38;
        if (thread < n_tile) {
            let row = (tile + thread) * P.kv_stride + kv_first;
            var s = 0.0;
            for (var i = 0u; i < n_quads; i++) {
                s += dot(query[i], key4(row + 4u * i, P.head_dim - 4u * i));
            }
            score = score_of(s);
        }
        scores[thread] = score;
        workgroupBarrier();
        var tile_largest = largest;
        for (var i = 0u; i < n_tile; i++) {
            tile_largest = max(tile_largest, scores[i]);
        }
        let fade = exp(largest - tile_largest);
        largest = tile_largest;
        weights[thread] = exp(score - largest);
        workgroupBarrier();
        total *= fade;
        sum *= fade;
        for (var i = 0u; i < n_tile; i++) {
            total += weights[i];
        }
        if (lane < n_lanes) {
            for (var i = lane; i < n_tile; i += n_lanes) {
                sum += weights[i] * value4(P.v_first + (tile + i) * P.kv_stride + kv_first + element, P.head_dim - element);
            }
        }
    }
    sums[thread] = sum;
    workgroupBarrier();
    if (lane > 0u) {
        return;
    }
    for (var i = 1u; i < n_lanes; i++) {
        sum += sums[thread + i * n_quads];
    }
    var to = first + element;
    if (P.n_splits == 1u) {
        sum /= total;
    } else {
        let part = ((group.y * P.n_heads + group.x) * P.n_splits + group.z) * P.part;
        to = part + element;
        if (thread == 0u) {
            out[part + P.head_dim] = largest;
            out[part + P.head_dim + 1u] = total;
        }
    }
    for (var i = 0u; i < min(4u, P.head_dim - element); i++) {
        out[to + i] = sum[i];
    }
}
