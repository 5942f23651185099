// Looking for a rank in 2048 bins: those of the histogram, or those of the single distances within one of these, which are counted in `fine`.
struct Totals {
    count: u32,
    mass: vec2<u32>,
}

// Sums of eight bins each.
var<workgroup> eights: array<Totals, 256>;
// The bin that was found, the count and the mass before it; 2048 and the totals where none was.
var<workgroup> found: vec4<u32>;

fn plus(a: Totals, b: Totals) -> Totals {
    return Totals(a.count + b.count, add64(a.mass, b.mass));
}

// Bin `i` of the histogram.
fn coarse_bin(i: u32) -> Totals {
    let bin = histogram[i];
    let middle = vec2<u32>(bin.z << 10u, bin.z >> 22u);
    let high = vec2<u32>(bin.w << 20u, bin.w >> 12u);
    return Totals(bin.x, add64(vec2<u32>(bin.y, 0u), add64(middle, high)));
}

// The first bin up to which there are `count` tokens or more (where that is not 0), or a mass of `mass` (where it is).
fn find(thread: u32, is_fine: bool, count: u32, mass: vec2<u32>) -> vec4<u32> {
    var sum = Totals(0u, vec2<u32>(0u));
    for (var i = 8u * thread; i < 8u * thread + 8u; i++) {
        sum = plus(sum, bin_at(is_fine, i));
    }
    eights[thread] = sum;
    workgroupBarrier();
    if (thread == 0u) {
        var before = Totals(0u, vec2<u32>(0u));
        var bin = 0u;
        while (bin < 2048u && !is_reached(plus(before, eights[bin / 8u]), count, mass)) {
            before = plus(before, eights[bin / 8u]);
            bin += 8u;
        }
        if (bin < 2048u) {
            let until = bin + 7u;
            while (bin < until && !is_reached(plus(before, bin_at(is_fine, bin)), count, mass)) {
                before = plus(before, bin_at(is_fine, bin));
                bin++;
            }
        }
        found = vec4<u32>(bin, before.count, before.mass);
    }
    return workgroupUniformLoad(&found);
}

fn is_reached(sum: Totals, count: u32, mass: vec2<u32>) -> bool {
    return select(!less64(sum.mass, mass), sum.count >= count, count > 0u);
}

// All of the histogram.
fn totals(thread: u32) -> vec4<u32> {
    return find(thread, false, 0xffffffffu, vec2<u32>(0u));
}
