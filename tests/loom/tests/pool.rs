//! The pool in every order in which a few threads can take their steps, with at most three preemptions (more find what is rarer still, and
//! take hours). Loom reports a thread that sleeps for ever, a value that is written while somebody reads it, and what is never dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use llava_web_loom::pool::Pool;
use llava_web_loom::sync::{AtomicBool, let_panics_end_threads};
use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering;

/// What the parts of an op write: how often each was done, without any order between threads but that of the pool.
struct Parts(Vec<UnsafeCell<u32>>);

// SAFETY: loom checks that no two threads are at the same part.
unsafe impl Sync for Parts {}

impl Parts {
    fn new(n: usize) -> Self {
        Self((0..n).map(|_| UnsafeCell::new(0)).collect())
    }

    fn done(&self, part: usize) {
        // SAFETY: `at` points to a number, and loom checks that nobody else is there.
        self.0[part].with_mut(|at| unsafe { *at += 1 });
    }

    fn check(&self, times: u32) {
        for part in &self.0 {
            // SAFETY: as above.
            assert_eq!(part.with(|at| unsafe { *at }), times);
        }
    }
}

/// There are many thousands of them.
fn let_panics_that_are_meant_be_silent() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.payload_as_str().unwrap_or_default();
            if !["as it should", "a part of an op failed", "pool: a helper has ended"].iter().any(|meant| text.contains(meant)) {
                others(panic);
            }
        }));
    });
}

fn explore(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(run);
}

#[test]
fn two_ops_are_done_by_the_caller_and_a_helper() {
    explore(4, || {
        let_panics_end_threads(false);
        let pool = Pool::new(2);
        for _ in 0..2 {
            let parts = Parts::new(2);
            pool.run(2, &|part, thread| {
                assert!(thread < 2);
                parts.done(part);
            });
            parts.check(1);
        }
    });
}

#[test]
fn an_op_is_done_by_the_caller_and_two_helpers() {
    explore(4, || {
        let_panics_end_threads(false);
        let pool = Pool::new(3);
        let parts = Parts::new(3);
        pool.run(3, &|part, _| parts.done(part));
        parts.check(1);
    });
}

#[test]
fn a_helper_that_sleeps_is_woken() {
    explore(4, || {
        let_panics_end_threads(false);
        let pool = Pool::new(2);
        // Neither part ends before the other has begun: whoever does one needs somebody for the other.
        let begun = [AtomicBool::new(false), AtomicBool::new(false)];
        pool.run(2, &|part, _| {
            begun[part].store(true, Ordering::SeqCst);
            while !begun[1 - part].load(Ordering::SeqCst) {
                loom::thread::yield_now();
            }
        });
    });
}

#[test]
fn helpers_may_be_late_or_never_come() {
    explore(4, || {
        let_panics_end_threads(false);
        let mut pool = Pool::default();
        let helper = pool.helper();
        pool.expect_helpers(2);
        let late = loom::thread::spawn(move || helper.work());
        let parts = Parts::new(3);
        pool.run(3, &|part, _| parts.done(part));
        parts.check(1);
        drop(pool);
        late.join().expect("it goes home");
    });
}

#[test]
fn a_panic_reaches_the_caller_and_the_next_op_is_done() {
    let_panics_that_are_meant_be_silent();
    explore(4, || {
        let_panics_end_threads(false);
        let pool = Pool::new(2);
        let failed =
            catch_unwind(AssertUnwindSafe(|| pool.run(2, &|part, thread| assert!(part == 0 || thread == 0, "as it should"))));
        let parts = Parts::new(2);
        pool.run(2, &|part, _| parts.done(part));
        parts.check(1);
        drop(failed);
    });
}

#[test]
fn nobody_waits_for_a_helper_that_ended_in_its_part() {
    let_panics_that_are_meant_be_silent();
    explore(4, || {
        let_panics_end_threads(true);
        let mut pool = Pool::default();
        let helper = pool.helper();
        pool.expect_helpers(1);
        let ends = loom::thread::spawn(move || drop(catch_unwind(AssertUnwindSafe(|| helper.work()))));
        let parts = Parts::new(2);
        // A helper that took a part ends in it, and the caller with it; else the caller does both.
        let alone = catch_unwind(AssertUnwindSafe(|| {
            pool.run(2, &|part, thread| {
                assert!(thread == 0, "as it should");
                parts.done(part);
            });
        }));
        if alone.is_ok() {
            parts.check(1);
        }
        drop(pool);
        ends.join().expect("it has ended");
    });
}
