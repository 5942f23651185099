//! From vision features to rows that stand among text embeddings.
//!
//! Features come with those of a block of patches side by side (see [`Vit::end`](super::vision::Vit::end)). Most projectors are then
//! one or two linear layers with the exact GELU between, some after a norm. LLaVA's: Liu et al. 2023 (arXiv 2304.08485 and 2310.03744);
//! Idefics3's pixel shuffle: Laurençon et al. 2024 (arXiv 2408.12637); InternVL's: Chen et al. 2024 (arXiv 2404.16821). Gemma 3's:
//! Gemma Team 2025 (arXiv 2503.19786). MobileVLM's take patches one by one, and make fewer rows of them behind those layers (`downsample`).

use crate::backend::{Backend, Epilogue, Linear};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::image::projector_type;
use crate::model::downsample::Downsample;
use crate::model::weights::{Norm, Plan, Weights};

/// More than any language model's width.
pub(super) const MAX_WIDTH: usize = 1 << 17;

/// The kinds of projector. Each belongs to a family of models, whose tower and pictures are what the kind says, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectorKind {
    /// One linear layer: LLaVA.
    Linear,
    /// Linear, GELU, linear: LLaVA-1.5.
    Mlp2xGelu,
    /// One linear layer over merged patches: Idefics3, SmolVLM.
    Idefics3,
    /// Norm (in some files), linear, GELU, linear over merged patches: LFM2-VL.
    Lfm2,
    /// Norm, linear, GELU, linear over merged patches: InternVL.
    InternVl,
    /// Linear, GELU, linear over merged patches: Qwen2-VL.
    Qwen2Vl,
    /// The same behind another tower: Qwen2.5-VL.
    Qwen25Vl,
    /// The same, and such a projector behind a norm for the features of some earlier blocks (DeepStack): Qwen3-VL.
    Qwen3Vl,
    /// Norm of the root mean square, linear over the means of blocks of patches: Gemma 3. Its matrix is stored the other way round.
    Gemma3,
    /// Linear, GELU, linear, then two blocks of MobileNet's over the grid of patches: MobileVLM.
    Ldp,
    /// Linear, GELU, linear, then means of patches and a convolution over their grid: MobileVLM V2.
    LdpV2,
}

/// The kinds that a file names otherwise than LLaVA's, as `clip.projector_type` spells them.
const FAMILIES: [(&str, ProjectorKind); 9] = [
    ("idefics3", ProjectorKind::Idefics3),
    ("lfm2", ProjectorKind::Lfm2),
    ("internvl", ProjectorKind::InternVl),
    ("qwen2vl_merger", ProjectorKind::Qwen2Vl),
    ("qwen2.5vl_merger", ProjectorKind::Qwen25Vl),
    ("qwen3vl_merger", ProjectorKind::Qwen3Vl),
    ("ldp", ProjectorKind::Ldp),
    ("ldpv2", ProjectorKind::LdpV2),
    ("gemma3", ProjectorKind::Gemma3),
];

/// The names of a projector's tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// A norm, and whether files may lack it.
    norm: Option<(String, bool)>,
    first: String,
    second: Option<String>,
    /// Whether the first matrix is stored with the elements of an input's column side by side.
    is_transposed: bool,
}

impl Names {
    fn new(norm: Option<(&str, bool)>, first: &str, second: Option<&str>) -> Self {
        let norm = norm.map(|(name, may_lack)| (name.to_string(), may_lack));
        Self { norm, first: first.into(), second: second.map(str::to_string), is_transposed: false }
    }

    /// Those of the projector for the features of an earlier block of Qwen3-VL's tower.
    pub fn deepstack(block: usize) -> Self {
        let name = |part: &str| format!("v.deepstack.{block}.{part}");
        Self::new(Some((&name("norm"), false)), &name("fc1"), Some(&name("fc2")))
    }
}

impl ProjectorKind {
    /// The name that the model's own configuration gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Mlp2xGelu => "mlp2x_gelu",
            Self::Idefics3 => "idefics3",
            Self::Lfm2 => "lfm2",
            Self::InternVl => "internvl",
            Self::Qwen2Vl => "qwen2vl_merger",
            Self::Qwen25Vl => "qwen2.5vl_merger",
            Self::Qwen3Vl => "qwen3vl_merger",
            Self::Ldp => "ldp",
            Self::LdpV2 => "ldpv2",
            Self::Gemma3 => "gemma3",
        }
    }

    /// Reads which one the file holds.
    ///
    /// # Errors
    /// `unsupported_architecture` for another.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let kind = projector_type(&gguf.metadata).unwrap_or("mlp");
        match kind {
            "mlp" | "linear" | "mlp2x_gelu" if gguf.tensor("mm.2.weight").is_some() => Ok(Self::Mlp2xGelu),
            "mlp" | "linear" | "mlp2x_gelu" => Ok(Self::Linear),
            _ => FAMILIES.iter().find(|(name, _)| *name == kind).map(|(_, kind)| *kind).ok_or_else(|| {
                Error::unsupported_architecture(format!(
                    "'{}' has a projector of the kind '{kind}', which is not supported. Those of LLaVA 1, 1.5 and 1.6 (linear and mlp) are, and \
                     {}.",
                    gguf.name(),
                    FAMILIES.map(|(name, _)| name).join(", ")
                ))
            }),
        }
    }

    /// The names of its tensors.
    pub fn names(self) -> Names {
        match self {
            Self::Linear => Names::new(None, "mm.0", None),
            Self::Mlp2xGelu | Self::Qwen2Vl | Self::Qwen25Vl | Self::Qwen3Vl => Names::new(None, "mm.0", Some("mm.2")),
            Self::Idefics3 => Names::new(None, "mm.model.fc", None),
            Self::Lfm2 => Names::new(Some(("mm.input_norm", true)), "mm.1", Some("mm.2")),
            Self::InternVl => Names::new(Some(("mm.model.mlp.0", false)), "mm.model.mlp.1", Some("mm.model.mlp.3")),
            Self::Ldp => Names::new(None, "mm.model.mlp.1", Some("mm.model.mlp.3")),
            Self::LdpV2 => Names::new(None, "mm.model.mlp.0", Some("mm.model.mlp.2")),
            Self::Gemma3 => {
                let names = Names::new(Some(("mm.soft_emb_norm", false)), "mm.input_projection", None);
                Names { is_transposed: true, ..names }
            }
        }
    }

    /// Whether its norms are of the root mean square alone.
    fn has_rms_norm(self) -> bool {
        self == Self::Gemma3
    }

    /// The epsilon of its norms.
    fn eps(self) -> f32 {
        match self {
            Self::Qwen3Vl | Self::Gemma3 => 1e-6,
            _ => 1e-5,
        }
    }

    /// Whether it takes the features of a block of patches side by side.
    pub fn joins_patches(self) -> bool {
        !self.convolves()
    }

    /// Whether it convolves over the grid of patches.
    pub fn convolves(self) -> bool {
        matches!(self, Self::Ldp | Self::LdpV2)
    }

    /// Whether it is one of Qwen's: their towers know where patches are by rotary embedding.
    pub fn is_qwen(self) -> bool {
        matches!(self, Self::Qwen2Vl | Self::Qwen25Vl | Self::Qwen3Vl)
    }
}

/// A loaded projector.
pub struct Projector<B: Backend> {
    /// Which one.
    pub kind: ProjectorKind,
    /// Width of the rows it gives.
    pub n_out: usize,
    n_in: usize,
    n_hidden: usize,
    norm: Option<(Norm<B>, f32)>,
    first: Linear<B>,
    second: Option<Linear<B>>,
    down: Option<Downsample<B>>,
}

/// Widths of a projector: hidden (0 for none) and output.
fn widths(gguf: &Gguf, names: &Names) -> Result<(usize, usize)> {
    let rows = |name: &str| {
        let name = format!("{name}.weight");
        let tensor = gguf
            .tensor(&name)
            .ok_or_else(|| Error::invalid_gguf(format!("'{}' lacks the tensor '{name}'. It holds no projector.", gguf.name())))?;
        let n_rows = match names.is_transposed {
            true => tensor.info.dims.first().copied().unwrap_or(0),
            false => tensor.info.n_rows(),
        };
        match n_rows {
            n if n > MAX_WIDTH => {
                Err(Error::invalid_gguf(format!("'{}' has a projector {n} wide, which cannot be right.", gguf.name())))
            }
            n => Ok(n),
        }
    };
    match &names.second {
        None => Ok((0, rows(&names.first)?)),
        Some(second) => Ok((rows(&names.first)?, rows(second)?)),
    }
}

impl<B: Backend> Projector<B> {
    /// The width of the rows this file's projector gives.
    ///
    /// # Errors
    /// `invalid_gguf` where it has none.
    pub fn output_width(gguf: &Gguf, kind: ProjectorKind) -> Result<usize> {
        Ok(widths(gguf, &kind.names())?.1)
    }

    /// Names every tensor it needs; `n_in` is the width of the features.
    ///
    /// # Errors
    /// `invalid_gguf` where the file has none.
    pub fn plan(kind: ProjectorKind, names: &Names, n_in: usize, plan: &mut Plan<'_>) -> Result<()> {
        let (n_hidden, n_out) = widths(plan.gguf(), names)?;
        if let Some((norm, may_lack)) = &names.norm
            && (!may_lack || plan.has(&format!("{norm}.weight")))
        {
            plan.norm(norm, n_in);
        }
        match &names.second {
            None if names.is_transposed => plan.floats(&format!("{}.weight", names.first), &[n_out, n_in]),
            None => plan.linear(&names.first, n_in, n_out),
            Some(second) => {
                plan.linear(&names.first, n_in, n_hidden);
                plan.linear(second, n_hidden, n_out);
            }
        }
        Downsample::<B>::plan(kind, n_out, plan)
    }

    /// Makes the projector of its weights, by their names.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn new(
        gguf: &Gguf,
        kind: ProjectorKind,
        names: &Names,
        n_in: usize,
        backend: &mut B,
        w: &mut Weights<B>,
    ) -> Result<Self> {
        let (n_hidden, n_out) = widths(gguf, names)?;
        let norm = match &names.norm {
            Some((name, _)) if gguf.tensor(&format!("{name}.weight")).is_some() => {
                Some((w.norm(backend, name, n_in)?, kind.eps()))
            }
            _ => None,
        };
        let first = match names.is_transposed {
            true => Linear { weight: w.transposed(backend, &format!("{}.weight", names.first), n_in)?, bias: None },
            false => w.linear(backend, &names.first)?,
        };
        let second = match &names.second {
            None => None,
            Some(second) => Some(w.linear(backend, second)?),
        };
        let down = Downsample::new(gguf, kind, n_out, kind.eps(), backend, w)?;
        Ok(Self { kind, n_out, n_in, n_hidden, norm, first, second, down })
    }

    /// `features [n, n_in]` to rows `[grid, n_out]`: as many, but for kinds that make one of several, in whose order they come then
    /// ([`VitConfig::order`](super::vision::VitConfig::order)).
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn project(&self, backend: &mut B, features: &B::Tensor, n: usize, grid: [usize; 2]) -> Result<B::Tensor> {
        let mut out = backend.tensor(n, self.n_out)?;
        let normed = match &self.norm {
            None => None,
            Some((norm, eps)) => {
                let mut normed = backend.tensor(n, self.n_in)?;
                if self.kind.has_rms_norm() {
                    backend.rms_norm(features, &norm.weight, *eps, &mut normed, n);
                } else {
                    backend.layer_norm(features, &norm.weight, &norm.bias, *eps, &mut normed, n);
                }
                Some(normed)
            }
        };
        let features = normed.as_ref().unwrap_or(features);
        match &self.second {
            None => backend.linear(features, &self.first, &mut out, n, Epilogue::Store),
            Some(second) => {
                let mut hidden = backend.tensor(n, self.n_hidden)?;
                backend.linear(features, &self.first, &mut hidden, n, Epilogue::Gelu);
                backend.linear(&hidden, second, &mut out, n, Epilogue::Store);
            }
        }
        match &self.down {
            None => Ok(out),
            Some(down) => down.apply(backend, &out, grid, self.n_out),
        }
    }
}
