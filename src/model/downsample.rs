//! How MobileVLM makes fewer rows of a picture's patches: a quarter of them, behind the projector's linear layers.
//!
//! ```text
//! ldp    two blocks of MobileNetV3's (Howard et al. 2019, arXiv 1905.02244), x ← x + f₁(x); out = f₂(x):
//!        y = hard_swish(norm₁(conv(x)));  y = y ⊙ hard_sigmoid(W₂ · relu(W₁ · mean(y)));  f(x) = norm₂(Wₚ · y)
//!        conv: depthwise, 3 × 3, of every place in f₁ and of every second one in f₂; mean: over all places
//! ldpv2  m = the mean of each 2 × 2 patches;  out = m + conv(m)
//! ```
//!
//! `ldp`: Chu et al. 2023 (MobileVLM, arXiv 2312.16886); `ldpv2`: Chu et al. 2024 (MobileVLM V2, arXiv 2402.03766).

use crate::backend::{Backend, DepthwiseConv, Epilogue, Linear};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::projector::{MAX_WIDTH, ProjectorKind};
use crate::model::weights::{Norm, Plan, Weights};

/// The places from one output to the next of the two blocks of `ldp`, which are counted from 1.
const STRIDES: [usize; 2] = [1, 2];
/// The convolution of `ldpv2`.
const PEG: &str = "mm.model.peg.0";
/// Patches of which `ldpv2` makes one row.
const POOLED: usize = 4;

/// What makes fewer rows.
pub enum Downsample<B: Backend> {
    /// Blocks one behind the other, over patches line by line.
    Blocks([Block<B>; 2]),
    /// A mean, then a convolution that is added, over patches in blocks of 2 by 2.
    Pool(DepthwiseConv<B>),
}

/// A block of MobileNetV3's.
pub struct Block<B: Backend> {
    conv: DepthwiseConv<B>,
    /// Behind the convolution.
    norm1: Norm<B>,
    /// To the few numbers that all places are seen through.
    squeeze: Linear<B>,
    /// From these to a factor for each column.
    excite: Linear<B>,
    n_squeezed: usize,
    pointwise: Linear<B>,
    /// Behind the pointwise layer.
    norm2: Norm<B>,
    eps: f32,
}

/// The name of a part of the block with this number.
fn name(block: usize, part: &str) -> String {
    format!("mm.model.mb_block.{}.block.{part}", block + 1)
}

/// The numbers that all places are seen through in the block with this number; 1 where the file lacks it.
fn n_squeezed(gguf: &Gguf, block: usize) -> Result<usize> {
    let weight = name(block, "1.fc1.weight");
    match gguf.tensor(&weight).map_or(1, |tensor| tensor.info.n_rows()) {
        n if n == 0 || n > MAX_WIDTH => {
            Err(Error::invalid_gguf(format!("'{}' has a tensor '{weight}' of {n} rows, which cannot be right.", gguf.name())))
        }
        n => Ok(n),
    }
}

impl<B: Backend> Downsample<B> {
    /// Names every tensor that a projector of this kind needs for it, over rows of `n` elements; none for kinds that make a row of each.
    ///
    /// # Errors
    /// `invalid_gguf` for widths that cannot be right. What is missing is told by the plan.
    pub fn plan(kind: ProjectorKind, n: usize, plan: &mut Plan<'_>) -> Result<()> {
        match kind {
            ProjectorKind::Ldp => {
                for block in 0..STRIDES.len() {
                    let name = |part| name(block, part);
                    let n_squeezed = n_squeezed(plan.gguf(), block)?;
                    plan.depthwise_conv(&name("0.0"), n);
                    plan.norm(&name("0.1"), n);
                    plan.linear(&name("1.fc1"), n, n_squeezed);
                    plan.linear(&name("1.fc2"), n_squeezed, n);
                    plan.linear(&name("2.0"), n, n);
                    plan.norm(&name("2.1"), n);
                }
            }
            ProjectorKind::LdpV2 => plan.depthwise_conv(PEG, n),
            _ => {}
        }
        Ok(())
    }

    /// Makes it of its weights, where a projector of this kind has it; `eps` is that of its norms.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn new(
        gguf: &Gguf,
        kind: ProjectorKind,
        n: usize,
        eps: f32,
        backend: &mut B,
        w: &mut Weights<B>,
    ) -> Result<Option<Self>> {
        let mut block = |backend: &mut B, block: usize| -> Result<Block<B>> {
            let name = |part| name(block, part);
            Ok(Block {
                conv: w.depthwise_conv(backend, &name("0.0"), n, STRIDES[block])?,
                norm1: w.norm(backend, &name("0.1"), n)?,
                squeeze: w.linear(backend, &name("1.fc1"))?,
                excite: w.linear(backend, &name("1.fc2"))?,
                n_squeezed: n_squeezed(gguf, block)?,
                pointwise: w.linear(backend, &name("2.0"))?,
                norm2: w.norm(backend, &name("2.1"), n)?,
                eps,
            })
        };
        Ok(match kind {
            ProjectorKind::Ldp => Some(Self::Blocks([block(backend, 0)?, block(backend, 1)?])),
            ProjectorKind::LdpV2 => Some(Self::Pool(w.depthwise_conv(backend, PEG, n, 1)?)),
            _ => None,
        })
    }

    /// Rows `x [4 · rows · cols, n]` to `[rows · cols, n]`.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn apply(&self, backend: &mut B, x: &B::Tensor, [rows, cols]: [usize; 2], n: usize) -> Result<B::Tensor> {
        match self {
            Self::Blocks([first, second]) => {
                let grid = [2 * rows, 2 * cols];
                let mut sum = first.apply(backend, x, grid, n)?;
                backend.add_rows(&mut sum, 0, x, grid[0] * grid[1]);
                second.apply(backend, &sum, grid, n)
            }
            Self::Pool(conv) => {
                let mut means = backend.tensor(rows * cols, n)?;
                backend.mean_rows(x, POOLED, 1.0, &mut means, rows * cols);
                let mut out = backend.tensor(rows * cols, n)?;
                backend.depthwise_conv(&means, [rows, cols], conv, &mut out);
                backend.add_rows(&mut out, 0, &means, rows * cols);
                Ok(out)
            }
        }
    }
}

impl<B: Backend> Block<B> {
    /// `f(x)`: of a grid of rows of `n` elements, those of the convolution's.
    fn apply(&self, backend: &mut B, x: &B::Tensor, grid: [usize; 2], n: usize) -> Result<B::Tensor> {
        let n_rows = self.conv.output(grid).iter().product();
        let (mut a, mut b) = (backend.tensor(n_rows, n)?, backend.tensor(n_rows, n)?);
        let (mut mean, mut squeezed, mut factors) =
            (backend.tensor(1, n)?, backend.tensor(1, self.n_squeezed)?, backend.tensor(1, n)?);
        backend.depthwise_conv(x, grid, &self.conv, &mut a);
        backend.layer_norm(&a, &self.norm1.weight, &self.norm1.bias, self.eps, &mut b, n_rows);
        backend.hard_swish(&mut b, n_rows);
        backend.mean_rows(&b, n_rows, 1.0, &mut mean, 1);
        backend.linear(&mean, &self.squeeze, &mut squeezed, 1, Epilogue::Relu);
        backend.linear(&squeezed, &self.excite, &mut factors, 1, Epilogue::HardSigmoid);
        backend.mul_rows(&mut b, &factors, n_rows);
        backend.linear(&b, &self.pointwise, &mut a, n_rows, Epilogue::Store);
        backend.layer_norm(&a, &self.norm2.weight, &self.norm2.bias, self.eps, &mut b, n_rows);
        Ok(b)
    }
}
