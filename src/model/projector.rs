//! From vision features to rows that stand among text embeddings (Liu et al. 2023, arXiv 2304.08485 and 2310.03744).

use crate::backend::{Backend, Epilogue, Linear};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::model::weights::{Plan, Weights};

/// More than any language model's width.
const MAX_WIDTH: usize = 1 << 17;

/// The kinds of projector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectorKind {
    /// One linear layer: LLaVA.
    Linear,
    /// Linear, GELU (the exact one), linear: LLaVA-1.5.
    Mlp2xGelu,
}

impl ProjectorKind {
    /// The name LLaVA's configuration gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Mlp2xGelu => "mlp2x_gelu",
        }
    }

    /// Reads which one the file holds.
    ///
    /// # Errors
    /// `unsupported_architecture` for another.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let m = &gguf.metadata;
        // Files of 2023 lack the key.
        let kind = m.str("clip.projector_type").or_else(|| m.str("clip.vision.projector_type")).unwrap_or("mlp");
        match kind {
            "mlp" | "linear" | "mlp2x_gelu" if gguf.tensor("mm.2.weight").is_some() => Ok(Self::Mlp2xGelu),
            "mlp" | "linear" | "mlp2x_gelu" => Ok(Self::Linear),
            _ => Err(Error::unsupported_architecture(format!(
                "'{}' has a projector of the kind '{kind}', which is not supported. Files of LLaVA 1 and 1.5 (linear and mlp) are.",
                gguf.name()
            ))),
        }
    }
}

/// A loaded projector.
pub struct Projector<B: Backend> {
    /// Which one.
    pub kind: ProjectorKind,
    /// Width of the rows it gives.
    pub n_out: usize,
    n_hidden: usize,
    first: Linear<B>,
    second: Option<Linear<B>>,
}

/// Widths of a projector: hidden (0 for none) and output.
fn widths(gguf: &Gguf, kind: ProjectorKind) -> Result<(usize, usize)> {
    let rows = |name: &str| {
        let tensor = gguf
            .tensor(name)
            .ok_or_else(|| Error::invalid_gguf(format!("'{}' lacks the tensor '{name}'. It holds no projector.", gguf.name())))?;
        match tensor.info.n_rows() {
            n if n > MAX_WIDTH => {
                Err(Error::invalid_gguf(format!("'{}' has a projector {n} wide, which cannot be right.", gguf.name())))
            }
            n => Ok(n),
        }
    };
    Ok(match kind {
        ProjectorKind::Linear => (0, rows("mm.0.weight")?),
        ProjectorKind::Mlp2xGelu => (rows("mm.0.weight")?, rows("mm.2.weight")?),
    })
}

impl<B: Backend> Projector<B> {
    /// The width of the rows this file's projector gives.
    ///
    /// # Errors
    /// `invalid_gguf` where it has none.
    pub fn output_width(gguf: &Gguf, kind: ProjectorKind) -> Result<usize> {
        Ok(widths(gguf, kind)?.1)
    }

    /// Names every tensor it needs; `n_in` is the width of the features.
    ///
    /// # Errors
    /// `invalid_gguf` where the file has none.
    pub fn plan(kind: ProjectorKind, n_in: usize, plan: &mut Plan<'_>) -> Result<()> {
        let (n_hidden, n_out) = widths(plan.gguf(), kind)?;
        match kind {
            ProjectorKind::Linear => plan.linear("mm.0", n_in, n_out),
            ProjectorKind::Mlp2xGelu => {
                plan.linear("mm.0", n_in, n_hidden);
                plan.linear("mm.2", n_hidden, n_out);
            }
        }
        Ok(())
    }

    /// Makes the projector of its weights.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn new(gguf: &Gguf, kind: ProjectorKind, backend: &mut B, w: &mut Weights<B>) -> Result<Self> {
        let (n_hidden, n_out) = widths(gguf, kind)?;
        let first = w.linear(backend, "mm.0")?;
        let second = match kind {
            ProjectorKind::Linear => None,
            ProjectorKind::Mlp2xGelu => Some(w.linear(backend, "mm.2")?),
        };
        Ok(Self { kind, n_out, n_hidden, first, second })
    }

    /// `features [n, n_in]` to rows `[n, n_out]`.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn project(&self, backend: &mut B, features: &B::Tensor, n: usize) -> Result<B::Tensor> {
        let mut out = backend.tensor(n, self.n_out)?;
        match &self.second {
            None => backend.linear(features, &self.first, &mut out, n, Epilogue::Store),
            Some(second) => {
                let mut hidden = backend.tensor(n, self.n_hidden)?;
                backend.linear(features, &self.first, &mut hidden, n, Epilogue::Gelu);
                backend.linear(&hidden, second, &mut out, n, Epilogue::Store);
            }
        }
        Ok(out)
    }
}
