//! A saved session goes on where it was, in another engine and on another device; and whatever is not one is refused by name, with the
//! engine as it was before.

use crate::common;
#[cfg(feature = "gpu")]
use crate::gpu;

use std::hash::Hasher;

use common::llava::{Answer, chat, complete, file, golden, options, picture, tiny_llava, tiny_llava_on};
use llava_web::Error;
use llava_web::backend::cpu::Cpu;
#[cfg(feature = "gpu")]
use llava_web::backend::gpu::{DeviceOptions, Gpu};
use llava_web::backend::{Backend, KvFormat};
use llava_web::image::RgbImage;
use llava_web::runtime::engine::{Engine, Event, LoadOptions};
use llava_web::runtime::request;
use llava_web::runtime::saved_session::VERSION;
use serde_json::json;
use siphasher::sip::SipHasher13;

const MODEL: &str = "tiny-llava-f16.gguf";
const MMPROJ: &str = "mmproj-legacy-f16.gguf";

fn engine(kv_format: KvFormat) -> Engine<Cpu> {
    tiny_llava(MODEL, MMPROJ, LoadOptions { kv_format, ..options() }).expect("loads")
}

#[cfg(feature = "gpu")]
fn gpu_engine(kv_format: KvFormat) -> Engine<Gpu> {
    let backend = Gpu::new(gpu::device(DeviceOptions::default())).expect("a backend");
    tiny_llava_on(backend, MODEL, MMPROJ, LoadOptions { kv_format, ..options() }).expect("loads")
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

/// Asks about a picture, then on.
fn first<B: Backend>(engine: &mut Engine<B>, image: &RgbImage) -> Answer {
    let request = json!({ "prompt": "USER: <image>\nWhat is in this image? ASSISTANT:", "temperature": 0, "max_tokens": 12 });
    complete(engine, request, std::slice::from_ref(image)).expect("answers")
}

fn second<B: Backend>(engine: &mut Engine<B>, image: &RgbImage) -> Answer {
    let request = json!({ "prompt": "USER: <image>\nWhat is in this image? ASSISTANT: a cat USER: And why? ASSISTANT:",
                          "temperature": 0, "max_tokens": 12, "logprobs": true });
    complete(engine, request, std::slice::from_ref(image)).expect("answers")
}

fn logprobs(answer: &Answer) -> Vec<u32> {
    answer.logprobs.iter().map(|l| l.logprob.to_bits()).collect()
}

#[test]
fn a_restored_conversation_goes_on_as_if_it_had_never_been_interrupted() {
    let image = picture("chelsea.png");
    for kv_format in KvFormat::ALL {
        let mut whole = engine(kv_format);
        first(&mut whole, &image);
        let bytes = save(&mut whole);
        let want = second(&mut whole, &image);
        assert!(want.usage.cached_tokens > 16, "{:?}", want.usage);

        let mut fresh = engine(kv_format);
        // What it had before is gone.
        complete(&mut fresh, json!({ "prompt": "Something else entirely", "max_tokens": 4 }), &[]).expect("answers");
        restore(&mut fresh, &bytes).expect("restores");
        assert_eq!(save(&mut fresh), bytes, "{kv_format:?}: what is saved again is the same");
        let got = second(&mut fresh, &image);
        assert_eq!((got.usage.cached_tokens, &got.ids), (want.usage.cached_tokens, &want.ids), "{kv_format:?}");
        assert_eq!(logprobs(&got), logprobs(&want), "{kv_format:?}: to the bit");
        assert!(got.stages.iter().all(|s| s.0 != "image"), "the picture is not encoded again");
        assert_eq!(got.usage.image_ms, 0.0);
    }
}

#[test]
#[cfg(feature = "gpu")]
fn a_session_goes_over_to_another_device_and_back() {
    if gpu::is_missing() {
        return;
    }
    let image = picture("chelsea.png");
    for kv_format in KvFormat::ALL {
        let (mut cpu, mut gpu) = (engine(kv_format), gpu_engine(kv_format));
        first(&mut cpu, &image);
        let bytes = save(&mut cpu);
        restore(&mut gpu, &bytes).expect("restores");
        assert_eq!(save(&mut gpu), bytes, "{kv_format:?}: the GPU holds what the CPU did");
        let on_gpu = second(&mut gpu, &image);
        let on_cpu = second(&mut cpu, &image);
        assert_eq!(on_gpu.usage.cached_tokens, on_cpu.usage.cached_tokens);
        assert!(on_gpu.stages.iter().all(|s| s.0 != "image"), "the picture is not encoded again");
        // The float model's bounds for logits, of which these are the difference of two (tests/gpu_models.rs).
        for (a, b) in on_gpu.logprobs.iter().zip(&on_cpu.logprobs).take_while(|(a, b)| a.token == b.token) {
            assert!((a.logprob - b.logprob).abs() < 0.06, "{kv_format:?}: {a:?} {b:?}");
        }
        let bytes = save(&mut gpu);
        let again = save_of_second(&mut cpu, &bytes);
        assert_eq!(again, bytes);

        // On one GPU it is bit for bit what it would have been.
        let mut other = gpu_engine(kv_format);
        restore(&mut other, &bytes).expect("restores");
        let [a, b] = [third(&mut gpu, &image), third(&mut other, &image)];
        assert_eq!((a.usage.cached_tokens, &a.ids, logprobs(&a)), (b.usage.cached_tokens, &b.ids, logprobs(&b)), "{kv_format:?}");
    }
}

fn third<B: Backend>(engine: &mut Engine<B>, image: &RgbImage) -> Answer {
    let request = json!({ "prompt": "USER: <image>\nWhat is in this image? ASSISTANT: a cat USER: And why? ASSISTANT: It is. USER: Really? ASSISTANT:",
                          "temperature": 0, "max_tokens": 8, "logprobs": true });
    complete(engine, request, std::slice::from_ref(image)).expect("answers")
}

fn save_of_second(engine: &mut Engine<Cpu>, bytes: &[u8]) -> Vec<u8> {
    restore(engine, bytes).expect("restores");
    save(engine)
}

#[test]
fn an_empty_session_is_one_too() {
    let mut engine = engine(KvFormat::F16);
    let nothing = save(&mut engine);
    complete(&mut engine, json!({ "prompt": "One two three", "max_tokens": 4 }), &[]).expect("answers");
    restore(&mut engine, &nothing).expect("restores");
    let answer = complete(&mut engine, json!({ "prompt": "One two three", "max_tokens": 4 }), &[]).expect("answers");
    assert_eq!(answer.usage.cached_tokens, 0);
}

/// The checksum of changed bytes, put right: what somebody would do who means harm.
fn signed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 8;
    let mut hasher = SipHasher13::new();
    hasher.write(&bytes[..end]);
    bytes[end..].copy_from_slice(&hasher.finish().to_le_bytes());
    bytes
}

fn with(bytes: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + value.len()].copy_from_slice(value);
    signed(bytes)
}

#[test]
fn whatever_is_no_sound_session_of_this_model_is_refused_and_changes_nothing() {
    let image = picture("chelsea.png");
    let mut engine = engine(KvFormat::F16);
    first(&mut engine, &image);
    let bytes = save(&mut engine);
    let names: usize = 72 + 4 + "llama".len() + 4 + engine.info().name.len();
    let slots = names + 44;
    let n_slots = u32::from_le_bytes(bytes[52..56].try_into().expect("four")) as usize;
    let keys = slots + 8 * n_slots;
    let u32_at = |at: usize, value: u32| with(&bytes, at, &value.to_le_bytes());
    let longer = |extra: usize| {
        let mut longer = bytes.clone();
        longer.extend(vec![0; extra]);
        let n_bytes = longer.len() as u64;
        longer[16..24].copy_from_slice(&n_bytes.to_le_bytes());
        signed(longer)
    };
    let token = (0..n_slots).find(|i| bytes[slots + 8 * i..][..4] == [0; 4]).expect("a token");
    let row = (0..n_slots).find(|i| bytes[slots + 8 * i..][..4] == [1, 0, 0, 0]).expect("a row");
    for (what, damaged, code, word) in [
        ("nothing", Vec::new(), "invalid_request", "no saved session"),
        (
            "something else",
            b"GGUF and so on, for quite a while, so that there is enough of it to read a header from it".to_vec(),
            "invalid_request",
            "no saved session",
        ),
        ("another version", u32_at(8, VERSION + 1), "invalid_request", "in version 3"),
        ("another key-value format", u32_at(12, 0), "invalid_request", "as 'f32', this engine as 'f16'"),
        ("keys and values in 8 bits", u32_at(12, 2), "invalid_request", "as 'q8_0', this engine as 'f16'"),
        ("a key-value format of later", u32_at(12, 9), "invalid_request", "kvFormat"),
        ("another model", with(&bytes, 24, &[1; 8]), "invalid_request", "loaded"),
        ("another shape", u32_at(40, 7), "invalid_request", "loaded"),
        ("another vision model", with(&bytes, 32, &[1; 8]), "mmproj_mismatch", "vision file"),
        ("more tokens than there are", u32_at(52, n_slots as u32 + 1), "integrity", "contradicts"),
        ("fewer tokens than there are", u32_at(52, n_slots as u32 - 1), "integrity", "contradicts"),
        ("more tokens than the context holds", u32_at(52, u32::MAX), "context_overflow", "contextSize"),
        ("many pictures", u32_at(56, u32::MAX), "integrity", "contradicts"),
        ("no pictures", u32_at(56, 0), "integrity", "contradicts"),
        ("an endless name", u32_at(72, u32::MAX), "integrity", "contradicts"),
        ("another layout", u32_at(names + 8, 9), "integrity", "contradicts"),
        ("a grid of nothing", u32_at(names + 12, 0), "integrity", "contradicts"),
        ("a huge grid", with(&bytes, names + 8, &[1, 0, 0, 0, 0, 64, 0, 0, 0, 64, 0, 0]), "integrity", "contradicts"),
        ("tiles of more rows than there can be", with(&bytes, names + 28, &[0, 1, 0, 0, 0, 1, 0, 0]), "integrity", "contradicts"),
        ("an overview of nothing", u32_at(names + 36, 0), "integrity", "contradicts"),
        ("a token beyond the vocabulary", u32_at(slots + 8 * token + 4, u32::MAX), "integrity", "contradicts"),
        ("a picture that is not there", u32_at(slots + 8 * row, 2), "integrity", "contradicts"),
        ("an infinite key", with(&bytes, keys, &0x7c00u16.to_le_bytes()), "integrity", "not numbers"),
        ("a value that is no number", with(&bytes, bytes.len() - 10, &0x7e00u16.to_le_bytes()), "integrity", "not numbers"),
        ("more bytes than are needed", longer(64), "integrity", "contradicts"),
    ] {
        let error = restore(&mut engine, &damaged).expect_err(what);
        assert_eq!(error.code(), code, "{what}: {error}");
        assert!(error.message().contains(word) && error.message().len() > 40, "{what}: {error}");
    }
    // Cut off after every byte of its head, and at places behind; then each of many bytes changed.
    for n in (1..keys + 4).chain((keys..bytes.len()).step_by(997)) {
        let error = restore(&mut engine, &bytes[..n]).expect_err("cut off");
        let expected = if n < 8 { ["integrity", "integrity"] } else { ["integrity", "invalid_request"] };
        assert!(expected.contains(&error.code()), "cut off after {n}: {error}");
    }
    for at in (0..keys).chain((keys..bytes.len()).step_by(499)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let error = restore(&mut engine, &damaged).expect_err("damaged");
        let head = at < 12;
        assert!(error.code() == "integrity" || (head && error.code() == "invalid_request"), "byte {at}: {error}");
    }
    assert_eq!(save(&mut engine), bytes, "nothing has changed");
    assert!(second(&mut engine, &image).usage.cached_tokens > 16, "and it goes on");
}

#[test]
fn engines_that_differ_refuse_each_others_sessions() {
    let image = picture("chelsea.png");
    let mut engine = engine(KvFormat::F16);
    first(&mut engine, &image);
    let seen = save(&mut engine);
    engine.reset();
    complete(&mut engine, json!({ "prompt": "One two three", "max_tokens": 4 }), &[]).expect("answers");
    let unseen = save(&mut engine);
    let load = |model: &str, mmproj: &str, options: LoadOptions| tiny_llava(model, mmproj, options).expect("loads");
    let f16 = || LoadOptions { kv_format: KvFormat::F16, ..options() };
    let code = |engine: &mut Engine<Cpu>, bytes: &[u8]| restore(engine, bytes).map_or_else(|e| e.code(), |()| "restored");
    // The same network in another format is another model.
    assert_eq!(code(&mut load("tiny-llava-q8_0.gguf", MMPROJ, f16()), &unseen), "invalid_request");
    assert_eq!(code(&mut load(MODEL, MMPROJ, options()), &unseen), "invalid_request");
    let mut small = load(MODEL, MMPROJ, LoadOptions { context_size: Some(16), ..f16() });
    assert_eq!((code(&mut small, &seen), code(&mut small, &unseen)), ("context_overflow", "restored"));
    // Of the vision file only sessions with pictures in them are told.
    let quantized = LoadOptions { quantize_mmproj: Some(llava_web::quant::Format::Q8_0), ..f16() };
    let mut other = load(MODEL, MMPROJ, quantized);
    assert_eq!((code(&mut other, &seen), code(&mut other, &unseen)), ("mmproj_mismatch", "restored"));
    let model = file(golden("tiny-llava").join(MODEL));
    let mut blind = pollster::block_on(Engine::load(Cpu::new(), model, None, f16(), &mut |_| {})).expect("loads");
    assert_eq!((code(&mut blind, &seen), code(&mut blind, &unseen)), ("mmproj_mismatch", "restored"));
    // A larger context is none of its business.
    assert_eq!(code(&mut load(MODEL, MMPROJ, LoadOptions { context_size: Some(200), ..f16() }), &seen), "restored");
}

#[test]
fn while_an_answer_is_written_it_is_neither_saved_nor_replaced() {
    let mut engine = engine(KvFormat::F16);
    let nothing = save(&mut engine);
    let request = json!({ "prompt": "One two three", "temperature": 0, "max_tokens": 8 });
    engine.start_completion(&request::parse(&request.to_string()).expect("sound"), &[]).expect("starts");
    while !matches!(pollster::block_on(engine.step()).expect("steps"), Event::Token { .. }) {}
    assert_eq!(engine.session_bytes().expect_err("under way").code(), "invalid_request");
    assert_eq!(restore(&mut engine, &nothing).expect_err("under way").code(), "invalid_request");
    let answer = common::llava::finish(&mut engine).expect("goes on");
    assert_eq!(answer.usage.completion_tokens, 8);
}

#[test]
fn pictures_in_tiles_come_back_with_their_grids() {
    let load = || tiny_llava(MODEL, "tiny-llava-next/mmproj-legacy-f16.gguf", options()).expect("loads");
    let images = [picture("chelsea.png"), picture("coffee_tall.png")];
    let ask = |engine: &mut Engine<Cpu>, n: usize| {
        let question = json!({ "role": "user", "content": [{ "type": "image", "image": 0 }, { "type": "image", "image": 1 }, { "type": "text", "text": "Compare." }] });
        chat(engine, json!({ "messages": [question], "temperature": 0, "max_tokens": n }), &images).expect("answers")
    };
    let mut whole = load();
    ask(&mut whole, 2);
    let bytes = save(&mut whole);
    let mut fresh = load();
    restore(&mut fresh, &bytes).expect("restores");
    assert_eq!(save(&mut fresh), bytes);
    let (want, got) = (ask(&mut whole, 6), ask(&mut fresh, 6));
    assert_eq!((got.ids, got.usage.cached_tokens), (want.ids, want.usage.cached_tokens));
    assert!(got.stages.iter().all(|s| s.0 != "image"));
}

/// Rows of a picture that stand where no prompt puts them do no harm to a model whose pictures' rows see each other: what the context shares
/// with the next prompt ends before them.
#[test]
fn pictures_that_are_not_whole_do_no_harm() {
    let load = || {
        let model = file(golden("tiny-gemma3/tiny-gemma3-q4_0.gguf"));
        let mmproj = Some(file(golden("tiny-gemma3/mmproj-f16.gguf")));
        pollster::block_on(Engine::load(Cpu::new(), model, mmproj, options(), &mut |_| {})).expect("loads")
    };
    let (mut engine, image) = (load(), picture("chelsea.png"));
    let ask = |engine: &mut Engine<Cpu>| {
        let request = json!({ "prompt": "One two three <image>What is this?", "temperature": 0, "max_tokens": 4 });
        complete(engine, request, std::slice::from_ref(&image)).expect("answers")
    };
    let first = ask(&mut engine);
    let sound = save(&mut engine);
    let word = |at: usize| u32::from_le_bytes(*sound[at..].first_chunk().expect("a word")) as usize;
    let [n_slots, n_pictures] = [52, 56].map(word);
    assert_eq!((n_slots, n_pictures), (first.usage.prompt_tokens + 3, 1));
    let names = (0..2).fold(72, |at, _| at + 4 + word(at));
    let slot = |i: usize| names + 44 + 8 * i;
    let first_row = (0..n_slots).find(|i| word(slot(*i)) == 1).expect("a row of the picture");
    let row = |i: usize, row: u32| (slot(i), [1_u32.to_le_bytes(), row.to_le_bytes()].concat());
    for changes in [
        vec![row(first_row + 5, 9)],
        (0..16).map(|i| row(first_row + i, 0)).collect(),
        (0..n_slots).map(|i| row(i, i as u32)).collect(),
        vec![row(first_row - 1, u32::MAX), row(n_slots - 1, u32::MAX)],
        vec![row(n_slots - 1, 0)],
    ] {
        let bytes = changes.iter().fold(sound.clone(), |bytes, (at, value)| with(&bytes, *at, value));
        let mut other = load();
        // Its embedding is at hand where the last row is looked at.
        pollster::block_on(other.embed_image(&image)).expect("embeds");
        restore(&mut other, &bytes).expect("nothing of it is impossible");
        for position in [first_row + 3, n_slots] {
            if let Err(error) = pollster::block_on(other.looked_at(position, None)) {
                assert_eq!(error.code(), "invalid_request", "{error}");
            }
        }
        let again = ask(&mut other);
        assert_eq!(again.ids, first.ids);
        assert!(again.usage.cached_tokens <= first_row || changes.len() == 1, "{}", again.usage.cached_tokens);
    }
}
