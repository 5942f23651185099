//! The layers of the crate and of the page, enforced on what the sources name.
//!
//! Every path in `src/**/*.rs` (in `use` lines and elsewhere; not in comments, strings and test modules) and every import
//! in `www/**/*.js` is held against the rules below. Folders that do not exist have nothing to break.

use std::path::{Path, PathBuf};

/// The modules of the crate, and those that each may name. `error` may be named by all.
const MAY_NAME: [(&str, &[&str]); 9] = [
    ("error", &[]),
    ("quant", &[]),
    ("gguf", &["quant"]),
    ("image", &["gguf"]),
    ("text", &["gguf"]),
    ("backend", &["quant"]),
    // A vision model names the recipe its pictures need.
    ("model", &["backend", "image", "gguf", "quant"]),
    ("runtime", &["model", "backend", "text", "image", "gguf", "quant"]),
    ("wasm", &["runtime", "model", "backend", "text", "image", "gguf", "quant"]),
];

/// Crates that only one place may name.
const CRATE_ONLY_IN: [(&str, &str); 10] = [
    ("wgpu", "backend/gpu"),
    ("naga", "backend/gpu"),
    ("wasm_bindgen", "wasm"),
    ("wasm_bindgen_futures", "wasm"),
    ("js_sys", "wasm"),
    ("web_sys", "wasm"),
    ("console_error_panic_hook", "wasm"),
    ("candle_core", "backend/cpu"),
    ("tokenizers", "text"),
    ("minijinja", "text"),
];

/// Names of one backend or of the browser, which generic code does not know.
const CONCRETE: [&str; 8] = ["Cpu", "Gpu", "CpuBackend", "GpuBackend", "JsValue", "JsString", "JsFuture", "Uint8Array"];
/// The modules that are generic.
const GENERIC: [&str; 2] = ["model", "runtime"];

/// A path like `crate::gguf::Gguf` and the line it is in.
#[derive(Debug, Clone, PartialEq)]
struct Named {
    line: usize,
    segments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    Sign(char),
}

/// Words and signs of Rust source with their lines; comments, strings, character literals and numbers' insides are gone.
fn rust_tokens(source: &str) -> Vec<(usize, Token)> {
    let c: Vec<char> = source.chars().collect();
    let at = |i: usize| c.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < c.len() {
        let start = i;
        if c[i] == '/' && at(i + 1) == '/' {
            while i < c.len() && c[i] != '\n' {
                i += 1;
            }
        } else if c[i] == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            while i < c.len() {
                match (c[i], at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        } else if c[i] == '"' {
            i += 1;
            while i < c.len() && c[i] != '"' {
                i += if c[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c[i] == '\'' && at(i + 1) == '\\' {
            i += 3;
            while i < c.len() && c[i] != '\'' {
                i += 1;
            }
            i += 1;
        } else if c[i] == '\'' && at(i + 2) == '\'' {
            i += 3;
        } else if c[i] == '\'' {
            // A lifetime: its name is no path.
            i += 1;
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
        } else if c[i].is_alphanumeric() || c[i] == '_' {
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            let word: String = c[start..i].iter().collect();
            let hashes = (i..).take_while(|k| at(*k) == '#').count();
            if ["r", "br", "cr"].contains(&word.as_str()) && at(i + hashes) == '"' {
                let end: String = format!("\"{}", "#".repeat(hashes));
                let from = i + hashes + 1;
                let rest: String = c[from..].iter().collect();
                let n = rest.find(&end).map_or(rest.chars().count(), |n| rest[..n].chars().count());
                i = from + n + end.len();
            } else {
                tokens.push((line, Token::Word(word)));
            }
        } else if c[i] == ':' && at(i + 1) == ':' {
            tokens.push((line, Token::Colons));
            i += 2;
        } else {
            if !c[i].is_whitespace() {
                tokens.push((line, Token::Sign(c[i])));
            }
            i += 1;
        }
        line += c[start..i.min(c.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Leaves out what follows `#[cfg(test)]`, if that is a block: tests may name whatever they test with.
fn without_tests(tokens: Vec<(usize, Token)>) -> Vec<(usize, Token)> {
    let is_word = |t: &(usize, Token), w: &str| matches!(&t.1, Token::Word(v) if v == w);
    let is_sign = |t: &(usize, Token), s: char| t.1 == Token::Sign(s);
    let mut kept = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let t = &tokens[i..];
        let test = t.len() > 7
            && is_sign(&t[0], '#')
            && is_sign(&t[1], '[')
            && is_word(&t[2], "cfg")
            && is_sign(&t[3], '(')
            && is_word(&t[4], "test")
            && is_sign(&t[5], ')');
        if !test {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        // To the end of the item: a semicolon, or the brace that closes its first one.
        i += 7;
        let mut depth = 0;
        while i < tokens.len() {
            depth += i32::from(is_sign(&tokens[i], '{')) - i32::from(is_sign(&tokens[i], '}'));
            let end = depth == 0 && (is_sign(&tokens[i], '}') || is_sign(&tokens[i], ';'));
            i += 1;
            if end {
                break;
            }
        }
    }
    kept
}

/// Reads one path, trees in braces included, from `i` on, after `prefix`. Gives where it ends.
fn read_path(tokens: &[(usize, Token)], mut i: usize, prefix: &[String], out: &mut Vec<Named>) -> usize {
    let line = tokens.get(i).map_or(0, |t| t.0);
    let mut segments = prefix.to_vec();
    while let Some((_, Token::Word(word))) = tokens.get(i) {
        if word != "self" || segments.is_empty() {
            segments.push(word.clone());
        }
        i += 1;
        if tokens.get(i).map(|t| &t.1) != Some(&Token::Colons) {
            break;
        }
        i += 1;
        if tokens.get(i).map(|t| &t.1) == Some(&Token::Sign('{')) {
            i += 1;
            while let Some((_, token)) = tokens.get(i) {
                match token {
                    Token::Sign('}') => return i + 1,
                    Token::Word(_) => i = read_path(tokens, i, &segments, out),
                    // `as x`, commas, stars: nothing to name.
                    _ => i += 1,
                }
            }
        }
    }
    out.push(Named { line, segments });
    i
}

/// All paths that a source names, those beginning with `crate`, `self` and `super` resolved from the file's own module to
/// begin with `crate`.
fn named(file: &Path, source: &str) -> Vec<Named> {
    let mut module: Vec<String> = file.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|m| m == "mod" || m == "lib") {
        module.pop();
    }
    let tokens = without_tests(rust_tokens(source));
    let mut all = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        i = match tokens[i].1 {
            Token::Word(_) => read_path(&tokens, i, &[], &mut all),
            _ => i + 1,
        };
    }
    for path in &mut all {
        let supers = path.segments.iter().take_while(|s| *s == "super").count();
        let from_self = path.segments[0] == "self" && path.segments.len() > 1;
        if supers > 0 || from_self {
            let base = &module[..module.len().saturating_sub(supers)];
            let rest = &path.segments[supers.max(usize::from(from_self))..];
            path.segments = [&["crate".to_string()], base, rest].concat();
        }
    }
    all
}

/// What is wrong with a Rust file; its path is relative to `src`.
fn check_rust(file: &str, source: &str) -> Vec<String> {
    let path = Path::new(file);
    let module = path.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_string();
    let is_in = |place: &str| path.starts_with(place) || path == Path::new(&format!("{place}.rs"));
    let mut wrong = Vec::new();
    let mut backends = Vec::new();
    for Named { line, segments } in named(path, source) {
        let mut fail = |what: String| wrong.push(format!("src/{file}:{line}: {what}"));
        let first = segments[0].as_str();
        if first == "crate" && module != "lib" {
            let to = segments.get(1).map_or("", String::as_str);
            let allowed = MAY_NAME.iter().find(|(m, _)| *m == module).map_or(&[][..], |(_, a)| *a);
            let is_module = MAY_NAME.iter().any(|(m, _)| *m == to);
            if is_module && to != module && to != "error" && !allowed.contains(&to) {
                fail(format!("{module} may not name crate::{to}"));
            }
            let backend = segments.get(2).filter(|_| to == "backend").map_or("", String::as_str);
            if ["cpu", "gpu"].contains(&backend) {
                backends.push(backend.to_string());
                if !is_in("wasm") && path != Path::new("backend/mod.rs") && !is_in(&format!("backend/{backend}")) {
                    fail(format!("only wasm names the {backend} backend"));
                }
            }
        }
        for (name, place) in CRATE_ONLY_IN {
            let names_it = first == name || name == "candle_core" && first.starts_with("candle_");
            if names_it && !is_in(place) {
                fail(format!("only {place} names {first}"));
            }
        }
        if GENERIC.contains(&module.as_str())
            && let Some(concrete) = segments.iter().find(|s| CONCRETE.contains(&s.as_str()))
        {
            fail(format!("{module} may not name {concrete}"));
        }
    }
    wrong
}

/// JavaScript without its comments.
fn without_comments(source: &str) -> String {
    let c: Vec<char> = source.chars().collect();
    let mut out = String::new();
    let mut i = 0;
    while i < c.len() {
        match (c[i], c.get(i + 1)) {
            ('/', Some('/')) => {
                while i < c.len() && c[i] != '\n' {
                    i += 1;
                }
            }
            ('/', Some('*')) => {
                i += 2;
                while i < c.len() && !(c[i] == '*' && c.get(i + 1) == Some(&'/')) {
                    i += 1;
                }
                i += 2;
            }
            (quote @ ('"' | '\'' | '`'), _) => {
                let start = i;
                i += 1;
                // A quote inside a regular expression would swallow what follows; strings of the first two kinds end
                // with their line, which keeps that to one line.
                while i < c.len() && c[i] != quote && (quote == '`' || c[i] != '\n') {
                    i += if c[i] == '\\' { 2 } else { 1 };
                }
                i = (i + 1).min(c.len());
                out.extend(&c[start..i]);
            }
            _ => {
                out.push(c[i]);
                i += 1;
            }
        }
    }
    out
}

/// What a JavaScript file imports: the texts after `from`, `import` and `import(`.
fn imports(source: &str) -> Vec<String> {
    let source = without_comments(source);
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || c == '.';
    let mut all = Vec::new();
    for keyword in ["from", "import", "importScripts"] {
        for (at, _) in source.match_indices(keyword) {
            let rest = &source[at + keyword.len()..];
            if source[..at].ends_with(is_word) || rest.starts_with(is_word) {
                continue;
            }
            let rest = rest.trim_start();
            // `import(new URL("…", …))` too.
            let rest = rest.strip_prefix('(').map_or(rest, str::trim_start);
            let rest = rest.strip_prefix("new URL(").map_or(rest, str::trim_start);
            let mut chars = rest.chars();
            if let Some(quote @ ('"' | '\'' | '`')) = chars.next() {
                all.push(chars.take_while(|c| *c != quote).collect());
            }
        }
    }
    all
}

/// What is wrong with a JavaScript file; its path is relative to `www`.
fn check_js(file: &str, source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let room = file.rsplit_once('/').map_or("", |(folder, _)| folder.split('/').next().unwrap_or(""));
    let is_ui = room == "chat" || room == "pages";
    for import in imports(source) {
        let is_pkg = import.split('/').rev().skip(1).any(|folder| folder.starts_with("pkg"));
        if is_pkg && file != "worker/load.js" {
            wrong.push(format!("www/{file}: only worker/load.js imports pkg/ ({import})"));
        }
        let last = import.rsplit('/').next().unwrap_or("");
        if last == "start-worker.js" && !["wire/client.js", "worker/load.js"].contains(&file) {
            wrong.push(format!("www/{file}: only wire/client.js starts the worker, and the worker its helpers"));
        }
        let from = import.rsplit('/').nth(1).unwrap_or("");
        if is_ui && ["worker", "wire", "fetching", "storage"].contains(&from) {
            wrong.push(format!("www/{file}: the user interface does not import {from}/{last}"));
        }
        if ["worker", "fetching", "storage", "wire"].contains(&room) && ["chat", "pages", "talk", "model", "base"].contains(&from)
        {
            wrong.push(format!("www/{file}: the engine does not import {from}/{last}"));
        }
    }
    let code = without_comments(source).split_whitespace().collect::<Vec<_>>().join(" ");
    let creates = ["new Worker(", "new SharedWorker(", "new Worker (", "new SharedWorker ("].iter().any(|w| code.contains(w));
    if creates && file != "wire/start-worker.js" {
        wrong.push(format!("www/{file}: only wire/start-worker.js creates workers"));
    }
    wrong
}

/// All files under a folder whose names end so, and their paths relative to it. Generated folders are left out.
fn files(folder: &Path, ending: &str) -> Vec<(String, PathBuf)> {
    let mut all = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for path in entries.map(|e| e.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with("pkg") && name != "node_modules" {
                open.push(path);
            } else if path.is_file() && name.ends_with(ending) {
                let relative = path.strip_prefix(folder).unwrap().to_string_lossy().replace('\\', "/");
                all.push((relative, path));
            }
        }
    }
    all
}

#[test]
fn sources_keep_to_the_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rust = files(&root.join("src"), ".rs");
    assert!(rust.iter().any(|(f, _)| f == "lib.rs"), "the sources are not where they should be");
    let mut wrong: Vec<String> = Vec::new();
    for (file, path) in rust {
        let module = file.split('/').next().unwrap().trim_end_matches(".rs");
        if module != "lib" && !MAY_NAME.iter().any(|(m, _)| *m == module) {
            wrong.push(format!("src/{file}: the module '{module}' has no place in the table of layers"));
        }
        wrong.extend(check_rust(&file, &std::fs::read_to_string(path).unwrap()));
    }
    for (file, path) in files(&root.join("www"), ".js") {
        wrong.extend(check_js(&file, &std::fs::read_to_string(path).unwrap()));
    }
    wrong.sort();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_rust_checker_can_fail() {
    let bad = [
        ("quant/mod.rs", "use crate::gguf::Gguf;", "quant may not name crate::gguf"),
        ("quant/q4_0.rs", "use super::super::model;", "quant may not name crate::model"),
        ("gguf/mod.rs", "fn f() -> crate::backend::Epilogue { todo!() }", "gguf may not name crate::backend"),
        ("model/lm/llama.rs", "use crate::{error::Result, runtime::{Sampler, Session}};", "model may not name crate::runtime"),
        ("model/lm/llama.rs", "use crate::backend::{Backend, cpu};", "only wasm names the cpu backend"),
        ("model/mod.rs", "use super::backend::gpu::Device;", "only wasm names the gpu backend"),
        ("runtime/engine/mod.rs", "type E = Engine<Cpu>;", "runtime may not name Cpu"),
        ("runtime/engine/mod.rs", "use wasm_bindgen::prelude::*;", "only wasm names wasm_bindgen"),
        ("model/mod.rs", "fn f(x: js_sys::Array) {}", "only wasm names js_sys"),
        ("backend/cpu/mod.rs", "use wgpu::Device;", "only backend/gpu names wgpu"),
        ("backend/cpu/mod.rs", "use super::gpu::Gpu;", "only wasm names the gpu backend"),
        ("backend/mod.rs", "use crate::model::Model;", "backend may not name crate::model"),
        ("text/mod.rs", "use candle_core::Tensor;", "only backend/cpu names candle_core"),
        ("text/mod.rs", "const C: char = '\"'; use crate::image;", "text may not name crate::image"),
        ("text/mod.rs", "const C: &str = r#\"a\"b\"#; use crate::image;", "text may not name crate::image"),
        ("text/mod.rs", "#[cfg(test)] mod tests { fn f() {} } use crate::image;", "text may not name crate::image"),
        ("image.rs", "pub(in crate::image) fn f<'a>(x: &'a crate::wasm::X) {}", "image may not name crate::wasm"),
    ];
    for (file, source, reason) in bad {
        let wrong = check_rust(file, source);
        assert!(wrong.iter().any(|w| w.contains(reason)), "{file}: {source}: {wrong:?}");
    }
    let line = check_rust("quant/mod.rs", "//! Doc.\n\n/* a\n b */\nuse crate::gguf;\n");
    assert_eq!(line, ["src/quant/mod.rs:5: quant may not name crate::gguf"]);
}

#[test]
fn the_rust_checker_can_pass() {
    let good = [
        ("quant/q5_k.rs", "use super::q4_k::scales_mins; use crate::error::{Error, Result};"),
        ("gguf/header.rs", "//! See [`crate::model`].\n/// And [`crate::backend::cpu`].\nuse crate::quant::Format;"),
        ("gguf/file.rs", "const T: &str = \"use crate::model\"; /* crate::model */"),
        ("model/mod.rs", "use crate::backend::{Backend, Heads}; #[cfg(test)] mod tests { use crate::backend::cpu::Cpu; }"),
        ("backend/gpu/mod.rs", "use super::{Backend, Heads}; use wgpu::Device; pub mod shaders; use self::shaders::X;"),
        ("backend/mod.rs", "pub mod cpu; use self::cpu::Cpu as _;"),
        ("wasm/mod.rs", "use crate::backend::{cpu::Cpu, gpu::Gpu}; use wasm_bindgen::JsValue;"),
        ("lib.rs", "pub mod wasm; pub use error::{Error, Result};"),
        ("image/decode.rs", "use image::DynamicImage; use crate::gguf::Metadata;"),
    ];
    for (file, source) in good {
        assert_eq!(check_rust(file, source), [""; 0], "{file}: {source}");
    }
}

#[test]
fn the_js_checker_can_fail_and_pass() {
    let bad = [
        ("pages/chat.js", "import init from '../pkg/llava_web.js';", "only worker/load.js"),
        ("wire/client.js", "const m = await import(`../pkg-threads/llava_web.js`);", "only worker/load.js"),
        ("llava-web.js", "export * from \"./pkg/x.js\";", "only worker/load.js"),
        ("sw.js", "importScripts('./pkg/x.js')", "only worker/load.js"),
        ("pages/chat.js", "const w = new Worker(new URL('./worker.js', import.meta.url))", "only wire/start-worker.js"),
        ("pages/chat.js", "import { startWorker } from '../wire/start-worker.js';", "only wire/client.js"),
        ("chat/talk/message.js", "import { EngineClient } from '../../wire/client.js';", "does not import wire/client.js"),
        ("chat/element.js", "import\n{ a,\n b }\nfrom\n'../worker/worker.js';", "does not import worker/worker.js"),
        ("worker/worker.js", "import { bytes } from '../chat/base/format.js';", "the engine does not import base/format.js"),
    ];
    for (file, source, reason) in bad {
        let wrong = check_js(file, source);
        assert!(wrong.iter().any(|w| w.contains(reason)), "{file}: {source}: {wrong:?}");
    }
    let good = [
        ("worker/load.js", "import init from '../pkg/llava_web.js'; const m = await import('../pkg-threads/llava_web.js');"),
        ("wire/start-worker.js", "return new Worker(url, { type: 'module' });"),
        ("wire/client.js", "import { startWorker } from './start-worker.js';"),
        ("pages/chat.js", "// import x from './pkg/x.js'\n/* new Worker('x') */ const files = ['./pkg/x.js'];"),
        ("chat/element.js", "import { createEngine } from '../llava-web.js'; const u = 'https://x.y'; // new Worker("),
        ("chat/base/list.js", "const a = Array.from('./pkg/x'); import './style.js';"),
    ];
    for (file, source) in good {
        assert_eq!(check_js(file, source), [""; 0], "{file}: {source}");
    }
}

/// No file of tests is left out: each is a program of its own in `Cargo.toml` or a module of one of those in `tests/suites`.
#[test]
fn every_file_of_tests_is_compiled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let entries = |path: &str| std::fs::read_dir(root.join(path)).expect("a folder").map(|entry| entry.expect("an entry").path());
    let named = entries("tests/suites").fold(read(root.join("Cargo.toml")), |all, suite| all + &read(suite));
    let mut n_files = 0;
    for file in entries("tests").filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let is_named = [format!("\"../{name}\""), format!("\"tests/{name}\"")].iter().any(|path| named.contains(path));
        assert!(is_named, "tests/{name} is never run: name it in one of tests/suites, or as a program of its own in Cargo.toml");
        n_files += 1;
    }
    assert!(n_files > 20, "{n_files} files");
}
