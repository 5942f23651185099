// Behind the last key that a query sees: its own, or where spans of slots see each other, the end of its span. Ends [n_ctx], 0 for none.
@group(0) @binding(4) var<storage, read> ends: array<f32>;

fn keys_of(query: u32) -> u32 {
    // Queries beyond the last, which tiles have, have no slot.
    return max(own_end(query), u32(ends[S.position + min(query, P.n - 1u)]));
}
