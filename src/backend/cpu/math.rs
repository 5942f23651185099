//! Elementary functions without branches or calls, so that a loop over them becomes SIMD code, and reductions in several
//! lanes, so that a sum neither waits for its own last addition nor loses digits over a long row.

/// Lanes of a reduction: two 128-bit vectors.
const LANES: usize = 8;

/// `Σ f(x, y)` in eight partial sums.
#[inline(always)]
fn reduce(x: &[f32], y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (y, y_rest) = y.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f(*x, *y);
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| f(*x, *y)).sum();
    lanes.iter().sum::<f32>() + rest
}

/// `Σ x`
pub fn sum(x: &[f32]) -> f32 {
    reduce(x, x, |x, _| x)
}

/// `Σ x²`
pub fn sum_of_squares(x: &[f32]) -> f32 {
    reduce(x, x, |x, _| x * x)
}

/// The largest element.
pub fn max(x: &[f32]) -> f32 {
    let (x, rest) = x.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for x in x {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, x| max.max(*x))
}

/// `eˣ` with a relative error below 2e-7; arguments beyond ±87 count as ±87, so it neither overflows nor reaches zero.
///
/// `x = n ln 2 + r` with `|r| ≤ ln 2 / 2`; `eʳ = 1 + r + r² P(r)`, P of degree 4 fitted by Chebyshev nodes (8e-9);
/// adding 1.5·2²³ rounds to the integer `n` and leaves it in the low bits, from where it goes into the exponent.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the first has so few digits that its product with `n` is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.392_625_1e-3;
    let p = p * r + 8.363_233e-3;
    let p = p * r + 4.166_655_4e-2;
    let p = p * r + 1.666_657_7e-1;
    let p = p * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    (p * r * r + r + 1.0) * power
}

/// `1 − erf(x)` for `x ≥ 0` with a relative error below 1e-6 where it is above 1e-6, an absolute one below 2e-7 everywhere:
/// `t exp(P(t) − x²)`, `t = 1 / (1 + x/2)`, P of degree 9 fitted to `ln(erfc(x)/t) + x²` by Chebyshev nodes (6e-8).
#[inline(always)]
fn erfc(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.5 * x);
    let p = 0.162_216_51;
    let p = p * t - 0.773_530_86;
    let p = p * t + 1.371_054_8;
    let p = p * t - 0.975_716_9;
    let p = p * t + 0.145_437_68;
    let p = p * t - 0.115_397_92;
    let p = p * t + 0.073_040_38;
    let p = p * t + 0.378_886_07;
    let p = p * t + 0.999_499;
    let p = p * t - 1.265_488_7;
    t * exp(p - x * x)
}

/// `x/2 · (1 + erf(x/√2))`. From the complement, so that it keeps its digits for negative arguments.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let tail = 0.5 * x.abs() * erfc(x.abs() * std::f32::consts::FRAC_1_SQRT_2);
    x.max(0.0) - tail
}

/// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, which is `x · sigmoid(2 √(2/π) (x + 0.044715 x³))`: in that form it
/// keeps its digits for negative arguments.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    const FACTOR: f32 = -1.595_769;
    x / (1.0 + exp(FACTOR * x * (0.044_715 * x * x + 1.0)))
}

/// The float that these bits are as a half. Exact, also for subnormals: the bits are moved to where a 32-bit float has
/// them, and the product puts the bias of the exponent right.
#[inline(always)]
pub fn half_to_float(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let value = f32::from_bits(magnitude) * f32::from_bits((254 - 15) << 23);
    let non_finite = if magnitude >= 0x7c00 << 13 { 0x7f80_0000 } else { 0 };
    f32::from_bits(value.to_bits() | non_finite | u32::from(bits & 0x8000) << 16)
}

/// The bits of the nearest half, of two equally near ones the even one. What is beyond the largest half becomes that, and so does
/// what is not a number.
#[inline(always)]
pub fn float_to_half(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = x.abs();
    // A comparison with what is not a number is false.
    let magnitude = if magnitude < 65504.0 { magnitude } else { 65504.0 };
    let bits = magnitude.to_bits();
    // 13 bits fewer, and an exponent less by 112.
    let normal = (bits + 0xfff + (bits >> 13 & 1)) >> 13;
    let normal = normal.wrapping_sub(112 << 10);
    // Subnormal halves are multiples of 2⁻²⁴; so is what is left of a number after one half is added.
    let subnormal = (magnitude + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
    let half = if bits < 113 << 23 { subnormal } else { normal };
    half as u16 | sign
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_float_precision() {
        for i in -8700..=8700 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) / exact - 1.0).abs();
            assert!(error < 2e-7, "exp({x}) is off by {error:e}");
        }
    }

    #[test]
    fn halves_convert_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let (own, other) = (half_to_float(bits), half::f16::from_bits(bits).to_f32());
            assert!(own.to_bits() == other.to_bits() || own.is_nan() && other.is_nan(), "{bits:#x}: {own} {other}");
        }
    }

    #[test]
    fn floats_become_the_nearest_halves() {
        // Every half, and what is just below, at and just above the middle between it and the next.
        for bits in 0..0x7c00_u16 {
            let x = half_to_float(bits);
            assert_eq!(float_to_half(x), bits);
            assert_eq!(float_to_half(-x), bits | 0x8000);
            let middle = f32::midpoint(x, half_to_float((bits + 1).min(0x7bff)));
            for x in [middle.next_down(), middle, middle.next_up()] {
                assert_eq!(float_to_half(x), half::f16::from_f32(x).to_bits(), "{x:e}");
            }
        }
        for x in [65504.0, 65519.0, 65520.0, 1e30, f32::INFINITY, f32::NAN] {
            assert_eq!(float_to_half(x), 0x7bff);
        }
    }

    /// Values of erfc from tables, to twelve digits.
    #[test]
    fn erfc_is_exact_to_float_precision() {
        for (x, exact) in [
            (0.0, 1.0),
            (0.1, 0.887_537_083_982),
            (0.5, 0.479_500_122_187),
            (1.0, 0.157_299_207_050),
            (1.5, 0.033_894_853_525),
            (2.0, 0.004_677_734_981),
            (3.0, 2.209_049_699_86e-5),
            (4.0, 1.541_725_790_03e-8),
        ] {
            let error = (f64::from(erfc(x)) - exact).abs();
            assert!(error < 2e-7 && error < 2e-6 * exact, "erfc({x}) is off by {error:e}");
        }
    }

    /// Relative to the result, also where that is small: there the hyperbolic tangent would be -1 to all digits.
    #[test]
    fn gelu_tanh_keeps_its_digits() {
        for i in -800..=800 {
            let x = i as f32 * 0.01;
            let wide = f64::from(x);
            let exponent = -2.0 * (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
            let exact = wide / (1.0 + exponent.exp());
            let error = (f64::from(gelu_tanh(x)) - exact).abs();
            // An exponent of up to 50 is rounded to 24 bits, and so is what follows from it.
            assert!(error <= 1e-5 * exact.abs(), "gelu_tanh({x}) is off by {error:e}");
        }
    }

    #[test]
    fn reductions_take_every_element() {
        for n in [0, 1, 7, 8, 9, 17] {
            let x: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
            assert_eq!(sum(&x), (n * (n + 1) / 2) as f32);
            assert_eq!(sum_of_squares(&x), (n * (n + 1) * (2 * n + 1) / 6) as f32);
            assert_eq!(max(&x), if n == 0 { f32::NEG_INFINITY } else { n as f32 });
        }
    }
}
