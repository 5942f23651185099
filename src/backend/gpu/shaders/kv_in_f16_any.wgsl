// Keys and values as pairs of 16-bit floats, for heads of any width: the last `n` of four elements may be fewer.
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> v: array<u32>;

fn of_pair(pair: u32, at: u32) -> f32 {
    let x = unpack2x16float(pair);
    return select(x.x, x.y, (at & 1u) == 1u);
}

fn key4(at: u32, n: u32) -> vec4<f32> {
    var x = vec4<f32>(0.0);
    for (var i = 0u; i < min(n, 4u); i++) {
        x[i] = of_pair(k[(at + i) >> 1u], at + i);
    }
    return x;
}

fn value4(at: u32, n: u32) -> vec4<f32> {
    var x = vec4<f32>(0.0);
    for (var i = 0u; i < min(n, 4u); i++) {
        x[i] = of_pair(v[(at + i) >> 1u], at + i);
    }
    return x;
}
