//! Every op against its formula in double precision, on the WebGPU backend over Vulkan. The cases are in `common/ops.rs`, for
//! every backend alike.

#[path = "common/gpu.rs"]
mod gpu;
#[path = "common/ops.rs"]
mod ops;

use llava_web::backend::gpu::{DeviceOptions, Gpu};

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
    use llava_web::quant::Format;
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
