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

#[test]
fn suite() {
    ops::suite(backend::cpu::Cpu::new);
    ops::weight_bytes(backend::cpu::Cpu::new);
}
