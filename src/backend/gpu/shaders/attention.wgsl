// out[i, h] = softmax(scale q[i, h] K^T) V over the keys that query i sees, with the key-value head h / group.
// Shapes: q, out [rows, stride]; k, v [keys, kv_stride] through a fragment that defines key4 and value.
// Mapping: one query of one head a workgroup. Keys pass in tiles of 64, one thread a key for the scores, then one thread up to four
// elements of the head for the values; the softmax is online, so no more than a tile of scores is ever kept.
// Needs: head_dim <= 256.
struct Params {
    head_dim: u32,
    group: u32,
    stride: u32,
    kv_stride: u32,
    // Keys that the first query sees; each later one sees `more` further ones.
    n_keys: u32,
    more: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

var<workgroup> query: array<vec4<f32>, 64>;
var<workgroup> scores: array<f32, 64>;
var<workgroup> weights: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.y * P.stride + group.x * P.head_dim;
    let kv_first = group.x / P.group * P.head_dim;
    let n_keys = P.n_keys + P.more * group.y;
    let n_quads = (P.head_dim + 3u) / 4u;
    if (thread < n_quads) {
        var x = vec4<f32>(0.0);
        for (var i = 0u; i < min(4u, P.head_dim - 4u * thread); i++) {
            x[i] = q[first + 4u * thread + i];
        }
        query[thread] = x;
    }
    workgroupBarrier();
    var largest = -3.0e38;
    var total = 0.0;
    var sum = vec4<f32>(0.0);
    for (var tile = 0u; tile < n_keys; tile += 64u) {
        let n_tile = min(64u, n_keys - tile);
        var score = -3.0e38;
        if (thread < n_tile) {
            let row = (tile + thread) * P.kv_stride + kv_first;
            var s = 0.0;
            for (var i = 0u; i < n_quads; i++) {
                s += dot(query[i], key4(row + 4u * i, P.head_dim - 4u * i));
            }
            score = s * P.scale;
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
            let weight = weights[i];
            total += weight;
            let row = (tile + i) * P.kv_stride + kv_first;
            for (var j = 0u; j < 4u; j++) {
                let d = thread + 64u * j;
                if (d < P.head_dim) {
                    sum[j] += weight * value(row + d);
                }
            }
        }
    }
    for (var j = 0u; j < 4u; j++) {
        let d = thread + 64u * j;
        if (d < P.head_dim) {
            out[first + d] = sum[j] / total;
        }
    }
}
