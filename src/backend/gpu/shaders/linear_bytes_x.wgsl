// x in signed bytes: two vec4 of them to a block of 32, and (scale, scale times the sum of the first half, of the second, 0).
@group(0) @binding(3) var<storage, read> x_bytes: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> x_scales: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
