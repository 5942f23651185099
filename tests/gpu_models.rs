//! Parity with the reference implementation on the WebGPU backend, at every stage, as `models.rs` has it for the CPU. Activations are
//! 32-bit floats in every format here, so the bounds are those of float kernels; keys and values in 16 bits have their own.

mod common;
#[path = "common/gpu.rs"]
mod gpu;

use common::llava::{
    complete, cosine, file, golden, golden_json, inputs, log_softmax, max_diff, options, picture, tensors, tiny_llava_on,
};
use llava_web::backend::gpu::{DeviceOptions, Gpu};
use llava_web::backend::{Backend, KvFormat};
use llava_web::runtime::engine::{Engine, LoadOptions};
use llava_web::runtime::request;
use serde_json::json;

const PICTURES: [&str; 3] = ["astronaut", "chelsea", "coffee_tall"];
/// Float kernels against float32 on the same dequantized weights.
const EMBEDS: f32 = 1e-3;
const LOGITS: f32 = 2e-3;
/// Keys and values rounded to 16 bits.
const LOGITS_F16_KV: f32 = 0.03;

fn backend() -> Gpu {
    Gpu::new(gpu::device(DeviceOptions::default())).expect("a backend")
}

fn engine(model: &str, options: LoadOptions) -> Engine<Gpu> {
    tiny_llava_on(backend(), model, "mmproj-legacy-f16.gguf", options).expect("loads")
}

fn evaluate(engine: &mut Engine<Gpu>, request: &serde_json::Value, images: &[llava_web::image::RgbImage]) -> Vec<f32> {
    pollster::block_on(engine.evaluate(&request::parse(&request.to_string()).expect("sound"), &inputs(images)))
        .expect("evaluates")
        .0
}

#[test]
fn picture_embeddings_are_the_reference() {
    let vision = tensors("tiny-llava/vision.safetensors");
    let mut engine = engine("tiny-llava-f16.gguf", options());
    for name in PICTURES {
        let (data, shape) = pollster::block_on(engine.embed_image(&picture(&format!("{name}.png")))).expect("embeds");
        let (expected, expected_shape) = &vision[&format!("{name}.pad.embeds")];
        assert_eq!(shape.as_slice(), expected_shape.as_slice());
        let (cosine, diff) = (cosine(&data, expected), max_diff(&data, expected));
        println!("{name}: cosine {cosine:.7}, max difference {diff:.1e}");
        assert!(cosine > 0.9999 && diff < EMBEDS, "{name}: cosine {cosine}, max difference {diff}");
    }
}

#[test]
fn logits_after_a_picture_are_the_reference_for_every_format() {
    let logits = tensors("tiny-llava/logits.safetensors");
    let prompt = golden_json("tiny-llava/expected.json")["prompts"][0].clone();
    for format in ["f16", "q8_0", "q4_0", "q4_1", "q4_k_m"] {
        let kv_formats = [(KvFormat::F32, LOGITS), (KvFormat::F16, LOGITS_F16_KV)];
        // What 16 bits cost keys and values does not depend on the weights' format.
        for (kv_format, bound) in &kv_formats[..if format == "f16" { 2 } else { 1 }] {
            let (kv_format, bound) = (*kv_format, *bound);
            let mut engine = engine(&format!("tiny-llava-{format}.gguf"), LoadOptions { kv_format, ..options() });
            for name in PICTURES {
                let got = evaluate(&mut engine, &json!({ "prompt": prompt }), &[picture(&format!("{name}.png"))]);
                let diff = max_diff(&got, &logits[&format!("{name}.{format}.pad.hf.logits")].0);
                println!("{name}.{format} {kv_format:?}: max difference {diff:.1e}");
                assert!(diff < bound, "{name}.{format} {kv_format:?}: max difference {diff}");
            }
        }
    }
}

#[test]
fn greedy_answers_are_the_references() {
    let expected = golden_json("tiny-llava/expected.json");
    let request = json!({ "prompt": expected["prompts"][0], "temperature": 0, "max_tokens": 16 });
    let mut compared = 0;
    for format in ["f16", "q8_0", "q4_0"] {
        let mut engine = engine(&format!("tiny-llava-{format}.gguf"), options());
        for name in PICTURES {
            let golden = &expected["greedy"][format!("{name}.{format}.pad.hf")];
            let answer = complete(&mut engine, request.clone(), &[picture(&format!("{name}.png"))]).expect("answers");
            let tokens = golden["tokens"].as_array().expect("tokens").iter().map(|t| t.as_u64().expect("an id") as u32);
            let margins = golden["margins"].as_array().expect("margins").iter().map(|m| m.as_f64().expect("a number"));
            // Beyond a margin of twice the bound either token is right, and what follows is another answer.
            let sure = margins.take_while(|m| *m >= 2.0 * f64::from(LOGITS)).count();
            assert_eq!(answer.ids[..sure], tokens.take(sure).collect::<Vec<_>>(), "{name}.{format}");
            compared += sure;
        }
    }
    assert!(compared >= 6 * 16, "the margins allow {compared} tokens to be compared");
}

/// Teacher-forces the golden ids; gives the worst difference of the golden log-probabilities.
fn teacher_forced(engine: &mut Engine<Gpu>, golden_file: &str) -> f64 {
    let golden = golden_json(golden_file);
    let mut worst = 0.0f64;
    for prompt in golden["prompts"].as_array().expect("prompts") {
        let ids =
            |key: &str| -> Vec<u64> { prompt[key].as_array().expect("ids").iter().map(|i| i.as_u64().expect("an id")).collect() };
        let (mut tokens, generated) = (ids("prompt_ids"), ids("gen_ids"));
        for (step, top5) in prompt["top5_logprobs"].as_array().expect("steps").iter().enumerate() {
            let got = log_softmax(&evaluate(engine, &json!({ "tokens": tokens }), &[]));
            for pair in top5.as_array().expect("five") {
                let (id, logprob) = (pair[0].as_u64().expect("an id"), pair[1].as_f64().expect("a number"));
                worst = worst.max((got[id as usize] - logprob).abs());
            }
            tokens.push(generated[step]);
        }
    }
    worst
}

#[test]
fn random_models_of_the_other_formats_agree_with_float64() {
    for format in ["q5_0", "q5_1", "q6_k"] {
        let path = golden(&format!("rand-tiny/rand-tiny-{format}.gguf"));
        let mut engine = pollster::block_on(Engine::load(backend(), file(path), None, options(), &mut |_| {})).expect("loads");
        let worst = teacher_forced(&mut engine, &format!("rand-tiny/rand-tiny-{format}.f64.json"));
        println!("rand-tiny {format}: worst {worst:.1e}");
        assert!(worst < f64::from(LOGITS), "{format}: worst {worst}");
    }
}

#[test]
fn a_token_costs_one_submit_and_makes_no_bind_group() {
    let mut engine = engine("tiny-llava-q4_0.gguf", options());
    let report = pollster::block_on(engine.benchmark(20, 4, 1)).expect("measures");
    println!("{report:?}");
    assert_eq!(report.submits_per_token, 1.0);
    let n_layers = 3.0;
    // Norm, QKV, attention, output, norm, gate and up, down; then embedding, last row, norm, logits.
    assert_eq!(report.dispatches_per_token, 7.0 * n_layers + 4.0);
    let before = engine.backend().launches().bind_groups;
    pollster::block_on(engine.benchmark(20, 4, 1)).expect("measures");
    assert_eq!(engine.backend().launches().bind_groups, before, "a second run finds all bind groups made");
}
