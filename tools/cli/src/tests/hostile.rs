//! Folders that are incomplete, damaged or made to do harm: each ends with a message that names the fault.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::Dtype;
use serde_json::json;

use super::command;
use super::folders::{Array, Folder, copy_hf, read_json, save, save_shards, write_json};
use super::round_trip::llava_hf;

/// The golden LLaVA as a folder.
fn folder(at: &Folder) -> std::path::PathBuf {
    let folder = at.sub("model");
    copy_hf("tiny-llava/hf", &folder);
    save_shards(&folder, &llava_hf(), Dtype::F16, 3);
    folder
}

fn fault(folder: &Path) -> String {
    let out = folder.with_file_name("out");
    let error = command(&["convert", folder.to_str().expect("a name"), "--out", out.to_str().expect("a name")]);
    let error = error.expect_err("converts").to_string();
    let left: Vec<_> = std::fs::read_dir(&out).map(|all| all.flatten().map(|e| e.file_name()).collect()).unwrap_or_default();
    assert!(left.is_empty(), "{error}: left {left:?}");
    error
}

/// One thing is changed in a sound folder; the message has to name it.
fn expect(name: &str, words: &[&str], change: impl FnOnce(&Path)) {
    let at = Folder::new(name);
    let folder = folder(&at);
    change(&folder);
    let error = fault(&folder);
    println!("{name}: {error}");
    for word in words {
        assert!(error.contains(word), "{name}: {error}");
    }
}

fn edit(folder: &Path, file: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let path = folder.join(file);
    let mut json = read_json(&path);
    change(&mut json);
    write_json(&path, &json);
}

/// The weights again, in one file, changed.
fn reweigh(folder: &Path, change: impl FnOnce(&mut BTreeMap<String, Array>)) {
    let mut arrays = llava_hf();
    change(&mut arrays);
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_name().to_string_lossy().contains("safetensors") {
            std::fs::remove_file(entry.path()).expect("removes");
        }
    }
    save(&folder.join("model.safetensors"), &arrays, Dtype::F16);
}

const SHARD: &str = "model-00002-of-00003.safetensors";

#[test]
fn what_is_missing_is_named() {
    expect("shard", &["model-00002-of-00003", "not there"], |f| std::fs::remove_file(f.join(SHARD)).expect("removes"));
    expect("shard-without-index", &["has 2 shards", "there were 3"], |f| {
        std::fs::remove_file(f.join(SHARD)).expect("removes");
        std::fs::remove_file(f.join("model.safetensors.index.json")).expect("removes");
    });
    expect("outside", &["../model", "not there"], |f| {
        edit(f, "model.safetensors.index.json", |json| json["weight_map"]["lm_head.weight"] = json!("../model/x"));
    });
    expect("config", &["config.json"], |f| std::fs::remove_file(f.join("config.json")).expect("removes"));
    expect("tokenizer", &["no tokenizer"], |f| std::fs::remove_file(f.join("tokenizer.model")).expect("removes"));
    expect("tensor", &["lack", "layers.1.mlp.up_proj.weight"], |f| {
        reweigh(f, |all| drop(all.remove("model.language_model.layers.1.mlp.up_proj.weight")));
    });
    expect("tower", &["no vision tower", "--vision"], |f| reweigh(f, |all| all.retain(|name, _| !name.contains("vision_tower"))));
    expect("weights", &["holds no weights"], |f| {
        reweigh(f, |_| ());
        std::fs::remove_file(f.join("model.safetensors")).expect("removes");
    });
}

#[test]
fn what_is_wrong_is_named() {
    expect("shape", &["up_proj", "[256, 512]", "[512, 256]"], |f| {
        reweigh(f, |all| {
            all.get_mut("model.language_model.layers.1.mlp.up_proj.weight").expect("there").0.reverse();
        });
    });
    expect("more", &["q_norm", "without them"], |f| {
        reweigh(f, |all| {
            drop(all.insert("model.language_model.layers.1.self_attn.q_norm.weight".into(), (vec![64], vec![1.0; 64])))
        });
    });
    expect("infinite", &["up_proj", "infinite"], |f| {
        reweigh(f, |all| all.get_mut("model.language_model.layers.1.mlp.up_proj.weight").expect("there").1[7] = f32::INFINITY);
    });
    expect("architecture", &["fuyu", "cannot convert"], |f| edit(f, "config.json", |json| json["model_type"] = json!("fuyu")));
    expect("text", &["gemma", "cannot convert"], |f| {
        edit(f, "config.json", |json| json["text_config"]["model_type"] = json!("gemma"));
    });
    expect("layers", &["layers.3", "lack"], |f| {
        edit(f, "config.json", |json| json["text_config"]["num_hidden_layers"] = json!(4))
    });
    expect("feature", &["vision_feature_layer", "-9"], |f| {
        edit(f, "config.json", |json| json["vision_feature_layer"] = json!(-9))
    });
    expect("features", &["one layer"], |f| edit(f, "config.json", |json| json["vision_feature_layer"] = json!([-2, -1])));
    expect("activation", &["hidden_act", "relu"], |f| {
        edit(f, "config.json", |json| json["vision_config"]["hidden_act"] = json!("relu"));
    });
    expect("rope", &["longrope"], |f| {
        edit(f, "config.json", |json| json["text_config"]["rope_parameters"]["rope_type"] = json!("longrope"));
    });
    expect("number", &["num_attention_heads", "-4"], |f| {
        edit(f, "config.json", |json| json["text_config"]["num_attention_heads"] = json!(-4));
    });
    expect("json", &["config.json", "sound JSON"], |f| std::fs::write(f.join("config.json"), "{").expect("writes"));
    expect("spm", &["tokenizer.model", "SentencePiece"], |f| {
        std::fs::write(f.join("tokenizer.model"), [0x0a, 0xff, 0xff, 0xff]).expect("writes");
    });
    expect("tokens", &["<image>", "2046", "embeds 1000"], |f| {
        reweigh(f, |all| {
            for name in ["model.language_model.embed_tokens.weight", "lm_head.weight"] {
                let (shape, values) = all.get_mut(name).expect("there");
                shape[0] = 1000;
                values.truncate(1000 * 256);
            }
        });
        std::fs::remove_file(f.join("tokenizer.model")).expect("removes");
        // What is left of the tokenizer: added tokens over a vocabulary of bytes.
        write_json(
            &f.join("tokenizer.json"),
            &json!({ "added_tokens": [], "model": { "type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": { "<unk>": 0 }, "merges": [] } }),
        );
    });
}

#[test]
fn damaged_files_of_weights_are_named() {
    expect("truncated", &[SHARD, "bytes of"], |f| {
        let bytes = std::fs::read(f.join(SHARD)).expect("reads");
        std::fs::write(f.join(SHARD), &bytes[..bytes.len() - 100]).expect("writes");
    });
    expect("empty", &[SHARD, "shorter"], |f| std::fs::write(f.join(SHARD), "").expect("writes"));
    expect("header", &[SHARD, "header"], |f| std::fs::write(f.join(SHARD), [0xff; 64]).expect("writes"));
    expect("quantized", &["I8", "unquantized"], |f| {
        let header = br#"{"lm_head.weight":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
        std::fs::write(f.join(SHARD), bytes).expect("writes");
    });
    expect("overflow", &[SHARD], |f| {
        let header = br#"{"a":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,4]}}"#;
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
        std::fs::write(f.join(SHARD), bytes).expect("writes");
    });
}

/// A zip file with one entry, stored as PyTorch does.
pub fn zip(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    let mut zip = zip::ZipWriter::new(&mut out);
    for (name, bytes) in entries {
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(*name, options).expect("begins");
        std::io::Write::write_all(&mut zip, bytes).expect("writes");
    }
    zip.finish().expect("ends");
    out.into_inner()
}

fn pickled(folder: &Path, pickle: &[u8]) {
    reweigh(folder, |_| ());
    std::fs::remove_file(folder.join("model.safetensors")).expect("removes");
    std::fs::write(folder.join("pytorch_model.bin"), zip(&[("archive/data.pkl", pickle.to_vec())])).expect("writes");
}

#[test]
fn pickles_that_are_no_checkpoints_are_refused_and_not_executed() {
    // Calls posix.system("touch …") where pickle.load reads it.
    let proof = std::env::temp_dir().join(format!("llava-web-cli-proof-{}", std::process::id()));
    let call = format!("touch {}", proof.display());
    let length = u32::try_from(call.len()).expect("short").to_le_bytes();
    let bytes = [b"\x80\x02cposix\nsystem\nX", &length[..], call.as_bytes(), b"\x85R."].concat();
    expect("system", &["posix.system", "executed"], |f| pickled(f, &bytes));
    assert!(!proof.exists());
    expect("garbage", &["pytorch_model.bin", "safetensors"], |f| pickled(f, &[0x80, 2, 0xff, 0xff]));
    expect("nothing", &["pytorch_model.bin", "no tensor"], |f| pickled(f, b"\x80\x02}."));
    expect("no-zip", &["pytorch_model.bin"], |f| {
        pickled(f, b"");
        std::fs::write(f.join("pytorch_model.bin"), "not a zip").expect("writes");
    });
}
