//! The op suite as a bare WebAssembly module: [`run`] runs every test of `tests/common/ops.rs` on the CPU backend, with the
//! kernels this module was compiled with. It takes the sources of the backend by path instead of depending on
//! the crate, for that would build tokenizers, image decoders and the browser's bindings to test a few loops.

extern crate self as llava_web;

#[path = "../../../../src/backend/mod.rs"]
pub mod backend;
#[path = "../../../../src/error.rs"]
pub mod error;
#[path = "../../../common/ops.rs"]
pub mod ops;
#[allow(dead_code, reason = "what only the WebGPU backend asks of a format")]
#[path = "../../../../src/quant/mod.rs"]
pub mod quant;

use backend::cpu::{Cpu, Kernels};

/// Every test, with all kernels of this build.
pub fn test() {
    for kernels in Kernels::all() {
        ops::suite(|| Cpu::with_kernels(kernels));
        ops::twins(|| Cpu::with_kernels(Kernels::Scalar), || Cpu::with_kernels(kernels));
    }
    ops::weight_bytes(Cpu::new);
}

#[test]
fn all() {
    test();
}

#[cfg(target_arch = "wasm32")]
mod exports;
