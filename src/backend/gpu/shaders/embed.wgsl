// out[row + i] = table[ids[i]], decoded.
// Shapes: w some rows of the table in planes of blocks of 32; ids [n]; out [rows, stride], stride in vec4.
// Mapping: one thread a block, one id a workgroup row. Ids of other parts of the table are left to their dispatches.
struct Params {
    w_n_blocks: u32,
    row_blocks: u32,
    // The first row of the table that is in w, and how many are.
    first: u32,
    n_rows: u32,
    row: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> w_w: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = ids[id.y] - P.first;
    if (id.x >= P.row_blocks || row >= P.n_rows) {
        return;
    }
    let x = w_weights(row * P.row_blocks + id.x);
    let to = (P.row + id.y) * P.stride + 8u * id.x;
    out[to] = x[0];
    out[to + 1u] = x[1];
    out[to + 2u] = x[2];
    out[to + 3u] = x[3];
    out[to + 4u] = x[4];
    out[to + 5u] = x[5];
    out[to + 6u] = x[6];
    out[to + 7u] = x[7];
}
