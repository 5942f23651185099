//! Parity of every family of models with its reference implementation (float32, on dequantized weights), at every stage, on the CPU and on
//! the GPU. Float kernels may be 1e-3 (rows) and 2e-3 (logits) off, as the golden data's own README says; with 8-bit activations logits may be
//! 0.4 (LFM2: 0.45) off, a third more than is seen. On the GPU activations are 32-bit floats in every format.

use crate::common;
#[cfg(feature = "gpu")]
use crate::gpu;

use common::families::{Bounds, FAMILIES, Family, check, check_going_on, check_pixels, check_text};
use common::gguf_writer::{GgufWriter, Val};
use common::llava::{file, golden, inputs, max_diff, memory, options, picture};
use llava_web::backend::KvFormat;
use llava_web::backend::cpu::Cpu;
use llava_web::gguf::Gguf;
use llava_web::runtime::engine::{Engine, LoadOptions};
use llava_web::runtime::request;
use serde_json::json;

const CPU: Bounds = Bounds { embeds: 1e-3, logits: [("f16", 2e-3), ("q4_0", 0.4)] };
#[cfg(feature = "gpu")]
const GPU: Bounds = Bounds { embeds: 1e-3, logits: [("f16", 2e-3), ("q4_0", 2e-3)] };

fn family(name: &str) -> &'static Family {
    FAMILIES.iter().find(|family| family.name == name).expect("a family")
}

fn on_cpu(name: &str) {
    check(family(name), Cpu::new, &options(), &CPU);
}

#[cfg(feature = "gpu")]
fn on_gpu(name: &str) {
    if gpu::is_missing() {
        return;
    }
    check(family(name), gpu::float_backends(), &options(), &GPU);
}

#[test]
fn a_vision_file_of_another_family_is_refused_however_wide_it_is() {
    for (model, mmproj) in [("tiny-smolvlm", "tiny-lfm2vl"), ("tiny-internvl3", "tiny-smolvlm"), ("tiny-lfm2vl", "tiny-qwen2vl")]
    {
        let language = file(golden(&format!("{model}/{model}-q4_0.gguf")));
        let vision = file(golden(&format!("{mmproj}/mmproj-f16.gguf")));
        let loaded = pollster::block_on(Engine::load(Cpu::new(), language, Some(vision), options(), &mut |_| {}));
        let error = loaded.err().unwrap_or_else(|| panic!("{model} with {mmproj} loads"));
        assert_eq!(error.code(), "mmproj_mismatch", "{error}");
        assert!(error.message().contains("no token"), "{error}");
    }
}

#[test]
fn smolvlm_is_the_references_on_the_cpu() {
    on_cpu("tiny-smolvlm");
}

#[test]
#[cfg(feature = "gpu")]
fn smolvlm_is_the_references_on_the_gpu() {
    on_gpu("tiny-smolvlm");
}

#[test]
fn internvl_is_the_references_on_the_cpu() {
    on_cpu("tiny-internvl3");
}

#[test]
#[cfg(feature = "gpu")]
fn internvl_is_the_references_on_the_gpu() {
    on_gpu("tiny-internvl3");
}

#[test]
fn llava_with_siglip_is_the_references_on_the_cpu() {
    on_cpu("tiny-llava-qwen2.pad");
}

#[test]
#[cfg(feature = "gpu")]
fn llava_with_siglip_is_the_references_on_the_gpu() {
    on_gpu("tiny-llava-qwen2.pad");
}

#[test]
fn qwen3_is_the_references_on_the_cpu() {
    check_text("tiny-qwen3", Cpu::new, &options(), &CPU);
}

#[test]
#[cfg(feature = "gpu")]
fn qwen3_is_the_references_on_the_gpu() {
    if gpu::is_missing() {
        return;
    }
    check_text("tiny-qwen3", gpu::float_backends(), &options(), &GPU);
}

#[test]
fn pictures_are_prepared_as_the_reference_does_it() {
    let n: usize = FAMILIES.iter().map(check_pixels).sum();
    assert!(n >= 5, "{n} pictures compared");
}

/// A golden file for changes.
fn copy_of(path: &str) -> GgufWriter {
    GgufWriter::copy_of(&pollster::block_on(Gguf::open(file(golden(path)))).expect("opens"))
}

fn engine(model: &GgufWriter, mmproj: &GgufWriter) -> Engine<Cpu> {
    let (model, mmproj) = (memory("model.gguf", model.finish()), memory("mmproj.gguf", mmproj.finish()));
    pollster::block_on(Engine::load(Cpu::new(), model, Some(mmproj), options(), &mut |_| {})).expect("loads")
}

/// Logits behind a picture.
fn logits(engine: &mut Engine<Cpu>) -> Vec<f32> {
    let request = request::parse(r#"{"prompt": "<image>What is this?"}"#).expect("sound");
    pollster::block_on(engine.evaluate(&request, &inputs(&[picture("coffee_tall.png")]))).expect("evaluates").0
}

/// Projections to queries, keys and values, put one below the other, compute what they did apart: of a language model with biases, and of a
/// tower.
#[test]
fn projections_may_be_stored_as_one() {
    let apart = [copy_of("tiny-llava-qwen2/tiny-llava-qwen2-q4_0.gguf"), copy_of("tiny-llava-qwen2/mmproj-f16.gguf")];
    let joined = [("", 2), ("v.", 3)].into_iter().zip(apart.clone()).map(|((tower, n_layers), mut file)| {
        for (layer, kind) in (0..n_layers).flat_map(|layer| [(layer, "weight"), (layer, "bias")]) {
            let name = |part: &str| format!("{tower}blk.{layer}.{part}.{kind}");
            file = file.stacked(&["attn_q", "attn_k", "attn_v"].map(name), &name("attn_qkv"));
        }
        file
    });
    let joined: Vec<GgufWriter> = joined.collect();
    assert_ne!(joined[0].finish().len(), apart[0].finish().len());
    assert_eq!(logits(&mut engine(&joined[0], &joined[1])), logits(&mut engine(&apart[0], &apart[1])));
}

/// A SigLIP tower's file with what LLaVA's converter writes for it: CLIP's means, and a flag that stands for CLIP's activation.
#[test]
fn a_siglip_tower_is_taken_as_one_whatever_its_file_says() {
    let (model, sound) = (copy_of("tiny-llava-qwen2/tiny-llava-qwen2-q4_0.gguf"), copy_of("tiny-llava-qwen2/mmproj-f16.gguf"));
    let clips = sound
        .clone()
        .set("clip.use_gelu", Val::Bool(false))
        .set("clip.vision.image_mean", Val::floats([0.481_454_66, 0.457_827_5, 0.408_210_73]))
        .set("clip.vision.image_std", Val::floats([0.268_629_54, 0.261_302_6, 0.275_777_1]));
    assert_eq!(logits(&mut engine(&model, &clips)), logits(&mut engine(&model, &sound)));
}

/// What Qwen2-VL's first converter wrote computes what today's does: a flag instead of the projector's name or beside it, feed-forward layers
/// under each other's names and of no width, and a placeholder for positions.
#[test]
fn qwen2_vls_old_vision_files_are_read_as_new_ones() {
    let (model, new) = (copy_of("tiny-qwen2vl/tiny-qwen2vl-q4_0.gguf"), copy_of("tiny-qwen2vl/mmproj-f16.gguf"));
    let mut old = new
        .clone()
        .unset("general.type")
        .set("clip.has_text_encoder", Val::Bool(false))
        .set("clip.has_qwen2vl_merger", Val::Bool(true))
        .set("clip.use_silu", Val::Bool(false))
        .set("clip.use_gelu", Val::Bool(false))
        .set("clip.vision.feed_forward_length", Val::U32(0))
        .floats("v.position_embd.weight", &[10, 10], &[0.0; 100]);
    for (layer, kind) in (0..3).flat_map(|layer| ["weight", "bias"].map(|kind| (layer, kind))) {
        let name = |part: &str| format!("v.blk.{layer}.{part}.{kind}");
        let (up, down, other) = (name("ffn_up"), name("ffn_down"), name("other"));
        old = old.renamed(&up, &other).renamed(&down, &up).renamed(&other, &down);
    }
    let want = logits(&mut engine(&model, &new));
    for old in [old.clone(), old.clone().unset("clip.projector_type")] {
        assert_eq!(logits(&mut engine(&model, &old)), want);
    }
    // A table that is no placeholder would be left out, and so would a switch of another family.
    let refused = |mmproj: &GgufWriter, words: &str| {
        let (model, mmproj) = (memory("model.gguf", model.finish()), memory("mmproj.gguf", mmproj.finish()));
        let loaded = pollster::block_on(Engine::load(Cpu::new(), model, Some(mmproj), options(), &mut |_| {}));
        let error = loaded.err().unwrap_or_else(|| panic!("{words} is loaded"));
        assert!(error.code() == "unsupported_architecture" && error.message().contains(words), "{error}");
    };
    let table = old.clone().without("v.position_embd.weight").floats("v.position_embd.weight", &[64, 100], &[0.0; 6400]);
    refused(&table, "v.position_embd.weight");
    refused(&copy_of("tiny-qwen25vl/mmproj-f16.gguf").set("clip.has_qwen2vl_merger", Val::Bool(true)), "has_qwen2vl_merger");
}

#[test]
fn lfm2_vl_is_the_references_on_the_cpu() {
    let bounds = Bounds { logits: [("f16", 2e-3), ("q4_0", 0.45)], ..CPU };
    check(family("tiny-lfm2vl"), Cpu::new, &options(), &bounds);
}

#[test]
#[cfg(feature = "gpu")]
fn lfm2_vl_is_the_references_on_the_gpu() {
    on_gpu("tiny-lfm2vl");
}

#[test]
fn qwen2_vl_is_the_references_on_the_cpu() {
    on_cpu("tiny-qwen2vl");
}

#[test]
#[cfg(feature = "gpu")]
fn qwen2_vl_is_the_references_on_the_gpu() {
    on_gpu("tiny-qwen2vl");
}

#[test]
fn qwen25_vl_is_the_references_on_the_cpu() {
    on_cpu("tiny-qwen25vl");
}

#[test]
#[cfg(feature = "gpu")]
fn qwen25_vl_is_the_references_on_the_gpu() {
    on_gpu("tiny-qwen25vl");
}

#[test]
fn qwen3_vl_is_the_references_on_the_cpu() {
    on_cpu("tiny-qwen3vl");
}

#[test]
#[cfg(feature = "gpu")]
fn qwen3_vl_is_the_references_on_the_gpu() {
    on_gpu("tiny-qwen3vl");
}

#[test]
fn mobilevlm_is_the_references_on_the_cpu() {
    on_cpu("tiny-mobilevlm.ldp");
}

#[test]
#[cfg(feature = "gpu")]
fn mobilevlm_is_the_references_on_the_gpu() {
    on_gpu("tiny-mobilevlm.ldp");
}

#[test]
fn mobilevlm_v2_is_the_references_on_the_cpu() {
    on_cpu("tiny-mobilevlm.ldpv2");
}

#[test]
#[cfg(feature = "gpu")]
fn mobilevlm_v2_is_the_references_on_the_gpu() {
    on_gpu("tiny-mobilevlm.ldpv2");
}

#[test]
fn gemma3_is_the_references_on_the_cpu() {
    on_cpu("tiny-gemma3");
}

#[test]
#[cfg(feature = "gpu")]
fn gemma3_is_the_references_on_the_gpu() {
    on_gpu("tiny-gemma3");
}

/// Logits with keys and values in 8 bits, beside the reference's: as [`CPU`] and [`GPU`], with what 8 bits cost. The tiny models' heads of 16
/// have a scale for each; models that are made to be used are more alike in a head's elements, and have 32 to a scale.
const CPU_BYTES: Bounds = Bounds { embeds: 1e-3, logits: [("f16", 0.3), ("q4_0", 0.8)] };
#[cfg(feature = "gpu")]
const GPU_BYTES: Bounds = Bounds { embeds: 1e-3, logits: [("f16", 0.3), ("q4_0", 0.3)] };

#[test]
fn every_family_stays_within_its_bounds_with_keys_and_values_in_8_bits() {
    let options = LoadOptions { kv_format: KvFormat::Q8_0, ..options() };
    FAMILIES.iter().for_each(|family| check(family, Cpu::new, &options, &CPU_BYTES));
    check_text("tiny-qwen3", Cpu::new, &options, &CPU_BYTES);
}

#[test]
#[cfg(feature = "gpu")]
fn families_stay_within_their_bounds_with_keys_and_values_in_8_bits_on_the_gpu() {
    if gpu::is_missing() {
        return;
    }
    let options = LoadOptions { kv_format: KvFormat::Q8_0, ..options() };
    let make = gpu::float_backends();
    for name in ["tiny-smolvlm", "tiny-lfm2vl", "tiny-qwen3vl", "tiny-gemma3"] {
        check(family(name), &make, &options, &GPU_BYTES);
    }
}

/// Families whose positions are not their slots, or whose pictures' rows see each other.
const PLACED: [&str; 3] = ["tiny-qwen2vl", "tiny-qwen3vl", "tiny-gemma3"];

#[test]
fn conversations_with_pictures_go_on_where_they_stood_on_the_cpu() {
    PLACED.iter().for_each(|name| check_going_on(name, Cpu::new, &options()));
}

#[test]
#[cfg(feature = "gpu")]
fn conversations_with_pictures_go_on_where_they_stood_on_the_gpu() {
    if gpu::is_missing() {
        return;
    }
    let make = gpu::float_backends();
    PLACED.iter().for_each(|name| check_going_on(name, &make, &options()));
}

/// Rows of a picture that see each other are run together wherever the pieces end in which a prompt is run: those of the CPU are so short that
/// some of these end within a picture, those of the GPU hold the whole prompt.
#[test]
#[cfg(feature = "gpu")]
fn pictures_whose_rows_see_each_other_are_never_cut() {
    if gpu::is_missing() {
        return;
    }
    let load = || (file(golden("tiny-gemma3/tiny-gemma3-f16.gguf")), Some(file(golden("tiny-gemma3/mmproj-f16.gguf"))));
    let (model, mmproj) = load();
    let mut cpu = pollster::block_on(Engine::load(Cpu::new(), model, mmproj, options(), &mut |_| {})).expect("loads");
    let (model, mmproj) = load();
    let mut gpu =
        pollster::block_on(Engine::load(gpu::float_backends()(), model, mmproj, options(), &mut |_| {})).expect("loads");
    let images = inputs(&[picture("coffee_tall.png"), picture("chelsea.png")]);
    for n_before in [20, 44, 50, 55, 60, 64] {
        let text = "a ".repeat(n_before);
        let request = json!({ "prompt": format!("{text}<image>{}<image>Compare.", "b ".repeat(30)) });
        let request = request::parse(&request.to_string()).expect("sound");
        let (got, ids) = pollster::block_on(cpu.evaluate(&request, &images)).expect("evaluates");
        let (want, _) = pollster::block_on(gpu.evaluate(&request, &images)).expect("evaluates");
        let first = ids.iter().position(Option::is_none).expect("a picture");
        let diff = max_diff(&got, &want);
        println!("{first} tokens before the first picture, {} in all: {diff:.1e} between the devices", ids.len());
        assert!(diff < 2e-3, "{first} tokens before the first picture: {diff}");
    }
}
