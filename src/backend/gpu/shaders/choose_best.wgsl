// The largest logit of each 2048, with its lowest id, and whether one of them is no finite number.
// Shapes: logits [n]; best [parts] of (logit, id, not finite, 0) as bits. Mapping: one part a workgroup, every 256th of its logits a thread.
struct Params {
    n: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> best: array<vec4<u32>>;

var<workgroup> found: array<vec4<u32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    var mine = vec4<u32>(bitcast<u32>(-3.0e38), 0xffffffffu, 0u, 0u);
    let first = 2048u * group.x;
    for (var i = first + thread; i < min(first + 2048u, P.n); i += 256u) {
        let logit = logits[i];
        // Compilers may take it that there are no infinities: the bits tell.
        if ((bitcast<u32>(logit) & 0x7f800000u) == 0x7f800000u) {
            mine.z = 1u;
        } else if (logit > bitcast<f32>(mine.x)) {
            mine.x = bitcast<u32>(logit);
            mine.y = i;
        }
    }
    found[thread] = mine;
    workgroupBarrier();
    for (var n = 128u; n > 0u; n /= 2u) {
        if (thread < n) {
            let a = found[thread];
            let b = found[thread + n];
            let is_b = bitcast<f32>(b.x) > bitcast<f32>(a.x) || (b.x == a.x && b.y < a.y);
            found[thread] = vec4<u32>(select(a.xy, b.xy, is_b), a.z | b.z, 0u);
        }
        workgroupBarrier();
    }
    if (thread == 0u) {
        best[group.x] = found[0];
    }
}
