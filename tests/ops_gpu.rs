//! Every op against its formula in double precision, on the WebGPU backend over Vulkan. The cases are in `common/ops.rs`, for
//! every backend alike, and in `common/ops_gpu.rs`; browsers run the same ones (`wasm/ops-runner`). `build.sh` runs these tests on two
//! drivers that compute on the CPU: Mesa's lavapipe and Chromium's SwiftShader, whose `pack4xI8Clamp` is known to be wrong.

#[path = "common/ops.rs"]
mod ops;
#[path = "common/ops_gpu.rs"]
mod ops_gpu;

use llava_web::backend::gpu::{DeviceOptions, Gpu};
use llava_web::quant::Format;
use pollster::block_on;

const OPTIONS: fn() -> DeviceOptions = DeviceOptions::default;

#[test]
fn gpu_ops() {
    block_on(async {
        let device = ops_gpu::open(OPTIONS()).await;
        for variant in device.variants() {
            println!("{variant:?} on {}", device.name());
            let device = ops_gpu::open(DeviceOptions { variant: Some(variant), ..OPTIONS() }).await;
            assert_eq!(device.variant(), variant);
            ops::suite(|| Gpu::new(device.clone()).expect("a backend")).await;
        }
    });
}

#[test]
fn gpu_weight_bytes_are_given_back() {
    let device = block_on(ops_gpu::open(OPTIONS()));
    ops::weight_bytes(|| Gpu::new(device.clone()).expect("a backend"));
}

#[test]
fn matrices_beyond_the_binding_limit_are_cut_by_rows() {
    block_on(async { ops_gpu::matrices_in_pieces(OPTIONS(), &ops_gpu::open(OPTIONS()).await).await });
}

#[test]
fn fused_decoding_is_the_plain_ops() {
    block_on(async {
        let device = ops_gpu::open(OPTIONS()).await;
        for format in Format::ALL {
            ops_gpu::fused_decoding(&device, format, format).await;
        }
        ops_gpu::fused_decoding(&device, Format::Q4_K, Format::Q6_K).await;
    });
}

#[test]
fn a_right_gpu_passes_the_self_test() {
    block_on(ops_gpu::self_test(OPTIONS()));
}

#[test]
fn a_variant_that_computes_wrongly_is_replaced() {
    let device = block_on(ops_gpu::open(OPTIONS()));
    assert!(device.variants().len() > 1, "this adapter has no subgroups to go wrong");
    block_on(ops_gpu::wrong_variant(OPTIONS()));
}

#[test]
fn a_plain_kernel_that_computes_wrongly_rules_the_adapter_out() {
    block_on(ops_gpu::wrong_kernels(OPTIONS(), &ops_gpu::WRONG_KERNELS));
}

/// Where indices are not checked and numbers that are not numbers stand behind every buffer, each bit of each result is the same:
/// nothing depends on what lies beyond a buffer.
#[test]
fn results_do_not_depend_on_checks_of_indices() {
    let transcript = async |options: DeviceOptions| {
        let device = ops_gpu::open(options).await;
        let work = async {
            ops::suite(|| Gpu::new(device.clone()).expect("a backend")).await;
            for format in Format::ALL {
                ops_gpu::fused_decoding(&device, format, format).await;
            }
        };
        ops::transcript_of(work).await
    };
    block_on(async {
        // The form that needs nothing, and the best one.
        let variants = ops_gpu::open(OPTIONS()).await.variants();
        for variant in [variants[0], variants[variants.len() - 1]] {
            let options = DeviceOptions { variant: Some(variant), ..OPTIONS() };
            let checked = transcript(options).await;
            let unchecked = transcript(DeviceOptions { unchecked: true, ..options }).await;
            assert!(checked.len() > 50_000, "{variant:?}: {} numbers were read", checked.len());
            assert_eq!(checked.len(), unchecked.len());
            let differ = checked.iter().zip(&unchecked).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 0, "{variant:?}: of {} numbers", checked.len());
        }
    });
}

/// The test above sees a kernel that reads one vector too far, though the rest of it hides that from who checks indices.
#[test]
#[should_panic(expected = "is NaN")]
fn a_read_beyond_a_buffer_is_seen() {
    let edit_source = |_, _, source: String| source.replace("* weight[i]", "* (weight[i] + P.eps * 1e-30 * weight[i + 1u])");
    let norms = async |unchecked: bool| {
        let options = DeviceOptions { unchecked, edit_source: Some(edit_source), ..OPTIONS() };
        let device = ops_gpu::open(options).await;
        ops::norms(&mut Gpu::new(device).expect("a backend")).await;
    };
    block_on(norms(false));
    block_on(norms(true));
}
