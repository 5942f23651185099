//! What a conversation with the engine must be like: streaming, stopping, going on, and what happens with bad input.

use crate::common;

use common::llava::{
    chat, complete, fetched_model, file, finish, golden, golden_bytes, inputs, memory, options, picture, tiny_llava,
};
use llava_web::backend::cpu::Cpu;
use llava_web::runtime::engine::{Engine, Event, FinishReason, ImageInput, LoadOptions};
use llava_web::runtime::request;
use llava_web::text::Special;
use serde_json::json;

const PROMPT: &str = "USER: <image>\nWhat is in this image? ASSISTANT:";

fn engine() -> Engine<Cpu> {
    tiny_llava("tiny-llava-f16.gguf", "mmproj-legacy-f16.gguf", options()).expect("loads")
}

fn question(text: &str) -> serde_json::Value {
    json!({ "role": "user", "content": [{ "type": "image", "image": 0 }, { "type": "text", "text": text }] })
}

#[test]
fn a_follow_up_computes_only_what_is_new_and_does_not_look_again() {
    let mut engine = engine();
    let image = picture("chelsea.png");
    let first = chat(
        &mut engine,
        json!({ "messages": [question("What is this?")], "temperature": 0, "max_tokens": 8 }),
        std::slice::from_ref(&image),
    )
    .expect("answers");
    assert_eq!((first.usage.image_tokens, first.usage.cached_tokens), (16, 0));
    assert!(first.stages.iter().any(|s| s.0 == "image"));
    assert_eq!(first.usage.total_tokens, first.usage.prompt_tokens + first.usage.completion_tokens);
    let second = chat(
        &mut engine,
        json!({ "messages": [question("What is this?"), { "role": "assistant", "content": first.text }, { "role": "user", "content": "And why?" }],
                "temperature": 0, "max_tokens": 8 }),
        std::slice::from_ref(&image),
    )
    .expect("answers");
    assert!(second.usage.cached_tokens >= first.usage.prompt_tokens, "{:?}", second.usage);
    assert!(second.stages.iter().all(|s| s.0 != "image"), "the picture is not encoded again");
    // The same from an empty context must be the same: what was kept is what would have been computed.
    let mut fresh = self::engine();
    let again = chat(
        &mut fresh,
        json!({ "messages": [question("What is this?"), { "role": "assistant", "content": first.text }, { "role": "user", "content": "And why?" }],
                "temperature": 0, "max_tokens": 8 }),
        &[image],
    )
    .expect("answers");
    assert_eq!(second.ids, again.ids);
}

/// What is asked for goes on exactly where the last message ends: as a raw prompt of the same text does.
#[test]
fn the_last_message_is_gone_on_with() {
    let mut engine = engine();
    let image = picture("chelsea.png");
    let messages = json!([question("What is in this image?"), { "role": "assistant", "content": "In this picture there is a " }]);
    let request = json!({ "messages": messages, "temperature": 0, "max_tokens": 6, "continue_final_message": true });
    let gone_on = chat(&mut engine, request, std::slice::from_ref(&image)).expect("answers");
    let asked: request::ChatRequest =
        serde_json::from_value(json!({ "messages": [question("What is in this image?")] })).expect("a request");
    let prompt = engine.apply_chat_template(&asked).expect("renders") + " In this picture there is a ";
    let raw = complete(
        &mut self::engine(),
        json!({ "prompt": prompt, "temperature": 0, "max_tokens": 6 }),
        std::slice::from_ref(&image),
    )
    .expect("answers");
    assert_eq!((&gone_on.ids, gone_on.usage.prompt_tokens), (&raw.ids, raw.usage.prompt_tokens));
    assert_eq!(gone_on.text, raw.text, "with the space that the first token begins with, for it is amid a text");
    let wrong = |more: serde_json::Value| {
        let mut request = json!({ "messages": [question("What?")], "max_tokens": 2 });
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        chat(&mut self::engine(), request, std::slice::from_ref(&image)).expect_err("an error").message().to_string()
    };
    assert!(wrong(json!({ "continue_final_message": true })).contains("role 'assistant'"));
    assert!(wrong(json!({ "continue_final_message": true, "add_generation_prompt": true })).contains("one end"));
}

#[test]
fn a_developer_speaks_as_the_system_and_turns_may_be_empty() {
    let ids = |messages: serde_json::Value| {
        chat(&mut engine(), json!({ "messages": messages, "temperature": 0, "max_tokens": 4 }), &[picture("chelsea.png")])
            .map(|answer| (answer.ids, answer.usage.prompt_tokens))
            .map_err(|error| error.message().to_string())
    };
    let speaking = |role: &str| json!([{ "role": role, "content": "Be brief." }, question("What is this?")]);
    assert_eq!(ids(speaking("developer")).expect("answers"), ids(speaking("system")).expect("answers"));
    ids(json!([question("What is this?"), { "role": "assistant", "content": "" }, { "role": "user", "content": "" }]))
        .expect("answers");
    ids(json!([question("What is this?"), { "role": "assistant", "content": [] }, { "role": "user", "content": [] }]))
        .expect("answers");
    assert!(ids(json!([{ "role": "user", "content": " " }, { "role": "assistant", "content": "Yes?" }, { "role": "user", "content": "" }]))
        .expect_err("nothing is asked").contains("empty"));
    assert!(ids(json!([{ "role": "wizard", "content": "x" }])).is_err());
}

#[test]
fn an_answer_that_comes_back_in_the_conversation_is_not_computed_again() {
    let mut engine = engine();
    // The untrained model is made to say a word; noise would not be split into the same tokens when it comes back.
    let word = ["the", "of", "and", "in"]
        .into_iter()
        .find(|w| engine.tokenizer().encode(w, Special::Plain, false).len() == 1)
        .expect("a word");
    let id = engine.tokenizer().encode(word, Special::Plain, false)[0];
    let bias: serde_json::Map<_, _> = [(id.to_string(), json!(100))].into_iter().collect();
    let ask = |engine: &mut Engine<Cpu>, messages: serde_json::Value| {
        chat(engine, json!({ "messages": messages, "temperature": 0, "max_tokens": 6, "logit_bias": bias }), &[])
            .expect("answers")
    };
    let first = ask(&mut engine, json!([{ "role": "user", "content": "Speak." }]));
    assert_eq!(first.text, [word; 6].join(" "), "without the space that the first token begins with");
    let second = ask(
        &mut engine,
        json!([{ "role": "user", "content": "Speak." }, { "role": "assistant", "content": first.text }, { "role": "user", "content": "Go on." }]),
    );
    // All but the last token of the answer, which was never run.
    assert_eq!(second.usage.cached_tokens, first.usage.prompt_tokens + first.usage.completion_tokens - 1);
}

#[test]
fn an_answer_in_a_form_ends_when_it_is_whole() {
    let mut engine = engine();
    let schema = json!({ "type": "object", "properties": {
        "what": { "type": "string", "maxLength": 10 }, "sure": { "type": "boolean" }, "n": { "type": ["integer", "null"], "minimum": 0 },
    }, "required": ["what", "sure"] });
    let form = json!({ "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": schema } });
    let image = picture("chelsea.png");
    for more in [
        json!({ "temperature": 0 }),
        json!({ "seed": 1, "temperature": 2 }),
        json!({ "seed": 2, "top_k": 3, "repetition_penalty": 2 }),
        json!({ "seed": 3, "top_p": 0.3, "presence_penalty": 2, "logprobs": true, "top_logprobs": 2 }),
    ] {
        let mut request = more.clone();
        request["messages"] = json!([question("What is this?")]);
        request["response_format"] = form.clone();
        let whole = chat(&mut engine, request.clone(), std::slice::from_ref(&image)).expect("answers");
        let value: serde_json::Value = serde_json::from_str(&whole.text).unwrap_or_else(|e| panic!("{e}: {}", whole.text));
        assert!(value["what"].as_str().is_some_and(|what| what.chars().count() <= 10) && value["sure"].is_boolean(), "{value}");
        assert_eq!(whole.finish_reason, Some(FinishReason::Stop));
        assert_eq!(engine.tokenizer().decode(&whole.ids, false), whole.text, "the last token is the last brace");
        // The model's own distribution, in which what was chosen may be unlikely.
        assert!(whole.logprobs.iter().all(|t| t.logprob <= 0.0 && t.logprob.is_finite()));
        request["max_tokens"] = json!(whole.ids.len() - 1);
        let cut = chat(&mut engine, request, std::slice::from_ref(&image)).expect("answers");
        assert_eq!((cut.finish_reason, cut.ids.as_slice()), (Some(FinishReason::Length), &whole.ids[..whole.ids.len() - 1]));
    }
    // A bias counts among what may come, and rules out only that.
    let one = engine.tokenizer().encode("1", Special::Plain, false);
    let bias: serde_json::Map<_, _> = [(one[one.len() - 1].to_string(), json!(100))].into_iter().collect();
    let number =
        json!({ "type": "json_schema", "json_schema": { "schema": { "type": "integer", "minimum": 100, "maximum": 999 } } });
    let answer =
        complete(&mut engine, json!({ "prompt": "N:", "temperature": 0, "logit_bias": bias, "response_format": number }), &[])
            .expect("answers");
    assert_eq!((answer.text.trim(), answer.finish_reason), ("111", Some(FinishReason::Stop)));
    // No version will support a schema that is none.
    let names = json!({ "type": "array", "items": { "type": "string", "pattern": "(" } });
    let wrong = json!({ "prompt": "N:", "response_format": { "type": "json_schema", "json_schema": { "schema": names } } });
    let error = complete(&mut engine, wrong, &[]).expect_err("not a pattern");
    assert!(error.code() == "invalid_request" && error.message().contains("pattern"), "{error}");
}

#[test]
fn another_picture_under_the_same_words_is_not_taken_for_the_first() {
    let mut engine = engine();
    let request = json!({ "messages": [question("What is this?")], "temperature": 0, "max_tokens": 8 });
    let cat = chat(&mut engine, request.clone(), &[picture("chelsea.png")]).expect("answers");
    let astronaut = chat(&mut engine, request.clone(), &[picture("astronaut.png")]).expect("answers");
    assert!(astronaut.usage.cached_tokens < astronaut.usage.prompt_tokens - 16);
    assert_ne!(cat.ids, astronaut.ids);
    let cat_again = chat(&mut engine, request, &[picture("chelsea.png")]).expect("answers");
    assert_eq!(cat.ids, cat_again.ids);
}

#[test]
fn two_pictures_stand_where_the_message_puts_them() {
    let mut engine = engine();
    let request = json!({ "prompt": "USER: <image>\n<image>\nCompare. ASSISTANT:", "temperature": 0, "max_tokens": 4 });
    let (a, b) = (picture("chelsea.png"), picture("astronaut.png"));
    let ab = complete(&mut engine, request.clone(), &[a.clone(), b.clone()]).expect("answers");
    assert_eq!(ab.usage.image_tokens, 32);
    let ba = complete(&mut engine, request.clone(), &[b, a.clone()]).expect("answers");
    assert_ne!(ab.ids, ba.ids, "the order matters");
    let aa = complete(&mut engine, request, &[a.clone(), a]).expect("answers");
    assert_eq!(aa.usage.image_tokens, 32);
}

#[test]
fn an_abort_ends_it_within_one_step_and_keeps_what_was_generated() {
    let mut engine = engine();
    let request = json!({ "prompt": PROMPT, "temperature": 0, "max_tokens": 64 });
    engine
        .start_completion(&request::parse(&request.to_string()).expect("sound"), &inputs(&[picture("chelsea.png")]))
        .expect("starts");
    let mut tokens = 0;
    while tokens < 3 {
        if let Event::Token { .. } = pollster::block_on(engine.step()).expect("steps") {
            tokens += 1;
        }
    }
    engine.abort();
    let Event::Done { finish_reason, usage, .. } = pollster::block_on(engine.step()).expect("steps") else {
        panic!("the step after an abort is the last")
    };
    assert_eq!((finish_reason, usage.completion_tokens), (FinishReason::Abort, 3));
    assert!(!engine.is_generating());
    assert_eq!(pollster::block_on(engine.step()).expect_err("nothing is under way").code(), "invalid_request");
    let answer = complete(&mut engine, json!({ "prompt": PROMPT, "temperature": 0, "max_tokens": 2 }), &[picture("chelsea.png")])
        .expect("answers");
    assert_eq!(answer.ids.len(), 2);
}

#[test]
fn an_abort_amid_the_prompt_leaves_a_context_that_is_right() {
    // Two chunks of three layers, a layer a step: some of the aborts fall amid a chunk.
    let prompt = format!("{PROMPT}{}", " and why".repeat(20));
    let request = json!({ "prompt": prompt, "temperature": 0, "max_tokens": 6 });
    let engine = || {
        let options = LoadOptions { step_work: Some(1), ..options() };
        tiny_llava("tiny-llava-f16.gguf", "mmproj-legacy-f16.gguf", options).expect("loads")
    };
    let expected = complete(&mut engine(), request.clone(), &[picture("chelsea.png")]).expect("answers");
    assert_eq!(expected.stages.iter().filter(|s| s.0 == "prefill").count(), 5, "{:?}", expected.stages);
    for steps in 0..12 {
        let mut engine = engine();
        engine
            .start_completion(&request::parse(&request.to_string()).expect("sound"), &inputs(&[picture("chelsea.png")]))
            .expect("starts");
        for _ in 0..steps {
            pollster::block_on(engine.step()).expect("steps");
        }
        engine.abort();
        finish(&mut engine).expect("ends");
        let again = complete(&mut engine, request.clone(), &[picture("chelsea.png")]).expect("answers");
        assert_eq!(again.ids, expected.ids, "after {steps} steps");
    }
}

#[test]
fn the_end_of_the_context_is_a_length_not_a_crash_and_a_longer_prompt_a_clear_error() {
    let options = LoadOptions { context_size: Some(40), ..options() };
    let mut engine = tiny_llava("tiny-llava-f16.gguf", "mmproj-legacy-f16.gguf", options).expect("loads");
    let bias: serde_json::Map<_, _> = [("2".to_string(), json!(-100))].into_iter().collect();
    let answer =
        complete(&mut engine, json!({ "prompt": PROMPT, "temperature": 0, "logit_bias": bias }), &[picture("chelsea.png")])
            .expect("answers");
    assert_eq!(answer.finish_reason, Some(FinishReason::Length));
    // One position is left over for the last token, which is never run.
    assert_eq!(answer.usage.total_tokens, 41);
    let long = "word ".repeat(100);
    let error = complete(&mut engine, json!({ "prompt": long }), &[]).expect_err("too long");
    assert_eq!(error.code(), "context_overflow");
    assert!(error.message().contains("40"), "{error}");
    assert!(complete(&mut engine, json!({ "prompt": "Hello", "max_tokens": 2 }), &[]).is_ok(), "the next question is answered");
}

#[test]
fn stop_strings_end_the_answer_and_are_left_out() {
    let mut engine = engine();
    let whole = complete(&mut engine, json!({ "prompt": "Hello", "temperature": 0, "max_tokens": 24 }), &[]).expect("answers");
    let characters: Vec<char> = whole.text.chars().collect();
    let from = characters.len() / 2;
    let stop: String = characters[from..(from + 3).min(characters.len())].iter().collect();
    let stopped = complete(&mut engine, json!({ "prompt": "Hello", "temperature": 0, "max_tokens": 24, "stop": [stop] }), &[])
        .expect("answers");
    assert_eq!(stopped.finish_reason, Some(FinishReason::Stop));
    assert_eq!(stopped.text, whole.text.split(&stop).next().expect("a part"));
}

#[test]
fn a_seed_makes_a_draw_repeatable_and_temperature_zero_needs_none() {
    let mut engine = engine();
    let mut draw = |seed: i64| {
        complete(&mut engine, json!({ "prompt": "Hello", "temperature": 1.5, "seed": seed, "max_tokens": 12 }), &[])
            .expect("answers")
            .ids
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

#[test]
fn log_probabilities_are_of_the_token_and_its_rivals() {
    let mut engine = engine();
    let request = json!({ "prompt": "Hello", "temperature": 0, "max_tokens": 4, "logprobs": true, "top_logprobs": 5 });
    let answer = complete(&mut engine, request, &[]).expect("answers");
    assert_eq!(answer.logprobs.len(), 4);
    for token in &answer.logprobs {
        let top = token.top_logprobs.as_ref().expect("asked for");
        assert_eq!(top.len(), 5);
        assert!(top.windows(2).all(|p| p[0].logprob >= p[1].logprob));
        assert_eq!(top[0].logprob, token.logprob, "greedy takes the likeliest");
        assert!(top.iter().map(|t| t.logprob.exp()).sum::<f32>() <= 1.0 + 1e-4);
    }
}

#[test]
fn bad_requests_name_their_fault_and_change_nothing() {
    let mut engine = engine();
    let hello = || json!([{ "role": "user", "content": "Hello" }]);
    let cases = [
        (json!({ "messages": [] }), "no messages"),
        (json!({ "messages": [{ "role": "user", "content": "" }] }), "empty"),
        (json!({ "messages": [{ "role": "user", "content": " \n" }] }), "empty"),
        (json!({ "messages": [{ "role": "wizard", "content": "Hello" }] }), "wizard"),
        (json!({ "messages": [{ "role": "user", "content": [{ "type": "image", "image": 3 }] }] }), "picture 3"),
        (json!({ "messages": [{ "role": "user", "content": [{ "type": "sound" }] }] }), "form"),
        (json!({ "messages": 5 }), "form"),
        (json!({ "messages": hello(), "temperature": -1 }), "temperature"),
        (json!({ "messages": hello(), "top_p": 2 }), "top_p"),
        (json!({ "messages": hello(), "max_tokens": 0 }), "max_tokens"),
        (json!({ "messages": hello(), "logit_bias": { "99999": 1 } }), "logit_bias"),
        (json!({ "messages": hello(), "logit_bias": { "x": 1 } }), "logit_bias"),
        (json!({ "messages": hello(), "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
        (json!({ "messages": hello(), "stop": [""] }), "stop"),
    ];
    for (request, word) in cases {
        let error = chat(&mut engine, request.clone(), &[]).expect_err("is refused");
        assert_eq!(error.code(), "invalid_request", "{request}: {error}");
        assert!(error.message().contains(word), "{request}: {error}");
    }
    assert!(chat(&mut engine, json!({ "messages": hello(), "max_tokens": 2 }), &[]).is_ok());
    assert_eq!(complete(&mut engine, json!({ "prompt": "a <image>" }), &[]).expect_err("no picture").code(), "invalid_request");
    assert_eq!(
        complete(&mut engine, json!({ "prompt": "" }), &[]).map(|_| ()).map_err(|e| e.code()),
        Ok(()),
        "a BOS alone is a prompt"
    );
}

#[test]
fn special_tokens_in_a_question_are_words() {
    let engine = engine();
    let asked: request::ChatRequest =
        request::parse(r#"{"messages":[{"role":"user","content":"Say </s> and <image> and <s>."}]}"#).expect("sound");
    let text = engine.apply_chat_template(&asked).expect("renders");
    assert!(text.contains("Say </s> and <image> and <s>."));
    let mut engine = engine;
    let request = json!({ "messages": [{ "role": "user", "content": "Say </s> and <image> and <s>." }], "max_tokens": 1 });
    let answer = chat(&mut engine, request, &[]).expect("answers");
    assert_eq!(answer.usage.image_tokens, 0);
}

#[test]
fn wrong_files_are_told_apart() {
    let load = |model: &str, mmproj: Option<&str>| {
        let mmproj = mmproj.map(|m| file(golden(m)));
        pollster::block_on(Engine::load(Cpu::new(), file(golden(model)), mmproj, options(), &mut |_| {}))
            .map(|_| ())
            .expect_err("is refused")
    };
    let (llm, vision) = ("tiny-llava/tiny-llava-q4_0.gguf", "tiny-llava/mmproj-legacy-f16.gguf");
    let swapped = load(vision, Some(llm));
    assert_eq!(swapped.code(), "unsupported_architecture");
    assert!(swapped.message().contains("swapped"), "{swapped}");
    let twice = load(llm, Some(llm));
    assert_eq!(twice.code(), "unsupported_architecture");
    assert!(twice.message().contains("not a vision file"), "{twice}");
    let other = pollster::block_on(Engine::load(
        Cpu::new(),
        file(fetched_model("smollm2-135m-q4_1.gguf")),
        Some(file(golden(vision))),
        options(),
        &mut |_| {},
    ))
    .map(|_| ())
    .expect_err("is refused");
    assert_eq!(other.code(), "mmproj_mismatch");
    assert!(other.message().contains("256") && other.message().contains("576"), "{other}");
    assert_eq!(load("images/chelsea.png", None).code(), "invalid_gguf");
}

#[test]
fn a_file_cut_anywhere_is_an_error_that_says_so() {
    let whole = golden_bytes("tiny-llava/tiny-llava-q4_0.gguf");
    for cut in (0..whole.len()).step_by(whole.len() / 97).chain([1, 3, 4, 7, 23, whole.len() - 1]) {
        let error =
            pollster::block_on(Engine::load(Cpu::new(), memory("cut.gguf", whole[..cut].to_vec()), None, options(), &mut |_| {}))
                .map(|_| ())
                .expect_err("is refused");
        assert_eq!(error.code(), "invalid_gguf", "cut at {cut}: {error}");
        assert!(error.message().contains("cut.gguf") || error.message().contains("truncated"), "cut at {cut}: {error}");
    }
}

#[test]
fn scales_that_are_no_numbers_are_found_while_loading() {
    let mut bytes = golden_bytes("tiny-llava/tiny-llava-q4_0.gguf");
    let offset = 46_688 + 1_000_000;
    // Wherever this lands in a tensor, blocks of 18 bytes begin within each 18 bytes: all of them get a NaN scale.
    for b in &mut bytes[offset..offset + 64] {
        *b = 0x7f;
    }
    let error = pollster::block_on(Engine::load(Cpu::new(), memory("nan.gguf", bytes), None, options(), &mut |_| {}))
        .map(|_| ())
        .expect_err("is refused");
    assert_eq!(error.code(), "invalid_gguf");
    assert!(error.message().contains("blk."), "the tensor is named: {error}");
}

#[test]
fn an_engine_without_eyes_says_so() {
    let mut engine = pollster::block_on(Engine::load(
        Cpu::new(),
        file(golden("tiny-llava/tiny-llava-q4_0.gguf")),
        None,
        options(),
        &mut |_| {},
    ))
    .expect("loads");
    let error =
        chat(&mut engine, json!({ "messages": [question("What is this?")] }), &[picture("chelsea.png")]).expect_err("is refused");
    assert_eq!(error.code(), "invalid_request");
    assert!(error.message().contains("mmproj"), "{error}");
}

#[test]
fn loading_tells_how_far_it_is() {
    let mut stages = Vec::new();
    let _ = pollster::block_on(Engine::load(
        Cpu::new(),
        file(golden("tiny-llava/tiny-llava-q4_0.gguf")),
        Some(file(golden("tiny-llava/mmproj-legacy-f16.gguf"))),
        options(),
        &mut |p| stages.push((p.stage, p.loaded, p.total)),
    ))
    .expect("loads");
    let order: Vec<&str> = stages.iter().map(|s| s.0).collect();
    let mut kinds = order.clone();
    kinds.dedup();
    assert_eq!(kinds, ["header", "model", "mmproj", "ready"]);
    assert!(stages.iter().rfind(|s| s.0 == "model").is_some_and(|s| s.1 == s.2 && s.2 > 1_000_000));
    assert!(stages.windows(2).all(|p| p[0].0 != p[1].0 || p[0].1 <= p[1].1));
}

#[test]
fn a_benchmark_measures_and_refuses_what_does_not_fit() {
    let mut engine = engine();
    let report = pollster::block_on(engine.benchmark(32, 8, 2)).expect("measures");
    assert!(report.prefill_tokens_per_second > 0.0 && report.decode_tokens_per_second > 0.0);
    assert_eq!(pollster::block_on(engine.benchmark(100_000, 8, 2)).expect_err("too long").code(), "invalid_request");
}

#[test]
fn a_template_that_says_nothing_is_refused() {
    let options = LoadOptions { chat_template: Some("{% if false %}{% endif %}".into()), ..options() };
    let path = fetched_model("smollm2-135m-q4_0.gguf");
    let mut engine = pollster::block_on(Engine::load(Cpu::new(), file(path), None, options, &mut |_| {})).expect("loads");
    let error = chat(&mut engine, json!({ "messages": [{ "role": "user", "content": "Hello" }] }), &[]).expect_err("is refused");
    assert_eq!(error.code(), "invalid_request");
    assert!(complete(&mut engine, json!({ "prompt": "Hello", "max_tokens": 1 }), &[]).is_ok(), "the next question is answered");
}

#[test]
fn a_message_without_end_is_refused_before_it_is_tokenized() {
    let mut engine = engine();
    let error = complete(&mut engine, json!({ "prompt": "word ".repeat(1 << 20) }), &[]).expect_err("too long");
    assert_eq!(error.code(), "context_overflow");
}

#[test]
fn pictures_are_kept_and_what_the_context_holds_is_not_looked_at_again() {
    let mut engine = engine();
    let request = json!({ "messages": [question("What is this?")], "temperature": 0, "max_tokens": 2 });
    let bytes = ImageInput::Encoded(golden_bytes("images/chelsea.png"));
    let start = |engine: &mut Engine<Cpu>| {
        engine.start_chat(&request::parse(&request.to_string()).expect("sound"), std::slice::from_ref(&bytes)).expect("starts");
        finish(engine).expect("answers")
    };
    assert!(start(&mut engine).stages.iter().any(|s| s.0 == "image"));
    assert!(start(&mut engine).stages.iter().all(|s| s.0 != "image"));
    engine.reset();
    assert!(start(&mut engine).stages.iter().all(|s| s.0 != "image"), "the embedding outlives the conversation");
    // Encoded or as pixels, it is the same picture.
    let again = chat(&mut engine, request.clone(), &[picture("chelsea.png")]).expect("answers");
    assert_eq!(again.usage.cached_tokens, again.usage.prompt_tokens - 1);
}

#[test]
fn a_context_larger_than_the_models_is_the_models() {
    let load = |n| {
        let options = LoadOptions { context_size: Some(n), ..options() };
        tiny_llava("tiny-llava-q4_0.gguf", "mmproj-legacy-f16.gguf", options)
    };
    let huge = load(usize::MAX).expect("loads");
    let n_ctx = huge.info().context_size;
    assert!(
        huge.info().warnings.iter().any(|warning| warning.contains(&format!("made for {n_ctx} tokens"))),
        "{:?}",
        huge.info().warnings
    );
    let exact = load(n_ctx).expect("loads");
    assert_eq!((exact.info().context_size, exact.info().warnings.len() + 1), (n_ctx, huge.info().warnings.len()));
    assert_eq!(load(0).map(|_| ()).expect_err("is refused").code(), "invalid_request");
}
