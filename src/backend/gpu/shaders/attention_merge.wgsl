// out[i, h] = Σ exp(largest_p - largest) sum_p / Σ exp(largest_p - largest) total_p over the parts p that attention has left.
// Shapes: parts [rows, n_heads, n_splits, part]; out [rows, stride]. Mapping: one query of one head a workgroup, one element a thread.
// Parts without keys have the total 0 and a largest score that fades to nothing.
struct Params {
    head_dim: u32,
    stride: u32,
    n_heads: u32,
    n_splits: u32,
    part: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = (group.y * P.n_heads + group.x) * P.n_splits * P.part;
    var largest = -3.0e38;
    for (var p = 0u; p < P.n_splits; p++) {
        largest = max(largest, parts[first + p * P.part + P.head_dim]);
    }
    var total = 0.0;
    for (var p = 0u; p < P.n_splits; p++) {
        let at = first + p * P.part + P.head_dim;
        total += exp(parts[at] - largest) * parts[at + 1u];
    }
    for (var d = thread; d < P.head_dim; d += 64u) {
        var sum = 0.0;
        for (var p = 0u; p < P.n_splits; p++) {
            let at = first + p * P.part;
            sum += exp(parts[at + P.head_dim] - largest) * parts[at + d];
        }
        out[group.y * P.stride + group.x * P.head_dim + d] = sum / total;
    }
}
