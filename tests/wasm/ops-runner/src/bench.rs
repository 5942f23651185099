//! Times of the CPU kernels, beside what a plain loop reaches on the same machine.

use std::hint::black_box;

use crate::backend::cpu::{Cpu, Kernels, Tensor};
use crate::backend::{
    AttentionOp, Epilogue, Gating, Heads, KvFormat, KvSource, KvSpec, Linear, Mask, MatrixSpec, Memory, Ops, Queue,
};
use crate::host::{milliseconds, print};
use crate::limits::{self, Step};
use crate::ops::Random;
use crate::quant::Format;

/// Rows and row length of the matrices that are timed.
const SIZE: usize = 4096;

/// Milliseconds of `work`, the least of several: what else the machine does only adds. A browser's clock has steps of
/// 0.1 ms, so short work is repeated within one measurement, and as often as its compiled code asks, not the first one's.
fn time(mut work: impl FnMut()) -> f64 {
    let mut repeated = |n: usize| {
        let from = milliseconds();
        for _ in 0..n {
            work();
        }
        milliseconds() - from
    };
    let mut repeats = 1;
    while repeated(repeats) < 10.0 {
        repeats *= 2;
    }
    let start = milliseconds();
    let mut least = f64::INFINITY;
    while milliseconds() - start < 300.0 {
        least = least.min(repeated(repeats) / repeats as f64);
    }
    least
}

/// What a plain loop computes, in 10⁹ operations a second.
struct Limits {
    dots: f64,
    floats: f64,
}

impl Limits {
    fn measure() -> Self {
        let limits = Self {
            dots: limits::operations(Step::Dot, |work| time(work)),
            floats: limits::operations(Step::Float, |work| time(work)),
        };
        let [cache, shared, memory] = [512 << 10, 8 << 20, 256 << 20].map(|n| limits::reading(n, |work| time(work)));
        print(&format!(
            "a plain loop: {:.0} GOP/s of integer dots, {:.0} GFLOP/s; reads 512 KB at {cache:.1} GB/s, 8 MB at {shared:.1}, 256 MB at {memory:.1}",
            limits.dots, limits.floats
        ));
        limits
    }

    fn report(&self, format: Format, kernels: &str, [one, many]: [f64; 2]) {
        let gflop = 2.0 * (SIZE * SIZE) as f64 / 1e6;
        let n = SIZE * format.row_bytes(SIZE);
        let read = n as f64 / 1e6 / one;
        let computed = 64.0 * gflop / many;
        let most = if matches!(format, Format::F16 | Format::F32) { self.floats } else { self.dots };
        print(&format!(
            "{:7} {kernels:17} | 1 row {one:7.3} ms {:6.1} GFLOP/s {read:5.1} GB/s ({:3.0} %) | 64 rows {many:7.1} ms {computed:6.1} GFLOP/s ({:3.0} %)",
            format.name(),
            gflop / one,
            100.0 * read / limits::reading(n, |work| time(work)),
            100.0 * computed / most
        ));
    }
}

/// Times products of one and of 64 rows with a 4096 by 4096 matrix of each format, for each of the kernels, and how much of a plain loop's
/// speed that is: of reading as many bytes for one row, of computing for 64.
pub fn products() {
    let limits = Limits::measure();
    let formats = [
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
        Format::Q2_K,
        Format::Q3_K,
        Format::IQ4_NL,
        Format::F16,
        Format::F32,
    ];
    // Scales of 0.01, and those of small weights in K-quants: subnormal halves, which some processors are slow with.
    let scales = |format: Format| if format.is_quantized() { vec![0.01, 1e-5] } else { vec![0.01] };
    for (format, scale) in formats.into_iter().flat_map(|format| scales(format).into_iter().map(move |scale| (format, scale))) {
        let mut random = Random::new(1);
        let bytes = random.matrix_of_scales(format, SIZE, 64, scale).repeat(SIZE / 64);
        let data = random.floats(64 * SIZE);
        let is_float = matches!(format, Format::F16 | Format::F32);
        // The plain loops are there to be right, not to be timed.
        let mut all = vec![Kernels::Simd, Kernels::default()];
        all.dedup();
        for kernels in all.into_iter().skip(usize::from(is_float && Kernels::default() != Kernels::Simd)) {
            let mut cpu = Cpu::with_kernels(kernels);
            let spec = MatrixSpec { name: "bench".into(), format, n_in: SIZE, n_out: SIZE };
            let from = milliseconds();
            let mut builder = cpu.matrix_begin(&spec).expect("memory");
            cpu.matrix_rows(&mut builder, &bytes).expect("rows");
            let layer = Linear::<Cpu> { weight: cpu.matrix_end(builder).expect("all rows"), bias: None };
            let packing = milliseconds() - from;
            let tensor = |cpu: &mut Cpu, rows| -> Tensor { cpu.tensor(rows, SIZE).expect("memory") };
            let (mut x, mut out) = (tensor(&mut cpu, 64), tensor(&mut cpu, 64));
            cpu.write(&mut x, 0, &data);
            let mut linear = |n| time(|| cpu.linear(&x, &layer, &mut out, n, Epilogue::Store));
            let one = linear(1);
            let many = linear(64);
            let kernels = if is_float { "float".into() } else { format!("{kernels:?}") };
            limits.report(format, &format!("{kernels} d={scale}"), [one, many]);
            print(&format!("        packed at {:.0} MB/s", bytes.len() as f64 / 1e3 / packing));
            black_box(&out);
        }
        #[cfg(feature = "candle")]
        candle(&limits, format, &bytes, &data);
    }
}

/// Times attention: of a vision tower (577 rows, 16 heads of 64), of a prompt of as many tokens, and of one token after a
/// thousand (32 heads of 128, 8 of keys and values).
pub fn attention() {
    let mut cpu = Cpu::new();
    let mut random = Random::new(2);
    let mut tensor = |cpu: &mut Cpu, rows: usize, cols: usize| {
        let mut x = cpu.tensor(rows, cols).expect("memory");
        cpu.write(&mut x, 0, &random.floats(rows * cols));
        x
    };
    let [q, k, v, mut out] = [(); 4].map(|()| tensor(&mut cpu, 577, 1024));
    let of_tower = Heads { n_heads: 16, n_kv_heads: 16, head_dim: 64 };
    let tower = AttentionOp { mask: Mask::Full, ..AttentionOp::causal(of_tower) };
    let full = time(|| cpu.attention(&tower, &q, KvSource::Rows { k: &k, v: &v }, &mut out, 577));
    print(&format!(
        "attention_rows 577 rows, 16 heads of 64: {full:.1} ms, {:.1} GFLOP/s",
        4.0 * 577.0 * 577.0 * 1024.0 / 1e6 / full
    ));
    let heads = Heads { n_heads: 32, n_kv_heads: 8, head_dim: 128 };
    let decoder = AttentionOp::causal(heads);
    for format in KvFormat::ALL {
        let mut cache = cpu.kv_cache(&KvSpec { n_layers: 1, n_ctx: 1200, n_kv: 1024, head_dim: 128, format }).expect("memory");
        let kv = tensor(&mut cpu, 1200, 1024);
        cpu.kv_write(&mut cache, 0, 0, &kv, &kv, 1200);
        let (q, mut out) = (tensor(&mut cpu, 577, 4096), tensor(&mut cpu, 577, 4096));
        let prompt = time(|| {
            cpu.attention(&decoder, &q, KvSource::Cache { cache: &cache, layer: 0, first: 0, ends: None }, &mut out, 577)
        });
        let one = time(|| {
            cpu.attention(&decoder, &q, KvSource::Cache { cache: &cache, layer: 0, first: 1000, ends: None }, &mut out, 1)
        });
        print(&format!("attention {format:?}, 32 heads of 128: prompt of 577 {prompt:.1} ms; one token after 1000 {one:.3} ms"));
    }
    let n = 577 * 4096;
    let mut x = tensor(&mut cpu, 577, 4096);
    let y = tensor(&mut cpu, 577, 4096);
    let silu = time(|| cpu.gate_mul(Gating::Silu, &mut x, &y, 577));
    print(&format!("gate_mul: {:.2} ns per element", silu * 1e6 / n as f64));
    let weight = tensor(&mut cpu, 1, 4096);
    let norm = time(|| cpu.rms_norm(&y, &weight, 1e-5, &mut x, 577));
    print(&format!("rms_norm: {:.2} ns per element", norm * 1e6 / n as f64));
}

/// Times attention of one token after 4095, in layers of so many that keys and values come from memory, over halves and over bytes in turn.
pub fn long_context() {
    for (n_heads, n_kv_heads, head_dim, n_layers) in [(9, 3, 64, 30), (32, 4, 64, 22), (32, 32, 128, 2)] {
        let mut cpu = Cpu::new();
        let mut random = Random::new(3);
        let (cols, n_kv, n_ctx) = (n_heads * head_dim, n_kv_heads * head_dim, 4096);
        let op = AttentionOp::causal(Heads { n_heads, n_kv_heads, head_dim });
        let mut rows = |cpu: &mut Cpu, n: usize, cols: usize| {
            let mut x = cpu.tensor(n, cols).expect("memory");
            cpu.write(&mut x, 0, &random.floats(n * cols));
            x
        };
        let kv = rows(&mut cpu, n_ctx, n_kv);
        let (q, mut out) = (rows(&mut cpu, 1, cols), rows(&mut cpu, 1, cols));
        let caches = [KvFormat::F16, KvFormat::Q8_0].map(|format| {
            let mut cache = cpu.kv_cache(&KvSpec { n_layers, n_ctx, n_kv, head_dim, format }).expect("memory");
            for layer in 0..n_layers {
                cpu.kv_write(&mut cache, layer, 0, &kv, &kv, n_ctx);
            }
            cache
        });
        let mut ratios = Vec::new();
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..15 {
            let [halves, bytes] = std::array::from_fn(|i| {
                let from = milliseconds();
                for layer in 0..n_layers {
                    let kv = KvSource::Cache { cache: &caches[i], layer, first: n_ctx - 1, ends: None };
                    cpu.attention(&op, &q, kv, &mut out, 1);
                }
                let took = milliseconds() - from;
                times[i].push(took);
                took
            });
            ratios.push(halves / bytes);
        }
        // The first ones are of code that is compiled once more.
        let median = |x: &[f64]| {
            let mut x = x[4..].to_vec();
            x.sort_by(f64::total_cmp);
            x[x.len() / 2]
        };
        print(&format!(
            "attention of one token after 4095, {n_layers} layers, {n_heads} heads of {head_dim}, {n_kv_heads} of keys: F16 {:.2} ms, Q8_0 {:.2} ms, \
             median of the pairs' ratios {:.2}",
            median(&times[0]),
            median(&times[1]),
            median(&ratios)
        ));
    }
}

/// The same with candle's kernels.
#[cfg(feature = "candle")]
fn candle(limits: &Limits, format: Format, bytes: &[u8], data: &[f32]) {
    if format == Format::IQ4_NL {
        return;
    }
    use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
    use candle_core::{Device, Module, Tensor};
    let dtype = match format {
        Format::Q4_0 => GgmlDType::Q4_0,
        Format::Q4_1 => GgmlDType::Q4_1,
        Format::Q5_0 => GgmlDType::Q5_0,
        Format::Q5_1 => GgmlDType::Q5_1,
        Format::Q8_0 => GgmlDType::Q8_0,
        Format::Q2_K => GgmlDType::Q2K,
        Format::Q3_K => GgmlDType::Q3K,
        Format::Q4_K => GgmlDType::Q4K,
        Format::Q5_K => GgmlDType::Q5K,
        Format::Q6_K => GgmlDType::Q6K,
        Format::F16 => GgmlDType::F16,
        _ => GgmlDType::F32,
    };
    let storage = QStorage::from_data(bytes.into(), &Device::Cpu, dtype).expect("storage");
    let weight = QMatMul::QTensor(QTensor::new(storage, (SIZE, SIZE)).expect("tensor").into());
    let product = |n: usize| {
        let x = Tensor::from_slice(&data[..n * SIZE], (n, SIZE), &Device::Cpu).expect("tensor");
        time(|| drop(black_box(weight.forward(&x).expect("product"))))
    };
    let times = [product(1), product(64)];
    limits.report(format, "candle", times);
}
