//! What the benchmarks need from where they run: a line of output and a clock. In a WebAssembly module `ops.mjs` provides them.

#[cfg(target_arch = "wasm32")]
#[link(wasm_import_module = "host")]
unsafe extern "C" {
    /// Prints a line.
    fn print_line(text: *const u8, len: usize);
    /// Milliseconds since some time.
    fn now() -> f64;
}

/// Prints a line.
pub fn print(text: &str) {
    #[cfg(target_arch = "wasm32")]
    // SAFETY: the bytes of a string, which the host only reads.
    unsafe {
        print_line(text.as_ptr(), text.len());
    }
    #[cfg(not(target_arch = "wasm32"))]
    println!("{text}");
}

/// Milliseconds since some time.
pub fn milliseconds() -> f64 {
    #[cfg(target_arch = "wasm32")]
    // SAFETY: has no effect but its result.
    return unsafe { now() };
    #[cfg(not(target_arch = "wasm32"))]
    {
        static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed().as_secs_f64() * 1e3
    }
}
