// The largest logit of each part, with its lowest id, and whether one of them is no number or plus infinity. Clears the histogram besides.
// Shapes: logits [n], their bits; best [n_parts] of (key, id, no number, 0), the key zero where all logits are minus infinity.
// Mapping: one part a workgroup, every 256th of its logits a thread.
@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read_write> best: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> histogram: array<vec4<u32>>;

var<workgroup> found: array<vec4<u32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var i = 256u * group.x + thread; i < 2048u; i += 256u * P.n_parts) {
        histogram[i] = vec4<u32>(0u);
    }
    var mine = vec4<u32>(0u, 0xffffffffu, 0u, 0u);
    let first = P.part * group.x;
    for (var i = first + thread; i < min(first + P.part, P.n); i += 256u) {
        // Compilers may take it that there are no infinities: the bits tell.
        let bits = logits[i];
        if (bits == MINUS_INFINITY) {
            continue;
        }
        let key = key_of(bits);
        if ((bits & 0x7f800000u) == 0x7f800000u) {
            mine.z = 1u;
        } else if (key > mine.x) {
            mine.x = key;
            mine.y = i;
        }
    }
    found[thread] = mine;
    workgroupBarrier();
    for (var n = 128u; n > 0u; n /= 2u) {
        if (thread < n) {
            let a = found[thread];
            let b = found[thread + n];
            let is_b = b.x > a.x || (b.x == a.x && b.y < a.y);
            found[thread] = vec4<u32>(select(a.xy, b.xy, is_b), a.z | b.z, 0u);
        }
        workgroupBarrier();
    }
    if (thread == 0u) {
        best[group.x] = found[0];
    }
}
