// What the attention kernels share: their operands. A fragment defines keys_of: behind the last key that a query sees.
// Shapes: q [rows, stride]; k, v [keys, kv_stride], values from v_first on, through a fragment that defines key4 and value4.
struct Params {
    head_dim: u32,
    // Query heads that share a head of keys and values.
    group: u32,
    stride: u32,
    kv_stride: u32,
    // From one head of keys to the next.
    kv_dim: u32,
    v_first: u32,
    // Queries.
    n: u32,
    // Keys that each query sees; 0 where it depends on query i's own slot, S.position + i.
    n_keys: u32,
    scale: f32,
    // Parts that a query's keys are cut into.
    n_splits: u32,
    n_heads: u32,
    // Elements of a part's result: those of the head, the largest score, the sum of weights.
    part: u32,
    // Keys up to its own that a query sees at most; 0 for all.
    window: u32,
    // Scores are bent into (-softcap, softcap); 0 where they are not.
    softcap: f32,
    // The word at which scales begin, where keys and values have such.
    scales: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<uniform> S: Step;

// Behind the last key that a query sees by its own slot.
fn own_end(query: u32) -> u32 {
    return select(P.n_keys, S.position + query + 1u, P.n_keys == 0u);
}

// The first key that it sees.
fn first_key_of(query: u32) -> u32 {
    let n = own_end(query);
    return select(n - min(n, P.window), 0u, P.window == 0u);
}

fn score_of(product: f32) -> f32 {
    let score = product * P.scale;
    if (P.softcap == 0.0) {
        return score;
    }
    // Some drivers' tanh is not a number far from 0; beyond 15 it is 1 in 32 bits.
    return P.softcap * tanh(clamp(score / P.softcap, -15.0, 15.0));
}
