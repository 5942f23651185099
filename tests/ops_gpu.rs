//! Every op against its formula in double precision, on the WebGPU backend over Vulkan. The cases are in `common/ops.rs`, for
//! every backend alike.

#[path = "common/decode_ops.rs"]
mod decode_ops;
#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/ops.rs"]
mod ops;

use llava_web::backend::Backend;
use llava_web::backend::gpu::kernels::{Kernel, Products, Variant};
use llava_web::backend::gpu::{DeviceOptions, Gpu};
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

#[test]
fn gpu_decode_ops() {
    // The bounds of products of many rows: 32-bit sums; operands rounded to 11 bits; activations of 8 bits.
    for (products, nmse, max) in [(Products::Float, 1e-11, 1e-5), (Products::Half, 1e-6, 4e-3), (Products::Bytes, 4e-4, 0.05)] {
        let device = gpu::device(DeviceOptions { products: Some(products), ..DeviceOptions::default() });
        assert_eq!(device.variant().products, products, "this adapter does not have it");
        println!("{products:?}: {:?}", device.features());
        pollster::block_on(decode_ops::suite(|| Gpu::new(device.clone()).expect("a backend"), nmse, max));
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
    let edit_source = |_, _, source: String| source.replace("subgroupShuffleXor(sum, 1u)", "vec3<f32>(0.0)");
    let device = gpu::device(DeviceOptions { edit_source: Some(edit_source), ..DeviceOptions::default() });
    let before = device.variant();
    assert!(before.lanes > 0, "this adapter has no subgroups to go wrong");
    let mut backend = Gpu::new(device.clone()).expect("a backend");
    pollster::block_on(backend.self_test()).expect("the plain kernels are right");
    assert_eq!(device.variant(), Variant { lanes: 0, ..before });
    assert!(device.notes()[0].contains("mat_vec"), "{:?}", device.notes());
    assert!(!device.features().contains(&"subgroups"));
    ops::linear_epilogues(&mut backend);
}

#[test]
fn products_of_many_rows_that_are_wrong_are_replaced() {
    for (products, kernel, wrong, right) in [
        (Products::Half, "mat_mul_64 Q4_K f16", "return vec4<f16>(clamp(x", "return vec4<f16>(clamp(0.9 * x"),
        (Products::Bytes, "quantize_rows", "127.0 / all", "100.0 / all"),
    ] {
        static EDIT: std::sync::Mutex<[&str; 3]> = std::sync::Mutex::new([""; 3]);
        *EDIT.lock().expect("one test") = [kernel, wrong, right];
        let edit_source = |kernel: Kernel, _, source: String| {
            let [name, from, to] = *EDIT.lock().expect("one test");
            if kernel.name() == name { source.replace(from, to) } else { source }
        };
        let options = DeviceOptions { edit_source: Some(edit_source), products: Some(products), ..DeviceOptions::default() };
        let device = gpu::device(options);
        let before = device.variant();
        let mut backend = Gpu::new(device.clone()).expect("a backend");
        pollster::block_on(backend.self_test()).expect("floats are right");
        assert_eq!(device.variant(), Variant { products: Products::Float, ..before });
        assert!(device.notes()[0].contains("mat_mul"), "{:?}", device.notes());
    }
}

#[test]
fn a_plain_kernel_that_computes_wrongly_rules_the_adapter_out() {
    for (name, from, to) in [
        ("rms_norm", "1.0 / sqrt", "2.0 / sqrt"),
        ("attention f16", "sum *= fade;", ""),
        ("attention_tile f16 1", "+= weight;", "+= 0.5 * weight;"),
        ("attention_merge", "sum / total", "sum"),
        ("choose", "key > least", "key > 0u"),
        ("mat_mul Q6_K", "-32.0", "-31.0"),
    ] {
        // A function pointer captures nothing; the wrong kernel is named in a static.
        static WRONG: std::sync::Mutex<(&str, &str, &str)> = std::sync::Mutex::new(("", "", ""));
        *WRONG.lock().expect("one test") = (name, from, to);
        let edit_source = |kernel: Kernel, _, source: String| {
            let (name, from, to) = *WRONG.lock().expect("one test");
            if kernel.name() == name {
                assert!(source.contains(from), "{name} has no '{from}'");
                source.replace(from, to)
            } else {
                source
            }
        };
        let device = gpu::device(DeviceOptions { edit_source: Some(edit_source), ..DeviceOptions::default() });
        let mut backend = Gpu::new(device).expect("a backend");
        let error = pollster::block_on(backend.self_test()).expect_err(name);
        assert_eq!(error.code(), "unsupported_browser");
        let kernel = name.split([' ', '_']).next().expect("a word");
        assert!(error.message().contains(kernel), "{error}");
    }
}
