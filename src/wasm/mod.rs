//! The module as JavaScript sees it. Only the worker imports it; it knows no message and no element, and the rest of the crate
//! knows no JavaScript.

mod engine;
mod sha256;
mod source;
mod values;

use wasm_bindgen::prelude::*;

/// Panics are faults of this program; this makes their text reach the console before the module traps.
#[wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}
