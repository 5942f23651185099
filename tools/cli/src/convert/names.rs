//! What the names of a checkpoint's tensors mean. The same part of a network has several names, by the library that saved it and its version.

/// The part of the network that a tensor belongs to, and its name there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The language model, as `LlamaForCausalLM` names it behind `model.`; besides `lm_head.weight`.
    Text(String),
    /// The vision tower, as `CLIPVisionModel` names it behind `vision_model.`.
    Vision(String),
    /// The projector.
    Projector(String),
    /// The row at the end of each line of tiles: LLaVA-1.6.
    Newline,
    /// Nothing that has weights.
    Nothing,
}

/// Beginnings that vision towers' names have, the longest first.
const VISION: [&str; 8] = [
    "model.vision_tower.vision_tower.vision_model.",
    "model.vision_tower.vision_model.",
    "vision_tower.vision_tower.vision_model.",
    "vision_tower.vision_model.",
    "model.vision_tower.",
    "vision_tower.",
    "model.vision_model.",
    "vision_model.",
];
const PROJECTOR: [&str; 6] = [
    "model.multi_modal_projector.",
    "multi_modal_projector.",
    "model.mm_projector.",
    "mm_projector.",
    "model.connector.",
    "connector.",
];
const OUTPUT: [&str; 4] = ["model.language_model.lm_head.", "language_model.lm_head.", "model.lm_head.", "lm_head."];
const TEXT: [&str; 5] =
    ["model.language_model.model.", "language_model.model.", "model.language_model.", "model.text_model.", "model."];

/// What of CLIP's and SigLIP's towers no LLaVA reads.
const UNUSED_VISION: [&str; 2] = ["head.", "embeddings.position_ids"];
/// What else a checkpoint of the whole of CLIP holds.
const REST_OF_CLIP: [&str; 4] = ["text_model.", "visual_projection.", "text_projection.", "logit_"];

/// What a name means.
pub fn part(name: &str) -> Part {
    let behind = |all: &[&str]| all.iter().find_map(|start| name.strip_prefix(start)).map(str::to_string);
    if name.ends_with("image_newline") {
        return Part::Newline;
    }
    if name.contains("rotary_emb") || name.ends_with("position_ids") || REST_OF_CLIP.iter().any(|start| name.starts_with(start)) {
        return Part::Nothing;
    }
    if let Some(rest) = behind(&VISION) {
        return if UNUSED_VISION.iter().any(|start| rest.starts_with(start)) { Part::Nothing } else { Part::Vision(rest) };
    }
    if let Some(rest) = behind(&PROJECTOR) {
        return Part::Projector(rest);
    }
    if let Some(rest) = behind(&OUTPUT) {
        return Part::Text(format!("lm_head.{rest}"));
    }
    match behind(&TEXT) {
        Some(rest) => Part::Text(rest),
        None => Part::Text(name.to_string()),
    }
}

/// The GGUF name of a part of a layer of the language model.
pub fn text_layer(part: &str) -> Option<&'static str> {
    Some(match part {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    })
}

/// The GGUF name of a part of a block of the vision tower. Older converters called the layer up `ffn_down`, and the other way round, and all
/// files of LLaVA's family have it so; readers tell the two apart by their sizes.
pub fn vision_layer(part: &str, is_old_style: bool) -> Option<&'static str> {
    Some(match part {
        "layer_norm1" => "ln1",
        "layer_norm2" => "ln2",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.out_proj" => "attn_out",
        "mlp.fc1" => {
            if is_old_style {
                "ffn_down"
            } else {
                "ffn_up"
            }
        }
        "mlp.fc2" => {
            if is_old_style {
                "ffn_up"
            } else {
                "ffn_down"
            }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Part, part};

    #[test]
    fn the_same_part_by_any_name() {
        let text = |name: &str| Part::Text(name.into());
        for name in [
            "model.layers.3.mlp.up_proj.weight",
            "language_model.model.layers.3.mlp.up_proj.weight",
            "model.language_model.layers.3.mlp.up_proj.weight",
            "model.text_model.layers.3.mlp.up_proj.weight",
        ] {
            assert_eq!(part(name), text("layers.3.mlp.up_proj.weight"));
        }
        for name in ["lm_head.weight", "language_model.lm_head.weight"] {
            assert_eq!(part(name), text("lm_head.weight"));
        }
        for name in [
            "vision_tower.vision_model.pre_layrnorm.bias",
            "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias",
            "model.vision_tower.vision_model.pre_layrnorm.bias",
            "model.vision_tower.pre_layrnorm.bias",
            "model.vision_model.pre_layrnorm.bias",
            "vision_model.pre_layrnorm.bias",
        ] {
            assert_eq!(part(name), Part::Vision("pre_layrnorm.bias".into()), "{name}");
        }
        assert_eq!(part("model.mm_projector.0.weight"), Part::Projector("0.weight".into()));
        assert_eq!(part("multi_modal_projector.linear_1.weight"), Part::Projector("linear_1.weight".into()));
        assert_eq!(part("model.image_newline"), Part::Newline);
        for nothing in [
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            "vision_tower.vision_model.embeddings.position_ids",
            "vision_tower.vision_model.head.probe",
            "text_model.encoder.layers.0.mlp.fc1.weight",
            "logit_scale",
        ] {
            assert_eq!(part(nothing), Part::Nothing, "{nothing}");
        }
    }
}
