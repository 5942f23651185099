//! The bodies of the fuzz targets (`tests/fuzz`) over their corpora: what fuzzing once found stays found, with a stable compiler and in
//! every run of the tests.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]

#[allow(dead_code, reason = "the fuzz targets use the rest")]
#[path = "fuzz/bodies/lib.rs"]
mod bodies;

use std::path::{Path, PathBuf};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    all.sort();
    all
}

/// The seeds are those that the program makes now. `LLAVA_WEB_WRITE_SEEDS=1` writes them.
#[test]
fn seeds_are_those_that_are_made() {
    let writes = std::env::var_os("LLAVA_WEB_WRITE_SEEDS").is_some();
    for (target, name, bytes) in bodies::seeds::all() {
        let folder = bodies::seeds::folder(target);
        if writes {
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join(&name), &bytes).expect("writes");
        }
        let found = std::fs::read(folder.join(&name)).unwrap_or_else(|e| panic!("{target}/{name}: {e}"));
        // The numbers in a session are as the machine rounds them.
        assert!(
            found == bytes || target == "session",
            "{target}/{name} would be made otherwise now: LLAVA_WEB_WRITE_SEEDS=1 writes it anew"
        );
    }
}

#[test]
fn every_input_of_the_corpora_is_dealt_with() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let names: Vec<&str> = bodies::BODIES.iter().map(|(name, _)| *name).collect();
    for folder in files(&corpora) {
        let name = folder.file_name().and_then(|n| n.to_str()).expect("a name");
        assert!(names.contains(&name), "there is no target {name}");
    }
    for (name, body) in bodies::BODIES {
        let inputs = files(&corpora.join(name));
        assert!(!inputs.is_empty(), "{name} has no seeds");
        for input in inputs {
            // Printed only where the test fails: the last one named is the one.
            println!("{}", input.display());
            body(&std::fs::read(&input).expect("reads"));
        }
    }
}

#[test]
fn seeds_get_to_the_end() {
    use bodies::models;
    let seed = |path: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(path);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    // A seed that is refused at the door would leave everything behind it to chance.
    for name in [
        "llama-small-blocks",
        "llama-floats",
        "qwen2",
        "phi3",
        "llama-q6_k",
        "llama-mxfp4",
        "llama-iq3_s",
        "llama-iq2_xs",
        "llama-iq1_m",
        "llama-tq1_0",
    ] {
        let mut engine = models::load(&seed(&format!("language_model/{name}")), None).unwrap_or_else(|e| panic!("{name}: {e}"));
        let request = serde_json::json!({ "prompt": "a b: hello", "max_tokens": 2, "temperature": 0 });
        models::complete(&mut engine, &request, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    for name in ["mlp-f16", "linear-f32", "anyres-q8_0"] {
        let file = &seed(&format!("vision_model/{name}"))[1..];
        models::load(&models::language_model(), Some(file)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// What the custom mutator takes apart and puts together is the same file.
#[test]
fn files_in_parts_are_the_files() {
    for bytes in [bodies::models::language_model(), bodies::models::vision_model()] {
        let file = bodies::gguf_file::File::read(&bytes).expect("a file");
        assert_eq!(file.write(), bytes);
    }
    let mut random = bodies::random::Random::new(1);
    let mut changed = bodies::models::language_model();
    let mut n_sound = 0;
    for _ in 0..2000 {
        let mut file = bodies::gguf_file::File::read(&changed).expect("still a file");
        file.mutate(&mut random, &mut |_, size, _| size);
        let bytes = file.write();
        n_sound += usize::from(bodies::gguf_file::File::read(&bytes).is_some());
        // Mutations of mutations, now and then from the start again.
        changed = match bodies::gguf_file::File::read(&bytes) {
            Some(_) if n_sound % 8 != 0 => bytes,
            _ => bodies::models::language_model(),
        };
    }
    assert!(n_sound > 1500, "{n_sound} of 2000 mutations keep the shape");
}
