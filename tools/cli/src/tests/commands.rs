//! The other commands, on golden models and what is converted of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use safetensors::tensor::Dtype;

use super::command;
use super::folders::{Folder, copy_hf, golden, save};
use super::round_trip::{converted, llava_hf};

fn words<'a>(all: &'a [&'a str], paths: &'a [PathBuf]) -> Vec<&'a str> {
    all.iter().copied().chain(paths.iter().map(|path| path.to_str().expect("a name"))).collect()
}

fn tiny(at: &Folder) -> PathBuf {
    let folder = at.sub("tiny");
    copy_hf("tiny-llava/hf", &folder);
    save(&folder.join("model.safetensors"), &llava_hf(), Dtype::F16);
    folder
}

#[test]
fn verify_tells_a_right_pair_from_a_wrong_one() {
    let at = Folder::new("verify");
    let folder = tiny(&at);
    let image = golden("images/chelsea.png");
    let run = |pair: &[PathBuf]| {
        let arguments =
            ["verify", folder.to_str().expect("a name"), "--image", image.to_str().expect("a name"), "--text-tokens", "12"];
        let parsed = clap::Parser::try_parse_from(std::iter::once("llava-web").chain(words(&arguments, pair)));
        let parsed: crate::Arguments = parsed.expect("arguments");
        let crate::Command::Verify(arguments) = parsed.command else { panic!("another command") };
        crate::verify::verify(&arguments).unwrap_or_else(|e| panic!("{e}"))
    };
    let pair = converted(&folder, "f16", "f16", &[]);
    let report = run(&pair);
    println!("{}", report.text);
    assert!(report.passes, "{}", report.text);
    let cosine = |stage: &str| -> f32 {
        let line = report.text.lines().find(|line| line.starts_with(stage)).expect("a line");
        line.rsplit(' ').next().expect("a number").parse().expect("a number")
    };
    assert!(cosine("rows") > 0.99999 && cosine("logits") > 0.9999 && cosine("pixels") > 0.999, "{}", report.text);
    // As a folder, too.
    assert!(run(&[pair[0].parent().expect("a folder").into()]).passes);
    // A vision file that lacks a block, as llama.cpp's reading of older files does.
    let mut short = std::fs::read(&pair[1]).expect("reads");
    let key = b"clip.vision.feature_layer";
    let at_key = short.windows(key.len()).position(|w| w == key).expect("there") + key.len() + 4 + 4 + 8;
    assert_eq!(short[at_key], 2);
    short[at_key] = 1;
    let wrong = at.0.join("mmproj-wrong.gguf");
    std::fs::write(&wrong, short).expect("writes");
    let report = run(&[pair[0].clone(), wrong]);
    assert!(!report.passes && report.text.contains("FAILED"), "{}", report.text);
}

#[test]
fn info_says_what_a_pair_is_and_what_would_refuse_it() {
    let pair = [golden("tiny-llava/tiny-llava-q4_k_m.gguf"), golden("tiny-llava/mmproj-new-f16.gguf")];
    let said = command(&words(&["info"], &pair)).expect("says");
    for word in
        ["language model, llama", "vision file (mmproj), clip", "Q4_K 20", "context 2048", "feature_layer  [2]", "2048 tokens"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    let at = Folder::new("info");
    let other = at.0.join("other.gguf");
    let bytes = std::fs::read(&pair[0]).expect("reads");
    let at_name = bytes.windows(5).position(|w| w == b"llama").expect("there");
    let mut changed = bytes.clone();
    changed[at_name..at_name + 5].copy_from_slice(b"mamba");
    std::fs::write(&other, changed).expect("writes");
    let cut = at.0.join("cut.gguf");
    std::fs::write(&cut, &bytes[..100]).expect("writes");
    for (path, word) in [(&other, "mamba"), (&cut, "refused"), (&at.0.join("none.gguf"), "refused")] {
        let said = command(&words(&["info"], std::slice::from_ref(path))).expect("says");
        assert!(said.contains("refused") && said.contains(word), "{said}");
    }
    // Each is sound, but they are no pair.
    let wrong = [golden("tiny-smolvlm/tiny-smolvlm-f16.gguf"), pair[1].clone()];
    let said = command(&words(&["info"], &wrong)).expect("says");
    assert!(said.contains("together\n  refused"), "{said}");
}

#[test]
fn ask_answers() {
    let files =
        [golden("tiny-llava/tiny-llava-q4_0.gguf"), golden("tiny-llava/mmproj-new-f16.gguf"), golden("images/coffee.jpg")];
    let [model, mmproj, image] = files.each_ref().map(|path| path.to_str().expect("a name"));
    let line = ["ask", "--model", model, "--mmproj", mmproj, "--image", image, "--max-tokens", "5", "What is this?"];
    let first = command(&line).expect("answers");
    assert!(!first.trim().is_empty());
    assert_eq!(command(&line).expect("answers"), first, "the likeliest answer is always the same");
    let error = command(&["ask", "--model", "/no/such.gguf", "What?"]).expect_err("there is none").to_string();
    assert!(error.contains("/no/such.gguf"), "{error}");
}

/// Sends a request; gives back the head in lower case, and the body.
fn get(port: u16, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n").expect("sends");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("receives");
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer[end + 4..].to_vec())
}

#[test]
fn serve_has_ranges_isolation_and_compression() {
    let at = Folder::new("serve");
    std::fs::write(at.0.join("index.html"), format!("<p>{}</p>", "long ".repeat(1000))).expect("writes");
    let model: Vec<u8> = (0..5000u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(at.0.join("m.gguf"), &model).expect("writes");
    let folder = at.0.clone();
    let (send, receive) = std::sync::mpsc::channel();
    // It serves until the tests' process ends.
    std::thread::spawn(move || {
        let arguments = crate::serve::Arguments { folder, port: 0, public: false };
        crate::serve::serve(&arguments, &mut |address| send.send(address.port()).expect("somebody waits"))
    });
    let port = receive.recv_timeout(std::time::Duration::from_secs(20)).expect("serves");
    let (head, body) = get(port, "/m.gguf", "Range: bytes=100-199\r\nAccept-Encoding: gzip\r\n");
    assert!(head.starts_with("http/1.1 206") && head.contains("content-range: bytes 100-199/5000"), "{head}");
    assert!(!head.contains("content-encoding"), "{head}");
    assert_eq!(body, &model[100..200]);
    for header in ["cross-origin-opener-policy: same-origin", "cross-origin-embedder-policy: require-corp"] {
        assert!(head.contains(header), "{head}");
    }
    let (head, body) = get(port, "/m.gguf", "Accept-Encoding: gzip\r\n");
    assert!(head.contains("accept-ranges: bytes") && head.contains("content-length: 5000"), "{head}");
    assert_eq!(body, model);
    let (head, body) = get(port, "/", "Accept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip") && head.contains("text/html") && body.len() < 1000, "{head}");
    let (head, _) = get(port, "/../Cargo.toml", "");
    assert!(head.starts_with("http/1.1 404"), "{head}");
    let taken = command(&["serve", at.0.to_str().expect("a name"), "--port", &port.to_string()]).expect_err("taken").to_string();
    assert!(taken.contains("--port"), "{taken}");
}

/// A Python with the `gguf` package, where there is one.
fn python() -> Option<String> {
    let named = std::env::var("LLAVA_WEB_PYTHON").ok();
    named
        .into_iter()
        .chain(["python3".to_string()])
        .find(|python| Command::new(python).args(["-c", "import gguf"]).output().is_ok_and(|output| output.status.success()))
}

#[test]
fn pythons_reader_of_gguf_reads_the_pair() {
    let Some(python) = python() else {
        eprintln!(
            "SKIPPED: pythons_reader_of_gguf_reads_the_pair: python3 has no package gguf (pip install gguf; or name one in LLAVA_WEB_PYTHON)"
        );
        return;
    };
    let at = Folder::new("python");
    let pair = converted(&tiny(&at), "q4_k_m", "q8_0", &[]);
    let program = "import sys, gguf\nfor path in sys.argv[1:]:\n    r = gguf.GGUFReader(path)\n    for t in r.tensors: gguf.dequantize(t.data, t.tensor_type)\n    \
        print(r.get_field('general.architecture').contents(), len(r.tensors), sorted({t.tensor_type.name for t in r.tensors}))";
    let output = Command::new(python).arg("-c").arg(program).args(&pair).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("llama 30 ['F32', 'Q4_K', 'Q6_K']") && said.contains("clip "), "{said}");
}
