// The sums of 16 neighbouring threads' values, through workgroup memory.
var<workgroup> parts: array<vec3<f32>, 64>;

fn sum16(thread: u32, value: vec3<f32>) -> vec3<f32> {
    parts[thread] = value;
    workgroupBarrier();
    var total = vec3<f32>(0.0);
    for (var i = 0u; i < 16u; i++) {
        total += parts[(thread & 48u) + i];
    }
    return total;
}
