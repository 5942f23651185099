// Keys and values as signed bytes, four to a word; behind all of them the scales of 32 elements each, pairs of 16-bit floats, from word P.scales
// on. Heads begin at multiples of 32, and what is beyond a head's last element is zero.
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> v: array<u32>;

fn key4(at: u32, n: u32) -> vec4<f32> {
    return half_of(k[P.scales + (at >> 6u)] >> ((at >> 1u) & 16u)) * bytes(k[at >> 2u]);
}

fn value4(at: u32, n: u32) -> vec4<f32> {
    return half_of(v[P.scales + (at >> 6u)] >> ((at >> 1u) & 16u)) * bytes(v[at >> 2u]);
}
