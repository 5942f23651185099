//! Tests of whole models. They are one program, for each program compiles the engine's generics anew and links all there is.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "gpu")]
#[path = "../common/gpu.rs"]
mod gpu;

#[path = "../blame.rs"]
mod blame;
#[path = "../families.rs"]
mod families;
#[path = "../gpu_models.rs"]
mod gpu_models;
#[path = "../lfm2.rs"]
mod lfm2;
#[path = "../load_only.rs"]
mod load_only;
#[path = "../looked_at.rs"]
mod looked_at;
#[path = "../loss.rs"]
mod loss;
#[path = "../metadata.rs"]
mod metadata;
#[path = "../models.rs"]
mod models;
#[path = "../oracle.rs"]
mod oracle;
#[path = "../saved_session.rs"]
mod saved_session;
#[path = "../session.rs"]
mod session;
#[path = "../tools.rs"]
mod tools;
