// Two neighbouring elements into keys and values kept as 32-bit floats.
@group(0) @binding(8) var<storage, read_write> kv: array<f32>;

fn kv_row(position: u32, row: u32) -> u32 {
    return position;
}

fn store(at: u32, y: vec2<f32>) {
    kv[at] = y.x;
    kv[at + 1u] = y.y;
}
