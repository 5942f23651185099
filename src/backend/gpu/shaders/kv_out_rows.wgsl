// Two neighbouring elements of keys and values that are not in the cache yet: rows of 32-bit floats, for kv_write_q8_0.wgsl.
@group(0) @binding(8) var<storage, read_write> kv: array<f32>;

fn kv_row(position: u32, row: u32) -> u32 {
    return row;
}

fn store(at: u32, y: vec2<f32>) {
    kv[at] = y.x;
    kv[at + 1u] = y.y;
}
