//! A question about pictures, answered on this machine's CPU by the engine of the page.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use llava_web::backend::cpu::Cpu;
use llava_web::quant::Format;
use llava_web::runtime::engine::{Engine, Event, ImageInput, LoadOptions};
use llava_web::runtime::request;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::info::source;
use crate::progress::Bar;

/// What to ask, and whom.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The question
    question: String,
    /// The language model; a split one is given several times, in order
    #[arg(long, short, required = true, value_name = "FILE")]
    model: Vec<PathBuf>,
    /// The vision file that goes with it
    #[arg(long, value_name = "FILE")]
    mmproj: Option<PathBuf>,
    /// A picture; may be given several times
    #[arg(long, short, value_name = "FILE")]
    image: Vec<PathBuf>,
    /// What the model is told before all else
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A built-in chat template instead of the file's own
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Positions of the context; default: the model's, at most 4096
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// The longest answer
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// 0 is the likeliest answer, more is more varied
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// The same seed gives the same answer
    #[arg(long, default_value_t = 0)]
    seed: i64,
    /// Store the vision file's matrices in this format while it loads: q8_0 or q4_0
    #[arg(long, value_name = "FORMAT", value_parser = format_named)]
    quantize_mmproj: Option<Format>,
}

/// A format by its name.
fn format_named(name: &str) -> std::result::Result<Format, String> {
    Format::ALL.into_iter().find(|f| f.name().eq_ignore_ascii_case(name)).ok_or_else(|| "there is no such format".to_string())
}

/// Milliseconds since the first call.
pub fn now() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e3
}

/// Loads a pair, with a bar.
pub fn load(model: &[PathBuf], mmproj: Option<&Path>, options: LoadOptions) -> Result<Engine<Cpu>> {
    let files = model.iter().map(|path| source(path)).collect::<Result<Vec<_>>>()?;
    let mmproj = mmproj.map(|path| Ok::<_, Error>(vec![source(path)?])).transpose()?;
    let bar = Bar::new("loading", 1);
    let engine =
        pollster::block_on(Engine::load(Cpu::new(), files, mmproj, options, &mut |p| bar.set(p.file, p.loaded, p.total)));
    bar.finish();
    Ok(engine?)
}

/// Asks; the answer goes to `out` while it is made.
pub fn ask(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let options = LoadOptions {
        context_size: arguments.context,
        chat_template: arguments.template.clone(),
        quantize_mmproj: arguments.quantize_mmproj,
        ..LoadOptions::new(now)
    };
    let mut engine = load(&arguments.model, arguments.mmproj.as_deref(), options)?;
    let mut images = Vec::new();
    for path in &arguments.image {
        images.push(ImageInput::Encoded(std::fs::read(path).map_err(|e| Error::of_file("read", path, &e))?));
    }
    let mut parts: Vec<Value> = (0..images.len()).map(|image| json!({ "type": "image", "image": image })).collect();
    parts.push(json!({ "type": "text", "text": arguments.question }));
    let mut messages = Vec::new();
    if let Some(system) = &arguments.system {
        messages.push(json!({ "role": "system", "content": system }));
    }
    messages.push(json!({ "role": "user", "content": parts }));
    let request = json!({
        "messages": messages, "temperature": arguments.temperature, "seed": arguments.seed, "max_tokens": arguments.max_tokens,
    });
    engine.start_chat(&request::parse(&request.to_string())?, &images)?;
    let bar = Bar::new("reading", 1);
    loop {
        match pollster::block_on(engine.step())? {
            Event::Progress { stage, done, total } => bar.set(stage, done as u64, total as u64),
            Event::Token { text, .. } => {
                bar.finish();
                let _ = write!(out, "{text}");
                let _ = out.flush();
            }
            Event::Done { text, usage, .. } => {
                bar.finish();
                let _ = writeln!(out, "{text}");
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
