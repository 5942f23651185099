//! Where memory ends while the CPU computes: the call fails with `out_of_memory`, and the engine goes on as if it had just been loaded.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::llava::{Answer, finish, inputs, options, picture, tiny_llava_on};
use llava_web::Error;
use llava_web::backend::choice::Choice;
use llava_web::backend::cpu::{Cpu, Pool};
use llava_web::backend::{Choose, KvFormat, KvPart, KvSpec, Memory, Queue};
use llava_web::image::{Grid, Mode, PreprocessSpec, RgbImage};
use llava_web::runtime::engine::{Engine, Event};
use llava_web::runtime::request;
use serde_json::{Value, json};

/// An allocator that refuses a thread's large allocations from a chosen one on. What asks for so much without taking no for an answer ends the
/// whole program, and with it this test.
struct Ending;

/// What becomes of the large allocations of a thread.
#[derive(Clone, Copy)]
struct End {
    /// Bytes from which on an allocation is large: below are texts and lists of the request, above is what grows with a model.
    large: usize,
    /// So many are granted yet.
    granted: usize,
    /// Whether only one is refused, as where somebody else gives memory back.
    once: bool,
}

thread_local! {
    static END: Cell<Option<End>> = const { Cell::new(None) };
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

fn refuses(n_bytes: usize) -> bool {
    let refuses = END.try_with(|end| {
        let Some(now) = end.get().filter(|end| n_bytes >= end.large) else { return false };
        if now.granted > 0 {
            end.set(Some(End { granted: now.granted - 1, ..now }));
            return false;
        }
        if now.once {
            end.set(None);
        }
        REFUSED.set(REFUSED.get() + 1);
        true
    });
    refuses.unwrap_or(false)
}

// SAFETY: every call is passed on to `System` as it came or answered with null, as the trait allows; the counters allocate nothing.
unsafe impl GlobalAlloc for Ending {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() && refuses(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above; `at` came from one of these functions, so from `System`.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ENDING: Ending = Ending;

/// Runs with memory that ends so, and says how many allocations were refused.
fn within<T>(end: End, run: impl FnOnce() -> T) -> (T, usize) {
    REFUSED.set(0);
    END.set(Some(end));
    let result = run();
    END.set(None);
    (result, REFUSED.get())
}

fn engine(n_threads: usize, model: &str) -> Engine<Cpu> {
    tiny_llava_on(Cpu::new().with_pool(Pool::new(n_threads)), model, "mmproj-legacy-f16.gguf", options()).expect("loads")
}

/// A picture, a text of so many words, and an answer; drawn, so that choosing takes memory too.
fn question(n_words: usize) -> (Value, RgbImage) {
    let prompt = format!("USER: <image>\n{}? ASSISTANT:", "and ".repeat(n_words));
    (json!({ "prompt": prompt, "temperature": 0.9, "seed": 7, "max_tokens": 24 }), picture("chelsea.png"))
}

fn start(engine: &mut Engine<Cpu>, (request, image): &(Value, RgbImage)) {
    let request = request::parse(&request.to_string()).expect("sound");
    engine.start_completion(&request, &inputs(std::slice::from_ref(image))).expect("starts");
}

fn ask(engine: &mut Engine<Cpu>, question: &(Value, RgbImage)) -> Answer {
    start(engine, question);
    finish(engine).expect("answers")
}

fn assert_says_so(error: &Error, when: &str) {
    assert_eq!(error.code(), "out_of_memory", "{when}: {error}");
    for part in ["not enough memory for", "Close other tabs"] {
        assert!(error.message().contains(part), "{when}: {error}");
    }
}

#[test]
fn an_answer_for_which_memory_ends_leaves_an_engine_that_answers() {
    let question = question(1);
    for (n_threads, model) in [(1, "tiny-llava-f16.gguf"), (1, "tiny-llava-q4_0.gguf"), (3, "tiny-llava-q4_k_m.gguf")] {
        let expected = ask(&mut engine(n_threads, model), &question);
        for once in [true, false] {
            let mut n_failed = 0;
            for granted in 0.. {
                let when = format!("{model}, {n_threads} threads, after {granted} allocations, once: {once}");
                let mut engine = engine(n_threads, model);
                start(&mut engine, &question);
                let (answer, n_refused) = within(End { large: 1024, granted, once }, || finish(&mut engine));
                match answer {
                    Ok(answer) => {
                        assert_eq!((n_refused, answer.ids), (0, expected.ids.clone()), "{when}");
                        break;
                    }
                    Err(error) => {
                        assert!(n_refused > 0, "{when}: {error}");
                        assert_says_so(&error, &when);
                    }
                }
                n_failed += 1;
                assert!(!engine.is_generating(), "{when}");
                let again = ask(&mut engine, &question);
                assert_eq!((&again.ids, &again.text), (&expected.ids, &expected.text), "{when}");
                assert_eq!(again.usage.cached_tokens, 0, "{when}: nothing is left of what failed");
            }
            // At the least the tower's, the decoder's and the choice's.
            println!("{model}, {n_threads} threads, once: {once}: {n_failed} places");
            assert!(n_failed > 20, "{model}: only {n_failed} failed");
        }
    }
}

#[test]
fn an_answer_in_the_midst_of_which_memory_ends_is_not_gone_on_with() {
    // A block of keys ends within the answer: what one token needs grows with their number.
    let question = question(90);
    let mut engine = engine(1, "tiny-llava-f16.gguf");
    let expected = ask(&mut engine, &question);
    let block = 128;
    let n_prompt = expected.usage.prompt_tokens;
    assert!(n_prompt < block && n_prompt + expected.ids.len() > block + 1, "{n_prompt} tokens");
    let mut failed_at = Vec::new();
    for from in [1, 2] {
        let mut engine = self::engine(1, "tiny-llava-f16.gguf");
        start(&mut engine, &question);
        let mut n_tokens = 0;
        let error = loop {
            let mut step = || pollster::block_on(engine.step());
            let end = End { large: 1024, granted: 0, once: true };
            match if n_tokens >= from { within(end, step).0 } else { step() } {
                Ok(Event::Done { .. }) => panic!("nothing has failed from token {from} on"),
                Ok(Event::Token { .. }) => n_tokens += 1,
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_says_so(&error, &format!("{n_tokens} tokens"));
        failed_at.push(n_prompt + n_tokens);
        assert_eq!(ask(&mut engine, &question).ids, expected.ids);
    }
    assert_eq!(failed_at, [n_prompt + 1, block + 1], "the first token that is run alone, and the first of the next block");
}

#[test]
fn what_is_read_back_may_be_refused_too() {
    let mut cpu = Cpu::new();
    let x = cpu.tensor(4, 64).expect("a tensor");
    let kv = KvSpec { n_layers: 1, n_ctx: 128, n_kv: 64, head_dim: 16, format: KvFormat::F16 };
    let cache = cpu.kv_cache(&kv).expect("a cache");
    let refusal = End { large: 512, granted: 0, once: true };
    let (mut rows, mut bytes) = (Vec::new(), Vec::new());
    let (read, _) = within(refusal, || pollster::block_on(cpu.read(&x, 0, 4, &mut rows)));
    assert_says_so(&read.expect_err("it is refused"), "rows");
    let (read, _) = within(refusal, || pollster::block_on(cpu.kv_read(&cache, KvPart::Keys, 0..1, 0, 8, &mut bytes)));
    assert_says_so(&read.expect_err("it is refused"), "keys");
    let choice = Choice { temperature: 1.0, ..Choice::default() };
    let logits = cpu.tensor(1, 512).expect("a tensor");
    let (chosen, _) = within(refusal, || cpu.choose(&logits, &choice, 0.5));
    assert_says_so(&pollster::block_on(cpu.chosen(chosen)).expect_err("it is refused"), "a token");

    pollster::block_on(cpu.read(&x, 0, 4, &mut rows)).expect("reads");
    pollster::block_on(cpu.kv_read(&cache, KvPart::Keys, 0..1, 0, 8, &mut bytes)).expect("reads");
    assert_eq!((rows.len(), bytes.len()), (4 * 64, 8 * 64 * 2));
    let chosen = cpu.choose(&logits, &choice, 0.5);
    assert!(pollster::block_on(cpu.chosen(chosen)).expect("chooses").is_some());
}

#[test]
fn a_picture_that_there_is_no_memory_for_is_refused() {
    let mut png = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgba8(700, 900).write_to(&mut png, image::ImageFormat::Png).expect("writes");
    let end = End { large: 1 << 20, granted: 0, once: false };
    let (decoded, _) = within(end, || llava_web::image::decode(png.get_ref()));
    assert_says_so(&decoded.expect_err("it is refused"), "700 by 900");
    assert!(llava_web::image::decode(png.get_ref()).is_ok());
}

/// Every allocation of the recipes that grows with a picture, one after the other.
#[test]
fn a_picture_that_there_is_no_memory_to_resize_is_refused() {
    // A tall one, so that the vertical pass is first, and a wide one; large next to its tiles, and small.
    for (width, height) in [(100, 1200), (1200, 100), (60, 40)] {
        let image = RgbImage::new(width, height, vec![90; 3 * (width * height) as usize]).expect("a picture");
        for mode in [
            Mode::Pad,
            Mode::ResizeCrop,
            Mode::Anyres(vec![Grid { rows: 1, cols: 2 }, Grid { rows: 2, cols: 1 }]),
            Mode::Idefics3 { longest_side: 128 },
            Mode::Lfm2,
            Mode::InternVl { min_tiles: 1, max_tiles: 4 },
            Mode::Whole { min_pixels: 1024, max_pixels: 1 << 14 },
            Mode::Squash,
        ] {
            let spec =
                PreprocessSpec { image_size: 64, patch_size: 16, merge: 2, mean: [0.5; 3], std: [0.5; 3], mode: mode.clone() };
            let preprocess = || spec.preprocess(&image, 5);
            let sound = preprocess().expect("tiles");
            let mut n_failed = 0;
            for granted in 0.. {
                let when = format!("{mode:?} of {width} by {height}, after {granted} allocations");
                match within(End { large: 1024, granted, once: false }, preprocess) {
                    (Ok(pixels), n_refused) => {
                        assert_eq!((n_refused, pixels), (0, sound), "{when}");
                        break;
                    }
                    (Err(error), n_refused) => {
                        assert!(n_refused > 0, "{when}: {error}");
                        assert_eq!(error.code(), "out_of_memory", "{when}: {error}");
                    }
                }
                n_failed += 1;
            }
            assert!(n_failed > 3, "{mode:?}: only {n_failed} failed");
        }
    }
}
