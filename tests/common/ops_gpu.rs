//! What the WebGPU backend has to show beside the common table of ops: all forms of its kernels, matrices in pieces, fused kernels,
//! and the self-test. Natively and in browsers alike: no files, and nothing that blocks.

use std::rc::Rc;

use llava_web::backend::gpu::kernels::{Kernel, Variant};
use llava_web::backend::gpu::{Device, DeviceOptions, Gpu};
use llava_web::backend::{Backend, Epilogue, Heads, KvFormat, KvPlace, KvSpec, Linear, MatrixSpec, Qkv, RopeStyle};
use llava_web::quant::Format;

use crate::ops::{self, Test};

/// Opens the first adapter there is; one that computes on the CPU will do.
pub async fn open(options: DeviceOptions) -> Rc<Device> {
    Device::open(options).await.unwrap_or_else(|error| {
        panic!("{error}\nThese tests need a Vulkan adapter. Without a GPU: apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1")
    })
}

fn backend(device: &Rc<Device>) -> Gpu {
    Gpu::new(device.clone()).expect("a backend")
}

/// Every test that a browser can run, the common table once for each form of the kernels. `options` are what the page knows of the
/// adapter.
#[allow(dead_code, reason = "natively each is a test of its own")]
pub async fn tests(options: DeviceOptions) -> Vec<Test<'static>> {
    let device = open(options).await;
    let mut all = Vec::new();
    for variant in device.variants() {
        let device = open(DeviceOptions { variant: Some(variant), ..options }).await;
        // The tests borrow it, and live as long as whoever runs them.
        let make: &'static _ = Box::leak(Box::new(move || backend(&device)));
        let possible = ops::tests(make).into_iter().filter(|test| test.name != "out_of_memory_matrices");
        all.extend(possible.map(|test| Test { name: format!("{} ({variant:?})", test.name), ..test }));
    }
    for (format, other) in Format::ALL.into_iter().map(|format| (format, format)).chain([(Format::Q4_K, Format::Q6_K)]) {
        let device = device.clone();
        let run = async move { fused_decoding(&device, format, other).await };
        all.push(Test::new(format!("fused_decoding {} {}", format.name(), other.name()), run));
    }
    let whole = device.clone();
    all.push(Test::new("matrices_in_pieces", async move { matrices_in_pieces(options, &whole).await }));
    all.push(Test::new("self_test", self_test(options)));
    all.push(Test::new("self_test replaces a variant", wrong_variant(options)));
    // Each compiles every kernel before it; one shows that a browser's compiler is asked at all.
    all.push(Test::new("self_test rules an adapter out", wrong_kernels(options, &WRONG_KERNELS[..1])));
    all.push(Test::new("weight_bytes", async move { ops::weight_bytes(|| backend(&device)) }));
    all
}

/// Matrices beyond the binding limit are cut by rows; products are the same to the bit.
pub async fn matrices_in_pieces(options: DeviceOptions, whole: &Rc<Device>) {
    // Eight rows of 96 floats of 32 bits, or some more of the other formats.
    let device = open(DeviceOptions { max_binding: 3 << 10, ..options }).await;
    for format in [Format::F32, Format::F16, Format::Q4_0, Format::Q5_1, Format::Q8_0] {
        let mut in_pieces = backend(&device);
        ops::upload_in_groups(&mut in_pieces, format).await;
        let mut random = ops::Random::new(1);
        let (weights, x) = (random.matrix(format, 96, 61), random.floats(96 * 6));
        let cut = ops::product_of(&mut in_pieces, format, 96, &weights, &x).await;
        assert_eq!(cut, ops::product_of(&mut backend(whole), format, 96, &weights, &x).await, "{}", format.name());
    }
}

/// The fused kernels take layers without bias, which the common table has not.
pub async fn fused_decoding(device: &Rc<Device>, format: Format, other: Format) {
    let mut random = ops::Random::new(2 + format as u64);
    for (cache_format, style, n_rot) in [
        (KvFormat::F32, RopeStyle::Adjacent, 16),
        (KvFormat::F16, RopeStyle::Halves, 16),
        (KvFormat::F16, RopeStyle::Adjacent, 8),
        (KvFormat::F32, RopeStyle::Halves, 8),
    ] {
        let mut backend = backend(device);
        let heads = Heads { n_heads: 6, n_kv_heads: 2, head_dim: 16 };
        let (n_embd, n_q, n_kv, n_ctx, n) = (256, 96, 32, 9, 3);
        let mut layer = |backend: &mut Gpu, format: Format, n_out: usize| {
            let spec = MatrixSpec { name: "w".into(), format, n_in: n_embd, n_out };
            let mut builder = backend.matrix_begin(&spec).expect("matrix_begin");
            backend.matrix_rows(&mut builder, &random.matrix(format, n_embd, n_out)).expect("matrix_rows");
            Linear::<Gpu> { weight: backend.matrix_end(builder).expect("matrix_end"), bias: None }
        };
        let [q, k, v] = [(format, n_q), (format, n_kv), (other, n_kv)].map(|(f, n_out)| layer(&mut backend, f, n_out));
        let [gate, up] = [format, other].map(|f| layer(&mut backend, f, n_q));
        let mut filled = |backend: &mut Gpu, rows: usize, cols: usize| {
            let mut tensor = backend.tensor(rows, cols).expect("tensor");
            backend.write(&mut tensor, 0, &random.floats(rows * cols));
            tensor
        };
        let (x, rope) = (filled(&mut backend, n, n_embd), filled(&mut backend, n_ctx, n_rot));
        let mut attend = async |is_fused: bool| {
            let spec = KvSpec { n_layers: 2, n_ctx, n_kv, format: cache_format };
            let mut cache = backend.kv_cache(&spec).expect("kv_cache");
            let [mut qt, mut kt, mut vt, mut out] = [n_q, n_kv, n_kv, n_q].map(|cols| backend.tensor(n, cols).expect("tensor"));
            for position in [0, n] {
                if is_fused {
                    let cache = &mut cache;
                    let place = KvPlace { cache, layer: 1, position, rope: &rope, style, heads };
                    backend.qkv_rope_kv(&x, &Qkv { q: &q, k: &k, v: &v }, place, &mut qt, &mut kt, &mut vt, n);
                } else {
                    backend.qkv(&x, &Qkv { q: &q, k: &k, v: &v }, &mut qt, &mut kt, &mut vt, n);
                    backend.rope(&mut qt, &rope, style, 6, 16, position, n);
                    backend.rope(&mut kt, &rope, style, 2, 16, position, n);
                    backend.kv_write(&mut cache, 1, position, &kt, &vt, n);
                }
            }
            backend.attention(&qt, &cache, 1, n, heads, 0.25, &mut out, n);
            let [mut a, mut b] = [(); 2].map(|()| backend.tensor(n, n_q).expect("tensor"));
            if is_fused {
                backend.gate_up(&x, &gate, &up, &mut a, &mut b, n);
            } else {
                backend.linear(&x, &gate, &mut a, n, Epilogue::Store);
                backend.linear(&x, &up, &mut b, n, Epilogue::Store);
                backend.silu_mul(&mut a, &b, n);
            }
            (ops::read(&mut backend, &out, 0, n).await, ops::read(&mut backend, &a, 0, n).await)
        };
        let wide = |x: Vec<f32>| x.into_iter().map(f64::from).collect::<Vec<_>>();
        let (fused, plain) = (attend(true).await, attend(false).await);
        let what = format!("{} {} {cache_format:?} {style:?} {n_rot}", format.name(), other.name());
        // Scores of some tens: what is rounded off them is rounded off their exponentials that many times over. A difference in a key's
        // last bit may round it to the next half.
        let (nmse, max) = if cache_format == KvFormat::F16 { (1e-7, 1e-3) } else { (1e-9, 1e-4) };
        ops::assert_near(&format!("qkv_rope_kv {what}"), &fused.0, &wide(plain.0), nmse, max);
        ops::assert_near(&format!("gate_up {what}"), &fused.1, &wide(plain.1), 1e-11, 1e-5);
    }
}

/// A right GPU passes its self-test as it is, which leaves nothing behind.
pub async fn self_test(options: DeviceOptions) {
    let device = open(options).await;
    let (features, mut backend) = (device.features().to_vec(), backend(&device));
    backend.self_test().await.expect("passes");
    assert_eq!(device.notes(), [""; 0]);
    assert_eq!(device.features(), features);
    assert_eq!(backend.weight_bytes(), 0, "the self-test leaves nothing behind");
}

/// A variant that computes wrongly is replaced by the plain kernels.
pub async fn wrong_variant(options: DeviceOptions) {
    let edit_source = |_, variant: Variant, source: String| {
        if variant.lanes > 0 { source.replace("subgroupShuffleXor(sum, 1u)", "vec2<f32>(0.0)") } else { source }
    };
    let device = open(DeviceOptions { edit_source: Some(edit_source), ..options }).await;
    if device.variants().len() == 1 {
        // Nothing to go wrong: an adapter that has the plain kernels alone.
        assert_eq!(device.variant(), Variant::default());
        return;
    }
    let mut backend = backend(&device);
    backend.self_test().await.expect("the plain kernels are right");
    assert_eq!(device.variant(), Variant::default());
    assert!(device.notes()[0].contains("mat_vec"), "{:?}", device.notes());
    ops::linear_epilogues(&mut backend).await;
}

/// Kernels, and what is replaced in them by what that makes them wrong.
pub const WRONG_KERNELS: [(&str, &str, &str); 3] =
    [("rms_norm", "1.0 / sqrt", "2.0 / sqrt"), ("attention f16", "fade;", "1.0;"), ("mat_mul Q6_K", "16.0", "15.0")];

/// A plain kernel that computes wrongly rules the adapter out.
pub async fn wrong_kernels(options: DeviceOptions, cases: &[(&'static str, &'static str, &'static str)]) {
    for (name, from, to) in cases {
        // A function pointer captures nothing; the wrong kernel is named in a static.
        static WRONG: std::sync::Mutex<(&str, &str, &str)> = std::sync::Mutex::new(("", "", ""));
        *WRONG.lock().expect("one test") = (name, from, to);
        let edit_source = |kernel: Kernel, _, source: String| {
            let (name, from, to) = *WRONG.lock().expect("one test");
            if kernel.name() == name { source.replace(from, to) } else { source }
        };
        let device = open(DeviceOptions { edit_source: Some(edit_source), ..options }).await;
        let error = backend(&device).self_test().await.expect_err("a wrong kernel");
        assert_eq!(error.code(), "unsupported_browser");
        assert!(error.message().contains(name.split(' ').next().expect("a word")), "{error}");
    }
}
