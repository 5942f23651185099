//! Low-rank adapters (peft's), added to the weights they belong to: W + s·B·A, with s = alpha / rank, or alpha / √rank where the adapter says so.

use std::collections::BTreeMap;
use std::path::Path;

use super::json;
use super::names::{Part, part};
use super::weights::{Checkpoint, Tensor};
use crate::error::{Error, Result};

/// What is added to a matrix.
pub struct Delta {
    /// `[rank, cols]`
    a: Vec<f32>,
    /// `[rows, rank]`
    b: Vec<f32>,
    rank: usize,
    scale: f32,
}

impl Delta {
    /// Adds to the matrix's row `row`.
    pub fn add(&self, row: usize, out: &mut [f32]) {
        for (k, a) in self.a.chunks_exact(out.len()).enumerate() {
            let factor = self.scale * self.b[row * self.rank + k];
            out.iter_mut().zip(a).for_each(|(w, a)| *w += factor * a);
        }
    }
}

/// The deltas of an adapter by the names of the checkpoint's tensors. Tensors that the adapter holds as a whole replace the checkpoint's.
pub fn read(folder: &Path, checkpoint: &mut Checkpoint) -> Result<BTreeMap<String, Delta>> {
    let config = json(&folder.join("adapter_config.json"))?;
    let refuse = |what: &str| {
        Error::new(format!(
            "The adapter in '{}' {what}. Merge it with peft (merge_and_unload) and convert the result.",
            folder.display()
        ))
    };
    for (key, what) in [("use_dora", "is of the kind DoRA"), ("fan_in_fan_out", "is stored the other way round")] {
        if config[key].as_bool() == Some(true) {
            return Err(refuse(what));
        }
    }
    for key in ["alpha_pattern", "rank_pattern"] {
        if config[key].as_object().is_some_and(|map| !map.is_empty()) {
            return Err(refuse(&format!("has a {key}")));
        }
    }
    if !matches!(config["bias"].as_str(), None | Some("none")) {
        return Err(refuse("changes biases"));
    }
    let alpha = config["lora_alpha"].as_f64().ok_or_else(|| refuse("does not say lora_alpha"))? as f32;
    let by_root = config["use_rslora"].as_bool() == Some(true);

    let mut adapter = Checkpoint::default();
    let file =
        ["adapter_model.safetensors", "adapter_model.bin"].into_iter().map(|name| folder.join(name)).find(|path| path.exists());
    adapter.add(&file.ok_or_else(|| refuse("has no adapter_model.safetensors"))?)?;
    // LLaVA's own training keeps the projector there.
    let whole = folder.join("non_lora_trainables.bin");
    if whole.exists() {
        adapter.add(&whole)?;
    }

    let mut pairs: BTreeMap<String, (Option<&Tensor>, Option<&Tensor>)> = BTreeMap::new();
    let mut replaced = Vec::new();
    for (name, tensor) in adapter.iter() {
        // peft says "base_model.model." before the model's own names, of which some begin with "model.".
        let own = name.strip_prefix("base_model.model.").unwrap_or(name);
        if let Some((base, rest)) = own.split_once(".lora_") {
            let pair = pairs.entry(format!("{base}.weight")).or_default();
            match rest.split('.').next() {
                Some("A") => pair.0 = Some(tensor),
                Some("B") => pair.1 = Some(tensor),
                _ => return Err(refuse(&format!("holds '{name}', which is not known"))),
            }
        } else {
            replaced.push((own.replace(".modules_to_save", "").replace(".default", ""), tensor.clone()));
        }
    }
    if pairs.is_empty() && replaced.is_empty() {
        return Err(refuse("is empty"));
    }
    let named = |wanted: &str| -> Result<String> {
        let wanted_part = part(wanted);
        let found = checkpoint.iter().find(|(name, _)| *name == wanted || part(name) == wanted_part);
        found.map(|(name, _)| name.to_string()).ok_or_else(|| refuse(&format!("is for '{wanted}', which the model has not")))
    };
    let mut deltas = BTreeMap::new();
    for (base, pair) in pairs {
        let name = named(&base)?;
        let (Some(a), Some(b)) = pair else { return Err(refuse(&format!("has only half of '{base}'"))) };
        let Some(tensor) = checkpoint.get(&name) else { continue };
        let (&[rank, cols], &[rows, rank_of_b]) = (a.shape.as_slice(), b.shape.as_slice()) else {
            return Err(refuse(&format!("changes '{base}' by what are no matrices")));
        };
        if rank != rank_of_b || rank == 0 || [rows, cols] != tensor.shape[..] {
            return Err(refuse(&format!("changes '{base}' of {:?} by {:?} · {:?}", tensor.shape, b.shape, a.shape)));
        }
        let scale = alpha / if by_root { (rank as f32).sqrt() } else { rank as f32 };
        deltas.insert(name, Delta { a: a.read()?, b: b.read()?, rank, scale });
    }
    let replaced = replaced
        .into_iter()
        .filter(|(own, _)| part(own) != Part::Nothing)
        .map(|(own, tensor)| {
            Ok((
                named(&own).or_else(|e| if matches!(part(&own), Part::Projector(_)) { Ok(own.clone()) } else { Err(e) })?,
                tensor,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    for (name, tensor) in replaced {
        checkpoint.insert(name, tensor);
    }
    Ok(deltas)
}
