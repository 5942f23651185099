// out[y, x] = bias + sum over i, j of kernel[3 i + j] * in[step y + i - 1, step x + j - 1], each column for itself; in is zero beyond its grid.
// Shapes: x [height width, stride], the places of the grid line by line; kernel [9, stride]; bias [stride], where there is one; out [.. out_width,
// stride]; strides are the same, in vec4. Mapping: one thread a vec4 of an output, whose x and y are those of the workgroup.
struct Params {
    stride: u32,
    height: u32,
    width: u32,
    step: u32,
    out_width: u32,
    has_bias: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> kernel: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= P.stride) {
        return;
    }
    var sum = vec4<f32>();
    if (P.has_bias == 1u) {
        sum = bias[id.x];
    }
    for (var i = 0u; i < 3u; i++) {
        // Counted from the place before the first, so that it is never negative.
        let row = P.step * id.z + i;
        if (row == 0u || row > P.height) {
            continue;
        }
        for (var j = 0u; j < 3u; j++) {
            let column = P.step * id.y + j;
            if (column == 0u || column > P.width) {
                continue;
            }
            sum += kernel[(3u * i + j) * P.stride + id.x] * x[((row - 1u) * P.width + column - 1u) * P.stride + id.x];
        }
    }
    out[(id.z * P.out_width + id.y) * P.stride + id.x] = sum;
}
