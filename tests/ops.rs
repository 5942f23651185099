//! Every op against its formula in double precision, on the CPU backend. The cases are in `common/ops.rs`, for every
//! backend alike.

#[path = "common/ops.rs"]
mod ops;

use llava_web::backend::cpu::Cpu;

#[test]
fn cpu_ops() {
    ops::suite(Cpu::new);
}

#[test]
fn cpu_weight_bytes_are_given_back() {
    ops::weight_bytes(Cpu::new);
}
