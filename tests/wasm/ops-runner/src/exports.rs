//! What `ops.mjs` calls and what it provides.

use crate::backend::cpu::Kernels;

#[link(wasm_import_module = "host")]
unsafe extern "C" {
    /// Prints a line.
    fn print_line(text: *const u8, len: usize);
}

pub fn print(text: &str) {
    // SAFETY: the bytes of a string, which the host only reads.
    unsafe { print_line(text.as_ptr(), text.len()) };
}

/// Runs all tests. A failure is printed and traps.
#[unsafe(no_mangle)]
pub extern "C" fn run() {
    std::panic::set_hook(Box::new(|panic| print(&panic.to_string())));
    crate::test();
    print(&format!("op suite passed with {:?}", Kernels::all()));
}
