// y[i] = C[i] * (kernel[0] u[t - 2] + kernel[1] u[t - 1] + kernel[2] u[t]), u = B * X, at the slots t = position + i; u is zero before slot 0.
// Shapes: bcx [rows, stride]: B, C and X side by side, n_cols each; kernel [3, state_stride]; state [RING + 2 blocks, state_stride]: row t % RING
// holds u of a slot of late, row RING + 2 (t / BLOCK) + (t % BLOCK - (BLOCK - 2)) that of the last two of each block of slots.
// Mapping: one thread an element, one row a workgroup row. The products of slots before the first row are read where they were kept; those of
// these rows are kept by short_conv_keep.wgsl, which runs after all threads have read.
struct Params {
    stride: u32,
    n_cols: u32,
    state_stride: u32,
    out_stride: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> bcx: array<f32>;
@group(0) @binding(2) var<storage, read> kernel: array<f32>;
@group(0) @binding(3) var<storage, read> state: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<uniform> S: Step;

const RING: u32 = 64u;

// u at the slot `back` before that of the row.
fn product(row: u32, column: u32, back: u32) -> f32 {
    if (row >= back) {
        let first = (row - back) * P.stride + column;
        return bcx[first] * bcx[first + 2u * P.n_cols];
    }
    let slot = S.position + row;
    if (slot < back) {
        return 0.0;
    }
    return state[((slot - back) % RING) * P.state_stride + column];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= P.out_stride) {
        return;
    }
    var y = 0.0;
    if (id.x < P.n_cols) {
        let sum = kernel[id.x] * product(id.y, id.x, 2u) + kernel[P.state_stride + id.x] * product(id.y, id.x, 1u)
            + kernel[2u * P.state_stride + id.x] * product(id.y, id.x, 0u);
        y = bcx[id.y * P.stride + P.n_cols + id.x] * sum;
    }
    out[id.y * P.out_stride + id.x] = y;
}
