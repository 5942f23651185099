// How many logits are at which distance from the largest, 2048 distances to a bin, and the sums of their weights at temperature 1.
// Shapes: logits [n], their bits; best [n_parts] of choose_best; histogram [2048] of (count, and of the weights the sums of bits 0 to 9, 10 to
// 19, and from 20 on, none of which is too large for 32 bits). Mapping: one part a workgroup, every 256th of its logits a thread.
@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> best: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> histogram: array<atomic<u32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var key = 0u;
    for (var i = 0u; i < P.n_parts; i++) {
        key = max(key, best[i].x);
    }
    let largest = of_key(key);
    let first = P.part * group.x;
    for (var i = first + thread; i < min(first + P.part, P.n); i += 256u) {
        let bits = logits[i];
        if (bits == MINUS_INFINITY) {
            continue;
        }
        let distance = distance_of(largest, bits);
        let bin = 4u * min(distance >> 11u, 2047u);
        atomicAdd(&histogram[bin], 1u);
        let weight = weight_at(distance, P.plain);
        if (weight > 0u) {
            atomicAdd(&histogram[bin + 1u], weight & 0x3ffu);
            atomicAdd(&histogram[bin + 2u], (weight >> 10u) & 0x3ffu);
            atomicAdd(&histogram[bin + 3u], weight >> 20u);
        }
    }
}
