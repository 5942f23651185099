//! The ops of a backend against their formulas in double precision. One table of sizes for every backend: 1, one less
//! than a tile, a tile, one more, and odd ones. No files, so that it also runs where there are none; and nothing that blocks a
//! thread, because in a browser a GPU answers only to those who wait.

use std::cell::RefCell;
use std::pin::Pin;

use half::{bf16, f16};
use llava_web::backend::{
    AttentionOp, Backend, CONV_RING, DepthwiseConv, Epilogue, GateUp, Gating, Heads, KvFormat, KvPart, KvPlace, KvSource, KvSpec,
    Linear, Mask, MatrixSpec, Qkv, RopeStyle, conv_state_row, conv_state_rows,
};
use llava_web::quant::Format;

/// Normalized mean square error of a product whose activations were rounded to 8 bits per block of 32. The step is a 127th
/// of the largest of 32 numbers, which for the uniform numbers used here is at most √3 times their deviation σ: an error of
/// variance (√3 σ / 127)² / 12 = 1.6e-5 σ². A minimum that dwarfs the scales multiplies one and the same sum of errors in
/// all outputs, so few outputs do not average them: the bound is five deviations of one.
const NMSE_8_BIT: f64 = 4e-4;
/// The same in 32-bit floats: rounding of 2⁻²⁴ per step of sums of up to a thousand terms.
const NMSE_FLOAT: f64 = 1e-11;
/// Largest error of one element relative to the largest element of the right answer: six deviations of the above.
const MAX_8_BIT: f64 = 0.05;
const MAX_FLOAT: f64 = 1e-5;
/// Keys and values in 16 bits: a relative error up to 2⁻¹¹ each.
const NMSE_HALF: f64 = 1e-6;
const MAX_HALF: f64 = 2e-3;

/// A seeded generator (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// Uniform between −1 and 1.
    pub fn float(&mut self) -> f32 {
        self.bits() as f32 / 2_147_483_648.0 - 1.0
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }

    /// A row in a storage format: any bits, but for the scales, which are small.
    pub fn row(&mut self, format: Format, n: usize) -> Vec<u8> {
        self.row_of_scales(format, n, |random| 0.01 * random.float())
    }

    /// A row whose blocks have those scales, where they have any.
    fn row_of_scales(&mut self, format: Format, n: usize, mut scale: impl FnMut(&mut Self) -> f32) -> Vec<u8> {
        match format {
            Format::F32 => return self.floats(n).iter().flat_map(|x| x.to_le_bytes()).collect(),
            Format::F16 => return self.floats(n).iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
            Format::BF16 => return self.floats(n).iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            _ => {}
        }
        let mut bytes: Vec<u8> = (0..format.row_bytes(n)).map(|_| self.bits() as u8).collect();
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            for at in scale_offsets(format) {
                block[*at..at + 2].copy_from_slice(&f16::from_f32(scale(self)).to_le_bytes());
            }
        }
        bytes
    }

    pub fn matrix(&mut self, format: Format, n_in: usize, n_out: usize) -> Vec<u8> {
        (0..n_out).flat_map(|_| self.row(format, n_in)).collect()
    }

    /// A matrix whose blocks have scales of about `scale`, of either sign.
    #[allow(dead_code, reason = "not every runner of the suite times or compares them")]
    pub fn matrix_of_scales(&mut self, format: Format, n_in: usize, n_out: usize, scale: f32) -> Vec<u8> {
        let of = |random: &mut Self| scale * (1.5 + 0.5 * random.float()).copysign(random.float());
        (0..n_out).flat_map(|_| self.row_of_scales(format, n_in, of)).collect()
    }
}

/// Where the 16-bit scales of a block are.
fn scale_offsets(format: Format) -> &'static [usize] {
    match format {
        Format::F32 | Format::F16 | Format::BF16 => &[],
        Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::IQ4_NL => &[0],
        Format::Q4_1 | Format::Q5_1 | Format::Q4_K | Format::Q5_K => &[0, 2],
        Format::Q2_K => &[80, 82],
        Format::Q3_K => &[108],
        Format::Q6_K => &[208],
    }
}

/// Asserts that `got` is `want` within a normalized mean square error and a largest error.
#[track_caller]
pub fn assert_near(what: &str, got: &[f32], want: &[f64], max_nmse: f64, max_error: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    let (mut square, mut error, mut largest, mut worst) = (0.0, 0.0, 0.0_f64, 0.0_f64);
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let d = f64::from(*g) - w;
        assert!(d.is_finite(), "{what}: element {i} is {g}, not {w}");
        square += w * w;
        error += d * d;
        largest = largest.max(w.abs());
        worst = worst.max(d.abs());
    }
    let (nmse, worst) = (error / square.max(1e-30), worst / largest.max(1e-15));
    assert!(
        nmse <= max_nmse && worst <= max_error,
        "{what}: nmse {nmse:.2e} > {max_nmse:.0e} or max {worst:.2e} > {max_error:.0e}"
    );
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().copied().map(f64::from).collect()
}

/// What a cache makes of rows of whole heads, in plain loops: of bytes what they stand for. Halves, whose rounding the bounds allow for, count as
/// exact.
pub fn kept(format: KvFormat, head_dim: usize, rows: &[f32]) -> Vec<f64> {
    if format != KvFormat::Q8_0 {
        return wide(rows);
    }
    let mut out = Vec::new();
    for block in rows.chunks(head_dim).flat_map(|head| head.chunks(32)) {
        let largest = block.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let scale = f64::from(f16::from_f32(largest / 127.0).to_f32());
        let q = |x: &f32| if scale > 0.0 { (f64::from(*x) / scale).round_ties_even().clamp(-127.0, 127.0) } else { 0.0 };
        out.extend(block.iter().map(|x| scale * q(x)));
    }
    out
}

/// Bounds of attention's error over a cache of this kind beside [`kept`]: queries and weights of 14 bits leave less of one than halves do, but
/// an element between two steps may go to either.
pub fn of_cache(format: KvFormat) -> (f64, f64) {
    match format {
        KvFormat::F32 => (NMSE_FLOAT, MAX_FLOAT),
        KvFormat::F16 => (NMSE_HALF, MAX_HALF),
        KvFormat::Q8_0 => (NMSE_HALF, 5e-3),
    }
}

thread_local! {
    /// What was read, bit by bit, where somebody wants to know.
    static TRANSCRIPT: RefCell<Option<Vec<u32>>> = const { RefCell::new(None) };
}

/// The bits of everything that `work` reads from its backends.
#[allow(dead_code, reason = "not every runner of the suite compares runs")]
pub async fn transcript_of(work: impl Future<Output = ()>) -> Vec<u32> {
    TRANSCRIPT.set(Some(Vec::new()));
    work.await;
    TRANSCRIPT.take().expect("set above")
}

/// Rows of a tensor.
pub async fn read<B: Backend>(backend: &mut B, x: &B::Tensor, row: usize, n: usize) -> Vec<f32> {
    let mut out = Vec::new();
    backend.read(x, row, n, &mut out).await.expect("read");
    TRANSCRIPT.with_borrow_mut(|all| all.iter_mut().for_each(|all| all.extend(out.iter().map(|x| x.to_bits()))));
    out
}

/// The first `n` rows of a result that has one row more, which must still be zero.
async fn result<B: Backend>(backend: &mut B, what: &str, out: &B::Tensor, n: usize) -> Vec<f32> {
    let mut rows = read(backend, out, 0, n + 1).await;
    let beyond = rows.split_off(rows.len() / (n + 1) * n);
    assert!(beyond.iter().all(|x| *x == 0.0), "{what}: wrote beyond {n} rows");
    rows
}

/// A tensor of `rows` rows with `data` in its first ones; the rest stays zero.
fn tensor<B: Backend>(backend: &mut B, rows: usize, cols: usize, data: &[f32]) -> B::Tensor {
    let mut x = backend.tensor(rows, cols).expect("tensor");
    backend.write(&mut x, 0, data);
    x
}

fn spec(format: Format, n_in: usize, n_out: usize) -> MatrixSpec {
    MatrixSpec { name: format!("{}.weight", format.name()), format, n_in, n_out }
}

/// Uploads a matrix `rows` rows at a time.
fn upload<B: Backend>(backend: &mut B, spec: &MatrixSpec, bytes: &[u8], rows: usize) -> B::Matrix {
    let mut builder = backend.matrix_begin(spec).expect("matrix_begin");
    for chunk in bytes.chunks(rows * spec.format.row_bytes(spec.n_in)) {
        backend.matrix_rows(&mut builder, chunk).expect("matrix_rows");
    }
    backend.matrix_end(builder).expect("matrix_end")
}

/// `x Wᵀ` of rows of `n_in` elements.
#[allow(dead_code, reason = "not every runner of the suite compares single products")]
pub async fn product_of<B: Backend>(backend: &mut B, format: Format, n_in: usize, weights: &[u8], x: &[f32]) -> Vec<f32> {
    let (n, n_out) = (x.len() / n_in, weights.len() / format.row_bytes(n_in));
    let layer = Linear::<B> { weight: upload(backend, &spec(format, n_in, n_out), weights, n_out), bias: None };
    let x = tensor(backend, n, n_in, x);
    let mut out = backend.tensor(n, n_out).expect("tensor");
    backend.linear(&x, &layer, &mut out, n, Epilogue::Store);
    read(backend, &out, 0, n).await
}

fn decode(format: Format, bytes: &[u8], n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    format.decode_row(bytes, &mut out);
    out
}

/// Row lengths to try for a format.
pub fn row_lengths(format: Format) -> &'static [usize] {
    match format.block_len() {
        1 => &[1, 7, 8, 9, 33, 257],
        32 => &[32, 64, 96, 1056],
        _ => &[256, 512, 768],
    }
}

/// A test of the suite, which does nothing until it is awaited. In a browser many are awaited at once: each of them waits most of its time.
pub struct Test<'a> {
    #[allow(dead_code, reason = "where tests run one after another, the message of a failed one says which")]
    pub name: String,
    pub run: Pin<Box<dyn Future<Output = ()> + 'a>>,
}

impl<'a> Test<'a> {
    pub fn new(name: impl Into<String>, run: impl Future<Output = ()> + 'a) -> Self {
        Self { name: name.into(), run: Box::pin(run) }
    }
}

/// Everything, each test on a fresh backend.
pub fn tests<'a, B: Backend + 'a>(make: &'a impl Fn() -> B) -> Vec<Test<'a>> {
    let mut all = vec![
        Test::new("rows_of_tensors", async { rows_of_tensors(&mut make()).await }),
        Test::new("norms", async { norms(&mut make()).await }),
        Test::new("head_norm", async { head_norm(&mut make()).await }),
        Test::new("add_scaled, mean_rows", async { scaled_rows(&mut make()).await }),
        Test::new("short_conv", async { short_conv(&mut make()).await }),
        Test::new("mul_rows, hard_swish", async { rows_in_place(&mut make()).await }),
        Test::new("depthwise_conv", async { depthwise_conv(&mut make()).await }),
        Test::new("gate_mul", async { gate_mul(&mut make()).await }),
        Test::new("soft_cap", async { soft_cap(&mut make()).await }),
        Test::new("rope", async { rope(&mut make()).await }),
        Test::new("attention f32", async { attention(&mut make(), KvFormat::F32).await }),
        Test::new("attention f16", async { attention(&mut make(), KvFormat::F16).await }),
        Test::new("attention kv q8_0", async { attention(&mut make(), KvFormat::Q8_0).await }),
        Test::new("kv_read, kv_restore f32", async { kv_rows(&mut make(), KvFormat::F32).await }),
        Test::new("kv_read, kv_restore f16", async { kv_rows(&mut make(), KvFormat::F16).await }),
        Test::new("kv_read, kv_restore kv q8_0", async { kv_rows(&mut make(), KvFormat::Q8_0).await }),
        Test::new("extremes in a cache", async { extremes_in_a_cache(&mut make()).await }),
        Test::new("attention_rows", async { attention_rows(&mut make()).await }),
        Test::new("linear_epilogues", async { linear_epilogues(&mut make()).await }),
        Test::new("missing_rows", async { missing_rows(&mut make()) }),
        Test::new("out_of_memory", async { out_of_memory(&mut make()) }),
        Test::new("out_of_memory_matrices", async { out_of_memory_matrices(&mut make()) }),
        Test::new("fused", async { fused(&mut make()).await }),
    ];
    for format in Format::ALL {
        let name = format.name();
        for n_in in row_lengths(format) {
            let run = async move { linear(&mut make(), format, *n_in).await };
            all.push(Test::new(format!("linear {name}, rows of {n_in}"), run));
        }
        if format.is_quantized() {
            let run = async move { subnormal_scales(&mut make(), format).await };
            all.push(Test::new(format!("subnormal_scales {name}"), run));
        }
        all.push(Test::new(format!("embed {name}"), async move { embed(&mut make(), format).await }));
        all.push(Test::new(format!("upload_in_groups {name}"), async move { upload_in_groups(&mut make(), format).await }));
        all.push(Test::new(format!("damaged_weights {name}"), async move { damaged_weights(&mut make(), format) }));
    }
    all
}

/// Tests one after another.
pub async fn run(tests: Vec<Test<'_>>) {
    for test in tests {
        test.run.await;
    }
}

/// Everything, one after another.
#[allow(dead_code, reason = "a runner may choose among the tests")]
pub async fn suite<B: Backend>(make: impl Fn() -> B) {
    run(tests(&make)).await;
}

pub async fn rows_of_tensors<B: Backend>(backend: &mut B) {
    let mut random = Random::new(1);
    for cols in [1, 3, 12, 48, 64, 130] {
        let (a, b) = (random.floats(5 * cols), random.floats(4 * cols));
        let (src, mut dst) = (tensor(backend, 5, cols, &a), tensor(backend, 4, cols, &b));
        backend.copy_rows(&src, 2, &mut dst, 1, 3);
        let got = read(backend, &dst, 0, 4).await;
        assert_eq!(got[..cols], b[..cols]);
        assert_eq!(got[cols..], a[2 * cols..]);
        assert_eq!(read(backend, &dst, 3, 1).await, a[4 * cols..]);
        let mut gathered = tensor(backend, 4, cols, &b);
        backend.gather_rows(&src, &[[3, 0], [0, 2], [1, 3]], &mut gathered);
        let got = read(backend, &gathered, 0, 4).await;
        for (to, from) in [(0, 3), (2, 0), (3, 1)] {
            assert_eq!(got[to * cols..][..cols], a[from * cols..][..cols]);
        }
        assert_eq!(got[cols..2 * cols], b[cols..2 * cols]);
        // More pairs than are given at once, and a run.
        let many: Vec<[u32; 2]> = (0..5000).map(|i| [i * 7 % 5, i]).chain([[2, 5000], [3, 5001]]).collect();
        let mut all = backend.tensor(5002, cols).expect("tensor");
        backend.gather_rows(&src, &many, &mut all);
        let want: Vec<f32> = many.iter().flat_map(|[from, _]| a[*from as usize * cols..][..cols].to_vec()).collect();
        assert_eq!(read(backend, &all, 0, 5002).await, want);
        if cols % 4 == 0 {
            for (k, row, n) in [(2, 1, 2), (4, 1, 1), (1, 2, 3)] {
                // What stood there is overwritten, the padding as well.
                let mut joined = tensor(backend, n, k * cols, &vec![9.0; n * k * cols]);
                backend.join_rows(&src, row, k, &mut joined, n);
                assert_eq!(read(backend, &joined, 0, n).await, a[row * cols..][..n * k * cols]);
            }
        }
        backend.add_rows(&mut dst, 2, &src, 2);
        let got = read(backend, &dst, 0, 4).await;
        for i in 0..cols {
            assert_eq!(got[cols + i], a[2 * cols + i]);
            assert_eq!(got[2 * cols + i], a[3 * cols + i] + a[i]);
            assert_eq!(got[3 * cols + i], a[4 * cols + i] + a[cols + i]);
        }
    }
}

pub async fn norms<B: Backend>(backend: &mut B) {
    let mut random = Random::new(2);
    for (n, cols) in [(1, 1), (1, 7), (3, 8), (2, 9), (5, 63), (4, 64), (7, 1029)] {
        // A mean that dwarfs the deviation, as CLIP's residual stream has in some channels.
        let data: Vec<f32> = random.floats(n * cols).iter().map(|x| x + 5.0).collect();
        let (w, b) = (random.floats(cols), random.floats(cols));
        let x = tensor(backend, n + 1, cols, &data);
        let (weight, bias) = (tensor(backend, 1, cols, &w), tensor(backend, 1, cols, &b));
        let mut out = backend.tensor(n + 1, cols).expect("tensor");
        let (mut rms, mut layer) = (Vec::new(), Vec::new());
        for row in wide(&data).chunks(cols) {
            let mean = row.iter().sum::<f64>() / cols as f64;
            let square = row.iter().map(|x| x * x).sum::<f64>() / cols as f64;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / cols as f64;
            for (i, x) in row.iter().enumerate() {
                let (w, b) = (f64::from(w[i]), f64::from(b[i]));
                rms.push(x / (square + 1e-5).sqrt() * w);
                layer.push((x - mean) / (variance + 1e-5).sqrt() * w + b);
            }
        }
        backend.rms_norm(&x, &weight, 1e-5, &mut out, n);
        let what = format!("rms_norm {n}x{cols}");
        assert_near(&what, &result(backend, &what, &out, n).await, &rms, NMSE_FLOAT, MAX_FLOAT);
        backend.layer_norm(&x, &weight, &bias, 1e-5, &mut out, n);
        let what = format!("layer_norm {n}x{cols}");
        assert_near(&what, &result(backend, &what, &out, n).await, &layer, NMSE_FLOAT, MAX_FLOAT);
    }
}

pub async fn head_norm<B: Backend>(backend: &mut B) {
    let mut random = Random::new(21);
    for (n, n_heads, head_dim) in [(1, 1, 4), (3, 2, 7), (2, 3, 64), (5, 9, 80), (1, 2, 130)] {
        let cols = n_heads * head_dim;
        let (data, w) = (random.floats(n * cols), random.floats(head_dim));
        let (mut x, weight) = (tensor(backend, n + 1, cols, &data), tensor(backend, 1, head_dim, &w));
        backend.head_norm(&mut x, &weight, 1e-5, n);
        let norm = |head: &[f64]| {
            let square = head.iter().map(|x| x * x).sum::<f64>() / head_dim as f64;
            head.iter().zip(&w).map(|(x, w)| x / (square + 1e-5).sqrt() * f64::from(*w)).collect::<Vec<f64>>()
        };
        let want: Vec<f64> = wide(&data).chunks_exact(head_dim).flat_map(norm).collect();
        let what = format!("head_norm {n}x{n_heads}x{head_dim}");
        assert_near(&what, &result(backend, &what, &x, n).await, &want, NMSE_FLOAT, MAX_FLOAT);
    }
}

pub async fn scaled_rows<B: Backend>(backend: &mut B) {
    let mut random = Random::new(22);
    for (n, cols) in [(1, 1), (3, 8), (2, 65), (5, 130)] {
        let [a, b, s] = [n * cols, n * cols, cols].map(|n| random.floats(n));
        let (mut x, y) = (tensor(backend, n + 1, cols, &a), tensor(backend, n, cols, &b));
        let scale = tensor(backend, 1, cols, &s);
        backend.add_scaled(&mut x, &scale, &y, n);
        let want: Vec<f64> = (0..n * cols).map(|i| f64::from(a[i]) + f64::from(s[i % cols]) * f64::from(b[i])).collect();
        let what = format!("add_scaled {n}x{cols}");
        assert_near(&what, &result(backend, &what, &x, n).await, &want, NMSE_FLOAT, MAX_FLOAT);
        for (k, factor) in [(1, 3.5), (2, 1.0), (4, 1.0), (577, 1.0)] {
            let data = random.floats(n * k * cols);
            let (x, mut out) = (tensor(backend, n * k, cols, &data), backend.tensor(n + 1, cols).expect("tensor"));
            backend.mean_rows(&x, k, factor, &mut out, n);
            let at = |row: usize, col: usize| (0..k).map(|i| f64::from(data[(row * k + i) * cols + col])).sum::<f64>();
            let want: Vec<f64> = (0..n * cols).map(|i| f64::from(factor) / k as f64 * at(i / cols, i % cols)).collect();
            let what = format!("mean_rows {n}x{cols} of {k}");
            assert_near(&what, &result(backend, &what, &out, n).await, &want, NMSE_FLOAT, MAX_FLOAT);
        }
    }
}

fn hard_sigmoid(x: f64) -> f64 {
    (x + 3.0).clamp(0.0, 6.0) / 6.0
}

pub async fn rows_in_place<B: Backend>(backend: &mut B) {
    let mut random = Random::new(24);
    for (n, cols) in [(1, 1), (1, 9), (3, 64), (5, 130), (70, 257)] {
        let data: Vec<f32> = random.floats(n * cols).iter().map(|x| x * 5.0).collect();
        let s = random.floats(cols);
        let (mut x, scale) = (tensor(backend, n + 1, cols, &data), tensor(backend, 1, cols, &s));
        backend.mul_rows(&mut x, &scale, n);
        let want: Vec<f64> = data.iter().enumerate().map(|(i, x)| f64::from(*x) * f64::from(s[i % cols])).collect();
        let what = format!("mul_rows {n}x{cols}");
        assert_near(&what, &result(backend, &what, &x, n).await, &want, NMSE_FLOAT, MAX_FLOAT);
        let mut x = tensor(backend, n + 1, cols, &data);
        backend.hard_swish(&mut x, n);
        let want: Vec<f64> = wide(&data).iter().map(|x| x * hard_sigmoid(*x)).collect();
        let what = format!("hard_swish {n}x{cols}");
        assert_near(&what, &result(backend, &what, &x, n).await, &want, NMSE_FLOAT, MAX_FLOAT);
    }
    let extremes = [-3e38, -200.0, -3.0, -0.0, 0.0, 3.0, 200.0, 3e38];
    let mut x = tensor(backend, 1, extremes.len(), &extremes);
    backend.hard_swish(&mut x, 1);
    for (got, x) in read(backend, &x, 0, 1).await.iter().zip(extremes) {
        assert!((got - x.max(0.0)).abs() <= 1e-6 * x.abs(), "hard_swish({x}) is {got}");
    }
}

/// `depthwise_conv` by its formula.
fn convolved(data: &[f32], [height, width]: [usize; 2], taps: &[f32], bias: Option<&[f32]>, stride: usize) -> Vec<f64> {
    let cols = taps.len() / 9;
    let mut out = Vec::new();
    for (top, left) in (0..height).step_by(stride).flat_map(|y| (0..width).step_by(stride).map(move |x| (y, x))) {
        for i in 0..cols {
            let mut sum = bias.map_or(0.0, |bias| f64::from(bias[i]));
            for (dy, dx) in (-1..=1).flat_map(|dy| (-1..=1).map(move |dx| (dy, dx))) {
                let (y, x) = (top as isize + dy, left as isize + dx);
                if (0..height as isize).contains(&y) && (0..width as isize).contains(&x) {
                    let tap = f64::from(taps[(3 * (dy + 1) + dx + 1) as usize * cols + i]);
                    sum += tap * f64::from(data[(y as usize * width + x as usize) * cols + i]);
                }
            }
            out.push(sum);
        }
    }
    out
}

pub async fn depthwise_conv<B: Backend>(backend: &mut B) {
    let mut random = Random::new(25);
    for (height, width, cols) in [(1, 1, 1), (1, 2, 3), (2, 1, 33), (3, 3, 64), (4, 6, 8), (5, 7, 130), (24, 24, 20)] {
        let [data, taps, b] = [height * width * cols, 9 * cols, cols].map(|n| random.floats(n));
        // What stands behind the grid is not its.
        let beyond = [&data[..], &vec![9.0; cols]].concat();
        let x = tensor(backend, height * width + 1, cols, &beyond);
        for (stride, has_bias) in [(1, false), (1, true), (2, false), (2, true), (3, true)] {
            let bias = has_bias.then(|| tensor(backend, 1, cols, &b));
            let conv = DepthwiseConv::<B> { kernel: tensor(backend, 9, cols, &taps), bias, stride };
            let want = convolved(&data, [height, width], &taps, has_bias.then_some(&b[..]), stride);
            let n = want.len() / cols;
            assert_eq!(conv.output([height, width]).iter().product::<usize>(), n);
            let mut out = backend.tensor(n + 1, cols).expect("tensor");
            backend.depthwise_conv(&x, [height, width], &conv, &mut out);
            let what = format!("depthwise_conv {height}x{width}x{cols} by {stride}");
            assert_near(&what, &result(backend, &what, &out, n).await, &want, NMSE_FLOAT, MAX_FLOAT);
        }
    }
}

/// In pieces of all sizes it is what the whole is, and what it keeps is where a context that is cut back looks for it.
pub async fn short_conv<B: Backend>(backend: &mut B) {
    let mut random = Random::new(23);
    for cols in [4, 33] {
        let n = 200;
        let (data, taps) = (random.floats(n * 3 * cols), random.floats(3 * cols));
        let kernel = tensor(backend, 3, cols, &taps);
        let product =
            |slot: usize, i: usize| f64::from(data[slot * 3 * cols + i]) * f64::from(data[slot * 3 * cols + 2 * cols + i]);
        let of = |slot: usize, i: usize| {
            let sum: f64 = (0..3)
                .filter(|tap| slot + tap >= 2)
                .map(|tap| f64::from(taps[tap * cols + i]) * product(slot + tap - 2, i))
                .sum();
            f64::from(data[slot * 3 * cols + cols + i]) * sum
        };
        let mut state = backend.tensor(conv_state_rows(n), cols).expect("tensor");
        let (mut slot, mut sizes) = (0, [1, 2, 1, 70, 64, 3, 1, 1, 57].into_iter().cycle());
        while slot < n {
            let rows = sizes.next().unwrap_or(1).min(n - slot);
            let bcx = tensor(backend, rows, 3 * cols, &data[slot * 3 * cols..][..rows * 3 * cols]);
            let mut out = backend.tensor(rows + 1, cols).expect("tensor");
            backend.short_conv(&bcx, &kernel, &mut state, slot, &mut out, rows);
            let want: Vec<f64> = (0..rows * cols).map(|i| of(slot + i / cols, i % cols)).collect();
            let what = format!("short_conv of {rows} rows at {slot}");
            assert_near(&what, &result(backend, &what, &out, rows).await, &want, NMSE_FLOAT, MAX_FLOAT);
            slot += rows;
        }
        let kept = read(backend, &state, 0, conv_state_rows(n)).await;
        let mut places: Vec<(usize, usize)> = (n - CONV_RING..n).map(|slot| (slot, slot % CONV_RING)).collect();
        places.extend((0..n).filter_map(|slot| Some((slot, conv_state_row(slot)?))));
        assert_eq!(places.len(), CONV_RING + 2 * (n / CONV_RING));
        for (slot, row) in places {
            let want: Vec<f64> = (0..cols).map(|i| product(slot, i)).collect();
            assert_near(&format!("slot {slot}"), &kept[row * cols..][..cols], &want, NMSE_FLOAT, MAX_FLOAT);
        }
    }
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// By its definition, with the hyperbolic tangent.
fn gelu_tanh(x: f64) -> f64 {
    x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// `1 + erf(x)`, from the integral by Simpson's rule: slow, and right to 1e-12.
fn one_plus_erf(x: f64) -> f64 {
    let (from, steps) = (-7.0, 4000);
    let width = (x.clamp(-7.0, 7.0) - from) / f64::from(steps);
    let at = |i: i32| (-(from + width * f64::from(i)).powi(2)).exp();
    let inner: f64 = (1..steps).map(|i| if i % 2 == 1 { 4.0 } else { 2.0 } * at(i)).sum();
    (at(0) + inner + at(steps)) * width / 3.0 * std::f64::consts::FRAC_2_SQRT_PI
}

pub async fn gate_mul<B: Backend>(backend: &mut B) {
    let mut random = Random::new(3);
    for gating in [Gating::Silu, Gating::GeluTanh] {
        let gated = |x: f64| match gating {
            Gating::Silu => silu(x),
            Gating::GeluTanh => gelu_tanh(x),
        };
        for (n, cols) in [(1, 1), (1, 9), (3, 64), (2, 1001)] {
            let scaled = |random: &mut Random| random.floats(n * cols).iter().map(|x| x * 12.0).collect::<Vec<_>>();
            let (g, u) = (scaled(&mut random), scaled(&mut random));
            let (mut gate, up) = (tensor(backend, n + 1, cols, &g), tensor(backend, n, cols, &u));
            backend.gate_mul(gating, &mut gate, &up, n);
            let want: Vec<f64> = wide(&g).iter().zip(wide(&u)).map(|(g, u)| gated(*g) * u).collect();
            let what = format!("gate_mul {gating:?} {n}x{cols}");
            assert_near(&what, &result(backend, &what, &gate, n).await, &want, NMSE_FLOAT, MAX_FLOAT);
        }
        let extremes = [-1e30, -200.0, -0.0, 0.0, 200.0, 1e30];
        let (mut gate, up) = (tensor(backend, 1, 6, &extremes), tensor(backend, 1, 6, &[1.0; 6]));
        backend.gate_mul(gating, &mut gate, &up, 1);
        for (got, x) in read(backend, &gate, 0, 1).await.iter().zip(extremes) {
            assert!((got - x.max(0.0)).abs() <= 1e-6 * x.abs(), "{gating:?} of {x} is {got}");
        }
    }
}

pub async fn soft_cap<B: Backend>(backend: &mut B) {
    let mut random = Random::new(24);
    for (n, cols, cap) in [(1, 1, 30.0), (1, 9, 0.5), (3, 64, 2.0), (2, 1001, 30.0)] {
        let mut data: Vec<f32> = random.floats(n * cols).iter().map(|x| x * 50.0).collect();
        data[0] = -1e30;
        let mut x = tensor(backend, n + 1, cols, &data);
        backend.soft_cap(&mut x, cap, n);
        let cap = f64::from(cap);
        let want: Vec<f64> = wide(&data).iter().map(|x| cap * (x / cap).tanh()).collect();
        let what = format!("soft_cap {n}x{cols}");
        assert_near(&what, &result(backend, &what, &x, n).await, &want, NMSE_FLOAT, MAX_FLOAT);
    }
}

/// Cosines and sines of `n_ctx` positions.
fn angles(n_ctx: usize, n_rot: usize) -> Vec<f32> {
    let mut table = Vec::new();
    for position in 0..n_ctx {
        let angle = |i: usize| position as f64 * 10000_f64.powf(-2.0 * i as f64 / n_rot as f64);
        table.extend((0..n_rot / 2).map(|i| angle(i).cos() as f32));
        table.extend((0..n_rot / 2).map(|i| angle(i).sin() as f32));
    }
    table
}

fn rope_reference(x: &mut [f64], table: &[f32], n_rot: usize, style: RopeStyle, cols: usize, head_dim: usize, position: usize) {
    for (i, row) in x.chunks_mut(cols).enumerate() {
        let angles = &table[(position + i) * n_rot..][..n_rot];
        for head in row.chunks_mut(head_dim) {
            for p in 0..n_rot / 2 {
                let (a, b) = match style {
                    RopeStyle::Adjacent => (2 * p, 2 * p + 1),
                    RopeStyle::Halves => (p, p + n_rot / 2),
                };
                let (cos, sin) = (f64::from(angles[p]), f64::from(angles[n_rot / 2 + p]));
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
        }
    }
}

pub async fn rope<B: Backend>(backend: &mut B) {
    let mut random = Random::new(4);
    for style in [RopeStyle::Adjacent, RopeStyle::Halves] {
        for (n, n_heads, head_dim, n_rot) in [(1, 1, 2, 2), (3, 3, 16, 16), (5, 2, 24, 8), (2, 4, 66, 66)] {
            let table = angles(12, n_rot);
            let data = random.floats(n * n_heads * head_dim);
            let mut x = tensor(backend, n + 1, n_heads * head_dim, &data);
            let angles = tensor(backend, 12, n_rot, &table);
            backend.rope(&mut x, &angles, style, n_heads, head_dim, 7, n);
            let mut want = wide(&data);
            rope_reference(&mut want, &table, n_rot, style, n_heads * head_dim, head_dim, 7);
            let what = format!("rope {style:?} {n}x{n_heads}x{head_dim}");
            assert_near(&what, &result(backend, &what, &x, n).await, &want, NMSE_FLOAT, MAX_FLOAT);
        }
    }
}

/// Attention without a mask of heads that share nothing.
pub fn full(n_heads: usize, head_dim: usize, scale: f32) -> AttentionOp {
    let heads = Heads { n_heads, n_kv_heads: n_heads, head_dim };
    AttentionOp { scale, mask: Mask::Full, ..AttentionOp::causal(heads) }
}

/// One query: `softmax(scale · q Kᵀ) V`; `k(i)`, `v(i)` are the rows of key `i`.
fn attend<'a>(q: &[f64], n_keys: usize, k: impl Fn(usize) -> &'a [f64], v: impl Fn(usize) -> &'a [f64], scale: f64) -> Vec<f64> {
    let score = |i: usize| scale * q.iter().zip(k(i)).map(|(q, k)| q * k).sum::<f64>();
    let scores: Vec<f64> = (0..n_keys).map(score).collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut out = vec![0.0; q.len()];
    for (i, w) in weights.iter().enumerate() {
        let share = w / total;
        out.iter_mut().zip(v(i)).for_each(|(out, v)| *out += share * v);
    }
    out
}

pub async fn attention<B: Backend>(backend: &mut B, format: KvFormat) {
    let mut random = Random::new(5);
    for (n_heads, n_kv_heads, head_dim) in [(1, 1, 8), (4, 2, 16), (9, 3, 64), (2, 2, 12), (3, 1, 33), (5, 1, 96)] {
        let heads = Heads { n_heads, n_kv_heads, head_dim };
        let (cols, n_kv, n_ctx) = (n_heads * head_dim, n_kv_heads * head_dim, 331);
        let scale = 3.0 / (head_dim as f32).sqrt();
        let spec = KvSpec { n_layers: 2, n_ctx, n_kv, head_dim: heads.head_dim, format };
        let mut cache = backend.kv_cache(&spec).expect("kv_cache");
        let mut keys = [Vec::new(), Vec::new()];
        let mut values = [Vec::new(), Vec::new()];
        let mut position = 0;
        // A prompt, single steps, then several rows at once that see an odd number of keys.
        for n in [17, 1, 1, 3, 1, 16, 15, 33, 1, 39, 1, 1, 130, 1, 70, 1] {
            for layer in 0..2 {
                let (q, k, v) = (random.floats(n * cols), random.floats(n * n_kv), random.floats(n * n_kv));
                keys[layer].extend(kept(format, head_dim, &k));
                values[layer].extend(kept(format, head_dim, &v));
                let (kt, vt) = (tensor(backend, n, n_kv, &k), tensor(backend, n, n_kv, &v));
                backend.kv_write(&mut cache, layer, position, &kt, &vt, n);
                let (qt, mut out) = (tensor(backend, n, cols, &q), backend.tensor(n + 1, cols).expect("tensor"));
                backend.attention(
                    &AttentionOp { scale, ..AttentionOp::causal(heads) },
                    &qt,
                    KvSource::Cache { cache: &cache, layer, first: position, ends: None },
                    &mut out,
                    n,
                );
                let mut want = Vec::new();
                for (i, row) in wide(&q).chunks(cols).enumerate() {
                    for (h, q) in row.chunks(head_dim).enumerate() {
                        let at = |key: usize| key * n_kv + h * n_kv_heads / n_heads * head_dim;
                        let k = |key: usize| &keys[layer][at(key)..][..head_dim];
                        let v = |key: usize| &values[layer][at(key)..][..head_dim];
                        want.extend(attend(q, position + i + 1, k, v, f64::from(scale)));
                    }
                }
                let (nmse, max) = of_cache(format);
                let what = format!("attention {format:?} {heads:?} at {position}, {n} rows, layer {layer}");
                assert_near(&what, &result(backend, &what, &out, n).await, &want, nmse, max);
            }
            position += n;
        }
    }
}

/// Keys and values leave a cache in one order for every device, and come back to the bit.
pub async fn kv_rows<B: Backend>(backend: &mut B, format: KvFormat) {
    let mut random = Random::new(12);
    for (n_heads, head_dim) in [(1, 1), (1, 7), (1, 8), (3, 11), (3, 64)] {
        let (n_kv, n_layers, n, n_ctx) = (n_heads * head_dim, 3, 21, 29);
        let spec = KvSpec { n_layers, n_ctx, n_kv, head_dim, format };
        let [mut cache, mut copy] = std::array::from_fn(|_| backend.kv_cache(&spec).expect("kv_cache"));
        let mut rows = Vec::new();
        for layer in 0..n_layers {
            let [k, v] = std::array::from_fn(|_| random.floats(n * n_kv));
            let [kt, vt] = [&k, &v].map(|x| tensor(backend, n, n_kv, x));
            backend.kv_write(&mut cache, layer, 0, &kt, &vt, n);
            rows.push([k, v]);
        }
        let row_bytes = spec.row_bytes();
        let mut bytes = vec![1];
        for (at, part) in [KvPart::Keys, KvPart::Values].into_iter().enumerate() {
            for (layers, position, m) in [(0..3, 0, n), (1..3, 5, 9), (2..3, 20, 1), (0..1, 3, 0)] {
                let what = format!("{part:?} {format:?} of layers {layers:?}, {m} rows of {n_kv} from {position} on");
                backend.kv_read(&cache, part, layers.clone(), position, m, &mut bytes).await.expect("kv_read");
                assert_eq!(bytes.len(), layers.len() * m * row_bytes, "{what}");
                let mut got = Vec::new();
                spec.floats(&bytes, &mut got);
                assert!(spec.are_sound(&bytes), "{what}");
                let want: Vec<f32> = layers.flat_map(|l| rows[l][at][position * n_kv..(position + m) * n_kv].to_vec()).collect();
                match format {
                    KvFormat::F32 => assert_eq!(got, want, "{what}"),
                    KvFormat::F16 if m > 0 => assert_near(&what, &got, &wide(&want), NMSE_HALF, MAX_HALF),
                    // Here an element may be half a step off.
                    KvFormat::Q8_0 if m > 0 => assert_near(&what, &got, &wide(&want), 1e-4, 5e-3),
                    KvFormat::F16 | KvFormat::Q8_0 => {}
                }
            }
            // What was read last is nothing; all of it goes over in two pieces, of layers and of positions.
            let (mut before, mut after) = (Vec::new(), Vec::new());
            backend.kv_read(&cache, part, 0..3, 0, n, &mut before).await.expect("kv_read");
            backend.kv_restore(&mut copy, part, 0..2, 0, &before[..2 * n * row_bytes]);
            for i in 0..n {
                backend.kv_restore(&mut copy, part, 2..3, i, &before[(2 * n + i) * row_bytes..][..row_bytes]);
            }
            backend.kv_read(&copy, part, 0..3, 0, n, &mut after).await.expect("kv_read");
            assert_eq!(before, after, "{part:?} {format:?} of {n_kv}");
            backend.kv_read(&copy, part, 0..3, n, n_ctx - n, &mut after).await.expect("kv_read");
            assert!(after.iter().all(|x| *x == 0), "{part:?} {format:?} of {n_kv}: wrote beyond {n} rows");
        }
        let heads = Heads { n_heads, n_kv_heads: n_heads, head_dim };
        let q = random.floats(n_kv);
        let qt = tensor(backend, 1, n_kv, &q);
        let mut outputs = Vec::new();
        for cache in [&cache, &copy] {
            let mut out = backend.tensor(2, n_kv).expect("tensor");
            backend.attention(
                &AttentionOp { scale: 0.5, ..AttentionOp::causal(heads) },
                &qt,
                KvSource::Cache { cache, layer: 2, first: n - 1, ends: None },
                &mut out,
                1,
            );
            outputs.push(result(backend, "attention over what was restored", &out, 1).await);
        }
        assert_eq!(outputs[0], outputs[1], "{format:?} {heads:?}");
    }
}

/// What is beyond halves, or so small that its scale is a subnormal one or none, stays a number in a cache, and leaves others what they are.
pub async fn extremes_in_a_cache<B: Backend>(backend: &mut B) {
    let (head_dim, n) = (64, 5);
    let row = |first: f32, second: f32| [[first; 32], [second; 32]].concat();
    // Scales: of 1 and less; subnormal; none; the largest.
    let rows = [row(1.0, -0.5), row(3e-3, 1e-3), row(1e-7, 0.0), row(3e8, -1.0), row(-2.0, 4.0)].concat();
    for format in [KvFormat::F16, KvFormat::Q8_0] {
        let spec = KvSpec { n_layers: 1, n_ctx: 8, n_kv: head_dim, head_dim, format };
        let mut cache = backend.kv_cache(&spec).expect("kv_cache");
        let x = tensor(backend, n, head_dim, &rows);
        backend.kv_write(&mut cache, 0, 0, &x, &x, n);
        for part in [KvPart::Keys, KvPart::Values] {
            let (mut bytes, mut got) = (Vec::new(), Vec::new());
            backend.kv_read(&cache, part, 0..1, 0, n, &mut bytes).await.expect("kv_read");
            assert!(spec.are_sound(&bytes), "{format:?}");
            spec.floats(&bytes, &mut got);
            for (got, want) in got.iter().zip(&rows) {
                let most = if format == KvFormat::F16 { 65504.0 } else { 127.0 * 65504.0 };
                let want = want.clamp(-most, most);
                assert!((got - want).abs() <= want.abs() / 200.0 + 4e-6, "{part:?} {format:?}: {got} for {want}");
            }
        }
        // The last row, which looks at itself alone.
        let q = tensor(backend, 1, head_dim, &vec![0.1; head_dim]);
        let mut out = backend.tensor(2, head_dim).expect("tensor");
        let heads = Heads { n_heads: 1, n_kv_heads: 1, head_dim };
        let op = AttentionOp { mask: Mask::Window(1), ..AttentionOp::causal(heads) };
        backend.attention(&op, &q, KvSource::Cache { cache: &cache, layer: 0, first: n - 1, ends: None }, &mut out, 1);
        let got = result(backend, "attention beside extremes", &out, 1).await;
        assert_near(&format!("attention beside extremes, {format:?}"), &got, &wide(&rows[(n - 1) * head_dim..]), 1e-5, 5e-3);
    }
}

pub async fn attention_rows<B: Backend>(backend: &mut B) {
    let mut random = Random::new(6);
    for (n, n_heads, head_dim) in [(1, 1, 8), (15, 2, 16), (16, 1, 64), (17, 3, 24), (50, 2, 33), (129, 2, 16), (300, 1, 12)] {
        let cols = n_heads * head_dim;
        let scale = 2.0 / (head_dim as f32).sqrt();
        let [q, k, v] = std::array::from_fn(|_| random.floats(n * cols));
        let [qt, kt, vt] = [&q, &k, &v].map(|x| tensor(backend, n + 2, cols, x));
        let mut out = backend.tensor(n + 2, cols).expect("tensor");
        backend.attention(&full(n_heads, head_dim, scale), &qt, KvSource::Rows { k: &kt, v: &vt }, &mut out, n);
        let (q, k, v) = (wide(&q), wide(&k), wide(&v));
        let mut want = Vec::new();
        for row in q.chunks(cols) {
            for (h, q) in row.chunks(head_dim).enumerate() {
                let at = |key: usize| key * cols + h * head_dim;
                want.extend(attend(q, n, |i| &k[at(i)..][..head_dim], |i| &v[at(i)..][..head_dim], f64::from(scale)));
            }
        }
        let what = format!("attention_rows {n}x{n_heads}x{head_dim}");
        assert_near(&what, &result(backend, &what, &out, n).await, &want, NMSE_FLOAT, MAX_FLOAT);
    }
}

fn product(weights: &[f32], x: &[f32], n_in: usize) -> Vec<f64> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks(n_in).flat_map(|x| weights.chunks(n_in).map(move |w| dot(x, w))).collect()
}

/// A product of terms that cancel may be small beside its terms; the error is not. How much larger it may be.
fn slack(weights: &[f32], want: &[f64], n_out: usize) -> f64 {
    let terms: f64 = wide(weights).iter().map(|w| w * w).sum();
    let typical = (terms / n_out as f64 / 3.0).sqrt();
    let rms = (want.iter().map(|y| y * y).sum::<f64>() / want.len() as f64).sqrt();
    (typical / rms.max(1e-30)).max(1.0)
}

pub async fn linear<B: Backend>(backend: &mut B, format: Format, n_in: usize) {
    let mut random = Random::new((n_in as u64) << 8 | (7 + format as u64));
    let (nmse, max) = if format.block_len() == 1 { (NMSE_FLOAT, MAX_FLOAT) } else { (NMSE_8_BIT, MAX_8_BIT) };
    for n_out in [1, 3, 4, 7, 8, 9, 21] {
        let bytes = random.matrix(format, n_in, n_out);
        let weights = decode(format, &bytes, n_in * n_out);
        let weight = upload(backend, &spec(format, n_in, n_out), &bytes, n_out);
        let layer = Linear::<B> { weight, bias: None };
        for n in [1, 2, 3, 4, 5, 9] {
            let data = random.floats(n * n_in);
            let x = tensor(backend, n, n_in, &data);
            let mut out = backend.tensor(n + 1, n_out).expect("tensor");
            backend.linear(&x, &layer, &mut out, n, Epilogue::Store);
            let what = format!("linear {} [{n_out}, {n_in}], {n} rows", format.name());
            let want = product(&weights, &data, n_in);
            let slack = slack(&weights, &want, n_out);
            assert_near(&what, &result(backend, &what, &out, n).await, &want, nmse * slack * slack, max * slack);
        }
    }
}

/// Scales that are subnormal halves: those of K-quants of any real model (Q6_K's is the largest weight divided by 4096), and the least
/// there is. Beside them others that are not, as the rows of one matrix are.
pub async fn subnormal_scales<B: Backend>(backend: &mut B, format: Format) {
    let mut random = Random::new(14 + format as u64);
    for n_in in [row_lengths(format)[0], row_lengths(format)[2]] {
        let n_out = 9;
        for scale in [1e-5, 6e-8] {
            let mut bytes = random.matrix_of_scales(format, n_in, n_out, scale);
            let weights = decode(format, &bytes, n_in * n_out);
            assert!(weights.iter().any(|w| *w != 0.0), "scales of {scale} are not nothing");
            let ordinary = random.matrix(format, n_in, 1);
            bytes.extend(&ordinary);
            let layer = Linear::<B> { weight: upload(backend, &spec(format, n_in, n_out + 1), &bytes, n_out + 1), bias: None };
            for n in [1, 5] {
                let data = random.floats(n * n_in);
                let x = tensor(backend, n, n_in, &data);
                let mut out = backend.tensor(n, n_out + 1).expect("tensor");
                backend.linear(&x, &layer, &mut out, n, Epilogue::Store);
                let got = read(backend, &out, 0, n).await;
                let got: Vec<f32> = got.chunks_exact(n_out + 1).flat_map(|row| row[..n_out].to_vec()).collect();
                let what = format!("linear {} of scales {scale}, [{n_out}, {n_in}], {n} rows", format.name());
                let want = product(&weights, &data, n_in);
                let slack = slack(&weights, &want, n_out);
                assert_near(&what, &got, &want, NMSE_8_BIT * slack * slack, MAX_8_BIT * slack);
            }
            let ids = [8, 0, 5];
            let mut out = backend.tensor(ids.len(), n_in).expect("tensor");
            backend.embed(&layer.weight, &ids, &mut out, 0);
            let want: Vec<f64> = ids.iter().flat_map(|id| wide(&weights[*id as usize * n_in..][..n_in])).collect();
            assert_near(
                &format!("embed {} of scales {scale}", format.name()),
                &read(backend, &out, 0, 3).await,
                &want,
                1e-13,
                1e-6,
            );
        }
    }
}

pub async fn linear_epilogues<B: Backend>(backend: &mut B) {
    let mut random = Random::new(8);
    let formats = [Format::F32, Format::F16, Format::Q8_0];
    for (format, n) in formats.into_iter().flat_map(|format| [(format, 1), (format, 5)]) {
        let (n_in, n_out) = (96, 13);
        let bytes = random.matrix(format, n_in, n_out);
        let (b, residual) = (random.floats(n_out), random.floats(n * n_out));
        let weight = upload(backend, &spec(format, n_in, n_out), &bytes, n_out);
        let bias = Some(tensor(backend, 1, n_out, &b));
        let layer = Linear::<B> { weight, bias };
        let data = random.floats(n * n_in);
        let x = tensor(backend, n, n_in, &data);
        let mut y = product(&decode(format, &bytes, n_in * n_out), &data, n_in);
        y.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(b[i % n_out]));
        for epilogue in [
            Epilogue::Store,
            Epilogue::Add,
            Epilogue::Gelu,
            Epilogue::GeluTanh,
            Epilogue::QuickGelu,
            Epilogue::Relu,
            Epilogue::HardSigmoid,
        ] {
            let mut out = tensor(backend, n, n_out, &residual);
            backend.linear(&x, &layer, &mut out, n, epilogue);
            let apply = |(i, y): (usize, &f64)| match epilogue {
                Epilogue::Store => *y,
                Epilogue::Add => y + f64::from(residual[i]),
                Epilogue::Gelu => y / 2.0 * one_plus_erf(y / 2_f64.sqrt()),
                Epilogue::GeluTanh => gelu_tanh(*y),
                Epilogue::QuickGelu => y / (1.0 + (-1.702 * y).exp()),
                Epilogue::Relu => y.max(0.0),
                Epilogue::HardSigmoid => hard_sigmoid(*y),
            };
            let want: Vec<f64> = y.iter().enumerate().map(apply).collect();
            let (nmse, max) = if format == Format::Q8_0 { (NMSE_8_BIT, MAX_8_BIT) } else { (NMSE_FLOAT, MAX_FLOAT) };
            let what = format!("linear {} {epilogue:?}, {n} rows", format.name());
            assert_near(&what, &read(backend, &out, 0, n).await, &want, nmse, max);
        }
    }
    // Activations of what is far from zero are that, or nothing; and no cube or exponential overflows.
    let extremes = [-1e30_f32, -200.0, -20.0, -0.0, 0.0, 20.0, 200.0, 1e30];
    let weights: Vec<u8> = extremes.iter().flat_map(|x| x.to_le_bytes()).collect();
    let weight = upload(backend, &spec(Format::F32, 1, extremes.len()), &weights, extremes.len());
    let layer = Linear::<B> { weight, bias: None };
    let one = tensor(backend, 1, 1, &[1.0]);
    for epilogue in [Epilogue::Gelu, Epilogue::GeluTanh, Epilogue::QuickGelu, Epilogue::Relu, Epilogue::HardSigmoid] {
        let mut out = backend.tensor(1, extremes.len()).expect("tensor");
        backend.linear(&one, &layer, &mut out, 1, epilogue);
        for (got, x) in read(backend, &out, 0, 1).await.iter().zip(extremes) {
            let want = if epilogue == Epilogue::HardSigmoid { hard_sigmoid(f64::from(x)) as f32 } else { x.max(0.0) };
            assert!((got - want).abs() <= 1e-6 * x.abs(), "{epilogue:?} of {x} is {got}");
        }
    }
}

pub async fn embed<B: Backend>(backend: &mut B, format: Format) {
    let mut random = Random::new(9 + format as u64);
    for n_in in row_lengths(format) {
        let (n_in, n_out) = (*n_in, 19);
        let bytes = random.matrix(format, n_in, n_out);
        let table = upload(backend, &spec(format, n_in, n_out), &bytes, n_out);
        let weights = wide(&decode(format, &bytes, n_in * n_out));
        let ids = [18, 0, 7, 7, 8, 3];
        let mut out = backend.tensor(8, n_in).expect("tensor");
        backend.embed(&table, &ids, &mut out, 1);
        let want: Vec<f64> = ids.iter().flat_map(|id| weights[*id as usize * n_in..][..n_in].to_vec()).collect();
        let what = format!("embed {} [{n_out}, {n_in}]", format.name());
        let rows = result(backend, &what, &out, 7).await;
        assert_near(&what, &rows[n_in..], &want, 1e-13, 1e-6);
        assert!(rows[..n_in].iter().all(|x| *x == 0.0), "{what}: wrote before its rows");
    }
}

pub async fn upload_in_groups<B: Backend>(backend: &mut B, format: Format) {
    let mut random = Random::new(10 + format as u64);
    let (n_in, n_out) = (row_lengths(format)[2], 3 * B::ROW_GROUP + 3);
    let spec = spec(format, n_in, n_out);
    let bytes = random.matrix(format, n_in, n_out);
    let x = tensor(backend, 1, n_in, &random.floats(n_in));
    let mut product = async |rows: usize| {
        let layer = Linear::<B> { weight: upload(backend, &spec, &bytes, rows), bias: None };
        let mut out = backend.tensor(1, n_out).expect("tensor");
        backend.linear(&x, &layer, &mut out, 1, Epilogue::Store);
        read(backend, &out, 0, 1).await
    };
    let whole = product(n_out).await;
    assert_eq!(whole, product(B::ROW_GROUP).await, "{}: rows uploaded group by group", format.name());
    assert_eq!(whole, product(2 * B::ROW_GROUP).await, "{}: rows uploaded two groups at a time", format.name());
}

pub fn damaged_weights<B: Backend>(backend: &mut B, format: Format) {
    let n_in = row_lengths(format)[1];
    let spec = spec(format, n_in, 3);
    let bytes = Random::new(11).matrix(format, n_in, 3);
    let not_a_number: &[u8] = match format {
        Format::F32 => &[0, 0, 0xc0, 0x7f],
        Format::BF16 => &[0xc0, 0x7f],
        _ => &[0, 0x7e],
    };
    let offsets = if format.block_len() == 1 { &[0] } else { scale_offsets(format) };
    for at in offsets {
        let mut damaged = bytes.clone();
        let at = damaged.len() - format.block_bytes() + at;
        damaged[at..at + not_a_number.len()].copy_from_slice(not_a_number);
        let mut builder = backend.matrix_begin(&spec).expect("matrix_begin");
        let error = backend.matrix_rows(&mut builder, &damaged).expect_err("a scale that is not a number");
        assert_eq!(error.code(), "invalid_gguf");
        assert!(error.message().contains(&spec.name), "{error} does not name {}", spec.name);
    }
}

pub fn missing_rows<B: Backend>(backend: &mut B) {
    let spec = spec(Format::F32, 4, B::ROW_GROUP + 1);
    let mut builder = backend.matrix_begin(&spec).expect("matrix_begin");
    backend.matrix_rows(&mut builder, &vec![0; 16 * B::ROW_GROUP]).expect("matrix_rows");
    let error = backend.matrix_end(builder).err().expect("a row is missing");
    assert_eq!(error.code(), "internal");
}

/// More memory than there is, also where the number of elements is beyond a `usize`.
pub fn out_of_memory<B: Backend>(backend: &mut B) {
    let huge = usize::MAX / 2;
    assert_eq!(backend.tensor(huge, 4).err().expect("a tensor too large").code(), "out_of_memory");
    for format in KvFormat::ALL {
        let spec = KvSpec { n_layers: 64, n_ctx: huge, n_kv: 1024, head_dim: 64, format };
        assert_eq!(backend.kv_cache(&spec).err().expect("a cache too large").code(), "out_of_memory");
    }
}

/// Matrices likewise, which may be in pieces. Not in browsers on the GPU: there a piece that is asked for is made later, and that it could
/// not be is told later still. Real matrices are no larger than their file.
pub fn out_of_memory_matrices<B: Backend>(backend: &mut B) {
    for format in Format::ALL {
        let error = backend.matrix_begin(&spec(format, 4096, usize::MAX / 2)).err().expect("a matrix too large");
        assert_eq!(error.code(), "out_of_memory");
    }
}

/// The fused ops against the plain ones.
pub async fn fused<B: Backend>(backend: &mut B) {
    let mut random = Random::new(12);
    let heads = Heads { n_heads: 6, n_kv_heads: 2, head_dim: 16 };
    let (n_embd, n_q, n_kv, n_ctx) = (64, 96, 32, 16);
    for n in [1, 5] {
        let mut layer = |backend: &mut B, format: Format, n_out: usize| {
            let bytes = random.matrix(format, n_embd, n_out);
            let weight = upload(backend, &spec(format, n_embd, n_out), &bytes, n_out);
            Linear::<B> { weight, bias: Some(tensor(backend, 1, n_out, &random.floats(n_out))) }
        };
        let q = layer(backend, Format::Q4_0, n_q);
        let k = layer(backend, Format::Q4_0, n_kv);
        let v = layer(backend, Format::F16, n_kv);
        let up = layer(backend, Format::Q8_0, n_q);
        let x = tensor(backend, n, n_embd, &random.floats(n * n_embd));
        let table = tensor(backend, n_ctx, 16, &angles(n_ctx, 16));
        let spec = KvSpec { n_layers: 1, n_ctx, n_kv, head_dim: heads.head_dim, format: KvFormat::F32 };
        let attend = async |backend: &mut B, is_fused: bool| {
            let mut cache = backend.kv_cache(&spec).expect("kv_cache");
            let [mut qt, mut kt, mut vt, mut out] = [n_q, n_kv, n_kv, n_q].map(|cols| backend.tensor(n, cols).expect("tensor"));
            if is_fused {
                let place = KvPlace { cache: &mut cache, layer: 0, position: 3, rope: &table, style: RopeStyle::Halves, heads };
                let layers = Qkv { q: &q, k: &k, v: &v, qk_norm: None };
                backend.qkv_rope_kv(&x, &layers, place, &mut qt, &mut kt, &mut vt, n);
            } else {
                backend.linear(&x, &q, &mut qt, n, Epilogue::Store);
                backend.linear(&x, &k, &mut kt, n, Epilogue::Store);
                backend.linear(&x, &v, &mut vt, n, Epilogue::Store);
                backend.rope(&mut qt, &table, RopeStyle::Halves, 6, 16, 3, n);
                backend.rope(&mut kt, &table, RopeStyle::Halves, 2, 16, 3, n);
                backend.kv_write(&mut cache, 0, 3, &kt, &vt, n);
            }
            backend.attention(
                &AttentionOp { scale: 0.25, ..AttentionOp::causal(heads) },
                &qt,
                KvSource::Cache { cache: &cache, layer: 0, first: 3, ends: None },
                &mut out,
                n,
            );
            read(backend, &out, 0, n).await
        };
        let plain = wide(&attend(backend, false).await);
        assert_near("qkv_rope_kv", &attend(backend, true).await, &plain, NMSE_FLOAT, MAX_FLOAT);

        let [mut a, mut b, mut c, mut d] = [(); 4].map(|()| backend.tensor(n, n_q).expect("tensor"));
        for gating in [Gating::Silu, Gating::GeluTanh] {
            backend.gate_up(&x, &GateUp { gate: &q, up: &up, gating }, &mut a, &mut b, n);
            backend.linear(&x, &q, &mut c, n, Epilogue::Store);
            backend.linear(&x, &up, &mut d, n, Epilogue::Store);
            backend.gate_mul(gating, &mut c, &d, n);
            let plain = wide(&read(backend, &c, 0, n).await);
            assert_near("gate_up", &read(backend, &a, 0, n).await, &plain, NMSE_FLOAT, MAX_FLOAT);
        }
    }
}

/// The same products from two backends whose kernels add the same integers, but for the order of the last sums.
#[allow(dead_code, reason = "only a backend with twins compares them")]
pub async fn twins<A: Backend, B: Backend>(plain: impl Fn() -> A, fast: impl Fn() -> B) {
    let mut random = Random::new(20);
    for format in Format::ALL {
        for (n_in, n_out, n) in row_lengths(format).iter().flat_map(|n_in| [(*n_in, 9, 5), (*n_in, 4, 1)]) {
            let (bytes, data) = (random.matrix(format, n_in, n_out), random.floats(n * n_in));
            let want = wide(&product_of(&mut plain(), format, n_in, &bytes, &data).await);
            let got = product_of(&mut fast(), format, n_in, &bytes, &data).await;
            assert_near(&format!("twins {} [{n_out}, {n_in}], {n} rows", format.name()), &got, &want, 1e-12, 2e-6);
        }
    }
}

/// Every op on sizes that several threads share, by name.
#[allow(dead_code, reason = "only a backend with threads is asked for it")]
pub async fn outputs<B: Backend>(backend: &mut B) -> Vec<(String, Vec<f32>)> {
    let mut random = Random::new(30);
    let mut outputs = Vec::new();
    for format in Format::ALL {
        for (n_in, n_out, n) in [(512, 1027, 1), (256, 203, 37)] {
            let bytes = random.matrix(format, n_in, n_out);
            let layer = |backend: &mut B, bias| {
                let weight = upload(backend, &spec(format, n_in, n_out), &bytes, n_out);
                Linear::<B> { weight, bias }
            };
            let bias = Some(tensor(backend, 1, n_out, &random.floats(n_out)));
            let (with_bias, without) = (layer(backend, bias), layer(backend, None));
            let x = tensor(backend, n, n_in, &random.floats(n * n_in));
            let residual = random.floats(n * n_out);
            for epilogue in [Epilogue::Store, Epilogue::Add, Epilogue::Gelu, Epilogue::GeluTanh, Epilogue::HardSigmoid] {
                let mut out = tensor(backend, n, n_out, &residual);
                backend.linear(&x, &with_bias, &mut out, n, epilogue);
                outputs.push((format!("linear {} {n} rows {epilogue:?}", format.name()), read(backend, &out, 0, n).await));
            }
            let [mut a, mut b, mut c] = [(); 3].map(|()| backend.tensor(n, n_out).expect("tensor"));
            let layers = Qkv { q: &with_bias, k: &without, v: &with_bias, qk_norm: None };
            backend.qkv(&x, &layers, &mut a, &mut b, &mut c, n);
            for (name, out) in [("q", &a), ("k", &b), ("v", &c)] {
                outputs.push((format!("{name} {} {n} rows", format.name()), read(backend, out, 0, n).await));
            }
            let layers = GateUp { gate: &without, up: &with_bias, gating: Gating::Silu };
            backend.gate_up(&x, &layers, &mut a, &mut b, n);
            outputs.push((format!("gate_up {} {n} rows", format.name()), read(backend, &a, 0, n).await));
        }
    }
    let (n, heads) = (70, Heads { n_heads: 6, n_kv_heads: 3, head_dim: 64 });
    let (cols, n_kv, n_ctx) = (384, 192, 800);
    let x = random.floats(n_ctx * cols);
    for format in KvFormat::ALL {
        let mut cache =
            backend.kv_cache(&KvSpec { n_layers: 2, n_ctx, n_kv, head_dim: heads.head_dim, format }).expect("kv_cache");
        let (k, v) = (tensor(backend, n_ctx, n_kv, &x[..n_ctx * n_kv]), tensor(backend, n_ctx, n_kv, &x[n_ctx * n_kv..]));
        backend.kv_write(&mut cache, 1, 3, &k, &v, n_ctx - 3);
        let (q, mut out) = (tensor(backend, n, cols, &x[7..7 + n * cols]), backend.tensor(n, cols).expect("tensor"));
        for (position, n) in [(0, n), (200, n), (700, n), (5, 1), (790, 1)] {
            backend.attention(
                &AttentionOp { scale: 0.2, ..AttentionOp::causal(heads) },
                &q,
                KvSource::Cache { cache: &cache, layer: 1, first: position, ends: None },
                &mut out,
                n,
            );
            outputs.push((format!("attention {format:?} at {position}, {n} rows"), read(backend, &out, 0, n).await));
        }
    }
    let [q, k, v] = [1, 2, 3].map(|i| tensor(backend, 300, cols, &x[i * 100..i * 100 + 300 * cols]));
    let mut out = backend.tensor(300, cols).expect("tensor");
    backend.attention(&full(6, 64, 0.2), &q, KvSource::Rows { k: &k, v: &v }, &mut out, 300);
    outputs.push(("attention_rows".into(), read(backend, &out, 0, 300).await));
    let (w, b) = (tensor(backend, 1, cols, &x[..cols]), tensor(backend, 1, cols, &x[cols..2 * cols]));
    backend.rms_norm(&q, &w, 1e-5, &mut out, 300);
    outputs.push(("rms_norm".into(), read(backend, &out, 0, 300).await));
    backend.layer_norm(&q, &w, &b, 1e-5, &mut out, 300);
    outputs.push(("layer_norm".into(), read(backend, &out, 0, 300).await));
    for gating in [Gating::Silu, Gating::GeluTanh] {
        backend.gate_mul(gating, &mut out, &k, 300);
        outputs.push((format!("gate_mul {gating:?}"), read(backend, &out, 0, 300).await));
    }
    backend.hard_swish(&mut out, 300);
    backend.mul_rows(&mut out, &w, 300);
    outputs.push(("hard_swish, mul_rows".into(), read(backend, &out, 0, 300).await));
    for stride in [1, 2] {
        let conv = DepthwiseConv::<B> { kernel: tensor(backend, 9, cols, &x[..9 * cols]), bias: None, stride };
        let mut convolved = backend.tensor(300, cols).expect("tensor");
        backend.depthwise_conv(&q, [20, 15], &conv, &mut convolved);
        outputs.push((format!("depthwise_conv by {stride}"), read(backend, &convolved, 0, 300).await));
    }
    let table = tensor(backend, 400, 64, &angles(400, 64));
    backend.rope(&mut out, &table, RopeStyle::Halves, 6, 64, 50, 300);
    outputs.push(("rope".into(), read(backend, &out, 0, 300).await));
    outputs
}

/// What several threads compute is what one does, to the last bit.
#[allow(dead_code, reason = "only a backend with threads is asked for it")]
pub fn identical(what: &str, outputs: &[(String, Vec<f32>)], one_thread: &[(String, Vec<f32>)]) {
    assert_eq!(outputs.len(), one_thread.len());
    for ((name, got), (_, want)) in outputs.iter().zip(one_thread) {
        let differs = got.iter().zip(want).position(|(got, want)| got.to_bits() != want.to_bits());
        assert!(got.len() == want.len() && differs.is_none(), "{what}: {name} differs at element {differs:?}");
    }
}

/// Weights are counted while they live.
pub fn weight_bytes<B: Backend>(make: impl Fn() -> B) {
    let mut backend = make();
    let spec = spec(Format::Q4_0, 64, 32);
    let bytes = Random::new(13).matrix(Format::Q4_0, 64, 32);
    let matrix = upload(&mut backend, &spec, &bytes, 32);
    let (held, stored) = (backend.weight_bytes(), bytes.len() as u64);
    assert!(held >= stored && held <= stored * 5 / 4, "{stored} bytes of weights take {held}");
    drop(matrix);
    assert_eq!(backend.weight_bytes(), 0);
}
