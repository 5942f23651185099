//! Asks a model about a picture from a shell, on the CPU:
//!
//! ```sh
//! cargo run --release --example ask -- --model llava.gguf --mmproj mmproj.gguf --image cat.jpg "What is this?"
//! ```

#![allow(clippy::pedantic, reason = "casts: an example is not the place to show how they are avoided")]

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use llava_web::backend::cpu::Cpu;
use llava_web::gguf::RangedSource;
use llava_web::gguf::source::FileSource;
use llava_web::quant::Format;
use llava_web::runtime::engine::{Engine, Event, ImageInput, LoadOptions};
use llava_web::runtime::request;
use llava_web::{Error, Result};

const USAGE: &str = "usage: ask --model FILE.gguf [--mmproj FILE.gguf] [--image FILE]... [--system TEXT] [--template NAME]
           [--context N] [--max-tokens N] [--temperature T] [--seed N] [--quantize-mmproj q4_0|q8_0] QUESTION

A split model is given as several --model, in order.";

#[derive(Default)]
struct Arguments {
    model: Vec<String>,
    mmproj: Vec<String>,
    images: Vec<String>,
    system: Option<String>,
    template: Option<String>,
    context: Option<usize>,
    max_tokens: Option<usize>,
    temperature: f32,
    seed: i64,
    quantize_mmproj: Option<Format>,
    question: String,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut a = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--model" => a.model.push(words.next()?),
                "--mmproj" => a.mmproj.push(words.next()?),
                "--image" => a.images.push(words.next()?),
                "--system" => a.system = Some(words.next()?),
                "--template" => a.template = Some(words.next()?),
                "--context" => a.context = Some(words.next()?.parse().ok()?),
                "--max-tokens" => a.max_tokens = Some(words.next()?.parse().ok()?),
                "--temperature" => a.temperature = words.next()?.parse().ok()?,
                "--seed" => a.seed = words.next()?.parse().ok()?,
                "--quantize-mmproj" => {
                    let name = words.next()?;
                    a.quantize_mmproj = Some(Format::ALL.into_iter().find(|f| f.name().eq_ignore_ascii_case(&name))?);
                }
                flag if flag.starts_with("--") => return None,
                _ => a.question = word,
            }
        }
        (!a.model.is_empty() && !a.question.is_empty()).then_some(a)
    }
}

/// Milliseconds since the first call.
fn now() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

fn open(paths: &[String]) -> Result<Vec<Box<dyn RangedSource>>> {
    paths.iter().map(|path| FileSource::open(path).map(|f| Box::new(f) as Box<dyn RangedSource>)).collect()
}

async fn ask(a: &Arguments) -> Result<()> {
    let options = LoadOptions {
        context_size: a.context,
        chat_template: a.template.clone(),
        quantize_mmproj: a.quantize_mmproj,
        ..LoadOptions::new(now)
    };
    let mmproj = if a.mmproj.is_empty() { None } else { Some(open(&a.mmproj)?) };
    let mut shown = (0, 0);
    let mut engine = Engine::load(Cpu::new(), open(&a.model)?, mmproj, options, &mut |p| {
        // A line per megabyte is enough for a person.
        if (p.total, p.loaded >> 20) == shown && p.loaded < p.total {
            return;
        }
        shown = (p.total, p.loaded >> 20);
        eprint!("\r{} {} {:.1} of {:.1} MB   ", p.stage, p.file, p.loaded as f64 / 1e6, p.total as f64 / 1e6);
    })
    .await?;
    eprintln!();
    let mut images = Vec::new();
    for path in &a.images {
        let bytes = std::fs::read(path).map_err(|e| Error::invalid_image(format!("'{path}' cannot be read: {e}.")))?;
        images.push(ImageInput::Encoded(bytes));
    }
    let mut parts: Vec<serde_json::Value> =
        (0..images.len()).map(|image| serde_json::json!({ "type": "image", "image": image })).collect();
    parts.push(serde_json::json!({ "type": "text", "text": a.question }));
    let mut messages = Vec::new();
    if let Some(system) = &a.system {
        messages.push(serde_json::json!({ "role": "system", "content": system }));
    }
    messages.push(serde_json::json!({ "role": "user", "content": parts }));
    let request = serde_json::json!({
        "messages": messages, "temperature": a.temperature, "seed": a.seed, "max_tokens": a.max_tokens,
    });
    engine.start_chat(&request::parse(&request.to_string())?, &images)?;
    loop {
        match engine.step().await? {
            Event::Progress { stage, done, total } => eprint!("\r{stage} {done} of {total}   "),
            Event::Token { text, .. } => {
                print!("{text}");
                let _ = std::io::stdout().flush();
            }
            Event::Done { text, usage, .. } => {
                println!("{text}");
                eprintln!(
                    "{} prompt tokens ({} of pictures) at {:.1}/s, picture {:.0} ms, {} tokens at {:.1}/s",
                    usage.prompt_tokens,
                    usage.image_tokens,
                    usage.prefill_tokens_per_second,
                    usage.image_ms,
                    usage.completion_tokens,
                    usage.decode_tokens_per_second
                );
                return Ok(());
            }
        }
    }
}

fn main() -> ExitCode {
    let Some(arguments) = Arguments::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match pollster::block_on(ask(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ask: {error}");
            ExitCode::FAILURE
        }
    }
}
