//! Every op against its formula in double precision, on the CPU backend. The cases are in `common/ops.rs` and `common/decode_ops.rs`, for every
//! backend alike.

use crate::{decode_ops, ops};

use llava_web::backend::cpu::{Cpu, Kernels, Pool};

#[test]
fn cpu_ops() {
    for kernels in Kernels::all() {
        pollster::block_on(ops::suite(|| Cpu::with_kernels(kernels)));
        pollster::block_on(ops::run(decode_ops::tests(&|| Cpu::with_kernels(kernels))));
    }
}

#[test]
fn cpu_threads() {
    for kernels in Kernels::all() {
        let one = pollster::block_on(ops::outputs(&mut Cpu::with_kernels(kernels)));
        // An even number, odd ones, and more than some ops have pieces.
        for n_threads in [2, 3, 5, 8] {
            let mut cpu = Cpu::with_kernels(kernels).with_pool(Pool::new(n_threads));
            ops::identical(&format!("{kernels:?}, {n_threads} threads"), &pollster::block_on(ops::outputs(&mut cpu)), &one);
        }
        pollster::block_on(ops::suite(|| Cpu::with_kernels(kernels).with_pool(Pool::new(3))));
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
