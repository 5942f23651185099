//! Every op, on the CPU and over Vulkan.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]

#[path = "../common/decode_ops.rs"]
mod decode_ops;
#[cfg(feature = "gpu")]
#[path = "../common/gpu.rs"]
mod gpu;
#[path = "../common/ops.rs"]
mod ops;
#[cfg(feature = "gpu")]
#[path = "../common/ops_gpu.rs"]
mod ops_gpu;

#[path = "../ops.rs"]
mod on_cpu;
#[path = "../ops_gpu.rs"]
mod on_gpu;
