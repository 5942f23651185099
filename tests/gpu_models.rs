//! Parity with the reference implementation on the WebGPU backend, at every stage, as `models.rs` has it for the CPU. Activations are
//! 32-bit floats in every format here, so the bounds are those of float kernels; keys and values in 16 bits have their own.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]
#![cfg(feature = "gpu")]

use crate::common;
use crate::gpu;

use common::llava::{
    complete, cosine, file, golden, golden_json, inputs, log_softmax, max_diff, options, picture, tensors, tiny_llava_on,
};
use llava_web::backend::cpu::Cpu;
use llava_web::backend::gpu::kernels::Products;
use llava_web::backend::gpu::{DeviceOptions, Gpu};
use llava_web::backend::{KvFormat, Launches, Queue, Types};
use llava_web::runtime::engine::{Engine, LoadOptions};
use llava_web::runtime::request;
use serde_json::json;

const PICTURES: [&str; 3] = ["astronaut", "chelsea", "coffee_tall"];
/// Float kernels against float32 on the same dequantized weights.
const EMBEDS: f32 = 1e-3;
const LOGITS: f32 = 2e-3;
/// What products of many rows are computed in, and the bounds that follow for embeddings and logits: 32-bit floats; operands rounded to
/// 16-bit floats; quantized weights with activations of 8 bits, as on the CPU.
const PRODUCTS: [(Products, f32, f32); 3] =
    [(Products::Float, EMBEDS, LOGITS), (Products::Half, 5e-3, 0.02), (Products::Bytes, EMBEDS, 0.5)];
/// Keys and values rounded to 16 bits.
const LOGITS_F16_KV: f32 = 0.03;

fn backend(products: Products) -> Gpu {
    Gpu::new(gpu::device(DeviceOptions { products: Some(products), ..DeviceOptions::default() })).expect("a backend")
}

fn engine(products: Products, model: &str, options: LoadOptions) -> Engine<Gpu> {
    tiny_llava_on(backend(products), model, "mmproj-legacy-f16.gguf", options).expect("loads")
}

fn evaluate(engine: &mut Engine<Gpu>, request: &serde_json::Value, images: &[llava_web::image::RgbImage]) -> Vec<f32> {
    pollster::block_on(engine.evaluate(&request::parse(&request.to_string()).expect("sound"), &inputs(images)))
        .expect("evaluates")
        .0
}

#[test]
fn picture_embeddings_are_the_reference() {
    if gpu::is_missing() {
        return;
    }
    let vision = tensors("tiny-llava/vision.safetensors");
    // The tower's weights are 16-bit floats: bytes do not come into it.
    for (products, bound, _) in &PRODUCTS[..2] {
        let mut engine = engine(*products, "tiny-llava-f16.gguf", options());
        for name in PICTURES {
            let (data, shape) = pollster::block_on(engine.embed_image(&picture(&format!("{name}.png")))).expect("embeds");
            let (expected, expected_shape) = &vision[&format!("{name}.pad.embeds")];
            assert_eq!(shape.as_slice(), expected_shape.as_slice());
            let (cosine, diff) = (cosine(&data, expected), max_diff(&data, expected));
            println!("{name} {products:?}: cosine {cosine:.7}, max difference {diff:.1e}");
            assert!(cosine > 0.9999 && diff < *bound, "{name} {products:?}: cosine {cosine}, max difference {diff}");
        }
    }
}

#[test]
fn logits_after_a_picture_are_the_reference_for_every_format() {
    if gpu::is_missing() {
        return;
    }
    let logits = tensors("tiny-llava/logits.safetensors");
    let prompt = golden_json("tiny-llava/expected.json")["prompts"][0].clone();
    for (format, products, kv_format) in [
        ("f16", Products::Float, KvFormat::F32),
        ("f16", Products::Float, KvFormat::F16),
        ("f16", Products::Half, KvFormat::F32),
        ("q8_0", Products::Float, KvFormat::F32),
        ("q4_0", Products::Float, KvFormat::F32),
        ("q4_0", Products::Half, KvFormat::F32),
        ("q4_0", Products::Bytes, KvFormat::F32),
        ("q4_1", Products::Float, KvFormat::F32),
        ("q4_k_m", Products::Float, KvFormat::F32),
        ("q4_k_m", Products::Bytes, KvFormat::F32),
    ] {
        let of_products = PRODUCTS.iter().find(|(p, ..)| *p == products).expect("in the table").2;
        let bound = if kv_format == KvFormat::F16 { LOGITS_F16_KV } else { of_products };
        let mut engine = engine(products, &format!("tiny-llava-{format}.gguf"), LoadOptions { kv_format, ..options() });
        // One picture tells whether a kernel is right; all three, whether the model is.
        for name in &PICTURES[..if products == Products::Float { 3 } else { 1 }] {
            let got = evaluate(&mut engine, &json!({ "prompt": prompt }), &[picture(&format!("{name}.png"))]);
            let diff = max_diff(&got, &logits[&format!("{name}.{format}.pad.hf.logits")].0);
            println!("{name}.{format} {products:?} {kv_format:?}: max difference {diff:.1e}");
            assert!(diff < bound, "{name}.{format} {products:?} {kv_format:?}: max difference {diff}");
        }
    }
}

#[test]
fn greedy_answers_are_the_references() {
    if gpu::is_missing() {
        return;
    }
    let expected = golden_json("tiny-llava/expected.json");
    let request = json!({ "prompt": expected["prompts"][0], "temperature": 0, "max_tokens": 16 });
    let mut compared = 0;
    for format in ["f16", "q8_0", "q4_0"] {
        let mut engine = engine(Products::Float, &format!("tiny-llava-{format}.gguf"), options());
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
    if gpu::is_missing() {
        return;
    }
    for format in ["q5_0", "q5_1", "q6_k"] {
        let path = golden(&format!("rand-tiny/rand-tiny-{format}.gguf"));
        let mut engine =
            pollster::block_on(Engine::load(backend(Products::Float), file(path), None, options(), &mut |_| {})).expect("loads");
        let worst = teacher_forced(&mut engine, &format!("rand-tiny/rand-tiny-{format}.f64.json"));
        println!("rand-tiny {format}: worst {worst:.1e}");
        assert!(worst < f64::from(LOGITS), "{format}: worst {worst}");
    }
}

#[test]
fn a_token_costs_one_submit_and_makes_nothing() {
    if gpu::is_missing() {
        return;
    }
    let mut engine = engine(Products::Half, "tiny-llava-q4_0.gguf", options());
    let report = pollster::block_on(engine.benchmark(20, 4, 1)).expect("measures");
    println!("{report:?}");
    assert_eq!(report.submits_per_token, 1.0);
    let n_layers = 3.0;
    // QKV, attention in parts, its merge, output, gate and up, down; then embedding, logits, and two to choose the next token.
    assert_eq!(report.dispatches_per_token, 6.0 * n_layers + 4.0);
    let before = engine.backend().launches();
    pollster::block_on(engine.benchmark(20, 4, 1)).expect("measures");
    let after = engine.backend().launches();
    let made = |l: Launches| (l.pipelines, l.bind_groups, l.buffers);
    assert_eq!(made(after), made(before), "a second run finds every pipeline, bind group and buffer made");
}

/// What is generated with tokens chosen on the device is what the host would choose from the logits.
#[test]
fn tokens_chosen_on_the_device_are_those_of_the_host() {
    if gpu::is_missing() {
        return;
    }
    let mut engine = engine(Products::Float, "tiny-llava-q4_0.gguf", options());
    let prompt = golden_json("tiny-llava/expected.json")["prompts"][0].clone();
    let picture = [picture("astronaut.png")];
    for sampling in [
        json!({ "temperature": 0 }),
        json!({ "temperature": 0.8, "seed": 1 }),
        json!({ "temperature": 1.2, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "seed": 2 }),
    ] {
        let mut answers = Vec::new();
        // A bias of nothing keeps the choice on the host.
        for bias in [json!({}), json!({ "5": 0.0 })] {
            let mut request = json!({ "prompt": prompt, "max_tokens": 24, "logit_bias": bias });
            request.as_object_mut().expect("an object").extend(sampling.as_object().expect("an object").clone());
            answers.push(complete(&mut engine, request, &picture).expect("answers").ids);
            engine.reset();
        }
        assert_eq!(answers[0], answers[1], "{sampling}");
        assert_eq!(answers[0].len(), 24, "{sampling}");
    }
}

/// Tokens that were run ahead and are not wanted leave no trace.
#[test]
fn an_answer_cut_short_goes_on_as_if_it_had_not_been() {
    if gpu::is_missing() {
        return;
    }
    let prompt = golden_json("tiny-llava/expected.json")["prompts"][0].as_str().expect("a prompt").to_string();
    let whole = |engine: &mut Engine<Gpu>, n: usize| {
        let request = json!({ "prompt": prompt, "temperature": 0, "max_tokens": n });
        complete(engine, request, &[picture("chelsea.png")]).expect("answers").ids
    };
    let mut first = engine(Products::Float, "tiny-llava-q4_0.gguf", options());
    let want = whole(&mut first, 20);
    for n in [1, 2, 3, 7] {
        assert_eq!(whole(&mut first, n), want[..n]);
        assert_eq!(whole(&mut first, 20), want, "after an answer of {n}");
    }
}

/// A prompt longer than the rows that are run at once here, and whose chunks are cut by layers.
#[test]
fn a_long_prompt_in_chunks_is_what_the_cpu_computes() {
    if gpu::is_missing() {
        return;
    }
    let rows = <Gpu as Types>::PREFILL_ROWS;
    let tokens: Vec<u32> = (0..rows as u32 + 75).map(|i| 3 + i * 7919 % 250).collect();
    let request = json!({ "tokens": tokens });
    for (model, products, bound) in
        [("f16", Products::Float, LOGITS), ("f16", Products::Half, 0.02), ("q4_0", Products::Bytes, 0.5)]
    {
        let model = format!("tiny-llava-{model}.gguf");
        let mut cpu = tiny_llava_on(Cpu::new(), &model, "mmproj-legacy-f16.gguf", options()).expect("loads");
        let parsed = request::parse(&request.to_string()).expect("sound");
        let want = pollster::block_on(cpu.evaluate(&parsed, &[])).expect("evaluates").0;
        for step_work in [None, Some(1)] {
            let mut engine = engine(products, &model, LoadOptions { step_work, ..options() });
            let diff = max_diff(&evaluate(&mut engine, &request, &[]), &want);
            println!("{} tokens, {products:?}: max difference {diff:.1e}", tokens.len());
            assert!(diff < bound, "{products:?}: max difference {diff}");
        }
    }
}

/// Everything that a model needs is compiled while its weights are on their way.
#[test]
fn no_kernel_is_compiled_after_loading() {
    if gpu::is_missing() {
        return;
    }
    let mut engine = engine(Products::Half, "tiny-llava-q4_k_m.gguf", options());
    let loaded = engine.backend().launches().pipelines;
    let prompt = golden_json("tiny-llava/expected.json")["prompts"][0].clone();
    for sampling in [json!({ "temperature": 0.9, "seed": 3 }), json!({ "temperature": 0, "logprobs": true })] {
        let mut request = json!({ "prompt": prompt, "max_tokens": 4 });
        request.as_object_mut().expect("an object").extend(sampling.as_object().expect("an object").clone());
        complete(&mut engine, request, &[picture("astronaut.png")]).expect("answers");
    }
    evaluate(&mut engine, &json!({ "tokens": (3..80).collect::<Vec<u32>>() }), &[]);
    assert_eq!(engine.backend().launches().pipelines, loaded);
}

/// A picture in tiles costs a dispatch for each tile to put its rows in order, whatever its shape, and leaves the bind groups of decoding alone.
#[test]
fn rows_of_tiles_are_moved_together() {
    if gpu::is_missing() {
        return;
    }
    let mut engine =
        tiny_llava_on(backend(Products::Float), "tiny-llava-q4_0.gguf", "tiny-llava-next/mmproj-legacy-f16.gguf", options())
            .expect("loads");
    let tower = |engine: &mut Engine<Gpu>, name: &str| {
        let before = engine.backend().launches();
        let (_, [n_rows, _]) = pollster::block_on(engine.embed_image(&picture(name))).expect("embeds");
        let after = engine.backend().launches();
        println!(
            "{name} in tiles: {n_rows} rows by {} dispatches in {} submits",
            after.dispatches - before.dispatches,
            after.submits - before.submits
        );
        (n_rows as u64, after.dispatches - before.dispatches)
    };
    let prompt = golden_json("tiny-llava/expected.json")["prompts"][0].as_str().expect("a prompt").replace("<image>", "");
    let ask = |engine: &mut Engine<Gpu>| {
        engine.reset();
        complete(engine, json!({ "prompt": prompt, "temperature": 0, "max_tokens": 4 }), &[]).expect("answers");
        engine.backend().launches().bind_groups
    };
    ask(&mut engine);
    let (wide_rows, wide) = tower(&mut engine, "chelsea.png");
    let (tall_rows, tall) = tower(&mut engine, "coffee_tall.png");
    // As many tiles, and another number of rows: as many dispatches.
    assert_ne!(wide_rows, tall_rows);
    assert_eq!(wide, tall, "dispatches for {wide_rows} and {tall_rows} rows");
    let before = engine.backend().launches().bind_groups;
    assert_eq!(ask(&mut engine), before, "decoding finds its bind groups as it left them");
}

/// The rotary table goes over in one piece, not position by position.
#[test]
fn loading_writes_few_pieces() {
    if gpu::is_missing() {
        return;
    }
    let writes = |n_ctx: usize| {
        let options = LoadOptions { context_size: Some(n_ctx), ..options() };
        let engine = engine(Products::Float, "tiny-llava-q4_0.gguf", options);
        engine.backend().launches().writes
    };
    let (few, many) = (writes(256), writes(2048));
    println!("{few} writes for a context of 256, {many} for 2048");
    assert_eq!(few, many);
}
