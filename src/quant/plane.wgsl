// What all formats' fragments are made of: a template, as they are. In each instance `M_` becomes the name of a matrix (or nothing),
// so that one kernel can read several matrices of different formats.
//
// A weight matrix is the buffer `M_w`: planes one after the other, each the numbers of one kind of all blocks of 32 elements, in the
// order of the blocks (row by row). A plane of `b` bits per block begins behind those before it, at vec4 `P.M_n_blocks * (sum of their
// bits) / 128`. The number of blocks is a multiple of 8 (of 64 for super-blocks of 256), so every plane begins at a whole vec4.
// The fragment of a quantized format defines
//
//     fn M_block(block: u32) -> Block
//
// the 32 elements of a block as small integers with their scales, and that of a float format
//
//     fn M_weights(block: u32) -> array<vec4<f32>, 8>
//
// the elements themselves; quantized.wgsl makes the second of the first.

// The u32 `i` of the plane that begins at vec4 `start`.
fn M_plane_word(start: u32, i: u32) -> u32 {
    return M_w[start + (i >> 2u)][i & 3u];
}

// The 16-bit float `i` of a plane.
fn M_plane_half(start: u32, i: u32) -> f32 {
    return half_of(M_plane_word(start, i >> 1u) >> (16u * (i & 1u)));
}

// The 32-bit float `i` of a plane.
fn M_plane_float(start: u32, i: u32) -> f32 {
    return bitcast<f32>(M_plane_word(start, i));
}

// The pair `i` of 32-bit floats of a plane.
fn M_plane_floats(start: u32, i: u32) -> vec2<f32> {
    return vec2<f32>(M_plane_float(start, 2u * i), M_plane_float(start, 2u * i + 1u));
}

// The two bytes of block `i` in a plane of 16 bits per block.
fn M_plane_bytes(start: u32, i: u32) -> vec2<u32> {
    let pair = M_plane_word(start, i >> 1u) >> (16u * (i & 1u));
    return vec2<u32>(pair & 0xffu, (pair >> 8u) & 0xffu);
}

// The same as signed bytes.
fn M_plane_signed_bytes(start: u32, i: u32) -> vec2<f32> {
    let bytes = vec2<i32>(M_plane_bytes(start, i));
    return vec2<f32>((bytes << vec2<u32>(24u)) >> vec2<u32>(24u));
}
