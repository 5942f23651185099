//! The command `llava-web`: models are converted, checked, asked, packed and served from a shell.

#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "sizes and scores are numbers for people")]

mod ask;
mod convert;
mod error;
mod info;
mod pack;
mod progress;
mod serve;
#[cfg(test)]
mod tests;
mod verify;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::error::Result;

const ABOUT: &str = "\
Your own LLaVA in a browser tab: makes a pair of GGUF files of a Hugging Face folder, checks it, asks it, and prepares it for a web host.

A first session:
  llava-web convert my-llava --out pair --type q4_k_m --mmproj q8_0
  llava-web info pair/*.gguf
  llava-web ask --model pair/my-llava-Q4_K_M.gguf --mmproj pair/mmproj-my-llava-Q8_0.gguf --image cat.jpg \"What is this?\"";

/// The arguments.
#[derive(Debug, Parser)]
#[command(name = "llava-web", version, about = "Converts LLaVA-family models to GGUF, checks them, asks them, serves them", long_about = ABOUT)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a pair of GGUF files of a Hugging Face folder
    Convert(convert::Arguments),
    /// Compare a pair with the float network it was made of
    ///
    /// Runs the folder's weights through candle's CLIP and LLaMA beside the engine and prints how near both are at every stage. Fails where a
    /// stage does.
    Verify(verify::Arguments),
    /// Say what GGUF files are, what they need, and what would refuse them
    Info {
        /// The files; a language model and its vision file are also checked together
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Ask a model about pictures, on this machine's CPU
    Ask(ask::Arguments),
    /// Serve a folder to browsers, with ranges, compression and the headers that threads need
    Serve(serve::Arguments),
    /// Cut a model into pieces for hosts that limit the size of a file
    ///
    /// Writes MODEL.gguf.pieces.json and the pieces it names. Publish all of them in one folder, and give the manifest's address as the model.
    Pack {
        /// The GGUF file
        model: PathBuf,
        /// Megabytes of a piece; hosts with a limit of 25 MB take 24
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=4000))]
        size: u64,
        /// Where the pieces are written; default: beside the model
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
    /// Print what completes this command's words in a shell: source <(llava-web completions bash)
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command, &mut std::io::stdout()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("llava-web: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what a command says; what it has to say goes to `out`.
fn run(command: Command, out: &mut dyn Write) -> Result<ExitCode> {
    // Whoever closes the pipe has read enough.
    let mut say = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    match command {
        Command::Convert(arguments) => {
            let done = convert::convert(&arguments)?;
            for (path, size) in [&done.model, &done.mmproj].into_iter().zip(done.sizes) {
                say(format!("{}: {:.1} MB", path.display(), size as f64 / 1e6));
            }
            done.notes.into_iter().for_each(|note| say(format!("note: {note}")));
        }
        Command::Verify(arguments) => {
            let report = verify::verify(&arguments)?;
            say(report.text.trim_end().to_string());
            if !report.passes {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Info { files } => {
            let (text, is_sound) = info::describe(&files);
            say(text);
            if !is_sound {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Ask(arguments) => ask::ask(&arguments, out)?,
        Command::Serve(arguments) => serve::serve(&arguments, &mut |address| say(format!("http://{address}/")))?,
        Command::Pack { model, size, out } => {
            let out = out.unwrap_or_else(|| model.parent().map(PathBuf::from).unwrap_or_default());
            let packed = pack::pack(&model, &out, size << 20)?;
            say(format!(
                "{}: {} pieces, {} bytes, SHA-256 {}",
                packed.manifest.display(),
                packed.pieces,
                packed.size,
                packed.sha256
            ));
        }
        Command::Completions { shell } => clap_complete::generate(shell, &mut Arguments::command(), "llava-web", out),
    }
    Ok(ExitCode::SUCCESS)
}
