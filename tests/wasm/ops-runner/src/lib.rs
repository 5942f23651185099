//! The op suite as a WebAssembly module: every test of `tests/common/ops.rs` on the CPU backend, with the kernels this module was
//! compiled with; or, with the feature `gpu`, on the WebGPU backend, and `tests/common/ops_gpu.rs` with it. It takes the sources of the
//! backend by path instead of depending on the crate, for that would build tokenizers and image decoders to test a few loops.

extern crate self as llava_web;

#[path = "../../../../src/backend/mod.rs"]
pub mod backend;
#[cfg(feature = "gpu")]
#[path = "../../../common/decode_ops.rs"]
pub mod decode_ops;
#[path = "../../../../src/error.rs"]
pub mod error;
#[path = "../../../common/ops.rs"]
pub mod ops;
#[cfg(feature = "gpu")]
#[path = "../../../common/ops_gpu.rs"]
pub mod ops_gpu;
#[allow(dead_code, reason = "what only the WebGPU backend asks of a format")]
#[path = "../../../../src/quant/mod.rs"]
pub mod quant;

use backend::cpu::{Cpu, Kernels};

/// Every test, with all kernels of this build.
pub fn test() {
    for kernels in Kernels::all() {
        pollster::block_on(ops::suite(|| Cpu::with_kernels(kernels)));
        pollster::block_on(ops::twins(|| Cpu::with_kernels(Kernels::Scalar), || Cpu::with_kernels(kernels)));
    }
    ops::weight_bytes(Cpu::new);
}

#[test]
fn all() {
    test();
}

// The plain loops are there to be right, so a WebAssembly module without vectors is not timed.
#[cfg(all(any(not(target_arch = "wasm32"), target_feature = "simd128"), not(feature = "gpu")))]
pub mod bench;
#[cfg(all(target_arch = "wasm32", not(feature = "gpu")))]
mod exports;
#[cfg(all(target_arch = "wasm32", feature = "gpu"))]
mod exports_gpu;
#[cfg(not(feature = "gpu"))]
#[cfg_attr(all(target_arch = "wasm32", not(target_feature = "simd128")), allow(dead_code, reason = "needs no clock"))]
mod host;
#[cfg(all(any(not(target_arch = "wasm32"), target_feature = "simd128"), not(feature = "gpu")))]
mod limits;
