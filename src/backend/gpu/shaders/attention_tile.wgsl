// out[i, h] = softmax(scale q[i, h] K^T) V over the keys that query i sees, with the key-value head h / group, for many queries: prefill and
// the vision tower.
// Mapping: 32 queries of one head a workgroup. Keys pass in tiles of 32: their scores (4 by 4 a thread, through workgroup memory in pieces of 32
// elements of the head), an online softmax (one thread a query), then the weighted values (4 queries by four elements a thread and piece).
// COLS pieces make a head; only a tile of scores is ever kept.
// Needs: head_dim a multiple of 4, at most 32 COLS.
var<workgroup> qs: array<vec4<f32>, 288>;
var<workgroup> ks: array<vec4<f32>, 288>;
// Scores, then weights: query by key, rows 33 apart.
var<workgroup> ss: array<f32, 1056>;
var<workgroup> fades: array<f32, 32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = group.x * P.head_dim;
    let kv_first = group.x / P.group * P.kv_dim;
    let first = 32u * group.y;
    let a = thread & 7u;
    let b = thread >> 3u;
    let n_keys = keys_of(min(first + 31u, P.n - 1u));
    // sums[COLS i + c]: elements 32 c + 4 a of query b + 8 i.
    var sums = array<vec4<f32>, 4u * COLS>();
    var largest = -3.0e38;
    var total = 0.0;
    for (var tile = first_key_of(first); tile < n_keys; tile += 32u) {
        var s = array<vec4<f32>, 4>();
        for (var c = 0u; c < COLS; c++) {
            let element = 32u * c + 4u * a;
            for (var i = 0u; i < 4u; i++) {
                let row = b + 8u * i;
                var x = vec4<f32>(0.0);
                var y = vec4<f32>(0.0);
                if (element < P.head_dim) {
                    let at = min(first + row, P.n - 1u) * P.stride + head + element;
                    x = vec4<f32>(q[at], q[at + 1u], q[at + 2u], q[at + 3u]);
                    y = key4(min(tile + row, n_keys - 1u) * P.kv_stride + kv_first + element, 4u);
                }
                qs[9u * row + a] = x;
                ks[9u * row + a] = y;
            }
            workgroupBarrier();
            for (var i = 0u; i < 8u; i++) {
                let x0 = qs[9u * b + i];
                let x1 = qs[9u * (b + 8u) + i];
                let x2 = qs[9u * (b + 16u) + i];
                let x3 = qs[9u * (b + 24u) + i];
                for (var j = 0u; j < 4u; j++) {
                    let y = ks[9u * (a + 8u * j) + i];
                    s[j] += vec4<f32>(dot(x0, y), dot(x1, y), dot(x2, y), dot(x3, y));
                }
            }
            workgroupBarrier();
        }
        for (var j = 0u; j < 4u; j++) {
            for (var i = 0u; i < 4u; i++) {
                ss[33u * (b + 8u * i) + a + 8u * j] = score_of(s[j][i]);
            }
        }
        workgroupBarrier();
        if (thread < 32u) {
            let seen = keys_of(first + thread);
            let n_tile = min(32u, max(seen, tile) - tile);
            let unseen = max(first_key_of(first + thread), tile) - tile;
            var tile_largest = largest;
            for (var i = unseen; i < n_tile; i++) {
                tile_largest = max(tile_largest, ss[33u * thread + i]);
            }
            let fade = exp(largest - tile_largest);
            largest = tile_largest;
            total *= fade;
            for (var i = 0u; i < 32u; i++) {
                var weight = 0.0;
                if (i >= unseen && i < n_tile) {
                    weight = exp(ss[33u * thread + i] - largest);
                }
                ss[33u * thread + i] = weight;
                total += weight;
            }
            fades[thread] = fade;
        }
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let fade = fades[b + 8u * i];
            for (var c = 0u; c < COLS; c++) {
                sums[COLS * i + c] *= fade;
            }
        }
        for (var c = 0u; c < COLS; c++) {
            let element = 32u * c + 4u * a;
            for (var i = 0u; i < 4u; i++) {
                let row = b + 8u * i;
                var y = vec4<f32>(0.0);
                if (element < P.head_dim) {
                    y = value4(P.v_first + min(tile + row, n_keys - 1u) * P.kv_stride + kv_first + element, 4u);
                }
                ks[9u * row + a] = y;
            }
            workgroupBarrier();
            for (var i = 0u; i < 32u; i++) {
                let y = ks[9u * i + a];
                sums[c] += ss[33u * b + i] * y;
                sums[COLS + c] += ss[33u * (b + 8u) + i] * y;
                sums[2u * COLS + c] += ss[33u * (b + 16u) + i] * y;
                sums[3u * COLS + c] += ss[33u * (b + 24u) + i] * y;
            }
            workgroupBarrier();
        }
    }
    if (thread < 32u) {
        fades[thread] = 1.0 / total;
    }
    workgroupBarrier();
    for (var i = 0u; i < 4u; i++) {
        let row = b + 8u * i;
        if (first + row < P.n) {
            for (var c = 0u; c < COLS; c++) {
                let element = 32u * c + 4u * a;
                if (element < P.head_dim) {
                    let to = (first + row) * P.stride + head + element;
                    let y = sums[COLS * i + c] * fades[row];
                    out[to] = y.x;
                    out[to + 1u] = y.y;
                    out[to + 2u] = y.z;
                    out[to + 3u] = y.w;
                }
            }
        }
    }
}
