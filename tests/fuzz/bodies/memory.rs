//! An allocator that refuses what is beyond a limit. Whoever asks for memory fallibly gets its error to handle; everybody else aborts,
//! which a fuzzer sees.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Limited;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
}

/// Notes a change and says whether it is within the limit. At a thread's end its counters may be gone; then everything is.
fn count(change: isize) -> bool {
    let within = HELD.try_with(|held| {
        let now = held.get().saturating_add(change);
        let allowed = change <= 0 || LIMIT.try_with(|limit| now <= limit.get()).unwrap_or(true);
        if allowed {
            held.set(now);
        }
        allowed
    });
    within.unwrap_or(true)
}

// SAFETY: every call is passed on to `System` as it came or answered with null, as the trait allows; the counters allocate nothing.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !count(layout.size() as isize) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !count(layout.size() as isize) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !count(size as isize - layout.size() as isize) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above; `at` came from one of these functions, so from `System`.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static LIMITED: Limited = Limited;

/// Runs with at most `bytes` more than are held now.
pub fn within<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    /// Takes the limit away again, also where a panic is caught.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            LIMIT.set(isize::MAX);
        }
    }
    let reset = Reset;
    LIMIT.set(HELD.get().saturating_add(isize::try_from(bytes).unwrap_or(isize::MAX)));
    let result = run();
    drop(reset);
    result
}
