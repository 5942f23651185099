// Arithmetic on blocks of 32 elements, which all formats' fragments share.

fn low(q: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(q & 0x0f0f0f0fu));
}

fn high(q: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8((q >> 4u) & 0x0f0f0f0fu));
}

// 4-bit elements: byte `j` holds element `j` in its low and element `j + 16` in its high half.
fn nibbles(q: vec4<u32>) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(low(q.x), low(q.y), low(q.z), low(q.w), high(q.x), high(q.y), high(q.z), high(q.w));
}

// Four bits of `bits` from bit 4 i on, as 0 or `value`.
fn bits_as(bits: u32, i: u32, value: f32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(bits >> (4u * i)) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) * value;
}

// Adds to each element `value` times its bit of `bits`.
fn with_bits(x: array<vec4<f32>, 8>, bits: u32, value: f32) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        x[0] + bits_as(bits, 0u, value), x[1] + bits_as(bits, 1u, value), x[2] + bits_as(bits, 2u, value), x[3] + bits_as(bits, 3u, value),
        x[4] + bits_as(bits, 4u, value), x[5] + bits_as(bits, 5u, value), x[6] + bits_as(bits, 6u, value), x[7] + bits_as(bits, 7u, value));
}

// Four pairs of bits of `pairs` from bit 8 i on.
fn pairs_of(pairs: u32, i: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(pairs >> (8u * i)) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u));
}

// (x + offset) * d, with a `d` for each half.
fn scaled(x: array<vec4<f32>, 8>, offset: f32, d: vec2<f32>) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        (x[0] + offset) * d.x, (x[1] + offset) * d.x, (x[2] + offset) * d.x, (x[3] + offset) * d.x,
        (x[4] + offset) * d.y, (x[5] + offset) * d.y, (x[6] + offset) * d.y, (x[7] + offset) * d.y);
}

// x * d + m, with a `d` and an `m` for each half.
fn affine(x: array<vec4<f32>, 8>, d: vec2<f32>, m: vec2<f32>) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        x[0] * d.x + m.x, x[1] * d.x + m.x, x[2] * d.x + m.x, x[3] * d.x + m.x,
        x[4] * d.y + m.y, x[5] * d.y + m.y, x[6] * d.y + m.y, x[7] * d.y + m.y);
}
