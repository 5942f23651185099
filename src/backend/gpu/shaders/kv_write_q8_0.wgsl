// keys[position + i] = k[i], values[position + i] = v[i] for n rows, in signed bytes: blocks of 32 elements of a head x = scale q, scale the
// half nearest to max |x| / 127, of at most 65504.
// Shapes: k, v [rows, stride] floats, those of v from v_from on; kv as kv_in_q8_0.wgsl has it. Mapping: one thread two blocks, whose scales are
// one word; one row a workgroup row.
struct Params {
    stride: u32,
    v_from: u32,
    n_heads: u32,
    head_dim: u32,
    // From one head to the next in the cache.
    kv_dim: u32,
    kv_stride: u32,
    v_first: u32,
    // The word at which scales begin.
    scales: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read_write> kv: array<u32>;
@group(0) @binding(4) var<uniform> S: Step;

// The largest scale's 127 fold.
const MOST: f32 = 8319008.0;

var<private> block: array<f32, 32>;

// The half nearest to a number from 0 to 65504, by integers: pack2x16float may make zero of what becomes a subnormal half.
fn half_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let normal = ((bits + 0xfffu + ((bits >> 13u) & 1u)) >> 13u) - 0x1c000u;
    // A multiple of 2^-24.
    return select(normal, u32(round(x * 16777216.0)), x < 6.103515625e-5);
}

// Puts the bytes of the block that begins at this element, and returns its scale as a half.
fn write_block(at: u32) -> u32 {
    var largest = 0.0;
    for (var i = 0u; i < 32u; i++) {
        largest = max(largest, abs(block[i]));
    }
    let bits = half_bits(min(largest, MOST) / 127.0);
    // Of the scale as it is kept.
    let scale = half_of(bits);
    let inverse = select(0.0, 1.0 / scale, scale > 0.0);
    for (var i = 0u; i < 32u; i += 4u) {
        let x = vec4<f32>(block[i], block[i + 1u], block[i + 2u], block[i + 3u]);
        let q = vec4<i32>(clamp(round(x * inverse), vec4<f32>(-127.0), vec4<f32>(127.0)));
        let b = bitcast<vec4<u32>>(q) & vec4<u32>(0xffu);
        kv[(at + i) >> 2u] = b.x | (b.y << 8u) | (b.z << 16u) | (b.w << 24u);
    }
    return bits;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (64u * id.x >= P.kv_stride) {
        return;
    }
    let at = (S.position + id.y) * P.kv_stride + 64u * id.x;
    var key_scales = 0u;
    var value_scales = 0u;
    for (var b = 0u; b < 2u; b++) {
        let element = 64u * id.x + 32u * b;
        let head = element / P.kv_dim;
        let in_head = element - head * P.kv_dim;
        // Of the padding nothing.
        let n = select(0u, min(32u, P.head_dim - in_head), head < P.n_heads);
        let source = id.y * P.stride + head * P.head_dim + in_head;
        for (var i = 0u; i < 32u; i++) {
            block[i] = 0.0;
            if (i < n) {
                block[i] = k[source + i];
            }
        }
        key_scales |= write_block(at + 32u * b) << (16u * b);
        for (var i = 0u; i < n; i++) {
            block[i] = v[P.v_from + source + i];
        }
        value_scales |= write_block(P.v_first + at + 32u * b) << (16u * b);
    }
    kv[P.scales + (at >> 6u)] = key_scales;
    kv[P.scales + ((P.v_first + at) >> 6u)] = value_scales;
}
