// The tokens among which the last one that top-k, or top-p, keeps must be: those of all bins up to its own.
// Shapes: logits [n], their bits; best [n_parts]; histogram [2048]; candidates [n] of (distance, id), those of a part from the part's first place on
// in the order of their ids; counts [n_parts]. Mapping: one part a workgroup, a stretch of its logits a thread.
@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> best: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> histogram: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> candidates: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;

var<workgroup> taken: array<u32, 256>;

fn bin_at(is_fine: bool, i: u32) -> Totals {
    return coarse_bin(i);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var key = 0u;
    for (var i = 0u; i < P.n_parts; i++) {
        key = max(key, best[i].x);
    }
    let largest = of_key(key);
    var last: u32;
    if (P.top_k > 0u) {
        last = find(thread, false, P.top_k, vec2<u32>(0u)).x;
    } else {
        let wanted = share(totals(thread).zw, P.top_p);
        last = find(thread, false, 0u, max(wanted, vec2<u32>(select(0u, 1u, wanted.y == 0u), 0u))).x;
    }
    let stretch = P.part / 256u;
    let start = min(P.part * group.x + stretch * thread, P.n);
    let until = min(start + stretch, P.n);
    // A part of a vocabulary of half a million has 8 logits for each thread, which are not kept: they are read twice, the second time from the
    // nearest cache.
    var mine = 0u;
    for (var i = start; i < until; i++) {
        let bits = logits[i];
        mine += select(0u, 1u, bits != MINUS_INFINITY && distance_of(largest, bits) >> 11u <= last);
    }
    taken[thread] = mine;
    workgroupBarrier();
    var place = 0u;
    for (var i = 0u; i < thread; i++) {
        place += taken[i];
    }
    if (thread == 255u) {
        counts[group.x] = place + mine;
    }
    place += P.part * group.x;
    for (var i = start; i < until; i++) {
        let bits = logits[i];
        let distance = distance_of(largest, bits);
        if (bits != MINUS_INFINITY && distance >> 11u <= last) {
            candidates[place] = vec2<u32>(distance, i);
            place++;
        }
    }
}
