//! A second oracle: the same weights, decoded to floats, through CLIP and LLaMA as candle-transformers wrote them. It shares neither
//! code nor golden data with this project's network, so the two can only agree by computing the same thing.

mod common;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::text_model::Activation;
use candle_transformers::models::clip::vision_model::{ClipVisionConfig, ClipVisionTransformer};
use candle_transformers::models::llama::{Cache, Config, Llama};
use common::llava::{cosine, file, golden, max_diff, options, picture, tiny_llava};
use llava_web::gguf::Gguf;
use llava_web::runtime::request;

/// The tensors of a GGUF file as floats, in candle's order of dimensions (the contiguous one last).
fn floats(path: &str) -> HashMap<String, Tensor> {
    let gguf = pollster::block_on(Gguf::open(file(golden(path)))).expect("opens");
    gguf.tensors()
        .map(|t| {
            let mut bytes = vec![0; t.info.n_bytes() as usize];
            pollster::block_on(gguf.read(t, 0, &mut bytes)).expect("reads");
            let mut values = vec![0.0f32; t.info.n_elements()];
            t.info.format.decode_row(&bytes, &mut values);
            let dims: Vec<usize> = t.info.dims.iter().rev().copied().collect();
            (t.info.name.clone(), Tensor::from_vec(values, dims, &Device::Cpu).expect("a tensor"))
        })
        .collect()
}

/// GGUF stores the rows of LLaMA's query and key matrices so that rotary pairs stand side by side; Hugging Face so that a pair's
/// halves are half a head apart.
fn unpermuted(weight: &Tensor, n_heads: usize) -> Tensor {
    let (rows, cols) = weight.dims2().expect("a matrix");
    let half = rows / n_heads / 2;
    weight
        .reshape((n_heads, half, 2, cols))
        .and_then(|w| w.transpose(1, 2)?.contiguous()?.reshape((rows, cols)))
        .expect("a permutation")
}

fn llama(path: &str) -> (Llama, Config) {
    let config = Config {
        hidden_size: 256,
        intermediate_size: 512,
        vocab_size: 2048,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        use_flash_attn: false,
        rms_norm_eps: 1e-5,
        rope_theta: 10000.0,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: 2048,
        tie_word_embeddings: false,
    };
    let mut named = HashMap::new();
    for (name, tensor) in floats(path) {
        let name = match name.as_str() {
            "token_embd.weight" => "model.embed_tokens.weight".to_string(),
            "output_norm.weight" => "model.norm.weight".to_string(),
            "output.weight" => "lm_head.weight".to_string(),
            name => {
                let (layer, part) = name.strip_prefix("blk.").and_then(|n| n.split_once('.')).expect("a layer's");
                let part = match part {
                    "attn_norm.weight" => "input_layernorm.weight",
                    "ffn_norm.weight" => "post_attention_layernorm.weight",
                    "attn_q.weight" => "self_attn.q_proj.weight",
                    "attn_k.weight" => "self_attn.k_proj.weight",
                    "attn_v.weight" => "self_attn.v_proj.weight",
                    "attn_output.weight" => "self_attn.o_proj.weight",
                    "ffn_gate.weight" => "mlp.gate_proj.weight",
                    "ffn_up.weight" => "mlp.up_proj.weight",
                    "ffn_down.weight" => "mlp.down_proj.weight",
                    other => panic!("what is {other}?"),
                };
                format!("model.layers.{layer}.{part}")
            }
        };
        let tensor = match name.rsplit_once("self_attn.").map(|n| n.1) {
            Some("q_proj.weight") => unpermuted(&tensor, config.num_attention_heads),
            Some("k_proj.weight") => unpermuted(&tensor, config.num_key_value_heads),
            _ => tensor,
        };
        named.insert(name, tensor);
    }
    let builder = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
    (Llama::load(builder, &config).expect("loads"), config)
}

#[test]
fn the_language_model_agrees_with_candles_on_the_same_floats() {
    let ids: Vec<u32> = (0..40u32).map(|i| i.wrapping_mul(2_654_435_761) % 2046).collect();
    for (format, bound) in [("f16", 1e-3), ("q8_0", 0.6), ("q4_0", 0.6), ("q4_k_m", 0.6)] {
        let path = format!("tiny-llava/tiny-llava-{format}.gguf");
        let (llama, config) = llama(&path);
        let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu).expect("a cache");
        let input = Tensor::new(ids.as_slice(), &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("ids");
        let expected: Vec<f32> =
            llama.forward(&input, 0, &mut cache).and_then(|t| t.flatten_all()?.to_vec1()).expect("logits of the last position");
        let mut engine = tiny_llava(&format!("tiny-llava-{format}.gguf"), "mmproj-legacy-f16.gguf", options()).expect("loads");
        let request = serde_json::json!({ "tokens": ids }).to_string();
        let (got, _) = pollster::block_on(engine.evaluate(&request::parse(&request).expect("sound"), &[])).expect("evaluates");
        let (cosine, diff) = (cosine(&got, &expected), max_diff(&got, &expected));
        println!("{format}: cosine {cosine:.7}, max difference {diff:.5}");
        assert!(diff < bound && cosine > 0.999, "{format}: cosine {cosine}, max difference {diff}");
    }
}

/// CLIP and the projector of a vision file through candle: `[16, 256]`. `round` is applied to every weight matrix whose rows can be
/// quantized, to show what rounding costs by itself.
fn picture_rows(mmproj: &str, pixels: &[f32], round: &dyn Fn(&Tensor) -> Tensor) -> Vec<f32> {
    let mut named = HashMap::new();
    let mut projector = HashMap::new();
    for (name, tensor) in floats(mmproj) {
        let rounds = tensor.dims().len() == 2 && !name.contains("position") && tensor.dims()[1].is_multiple_of(32);
        let tensor = if rounds { round(&tensor) } else { tensor };
        let hf = match name.as_str() {
            "v.class_embd" => "embeddings.class_embedding".to_string(),
            "v.patch_embd.weight" => "embeddings.patch_embedding.weight".to_string(),
            "v.position_embd.weight" => "embeddings.position_embedding.weight".to_string(),
            "v.pre_ln.weight" => "pre_layrnorm.weight".to_string(),
            "v.pre_ln.bias" => "pre_layrnorm.bias".to_string(),
            name if name.starts_with("mm.") => {
                projector.insert(name.to_string(), tensor);
                continue;
            }
            name => {
                let (layer, part) = name.strip_prefix("v.blk.").and_then(|n| n.split_once('.')).expect("a block's");
                let (part, kind) = part.split_once('.').expect("weight or bias");
                // The old style: the layer up is called down.
                let part = match part {
                    "ln1" => "layer_norm1",
                    "ln2" => "layer_norm2",
                    "attn_q" => "self_attn.q_proj",
                    "attn_k" => "self_attn.k_proj",
                    "attn_v" => "self_attn.v_proj",
                    "attn_out" => "self_attn.out_proj",
                    "ffn_down" => "mlp.fc1",
                    "ffn_up" => "mlp.fc2",
                    other => panic!("what is {other}?"),
                };
                format!("encoder.layers.{layer}.{part}.{kind}")
            }
        };
        named.insert(hf, tensor);
    }
    // Never used for the features, but candle wants it there.
    named.insert("post_layernorm.weight".into(), Tensor::ones(64, DType::F32, &Device::Cpu).expect("ones"));
    named.insert("post_layernorm.bias".into(), Tensor::zeros(64, DType::F32, &Device::Cpu).expect("zeros"));
    let config = ClipVisionConfig {
        embed_dim: 64,
        activation: Activation::QuickGelu,
        intermediate_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        projection_dim: 64,
        num_channels: 3,
        image_size: 56,
        patch_size: 14,
    };
    let clip = ClipVisionTransformer::new(VarBuilder::from_tensors(named, DType::F32, &Device::Cpu), &config).expect("loads");
    let pixels = Tensor::from_slice(pixels, (1, 3, 56, 56), &Device::Cpu).expect("pixels");
    let states = clip.output_hidden_states(&pixels).expect("runs");
    // Last of all comes the pooled state; before it the output of the last block, which is the last but one of the whole tower.
    let features = states[config.num_hidden_layers - 1].narrow(1, 1, 16).and_then(|t| t.squeeze(0)).expect("patches");
    let linear = |x: &Tensor, name: &str| {
        x.matmul(&projector[&format!("{name}.weight")].t()?)?.broadcast_add(&projector[&format!("{name}.bias")])
    };
    linear(&features, "mm.0").and_then(|x| linear(&x.gelu_erf()?, "mm.2")).and_then(|x| x.flatten_all()?.to_vec1()).expect("rows")
}

#[test]
fn the_vision_tower_agrees_with_candles_on_the_same_floats() {
    let mut engine = tiny_llava("tiny-llava-f16.gguf", "mmproj-legacy-f16.gguf", options()).expect("loads");
    for name in ["astronaut.png", "coffee_tall.png"] {
        let image = picture(name);
        let pixels = engine.preprocess(&image).expect("pixels");
        let expected = picture_rows("tiny-llava/mmproj-legacy-f16.gguf", &pixels.data, &Tensor::clone);
        let (got, _) = pollster::block_on(engine.embed_image(&image)).expect("embeds");
        let (cosine, diff) = (cosine(&got, &expected), max_diff(&got, &expected));
        println!("{name}: cosine {cosine:.8}, max difference {diff:.6}");
        assert!(cosine > 0.99999 && diff < 1e-3, "{name}: cosine {cosine}, max difference {diff}");
    }
}
