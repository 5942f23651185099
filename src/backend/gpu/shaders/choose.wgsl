// Chooses a token by its logits: the likeliest, or one drawn from the distribution that top-k, top-p, min-p and the temperature leave, as
// backend/choice.rs defines it, to the bit. chosen[0] is its id, or all ones where a logit is no number or plus infinity, or all are minus infinity.
// Shapes: logits [n], their bits; best [n_parts] of choose_best; histogram [2048] of choose_histogram; candidates [n] and counts [n_parts] of
// choose_candidates (these three only with top-k or top-p).
// Mapping: one workgroup. With top-k or top-p it sees the candidates alone, a stretch of them a thread: a border in the histogram's bins, then
// in the distances of one bin, each found in one pass; the draw goes through the tokens in the order of their ids, the sums of all stretches first.
@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> logits: array<u32>;
@group(0) @binding(2) var<storage, read> best: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> histogram: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> candidates: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> counts: array<u32>;
@group(0) @binding(6) var<storage, read_write> chosen: array<u32>;
@group(0) @binding(7) var<uniform> S: Step;

// How many candidates are at each distance of one bin, and which bin that is.
var<workgroup> fine: array<atomic<u32>, 2048>;
var<workgroup> fine_bin: u32;
// Of each stretch: tokens at the last distance that is kept, and the mass of those before it.
var<workgroup> tied: array<u32, 256>;
var<workgroup> masses: array<vec2<u32>, 256>;

// A token: its distance, or all ones where it is ruled out, and its id.
struct Token {
    distance: u32,
    id: u32,
}

// Where a thread is: the part and the place in it, of the candidates; else the id.
struct Cursor {
    part: u32,
    at: u32,
}

fn is_selecting() -> bool {
    return P.top_k > 0u || P.has_top_p > 0u;
}

fn bin_at(is_fine: bool, i: u32) -> Totals {
    if (!is_fine) {
        return coarse_bin(i);
    }
    let count = atomicLoad(&fine[i]);
    return Totals(count, mul32(count, weight_at((fine_bin << 11u) | i, P.plain)));
}

fn cursor(start: u32) -> Cursor {
    var c = Cursor(0u, start);
    if (is_selecting()) {
        while (c.part < P.n_parts && c.at >= counts[c.part]) {
            c.at -= counts[c.part];
            c.part++;
        }
    }
    return c;
}

fn token_at(c: Cursor, largest: f32) -> Token {
    if (is_selecting()) {
        let candidate = candidates[P.part * c.part + c.at];
        return Token(candidate.x, candidate.y);
    }
    let bits = logits[c.at];
    return Token(select(distance_of(largest, bits), 0xffffffffu, bits == MINUS_INFINITY), c.at);
}

fn next(c: Cursor) -> Cursor {
    var n = Cursor(c.part, c.at + 1u);
    if (is_selecting()) {
        while (n.part < P.n_parts && n.at == counts[n.part]) {
            n = Cursor(n.part + 1u, 0u);
        }
    }
    return n;
}

// Counts the candidates of one bin by their distance.
fn count_fine(thread: u32, bin: u32, start: u32, until: u32) {
    for (var i = thread; i < 2048u; i += 256u) {
        atomicStore(&fine[i], 0u);
    }
    if (thread == 0u) {
        fine_bin = bin;
    }
    workgroupBarrier();
    var c = cursor(start);
    for (var i = start; i < until; i++) {
        let distance = token_at(c, 0.0).distance;
        if (distance >> 11u == bin) {
            atomicAdd(&fine[distance & 2047u], 1u);
        }
        c = next(c);
    }
    workgroupBarrier();
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var top = best[0];
    for (var i = 1u; i < P.n_parts; i++) {
        let part = best[i];
        top = vec4<u32>(select(top.xy, part.xy, part.x > top.x), top.z | part.z, 0u);
    }
    let is_sound = top.z == 0u && top.x > 0u;
    if (P.is_greedy > 0u || !is_sound) {
        if (thread == 0u) {
            chosen[0] = select(0xffffffffu, top.y, is_sound);
        }
        return;
    }
    let largest = of_key(top.x);
    var n = P.n;
    if (is_selecting()) {
        n = 0u;
        for (var i = 0u; i < P.n_parts; i++) {
            n += counts[i];
        }
    }
    let stretch = (n + 255u) / 256u;
    let start = min(stretch * thread, n);
    let until = min(start + stretch, n);
    // The last distance that is kept, and how many of the tokens at it.
    var last = 4194303u;
    var ties = P.n;
    if (is_selecting()) {
        let all = totals(thread);
        var mass = all.zw;
        if (P.top_k > 0u && P.top_k < all.y) {
            let bin = find(thread, false, P.top_k, vec2<u32>(0u));
            count_fine(thread, bin.x, start, until);
            let border = find(thread, true, P.top_k - bin.y, vec2<u32>(0u));
            last = (bin.x << 11u) | border.x;
            ties = P.top_k - bin.y - border.y;
            mass = add64(add64(bin.zw, border.zw), mul32(ties, weight_at(last, P.plain)));
        }
        if (P.has_top_p > 0u) {
            var wanted = share(mass, P.top_p);
            wanted.x = max(wanted.x, select(0u, 1u, wanted.y == 0u));
            let bin = find(thread, false, 0u, wanted);
            count_fine(thread, bin.x, start, until);
            let border = find(thread, true, 0u, sub64(wanted, bin.zw));
            let nucleus = (bin.x << 11u) | border.x;
            // The fewest of its tokens that are enough; all of them are, or one would be if there is no mass.
            let rest = sub64(sub64(wanted, bin.zw), border.zw);
            let weight = weight_at(nucleus, P.plain);
            var needed = 0u;
            for (var bit = 0x80000000u; bit > 0u; bit /= 2u) {
                if (less64(mul32(needed + (bit - 1u), weight), rest)) {
                    needed += bit;
                }
            }
            needed = max(needed, 1u);
            if (nucleus < last) {
                last = nucleus;
                ties = needed;
            } else if (nucleus == last) {
                ties = min(ties, needed);
            }
        }
    }
    if (P.farthest < last) {
        last = P.farthest;
        ties = P.n;
    }
    var mine = 0u;
    var mass = vec2<u32>(0u);
    var c = cursor(start);
    for (var i = start; i < until; i++) {
        let distance = token_at(c, largest).distance;
        if (distance < last) {
            mass = add64(mass, vec2<u32>(weight_at(distance, P.drawn), 0u));
        }
        mine += select(0u, 1u, distance == last);
        c = next(c);
    }
    tied[thread] = mine;
    masses[thread] = mass;
    workgroupBarrier();
    if (thread > 0u) {
        return;
    }
    let at_last = weight_at(last, P.drawn);
    var left = ties;
    var all = vec2<u32>(0u);
    for (var i = 0u; i < 256u; i++) {
        let kept = min(tied[i], left);
        left -= kept;
        masses[i] = add64(masses[i], mul32(kept, at_last));
        all = add64(all, masses[i]);
    }
    var rest = share(all, S.unit);
    left = ties;
    var at = 0u;
    while (at < 255u && !less64(rest, masses[at])) {
        rest = sub64(rest, masses[at]);
        left -= min(tied[at], left);
        at++;
    }
    c = cursor(min(stretch * at, n));
    for (var i = min(stretch * at, n); i < min(stretch * at + stretch, n); i++) {
        let token = token_at(c, largest);
        let is_kept = token.distance < last || (token.distance == last && left > 0u);
        left -= select(0u, 1u, token.distance == last && left > 0u);
        let weight = select(0u, weight_at(token.distance, P.drawn), is_kept);
        if (less64(rest, vec2<u32>(weight, 0u))) {
            chosen[0] = token.id;
            return;
        }
        rest = sub64(rest, vec2<u32>(weight, 0u));
        c = next(c);
    }
    // Never: the rest is below the sum of the weights.
    chosen[0] = top.y;
}
