//! A model whose layers are mostly short convolutions, which remember what keys and values do not: a context that is cut back, saved,
//! restored or looked into is what a fresh one would be, on either device.

use crate::common;
#[cfg(feature = "gpu")]
use crate::gpu;

use std::hash::Hasher;

use common::llava::{Answer, chat, complete, file, golden, max_diff, options, picture};
use llava_web::Error;
use llava_web::backend::cpu::Cpu;
use llava_web::backend::{Backend, KvFormat};
use llava_web::image::RgbImage;
use llava_web::runtime::engine::{Engine, Event, FinishReason, LoadOptions};
use llava_web::runtime::looked_at::LookedAt;
use llava_web::runtime::request;
use serde_json::{Value, json};
use siphasher::sip::SipHasher13;

/// Slots between two checkpoints.
const RING: usize = llava_web::backend::CONV_RING;

fn load<B: Backend>(backend: B, options: LoadOptions) -> Engine<B> {
    let model = file(golden("tiny-lfm2vl/tiny-lfm2vl-f16.gguf"));
    let mmproj = Some(file(golden("tiny-lfm2vl/mmproj-f16.gguf")));
    pollster::block_on(Engine::load(backend, model, mmproj, options, &mut |_| {})).expect("loads")
}

fn cpu() -> Engine<Cpu> {
    load(Cpu::new(), options())
}

/// A prompt of `n` tokens that begins as all others of this kind do, and then goes a way of its own.
fn prompt(n_common: usize, own: &str) -> Value {
    let words = ["weights", "batch", "seqlen", "ord", "model", "token", "image", "row"];
    let common: Vec<&str> = (0..n_common).map(|i| words[(i * i + i / 3) % words.len()]).collect();
    json!({ "prompt": format!("<|startoftext|>{} {own}", common.join(" ")), "temperature": 0, "max_tokens": 12, "logprobs": true })
}

fn logprobs(answer: &Answer) -> Vec<f32> {
    answer.logprobs.iter().map(|l| l.logprob).collect()
}

/// Two answers to the same prompt, one of which used what was there before: products of a row and of many add up in different orders.
fn assert_alike(got: &Answer, want: &Answer, what: &str) {
    assert_eq!(got.ids, want.ids, "{what}");
    let difference = max_diff(&logprobs(got), &logprobs(want));
    assert!(difference < 1e-3, "{what}: log-probabilities differ by {difference}");
}

/// Answers from contexts that were cut back by as much as each of several prompts asks for.
fn cut_back<B: Backend>(make: impl Fn() -> Engine<B>) {
    let mut used = make();
    let mut fresh = make();
    let mut kept = Vec::new();
    for n_words in [20, 60, 130, 260] {
        // Answered by the device itself, which runs tokens beyond the last; then the same once more, and others that part from it early and late.
        let long = prompt(n_words, "and so on");
        let mut asked = long.clone();
        asked.as_object_mut().expect("an object").remove("logprobs");
        complete(&mut used, asked.clone(), &[]).expect("answers");
        let ways = [
            long.clone(),
            long.clone(),
            prompt(n_words, "or not"),
            prompt(n_words - n_words / 5, "or else"),
            prompt(n_words / 2, "but"),
            prompt(2, "no"),
            long,
        ];
        for (i, way) in ways.into_iter().enumerate() {
            let got = complete(&mut used, way.clone(), &[]).expect("answers");
            fresh.reset();
            let want = complete(&mut fresh, way, &[]).expect("answers");
            assert_eq!(want.usage.cached_tokens, 0);
            kept.push(got.usage.cached_tokens);
            assert_alike(&got, &want, &format!("{n_words} words, way {i}, {:?}", got.usage));
        }
    }
    println!("positions kept: {kept:?}");
    assert!(kept.iter().any(|n| *n > 0 && n % RING == 0), "some go back to a checkpoint: {kept:?}");
    assert!(kept.iter().any(|n| *n > RING && n % RING != 0), "some need none: {kept:?}");
}

#[test]
fn a_context_that_is_cut_back_is_a_fresh_one_on_the_cpu() {
    cut_back(cpu);
}

#[test]
#[cfg(feature = "gpu")]
fn a_context_that_is_cut_back_is_a_fresh_one_on_the_gpu() {
    if gpu::is_missing() {
        return;
    }
    let make = gpu::float_backends();
    cut_back(|| load(make(), options()));
}

fn question(text: &str) -> Value {
    json!({ "role": "user", "content": [{ "type": "image", "image": 0 }, { "type": "text", "text": text }] })
}

/// A conversation about a picture: a follow-up, another answer to it, and the last question edited; and an answer that was stopped amid its
/// prompt, layer by layer.
fn conversation<B: Backend>(make: impl Fn(LoadOptions) -> Engine<B>) {
    let image = [picture("coffee_tall.png")];
    let mut used = make(LoadOptions { step_work: Some(1), ..options() });
    let mut fresh = make(options());
    let long = "What is in this image? ".repeat(12);
    let first = json!({ "messages": [question(&long)], "temperature": 0, "max_tokens": 40 });
    let answer = chat(&mut used, first.clone(), &image).expect("answers");
    let and_then = |text: &str| {
        json!({ "messages": [question(&long), { "role": "assistant", "content": answer.text }, { "role": "user", "content": text }],
                "temperature": 0, "max_tokens": 6, "logprobs": true })
    };
    let ways = [and_then("And why?"), and_then("And why?"), and_then("Who says so, and what for?"), and_then("And why?")];
    for (i, way) in ways.into_iter().enumerate() {
        if i == 2 {
            // Some layers are run for rows that the context then does not have.
            used.start_chat(&request::parse(&and_then(&long).to_string()).expect("sound"), &common::llava::inputs(&image))
                .expect("starts");
            for _ in 0..3 {
                let event = pollster::block_on(used.step()).expect("steps");
                assert!(matches!(event, Event::Progress { stage: "prefill", .. }), "{event:?}");
            }
            used.abort();
            assert!(matches!(pollster::block_on(used.step()), Ok(Event::Done { finish_reason: FinishReason::Abort, .. })));
        }
        let got = chat(&mut used, way.clone(), &image).expect("answers");
        fresh.reset();
        let want = chat(&mut fresh, way, &image).expect("answers");
        assert!(got.usage.cached_tokens > 64, "way {i}: {:?}", got.usage);
        assert_alike(&got, &want, &format!("way {i}, {:?}", got.usage));
    }
}

#[test]
fn a_conversation_goes_on_as_if_it_were_new_on_the_cpu() {
    conversation(|options| load(Cpu::new(), options));
}

#[test]
#[cfg(feature = "gpu")]
fn a_conversation_goes_on_as_if_it_were_new_on_the_gpu() {
    if gpu::is_missing() {
        return;
    }
    let make = gpu::float_backends();
    conversation(|options| load(make(), options));
}

fn save<B: Backend>(engine: &mut Engine<B>) -> Vec<u8> {
    let n_bytes = engine.session_bytes().expect("can be saved");
    let mut bytes = Vec::new();
    pollster::block_on(engine.save_session(&mut |piece| bytes.extend_from_slice(piece))).expect("saves");
    assert_eq!(bytes.len() as u64, n_bytes, "as many as were promised");
    bytes
}

fn restore<B: Backend>(engine: &mut Engine<B>, bytes: &[u8]) -> Result<(), Error> {
    pollster::block_on(engine.restore_session(bytes))
}

/// The same continuation from the conversation itself and from what was saved of it, to the bit.
fn saved<B: Backend>(make: impl Fn(LoadOptions) -> Engine<B>) {
    for (kv_format, n_words) in [(KvFormat::F16, 10), (KvFormat::F32, 61), (KvFormat::F16, 62), (KvFormat::F16, 210)] {
        let what = format!("{kv_format:?}, {n_words} words");
        let make = || make(LoadOptions { kv_format, ..options() });
        let mut whole = make();
        let mut request = prompt(n_words, "and so on");
        request.as_object_mut().expect("an object").remove("logprobs");
        complete(&mut whole, request, &[]).expect("answers");
        let bytes = save(&mut whole);
        for way in [prompt(n_words, "and so on it goes"), prompt(n_words / 2, "or not")] {
            let mut other = make();
            complete(&mut other, prompt(20, "something else"), &[]).expect("answers");
            restore(&mut other, &bytes).expect("restores");
            assert_eq!(save(&mut other), bytes, "{what}: what is saved again is the same");
            let [got, want] = [&mut other, &mut whole].map(|engine| complete(engine, way.clone(), &[]).expect("answers"));
            assert_eq!((got.usage.cached_tokens, &got.ids), (want.usage.cached_tokens, &want.ids), "{what}");
            assert_eq!(logprobs(&got), logprobs(&want), "{what}");
            // The conversation itself is brought back to where it was saved.
            restore(&mut whole, &bytes).expect("restores");
        }
    }
}

#[test]
fn a_saved_conversation_goes_on_to_the_bit_on_the_cpu() {
    saved(|options| load(Cpu::new(), options));
}

#[test]
#[cfg(feature = "gpu")]
fn a_saved_conversation_goes_on_to_the_bit_on_the_gpu() {
    if gpu::is_missing() {
        return;
    }
    let make = gpu::float_backends();
    saved(|options| load(make(), options));
}

#[test]
fn states_that_contradict_themselves_are_refused_and_change_nothing() {
    let mut engine = cpu();
    complete(&mut engine, prompt(100, "and so on"), &[]).expect("answers");
    let bytes = save(&mut engine);
    let n = u32::from_le_bytes(bytes[52..56].try_into().expect("four"));
    let first = u32::from_le_bytes(bytes[68..72].try_into().expect("four"));
    assert_eq!((n - first) as usize, RING, "{n} tokens, from {first} on one by one");
    let with = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        let end = bytes.len() - 8;
        let mut hasher = SipHasher13::new();
        hasher.write(&bytes[..end]);
        bytes[end..].copy_from_slice(&hasher.finish().to_le_bytes());
        bytes
    };
    let last = bytes.len() - 12;
    for (what, damaged, code, word) in [
        ("no convolutions", with(60, &[0; 4]), "invalid_request", "loaded"),
        ("others", with(64, &64u32.to_le_bytes()), "invalid_request", "loaded"),
        ("more than the ring holds", with(68, &(first - 1).to_le_bytes()), "integrity", "contradicts"),
        ("less than there is", with(68, &(first + 1).to_le_bytes()), "integrity", "contradicts"),
        ("behind the end", with(68, &u32::MAX.to_le_bytes()), "integrity", "contradicts"),
        ("a product that is no number", with(last, &f32::NAN.to_le_bytes()), "integrity", "not numbers"),
    ] {
        let error = restore(&mut engine, &damaged).expect_err(what);
        assert_eq!(error.code(), code, "{what}: {error}");
        assert!(error.message().contains(word), "{what}: {error}");
    }
    assert_eq!(save(&mut engine), bytes, "nothing has changed");
}

fn looked_at<B: Backend>(engine: &mut Engine<B>, position: usize) -> LookedAt {
    pollster::block_on(engine.looked_at(position, None)).expect("looks")
}

/// What a question of so many sentences about a picture becomes, from an empty context; `None` for each of the picture's rows.
fn evaluate<B: Backend>(engine: &mut Engine<B>, image: &RgbImage, sentences: usize) -> Vec<Option<u32>> {
    let text = format!("<|startoftext|><|im_start|>user\n<image>{}", "What is in this image? ".repeat(sentences));
    let request = request::parse(&json!({ "prompt": text }).to_string()).expect("sound");
    pollster::block_on(engine.evaluate(&request, &common::llava::inputs(std::slice::from_ref(image)))).expect("evaluates").1
}

/// Where the model looked at a position that is far behind by now is what it was while it was the last.
fn looked_back<B: Backend>(make: impl Fn() -> Engine<B>) {
    let image = picture("coffee_tall.png");
    let (mut long, mut short) = (make(), make());
    let ids = evaluate(&mut long, &image, 28);
    assert!(ids.len() > 96 + 2 * RING, "{} tokens", ids.len());
    let whole = save(&mut long);
    let mut from_checkpoints = 0;
    for sentences in [1, 6, 11, 19, 27] {
        let fewer = evaluate(&mut short, &image, sentences);
        let position = ids.iter().zip(&fewer).take_while(|(a, b)| a == b).count();
        assert!(fewer.len() - position < 3, "nearly all of it");
        from_checkpoints += usize::from(position + RING < ids.len());
        let [later, then] = [&mut long, &mut short].map(|engine| looked_at(engine, position));
        // The layers that have attention are the second and the fourth; of two, the middle is both.
        assert_eq!(later.layers, 1..4);
        let sum: f64 = later.weights.iter().sum();
        assert!((sum - 1.0).abs() < 1e-6 && later.weights.len() == position, "{sum}, {}", later.weights.len());
        assert_eq!(later.pictures[0].shape, [12, 8]);
        let difference = later.weights.iter().zip(&then.weights).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("position {position} of {}: {difference:.1e}", ids.len());
        assert!(difference < 1e-5, "position {position}: {difference}");
    }
    assert!(from_checkpoints > 2, "{from_checkpoints} of them");
    assert_eq!(save(&mut long), whole, "looking changes nothing");
}

#[test]
fn where_it_looked_does_not_depend_on_what_came_after_on_the_cpu() {
    looked_back(cpu);
}

#[test]
#[cfg(feature = "gpu")]
fn where_it_looked_does_not_depend_on_what_came_after_on_the_gpu() {
    if gpu::is_missing() {
        return;
    }
    let make = gpu::float_backends();
    looked_back(|| load(make(), options()));
}

#[test]
fn an_answer_in_a_form_and_the_end_of_a_turn() {
    let mut engine = cpu();
    let image = [picture("coffee_tall.png")];
    let form = json!({ "type": "json_schema", "json_schema": { "schema": {
        "type": "object", "properties": { "sure": { "type": "boolean" } }, "required": ["sure"], "additionalProperties": false } } });
    let request = json!({ "messages": [question("What is this?")], "temperature": 0, "response_format": form });
    let answer = chat(&mut engine, request, &image).expect("answers");
    let value: Value = serde_json::from_str(&answer.text).expect("it parses");
    assert!(value["sure"].is_boolean(), "{value}");
    // The model is made to end its turn.
    let request = json!({ "messages": [question("What is this?")], "temperature": 0, "logit_bias": { "4": 100 } });
    let answer = chat(&mut engine, request, &image).expect("answers");
    assert_eq!((answer.text.as_str(), answer.finish_reason), ("", Some(FinishReason::Stop)));
}
