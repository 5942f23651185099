// What all formats' fragments are made of.
//
// A weight matrix is the buffer `w`: planes one after the other, each the numbers of one kind of all blocks of 32 elements, in the
// order of the blocks (row by row). A plane of `b` bits per block begins behind those before it, at vec4 `P.n_blocks * (sum of their
// bits) / 128`. The number of blocks is a multiple of 8 (of 64 for super-blocks of 256), so every plane begins at a whole vec4.
// Each fragment defines
//
//     fn weights(block: u32) -> array<vec4<f32>, 8>
//
// the 32 elements of a block, in order.

// The u32 `i` of the plane that begins at vec4 `start`.
fn plane_word(start: u32, i: u32) -> u32 {
    return w[start + (i >> 2u)][i & 3u];
}

// The 16-bit float `i` of a plane.
fn plane_half(start: u32, i: u32) -> f32 {
    let pair = unpack2x16float(plane_word(start, i >> 1u));
    return select(pair.x, pair.y, (i & 1u) == 1u);
}

// The two bytes of block `i` in a plane of 16 bits per block.
fn plane_bytes(start: u32, i: u32) -> vec2<u32> {
    let pair = plane_word(start, i >> 1u) >> (16u * (i & 1u));
    return vec2<u32>(pair & 0xffu, (pair >> 8u) & 0xffu);
}

// The same as signed bytes.
fn plane_signed_bytes(start: u32, i: u32) -> vec2<f32> {
    let bytes = vec2<i32>(plane_bytes(start, i));
    return vec2<f32>((bytes << vec2<u32>(24u)) >> vec2<u32>(24u));
}

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

// 2-bit elements: element `e` in the bits 2 e and 2 e + 1 of 64.
fn pairs(start: u32, block: u32) -> array<vec4<f32>, 8> {
    let a = plane_word(start, 2u * block);
    let b = plane_word(start, 2u * block + 1u);
    return array<vec4<f32>, 8>(
        pairs_of(a, 0u), pairs_of(a, 1u), pairs_of(a, 2u), pairs_of(a, 3u), pairs_of(b, 0u), pairs_of(b, 1u), pairs_of(b, 2u), pairs_of(b, 3u));
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
