//! Parity of every family of models with its reference implementation (float32, on dequantized weights), at every stage, on the CPU and on
//! the GPU. The bounds are those of the golden data's own README: float kernels 1e-3 (rows) and 2e-3 (logits), 8-bit activations 0.6. On
//! the GPU activations are 32-bit floats in every format.

mod common;
#[path = "common/gpu.rs"]
mod gpu;

use common::families::{Bounds, FAMILIES, Family, check};
use common::llava::options;
use llava_web::backend::cpu::Cpu;
use llava_web::backend::gpu::kernels::Products;
use llava_web::backend::gpu::{DeviceOptions, Gpu};

const CPU: Bounds = Bounds { embeds: 1e-3, logits: [("f16", 2e-3), ("q4_0", 0.6)] };
const GPU: Bounds = Bounds { embeds: 1e-3, logits: [("f16", 2e-3), ("q4_0", 2e-3)] };

fn family(name: &str) -> &'static Family {
    FAMILIES.iter().find(|family| family.name == name).expect("a family")
}

fn on_cpu(name: &str) {
    check(family(name), Cpu::new, &options(), &CPU);
}

fn on_gpu(name: &str) {
    if gpu::is_missing() {
        return;
    }
    let device = gpu::device(DeviceOptions { products: Some(Products::Float), ..DeviceOptions::default() });
    check(family(name), || Gpu::new(device.clone()).expect("a backend"), &options(), &GPU);
}

#[test]
fn smolvlm_is_the_references_on_the_cpu() {
    on_cpu("tiny-smolvlm");
}

#[test]
fn smolvlm_is_the_references_on_the_gpu() {
    on_gpu("tiny-smolvlm");
}
