//! Tests of the parts that need no whole model, in one program.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]

#[path = "../common/mod.rs"]
mod common;

#[path = "../grammar.rs"]
mod grammar;
#[path = "../image.rs"]
mod image;
#[path = "../layering.rs"]
mod layering;
#[path = "../quant.rs"]
mod quant;
#[path = "../sampler.rs"]
mod sampler;
#[path = "../schema_suite.rs"]
mod schema_suite;
#[path = "../shaders.rs"]
mod shaders;
#[path = "../text.rs"]
mod text;
