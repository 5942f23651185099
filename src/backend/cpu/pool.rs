//! Threads that share the work of an op.
//!
//! An op is cut into parts, numbered from 0. The calling thread and its helpers take the parts one after another from one
//! counter, so whoever is held up takes fewer, and a helper that never wakes up is never waited for: only parts that
//! somebody has taken are. Which thread computes a part makes no difference to its result.
//!
//! Ops of a small model take a few dozen microseconds, less than it takes to wake a thread. So a helper looks for more work
//! for some microseconds before it sleeps ([`SPINS`]), and so does the caller that waits for the last part. Idle threads
//! sleep.
//!
//! `tests/loom` tries every order in which a few threads can do what is here.
//!
//! Natively helpers are threads of the standard library. In a browser they are workers that share the module's memory; what
//! starts them is the page's business, they come in through [`Helper::work`].

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{OnceLock, PoisonError};
use std::time::Duration;

use super::sync::{
    self, Arc, AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Handed, Mutex, SPINS, Thread, current, park, park_timeout,
    spin_loop,
};

/// The most threads there can be: more share one memory bus without getting faster.
pub const MAX_THREADS: usize = 8;

/// Parts that each thread gets on average where there are enough: one that is held up leaves the others at most one part behind.
const PARTS_PER_THREAD: usize = 4;

/// Parts that are handed out at a time: what a counter of 16 bits holds.
const MAX_PARTS: usize = 0xffff;

/// One part of an op, by its number and that of the thread that computes it.
type Part<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A pointer to what is to be done.
#[derive(Clone, Copy)]
struct Work(*const Part<'static>);

// SAFETY: what it points to is `Sync`, and `Pool::run` sees to it that it is not used after its end.
unsafe impl Send for Work {}

/// What the threads of a pool share.
struct Shared {
    /// How many ops there have been (32 bits), how many parts the last has (16), how many of those are taken (16): in one
    /// word, so that a thread that comes late can take no part of an op that is over.
    ticket: AtomicU64,
    /// Written while no part is open, read only by threads that have taken one.
    work: Handed<Option<Work>>,
    /// Parts that are not done yet.
    open: AtomicU32,
    /// Whether the caller sleeps until there are none.
    is_waiting: AtomicBool,
    /// The caller, while it sleeps.
    caller: Mutex<Option<Thread>>,
    /// Helpers that have come in; also the number of the next thread, less one.
    n_helpers: AtomicUsize,
    helpers: [Seat; MAX_THREADS - 1],
    /// Whether a helper's part has panicked.
    has_failed: AtomicBool,
    /// Whether the pool is no more.
    is_closed: AtomicBool,
}

/// A helper as the caller sees it.
#[derive(Default)]
struct Seat {
    thread: OnceLock<Thread>,
    is_asleep: AtomicBool,
}

impl Shared {
    fn new() -> Self {
        Self {
            ticket: AtomicU64::new(0),
            work: Handed::new(None),
            open: AtomicU32::new(0),
            is_waiting: AtomicBool::new(false),
            caller: Mutex::new(None),
            n_helpers: AtomicUsize::new(0),
            helpers: Default::default(),
            has_failed: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Takes a part of the op under way, if one is left.
    fn take(&self) -> Option<usize> {
        let mut ticket = self.ticket.load(Ordering::SeqCst);
        loop {
            let (parts, taken) = (ticket >> 16 & 0xffff, ticket & 0xffff);
            if taken >= parts {
                return None;
            }
            match self.ticket.compare_exchange_weak(ticket, ticket + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(taken as usize),
                Err(now) => ticket = now,
            }
        }
    }

    /// Does parts until none is left. False if there was none.
    fn help(&self, thread: usize) -> bool {
        let mut has_helped = false;
        while let Some(part) = self.take() {
            has_helped = true;
            // SAFETY: the part was taken, so the op goes on until it is done, and until then nobody writes this.
            let work = unsafe { self.work.get() }.expect("there is work while parts are left");
            // SAFETY: as above: `Pool::run`, whose caller lent it, has not returned.
            if !sync::returns(|| unsafe { (*work.0)(part, thread) }) {
                self.has_failed.store(true, Ordering::SeqCst);
            }
            if self.open.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_waiting.swap(false, Ordering::SeqCst) {
                let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(caller) = caller {
                    caller.unpark();
                }
            }
        }
        has_helped
    }

    /// Looks for work until the pool is closed.
    fn serve(&self) {
        let number = self.n_helpers.fetch_add(1, Ordering::SeqCst);
        // A seat too many would be a fault of whoever starts helpers; such a one has nothing to do.
        let Some(seat) = self.helpers.get(number) else { return };
        seat.thread.get_or_init(current);
        let mut looks = 0;
        while !self.is_closed.load(Ordering::SeqCst) {
            if self.help(number + 1) {
                looks = 0;
            } else if looks < SPINS {
                looks += 1;
                spin_loop();
            } else {
                // Store `is_asleep`, then look at the ticket again; `run` stores the ticket, then reads `is_asleep`. So one of the
                // two sees the other, and no wake-up is lost.
                seat.is_asleep.store(true, Ordering::SeqCst);
                if !self.help(number + 1) && !self.is_closed.load(Ordering::SeqCst) {
                    park();
                }
                seat.is_asleep.store(false, Ordering::SeqCst);
                looks = 0;
            }
        }
    }
}

/// A helper that has not come in yet.
#[derive(Clone)]
pub struct Helper(Arc<Shared>);

impl Helper {
    /// Computes parts until the pool is dropped. What a thread that is to be a helper calls.
    pub fn work(self) {
        self.0.serve();
    }
}

/// The threads of a backend. Dropping it sends the helpers home.
pub struct Pool {
    shared: Arc<Shared>,
    n_threads: usize,
    n_numbers: usize,
    /// One thread at a time hands out work.
    not_sync: PhantomData<Cell<()>>,
    #[cfg(not(target_family = "wasm"))]
    handles: Vec<sync::JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("n_threads", &self.n_threads).finish_non_exhaustive()
    }
}

impl Default for Pool {
    /// The calling thread alone.
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared::new()),
            n_threads: 1,
            n_numbers: 1,
            not_sync: PhantomData,
            #[cfg(not(target_family = "wasm"))]
            handles: Vec::new(),
        }
    }
}

impl Pool {
    /// `n_threads` threads with the caller's, at most [`MAX_THREADS`]; fewer where the system has no more.
    #[cfg(not(target_family = "wasm"))]
    pub fn new(n_threads: usize) -> Self {
        let mut pool = Self::default();
        for number in 1..n_threads.min(MAX_THREADS) {
            let helper = pool.helper();
            let Ok(handle) = sync::Builder::new().name(format!("llava {number}")).spawn(move || helper.work()) else { break };
            pool.handles.push(handle);
        }
        pool.n_threads = pool.handles.len() + 1;
        pool.n_numbers = pool.n_threads;
        pool
    }

    /// What a thread needs to become a helper of this pool.
    pub fn helper(&self) -> Helper {
        Helper(self.shared.clone())
    }

    /// Threads that share the work, the caller's among them.
    pub fn n_threads(&self) -> usize {
        self.n_threads
    }

    /// What is above the number of every thread that may compute a part: more than [`Self::n_threads`] where fewer were chosen than
    /// there are.
    pub fn n_numbers(&self) -> usize {
        self.n_numbers
    }

    /// Counts on helpers that are on their way; the first parts are done without them. They may be fewer than helpers were made.
    pub fn expect_helpers(&mut self, n_helpers: usize) {
        self.n_threads = 1 + n_helpers.min(MAX_THREADS - 1);
        self.n_numbers = self.n_threads;
    }

    /// Lets as many threads share the work as make it quickest, as measured on the spot with work like that of a small model's
    /// decoding: tens of microseconds an op. `now` tells milliseconds. Takes some tens of them.
    pub fn choose_n_threads(&mut self, now: fn() -> f64) {
        const OPS: usize = 40;
        let most = self.n_threads;
        if most == 1 {
            return;
        }
        // 16 parts of 2048 floats each, from the first cache.
        let x: Vec<f32> = (0..2048).map(|i| i as f32).collect();
        let measure = |n_threads: usize| {
            self.n_threads = n_threads;
            let mut least = f64::INFINITY;
            // The first rounds wake the helpers and let the engine's compiler do its work.
            for round in 0..8 {
                let start = now();
                for _ in 0..OPS {
                    self.run(16, &|_, _| {
                        std::hint::black_box(super::math::sum_of_squares(std::hint::black_box(&x)));
                    });
                }
                if round > 1 {
                    least = least.min(now() - start);
                }
            }
            least
        };
        self.n_threads = fewest_worth(most, measure);
    }

    /// Calls `part(i, thread)` for every `i` below `n_parts`, each on one of the threads, whose number is `thread`; a thread
    /// calls one at a time. Returns when all are done.
    ///
    /// # Panics
    /// Where a part has.
    pub fn run(&self, n_parts: usize, part: &Part<'_>) {
        if self.n_threads == 1 || n_parts < 2 {
            return (0..n_parts).for_each(|i| part(i, 0));
        }
        if n_parts > MAX_PARTS {
            for first in (0..n_parts).step_by(MAX_PARTS) {
                self.run(MAX_PARTS.min(n_parts - first), &|i, thread| part(first + i, thread));
            }
            return;
        }
        let shared = &*self.shared;
        let work: *const Part<'_> = part;
        // SAFETY: only the lifetime changes. This function returns when all parts are done, and a part that is not taken
        // before is never taken, so nobody calls it afterwards.
        let work: *const Part<'static> = unsafe { std::mem::transmute(work) };
        // SAFETY: no part is open: the last call saw all of them done before it returned, and `&self` is not shared among
        // threads, for `Pool` is not `Sync`.
        unsafe { shared.work.set(Some(Work(work))) };
        shared.open.store(n_parts as u32, Ordering::SeqCst);
        let op = (shared.ticket.load(Ordering::SeqCst) >> 32).wrapping_add(1);
        shared.ticket.store(op << 32 | (n_parts as u64) << 16, Ordering::SeqCst);
        for seat in &shared.helpers[..(self.n_threads - 1).min(n_parts - 1)] {
            if seat.is_asleep.load(Ordering::SeqCst)
                && let Some(thread) = seat.thread.get()
            {
                thread.unpark();
            }
        }
        shared.help(0);
        self.wait();
        if shared.has_failed.swap(false, Ordering::SeqCst) {
            panic!("a part of an op failed; the thread that computed it has said why");
        }
    }

    /// Waits until the parts that others have taken are done.
    fn wait(&self) {
        let shared = &*self.shared;
        let mut looks = 0;
        while shared.open.load(Ordering::SeqCst) > 0 {
            if looks < SPINS {
                looks += 1;
                spin_loop();
                continue;
            }
            *shared.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(current());
            shared.is_waiting.store(true, Ordering::SeqCst);
            if shared.open.load(Ordering::SeqCst) > 0 {
                // Woken by whoever does the last part; the limit is for one that ended without doing it.
                park_timeout(Duration::from_millis(200));
            }
            // Where this can be, a panic ends the program: nothing unwinds while helpers use what the caller lent them.
            assert!(!sync::is_thread_lost(), "pool: a helper has ended");
            shared.is_waiting.store(false, Ordering::SeqCst);
        }
    }

    /// [`Self::run`] over `0..n` in ranges of about the same length, not shorter than `least`, whose borders are multiples of
    /// `step`.
    pub fn for_ranges(&self, n: usize, step: usize, least: usize, work: impl Fn(Range<usize>, usize) + Sync) {
        let steps = n.div_ceil(step);
        let most = if self.n_threads == 1 { 1 } else { self.n_threads * PARTS_PER_THREAD };
        let parts = (n / least.max(1)).clamp(1, most).min(steps.max(1));
        let border = |part: usize| (part * steps / parts * step).min(n);
        self.run(parts, &|part, thread| work(border(part)..border(part + 1), thread));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        for seat in &self.shared.helpers {
            if let Some(thread) = seat.thread.get() {
                thread.unpark();
            }
        }
        #[cfg(not(target_family = "wasm"))]
        for handle in self.handles.drain(..) {
            // A helper that panicked has been reported where its part was waited for.
            drop(handle.join());
        }
    }
}

/// The number of threads, at most `most`, beyond which more do not make the work enough quicker, by the time that so many take.
fn fewest_worth(most: usize, mut time: impl FnMut(usize) -> f64) -> usize {
    /// What another thread must take off, for it takes heat and battery.
    const GAIN: f64 = 0.95;
    let (mut best, mut least) = (1, time(1));
    for n_threads in 2..=most {
        let time = time(n_threads);
        if time < GAIN * least {
            (best, least) = (n_threads, time);
        }
    }
    best
}

/// Elements that several threads write, each its own.
pub struct Disjoint<'a, T> {
    data: *mut T,
    len: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives out what `&mut [T]` would, and its users see to it that no two threads ask for the same elements.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Over all of a slice.
    pub fn new(data: &'a mut [T]) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), owner: PhantomData }
    }

    /// Some of the elements.
    ///
    /// # Safety
    /// While the result lives, nobody else asks for any of them.
    ///
    /// # Panics
    /// Where the range is not within the slice.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "what the type is for")]
    pub unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "pool: a part beyond the end");
        // SAFETY: within the slice, as asserted; nobody else's, as the caller vouches.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(range.start), range.end - range.start) }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn every_part_is_done_once_by_any_number_of_threads() {
        for n_threads in 1..=MAX_THREADS {
            let pool = Pool::new(n_threads);
            assert_eq!(pool.n_threads(), n_threads);
            for round in 0..300 {
                let n_parts = round % 40;
                let counts: Vec<AtomicU32> = (0..n_parts).map(|_| AtomicU32::new(0)).collect();
                pool.run(n_parts, &|part, thread| {
                    assert!(thread < n_threads);
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn helpers_that_sleep_wake_up() {
        let pool = Pool::new(3);
        for _ in 0..5 {
            thread::sleep(Duration::from_millis(20));
            // Nobody ends a part before everybody has begun one, however long a busy machine lets them wait.
            let begun = AtomicU32::new(0);
            pool.run(3, &|_, _| {
                let start = std::time::Instant::now();
                begun.fetch_add(1, Ordering::SeqCst);
                while begun.load(Ordering::SeqCst) < 3 {
                    assert!(start.elapsed() < Duration::from_secs(60), "a helper sleeps on");
                    thread::yield_now();
                }
            });
        }
    }

    #[test]
    fn more_parts_than_the_counter_holds_are_all_done() {
        let pool = Pool::new(2);
        let n = 2 * MAX_PARTS + 3;
        let counts: Vec<AtomicU32> = (0..n).map(|_| AtomicU32::new(0)).collect();
        pool.run(n, &|part, _| {
            counts[part].fetch_add(1, Ordering::Relaxed);
        });
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn ranges_cover_everything_at_borders_that_are_multiples() {
        for n_threads in [1, 3] {
            let pool = Pool::new(n_threads);
            for (n, step, least) in [(0, 4, 1), (1, 4, 1), (17, 4, 4), (1000, 8, 16), (1000, 8, 5000), (5, 1, 0)] {
                let mut covered = vec![0_u8; n];
                let out = Disjoint::new(&mut covered);
                pool.for_ranges(n, step, least, |range, _| {
                    assert!(range.start % step == 0 && (range.end % step == 0 || range.end == n));
                    // SAFETY: the ranges do not overlap, which the test is about.
                    unsafe { out.part(range) }.iter_mut().for_each(|x| *x += 1);
                });
                assert!(covered.iter().all(|x| *x == 1), "{n} in steps of {step}");
            }
        }
    }

    #[test]
    fn as_many_threads_are_chosen_as_make_it_quicker() {
        for (times, best) in [
            (&[10.0][..], 1),
            (&[10.0, 5.2, 3.6, 2.8], 4),
            // Two of four cores are of use: the others share them, or are busy.
            (&[10.0, 5.2, 5.1, 5.3], 2),
            // More threads than cores: each waits for the others.
            (&[10.0, 14.0, 30.0], 1),
            // A thread that only costs, and one more that makes up for it.
            (&[10.0, 9.8, 6.0], 3),
        ] {
            let mut asked = Vec::new();
            let chosen = fewest_worth(times.len(), |n_threads| {
                asked.push(n_threads);
                times[n_threads - 1]
            });
            assert_eq!(chosen, best, "{times:?}");
            assert_eq!(asked, (1..=times.len()).collect::<Vec<_>>(), "each number is measured once, from one on");
        }
    }

    #[test]
    fn threads_that_are_not_chosen_keep_their_numbers_and_do_nothing() {
        // A clock by which each op of the pool takes as long as the last, so that no number of threads is worth more than one.
        let mut pool = Pool::new(3);
        pool.choose_n_threads(|| 0.0);
        assert_eq!((pool.n_threads(), pool.n_numbers()), (1, 3));
        pool.run(20, &|_, thread| assert_eq!(thread, 0));
    }

    #[test]
    fn a_panic_of_a_part_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2);
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(8, &|part, _| assert!(part != 5, "as it should"));
        }));
        assert!(failed.is_err());
        let count = AtomicU32::new(0);
        pool.run(8, &|_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 8);
    }
}
