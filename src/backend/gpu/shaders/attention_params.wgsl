// What the attention kernels share: their operands.
// Shapes: q [rows, stride]; k, v [keys, kv_stride], values from v_first on, through a fragment that defines key4 and value4.
struct Params {
    head_dim: u32,
    // Query heads that share a head of keys and values.
    group: u32,
    stride: u32,
    kv_stride: u32,
    v_first: u32,
    // Queries.
    n: u32,
    // Keys that each query sees; 0 where query i sees those up to its own position, S.position + i.
    n_keys: u32,
    scale: f32,
    // Parts that a query's keys are cut into.
    n_splits: u32,
    n_heads: u32,
    // Elements of a part's result: those of the head, the largest score, the sum of weights.
    part: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<uniform> S: Step;

fn keys_of(query: u32) -> u32 {
    return select(P.n_keys, S.position + query + 1u, P.n_keys == 0u);
}
