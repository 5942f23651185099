//! Answers requests from standard input, one JSON object a line, on the CPU. For evaluation from scripts:
//!
//! ```sh
//! cargo run --release --example batch -- llava.gguf mmproj.gguf < requests.jsonl
//! ```
//!
//! | request | answer |
//! | --- | --- |
//! | `{"images": ["cat.png"], "messages": […], …}` as a chat completion; a part `{"type": "image", "image": 0}` is `images[0]` | `{"text": …}` |
//! | `{"images": ["cat.png"], "prompt": "… <image> …"}` | `{"logits": […], "tokens": […]}` of the last position |
//!
//! A request that fails is answered by `{"error": …}`, and the next one is taken.

#![allow(clippy::pedantic, reason = "casts: an example is not the place to show how they are avoided")]

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Instant;

use llava_web::backend::KvFormat;
use llava_web::backend::cpu::Cpu;
use llava_web::gguf::RangedSource;
use llava_web::gguf::source::FileSource;
use llava_web::runtime::engine::{Engine, Event, ImageInput, LoadOptions};
use llava_web::runtime::request;
use llava_web::{Error, Result};
use serde_json::{Value, json};

/// Milliseconds since the first call.
fn now() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

fn source(path: &str) -> Result<Vec<Box<dyn RangedSource>>> {
    Ok(vec![Box::new(FileSource::open(path)?)])
}

async fn answer(engine: &mut Engine<Cpu>, line: &str) -> Result<Value> {
    let mut value: Value =
        serde_json::from_str(line).map_err(|e| Error::invalid_request(format!("A request is one JSON object a line: {e}.")))?;
    let mut images = Vec::new();
    for path in value["images"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let bytes = std::fs::read(path).map_err(|e| Error::invalid_image(format!("'{path}' cannot be read: {e}.")))?;
        images.push(ImageInput::Encoded(bytes));
    }
    if let Some(request) = value.as_object_mut() {
        request.remove("images");
    }
    if value.get("messages").is_none() {
        let (logits, tokens) = engine.evaluate(&request::parse(&value.to_string())?, &images).await?;
        return Ok(json!({ "logits": logits, "tokens": tokens }));
    }
    engine.start_chat(&request::parse(&value.to_string())?, &images)?;
    let mut answer = String::new();
    loop {
        match engine.step().await? {
            Event::Progress { .. } => {}
            Event::Token { text, .. } => answer += &text,
            Event::Done { text, .. } => return Ok(json!({ "text": answer + &text })),
        }
    }
}

async fn run(model: &str, mmproj: &str) -> Result<()> {
    let options = LoadOptions { kv_format: KvFormat::F32, ..LoadOptions::new(now) };
    let mut engine = Engine::load(Cpu::new(), source(model)?, Some(source(mmproj)?), options, &mut |_| {}).await?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Error::invalid_request(format!("Standard input cannot be read: {e}.")))?;
        let out = answer(&mut engine, &line).await.unwrap_or_else(|e| json!({ "error": e.to_string() }));
        println!("{out}");
        // Whoever asked may wait for this line before the next question.
        let _ = std::io::stdout().flush();
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, mmproj] = arguments.as_slice() else {
        eprintln!("usage: batch MODEL.gguf MMPROJ.gguf < REQUESTS.jsonl");
        return ExitCode::from(2);
    };
    match pollster::block_on(run(model, mmproj)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("batch: {error}");
            ExitCode::FAILURE
        }
    }
}
