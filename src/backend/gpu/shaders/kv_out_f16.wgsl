// Two neighbouring elements into keys and values kept as pairs of 16-bit floats; `at` is even. What is beyond a half's range is kept as its
// largest: an infinity among the keys would make every later token not a number.
@group(0) @binding(8) var<storage, read_write> kv: array<u32>;

fn kv_row(position: u32, row: u32) -> u32 {
    return position;
}

fn store(at: u32, y: vec2<f32>) {
    kv[at >> 1u] = pack2x16float(clamp(y, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}
