//! What `src/backend/cpu/sync.rs` is to the product, made of loom's parts.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use loom::sync::atomic::{Ordering, fence};

pub use loom::hint::spin_loop;
pub use loom::sync::{Arc, Mutex};
pub use loom::thread::{Builder, JoinHandle, Thread, current, park};

/// The look before the loops that count these is as good as many: what it sees is tried in every order.
pub const SPINS: u32 = 0;

// All threads of a model are coroutines of one thread, which these belong to.
thread_local! {
    static ENDS_BY_PANIC: Cell<bool> = const { Cell::new(false) };
    static IS_THREAD_LOST: Cell<bool> = const { Cell::new(false) };
}

/// Begins a run in which a panic ends its thread, as in WebAssembly, or is caught, as it is elsewhere.
pub fn let_panics_end_threads(ends: bool) {
    ENDS_BY_PANIC.set(ends);
    IS_THREAD_LOST.set(false);
}

/// Sleeps for ever where every thread comes back: then a wake-up that is lost is a deadlock, which loom reports. Where threads may be lost, the
/// time is over whenever loom likes.
pub fn park_timeout(_: Duration) {
    if ENDS_BY_PANIC.get() { loom::thread::yield_now() } else { park() }
}

/// As in the product; and a panic that ends its thread does no more than leave word.
pub fn returns(part: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(part)) {
        Ok(()) => true,
        Err(panic) if ENDS_BY_PANIC.get() => {
            IS_THREAD_LOST.set(true);
            resume_unwind(panic)
        }
        Err(_) => false,
    }
}

/// Whether a thread has ended in the midst of its part.
pub fn is_thread_lost() -> bool {
    IS_THREAD_LOST.get()
}

/// A value that threads hand to each other; loom reports who writes it while others read.
#[derive(Debug)]
pub struct Handed<T>(loom::cell::UnsafeCell<T>);

// SAFETY: as in the product.
unsafe impl<T: Send> Sync for Handed<T> {}

impl<T: Copy> Handed<T> {
    /// Holds this.
    pub fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    /// # Safety
    /// Meanwhile nobody else calls this or [`Self::get`].
    pub unsafe fn set(&self, value: T) {
        // SAFETY: the caller's.
        self.0.with_mut(|at| unsafe { *at = value });
    }

    /// # Safety
    /// Meanwhile nobody calls [`Self::set`].
    pub unsafe fn get(&self) -> T {
        // SAFETY: the caller's.
        self.0.with(|at| unsafe { *at })
    }
}

// Loom knows no sequentially consistent operations, only fences that are: between two of them everything is. That is what the pool asks for
// everywhere, and these know nothing else.
macro_rules! atomic {
    ($name:ident, $value:ty) => {
        /// The standard library's, as far as the pool uses it.
        #[derive(Debug)]
        pub struct $name(loom::sync::atomic::$name);

        impl Default for $name {
            fn default() -> Self {
                Self::new(<$value>::default())
            }
        }

        #[allow(dead_code, missing_docs, reason = "as in the standard library; not all of them for each")]
        impl $name {
            pub fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub fn load(&self, order: Ordering) -> $value {
                fenced(order, || self.0.load(Ordering::Acquire))
            }

            pub fn store(&self, value: $value, order: Ordering) {
                fenced(order, || self.0.store(value, Ordering::Release));
            }

            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                fenced(order, || self.0.swap(value, Ordering::AcqRel))
            }

            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                assert_eq!(failure, Ordering::SeqCst);
                fenced(success, || self.0.compare_exchange_weak(current, new, Ordering::AcqRel, Ordering::Acquire))
            }
        }
    };
}

macro_rules! counter {
    ($name:ident, $value:ty) => {
        atomic!($name, $value);

        #[allow(dead_code, missing_docs, reason = "as above")]
        impl $name {
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                fenced(order, || self.0.fetch_add(value, Ordering::AcqRel))
            }

            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                fenced(order, || self.0.fetch_sub(value, Ordering::AcqRel))
            }
        }
    };
}

atomic!(AtomicBool, bool);
counter!(AtomicU32, u32);
counter!(AtomicU64, u64);
counter!(AtomicUsize, usize);

fn fenced<T>(order: Ordering, operation: impl FnOnce() -> T) -> T {
    assert_eq!(order, Ordering::SeqCst, "the model is of sequentially consistent operations");
    fence(Ordering::SeqCst);
    let result = operation();
    fence(Ordering::SeqCst);
    result
}
