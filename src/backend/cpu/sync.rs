//! What [`super::pool`] is made of: threads, atomics, and one place to hand work over. The pool's model (`tests/loom`) takes the pool's
//! source in beside a module of this name that is made of loom's, which tries every order of what threads do.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use std::hint::spin_loop;
pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
pub use std::sync::{Arc, Mutex};
#[cfg(not(target_family = "wasm"))]
pub use std::thread::{Builder, JoinHandle};
pub use std::thread::{Thread, current, park, park_timeout};

/// How often a thread without work looks for some before it sleeps: some 20 µs. WebAssembly has no instruction that waits
/// a moment, so a look is much shorter there.
pub const SPINS: u32 = if cfg!(target_family = "wasm") { 30_000 } else { 500 };

/// A value that threads hand to each other, whose users see to it that nobody writes it while others read.
#[derive(Debug)]
pub struct Handed<T>(UnsafeCell<T>);

// SAFETY: a `Handed` is what its users make of it; both of its ways in are unsafe, and say so.
unsafe impl<T: Send> Sync for Handed<T> {}

impl<T: Copy> Handed<T> {
    /// Holds this.
    pub fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    /// Meanwhile nobody else calls this or [`Self::get`].
    pub unsafe fn set(&self, value: T) {
        // SAFETY: the caller's.
        unsafe { *self.0.get() = value }
    }

    /// # Safety
    /// Meanwhile nobody calls [`Self::set`].
    pub unsafe fn get(&self) -> T {
        // SAFETY: the caller's.
        unsafe { *self.0.get() }
    }
}

/// Calls a part of an op; false where it panicked, which then is known only here.
pub fn returns(part: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(part)).is_ok()
}

#[cfg(target_family = "wasm")]
static IS_THREAD_LOST: AtomicBool = AtomicBool::new(false);

/// What the panic hook of a build calls in which a panic ends its thread, as in WebAssembly: a thread that ended took its part with it,
/// so nobody must wait for it.
#[cfg(target_family = "wasm")]
#[allow(dead_code, reason = "the kernels' own test runner has no such hook")]
pub(crate) fn thread_is_lost() {
    IS_THREAD_LOST.store(true, std::sync::atomic::Ordering::SeqCst);
}

/// Whether a thread has ended in the midst of its part.
pub fn is_thread_lost() -> bool {
    // Elsewhere a panic is caught.
    #[cfg(target_family = "wasm")]
    return IS_THREAD_LOST.load(std::sync::atomic::Ordering::SeqCst);
    #[cfg(not(target_family = "wasm"))]
    false
}
