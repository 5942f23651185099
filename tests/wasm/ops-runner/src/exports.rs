//! What `ops.mjs` calls.

use crate::backend::cpu::Kernels;
#[cfg(target_feature = "simd128")]
use crate::bench;
use crate::host::print;

/// Runs all tests. A failure is printed and traps.
#[unsafe(no_mangle)]
pub extern "C" fn run() {
    std::panic::set_hook(Box::new(|panic| print(&panic.to_string())));
    crate::test();
    print(&format!("op suite passed with {:?}", Kernels::all()));
}

/// Times products.
#[cfg(target_feature = "simd128")]
#[unsafe(no_mangle)]
pub extern "C" fn bench() {
    bench::products();
}

/// Times attention.
#[cfg(target_feature = "simd128")]
#[unsafe(no_mangle)]
pub extern "C" fn bench_attention() {
    bench::attention();
}

/// Times attention over long contexts, over keys and values in 16 bits and in 8.
#[cfg(target_feature = "simd128")]
#[unsafe(no_mangle)]
pub extern "C" fn bench_long_context() {
    bench::long_context();
}
