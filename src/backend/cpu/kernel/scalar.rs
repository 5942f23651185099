//! The products as plain loops: what the other twins must compute, and what runs where there are no vectors.

use super::{Block, GROUP, QUAD, QUADS, Quant};
use crate::backend::cpu::quantize_activations::SHIFT;

/// `out[r] = Σ_k w[r, k] · x[k]` for the rows of quad `i` of those in `quads [blocks][QUADS][Q::BYTES]` and one row of activations.
pub fn multiply<Q: Quant>(quads: &[u8], i: usize, x: &[Block<i8>], out: &mut [f32; QUAD]) {
    let offset = Q::OFFSET_LOG2.map_or(0, |log2| 1 << log2);
    *out = [0.0; QUAD];
    for (block, x) in quads.chunks_exact(Q::BYTES).skip(i).step_by(QUADS).zip(x.chunks_exact(Q::GROUPS)) {
        for (g, x) in x.iter().enumerate() {
            for (r, out) in out.iter_mut().enumerate() {
                let mut sums = [0_i32; 2];
                for (half, sum) in sums.iter_mut().enumerate() {
                    for k in 16 * half..16 * half + GROUP / 2 {
                        *sum += (i32::from(Q::q(block, g, r, k)) - offset) * i32::from(x.q[k]);
                    }
                }
                let d = x.scale / SHIFT;
                *out += if Q::HAS_HALF_SCALES {
                    d * (Q::scale(block, g, r, 0) * sums[0] as f32 + Q::scale(block, g, r, 1) * sums[1] as f32)
                } else {
                    d * Q::scale(block, g, r, 0) * (sums[0] + sums[1]) as f32
                };
                if Q::HAS_MIN {
                    let x_sums = [x.sum - x.second_sum, x.second_sum];
                    *out += d * (Q::min(block, g, r, 0) * x_sums[0] as f32 + Q::min(block, g, r, 1) * x_sums[1] as f32);
                }
            }
        }
    }
}
