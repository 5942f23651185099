//! Parity of every family of models with its reference implementation (float32, on dequantized weights), at every stage. The bounds are
//! those of the golden data's own README: float kernels 1e-3 (rows) and 2e-3 (logits), 8-bit activations 0.6.

mod common;

use common::families::{Bounds, FAMILIES, Family, check};
use common::llava::options;
use llava_web::backend::cpu::Cpu;

const CPU: Bounds = Bounds { embeds: 1e-3, logits: [("f16", 2e-3), ("q4_0", 0.6)] };

fn family(name: &str) -> &'static Family {
    FAMILIES.iter().find(|family| family.name == name).expect("a family")
}

#[test]
fn smolvlm_is_the_references() {
    check(family("tiny-smolvlm"), Cpu::new, &options(), &CPU);
}
