// Keys and values as pairs of 16-bit floats, four at a time: heads begin at multiples of 4.
@group(0) @binding(2) var<storage, read> k: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read> v: array<vec2<u32>>;

fn key4(at: u32, n: u32) -> vec4<f32> {
    let four = k[at >> 2u];
    return vec4<f32>(unpack2x16float(four.x), unpack2x16float(four.y));
}

fn value4(at: u32, n: u32) -> vec4<f32> {
    let four = v[at >> 2u];
    return vec4<f32>(unpack2x16float(four.x), unpack2x16float(four.y));
}
