//! A second oracle: the same weights, decoded to floats, through CLIP and LLaMA as candle-transformers wrote them. It shares neither
//! code nor golden data with this project's network, so the two can only agree by computing the same thing.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]
#![cfg(not(target_pointer_width = "32"))]

use crate::common;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::text_model::Activation;
use candle_transformers::models::clip::vision_model::{ClipVisionConfig, ClipVisionTransformer};
use candle_transformers::models::llama::{Cache, Config, Llama, Llama3RopeConfig, Llama3RopeType};
use candle_transformers::models::qwen2;
use common::gguf_writer::{GgufWriter, Val};
use common::llava::{cosine, file, golden, max_diff, memory, options, picture, tiny_llava};
use llava_web::backend::cpu::Cpu;
use llava_web::gguf::{Gguf, Value};
use llava_web::quant::{Format, quantize_row};
use llava_web::runtime::engine::Engine;
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

/// Hugging Face's name of a language model's tensor.
fn hugging_face(name: &str) -> String {
    match name {
        "token_embd.weight" => "model.embed_tokens.weight".to_string(),
        "output_norm.weight" => "model.norm.weight".to_string(),
        "output.weight" => "lm_head.weight".to_string(),
        name => {
            let (layer, part) = name.strip_prefix("blk.").and_then(|n| n.split_once('.')).expect("a layer's");
            let (part, kind) = part.split_once('.').expect("weight or bias");
            let part = match part {
                "attn_norm" => "input_layernorm",
                "ffn_norm" => "post_attention_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                other => panic!("what is {other}?"),
            };
            format!("model.layers.{layer}.{part}.{kind}")
        }
    }
}

fn llama(path: &str, rope_scaling: Option<Llama3RopeConfig>) -> (Llama, Config) {
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
        rope_scaling,
        max_position_embeddings: 2048,
        tie_word_embeddings: false,
    };
    let mut named = HashMap::new();
    for (name, tensor) in floats(path) {
        let name = hugging_face(&name);
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
        let (llama, config) = llama(&path, None);
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

/// CLIP and the projector of a vision file through candle: `[16, 256]`, with the projector's first layer alone where it `is_linear`. `round` is applied to every weight matrix whose rows can be
/// quantized, to show what rounding costs by itself.
fn picture_rows(mmproj: &str, pixels: &[f32], round: &dyn Fn(&Tensor) -> Tensor, is_linear: bool) -> Vec<f32> {
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
    linear(&features, "mm.0")
        .and_then(|x| if is_linear { Ok(x) } else { linear(&x.gelu_erf()?, "mm.2") })
        .and_then(|x| x.flatten_all()?.to_vec1())
        .expect("rows")
}

#[test]
fn the_vision_tower_agrees_with_candles_on_the_same_floats() {
    let mut engine = tiny_llava("tiny-llava-f16.gguf", "mmproj-legacy-f16.gguf", options()).expect("loads");
    for name in ["astronaut.png", "coffee_tall.png"] {
        let image = picture(name);
        let pixels = engine.preprocess(&image).expect("pixels");
        let expected = picture_rows("tiny-llava/mmproj-legacy-f16.gguf", &pixels.data, &Tensor::clone, false);
        let (got, _) = pollster::block_on(engine.embed_image(&image)).expect("embeds");
        let (cosine, diff) = (cosine(&got, &expected), max_diff(&got, &expected));
        println!("{name}: cosine {cosine:.8}, max difference {diff:.6}");
        assert!(cosine > 0.99999 && diff < 1e-3, "{name}: cosine {cosine}, max difference {diff}");
    }
}

/// A tensor of a file made in a test: its name, how it is stored, what it holds.
type Rewritten = (String, Format, Tensor);

/// A golden file written anew, under another architecture and with other tensors.
fn rewritten(path: &str, architecture: Option<&str>, tensors: &mut dyn FnMut(&str, &Tensor) -> Vec<Rewritten>) -> Vec<u8> {
    let gguf = pollster::block_on(Gguf::open(file(golden(path)))).expect("opens");
    let mut writer = GgufWriter::new();
    for (key, value) in gguf.metadata.iter() {
        let renamed = architecture.map_or(key.to_string(), |a| key.replace("llama.", &format!("{a}.")));
        let value = match (value, architecture) {
            (Value::String(_), Some(architecture)) if key == "general.architecture" => Val::str(architecture),
            (Value::Uint(v), _) => Val::U32(*v as u32),
            (Value::Int(v), _) => Val::I32(*v as i32),
            (Value::Float(v), _) => Val::F32(*v as f32),
            (Value::Bool(v), _) => Val::Bool(*v),
            (Value::String(v), _) => Val::str(v),
            (Value::Ints(v), _) => Val::ints(v.iter().map(|v| *v as i32)),
            (Value::Floats(v), _) => Val::floats(v.iter().copied()),
            (Value::Strings(v), _) => Val::strings(v.iter().map(String::as_str)),
            (Value::Nested(_), _) => continue,
        };
        writer = writer.kv(&renamed, value);
    }
    for (name, tensor) in floats(path) {
        for (name, format, tensor) in tensors(&name, &tensor) {
            let values: Vec<f32> = tensor.flatten_all().and_then(|t| t.to_vec1()).expect("floats");
            let mut bytes = Vec::new();
            quantize_row(format, &values, &mut bytes).expect("quantizes");
            let dims: Vec<usize> = tensor.dims().iter().rev().copied().collect();
            writer = writer.tensor(&name, format, &dims, bytes);
        }
    }
    writer.finish()
}

/// Vectors as F32, all else as F16: what the golden files hold, without loss.
fn as_it_was(tensor: &Tensor) -> Format {
    if tensor.dims().len() == 1 { Format::F32 } else { Format::F16 }
}

fn engine_of(model: Vec<u8>) -> Engine<Cpu> {
    pollster::block_on(Engine::load(Cpu::new(), memory("variant.gguf", model), None, options(), &mut |_| {})).expect("loads")
}

fn logits_of(engine: &mut Engine<Cpu>, ids: &[u32]) -> Vec<f32> {
    let request = serde_json::json!({ "tokens": ids }).to_string();
    pollster::block_on(engine.evaluate(&request::parse(&request).expect("sound"), &[])).expect("evaluates").0
}

fn some_ids() -> Vec<u32> {
    (0..40u32).map(|i| i.wrapping_mul(2_654_435_761) % 2046).collect()
}

fn candle_logits(forward: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>) -> Vec<f32> {
    let input = Tensor::new(some_ids().as_slice(), &Device::Cpu).and_then(|t| t.unsqueeze(0)).expect("ids");
    forward(&input).and_then(|t| t.flatten_all()?.to_vec1()).expect("logits of the last position")
}

/// A weight with the rows of its heads as Hugging Face has them.
fn straight(name: &str, tensor: &Tensor) -> Tensor {
    if name.ends_with("attn_q.weight") {
        unpermuted(tensor, 4)
    } else if name.ends_with("attn_k.weight") {
        unpermuted(tensor, 2)
    } else {
        tensor.clone()
    }
}

#[test]
fn fused_projections_and_halved_heads_are_the_same_network() {
    let path = "tiny-llava/tiny-llava-f16.gguf";
    let all = floats(path);
    let fused = |layer: &str, parts: &[&str]| {
        let names = parts.iter().map(|part| format!("blk.{layer}.{part}.weight"));
        let parts: Vec<Tensor> = names.map(|name| straight(&name, &all[&name])).collect();
        Tensor::cat(&parts, 0).expect("one below the other")
    };
    let model = rewritten(path, Some("phi3"), &mut |name, tensor| {
        let (layer, part) = name.strip_prefix("blk.").and_then(|n| n.split_once('.')).unwrap_or(("", ""));
        match part {
            "attn_q.weight" => {
                vec![(format!("blk.{layer}.attn_qkv.weight"), Format::F16, fused(layer, &["attn_q", "attn_k", "attn_v"]))]
            }
            "ffn_gate.weight" => vec![(format!("blk.{layer}.ffn_up.weight"), Format::F16, fused(layer, &["ffn_gate", "ffn_up"]))],
            "attn_k.weight" | "attn_v.weight" | "ffn_up.weight" => vec![],
            _ => vec![(name.to_string(), as_it_was(tensor), tensor.clone())],
        }
    });
    let mut llama = engine_of(std::fs::read(golden(path)).expect("reads"));
    let diff = max_diff(&logits_of(&mut engine_of(model), &some_ids()), &logits_of(&mut llama, &some_ids()));
    // The sums within a head run in another order.
    assert!(diff < 1e-4, "max difference {diff}");
}

#[test]
fn biases_of_queries_keys_and_values_agree_with_candles_qwen2() {
    let mut named = HashMap::new();
    let model = rewritten("tiny-llava/tiny-llava-f16.gguf", Some("qwen2"), &mut |name, tensor| {
        let weight = straight(name, tensor);
        named.insert(hugging_face(name), weight.clone());
        let mut out = vec![(name.to_string(), as_it_was(tensor), weight)];
        if ["attn_q.weight", "attn_k.weight", "attn_v.weight"].iter().any(|part| name.ends_with(part)) {
            let n = tensor.dims()[0];
            let bias: Vec<f32> = (0..n).map(|i| (i * 37 % 101) as f32 / 100.0 - 0.5).collect();
            let bias = Tensor::from_vec(bias, n, &Device::Cpu).expect("a bias");
            let name = name.replace(".weight", ".bias");
            named.insert(hugging_face(&name), bias.clone());
            out.push((name, Format::F32, bias));
        }
        out
    });
    let config = qwen2::Config {
        vocab_size: 2048,
        hidden_size: 256,
        intermediate_size: 512,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 2048,
        sliding_window: 4096,
        max_window_layers: 3,
        tie_word_embeddings: false,
        rope_theta: 10000.0,
        rms_norm_eps: 1e-5,
        use_sliding_window: false,
        hidden_act: candle_nn::Activation::Silu,
    };
    let builder = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
    let mut oracle = qwen2::ModelForCausalLM::new(&config, builder).expect("loads");
    let diff = max_diff(&logits_of(&mut engine_of(model), &some_ids()), &candle_logits(|ids| oracle.forward(ids, 0)));
    assert!(diff < 1e-3, "max difference {diff}");
}

#[test]
fn llama_3s_frequencies_agree_with_candles() {
    let path = "tiny-llava/tiny-llava-f16.gguf";
    // Low frequencies are divided by 8, high ones kept, those between mixed, as LLaMA 3.1's converter writes them down.
    let (factor, low, high, original) = (8.0f32, 1.0f32, 4.0f32, 64.0f32);
    let factors: Vec<f32> = (0..32)
        .map(|i| {
            let wavelength = 2.0 * std::f32::consts::PI * 10000f32.powf(2.0 * i as f32 / 64.0);
            if wavelength < original / high {
                1.0
            } else if wavelength > original / low {
                factor
            } else {
                let smooth = (original / wavelength - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        })
        .collect();
    let model = rewritten(path, Some("llama"), &mut |name, tensor| {
        let mut out = vec![(name.to_string(), as_it_was(tensor), tensor.clone())];
        if name == "output_norm.weight" {
            let factors = Tensor::from_vec(factors.clone(), 32, &Device::Cpu).expect("factors");
            out.push(("rope_freqs.weight".into(), Format::F32, factors));
        }
        out
    });
    let scaling = Llama3RopeConfig {
        factor,
        low_freq_factor: low,
        high_freq_factor: high,
        original_max_position_embeddings: original as usize,
        rope_type: Llama3RopeType::Llama3,
    };
    let (llama, config) = llama(path, Some(scaling));
    let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu).expect("a cache");
    let diff = max_diff(&logits_of(&mut engine_of(model), &some_ids()), &candle_logits(|ids| llama.forward(ids, 0, &mut cache)));
    assert!(diff < 1e-3, "max difference {diff}");
}

/// The engine with a vision file made in a test.
fn seeing(mmproj: Vec<u8>) -> Engine<Cpu> {
    let model = file(golden("tiny-llava/tiny-llava-q4_0.gguf"));
    pollster::block_on(Engine::load(Cpu::new(), model, Some(memory("mmproj.gguf", mmproj)), options(), &mut |_| {}))
        .expect("loads")
}

#[test]
fn a_linear_projector_agrees_with_candles() {
    let path = "tiny-llava/mmproj-legacy-f16.gguf";
    let mut engine = seeing(rewritten(path, None, &mut |name, tensor| {
        if name.starts_with("mm.2") { vec![] } else { vec![(name.to_string(), as_it_was(tensor), tensor.clone())] }
    }));
    assert_eq!(serde_json::to_value(engine.info()).expect("info")["vision"]["projector"], "linear");
    let image = picture("chelsea.png");
    let pixels = engine.preprocess(&image).expect("pixels");
    let expected = picture_rows(path, &pixels.data, &Tensor::clone, true);
    let (got, _) = pollster::block_on(engine.embed_image(&image)).expect("embeds");
    assert!(max_diff(&got, &expected) < 1e-3, "{}", max_diff(&got, &expected));
}

/// A matrix with its rows rounded to a format.
fn rounded(format: Format, matrix: &Tensor) -> Tensor {
    let values: Vec<f32> = matrix.flatten_all().and_then(|t| t.to_vec1()).expect("floats");
    let (mut bytes, mut out) = (Vec::new(), vec![0.0; values.len()]);
    quantize_row(format, &values, &mut bytes).expect("quantizes");
    format.decode_row(&bytes, &mut out);
    Tensor::from_vec(out, matrix.dims(), &Device::Cpu).expect("a matrix")
}

#[test]
fn quantized_vision_files_agree_with_candle_on_the_rounded_weights() {
    let path = "tiny-llava/mmproj-legacy-f16.gguf";
    for format in [Format::Q4_0, Format::Q4_1, Format::Q5_1, Format::Q8_0] {
        let mut engine = seeing(rewritten(path, None, &mut |name, tensor| {
            let is_matrix = tensor.dims().len() == 2 && !name.contains("position");
            vec![(name.to_string(), if is_matrix { format } else { as_it_was(tensor) }, tensor.clone())]
        }));
        for name in ["chelsea.png", "astronaut.png"] {
            let image = picture(name);
            let pixels = engine.preprocess(&image).expect("pixels");
            let expected = picture_rows(path, &pixels.data, &|t| rounded(format, t), false);
            let (got, _) = pollster::block_on(engine.embed_image(&image)).expect("embeds");
            let cosine = cosine(&got, &expected);
            println!("{} {name}: cosine {cosine:.6}", format.name());
            // The weights are the same on both sides; what is left are activations in 8 bits.
            assert!(cosine > 0.999, "{} {name}: cosine {cosine}", format.name());
        }
    }
}
