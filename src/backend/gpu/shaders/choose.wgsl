// Chooses a token by its logits: the likeliest, or one drawn from the distribution that top-k, top-p, min-p and the temperature leave, as
// backend/choice.rs defines it. chosen[0] is its id, or all ones where a logit is no finite number.
// Shapes: logits [n]; best, what choose_best found in each of n_parts.
// Mapping: one workgroup. What top-k and top-p leave out is told by a threshold, found bit by bit on the logits' bits in an order that is
// theirs; the draw goes through the tokens in the order of their ids, the sums of 256 stretches first.
struct Params {
    n: u32,
    n_parts: u32,
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> best: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> chosen: array<u32>;
@group(0) @binding(4) var<uniform> S: Step;

var<workgroup> numbers: array<f32, 256>;
var<workgroup> groups: array<f32, 16>;
// Logits of each stretch of ids that have the smallest key which is kept.
var<workgroup> tied: array<f32, 256>;

// Larger for larger floats.
fn key_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

// The float with this key.
fn of_key(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

// This thread's part of the number of logits with at least this key.
fn count(thread: u32, key: u32) -> f32 {
    var n = 0.0;
    for (var i = thread; i < P.n; i += 256u) {
        n += select(0.0, 1.0, key_of(logits[i]) >= key);
    }
    return n;
}

// This thread's part of their probabilities, beside the likeliest one's.
fn mass(thread: u32, key: u32, largest: f32) -> f32 {
    var sum = 0.0;
    for (var i = thread; i < P.n; i += 256u) {
        sum += select(0.0, exp(logits[i] - largest), key_of(logits[i]) >= key);
    }
    return sum;
}

// The sum over all threads, the same for all of them.
fn sum256(thread: u32, x: f32) -> f32 {
    workgroupBarrier();
    numbers[thread] = x;
    workgroupBarrier();
    if (thread < 16u) {
        var sum = 0.0;
        for (var i = 0u; i < 16u; i++) {
            sum += numbers[16u * thread + i];
        }
        groups[thread] = sum;
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < 16u; i++) {
        sum += groups[i];
    }
    return sum;
}

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var top = best[0];
    for (var i = 1u; i < P.n_parts; i++) {
        let part = best[i];
        let is_larger = bitcast<f32>(part.x) > bitcast<f32>(top.x);
        top = vec4<u32>(select(top.xy, part.xy, is_larger), top.z | part.z, 0u);
    }
    if (P.temperature == 0.0 || top.z != 0u) {
        if (thread == 0u) {
            chosen[0] = select(top.y, 0xffffffffu, top.z != 0u);
        }
        return;
    }
    let largest = bitcast<f32>(top.x);
    // Tokens whose key is below it are left out, and of those that have it all but the first `ties`.
    var least = 0u;
    var ties = f32(P.n);
    if (P.top_k > 0u && P.top_k < P.n) {
        for (var bit = 0x80000000u; bit > 0u; bit /= 2u) {
            let candidate = least | bit;
            if (sum256(thread, count(thread, candidate)) >= f32(P.top_k)) {
                least = candidate;
            }
        }
        ties = f32(P.top_k) - sum256(thread, count(thread, least + 1u));
    }
    if (P.top_p < 1.0) {
        let kept = least;
        let wanted = P.top_p * sum256(thread, mass(thread, kept, largest));
        var threshold = 0u;
        for (var bit = 0x80000000u; bit > 0u; bit /= 2u) {
            let candidate = threshold | bit;
            let above = sum256(thread, mass(thread, max(candidate, kept), largest));
            if (above >= wanted && candidate <= key_of(largest)) {
                threshold = candidate;
            }
        }
        let above = sum256(thread, mass(thread, max(threshold + 1u, kept), largest));
        let needed = max(ceil((wanted - above) / exp(of_key(threshold) - largest)), 1.0);
        if (threshold > least) {
            least = threshold;
            ties = needed;
        } else if (threshold == least) {
            ties = min(ties, needed);
        }
    }
    if (P.min_p > 0.0) {
        let key = key_of(min(largest, largest + log(P.min_p)));
        if (key > least) {
            least = key;
            ties = f32(P.n);
        }
    }
    // Whole stretches of ids, so that the order of the draw is that of the ids.
    let stretch = (P.n + 255u) / 256u;
    let start = min(stretch * thread, P.n);
    let until = min(start + stretch, P.n);
    var mine = 0.0;
    for (var i = start; i < until; i++) {
        mine += select(0.0, 1.0, key_of(logits[i]) == least);
    }
    workgroupBarrier();
    tied[thread] = mine;
    workgroupBarrier();
    var before = 0.0;
    for (var i = 0u; i < thread; i++) {
        before += tied[i];
    }
    mine = 0.0;
    for (var i = start; i < until; i++) {
        let key = key_of(logits[i]);
        if (key > least || (key == least && before < ties)) {
            mine += exp((logits[i] - largest) / P.temperature);
        }
        before += select(0.0, 1.0, key == least);
    }
    let all = sum256(thread, mine);
    if (thread > 0u) {
        return;
    }
    var rest = S.unit * all;
    var at = 0u;
    before = 0.0;
    while (at < 255u && rest >= numbers[at]) {
        rest -= numbers[at];
        before += tied[at];
        at++;
    }
    // Rounding may leave a remainder behind the last one; then it is the last that had a chance.
    var id = top.y;
    for (var i = min(stretch * at, P.n); i < min(stretch * at + stretch, P.n); i++) {
        let key = key_of(logits[i]);
        if (key > least || (key == least && before < ties)) {
            let weight = exp((logits[i] - largest) / P.temperature);
            if (weight > 0.0) {
                id = i;
                if (rest < weight) {
                    break;
                }
                rest -= weight;
            }
        }
        before += select(0.0, 1.0, key == least);
    }
    chosen[0] = id;
}
