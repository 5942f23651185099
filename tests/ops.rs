//! Every op against its formula in double precision, on the CPU backend. The cases are in `common/ops.rs`, for every
//! backend alike.

#[path = "common/ops.rs"]
mod ops;

use llava_web::backend::cpu::{Cpu, Kernels};

#[test]
fn cpu_ops() {
    for kernels in Kernels::ALL {
        pollster::block_on(ops::suite(|| Cpu::with_kernels(*kernels)));
    }
}

#[test]
fn cpu_twins() {
    pollster::block_on(ops::twins(|| Cpu::with_kernels(Kernels::Scalar), Cpu::new));
}

#[test]
fn cpu_weight_bytes_are_given_back() {
    ops::weight_bytes(Cpu::new);
}
