//! What happens when the GPU goes away, or has not the memory that a model needs.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]
#![cfg(feature = "gpu")]

use crate::common;
use crate::gpu;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use common::llava::{Answer, complete, file, finish, golden, golden_bytes, golden_json, inputs, options, picture, tiny_llava_on};
use llava_web::backend::cpu::Cpu;
use llava_web::backend::gpu::{Device, DeviceOptions, Gpu};
use llava_web::backend::{Backend, Queue};
use llava_web::error::{Error, Result};
use llava_web::gguf::source::LocalFuture;
use llava_web::gguf::{MemorySource, RangedSource};
use llava_web::image::RgbImage;
use llava_web::runtime::engine::{Engine, Event, FinishReason, LoadOptions};
use llava_web::runtime::request;
use serde_json::{Value, json};

const PROMPT: &str = "USER: <image>\nWhat is in this image? ASSISTANT:";

fn engine() -> Engine<Gpu> {
    // A layer a step: losses fall amid the prompt.
    engine_with(LoadOptions { step_work: Some(1), ..options() })
}

fn engine_with(options: LoadOptions) -> Engine<Gpu> {
    let backend = Gpu::new(gpu::device(DeviceOptions::default())).expect("a backend");
    tiny_llava_on(backend, "tiny-llava-f16.gguf", "mmproj-legacy-f16.gguf", options).expect("loads")
}

fn start(engine: &mut Engine<Gpu>, request: &Value, images: &[RgbImage]) {
    engine.start_completion(&request::parse(&request.to_string()).expect("sound"), &inputs(images)).expect("starts");
}

fn add(answer: &mut Answer, event: Event) -> bool {
    match event {
        Event::Progress { stage, done, total } => answer.stages.push((stage, done, total)),
        Event::Token { text, token_ids, logprobs, .. } => {
            answer.text += &text;
            answer.ids.extend(token_ids);
            answer.logprobs.extend(logprobs.into_iter().flatten());
        }
        Event::Done { text, finish_reason, usage, .. } => {
            answer.text += &text;
            answer.finish_reason = Some(finish_reason);
            answer.usage = usage;
            return true;
        }
    }
    false
}

/// The answer of such an engine where the device is destroyed before these steps, and another one takes over each time.
fn answer_with_losses(open: impl Fn() -> Engine<Gpu>, request: &Value, images: &[RgbImage], losses: &[usize]) -> Answer {
    let mut engine = open();
    start(&mut engine, request, images);
    let mut answer = Answer::default();
    for step in 0.. {
        if losses.contains(&step) {
            engine.backend().device().destroy();
        }
        match pollster::block_on(engine.step()) {
            Ok(event) => {
                if add(&mut answer, event) {
                    break;
                }
            }
            Err(error) => {
                assert_eq!(error.code(), "device_lost", "{error}");
                let rescued = engine.rescue();
                assert!(rescued.is_generating());
                engine = open();
                engine.resume(rescued).expect("takes over");
            }
        }
    }
    answer
}

fn assert_same(got: &Answer, expected: &Answer, what: &str) {
    assert_eq!(got.text, expected.text, "{what}");
    assert_eq!(got.ids, expected.ids, "{what}");
    let logprobs = |answer: &Answer| answer.logprobs.iter().map(|t| t.logprob).collect::<Vec<_>>();
    assert_eq!(logprobs(got), logprobs(expected), "{what}: the very same numbers");
    assert_eq!(got.finish_reason, expected.finish_reason, "{what}");
    let counts = |answer: &Answer| {
        let u = answer.usage;
        (u.prompt_tokens, u.completion_tokens, u.total_tokens, u.image_tokens)
    };
    assert_eq!(counts(got), counts(expected), "{what}");
}

/// A form that is soon filled in.
fn form() -> Value {
    json!({ "type": "json_schema", "json_schema": { "name": "form", "schema": {
        "type": "object", "properties": {
            "a": { "type": "string", "maxLength": 6 }, "b": { "enum": ["yes", "no"] },
            "c": { "type": "array", "items": { "type": "integer", "minimum": 10, "maximum": 99 }, "maxItems": 3 },
        }, "required": ["a", "b", "c"],
    } } })
}

/// Requests that use every part of what a generation remembers.
fn requests() -> Vec<(&'static str, Value, Vec<RgbImage>)> {
    let long = format!("{PROMPT}{}", " and why".repeat(20));
    vec![
        ("greedy", json!({ "prompt": long, "temperature": 0, "max_tokens": 12, "logprobs": true }), vec![picture("chelsea.png")]),
        (
            "drawn",
            json!({
                "prompt": "A <image> and a <image>, and again a <image>:", "temperature": 1.4, "seed": 5, "top_p": 0.95, "max_tokens": 10,
                "repetition_penalty": 1.3, "frequency_penalty": 0.5, "stop": ["zzz"], "logprobs": true,
            }),
            vec![picture("chelsea.png"), picture("astronaut.png"), picture("chelsea.png")],
        ),
        ("text", json!({ "prompt": "Hello", "temperature": 0.8, "seed": 1, "max_tokens": 8, "logprobs": true }), vec![]),
        (
            "in a form",
            json!({ "prompt": "Hello", "seed": 1, "max_tokens": 60, "logprobs": true, "response_format": form() }),
            vec![],
        ),
    ]
}

#[test]
fn an_answer_goes_on_where_its_device_was_lost() {
    if gpu::is_missing() {
        return;
    }
    let mut n_losses = 0;
    for (name, request, images) in requests() {
        let expected = answer_with_losses(engine, &request, &images, &[]);
        assert!(expected.ids.len() >= 8, "{name}: {:?}", expected.ids);
        if name == "in a form" {
            let value: Value = serde_json::from_str(&expected.text).expect("it parses");
            assert!(value["a"].is_string() && value["b"].is_string() && value["c"].is_array(), "{value}");
            assert_eq!(expected.finish_reason, Some(FinishReason::Stop));
        }
        let n_steps = expected.stages.len() + expected.ids.len();
        // Each loss loads a model, so not before every step: the steps around the first token and the last ones are all there, of the others
        // every fourth of one request and every sixteenth of the others, which go the same ways.
        let (first, every) = (expected.stages.len(), if name == "greedy" { 4 } else { 16 });
        for loss in (0..=n_steps).filter(|step| step % every == 0 || step.abs_diff(first) < 2 || *step + 1 >= n_steps) {
            let got = answer_with_losses(engine, &request, &images, &[loss]);
            n_losses += 1;
            assert_same(&got, &expected, &format!("{name}, lost before step {loss} of {n_steps}"));
            let has_recovered = got.stages.iter().any(|s| s.0 == "recovering");
            // Before the first token the prompt begins anew, and nobody need know.
            let amid = loss > expected.stages.len() && loss < n_steps;
            assert_eq!(has_recovered, amid, "{name}, lost before step {loss} of {n_steps}: {:?}", got.stages);
        }
    }
    println!("{n_losses} losses");
}

/// A structure that a context can have beyond LLaVA's: the folder of a family that has it, and how large a picture is asked about.
struct Structure {
    folder: &'static str,
    width: usize,
    height: usize,
}

impl Structure {
    fn open(&self) -> Engine<Gpu> {
        let model = file(golden(&format!("{0}/{0}-f16.gguf", self.folder)));
        let mmproj = Some(file(golden(&format!("{}/mmproj-f16.gguf", self.folder))));
        let backend = Gpu::new(gpu::device(DeviceOptions::default())).expect("a backend");
        let options = LoadOptions { step_work: Some(1), ..options() };
        pollster::block_on(Engine::load(backend, model, mmproj, options, &mut |_| {}))
            .unwrap_or_else(|e| panic!("{}: {e}", self.folder))
    }

    /// The upper left corner of the cat.
    fn picture(&self) -> RgbImage {
        let whole = picture("chelsea.png");
        let lines = whole.data().chunks_exact(3 * whole.width()).take(self.height);
        let data = lines.flat_map(|line| &line[..3 * self.width]).copied().collect();
        RgbImage::new(self.width as u32, self.height as u32, data).expect("a picture")
    }

    /// The reference data's question about one picture.
    fn prompt(&self) -> String {
        let expected = golden_json(&format!("{}/expected.json", self.folder));
        let prompt = expected["prompts"]["one"].as_str().or(expected["prompt"].as_str()).expect("a prompt");
        prompt.replace("{image}", "<image>")
    }
}

/// An answer about a picture goes on to the bit where its device was lost, and so does the conversation from a saved session, in another
/// engine.
fn goes_on(of: &Structure) {
    if gpu::is_missing() {
        return;
    }
    let (name, images) = (of.folder, [of.picture()]);
    let ask = |prompt: &str| json!({ "prompt": prompt, "temperature": 0, "max_tokens": 8, "logprobs": true, "top_logprobs": 2 });
    let request = ask(&of.prompt());
    let expected = answer_with_losses(|| of.open(), &request, &images, &[]);
    assert_eq!(expected.ids.len(), 8, "{name}: {:?}", expected.finish_reason);
    assert!(expected.usage.image_tokens > 0);
    let first = expected.stages.len();
    let of_picture = expected.stages.iter().filter(|stage| stage.0 == "image").count();
    assert!(of_picture > 1 && of_picture < first, "{name}: {:?}", expected.stages);
    // Amid the picture, amid the prompt behind it, and amid the answer.
    for loss in [of_picture / 2, of_picture.midpoint(first), first + 4] {
        let got = answer_with_losses(|| of.open(), &request, &images, &[loss]);
        assert_same(&got, &expected, &format!("{name}, lost before step {loss} of {}", first + 8));
        assert_eq!(got.stages.iter().any(|stage| stage.0 == "recovering"), loss > first, "{name}, lost before step {loss}");
    }
    let twice = answer_with_losses(|| of.open(), &request, &images, &[first + 3, first + 6]);
    assert_same(&twice, &expected, &format!("{name}, lost twice"));

    let mut engine = of.open();
    assert_same(&complete(&mut engine, request, &images).expect("answers"), &expected, &format!("{name}, at once"));
    let mut saved = Vec::new();
    pollster::block_on(engine.save_session(&mut |bytes| saved.extend_from_slice(bytes))).expect("saves");
    let more = ask(&format!("{}{} And", of.prompt(), expected.text));
    let mut other = of.open();
    pollster::block_on(other.restore_session(saved.as_slice())).expect("restores");
    let (here, there) = (complete(&mut engine, more.clone(), &images), complete(&mut other, more, &images));
    let (here, there) = (here.expect("answers"), there.expect("answers"));
    assert_same(&there, &here, &format!("{name}, from a saved session"));
    for answer in [&here, &there] {
        assert!(answer.usage.cached_tokens > expected.usage.image_tokens, "{name}: {:?}", answer.usage);
        assert!(answer.stages.iter().all(|stage| stage.0 != "image"), "{name}: the picture's rows are there");
    }
    assert_eq!(here.usage.cached_tokens, there.usage.cached_tokens, "{name}");
    println!("{name}: lost five times, and saved");
}

#[test]
fn tiles_with_their_marks_go_on() {
    goes_on(&Structure { folder: "tiny-smolvlm", width: 400, height: 300 });
}

#[test]
fn the_state_of_convolutions_goes_on() {
    goes_on(&Structure { folder: "tiny-lfm2vl", width: 112, height: 84 });
}

#[test]
fn positions_apart_from_slots_go_on() {
    goes_on(&Structure { folder: "tiny-qwen2vl", width: 112, height: 84 });
}

#[test]
fn rows_behind_later_layers_go_on() {
    goes_on(&Structure { folder: "tiny-qwen3vl", width: 112, height: 84 });
}

#[test]
fn losses_amid_a_recovery_are_recovered_from() {
    if gpu::is_missing() {
        return;
    }
    let (name, request, images) = requests().swap_remove(0);
    let expected = answer_with_losses(engine, &request, &images, &[]);
    let first = expected.stages.len() + 3;
    for gap in [1, 2, 4, 9] {
        let got = answer_with_losses(engine, &request, &images, &[first, first + gap, first + 2 * gap + 1]);
        assert_same(&got, &expected, &format!("{name}, {gap} steps apart"));
    }
}

#[test]
fn what_a_recovery_costs_is_not_the_answers_cost() {
    if gpu::is_missing() {
        return;
    }
    let (_, request, images) = requests().swap_remove(0);
    let mut engine = engine();
    let asked = Instant::now();
    start(&mut engine, &request, &images);
    let mut answer = Answer::default();
    while answer.ids.len() < 8 {
        add(&mut answer, pollster::block_on(engine.step()).expect("steps"));
    }
    let mut all = asked.elapsed();
    let rescued = engine.rescue();
    engine = self::engine();
    engine.resume(rescued).expect("takes over");
    let mut replay = Duration::ZERO;
    loop {
        let before = Instant::now();
        let is_done = add(&mut answer, pollster::block_on(engine.step()).expect("steps"));
        all += before.elapsed();
        if answer.ids.len() == 8 {
            replay += before.elapsed();
        }
        if is_done {
            break;
        }
    }
    let usage = answer.usage;
    let counted = Duration::from_secs_f64((usage.image_ms + usage.prefill_ms + usage.decode_ms) / 1e3);
    println!("{all:?} in all, {replay:?} to recover, {counted:?} counted");
    assert!(replay > Duration::ZERO && counted <= all - replay);
    assert!(usage.prefill_tokens_per_second > 0.0 && usage.decode_tokens_per_second > 0.0, "{usage:?}");
}

#[test]
fn a_generation_without_a_device_can_be_stopped() {
    if gpu::is_missing() {
        return;
    }
    let (_, request, images) = requests().swap_remove(0);
    let expected = answer_with_losses(engine, &request, &images, &[]);
    let mut engine = engine();
    start(&mut engine, &request, &images);
    let mut answer = Answer::default();
    while answer.ids.len() < 5 {
        add(&mut answer, pollster::block_on(engine.step()).expect("steps"));
    }
    engine.backend().device().destroy();
    assert_eq!(pollster::block_on(engine.step()).expect_err("is lost").code(), "device_lost");
    let mut rescued = engine.rescue();
    assert!(add(&mut answer, rescued.abort().expect("ends")));
    assert_eq!((answer.finish_reason, &answer.ids[..]), (Some(FinishReason::Abort), &expected.ids[..5]));
    assert_eq!(answer.usage.completion_tokens, 5);
    assert!(rescued.abort().is_none() && !rescued.is_generating());
    // What is left is an engine as good as new.
    let mut engine = self::engine();
    engine.resume(rescued).expect("takes over");
    assert!(!engine.is_generating());
    assert_same(&complete(&mut engine, request, &images).expect("answers"), &expected, "the next request");
}

#[test]
fn a_question_after_a_recovery_finds_the_conversation() {
    if gpu::is_missing() {
        return;
    }
    let mut engine = engine_with(options());
    let request = json!({ "prompt": PROMPT, "temperature": 0, "max_tokens": 6 });
    let images = [picture("chelsea.png")];
    start(&mut engine, &request, &images);
    let mut answer = Answer::default();
    while answer.ids.len() < 3 {
        add(&mut answer, pollster::block_on(engine.step()).expect("steps"));
    }
    let rescued = engine.rescue();
    engine = engine_with(options());
    engine.resume(rescued).expect("takes over");
    finish(&mut engine).expect("ends");
    let again = complete(&mut engine, request, &images).expect("answers");
    assert_eq!(again.usage.cached_tokens, again.usage.prompt_tokens - 1);
    assert!(again.stages.iter().all(|s| s.0 != "image"), "the picture's rows are there: {:?}", again.stages);
    assert_eq!(again.usage.image_ms, 0.0);
}

#[test]
fn every_call_on_a_lost_device_says_so() {
    if gpu::is_missing() {
        return;
    }
    let images = [picture("chelsea.png")];
    let mut engine = engine();
    engine.backend().device().destroy();
    let lost = |error: Error| assert_eq!(error.code(), "device_lost", "{error}");
    lost(pollster::block_on(async {
        let e = engine.embed_image(&images[0]).await.expect_err("embed_image");
        engine.cause(e).await
    }));
    let request = request::parse(&json!({ "prompt": PROMPT }).to_string()).expect("sound");
    lost(pollster::block_on(async {
        let e = engine.evaluate(&request, &inputs(&images)).await.expect_err("evaluate");
        engine.cause(e).await
    }));
    lost(pollster::block_on(async {
        let e = engine.benchmark(4, 2, 1).await.expect_err("benchmark");
        engine.cause(e).await
    }));
}

#[test]
fn failures_of_a_lost_device_are_put_down_to_its_loss() {
    if gpu::is_missing() {
        return;
    }
    let device = gpu::device(DeviceOptions::default());
    let mut backend = Gpu::new(device.clone()).expect("a backend");
    for error in [Error::out_of_memory("16 bytes"), Error::internal("x"), Error::invalid_request("y")] {
        assert_eq!(pollster::block_on(backend.cause(error.clone())), error, "a device that is there");
    }
    device.destroy();
    for (error, code) in [
        (Error::out_of_memory("16 bytes"), "device_lost"),
        (Error::internal("x"), "device_lost"),
        (Error::invalid_request("y"), "invalid_request"),
    ] {
        assert_eq!(pollster::block_on(backend.cause(error)).code(), code);
    }
}

#[test]
fn an_answer_does_not_go_on_with_another_model() {
    if gpu::is_missing() {
        return;
    }
    let mut engine = engine();
    start(&mut engine, &json!({ "prompt": PROMPT, "max_tokens": 4 }), &[picture("chelsea.png")]);
    let rescued = engine.rescue();
    let backend = Gpu::new(gpu::device(DeviceOptions::default())).expect("a backend");
    let blind = file(golden("tiny-llava/tiny-llava-f16.gguf"));
    let mut other = pollster::block_on(Engine::load(backend, blind, None, options(), &mut |_| {})).expect("loads");
    assert_eq!(other.resume(rescued).expect_err("sees no pictures").code(), "invalid_request");
    assert!(!other.is_generating());
}

/// A file that tells how far it was read.
struct Watched {
    file: MemorySource,
    end: Rc<Cell<u64>>,
}

impl RangedSource for Watched {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn len(&self) -> Option<u64> {
        self.file.len()
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        self.end.set(self.end.get().max(offset + out.len() as u64));
        self.file.read(offset, out)
    }
}

/// Loads the tiny LLaVA; gives how far the language model's file was read.
fn load_watched<B: Backend>(backend: B) -> (Result<Engine<B>>, u64, u64) {
    let file = MemorySource::new("tiny.gguf", golden_bytes("tiny-llava/tiny-llava-f16.gguf"));
    let (end, length) = (Rc::new(Cell::new(0)), file.len().expect("known"));
    let source: Vec<Box<dyn RangedSource>> = vec![Box::new(Watched { file, end: end.clone() })];
    let mmproj = common::llava::file(golden("tiny-llava/mmproj-legacy-f16.gguf"));
    let engine = pollster::block_on(Engine::load(backend, source, Some(mmproj), options(), &mut |_| {}));
    (engine, end.get(), length)
}

/// The numbers in a text.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

fn gpu_with(memory_limit: Option<u64>) -> (Rc<Device>, Gpu) {
    let device = gpu::device(DeviceOptions { memory_limit, ..DeviceOptions::default() });
    (device.clone(), Gpu::new(device).expect("a backend"))
}

#[test]
fn a_model_beyond_the_gpus_memory_is_refused_before_it_is_read() {
    if gpu::is_missing() {
        return;
    }
    let (device, backend) = gpu_with(None);
    let before = device.bytes_in_use();
    let (engine, end, length) = load_watched(backend);
    let engine = engine.expect("loads");
    assert_eq!(end, length, "all of it is read where there is room");
    let info = engine.info().bytes;
    let needed = device.bytes_in_use() - before;
    drop(engine);
    assert_eq!(device.bytes_in_use(), 0, "all is given back");

    for room in [0, 100_000, info.weights / 2, info.weights - 1, info.weights + info.kv_cache - 1, needed * 9 / 10] {
        let (device, backend) = gpu_with(Some(before + room));
        let (engine, end, _) = load_watched(backend);
        let error = engine.err().expect("does not fit");
        println!("{room}: {error}");
        assert_eq!(error.code(), "out_of_memory");
        let told = numbers(error.message());
        assert!(told[0] >= needed * 9 / 10 && told[0] < needed * 2, "{} of {needed} bytes are told", told[0]);
        assert!(error.message().contains("device \"cpu\""), "{error}");
        let granted = numbers(error.message().split("after").nth(1).expect("what there was"))[0];
        assert!(granted <= room, "{granted} bytes of {room} are told");
        assert!(granted + (4 << 20) > room.min(needed), "{granted} bytes of {room} are told");
        // The header ends at 46 kB; what is read beyond belongs to the reading of it.
        assert!(end < 1 << 20, "{end} bytes were read");
        assert_eq!(device.bytes_in_use(), 0, "all is given back");
    }
    let (_, backend) = gpu_with(Some(before + needed + needed / 2));
    assert!(load_watched(backend).0.is_ok(), "with room enough it loads");
}

#[test]
fn a_model_beyond_the_cpus_memory_is_refused_before_it_is_read() {
    let engine = load_watched(Cpu::new()).0.expect("loads");
    let taken = engine.info().bytes.weights + engine.info().bytes.kv_cache;
    for limit in [0, 1000, taken / 2, taken] {
        let (engine, end, _) = load_watched(Cpu::with_memory_limit(limit));
        let error = engine.err().expect("does not fit");
        println!("{limit}: {error}");
        assert_eq!(error.code(), "out_of_memory");
        let told = numbers(error.message());
        assert!(told[0] > taken && told.contains(&limit), "{error}");
        assert!(end < 1 << 20, "{end} bytes were read");
    }
    assert!(load_watched(Cpu::with_memory_limit(2 * taken)).0.is_ok());
}
