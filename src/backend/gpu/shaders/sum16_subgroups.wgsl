// The sums of 16 neighbouring threads' values, as far as subgroups reach: LANES neighbours (4, 8 or 16) are surely in one. With 16 there
// is no barrier left; with fewer the subgroups' sums meet in workgroup memory.
var<workgroup> parts: array<vec3<f32>, 16>;

fn sum16(thread: u32, value: vec3<f32>) -> vec3<f32> {
    var sum = value;
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    if (LANES >= 8u) {
        sum += subgroupShuffleXor(sum, 4u);
    }
    if (LANES >= 16u) {
        sum += subgroupShuffleXor(sum, 8u);
    } else {
        if (thread % LANES == 0u) {
            parts[thread / LANES] = sum;
        }
        workgroupBarrier();
        let first = (thread / 16u) * (16u / LANES);
        sum = vec3<f32>(0.0);
        for (var i = 0u; i < 16u / LANES; i++) {
            sum += parts[first + i];
        }
    }
    return sum;
}
