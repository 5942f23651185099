//! The source of the CPU backend's thread pool, made of loom's threads and atomics instead of the standard library's: `tests/pool.rs` runs
//! it in every order in which threads can take their steps.

#[path = "../../../src/backend/cpu/pool.rs"]
pub mod pool;
pub mod sync;

/// What the pool measures itself with, which is not done here.
mod math {
    pub fn sum_of_squares(x: &[f32]) -> f32 {
        x.iter().map(|x| x * x).sum()
    }
}
