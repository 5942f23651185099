//! Every op against its formula in double precision, on the WebGPU backend over Vulkan. The cases are in `common/ops.rs`, for
//! every backend alike.

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/ops.rs"]
mod ops;

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
