// Rows of x in signed bytes: blocks of 32 elements x = scale q, scale = max |x| / 127.
// Shapes: x [rows, stride], stride in vec4, eight of them a block; x_bytes two vec4 a block; x_scales (scale, scale times the sum of q in the
// first half, in the second, 0) a block; rows of blocks are row_blocks apart. Mapping: one thread a block, one row a workgroup row.
struct Params {
    stride: u32,
    row_blocks: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> x_bytes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> x_scales: array<vec4<f32>>;

fn largest(x: vec4<f32>) -> f32 {
    let a = abs(x);
    return max(max(a.x, a.y), max(a.z, a.w));
}

// Spelled out: pack4xI8 belongs to a language extension.
fn packed(q: vec4<i32>) -> u32 {
    let b = bitcast<vec4<u32>>(q) & vec4<u32>(0xffu);
    return b.x | (b.y << 8u) | (b.z << 16u) | (b.w << 24u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= P.row_blocks) {
        return;
    }
    let start = id.y * P.stride + 8u * id.x;
    let to = id.y * P.row_blocks + id.x;
    var all = 0.0;
    for (var i = 0u; i < 8u; i++) {
        all = max(all, largest(x[start + i]));
    }
    let scale = all / 127.0;
    let inverse = select(0.0, 127.0 / all, all > 0.0);
    var bytes = array<vec4<u32>, 2>();
    var sums = vec2<i32>(0);
    for (var i = 0u; i < 8u; i++) {
        let q = vec4<i32>(clamp(round(x[start + i] * inverse), vec4<f32>(-127.0), vec4<f32>(127.0)));
        bytes[i >> 2u][i & 3u] = packed(q);
        sums[i >> 2u] += q.x + q.y + q.z + q.w;
    }
    x_bytes[2u * to] = bytes[0];
    x_bytes[2u * to + 1u] = bytes[1];
    x_scales[to] = vec4<f32>(scale, scale * vec2<f32>(sums), 0.0);
}
