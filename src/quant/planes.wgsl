// Arithmetic on blocks of 32 elements, which all formats' fragments share.

// A block of a quantized format: element `e` is q d[e / 16] + m[e / 16], where q is the signed byte `e % 4` of word `e / 4` of (q0, q1).
struct Block {
    q0: vec4<u32>,
    q1: vec4<u32>,
    d: vec2<f32>,
    m: vec2<f32>,
}

// The 16-bit float in the low half of `bits`, by integers: unpack2x16float may take subnormal halves for zero, and so small are the scales
// of whole blocks in real models.
fn half_of(bits: u32) -> f32 {
    let magnitude = bits & 0x7fffu;
    let normal = bitcast<f32>((magnitude << 13u) + 0x38000000u);
    // A multiple of 2^-24.
    let subnormal = f32(magnitude) * 5.9604644775390625e-8;
    return bitcast<f32>(bitcast<u32>(select(normal, subnormal, magnitude < 0x400u)) | ((bits & 0x8000u) << 16u));
}

// Two of them.
fn halves_of(bits: u32) -> vec2<f32> {
    return vec2<f32>(half_of(bits), half_of(bits >> 16u));
}

// Four signed bytes. Spelled with shifts: unpack4xI8 belongs to a language extension.
fn bytes(q: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(q) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// 4-bit elements: byte `j` of the 16 holds element `j` in its low and element `j + 16` in its high half.
fn low(q: vec4<u32>) -> vec4<u32> {
    return q & vec4<u32>(0x0f0f0f0fu);
}

fn high(q: vec4<u32>) -> vec4<u32> {
    return (q >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu);
}

// The lowest four bits of each word, one to a byte.
fn spread_bits(b: vec4<u32>) -> vec4<u32> {
    return (b & vec4<u32>(1u)) | ((b & vec4<u32>(2u)) << vec4<u32>(7u)) | ((b & vec4<u32>(4u)) << vec4<u32>(14u)) | ((b & vec4<u32>(8u)) << vec4<u32>(21u));
}

// Bits 0 to 15 of `bits`, and bits 16 to 31, one to a byte.
fn bits_low(bits: u32) -> vec4<u32> {
    return spread_bits(vec4<u32>(bits) >> vec4<u32>(0u, 4u, 8u, 12u));
}

fn bits_high(bits: u32) -> vec4<u32> {
    return spread_bits(vec4<u32>(bits) >> vec4<u32>(16u, 20u, 24u, 28u));
}

// The 16 pairs of bits of `pairs`, one to a byte.
fn spread_pairs(pairs: u32) -> vec4<u32> {
    let p = vec4<u32>(pairs) >> vec4<u32>(0u, 8u, 16u, 24u);
    return (p & vec4<u32>(3u)) | ((p & vec4<u32>(12u)) << vec4<u32>(6u)) | ((p & vec4<u32>(48u)) << vec4<u32>(12u)) | ((p & vec4<u32>(192u)) << vec4<u32>(18u));
}
