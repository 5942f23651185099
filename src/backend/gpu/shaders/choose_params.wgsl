// What the kernels that choose a token share: backend/choice.rs in integers, to the bit.
struct Params {
    // Logits; how many are a part, which a workgroup looks through, and how many parts that makes.
    n: u32,
    part: u32,
    n_parts: u32,
    // 0 for all.
    top_k: u32,
    has_top_p: u32,
    // In units of 2^-32.
    top_p: u32,
    // The farthest distance that min-p leaves.
    farthest: u32,
    is_greedy: u32,
    // Weights at temperature 1, by which top-p judges, and at that of the draw: (factor, end).
    plain: vec2<u32>,
    drawn: vec2<u32>,
}

const MINUS_INFINITY: u32 = 0xff800000u;

// Larger for larger floats, zero for none; both zeros have the same.
fn key_of(bits: u32) -> u32 {
    let x = select(bits, 0u, bits == 0x80000000u);
    return select(x | 0x80000000u, ~x, x >= 0x80000000u);
}

// The float with this key.
fn of_key(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u));
}

// How far a logit is below the largest, in 2^-16. Halves of both are subtracted, which is exact and never too large for a float.
fn distance_of(largest: f32, bits: u32) -> u32 {
    let half = 0.5 * largest - 0.5 * bitcast<f32>(bits);
    return u32(min(min(half, 32.0) * 131072.0, 4194303.0));
}

// The 64 bits of a product, low word first.
fn mul32(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let one = (a & 0xffffu) * (b >> 16u);
    let other = (a >> 16u) * (b & 0xffffu);
    let middle = (low >> 16u) + (one & 0xffffu) + (other & 0xffffu);
    return vec2<u32>((low & 0xffffu) | (middle << 16u), (a >> 16u) * (b >> 16u) + (one >> 16u) + (other >> 16u) + (middle >> 16u));
}

fn add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn sub64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn less64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

// `total` times a fraction in units of 2^-32, rounded down.
fn share(total: vec2<u32>, fraction: u32) -> vec2<u32> {
    return add64(mul32(total.y, fraction), vec2<u32>(mul32(total.x, fraction).y, 0u));
}

// The weight at a distance: 2^30 to 0.
fn weight_at(distance: u32, weights: vec2<u32>) -> u32 {
    if (distance >= weights.y) {
        return 0u;
    }
    let product = mul32(distance, weights.x);
    let halvings = (product.x >> 16u) | (product.y << 16u);
    let y = halvings & 0xffffu;
    var r = 13950u - ((1790u * y) >> 16u);
    r = 62773u - ((r * y) >> 16u);
    r = 45421u - ((r * y + 131072u) >> 18u);
    return (0x40000000u - ((r * y) >> 2u)) >> (halvings >> 16u);
}
