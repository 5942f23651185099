//! Every op against its formula in double precision, on the WebGPU backend over Vulkan. The cases are in `common/ops.rs` and
//! `common/decode_ops.rs`, for every backend alike, and in `common/ops_gpu.rs`; browsers run the same ones (`wasm/ops-runner`).
//! `build.sh` runs these tests on two drivers that compute on the CPU: Mesa's lavapipe and Chromium's SwiftShader, whose
//! `pack4xI8Clamp` is known to be wrong.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]
#![cfg(feature = "gpu")]

use crate::{decode_ops, gpu, ops, ops_gpu};

use llava_web::backend::gpu::kernels::Products;
use llava_web::backend::gpu::{DeviceOptions, Gpu};
use pollster::block_on;

fn options() -> DeviceOptions {
    DeviceOptions::default()
}

#[test]
fn gpu_ops() {
    if gpu::is_missing() {
        return;
    }
    block_on(async {
        let device = ops_gpu::open(options()).await;
        let best = device.variant().lanes;
        // Each form of each format is compiled on one of the two drivers at least: without subgroups on lavapipe (and on SwiftShader by
        // Chromium), with a driver's largest ones on it. Their other forms differ in what surrounds the same lines.
        let on_swiftshader = device.name().contains("SwiftShader");
        for lanes in device.lanes() {
            let has_all_formats = lanes == best || (lanes == 0 && !on_swiftshader);
            println!("{lanes} lanes on {}{}", device.name(), if has_all_formats { "" } else { ", of some formats" });
            let device = ops_gpu::open(DeviceOptions { lanes: Some(lanes), ..options() }).await;
            assert_eq!(device.variant().lanes, lanes);
            let make = || Gpu::new(device.clone()).expect("a backend");
            let all = ops::tests(&make).into_iter().chain(decode_ops::tests(&make));
            // Kernels that know no subgroups are the same with any number of lanes.
            let wanted = all.filter(|test| lanes == 0 || ops_gpu::uses_lanes(&test.name));
            ops::run(wanted.filter(|test| has_all_formats || ops_gpu::reads_planes_anew(&test.name)).collect()).await;
        }
    });
}

#[test]
fn gpu_products_of_many_rows() {
    if gpu::is_missing() {
        return;
    }
    block_on(async {
        let device = ops_gpu::open(options()).await;
        for (products, nmse, max) in ops_gpu::PRODUCTS {
            if !device.products().contains(&products) {
                println!("{products:?}: {} has them not", device.name());
                continue;
            }
            let device = ops_gpu::open(DeviceOptions { products: Some(products), ..options() }).await;
            assert_eq!(device.variant().products, products);
            println!("{products:?}: {:?}", device.features());
            ops::run(decode_ops::products(&|| Gpu::new(device.clone()).expect("a backend"), nmse, max)).await;
        }
    });
}

#[test]
fn gpu_weight_bytes_are_given_back() {
    if gpu::is_missing() {
        return;
    }
    let device = block_on(ops_gpu::open(options()));
    ops::weight_bytes(|| Gpu::new(device.clone()).expect("a backend"));
}

#[test]
fn positions_and_ids_stay_with_what_was_recorded_for_them() {
    if gpu::is_missing() {
        return;
    }
    block_on(async { ops_gpu::crowded(&ops_gpu::open(options()).await).await });
}

#[test]
fn matrices_beyond_the_binding_limit_are_cut_by_rows() {
    if gpu::is_missing() {
        return;
    }
    block_on(async { ops_gpu::matrices_in_pieces(options(), &ops_gpu::open(options()).await).await });
}

#[test]
fn a_right_gpu_passes_the_self_test() {
    if gpu::is_missing() {
        return;
    }
    block_on(ops_gpu::self_test(options()));
}

#[test]
fn subgroups_that_compute_wrongly_are_replaced() {
    if gpu::is_missing() {
        return;
    }
    block_on(ops_gpu::wrong_lanes(options()));
}

#[test]
fn products_of_many_rows_that_are_wrong_are_replaced() {
    if gpu::is_missing() {
        return;
    }
    let device = block_on(ops_gpu::open(options()));
    for wrong in ops_gpu::WRONG_PRODUCTS.iter().filter(|wrong| device.products().contains(&wrong.0)) {
        block_on(ops_gpu::wrong_products(options(), *wrong));
    }
}

#[test]
fn subnormal_halves_taken_for_zero_change_nothing() {
    if gpu::is_missing() {
        return;
    }
    block_on(ops_gpu::flushed_halves(options()));
}

#[test]
fn no_choice_takes_more_than_four_passes() {
    if gpu::is_missing() {
        return;
    }
    block_on(async { ops_gpu::passes_of_choices(&ops_gpu::open(options()).await) });
}

#[test]
fn a_plain_kernel_that_computes_wrongly_rules_the_adapter_out() {
    if gpu::is_missing() {
        return;
    }
    for wrong in ops_gpu::WRONG_KERNELS {
        block_on(ops_gpu::wrong_kernel(options(), wrong));
    }
}

/// Where indices are not checked and numbers that are not numbers stand behind every buffer, each bit of each result is the same:
/// nothing depends on what lies beyond a buffer.
#[test]
fn results_do_not_depend_on_checks_of_indices() {
    if gpu::is_missing() {
        return;
    }
    let is_wanted = |test: &ops::Test<'_>| ops_gpu::reads_planes_anew(&test.name);
    let transcript = async |products: Option<Products>, unchecked: bool| {
        let device = ops_gpu::open(DeviceOptions { products, unchecked, ..options() }).await;
        let make = || Gpu::new(device.clone()).expect("a backend");
        let bounds = products.and_then(|products| ops_gpu::PRODUCTS.into_iter().find(|(p, ..)| *p == products));
        ops::transcript_of(async {
            match bounds {
                Some((_, nmse, max)) => {
                    ops::run(decode_ops::products(&make, nmse, max).into_iter().filter(is_wanted).collect()).await;
                }
                None => {
                    let all = ops::tests(&make).into_iter().chain(decode_ops::tests(&make));
                    ops::run(all.filter(is_wanted).collect()).await;
                }
            }
        })
        .await
    };
    block_on(async {
        // All but products of many rows, then these in all ways that there are.
        let products = ops_gpu::open(options()).await.products();
        for products in [None].into_iter().chain(products.into_iter().map(Some)) {
            let (checked, unchecked) = (transcript(products, false).await, transcript(products, true).await);
            assert!(checked.len() > 20_000, "{products:?}: {} numbers were read", checked.len());
            assert_eq!(checked.len(), unchecked.len());
            let differ = checked.iter().zip(&unchecked).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 0, "{products:?}: of {} numbers", checked.len());
        }
    });
}

/// The test above sees a kernel that reads one vector too far, though the rest of it hides that from who checks indices.
#[test]
fn a_read_beyond_a_buffer_is_seen() {
    if gpu::is_missing() {
        return;
    }
    let edit_source = |_, _, source: String| source.replace("* weight[i]", "* (weight[i] + P.eps * 1e-30 * weight[i + 1u])");
    let norms = async |unchecked: bool| {
        let options = DeviceOptions { unchecked, edit_source: Some(edit_source), ..options() };
        let device = ops_gpu::open(options).await;
        ops::norms(&mut Gpu::new(device).expect("a backend")).await;
    };
    block_on(norms(false));
    let seen = std::panic::catch_unwind(|| block_on(norms(true))).expect_err("a number from beyond a buffer went unseen");
    let message = seen.downcast_ref::<String>().expect("an assertion's message");
    assert!(message.contains("is NaN"), "{message}");
}
