//! Every op against its formula in double precision, on the WebGPU backend over Vulkan. The cases are in `common/ops.rs`, for
//! every backend alike.

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/ops.rs"]
mod ops;

use llava_web::backend::gpu::kernels::{Kernel, Variant};
use llava_web::backend::gpu::{DeviceOptions, Gpu};
use llava_web::backend::{Backend, Epilogue, Heads, KvFormat, KvPlace, KvSpec, Linear, MatrixSpec, Qkv, RopeStyle};
use llava_web::quant::Format;

#[test]
fn gpu_ops() {
    let device = gpu::device(DeviceOptions::default());
    println!("on {}", device.name());
    ops::suite(|| Gpu::new(device.clone()).expect("a backend"));
}

#[test]
fn gpu_weight_bytes_are_given_back() {
    let device = gpu::device(DeviceOptions::default());
    ops::weight_bytes(|| Gpu::new(device.clone()).expect("a backend"));
}

#[test]
fn matrices_beyond_the_binding_limit_are_cut_by_rows() {
    // Eight rows of 96 floats of 32 bits, or some more of the other formats.
    let device = gpu::device(DeviceOptions { max_binding: 3 << 10, ..DeviceOptions::default() });
    let whole = gpu::device(DeviceOptions::default());
    for format in [Format::F32, Format::F16, Format::Q4_0, Format::Q5_1, Format::Q8_0] {
        let mut backend = Gpu::new(device.clone()).expect("a backend");
        ops::upload_in_groups(&mut backend, format);
        let mut random = ops::Random::new(1);
        let (weights, x) = (random.matrix(format, 96, 61), random.floats(96 * 6));
        let cut = ops::product_of(&mut backend, format, 96, &weights, &x);
        let mut whole = Gpu::new(whole.clone()).expect("a backend");
        assert_eq!(cut, ops::product_of(&mut whole, format, 96, &weights, &x), "{}", format.name());
    }
}

/// The fused kernels take layers without bias, which the common table has not.
#[test]
fn fused_decoding_is_the_plain_ops() {
    let device = gpu::device(DeviceOptions::default());
    let mut random = ops::Random::new(2);
    let formats = Format::ALL.into_iter().map(|format| (format, format)).chain([(Format::Q4_K, Format::Q6_K)]);
    for (format, other) in formats {
        for (cache_format, style, n_rot) in [
            (KvFormat::F32, RopeStyle::Adjacent, 16),
            (KvFormat::F16, RopeStyle::Halves, 16),
            (KvFormat::F16, RopeStyle::Adjacent, 8),
            (KvFormat::F32, RopeStyle::Halves, 8),
        ] {
            let mut backend = Gpu::new(device.clone()).expect("a backend");
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
            let mut attend = |is_fused: bool| {
                let spec = KvSpec { n_layers: 2, n_ctx, n_kv, format: cache_format };
                let mut cache = backend.kv_cache(&spec).expect("kv_cache");
                let [mut qt, mut kt, mut vt, mut out] =
                    [n_q, n_kv, n_kv, n_q].map(|cols| backend.tensor(n, cols).expect("tensor"));
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
                let (mut attended, mut gated) = (Vec::new(), Vec::new());
                pollster::block_on(backend.read(&out, 0, n, &mut attended)).expect("read");
                pollster::block_on(backend.read(&a, 0, n, &mut gated)).expect("read");
                (attended, gated)
            };
            let wide = |x: Vec<f32>| x.into_iter().map(f64::from).collect::<Vec<_>>();
            let (fused, plain) = (attend(true), attend(false));
            let what = format!("{} {} {cache_format:?} {style:?} {n_rot}", format.name(), other.name());
            // A difference in a key's last bit may round it to the next half.
            let (nmse, max) = if cache_format == KvFormat::F16 { (1e-7, 1e-3) } else { (1e-11, 1e-5) };
            ops::assert_near(&format!("qkv_rope_kv {what}"), &fused.0, &wide(plain.0), nmse, max);
            ops::assert_near(&format!("gate_up {what}"), &fused.1, &wide(plain.1), 1e-11, 1e-5);
        }
    }
}

#[test]
fn a_right_gpu_passes_the_self_test() {
    let device = gpu::device(DeviceOptions::default());
    let (features, mut backend) = (device.features().to_vec(), Gpu::new(device.clone()).expect("a backend"));
    println!("features {features:?}, {:?}", device.variant());
    pollster::block_on(backend.self_test()).expect("passes");
    assert_eq!(device.notes(), [""; 0]);
    assert_eq!(device.features(), features);
    assert_eq!(backend.weight_bytes(), 0, "the self-test leaves nothing behind");
}

#[test]
fn a_variant_that_computes_wrongly_is_replaced() {
    let edit_source = |_, variant: Variant, source: String| {
        if variant.lanes > 0 { source.replace("subgroupShuffleXor(sum, 1u)", "vec2<f32>(0.0)") } else { source }
    };
    let device = gpu::device(DeviceOptions { edit_source: Some(edit_source), ..DeviceOptions::default() });
    assert!(device.variant().lanes > 0, "this adapter has no subgroups to go wrong");
    let mut backend = Gpu::new(device.clone()).expect("a backend");
    pollster::block_on(backend.self_test()).expect("the plain kernels are right");
    assert_eq!(device.variant(), Variant::default());
    assert!(device.notes()[0].contains("mat_vec"), "{:?}", device.notes());
    ops::linear_epilogues(&mut backend);
}

#[test]
fn a_plain_kernel_that_computes_wrongly_rules_the_adapter_out() {
    for (name, from, to) in
        [("rms_norm", "1.0 / sqrt", "2.0 / sqrt"), ("attention f16", "fade;", "1.0;"), ("mat_mul Q6_K", "16.0", "15.0")]
    {
        // A function pointer captures nothing; the wrong kernel is named in a static.
        static WRONG: std::sync::Mutex<(&str, &str, &str)> = std::sync::Mutex::new(("", "", ""));
        *WRONG.lock().expect("one test") = (name, from, to);
        let edit_source = |kernel: Kernel, _, source: String| {
            let (name, from, to) = *WRONG.lock().expect("one test");
            if kernel.name() == name { source.replace(from, to) } else { source }
        };
        let device = gpu::device(DeviceOptions { edit_source: Some(edit_source), ..DeviceOptions::default() });
        let mut backend = Gpu::new(device).expect("a backend");
        let error = pollster::block_on(backend.self_test()).expect_err("a wrong kernel");
        assert_eq!(error.code(), "unsupported_browser");
        assert!(error.message().contains(name.split(' ').next().expect("a word")), "{error}");
    }
}
