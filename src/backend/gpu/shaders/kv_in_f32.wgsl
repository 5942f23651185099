// Keys and values as 32-bit floats, four at a time: heads begin at multiples of 4.
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;

fn key4(at: u32, n: u32) -> vec4<f32> {
    return k[at >> 2u];
}

fn value4(at: u32, n: u32) -> vec4<f32> {
    return v[at >> 2u];
}
