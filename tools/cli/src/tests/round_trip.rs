//! Golden GGUF → folder → GGUF: the same logits, bit by bit where the formats lose nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llava_web::backend::KvFormat;
use llava_web::backend::cpu::Cpu;
use llava_web::runtime::engine::{Engine, ImageInput, LoadOptions};
use llava_web::runtime::request;
use safetensors::tensor::Dtype;
use serde_json::json;

use super::command;
use super::folders::{
    Array, Folder, copy_hf, golden, open, qwen2_tokenizer, read_json, save, save_shards, source, stored, text, vision, write_json,
};

/// The golden LLaVA's tensors as transformers 5 names them.
pub fn llava_hf() -> BTreeMap<String, Array> {
    let mut all = text(&golden("tiny-llava/tiny-llava-f16.gguf"), Some([4, 2]), "model.language_model.", "");
    let projector = |name: &str| match name.strip_prefix("mm.") {
        Some(rest) => format!("model.multi_modal_projector.{}", rest.replace("0.", "linear_1.").replace("2.", "linear_2.")),
        None => panic!("what is {name}?"),
    };
    all.extend(vision(&golden("tiny-llava/mmproj-new-f16.gguf"), "model.vision_tower.vision_model.", &projector));
    all
}

/// Renames tensors.
pub fn renamed(all: BTreeMap<String, Array>, pairs: &[(&str, &str)]) -> BTreeMap<String, Array> {
    let rename = |name: String| match pairs.iter().find(|(from, _)| name.starts_with(from)) {
        Some((from, to)) => format!("{to}{}", &name[from.len()..]),
        None => name,
    };
    all.into_iter().map(|(name, array)| (rename(name), array)).collect()
}

/// Converts a folder; gives back the pair.
pub fn converted(folder: &Path, kind: &str, mmproj: &str, more: &[&str]) -> [PathBuf; 2] {
    let name = folder.file_name().expect("a name").to_string_lossy();
    let out = folder.with_file_name(format!("{name}-{kind}-{mmproj}"));
    let mut words = vec![
        "convert",
        folder.to_str().expect("a name"),
        "--out",
        out.to_str().expect("a name"),
        "--type",
        kind,
        "--mmproj",
        mmproj,
    ];
    words.extend(more);
    let said = command(&words).unwrap_or_else(|e| panic!("{e}"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(&out).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    files.sort_by_key(|path| path.file_name().expect("a name").to_string_lossy().starts_with("mmproj-"));
    println!("{said}");
    files.try_into().expect("two files")
}

fn now() -> f64 {
    0.0
}

pub fn engine([model, mmproj]: &[PathBuf; 2]) -> Engine<Cpu> {
    let options = LoadOptions { kv_format: KvFormat::F32, ..LoadOptions::new(now) };
    pollster::block_on(Engine::load(Cpu::new(), source(model), Some(source(mmproj)), options, &mut |_| {}))
        .unwrap_or_else(|e| panic!("{}: {e}", model.display()))
}

/// Logits behind a picture and a question, and the ids that were run.
pub fn logits(pair: &[PathBuf; 2]) -> (Vec<f32>, Vec<Option<u32>>) {
    let mut engine = engine(pair);
    let request = json!({ "prompt": "USER: <image>\nWhat is this, 2 cats or 13 dogs? ASSISTANT:" }).to_string();
    let image = ImageInput::Encoded(std::fs::read(golden("images/chelsea.png")).expect("reads"));
    pollster::block_on(engine.evaluate(&request::parse(&request).expect("sound"), &[image])).expect("evaluates")
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// What a converted file and the golden one say of the same, but for what differs by design.
fn same_metadata(got: &Path, expected: &Path, but: &[&str]) {
    let (got, expected) = (open(got), open(expected));
    for (key, value) in expected.metadata.iter() {
        if !but.contains(&key) && !["general.name", "general.size_label"].contains(&key) {
            assert_eq!(got.metadata.get(key), Some(value), "{key}");
        }
    }
}

fn pair(model: &str, mmproj: &str) -> [PathBuf; 2] {
    [golden(model), golden(mmproj)]
}

#[test]
fn llava_from_every_layout_is_the_golden_one() {
    let at = Folder::new("llava");
    let golden_pair = pair("tiny-llava/tiny-llava-f16.gguf", "tiny-llava/mmproj-new-f16.gguf");
    let (expected, ids) = logits(&golden_pair);
    let hf = llava_hf();
    let layouts = [
        // transformers 5, and 4.
        ("new", hf.clone()),
        (
            "old",
            renamed(
                hf.clone(),
                &[
                    ("model.language_model.", "language_model.model."),
                    ("lm_head", "language_model.lm_head"),
                    ("model.vision_tower", "vision_tower"),
                    ("model.multi", "multi"),
                ],
            ),
        ),
    ];
    for (name, arrays) in layouts {
        let folder = at.sub(name);
        copy_hf("tiny-llava/hf", &folder);
        if name == "new" {
            save_shards(&folder, &arrays, Dtype::F16, 3)
        } else {
            save(&folder.join("model.safetensors"), &arrays, Dtype::F32)
        }
        let files = converted(&folder, "f16", "f16", &[]);
        let (got, got_ids) = logits(&files);
        assert_eq!(got_ids, ids, "{name}");
        assert_eq!(got, expected, "{name}");
        same_metadata(&files[0], &golden_pair[0], &[]);
        // The legacy golden file has dropped the block that no feature passes; this one keeps it for readers that drop it themselves.
        let legacy = golden("tiny-llava/mmproj-legacy-fl-f16.gguf");
        same_metadata(&files[1], &legacy, &["clip.vision.block_count"]);
        let (kept, legacy) = (stored(&files[1]), stored(&legacy));
        assert!(legacy.iter().all(|(name, tensor)| kept.get(name) == Some(tensor)), "the legacy file's tensors, by its names");
        assert_eq!(open(&files[1]).metadata.uint("clip.vision.block_count"), Some(3));
        for (name, tensor) in stored(&golden_pair[0]) {
            assert_eq!(stored(&files[0]).get(&name), Some(&tensor), "{name}");
        }
    }
}

#[test]
fn the_original_layout_with_the_tower_apart_is_the_golden_one() {
    let at = Folder::new("original");
    let golden_pair = pair("tiny-llava/tiny-llava-f16.gguf", "tiny-llava/mmproj-new-f16.gguf");
    let (folder, tower) = (at.sub("model"), at.sub("tower"));
    copy_hf("tiny-llava/hf", &folder);
    let hf = read_json(&folder.join("config.json"));
    let mut config = hf["text_config"].clone();
    for (key, value) in [
        ("architectures", json!(["LlavaLlamaForCausalLM"])),
        ("model_type", json!("llava")),
        ("mm_vision_tower", json!("openai/clip-vit-large-patch14-336")),
        ("mm_projector_type", json!("mlp2x_gelu")),
        ("mm_vision_select_layer", json!(-2)),
        ("mm_vision_select_feature", json!("patch")),
        ("image_aspect_ratio", json!("pad")),
    ] {
        config[key] = value;
    }
    write_json(&folder.join("config.json"), &config);
    std::fs::remove_file(folder.join("preprocessor_config.json")).expect("removes");
    let all = renamed(
        llava_hf(),
        &[
            ("model.language_model.", "model."),
            ("model.vision_tower.", ""),
            ("model.multi_modal_projector.linear_1", "model.mm_projector.0"),
            ("model.multi_modal_projector.linear_2", "model.mm_projector.2"),
        ],
    );
    let (of_tower, of_model): (BTreeMap<_, _>, BTreeMap<_, _>) =
        all.into_iter().partition(|(name, _)| name.starts_with("vision_model."));
    save(&folder.join("model.safetensors"), &of_model, Dtype::F16);
    save(&tower.join("model.safetensors"), &of_tower, Dtype::F16);
    write_json(&tower.join("config.json"), &json!({ "model_type": "clip", "vision_config": hf["vision_config"] }));
    copy_hf("tiny-llava/hf", &at.sub("hf"));
    std::fs::copy(golden("tiny-llava/hf/preprocessor_config.json"), tower.join("preprocessor_config.json")).expect("copies");
    let files = converted(&folder, "f16", "f16", &["--vision", tower.to_str().expect("a name")]);
    assert_eq!(logits(&files), logits(&golden_pair));
    assert_eq!(open(&files[1]).metadata.str("clip.vision.image_aspect_ratio"), Some("pad"));

    // LLaVA-1.6 has its tower with it, and tiles.
    let next = golden("tiny-llava-next/mmproj-legacy-f16.gguf");
    let folder = at.sub("next");
    copy_hf("tiny-llava/hf", &folder);
    let grids = open(&next).metadata.ints("clip.vision.image_grid_pinpoints").expect("grids").to_vec();
    config["image_aspect_ratio"] = json!("anyres");
    config["mm_patch_merge_type"] = json!("spatial_unpad");
    config["image_grid_pinpoints"] = json!(grids.chunks_exact(2).collect::<Vec<_>>());
    write_json(&folder.join("config.json"), &config);
    let mut all = renamed(of_tower, &[("vision_model.", "model.vision_tower.vision_tower.vision_model.")]);
    all.extend(of_model);
    all.extend(super::folders::arrays(&next).into_iter().filter(|(name, _)| name == "model.image_newline"));
    save(&folder.join("model.safetensors"), &all, Dtype::F16);
    let files = converted(&folder, "f16", "f16", &["--vision", tower.to_str().expect("a name")]);
    assert_eq!(logits(&files), logits(&[golden("tiny-llava/tiny-llava-f16.gguf"), next]));
}

/// The root of the mean square of what a file's tensor is off.
fn error(got: &[f32], exact: &[f32]) -> f64 {
    (got.iter().zip(exact).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / exact.len() as f64).sqrt()
}

#[test]
fn quantized_files_are_llama_cpps() {
    let at = Folder::new("quantized");
    let folder = at.sub("tiny");
    copy_hf("tiny-llava/hf", &folder);
    save(&folder.join("model.safetensors"), &llava_hf(), Dtype::F16);
    let exact = super::folders::arrays(&golden("tiny-llava/tiny-llava-f16.gguf"));
    // Formats of one scale have llama.cpp's bytes. Where scales are searched for, the search is another: 1 % nearer to the floats in Q4_K, 2 %
    // farther in Q6_K. Weights that were never trained make the most of that.
    for (kind, n_same, off, bound) in [("q8_0", 30, 1.0, 0.0), ("q4_0", 29, 1.02, 0.25), ("q4_k_m", 7, 1.02, 2.4)] {
        let golden_model = golden(&format!("tiny-llava/tiny-llava-{kind}.gguf"));
        let files = converted(&folder, kind, "f16", &[]);
        same_metadata(&files[0], &golden_model, &[]);
        let (got, expected) = (stored(&files[0]), stored(&golden_model));
        let mut same = 0;
        for (name, (format, bytes)) in &expected {
            assert_eq!(got[name].0, *format, "{kind}: {name}");
            same += usize::from(got[name].1 == *bytes);
        }
        assert_eq!((same, expected.len()), (n_same, 30), "{kind}");
        let (got, expected) = (super::folders::arrays(&files[0]), super::folders::arrays(&golden_model));
        for (name, (_, exact)) in &exact {
            let (ours, theirs) = (error(&got[name].1, exact), error(&expected[name].1, exact));
            assert!(ours <= off * theirs, "{kind}: {name} is off by {ours}, llama.cpp's by {theirs}");
        }
        let (a, b) = (logits(&files).0, logits(&[golden_model, golden("tiny-llava/mmproj-new-f16.gguf")]).0);
        println!("{kind}: {same} tensors have llama.cpp's bytes; logits differ by {}", difference(&a, &b));
        assert!(difference(&a, &b) <= bound, "{kind}: {}", difference(&a, &b));
    }
    for (kind, mmproj, most) in
        [("q5_k_m", "q8_0", "Q5_K"), ("q6_k", "q4_0", "Q6_K"), ("bf16", "bf16", "BF16"), ("f32", "f32", "F32")]
    {
        let files = converted(&folder, kind, mmproj, &[]);
        assert_eq!(stored(&files[0])["blk.1.ffn_up.weight"].0, most);
        logits(&files);
    }
}

#[test]
fn tokens_of_a_tokenizer_json_are_those_of_the_model_file() {
    // Byte-level: the golden Qwen2's, made into the format that transformers saves.
    let at = Folder::new("qwen2");
    let folder = at.sub("tiny");
    let golden_pair = pair("tiny-llava-qwen2/tiny-llava-qwen2-f16.gguf", "tiny-llava-qwen2/mmproj-f16.gguf");
    onevision(&folder, "llava");
    let files = converted(&folder, "f16", "f16", &[]);
    same_metadata(&files[0], &golden_pair[0], &[]);
    same_metadata(&files[1], &golden_pair[1], &[]);
    assert_eq!(logits(&files), logits(&golden_pair));
}

#[test]
fn the_original_layout_with_siglip_is_refused() {
    let at = Folder::new("original-siglip");
    let folder = at.sub("tiny");
    onevision(&folder, "llava");
    let mut config = read_json(&folder.join("config.json"));
    for (key, value) in
        [("architectures", json!(["LlavaQwenForCausalLM"])), ("mm_vision_tower", json!("google/siglip-so400m-patch14-384"))]
    {
        config[key] = value;
    }
    write_json(&folder.join("config.json"), &config);
    let out = at.0.join("out");
    let error = command(&["convert", folder.to_str().expect("a name"), "--out", out.to_str().expect("a name")]);
    let error = error.expect_err("converts").to_string();
    assert!(error.contains("SigLIP") && error.contains("llava-hf"), "{error}");
}

/// The golden model of SigLIP and Qwen2 as a folder.
fn onevision(folder: &Path, model_type: &str) {
    copy_hf("tiny-llava-qwen2/hf", folder);
    let model = golden("tiny-llava-qwen2/tiny-llava-qwen2-f16.gguf");
    let is_tiled = model_type == "llava_onevision";
    let mmproj = golden(if is_tiled { "tiny-llava-qwen2/mmproj-anyres-f16.gguf" } else { "tiny-llava-qwen2/mmproj-f16.gguf" });
    let gguf = open(&model);
    qwen2_tokenizer(&gguf.metadata, folder);
    let mut all = text(&model, None, "model.language_model.", "");
    let projector = |name: &str| match name.strip_prefix("mm.") {
        Some(rest) => format!("model.multi_modal_projector.{}", rest.replace("0.", "linear_1.").replace("2.", "linear_2.")),
        None => name.to_string(),
    };
    all.extend(vision(&mmproj, "model.vision_tower.vision_model.", &projector));
    for (end, value) in [("weight", 1.0), ("bias", 0.0)] {
        all.insert(format!("model.vision_tower.vision_model.post_layernorm.{end}"), (vec![64], vec![value; 64]));
    }
    save(&folder.join("model.safetensors"), &all, Dtype::F16);
    let text_config = read_json(&folder.join("config.json"));
    let mut config = json!({
        "architectures": ["LlavaForConditionalGeneration"], "model_type": model_type, "projector_hidden_act": "gelu",
        "text_config": text_config, "vision_feature_layer": -1, "vision_feature_select_strategy": "full",
        "vision_config": { "model_type": "siglip_vision_model", "hidden_act": "gelu_pytorch_tanh", "hidden_size": 64, "image_size": 56,
            "intermediate_size": 128, "layer_norm_eps": 1e-6, "num_attention_heads": 4, "num_hidden_layers": 3, "patch_size": 14 },
    });
    if is_tiled {
        config["vision_aspect_ratio"] = json!("anyres_max_9");
        config["image_grid_pinpoints"] = json!((1..=6).flat_map(|h| (1..=6).map(move |w| [56 * h, 56 * w])).collect::<Vec<_>>());
    }
    write_json(&folder.join("config.json"), &config);
    write_json(
        &folder.join("preprocessor_config.json"),
        &json!({ "image_processor_type": "SiglipImageProcessor", "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5] }),
    );
}

#[test]
fn onevision_keeps_the_grids_that_readers_compute() {
    let at = Folder::new("onevision");
    let folder = at.sub("tiny");
    onevision(&folder, "llava_onevision");
    let files = converted(&folder, "f16", "f16", &[]);
    let golden = golden("tiny-llava-qwen2/mmproj-anyres-f16.gguf");
    // The golden file lists 4 by 4 grids, of which those of more than ten tiles are shrunk by the reference.
    same_metadata(&files[1], &golden, &["clip.vision.image_grid_pinpoints"]);
    assert_eq!(stored(&files[1]), stored(&golden));
    let grids = open(&files[1]).metadata.ints("clip.vision.image_grid_pinpoints").expect("grids").to_vec();
    assert!(grids.len() < 72 && grids.chunks_exact(2).all(|g| (g[0] / 56) * (g[1] / 56) <= 10), "{grids:?}");
    logits(&files);
}

#[test]
fn llava_next_is_the_golden_one() {
    let at = Folder::new("next");
    let folder = at.sub("tiny");
    copy_hf("tiny-llava/hf", &folder);
    let mut all = llava_hf();
    let next = golden("tiny-llava-next/mmproj-legacy-f16.gguf");
    let (shape, newline) = super::folders::arrays(&next).remove("model.image_newline").expect("there");
    all.insert("image_newline".into(), (shape, newline));
    save(&folder.join("model.safetensors"), &all, Dtype::F16);
    let mut config = read_json(&folder.join("config.json"));
    config["model_type"] = json!("llava_next");
    config["text_config"]["model_type"] = json!("mistral");
    let grids = open(&next).metadata.ints("clip.vision.image_grid_pinpoints").expect("grids").to_vec();
    config["image_grid_pinpoints"] = json!(grids.chunks_exact(2).collect::<Vec<_>>());
    write_json(&folder.join("config.json"), &config);
    let files = converted(&folder, "f16", "f16", &[]);
    assert_eq!(logits(&files), logits(&[golden("tiny-llava/tiny-llava-f16.gguf"), next.clone()]));
    let but = ["clip.vision.block_count", "clip.vision.image_crop_resolution", "clip.vision.image_split_resolution"];
    same_metadata(&files[1], &next, &but);
}

#[test]
fn smolvlm_is_the_golden_one() {
    let at = Folder::new("smolvlm");
    let folder = at.sub("tiny");
    copy_hf("tiny-smolvlm/hf", &folder);
    let golden_pair = pair("tiny-smolvlm/tiny-smolvlm-f16.gguf", "tiny-smolvlm/mmproj-f16.gguf");
    let mut all = text(&golden_pair[0], Some([4, 2]), "model.text_model.", "");
    let projector = |name: &str| name.replace("mm.model.fc.", "model.connector.modality_projection.proj.");
    all.extend(vision(&golden_pair[1], "model.vision_model.", &projector));
    save(&folder.join("model.safetensors"), &all, Dtype::F32);
    let files = converted(&folder, "f16", "f16", &[]);
    assert_eq!(logits(&files), logits(&golden_pair));
    same_metadata(&files[0], &golden_pair[0], &[]);
    same_metadata(&files[1], &golden_pair[1], &[]);
    for (got, expected) in files.iter().zip(&golden_pair) {
        assert_eq!(stored(got), stored(expected));
    }
}

#[test]
fn both_mobilevlms_are_the_golden_ones() {
    for (kind, name) in [("ldp", "ldpnet"), ("ldpv2", "ldpnetv2")] {
        let at = Folder::new(name);
        let folder = at.sub("tiny");
        copy_hf("tiny-llava/hf", &folder);
        let golden_pair = [golden("tiny-llava/tiny-llava-f16.gguf"), golden(&format!("tiny-mobilevlm/mmproj-{kind}-f16.gguf"))];
        let mut all = text(&golden_pair[0], Some([4, 2]), "model.", "");
        let projector = |name: &str| match kind {
            "ldp" => name.replace("mm.model.", "model.mm_projector.model."),
            _ => name
                .replace("mm.model.mlp.", "model.mm_projector.mlp.mlp.")
                .replace("mm.model.peg.", "model.mm_projector.peg.peg."),
        };
        let mut tower = vision(&golden_pair[1], "model.vision_tower.vision_tower.vision_model.", &projector);
        // As torch has them: a channel of its own for each, and convolutions of one by one.
        for (name, (shape, _)) in &mut tower {
            match shape[..] {
                [n, 3, 3] => *shape = vec![n, 1, 3, 3],
                [rows, cols] if name.contains("block.1.fc") || name.contains("block.2.0") => *shape = vec![rows, cols, 1, 1],
                _ => {}
            }
        }
        all.extend(tower);
        save(&folder.join("model.safetensors"), &all, Dtype::F16);
        let hf = read_json(&folder.join("config.json"));
        let mut config = hf["text_config"].clone();
        for (key, value) in [
            ("architectures", json!(["MobileLlamaForCausalLM"])),
            ("model_type", json!("mobilevlm")),
            ("mm_vision_tower", json!("openai/clip-vit-large-patch14-336")),
            ("mm_projector_type", json!(name)),
            // The golden file runs all of its blocks.
            ("mm_vision_select_layer", json!(-1)),
            (
                "vision_config",
                json!({ "hidden_size": 64, "image_size": 168, "intermediate_size": 128, "num_attention_heads": 4,
                "num_hidden_layers": 3, "patch_size": 7, "projection_dim": 64 }),
            ),
        ] {
            config[key] = value;
        }
        write_json(&folder.join("config.json"), &config);
        let files = converted(&folder, "f16", "f16", &[]);
        same_metadata(&files[1], &golden_pair[1], &[]);
        assert_eq!(stored(&files[1]), stored(&golden_pair[1]), "{kind}");
        assert_eq!(logits(&files), logits(&golden_pair), "{kind}");
    }
}

#[test]
fn an_adapter_is_merged_as_its_product_is_added() {
    let at = Folder::new("lora");
    let (folder, adapter, merged) = (at.sub("model"), at.sub("adapter"), at.sub("merged"));
    copy_hf("tiny-llava/hf", &folder);
    copy_hf("tiny-llava/hf", &merged);
    let mut all = llava_hf();
    save(&folder.join("model.safetensors"), &all, Dtype::F32);
    let (rank, alpha) = (4, 6.0f32);
    let number = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 2f32.powi(24) * 0.2 - 0.1;
    let mut pairs = BTreeMap::new();
    for module in ["layers.0.self_attn.q_proj", "layers.2.mlp.down_proj", "layers.1.self_attn.v_proj"] {
        let (shape, weight) = all.get_mut(&format!("model.language_model.{module}.weight")).expect("there");
        let (rows, cols) = (shape[0], shape[1]);
        let a: Vec<f32> = (0..rank * cols).map(number).collect();
        let b: Vec<f32> = (0..rows * rank).map(|i| number(i + 7)).collect();
        for row in 0..rows {
            for k in 0..rank {
                for col in 0..cols {
                    weight[row * cols + col] += alpha / rank as f32 * b[row * rank + k] * a[k * cols + col];
                }
            }
        }
        // An adapter of transformers 4, whose names the base has no longer.
        pairs.insert(format!("base_model.model.language_model.model.{module}.lora_A.weight"), (vec![rank, cols], a));
        pairs.insert(format!("base_model.model.language_model.model.{module}.lora_B.weight"), (vec![rows, rank], b));
    }
    // The projector was trained as a whole.
    let bias = all.get_mut("model.multi_modal_projector.linear_2.bias").expect("there");
    bias.1.iter_mut().for_each(|x| *x += 0.25);
    pairs.insert("base_model.model.multi_modal_projector.linear_2.modules_to_save.bias".into(), bias.clone());
    save(&adapter.join("adapter_model.safetensors"), &pairs, Dtype::F32);
    write_json(
        &adapter.join("adapter_config.json"),
        &json!({ "peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none" }),
    );
    save(&merged.join("model.safetensors"), &all, Dtype::F32);
    let got = converted(&folder, "f32", "f16", &["--lora", adapter.to_str().expect("a name")]);
    std::fs::rename(at.0.join("model-f32-f16"), at.0.join("with-adapter")).expect("renames");
    let got = got.map(|path| at.0.join("with-adapter").join(path.file_name().expect("a name")));
    let expected = converted(&merged, "f32", "f16", &[]);
    let (got, expected) = (super::folders::arrays(&got[0]), super::folders::arrays(&expected[0]));
    for (name, (_, values)) in &expected {
        // The sums run in another order.
        assert!(difference(&got[name].1, values) < 1e-6, "{name}");
    }
    let base = super::folders::arrays(&golden("tiny-llava/tiny-llava-f16.gguf"));
    assert!(difference(&got["blk.0.attn_q.weight"].1, &base["blk.0.attn_q.weight"].1) > 0.01);

    // Half a pair, and what the model has not.
    for (change, word) in [(("lora_A", "lora_B"), "only half"), (("layers.0", "layers.9"), "which the model has not")] {
        let pairs: BTreeMap<_, _> = pairs.iter().map(|(name, array)| (name.replace(change.0, change.1), array.clone())).collect();
        save(&adapter.join("adapter_model.safetensors"), &pairs, Dtype::F32);
        let words = ["convert", folder.to_str().unwrap(), "--out", at.0.to_str().unwrap(), "--lora", adapter.to_str().unwrap()];
        let error = command(&words).expect_err("converts").to_string();
        assert!(error.contains(word), "{error}");
    }
}

/// A checkpoint as `torch.save` writes it: a zip with a pickle (protocol 2) that calls `torch._utils._rebuild_tensor_v2` for each tensor.
fn pickle(arrays: &BTreeMap<String, Array>) -> Vec<u8> {
    let mut program: Vec<u8> = b"\x80\x02}(".to_vec();
    let mut entries = Vec::new();
    let text = |program: &mut Vec<u8>, text: &str| {
        program.push(b'X');
        program.extend((text.len() as u32).to_le_bytes());
        program.extend(text.as_bytes());
    };
    let int = |program: &mut Vec<u8>, n: usize| {
        program.push(b'J');
        program.extend((n as i32).to_le_bytes());
    };
    for (i, (name, (shape, values))) in arrays.iter().enumerate() {
        text(&mut program, name);
        program.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut program, "storage");
        program.extend(b"ctorch\nHalfStorage\n");
        text(&mut program, &i.to_string());
        text(&mut program, "cpu");
        int(&mut program, values.len());
        program.extend(b"tQ");
        int(&mut program, 0);
        program.push(b'(');
        shape.iter().for_each(|n| int(&mut program, *n));
        program.extend(b"t(");
        (0..shape.len()).for_each(|k| int(&mut program, shape[k + 1..].iter().product()));
        program.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
        entries.push((
            format!("archive/data/{i}"),
            values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect::<Vec<u8>>(),
        ));
    }
    program.extend(b"u.");
    entries.insert(0, ("archive/data.pkl".to_string(), program));
    super::hostile::zip(&entries.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>())
}

#[test]
fn pytorchs_files_are_read_like_safetensors() {
    let at = Folder::new("pickle");
    let folder = at.sub("tiny");
    copy_hf("tiny-llava/hf", &folder);
    let all = llava_hf();
    std::fs::write(folder.join("pytorch_model.bin"), pickle(&all)).expect("writes");
    let from_pickle = converted(&folder, "q8_0", "f16", &[]).map(|path| stored(&path));
    std::fs::remove_file(folder.join("pytorch_model.bin")).expect("removes");
    // The pickle has all in 16 bits, also the vectors.
    let halves = all
        .into_iter()
        .map(|(name, (shape, values))| (name, (shape, values.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect())));
    save(&folder.join("model.safetensors"), &halves.collect(), Dtype::F16);
    let from_safetensors = converted(&folder, "q8_0", "f16", &[]).map(|path| stored(&path));
    assert!(from_pickle == from_safetensors);
}

#[test]
fn a_tokenizer_json_made_of_sentencepiece_gives_its_tokens() {
    use llava_web::text::{Special, Tokenizer};
    let at = Folder::new("merges");
    let folder = at.sub("tiny");
    copy_hf("tiny-llava/hf", &folder);
    save(&folder.join("model.safetensors"), &llava_hf(), Dtype::F16);
    let golden_model = golden("tiny-llava/tiny-llava-f16.gguf");
    let gguf = open(&golden_model);
    let tokens = gguf.metadata.strings("tokenizer.ggml.tokens").expect("tokens").to_vec();
    let scores = gguf.metadata.floats("tokenizer.ggml.scores").expect("scores").to_vec();
    let id_of: BTreeMap<&str, usize> = tokens.iter().enumerate().map(|(i, text)| (text.as_str(), i)).collect();
    // As transformers converts them: every cut of a piece into two pieces, by the piece's score, then by the parts' numbers.
    let mut merges = Vec::new();
    for (id, piece) in tokens.iter().enumerate().skip(259).take(2046 - 259) {
        let mut of_piece = Vec::new();
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(l), Some(r)) = (id_of.get(left), id_of.get(right)) {
                of_piece.push(((-scores[id]) as i64, *l, *r, json!([left, right])));
            }
        }
        merges.extend(of_piece);
    }
    merges.sort_by_key(|(score, l, r, _)| (*score, *l, *r));
    let vocab: serde_json::Map<String, serde_json::Value> =
        tokens.iter().enumerate().take(2046).map(|(id, text)| (text.clone(), json!(id))).collect();
    std::fs::remove_file(folder.join("tokenizer.model")).expect("removes");
    write_json(
        &folder.join("tokenizer.json"),
        &json!({
            "added_tokens": [], "normalizer": { "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "▁" }] },
            "model": { "type": "BPE", "byte_fallback": true, "fuse_unk": true, "unk_token": "<unk>", "vocab": vocab,
                "merges": merges.into_iter().map(|(.., merge)| merge).collect::<Vec<_>>() },
        }),
    );
    let files = converted(&folder, "q8_0", "q8_0", &[]);
    let tokenizer = |path: &Path| Tokenizer::from_metadata(&mut open(path).metadata).expect("sound");
    let (got, expected) = (tokenizer(&files[0]), tokenizer(&golden_model));
    let cases = read_json(&golden("tokenizers/tiny.json"));
    let mut n = 0;
    for case in cases["cases"].as_array().or(cases.as_array()).expect("cases") {
        if let Some(text) = case["text"].as_str() {
            assert_eq!(got.encode(text, Special::Plain, true), expected.encode(text, Special::Plain, true), "{text:?}");
            n += 1;
        }
    }
    assert!(n > 20, "{n}");
}
