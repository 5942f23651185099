//! `llava-web pack MODEL.gguf`: cuts a model into pieces for hosts that limit the size of a file, with a manifest of their hashes.
//! The address of the manifest is then a `Source` like any other: `createEngine({ model: "https://…/MODEL.gguf.pieces.json" })`.

mod pack;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: llava-web pack MODEL.gguf [--size MEGABYTES] [--out FOLDER]

Writes MODEL.gguf.pieces.json and the pieces it names. Publish all of them in one folder, and give the manifest's
address as the model. Without --size a piece has 24 MB, which hosts with a limit of 25 MB take.
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(said) => {
            print!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("llava-web: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the arguments say; what it gives back is for standard output.
fn run(arguments: Vec<String>) -> Result<String, String> {
    let mut arguments = arguments.into_iter();
    match arguments.next().as_deref() {
        Some("pack") => {}
        None | Some("help" | "--help" | "-h") => return Ok(USAGE.to_string()),
        Some(other) => return Err(format!("there is no command '{other}'\n\n{USAGE}")),
    }
    let (mut model, mut out, mut megabytes) = (None, None, 24u64);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--size" => {
                let text = value()?;
                megabytes = text
                    .parse()
                    .ok()
                    .filter(|n| (1..=4000).contains(n))
                    .ok_or_else(|| format!("--size {text}: give whole megabytes, 1 to 4000"))?;
            }
            "--out" => out = Some(PathBuf::from(value()?)),
            "--help" | "-h" => return Ok(USAGE.to_string()),
            flag if flag.starts_with('-') => return Err(format!("pack has no option {flag}\n\n{USAGE}")),
            _ if model.is_none() => model = Some(PathBuf::from(argument)),
            _ => return Err(format!("pack takes one model, and '{argument}' is a second one")),
        }
    }
    let model = model.ok_or_else(|| format!("which model?\n\n{USAGE}"))?;
    let out = out.unwrap_or_else(|| model.parent().map(PathBuf::from).unwrap_or_default());
    let packed = pack::pack(&model, &out, megabytes << 20).map_err(|e| e.to_string())?;
    Ok(format!("{}: {} pieces, {} bytes, SHA-256 {}\n", packed.manifest.display(), packed.pieces, packed.size, packed.sha256))
}

#[cfg(test)]
mod tests {
    use super::run;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn arguments_that_are_wrong_are_named() {
        for (line, word) in [
            ("unpack x", "unpack"),
            ("pack", "which model"),
            ("pack a b", "second"),
            ("pack a --size", "needs a value"),
            ("pack a --size 0", "--size 0"),
            ("pack a --size many", "--size many"),
            ("pack a --fast", "--fast"),
            ("pack /no/such/file.gguf", "/no/such/file.gguf"),
        ] {
            let error = run(words(line)).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
        assert!(run(words("")).unwrap().starts_with("usage"));
        assert!(run(words("pack --help")).unwrap().starts_with("usage"));
    }
}
