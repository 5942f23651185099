// Keys and values as 32-bit floats, for heads of any width: the last `n` of four elements may be fewer.
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;

fn key4(at: u32, n: u32) -> vec4<f32> {
    var x = vec4<f32>(0.0);
    for (var i = 0u; i < min(n, 4u); i++) {
        x[i] = k[at + i];
    }
    return x;
}

fn value4(at: u32, n: u32) -> vec4<f32> {
    var x = vec4<f32>(0.0);
    for (var i = 0u; i < min(n, 4u); i++) {
        x[i] = v[at + i];
    }
    return x;
}
