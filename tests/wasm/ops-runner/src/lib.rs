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
#[path = "../../../../src/quant/mod.rs"]
pub mod quant;

use backend::cpu::{Cpu, Kernels};
use quant::Format;

/// Every test, with all kernels of this build.
pub fn test() {
    for kernels in Kernels::ALL {
        ops::suite(|| Cpu::with_kernels(*kernels));
    }
    ops::weight_bytes(Cpu::new);
    twins();
}

/// The same products from all kernels of this build: the integers are the same, the order of the last sums is not.
fn twins() {
    let mut random = ops::Random::new(20);
    for format in Format::ALL {
        for (n_in, n_out, n) in ops::row_lengths(format).iter().flat_map(|n_in| [(*n_in, 9, 5), (*n_in, 4, 1)]) {
            let (bytes, data) = (random.matrix(format, n_in, n_out), random.floats(n * n_in));
            let product = |kernels: Kernels| ops::product_of(&mut Cpu::with_kernels(kernels), format, n_in, &bytes, &data);
            let want: Vec<f64> = product(Kernels::Scalar).into_iter().map(f64::from).collect();
            for kernels in Kernels::ALL {
                let what = format!("{} [{n_out}, {n_in}], {n} rows, {kernels:?} kernels", format.name());
                ops::assert_near(&what, &product(*kernels), &want, 1e-12, 2e-6);
            }
        }
    }
}

#[test]
fn all() {
    test();
}

#[cfg(target_arch = "wasm32")]
mod exports;
