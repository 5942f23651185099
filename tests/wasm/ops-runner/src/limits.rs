//! What the machine gives to a plain loop: the most that a kernel could reach.

use std::hint::black_box;

use crate::backend::cpu::lanes::{self, Lanes, load, mul_add_float, or, splat, splat_float};

const ROUNDS: usize = 100_000;

/// What one step of a chain adds to its sum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Products of 8 bits in fours (relaxed SIMD), or of 16 bits in twos: what quantized kernels are made of.
    Dot,
    /// 32-bit floats: what F16 and F32 kernels are made of.
    Float,
}

impl Step {
    /// Multiplications and additions of a step.
    fn operations(self) -> usize {
        match self {
            Self::Dot if cfg!(target_feature = "relaxed-simd") => 32,
            Self::Dot => 16,
            Self::Float => 8,
        }
    }

    /// Hangs on the sum in every term, so that nothing is computed once for all rounds.
    #[inline(always)]
    fn add(self, sum: Lanes, x: Lanes) -> Lanes {
        match self {
            #[cfg(target_feature = "relaxed-simd")]
            Self::Dot => lanes::dot_bytes_add(x, x, sum),
            #[cfg(not(target_feature = "relaxed-simd"))]
            Self::Dot => lanes::add(sum, lanes::dot(sum, x)),
            Self::Float => mul_add_float(sum, x, x),
        }
    }
}

/// `CHAINS` sums that do not wait for each other.
#[inline(always)]
fn chains<const CHAINS: usize>(step: Step) {
    // Halves as floats stay clear of denormals, which are slow.
    let (x, sum) = if step == Step::Float { (splat_float(0.5), splat_float(1.0)) } else { (splat(0x0102_0304), splat(1)) };
    let x = black_box(x);
    let mut sums = black_box([sum; CHAINS]);
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = step.add(*sum, x);
        }
    }
    black_box(sums);
}

/// The most operations in 10⁹ a second. `time` measures milliseconds of a closure.
pub fn operations(step: Step, time: impl Fn(&mut dyn FnMut()) -> f64) -> f64 {
    // How many chains hide the latency and stay in registers is the processor's and the browser's matter. Each is a loop of its own, so
    // that the compiler knows the step.
    macro_rules! with_chains {
        ($n:literal) => {{
            let least = match step {
                Step::Dot => time(&mut || chains::<$n>(Step::Dot)),
                Step::Float => time(&mut || chains::<$n>(Step::Float)),
            };
            (ROUNDS * $n * step.operations()) as f64 / 1e6 / least
        }};
    }
    [with_chains!(8), with_chains!(10), with_chains!(12), with_chains!(14)].into_iter().fold(0.0, f64::max)
}

/// Gigabytes a second that are read from a buffer of `n` bytes, a multiple of 64.
pub fn reading(n: usize, time: impl Fn(&mut dyn FnMut()) -> f64) -> f64 {
    let buffer = vec![1u8; n];
    let least = time(&mut || {
        let mut sums = [splat(0); 4];
        for part in buffer.as_chunks::<64>().0 {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 16 bytes within the 64 of the part.
                *sum = or(*sum, unsafe { load(part.as_ptr().add(16 * i)) });
            }
        }
        black_box(sums);
    });
    n as f64 / 1e6 / least
}
