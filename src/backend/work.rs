//! Counts of work and bytes. A `usize` has 32 bits in a browser: the multiply-adds of a single 4096 × 4096 projection of 512 rows, 2³³,
//! would wrap to none there, and only there.

/// The product of sizes in 64 bits; the largest number there is where even those are too few.
pub(crate) fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, factor| product.saturating_mul(*factor as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_real_layers_do_not_wrap() {
        // A projection and a feed-forward layer of a 7B model over a chunk of 512 rows, and its attention over 4096 positions.
        assert_eq!(product(&[512, 4096, 4096]), 1 << 33);
        assert_eq!(product(&[512, 11008, 4096]), 23_085_449_216);
        assert_eq!(product(&[2, 512, 32, 128, 4096]), 1 << 34);
        assert_eq!(product(&[]), 1);
        assert_eq!(product(&[7, 0, usize::MAX]), 0);
    }

    /// Products that no `usize` holds, on machines of 64 bits as on those of 32.
    #[test]
    fn products_beyond_a_usize_do_not_wrap() {
        assert!(product(&[usize::MAX, 2]) > usize::MAX as u64 || usize::BITS == 64);
        assert_eq!(product(&[usize::MAX, 2]), (usize::MAX as u64).saturating_mul(2));
        assert_eq!(product(&[usize::MAX; 3]), u64::MAX);
    }
}
