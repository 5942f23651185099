//! The table of kernels: each one's WGSL, put together from its file and the fragments it needs, and the shape of its bindings.

use crate::backend::{Gating, KvFormat};
use crate::quant::Format;

/// A compute shader, in one of its forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// `copy_rows.wgsl`
    CopyRows,
    /// `gather_rows.wgsl`
    GatherRows,
    /// `join_rows.wgsl`
    JoinRows,
    /// `add_rows.wgsl`
    AddRows,
    /// `add_scaled.wgsl`
    AddScaled,
    /// `mean_rows.wgsl`
    MeanRows,
    /// `mul_rows.wgsl`
    MulRows,
    /// `hard_swish.wgsl`
    HardSwish,
    /// `depthwise_conv.wgsl`
    DepthwiseConv,
    /// `head_norm.wgsl`
    HeadNorm,
    /// `short_conv.wgsl`
    ShortConv,
    /// `short_conv_keep.wgsl`
    ShortConvKeep,
    /// `gate_mul.wgsl`
    GateMul(Gating),
    /// `soft_cap.wgsl`
    SoftCap,
    /// `rms_norm.wgsl`
    RmsNorm,
    /// `layer_norm.wgsl`
    LayerNorm,
    /// `rope.wgsl`
    Rope,
    /// `kv_write.wgsl`, `kv_write_q8_0.wgsl`
    KvWrite(KvFormat),
    /// `attention.wgsl` over keys and values of this kind
    Attention {
        /// How keys and values are kept.
        format: KvFormat,
        /// Whether heads begin at multiples of four elements.
        is_aligned: bool,
        /// Whether queries may see keys beyond their own slot (`attention_ends.wgsl`).
        has_ends: bool,
    },
    /// `attention_merge.wgsl`
    AttentionMerge,
    /// `attention_tile.wgsl`
    AttentionTile {
        /// How keys and values are kept.
        format: KvFormat,
        /// Pieces of 32 elements that make a head, 1 to [`MAX_TILE_COLS`].
        cols: u32,
        /// As in [`Self::Attention`].
        has_ends: bool,
    },
    /// `mat_vec.wgsl`
    MatVec {
        /// Of the weights.
        format: Format,
        /// Whether the input goes through `rms_norm` first.
        normed: bool,
    },
    /// `mat_mul.wgsl`
    MatMul(Format),
    /// `mat_mul_64.wgsl`
    MatMul64 {
        /// Of the weights.
        format: Format,
        /// Whether workgroup memory holds 16-bit floats; needs [`Products::Half`].
        half: bool,
    },
    /// `quantize_rows.wgsl`
    QuantizeRows,
    /// `mat_mul_dot8.wgsl`
    MatMulDot8(Format),
    /// `embed.wgsl`
    Embed(Format),
    /// `gate_up.wgsl`
    GateUp {
        /// Of the gate's weights.
        gate: Format,
        /// Of the weights up.
        up: Format,
        /// What the gate goes through.
        gating: Gating,
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
    /// `choose_best.wgsl`
    ChooseBest,
    /// `choose_histogram.wgsl`
    ChooseHistogram,
    /// `choose_candidates.wgsl`
    ChooseCandidates,
    /// `choose.wgsl`
    Choose,
}

/// Pieces of 32 elements of the widest head that `attention_tile.wgsl` takes.
pub const MAX_TILE_COLS: u32 = 4;

/// What the products of many rows are computed in. Sums have 32 bits in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Products {
    /// 32-bit floats.
    #[default]
    Float,
    /// Operands rounded to 16-bit floats (`shader-f16`): half the traffic of workgroup memory.
    Half,
    /// Quantized weights with activations in 8 bits, four products to an instruction (`packed_4x8_integer_dot_product`).
    Bytes,
}

/// The optional features that kernels are written for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Variant {
    /// Neighbouring threads that are surely in one subgroup: 4, 8 or 16; 0 where subgroups are not used.
    pub lanes: u32,
    /// How many rows are multiplied.
    pub products: Products,
}

impl Variant {
    /// The numbers of lanes there are forms for; the first needs nothing.
    pub const LANES: [u32; 4] = [0, 4, 8, 16];

    /// Lanes for an adapter whose subgroups have at least this many threads.
    pub fn lanes_for(min_size: u32) -> u32 {
        if min_size < 4 { 0 } else { 1 << min_size.ilog2().min(4) }
    }
}

/// How many buffers a kernel reads and how many it writes. Bindings are numbered in this order behind the parameters, which are 0; what
/// changes from token to token (`step.wgsl`) is last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bindings {
    /// Read-only storage buffers.
    pub n_read: u32,
    /// Storage buffers that are written.
    pub n_write: u32,
    /// Whether the step is bound.
    pub has_step: bool,
}

impl Kernel {
    /// Every kernel in every form; of those that mix formats every format alone, and with the one that files mix in.
    pub fn all() -> Vec<Self> {
        let mut all = vec![
            Self::CopyRows,
            Self::GatherRows,
            Self::JoinRows,
            Self::AddRows,
            Self::AddScaled,
            Self::MeanRows,
            Self::MulRows,
            Self::HardSwish,
            Self::DepthwiseConv,
            Self::HeadNorm,
            Self::ShortConv,
            Self::ShortConvKeep,
            Self::SoftCap,
            Self::RmsNorm,
            Self::LayerNorm,
            Self::Rope,
        ];
        all.extend(GATINGS.map(Self::GateMul));
        all.extend([Self::AttentionMerge, Self::QuantizeRows]);
        all.extend([Self::ChooseBest, Self::ChooseHistogram, Self::ChooseCandidates, Self::Choose]);
        for format in KvFormat::ALL {
            all.push(Self::KvWrite(format));
            for has_ends in [false, true] {
                all.extend([false, true].map(|is_aligned| Self::Attention { format, is_aligned, has_ends }));
                all.extend((1..=MAX_TILE_COLS).map(|cols| Self::AttentionTile { format, cols, has_ends }));
            }
        }
        for format in Format::ALL {
            all.extend([false, true].map(|normed| Self::MatVec { format, normed }));
            all.extend([false, true].map(|half| Self::MatMul64 { format, half }));
            all.extend([Self::MatMul(format), Self::Embed(format)]);
            if format.is_quantized() {
                all.push(Self::MatMulDot8(format));
            }
            for other in [format, Format::Q6_K] {
                all.extend(GATINGS.map(|gating| Self::GateUp { gate: format, up: other, gating }));
                let qkv = |cache| Self::QkvRopeKv { q: format, k: format, v: other, cache };
                all.extend(KvFormat::ALL.map(qkv));
            }
        }
        all
    }

    /// The name, which is also the pipeline's label.
    pub fn name(self) -> String {
        let kv = KvFormat::name;
        match self {
            Self::CopyRows => "copy_rows".into(),
            Self::GatherRows => "gather_rows".into(),
            Self::JoinRows => "join_rows".into(),
            Self::AddRows => "add_rows".into(),
            Self::AddScaled => "add_scaled".into(),
            Self::MeanRows => "mean_rows".into(),
            Self::MulRows => "mul_rows".into(),
            Self::HardSwish => "hard_swish".into(),
            Self::DepthwiseConv => "depthwise_conv".into(),
            Self::HeadNorm => "head_norm".into(),
            Self::ShortConv => "short_conv".into(),
            Self::ShortConvKeep => "short_conv_keep".into(),
            Self::GateMul(gating) => format!("gate_mul {}", gating_name(gating)),
            Self::SoftCap => "soft_cap".into(),
            Self::RmsNorm => "rms_norm".into(),
            Self::LayerNorm => "layer_norm".into(),
            Self::Rope => "rope".into(),
            Self::KvWrite(format) => format!("kv_write {}", kv(format)),
            Self::Attention { format, is_aligned, has_ends } => {
                let [any, ends] = [(!is_aligned, " any"), (has_ends, " ends")].map(|(is, word)| if is { word } else { "" });
                format!("attention {}{any}{ends}", kv(format))
            }
            Self::AttentionMerge => "attention_merge".into(),
            Self::AttentionTile { format, cols, has_ends } => {
                format!("attention_tile {} {cols}{}", kv(format), if has_ends { " ends" } else { "" })
            }
            Self::MatVec { format, normed } => format!("mat_vec {}{}", format.name(), if normed { " normed" } else { "" }),
            Self::MatMul(format) => format!("mat_mul {}", format.name()),
            Self::MatMul64 { format, half } => format!("mat_mul_64 {}{}", format.name(), if half { " f16" } else { "" }),
            Self::QuantizeRows => "quantize_rows".into(),
            Self::MatMulDot8(format) => format!("mat_mul_dot8 {}", format.name()),
            Self::Embed(format) => format!("embed {}", format.name()),
            Self::GateUp { gate, up, gating } => format!("gate_up {} {} {}", gate.name(), up.name(), gating_name(gating)),
            Self::QkvRopeKv { q, k, v, cache } => {
                format!("qkv_rope_kv {} {} {} {}", q.name(), k.name(), v.name(), kv(cache))
            }
            Self::ChooseBest => "choose_best".into(),
            Self::ChooseHistogram => "choose_histogram".into(),
            Self::ChooseCandidates => "choose_candidates".into(),
            Self::Choose => "choose".into(),
        }
    }

    /// Whether it has a form for subgroups.
    pub fn uses_subgroups(self) -> bool {
        matches!(self, Self::MatVec { .. } | Self::GateUp { .. } | Self::QkvRopeKv { .. })
    }

    /// Whether it needs `shader-f16`.
    pub fn needs_f16(self) -> bool {
        matches!(self, Self::MatMul64 { half: true, .. })
    }

    /// The WGSL, with `lanes` threads surely in one subgroup.
    pub fn source(self, lanes: u32) -> String {
        let mut source = self.parts(lanes).join("\n");
        // Directives stand before everything but comments. naga takes subgroups unasked, and does not know the word.
        if self.needs_f16() {
            source.insert_str(0, "enable f16;\n");
        }
        if cfg!(target_arch = "wasm32") && self.uses_subgroups() && lanes > 0 {
            source.insert_str(0, "enable subgroups;\n");
        }
        source
    }

    fn parts(self, lanes: u32) -> Vec<String> {
        const PLANES: &str = include_str!("../../quant/planes.wgsl");
        const STEP: &str = include_str!("shaders/step.wgsl");
        const LINEAR: &str = include_str!("shaders/linear.wgsl");
        const LINEAR_X: &str = include_str!("shaders/linear_x.wgsl");
        const INPUT: &str = include_str!("shaders/input.wgsl");
        const GAIN_NORM: &str = include_str!("shaders/gain_norm.wgsl");
        const CHOOSE: &str = include_str!("shaders/choose_params.wgsl");
        const CHOOSE_BINS: &str = include_str!("shaders/choose_bins.wgsl");
        let whole = |parts: &[&str]| parts.iter().map(ToString::to_string).collect::<Vec<_>>();
        match self {
            Self::MatVec { format, normed } => {
                let (operands, gain) = if normed {
                    (include_str!("shaders/linear_normed_x.wgsl"), GAIN_NORM)
                } else {
                    (LINEAR_X, include_str!("shaders/gain_none.wgsl"))
                };
                let main = include_str!("shaders/mat_vec.wgsl");
                let mut parts = whole(&[LINEAR, operands, main, INPUT, gain, PLANES]);
                parts.extend([dot(format, "w_"), sum16(lanes)]);
                parts
            }
            Self::MatMul(format) => {
                let mut parts = whole(&[LINEAR, LINEAR_X, include_str!("shaders/mat_mul.wgsl"), PLANES]);
                parts.push(weights(format, "w_"));
                parts
            }
            Self::MatMul64 { format, half } => {
                let quad = if half { include_str!("shaders/quad_f16.wgsl") } else { include_str!("shaders/quad_f32.wgsl") };
                let mut parts = whole(&[LINEAR, LINEAR_X, quad, include_str!("shaders/mat_mul_64.wgsl"), PLANES]);
                parts.push(weights(format, "w_"));
                parts
            }
            Self::MatMulDot8(format) => {
                let operands = include_str!("shaders/linear_bytes_x.wgsl");
                let mut parts = whole(&[LINEAR, operands, include_str!("shaders/mat_mul_dot8.wgsl"), PLANES]);
                parts.push(weights(format, "w_"));
                parts
            }
            Self::Embed(format) => {
                let mut parts = whole(&[include_str!("shaders/embed.wgsl"), PLANES]);
                parts.push(weights(format, "w_"));
                parts
            }
            Self::GateUp { gate, up, gating: by } => {
                let mut parts = whole(&[include_str!("shaders/gate_up.wgsl"), gating(by), INPUT, GAIN_NORM, PLANES]);
                parts.extend([dot(gate, "gate_"), dot(up, "up_"), sum16(lanes)]);
                parts
            }
            Self::QkvRopeKv { q, k, v, cache } => {
                let main = include_str!("shaders/qkv_rope_kv.wgsl");
                let mut parts = whole(&[main, STEP, kv_out(cache), INPUT, GAIN_NORM, PLANES]);
                parts.extend([dot(q, "q_"), dot(k, "k_"), dot(v, "v_"), sum16(lanes)]);
                parts
            }
            Self::CopyRows => whole(&[include_str!("shaders/copy_rows.wgsl")]),
            Self::GatherRows => whole(&[include_str!("shaders/gather_rows.wgsl")]),
            Self::JoinRows => whole(&[include_str!("shaders/join_rows.wgsl")]),
            Self::AddRows => whole(&[include_str!("shaders/add_rows.wgsl")]),
            Self::AddScaled => whole(&[include_str!("shaders/add_scaled.wgsl")]),
            Self::MeanRows => whole(&[include_str!("shaders/mean_rows.wgsl")]),
            Self::MulRows => whole(&[include_str!("shaders/mul_rows.wgsl")]),
            Self::HardSwish => whole(&[include_str!("shaders/hard_swish.wgsl")]),
            Self::DepthwiseConv => whole(&[include_str!("shaders/depthwise_conv.wgsl")]),
            Self::HeadNorm => whole(&[include_str!("shaders/head_norm.wgsl")]),
            Self::ShortConv => whole(&[include_str!("shaders/short_conv.wgsl"), STEP]),
            Self::ShortConvKeep => whole(&[include_str!("shaders/short_conv_keep.wgsl"), STEP]),
            Self::GateMul(by) => whole(&[include_str!("shaders/gate_mul.wgsl"), gating(by)]),
            Self::SoftCap => whole(&[include_str!("shaders/soft_cap.wgsl")]),
            Self::RmsNorm => whole(&[include_str!("shaders/rms_norm.wgsl")]),
            Self::LayerNorm => whole(&[include_str!("shaders/layer_norm.wgsl")]),
            Self::QuantizeRows => whole(&[include_str!("shaders/quantize_rows.wgsl")]),
            Self::AttentionMerge => whole(&[include_str!("shaders/attention_merge.wgsl")]),
            Self::ChooseBest => whole(&[include_str!("shaders/choose_best.wgsl"), CHOOSE]),
            Self::ChooseHistogram => whole(&[include_str!("shaders/choose_histogram.wgsl"), CHOOSE]),
            Self::ChooseCandidates => whole(&[include_str!("shaders/choose_candidates.wgsl"), CHOOSE, CHOOSE_BINS]),
            Self::Choose => whole(&[include_str!("shaders/choose.wgsl"), CHOOSE, CHOOSE_BINS, STEP]),
            Self::Rope => whole(&[include_str!("shaders/rope.wgsl"), STEP]),
            Self::KvWrite(KvFormat::Q8_0) => whole(&[include_str!("shaders/kv_write_q8_0.wgsl"), STEP, PLANES]),
            Self::KvWrite(format) => {
                // In the fused kernel it is one binding further behind.
                let out = kv_out(format).replace("@binding(8)", "@binding(3)");
                vec![include_str!("shaders/kv_write.wgsl").into(), STEP.into(), out]
            }
            Self::Attention { format, is_aligned, has_ends } => {
                let mut parts = whole(&[STEP, include_str!("shaders/attention.wgsl"), kv_in(format, is_aligned)]);
                parts.splice(0..0, attention(has_ends));
                if format == KvFormat::Q8_0 {
                    parts.push(PLANES.into());
                }
                parts
            }
            Self::AttentionTile { format, cols, has_ends } => {
                let mut parts = whole(&[STEP, include_str!("shaders/attention_tile.wgsl"), kv_in(format, true)]);
                parts.splice(0..0, attention(has_ends));
                if format == KvFormat::Q8_0 {
                    parts.push(PLANES.into());
                }
                parts.push(format!("const COLS: u32 = {cols}u;"));
                parts
            }
        }
    }

    /// The buffers it takes.
    pub fn bindings(self) -> Bindings {
        let (n_read, n_write) = match self {
            Self::HardSwish => (0, 1),
            Self::CopyRows
            | Self::JoinRows
            | Self::AddRows
            | Self::MeanRows
            | Self::MulRows
            | Self::HeadNorm
            | Self::ShortConvKeep
            | Self::GateMul(_)
            | Self::Rope
            | Self::AttentionMerge => (1, 1),
            Self::SoftCap => (0, 1),
            Self::QuantizeRows | Self::ChooseBest => (1, 2),
            Self::RmsNorm | Self::AddScaled | Self::Embed(_) | Self::ChooseHistogram | Self::KvWrite(_) | Self::GatherRows => {
                (2, 1)
            }
            Self::ChooseCandidates => (3, 2),
            Self::Choose => (5, 1),
            Self::Attention { has_ends, .. } | Self::AttentionTile { has_ends, .. } => (if has_ends { 4 } else { 3 }, 1),
            Self::LayerNorm | Self::DepthwiseConv | Self::ShortConv | Self::MatMul(_) | Self::MatMul64 { .. } => (3, 1),
            Self::MatVec { normed, .. } => (if normed { 4 } else { 3 }, 1),
            Self::MatMulDot8(_) | Self::GateUp { .. } => (4, 1),
            Self::QkvRopeKv { .. } => (6, 2),
        };
        let has_step = matches!(
            self,
            Self::Rope
                | Self::ShortConv
                | Self::ShortConvKeep
                | Self::KvWrite(_)
                | Self::Attention { .. }
                | Self::AttentionTile { .. }
                | Self::QkvRopeKv { .. }
                | Self::Choose
        );
        Bindings { n_read, n_write, has_step }
    }
}

/// The fragment that decodes a matrix of this format, as `{name}weights`, and, where it is quantized, `{name}block`.
fn weights(format: Format, name: &str) -> String {
    let mut parts = vec![include_str!("../../quant/plane.wgsl"), format.wgsl()];
    if format.is_quantized() {
        parts.push(include_str!("../../quant/quantized.wgsl"));
    }
    parts.join("\n").replace("M_", name)
}

/// The same, and the product of a block with 32 elements of x, as `{name}dot`.
fn dot(format: Format, name: &str) -> String {
    let dot =
        if format.is_quantized() { include_str!("shaders/dot_quantized.wgsl") } else { include_str!("shaders/dot_float.wgsl") };
    weights(format, name) + &dot.replace("M_", name)
}

/// The operands of attention, and which keys a query sees.
fn attention(has_ends: bool) -> [String; 2] {
    let params = include_str!("shaders/attention_params.wgsl");
    if !has_ends {
        return [params.into(), include_str!("shaders/attention_own.wgsl").into()];
    }
    // The ends are bound behind the keys and values.
    let params = params.replace("@binding(5)", "@binding(6)").replace("@binding(4)", "@binding(5)");
    [params, include_str!("shaders/attention_ends.wgsl").into()]
}

/// All activations of a gate.
const GATINGS: [Gating; 2] = [Gating::Silu, Gating::GeluTanh];

fn gating_name(gating: Gating) -> &'static str {
    match gating {
        Gating::Silu => "silu",
        Gating::GeluTanh => "gelu_tanh",
    }
}

fn gating(gating: Gating) -> &'static str {
    match gating {
        Gating::Silu => include_str!("shaders/gating_silu.wgsl"),
        Gating::GeluTanh => include_str!("shaders/gating_gelu_tanh.wgsl"),
    }
}

/// The sums of 16 threads.
fn sum16(lanes: u32) -> String {
    match lanes {
        0 => include_str!("shaders/sum16.wgsl").into(),
        lanes => format!("const LANES: u32 = {lanes}u;\n{}", include_str!("shaders/sum16_subgroups.wgsl")),
    }
}

fn kv_out(format: KvFormat) -> &'static str {
    match format {
        KvFormat::F32 => include_str!("shaders/kv_out_f32.wgsl"),
        KvFormat::F16 => include_str!("shaders/kv_out_f16.wgsl"),
        // A block takes more elements than a workgroup has at hand.
        KvFormat::Q8_0 => include_str!("shaders/kv_out_rows.wgsl"),
    }
}

fn kv_in(format: KvFormat, is_aligned: bool) -> &'static str {
    match (format, is_aligned) {
        (KvFormat::F32, true) => include_str!("shaders/kv_in_f32.wgsl"),
        (KvFormat::F16, true) => include_str!("shaders/kv_in_f16.wgsl"),
        (KvFormat::F32, false) => include_str!("shaders/kv_in_f32_any.wgsl"),
        (KvFormat::F16, false) => include_str!("shaders/kv_in_f16_any.wgsl"),
        (KvFormat::Q8_0, _) => include_str!("shaders/kv_in_q8_0.wgsl"),
    }
}
