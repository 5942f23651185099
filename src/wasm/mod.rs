//! The module as JavaScript sees it. Only the worker imports it; it knows no message and no element, and the rest of the crate
//! knows no JavaScript.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "JavaScript has f64 for all numbers, and sizes in this memory have 32 bits"
)]

mod engine;
mod sha256;
mod source;
mod threads;
mod values;

use wasm_bindgen::prelude::*;

/// Panics are faults of this program; this makes their text reach the console before the module traps, and lets the engine's
/// thread know of those of its helpers. Every thread calls it.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        console_error_panic_hook::hook(panic);
        crate::backend::cpu::sync::thread_is_lost();
    }));
}
