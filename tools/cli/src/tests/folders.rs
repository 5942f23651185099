//! Folders as Hugging Face's libraries save them, made of golden GGUF files. The names are written down anew, not taken from the converter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use llava_web::gguf::source::FileSource;
use llava_web::gguf::{Gguf, Metadata, RangedSource};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value as Json, json};

/// A folder of its own, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("llava-web-cli-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub fn sub(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file of the reference data.
pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(path)
}

pub fn source(path: &Path) -> Vec<Box<dyn RangedSource>> {
    vec![Box::new(FileSource::open(path.to_str().expect("a name")).expect("opens"))]
}

pub fn open(path: &Path) -> Gguf {
    pollster::block_on(Gguf::open(source(path))).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A tensor: its sizes, the contiguous one last, and its numbers.
pub type Array = (Vec<usize>, Vec<f32>);

/// The tensors of a GGUF file.
pub fn arrays(path: &Path) -> BTreeMap<String, Array> {
    let gguf = open(path);
    gguf.tensors()
        .map(|t| {
            let mut bytes = vec![0; t.info.n_bytes() as usize];
            pollster::block_on(gguf.read(t, 0, &mut bytes)).expect("reads");
            let mut values = vec![0.0f32; t.info.n_elements()];
            t.info.format.decode_row(&bytes, &mut values);
            (t.info.name.clone(), (t.info.dims.iter().rev().copied().collect(), values))
        })
        .collect()
}

/// The bytes of each tensor with its format's name.
pub fn stored(path: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let gguf = open(path);
    gguf.tensors()
        .map(|t| {
            let mut bytes = vec![0; t.info.n_bytes() as usize];
            pollster::block_on(gguf.read(t, 0, &mut bytes)).expect("reads");
            (t.info.name.clone(), (t.info.format.name().to_string(), bytes))
        })
        .collect()
}

/// Undoes the order of rows in which GGUF has LLaMA's queries and keys.
fn unpermuted((shape, values): Array, heads: usize) -> Array {
    let (rows, cols) = (shape[0], shape[1]);
    let d = rows / heads;
    let mut out = vec![0.0; values.len()];
    for (row, line) in values.chunks_exact(cols).enumerate() {
        let (head, within) = (row / d, row % d);
        let to = head * d + (within % 2) * (d / 2) + within / 2;
        out[to * cols..][..cols].copy_from_slice(line);
    }
    (shape, out)
}

/// A language model's tensors under `LlamaForCausalLM`'s names, with `model` before the layers and `head` before the output.
pub fn text(path: &Path, heads: Option<[usize; 2]>, model: &str, head: &str) -> BTreeMap<String, Array> {
    let layer = |part: &str| match part {
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
    arrays(path)
        .into_iter()
        .map(|(name, array)| {
            let parts: Vec<&str> = name.split('.').collect();
            match parts[..] {
                ["token_embd", _] => (format!("{model}embed_tokens.weight"), array),
                ["output_norm", _] => (format!("{model}norm.weight"), array),
                ["output", _] => (format!("{head}lm_head.weight"), array),
                ["blk", n, part, kind] => {
                    let array = match (part, kind, heads) {
                        ("attn_q", "weight", Some([q, _])) => unpermuted(array, q),
                        ("attn_k", "weight", Some([_, kv])) => unpermuted(array, kv),
                        _ => array,
                    };
                    (format!("{model}layers.{n}.{}.{kind}", layer(part)), array)
                }
                _ => panic!("what is {name}?"),
            }
        })
        .collect()
}

/// A vision file's tensors: the tower's behind `tower`, the projector's by `projector` and with its own names.
pub fn vision(path: &Path, tower: &str, projector: &dyn Fn(&str) -> String) -> BTreeMap<String, Array> {
    let all = arrays(path);
    let width = all["v.blk.0.ln1.weight"].0[0];
    let is_old_style = all["v.blk.0.ffn_down.weight"].0[1] == width;
    all.into_iter()
        .map(|(name, array)| {
            let parts: Vec<&str> = name.split('.').collect();
            let name = match parts[..] {
                ["v", "class_embd"] => format!("{tower}embeddings.class_embedding"),
                ["v", "patch_embd", kind] => format!("{tower}embeddings.patch_embedding.{kind}"),
                ["v", "position_embd", kind] => format!("{tower}embeddings.position_embedding.{kind}"),
                ["v", "pre_ln", kind] => format!("{tower}pre_layrnorm.{kind}"),
                ["v", "post_ln", kind] => format!("{tower}post_layernorm.{kind}"),
                ["v", "blk", n, part, kind] => {
                    let part = match (part, is_old_style) {
                        ("ln1", _) => "layer_norm1",
                        ("ln2", _) => "layer_norm2",
                        ("attn_q", _) => "self_attn.q_proj",
                        ("attn_k", _) => "self_attn.k_proj",
                        ("attn_v", _) => "self_attn.v_proj",
                        ("attn_out", _) => "self_attn.out_proj",
                        ("ffn_up", false) | ("ffn_down", true) => "mlp.fc1",
                        ("ffn_down", false) | ("ffn_up", true) => "mlp.fc2",
                        (other, _) => panic!("what is {other}?"),
                    };
                    format!("{tower}encoder.layers.{n}.{part}.{kind}")
                }
                _ => projector(&name),
            };
            (name, array)
        })
        .collect()
}

/// Saves tensors: vectors in 32 bits, the others as `of` says (F16, BF16 or F32).
pub fn save(path: &Path, arrays: &BTreeMap<String, Array>, of: Dtype) {
    let stored: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = arrays
        .iter()
        .map(|(name, (shape, values))| {
            let of = if shape.len() == 1 { Dtype::F32 } else { of };
            let bytes = match of {
                Dtype::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
                Dtype::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
                _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            };
            (name.clone(), of, shape.clone(), bytes)
        })
        .collect();
    let views =
        stored.iter().map(|(name, of, shape, bytes)| (name.as_str(), TensorView::new(*of, shape.clone(), bytes).expect("fits")));
    std::fs::write(path, safetensors::serialize(views, None).expect("serializes")).expect("writes");
}

/// Saves tensors in shards with their index.
pub fn save_shards(folder: &Path, arrays: &BTreeMap<String, Array>, of: Dtype, n: usize) {
    let mut map = serde_json::Map::new();
    for i in 0..n {
        let file = format!("model-{:05}-of-{n:05}.safetensors", i + 1);
        let some: BTreeMap<String, Array> = arrays
            .iter()
            .enumerate()
            .filter(|(k, _)| k % n == i)
            .map(|(_, (name, array))| (name.clone(), array.clone()))
            .collect();
        map.extend(some.keys().map(|name| (name.clone(), json!(file))));
        save(&folder.join(file), &some, of);
    }
    write_json(&folder.join("model.safetensors.index.json"), &json!({ "metadata": {}, "weight_map": map }));
}

pub fn write_json(path: &Path, json: &Json) {
    std::fs::write(path, serde_json::to_vec_pretty(json).expect("JSON")).expect("writes");
}

pub fn read_json(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).expect("JSON")
}

/// Copies a golden folder's configuration.
pub fn copy_hf(from: &str, to: &Path) {
    for entry in std::fs::read_dir(golden(from)).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        std::fs::write(&to, std::fs::read(entry.path()).expect("reads")).expect("writes");
    }
}

/// A `tokenizer.json` of a byte-level vocabulary with Qwen2's way of cutting words, and its configuration.
pub fn qwen2_tokenizer(metadata: &Metadata, folder: &Path) {
    let tokens = metadata.strings("tokenizer.ggml.tokens").expect("tokens");
    let kinds = metadata.ints("tokenizer.ggml.token_type").expect("kinds");
    let added = |is_added: bool| tokens.iter().zip(kinds).enumerate().filter(move |(_, (_, kind))| (**kind == 3) == is_added);
    let vocab: serde_json::Map<String, Json> = added(false).map(|(id, (text, _))| (text.clone(), json!(id))).collect();
    let special: Vec<Json> = added(true)
        .map(|(id, (text, _))| json!({ "id": id, "content": text, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false }))
        .collect();
    let words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    write_json(
        &folder.join("tokenizer.json"),
        &json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": special, "normalizer": { "type": "NFC" },
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": words }, "behavior": "Isolated", "invert": false },
                { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
            ] },
            "post_processor": null,
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
            "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": metadata.strings("tokenizer.ggml.merges").expect("merges") },
        }),
    );
}
