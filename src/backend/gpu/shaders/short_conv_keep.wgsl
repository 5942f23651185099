// Keeps the products u = B * X of rows at the slots position + i where short_conv.wgsl looks for them.
// Shapes: as there. Mapping: one thread an element, one row a workgroup row. Of rows that share a row of the ring only the last is kept.
struct Params {
    stride: u32,
    n_cols: u32,
    state_stride: u32,
    n_rows: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> bcx: array<f32>;
@group(0) @binding(2) var<storage, read_write> state: array<f32>;
@group(0) @binding(3) var<uniform> S: Step;

const RING: u32 = 64u;
const BLOCK: u32 = 64u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= P.n_cols) {
        return;
    }
    let first = id.y * P.stride + id.x;
    let u = bcx[first] * bcx[first + 2u * P.n_cols];
    let slot = S.position + id.y;
    if (id.y + RING >= P.n_rows) {
        state[(slot % RING) * P.state_stride + id.x] = u;
    }
    if (slot % BLOCK >= BLOCK - 2u) {
        state[(RING + 2u * (slot / BLOCK) + slot % BLOCK - (BLOCK - 2u)) * P.state_stride + id.x] = u;
    }
}
