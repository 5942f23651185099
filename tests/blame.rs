//! A load that fails because of what a file says tells that file's source, and no other: a page that keeps the files deletes by it.

use crate::common;

use std::cell::Cell;
use std::rc::Rc;

use common::gguf_writer::{GgufWriter, Val};
use common::llava::{golden_bytes, memory, options};
use llava_web::Error;
use llava_web::backend::cpu::Cpu;
use llava_web::gguf::{Gguf, LocalFuture, MemorySource, RangedSource};
use llava_web::runtime::engine::{Engine, LoadOptions};

const MODEL: &str = "tiny-llava/tiny-llava-f16.gguf";
const MMPROJ: &str = "tiny-llava/mmproj-legacy-f16.gguf";

/// A file that notes whether it was put at fault, and whose connection may break.
struct Watched {
    bytes: MemorySource,
    is_refused: Rc<Cell<bool>>,
    breaks: bool,
}

impl RangedSource for Watched {
    fn name(&self) -> &str {
        self.bytes.name()
    }

    fn len(&self) -> Option<u64> {
        self.bytes.len()
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, llava_web::Result<()>> {
        if self.breaks {
            return Box::pin(std::future::ready(Err(Error::network("The connection broke."))));
        }
        self.bytes.read(offset, out)
    }

    fn refuse(&self) {
        self.is_refused.set(true);
    }
}

/// The files of a load, as bytes: the model's, then the vision model's.
struct Load {
    model: Vec<Vec<u8>>,
    mmproj: Vec<Vec<u8>>,
    backend: Cpu,
    options: LoadOptions,
    /// The file whose connection breaks, if one does.
    breaks: Option<usize>,
}

impl Load {
    fn new(model: Vec<Vec<u8>>, mmproj: Vec<Vec<u8>>) -> Self {
        Self { model, mmproj, backend: Cpu::new(), options: options(), breaks: None }
    }

    /// The code of the failure, and the numbers of the files that are put at fault.
    fn fails(self) -> (&'static str, Vec<usize>) {
        let mut noted = Vec::new();
        let mut sources = |files: Vec<Vec<u8>>| -> Vec<Box<dyn RangedSource>> {
            let mut all: Vec<Box<dyn RangedSource>> = Vec::new();
            for bytes in files {
                let is_refused = Rc::new(Cell::new(false));
                let number = noted.len();
                noted.push(is_refused.clone());
                let bytes = MemorySource::new(format!("file{number}.gguf"), bytes);
                all.push(Box::new(Watched { bytes, is_refused, breaks: self.breaks == Some(number) }));
            }
            all
        };
        let model = sources(self.model);
        let mmproj = (!self.mmproj.is_empty()).then(|| sources(self.mmproj));
        let loaded = pollster::block_on(Engine::load(self.backend, model, mmproj, self.options, &mut |_| {}));
        let error = loaded.err().expect("it fails");
        (error.code(), noted.iter().enumerate().filter(|(_, refused)| refused.get()).map(|(i, _)| i).collect())
    }
}

fn writer(path: &str) -> GgufWriter {
    let gguf = pollster::block_on(Gguf::open(memory("golden.gguf", golden_bytes(path)))).expect("sound");
    GgufWriter::copy_of(&gguf)
}

/// A file with each `from` made into `to`, of the same length.
fn patched(path: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = golden_bytes(path);
    let places: Vec<usize> = (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "{from} is not in {path}");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

#[test]
fn a_fault_of_the_metadata_is_put_down_to_its_file() {
    let (model, mmproj) = (golden_bytes(MODEL), golden_bytes(MMPROJ));
    for (what, code, load, at_fault) in [
        (
            "a number of the network's",
            "invalid_gguf",
            [writer(MODEL).set("llama.attention.head_count", Val::U32(0)).finish(), mmproj.clone()],
            0,
        ),
        (
            "a key that changes the network",
            "unsupported_architecture",
            [patched(MODEL, "llama.rope.freq_base", "llama.rope.freq_cake"), mmproj.clone()],
            0,
        ),
        ("the vocabulary", "invalid_gguf", [patched(MODEL, "tokenizer.ggml.tokens", "tokenizer.ggml.tokemz"), mmproj.clone()], 0),
        (
            "the vocabulary's model",
            "unsupported_architecture",
            [writer(MODEL).set("tokenizer.ggml.model", Val::str("none")).finish(), mmproj.clone()],
            0,
        ),
        (
            "a tensor that is not there",
            "invalid_gguf",
            [patched(MODEL, "blk.0.attn_q.weight", "blk.9.attn_q.weight"), mmproj.clone()],
            0,
        ),
        ("another kind of file", "unsupported_architecture", [mmproj.clone(), mmproj.clone()], 0),
        (
            "a number of the tower's",
            "invalid_gguf",
            [model.clone(), writer(MMPROJ).set("clip.vision.patch_size", Val::U32(0)).finish()],
            1,
        ),
        (
            "a key of the tower's",
            "unsupported_architecture",
            [model.clone(), patched(MMPROJ, "clip.vision.projection_dim", "clip.vision.projection_din")],
            1,
        ),
        (
            "a tensor of the tower's that is not there",
            "invalid_gguf",
            [model.clone(), patched(MMPROJ, "v.blk.0.ffn_up.weight", "v.blk.9.ffn_up.weight")],
            1,
        ),
        ("a vision file that is none", "unsupported_architecture", [model.clone(), model.clone()], 1),
    ] {
        let [model, mmproj] = load;
        assert_eq!(Load::new(vec![model], vec![mmproj]).fails(), (code, vec![at_fault]), "{what}");
    }
}

#[test]
fn a_fault_of_a_part_is_put_down_to_that_part() {
    let split = |writer: &GgufWriter| writer.split(3);
    let sound = writer(MODEL);
    let no_tokens = split(&sound.clone().set("tokenizer.ggml.tokens", Val::U32(1)));
    assert_eq!(Load::new(no_tokens, vec![]).fails(), ("invalid_gguf", vec![0]), "the first part has the metadata");
    let parts = split(&sound);
    let mut cut = parts.clone();
    cut[1].truncate(100);
    assert_eq!(Load::new(cut, vec![]).fails(), ("invalid_gguf", vec![1]), "a header");
    let mut not_finite = parts.clone();
    let end = not_finite[2].len();
    not_finite[2][end - 64..].fill(0xff);
    assert_eq!(Load::new(not_finite, vec![]).fails(), ("invalid_gguf", vec![2]), "a tensor");
    for wrong in [0.0, -2.0, f32::NAN] {
        let mut factors = [1.0; 32];
        factors[7] = wrong;
        let file = split(&sound.clone().floats("rope_freqs.weight", &[32], &factors));
        assert_eq!(Load::new(file, vec![]).fails(), ("invalid_gguf", vec![2]), "a divisor of {wrong}");
    }
    // What the metadata promises and no part has may be missing in any of them.
    let wider = split(&sound.clone().set("llama.feed_forward_length", Val::U32(32)));
    assert_eq!(Load::new(wider, vec![]).fails(), ("invalid_gguf", vec![0, 1, 2]), "shapes");
}

#[test]
fn what_is_no_files_fault_is_put_down_to_none() {
    let (model, mmproj) = (golden_bytes(MODEL), golden_bytes(MMPROJ));
    let load = || Load::new(vec![model.clone()], vec![mmproj.clone()]);
    let context = LoadOptions { context_size: Some(0), ..options() };
    assert_eq!(Load { options: context, ..load() }.fails(), ("invalid_request", vec![]));
    let template = LoadOptions { chat_template: Some("{% nothing %}".into()), ..options() };
    assert_eq!(Load { options: template, ..load() }.fails(), ("invalid_request", vec![]));
    assert_eq!(Load { backend: Cpu::with_memory_limit(1000), ..load() }.fails(), ("out_of_memory", vec![]));
    assert_eq!(Load { breaks: Some(0), ..load() }.fails(), ("network", vec![]));
    assert_eq!(Load { breaks: Some(1), ..load() }.fails(), ("network", vec![]));
    // Two sound files that are not of one model.
    let other = golden_bytes("tiny-smolvlm/mmproj-f16.gguf");
    assert_eq!(Load::new(vec![model.clone()], vec![other]).fails(), ("mmproj_mismatch", vec![]));
}
