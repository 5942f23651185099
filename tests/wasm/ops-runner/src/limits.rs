//! What the machine gives to a plain loop: the most that a kernel could reach.

use std::arch::wasm32::*;
use std::hint::black_box;

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

    #[inline(always)]
    fn add(self, sum: v128, x: v128) -> v128 {
        match self {
            #[cfg(target_feature = "relaxed-simd")]
            Self::Dot => i32x4_relaxed_dot_i8x16_i7x16_add(x, x, sum),
            #[cfg(target_feature = "relaxed-simd")]
            Self::Float => f32x4_relaxed_madd(x, x, sum),
            // The product hangs on the sum, so that it is not computed once for all rounds.
            #[cfg(not(target_feature = "relaxed-simd"))]
            Self::Dot => i32x4_add(sum, i32x4_dot_i16x8(sum, x)),
            #[cfg(not(target_feature = "relaxed-simd"))]
            Self::Float => f32x4_add(x, f32x4_mul(sum, x)),
        }
    }
}

/// `CHAINS` sums that do not wait for each other.
#[inline(always)]
fn chains<const CHAINS: usize>(step: Step) {
    // Halves as floats stay clear of denormals, which are slow.
    let (x, sum) =
        if step == Step::Float { (f32x4_splat(0.5), f32x4_splat(1.0)) } else { (i32x4_splat(0x0102_0304), i32x4_splat(1)) };
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
        let mut sums = [i32x4_splat(0); 4];
        for part in buffer.as_chunks::<64>().0 {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: 16 bytes within the 64 of the part.
                *sum = v128_or(*sum, unsafe { v128_load(part.as_ptr().add(16 * i).cast()) });
            }
        }
        black_box(sums);
    });
    n as f64 / 1e6 / least
}
