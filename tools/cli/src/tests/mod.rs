//! Golden models as Hugging Face folders, converted back.

mod commands;
mod folders;
mod hostile;
mod round_trip;

use clap::Parser;

use crate::error::Result;
use crate::{Arguments, run};

/// Runs a command line; gives back what it says, or the fault.
fn command(words: &[&str]) -> Result<String> {
    let arguments = Arguments::try_parse_from(std::iter::once("llava-web").chain(words.iter().copied()));
    let arguments = arguments.map_err(|e| crate::error::Error::new(e.to_string()))?;
    let mut out = Vec::new();
    run(arguments.command, &mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[test]
fn arguments_that_are_wrong_are_named() {
    for (line, word) in [
        (&["unpack", "x"][..], "unpack"),
        (&["pack"], "<MODEL>"),
        (&["pack", "a", "b"], "'b'"),
        (&["pack", "a", "--size"], "--size"),
        (&["pack", "a", "--size", "0"], "1..=4000"),
        (&["pack", "a", "--size", "many"], "many"),
        (&["pack", "a", "--fast"], "--fast"),
        (&["pack", "/no/such/file.gguf"], "/no/such/file.gguf"),
        (&["convert", "x", "--out", "y", "--type", "q9"], "q9"),
        (&["convert", "/no/such/folder", "--out", "y"], "is no folder"),
    ] {
        let error = command(line).expect_err(&line.join(" ")).to_string();
        assert!(error.contains(word), "{line:?}: {error}");
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let text = command(&["completions", shell]).expect("completes");
        // fish writes options without their dashes.
        assert!(text.contains("convert") && text.contains("mmproj"), "{shell}");
    }
}
