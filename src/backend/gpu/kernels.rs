//! The table of kernels: each one's WGSL, put together from its file and the fragments it needs, and the shape of its bindings.

use crate::backend::KvFormat;
use crate::quant::Format;

/// A compute shader, in one of its forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// `copy_rows.wgsl`
    CopyRows,
    /// `add_rows.wgsl`
    AddRows,
    /// `silu_mul.wgsl`
    SiluMul,
    /// `rms_norm.wgsl`
    RmsNorm,
    /// `layer_norm.wgsl`
    LayerNorm,
    /// `rope.wgsl`
    Rope,
    /// `kv_write_f32.wgsl`, `kv_write_f16.wgsl`
    KvWrite(KvFormat),
    /// `attention.wgsl` over keys and values of this kind
    Attention {
        /// How keys and values are kept.
        format: KvFormat,
        /// Whether heads begin at multiples of four elements.
        is_aligned: bool,
    },
    /// `mat_vec.wgsl`
    MatVec(Format),
    /// `mat_mul.wgsl`
    MatMul(Format),
    /// `embed.wgsl`
    Embed(Format),
    /// `gate_up.wgsl`
    GateUp {
        /// Of the gate's weights.
        gate: Format,
        /// Of the weights up.
        up: Format,
    },
    /// `qkv_rope_kv.wgsl`
    QkvRopeKv {
        /// Of the queries' weights.
        q: Format,
        /// Of the keys' weights.
        k: Format,
        /// Of the values' weights.
        v: Format,
        /// How keys and values are kept.
        cache: KvFormat,
    },
}

/// The optional features that kernels are written for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Variant {
    /// Neighbouring threads that are surely in one subgroup: 4, 8 or 16; 0 where subgroups are not used.
    pub lanes: u32,
}

impl Variant {
    /// All there are; the first needs nothing.
    pub const ALL: [Self; 4] = [Self { lanes: 0 }, Self { lanes: 4 }, Self { lanes: 8 }, Self { lanes: 16 }];

    /// For an adapter whose subgroups have at least this many threads.
    pub fn for_subgroups(min_size: u32) -> Self {
        Self { lanes: if min_size < 4 { 0 } else { 1 << min_size.ilog2().min(4) } }
    }
}

/// How many buffers a kernel reads and how many it writes. Bindings are numbered in this order behind the parameters, which are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bindings {
    /// Read-only storage buffers.
    pub n_read: u32,
    /// Storage buffers that are written.
    pub n_write: u32,
}

impl Kernel {
    /// Every kernel in every form; of those that mix formats every format alone, and with the one that files mix in.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::CopyRows, Self::AddRows, Self::SiluMul, Self::RmsNorm, Self::LayerNorm, Self::Rope];
        for format in [KvFormat::F32, KvFormat::F16] {
            all.push(Self::KvWrite(format));
            all.extend([false, true].map(|is_aligned| Self::Attention { format, is_aligned }));
        }
        for format in Format::ALL {
            all.extend([Self::MatVec(format), Self::MatMul(format), Self::Embed(format)]);
            for other in [format, Format::Q6_K] {
                all.push(Self::GateUp { gate: format, up: other });
                let qkv = |cache| Self::QkvRopeKv { q: format, k: format, v: other, cache };
                all.extend([KvFormat::F32, KvFormat::F16].map(qkv));
            }
        }
        all
    }

    /// The name, which is also the pipeline's label.
    pub fn name(self) -> String {
        let kv = |format| if format == KvFormat::F32 { "f32" } else { "f16" };
        match self {
            Self::CopyRows => "copy_rows".into(),
            Self::AddRows => "add_rows".into(),
            Self::SiluMul => "silu_mul".into(),
            Self::RmsNorm => "rms_norm".into(),
            Self::LayerNorm => "layer_norm".into(),
            Self::Rope => "rope".into(),
            Self::KvWrite(format) => format!("kv_write {}", kv(format)),
            Self::Attention { format, is_aligned } => {
                format!("attention {}{}", kv(format), if is_aligned { "" } else { " any" })
            }
            Self::MatVec(format) => format!("mat_vec {}", format.name()),
            Self::MatMul(format) => format!("mat_mul {}", format.name()),
            Self::Embed(format) => format!("embed {}", format.name()),
            Self::GateUp { gate, up } => format!("gate_up {} {}", gate.name(), up.name()),
            Self::QkvRopeKv { q, k, v, cache } => {
                format!("qkv_rope_kv {} {} {} {}", q.name(), k.name(), v.name(), kv(cache))
            }
        }
    }

    /// Whether it has variants.
    pub fn has_variants(self) -> bool {
        matches!(self, Self::MatVec(_) | Self::GateUp { .. })
    }

    /// The WGSL.
    pub fn source(self, variant: Variant) -> String {
        const PLANES: &str = include_str!("../../quant/planes.wgsl");
        const LINEAR: &str = include_str!("shaders/linear.wgsl");
        const EMBED: &str = include_str!("shaders/embed.wgsl");
        const GATE_UP: &str = include_str!("shaders/gate_up.wgsl");
        const QKV_ROPE_KV: &str = include_str!("shaders/qkv_rope_kv.wgsl");
        let plain: &[&str] = match self {
            Self::MatVec(format) => {
                let parts = [LINEAR, include_str!("shaders/mat_vec.wgsl"), PLANES, &row_part(format, ""), &sum16(variant)];
                return with_features(parts.join("\n"), variant);
            }
            Self::MatMul(format) => {
                return [LINEAR, include_str!("shaders/mat_mul.wgsl"), PLANES, &weights(format, "")].join("\n");
            }
            Self::Embed(format) => return [EMBED, PLANES, &weights(format, "")].join("\n"),
            Self::GateUp { gate, up } => {
                let parts = [GATE_UP, PLANES, &row_part(gate, "gate_"), &row_part(up, "up_"), &sum16(variant)];
                return with_features(parts.join("\n"), variant);
            }
            Self::QkvRopeKv { q, k, v, cache } => {
                let store = match cache {
                    KvFormat::F32 => include_str!("shaders/kv_store_f32.wgsl"),
                    KvFormat::F16 => include_str!("shaders/kv_store_f16.wgsl"),
                };
                let [q, k, v] = [(q, "q_"), (k, "k_"), (v, "v_")].map(|(format, name)| row_part(format, name));
                return [QKV_ROPE_KV, store, PLANES, &q, &k, &v].join("\n");
            }
            Self::CopyRows => &[include_str!("shaders/copy_rows.wgsl")],
            Self::AddRows => &[include_str!("shaders/add_rows.wgsl")],
            Self::SiluMul => &[include_str!("shaders/silu_mul.wgsl")],
            Self::RmsNorm => &[include_str!("shaders/rms_norm.wgsl")],
            Self::LayerNorm => &[include_str!("shaders/layer_norm.wgsl")],
            Self::Rope => &[include_str!("shaders/rope.wgsl")],
            Self::KvWrite(KvFormat::F32) => &[include_str!("shaders/kv_write_f32.wgsl")],
            Self::KvWrite(KvFormat::F16) => &[include_str!("shaders/kv_write_f16.wgsl")],
            Self::Attention { format, is_aligned } => {
                let keys = match (format, is_aligned) {
                    (KvFormat::F32, true) => include_str!("shaders/kv_f32.wgsl"),
                    (KvFormat::F16, true) => include_str!("shaders/kv_f16.wgsl"),
                    (KvFormat::F32, false) => include_str!("shaders/kv_f32_any.wgsl"),
                    (KvFormat::F16, false) => include_str!("shaders/kv_f16_any.wgsl"),
                };
                &[include_str!("shaders/attention.wgsl"), keys]
            }
        };
        plain.join("\n")
    }

    /// The buffers it takes.
    pub fn bindings(self) -> Bindings {
        let (n_read, n_write) = match self {
            Self::CopyRows | Self::AddRows | Self::SiluMul | Self::Rope | Self::Embed(_) => (1, 1),
            Self::RmsNorm => (2, 1),
            Self::LayerNorm | Self::Attention { .. } | Self::MatVec(_) | Self::MatMul(_) => (3, 1),
            Self::KvWrite(_) => (2, 2),
            Self::GateUp { .. } => (3, 1),
            Self::QkvRopeKv { .. } => (5, 3),
        };
        Bindings { n_read, n_write }
    }
}

/// The fragment that decodes a matrix of this format, as `{name}weights`.
fn weights(format: Format, name: &str) -> String {
    [include_str!("../../quant/plane.wgsl"), format.wgsl()].join("\n").replace("M_", name)
}

/// The same, and the product of a row with a row of x, as `{name}row_part`.
fn row_part(format: Format, name: &str) -> String {
    weights(format, name) + &include_str!("shaders/row_part.wgsl").replace("M_", name)
}

/// The sums of 16 threads.
fn sum16(variant: Variant) -> String {
    match variant.lanes {
        0 => include_str!("shaders/sum16.wgsl").into(),
        lanes => format!("const LANES: u32 = {lanes}u;\n{}", include_str!("shaders/sum16_subgroups.wgsl")),
    }
}

/// Browsers want to be told which features a shader uses; naga takes them unasked and does not know the words.
fn with_features(source: String, variant: Variant) -> String {
    if cfg!(target_arch = "wasm32") && variant.lanes > 0 { format!("enable subgroups;\n{source}") } else { source }
}
