//! Reading GGUF files: sound ones to the last byte, and hostile ones without a panic or much memory.
//!
//! `LLAVA_WEB_GOLDEN` may name a folder with more golden files and their `gguf_schema.json`.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;

use common::gguf_writer::{GgufWriter, Val};
use common::random::Random;
use llava_web::Error;
use llava_web::gguf::header::parse;
use llava_web::gguf::{Gguf, Header, LocalFuture, MemorySource, Parsed, RangedSource, Value};
use llava_web::quant::{Format, Stored};
use pollster::block_on;

/// The system's allocator, counting what each thread has and had at most.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // At a thread's end its counters may be gone; nobody looks at them any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to `System` as it came; the counters are plain cells and allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `at` came from `alloc` above, which is `System`'s.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What the closure gives, and how many bytes it held at most beyond those held before.
fn peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = run();
    (result, (PEAK.get() - before) as usize)
}

/// What parsing a header may take. An array of `uint8` becomes one of `i64`, eight times its size, which is the worst
/// of everything; the rest is for small files.
fn allowance(file: usize) -> usize {
    8 * file + (1 << 20)
}

/// A source that checks that it is read in ascending order, each byte once.
struct Stream {
    bytes: Vec<u8>,
    knows_length: bool,
    at: Cell<u64>,
    log: Rc<RefCell<Vec<(u64, usize)>>>,
}

impl Stream {
    fn new(bytes: Vec<u8>, knows_length: bool) -> Self {
        Self { bytes, knows_length, at: Cell::new(0), log: Rc::default() }
    }
}

impl RangedSource for Stream {
    fn name(&self) -> &str {
        "stream.gguf"
    }

    fn len(&self) -> Option<u64> {
        self.knows_length.then_some(self.bytes.len() as u64)
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, llava_web::Result<()>> {
        assert!(offset >= self.at.get(), "read at {offset} after {}", self.at.get());
        self.at.set(offset + out.len() as u64);
        self.log.borrow_mut().push((offset, out.len()));
        let piece = self.bytes.get(offset as usize..offset as usize + out.len());
        let done = match piece {
            Some(piece) => {
                out.copy_from_slice(piece);
                Ok(())
            }
            None => Err(Error::invalid_gguf("ends early")),
        };
        Box::pin(std::future::ready(done))
    }
}

fn open(files: Vec<Vec<u8>>) -> llava_web::Result<Gguf> {
    let sources = files.into_iter().enumerate();
    block_on(Gguf::open(sources.map(|(i, b)| Box::new(MemorySource::new(format!("part{i}.gguf"), b)) as _).collect()))
}

fn header(bytes: &[u8]) -> Header {
    match parse(bytes, Some(bytes.len() as u64)).expect("a sound header") {
        Parsed::Header(header) => *header,
        Parsed::NeedBytes(n) => panic!("needs {n} bytes of {}", bytes.len()),
    }
}

/// The error of a file, parsed with its length known; and parsed with it unknown, it is no panic either.
fn error(bytes: &[u8]) -> Error {
    let (result, peak) = peak(|| parse(bytes, Some(bytes.len() as u64)));
    assert!(peak <= allowance(bytes.len()), "{peak} bytes for a file of {}", bytes.len());
    let (_, peak) = self::peak(|| parse(bytes, None));
    assert!(peak <= allowance(bytes.len()), "{peak} bytes for a file of {}", bytes.len());
    match result {
        Err(error) => {
            assert!(error.message().len() < 1000, "a message for people: {error}");
            error
        }
        Ok(parsed) => panic!("accepted: {parsed:?}"),
    }
}

/// Asserts that the file is refused as invalid, for this reason.
#[track_caller]
fn refused(bytes: &[u8], reason: &str) {
    let error = error(bytes);
    assert_eq!(error.code(), "invalid_gguf", "{error}");
    assert!(error.message().contains(reason), "'{reason}' is not in: {error}");
}

/// A file with metadata of every kind and three tensors.
fn small() -> GgufWriter {
    let q4: Vec<u8> = Random::new(5).bytes(36).into_iter().map(|b| b & 0x3f).collect();
    GgufWriter::new()
        .kv("u8", Val::U8(200))
        .kv("i8", Val::I8(-100))
        .kv("u16", Val::U16(60000))
        .kv("i16", Val::I16(-30000))
        .kv("u32", Val::U32(4_000_000_000))
        .kv("i32", Val::I32(-2_000_000_000))
        .kv("f32", Val::F32(0.1))
        .kv("bool", Val::Bool(true))
        .kv("string", Val::str("Größe"))
        .kv("u64", Val::U64(1 << 60))
        .kv("i64", Val::I64(-(1 << 60)))
        .kv("f64", Val::F64(0.1))
        .kv("strings", Val::strings(["a", "", "ccc"]))
        .kv("floats", Val::floats([1.0, -2.5]))
        .kv("ints", Val::ints([1, -2, 3]))
        .kv("bools", Val::Array(7, vec![Val::Bool(true), Val::Bool(false)]))
        .kv("bytes", Val::Array(0, vec![Val::U8(255)]))
        .kv("doubles", Val::Array(12, vec![Val::F64(0.5)]))
        .kv("empty", Val::Array(8, vec![]))
        .kv("nested", Val::Array(9, vec![Val::strings(["x"]), Val::ints([4, 5]), Val::Array(9, vec![Val::ints([])])]))
        .floats("norm.weight", &[4], &[1.0, 2.0, 3.0, 4.0])
        .tensor("matrix.weight", Format::Q4_0, &[32, 2], q4)
        .tensor("half", Format::F16, &[3, 1, 2], vec![1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0])
}

#[test]
fn every_kind_of_value_is_read() {
    for version in [2, 3] {
        let bytes = small().version(version).finish();
        let h = header(&bytes);
        assert_eq!(h.version, version);
        let m = &h.metadata;
        assert_eq!(m.uint("u8"), Some(200));
        assert_eq!(m.int("i8"), Some(-100));
        assert_eq!(m.uint("u16"), Some(60000));
        assert_eq!(m.int("i16"), Some(-30000));
        assert_eq!(m.uint("u32"), Some(4_000_000_000));
        assert_eq!(m.int("i32"), Some(-2_000_000_000));
        assert_eq!(m.float("f32"), Some(0.1));
        assert_eq!(m.bool("bool"), Some(true));
        assert_eq!(m.str("string"), Some("Größe"));
        assert_eq!(m.uint("u64"), Some(1 << 60));
        assert_eq!(m.int("i64"), Some(-(1 << 60)));
        assert_eq!(m.get("f64"), Some(&Value::Float(0.1)));
        assert_eq!(m.strings("strings").unwrap(), ["a", "", "ccc"]);
        assert_eq!(m.floats("floats").unwrap(), [1.0, -2.5]);
        assert_eq!(m.ints("ints").unwrap(), [1, -2, 3]);
        assert_eq!(m.ints("bools").unwrap(), [1, 0]);
        assert_eq!(m.ints("bytes").unwrap(), [255]);
        assert_eq!(m.floats("doubles").unwrap(), [0.5]);
        assert_eq!(m.strings("empty").unwrap(), [""; 0]);
        assert_eq!(m.get("nested"), Some(&Value::Nested(3)));
        assert_eq!(m.uint("i8"), None, "a negative number is not a count");
        assert_eq!(m.uint("string"), None);
        assert_eq!(m.require_usize("absent").unwrap_err().code(), "invalid_gguf");
        assert_eq!(m.require_usize("u64").unwrap_err().code(), "invalid_gguf");
        assert_eq!(m.require_usize("u16").unwrap(), 60000);
        let list: Vec<_> =
            h.tensors.iter().map(|t| (t.name.as_str(), t.format.kept_as(), t.dims.as_slice(), t.offset, t.n_bytes())).collect();
        assert_eq!(
            list,
            [
                ("norm.weight", Format::F32, &[4][..], 0, 16),
                ("matrix.weight", Format::Q4_0, &[32, 2], 32, 36),
                ("half", Format::F16, &[3, 1, 2], 96, 12),
            ]
        );
        assert_eq!((h.tensors[2].row_len(), h.tensors[2].n_rows(), h.tensors[2].n_elements()), (3, 2, 6));
        assert_eq!(h.data_offset + 96 + 12, bytes.len() as u64);
    }
}

#[test]
fn alignments_are_heeded() {
    for alignment in [1, 2, 8, 64, 4096] {
        let bytes = small().alignment(alignment).finish();
        let h = header(&bytes);
        assert_eq!(h.data_offset % u64::from(alignment), 0);
        let at = (h.data_offset + h.tensors[2].offset) as usize;
        assert_eq!(bytes[at..at + 12], [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
    }
    for bad in [Val::U32(0), Val::U32(3), Val::U32(24), Val::U32(1 << 31), Val::str("32"), Val::I32(-32)] {
        refused(&small().kv("general.alignment", bad).finish(), "alignment");
    }
}

/// The golden folders there are.
fn golden_folders() -> Vec<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    std::iter::once(own).chain(std::env::var_os("LLAVA_WEB_GOLDEN").map(PathBuf::from)).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] =
        std::array::from_fn(|i| (0..8).fold(i as u32, |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ c >> 1 } else { c >> 1 }));
    !bytes.iter().fold(!0, |c, b| table[((c ^ u32::from(*b)) & 255) as usize] ^ c >> 8)
}

/// Whether an element read equals one of the schema's.
fn same(ours: &Value, theirs: &serde_json::Value) -> bool {
    match ours {
        Value::Uint(v) => theirs.as_u64() == Some(*v),
        Value::Int(v) => theirs.as_i64() == Some(*v),
        // All are `float32`; the JSON reader may be off by a unit in the last place of its 64 bits.
        Value::Float(v) => theirs.as_f64().is_some_and(|t| t as f32 == *v as f32),
        Value::Bool(v) => theirs.as_bool() == Some(*v),
        Value::String(v) => theirs.as_str() == Some(v),
        _ => false,
    }
}

#[test]
fn golden_files_parse_to_their_schema() {
    let mut n_files = 0;
    for folder in golden_folders() {
        let schema = std::fs::read_to_string(folder.join("gguf_schema.json")).expect("gguf_schema.json");
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        for (path, expected) in schema.as_object().unwrap() {
            let bytes = std::fs::read(folder.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
            assert_eq!(bytes.len() as u64, expected["file_size"].as_u64().unwrap(), "{path}");
            let h = header(&bytes);
            assert_eq!(u64::from(h.version), expected["version"], "{path}");
            assert_eq!(h.data_offset, expected["data_offset"], "{path}");

            let pairs = expected["metadata"].as_array().unwrap();
            assert_eq!(h.metadata.iter().count(), pairs.len(), "{path}");
            for pair in pairs {
                let key = pair["key"].as_str().unwrap();
                let ours = h.metadata.get(key).unwrap_or_else(|| panic!("{path}: {key}"));
                let ours: Vec<Value> = match ours {
                    Value::Ints(all) => all.iter().map(|v| Value::Int(*v)).collect(),
                    Value::Floats(all) => all.iter().map(|v| Value::Float(f64::from(*v))).collect(),
                    Value::Strings(all) => all.iter().map(|v| Value::String(v.clone())).collect(),
                    one => vec![one.clone()],
                };
                let all_same = |ours: &[Value], theirs: &serde_json::Value| {
                    let theirs = theirs.as_array().unwrap();
                    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| same(a, b))
                };
                if pair["type"] != "array" {
                    assert!(same(&ours[0], &pair["value"]), "{path}: {key}: {ours:?} and {pair}");
                } else if pair.get("value").is_some() {
                    assert!(all_same(&ours, &pair["value"]), "{path}: {key}: {ours:?} and {pair}");
                } else {
                    assert_eq!(ours.len() as u64, pair["len"].as_u64().unwrap(), "{path}: {key}");
                    assert!(all_same(&ours[..8], &pair["first"]), "{path}: {key}: {pair}");
                    assert!(all_same(&ours[ours.len() - 8..], &pair["last"]), "{path}: {key}: {pair}");
                }
            }

            let list = expected["tensors"].as_array().unwrap();
            assert_eq!(h.tensors.len(), list.len(), "{path}");
            for (ours, theirs) in h.tensors.iter().zip(list) {
                let dims: Vec<u64> = ours.dims.iter().map(|n| *n as u64).collect();
                assert_eq!(ours.name, theirs["name"].as_str().unwrap(), "{path}");
                assert_eq!(serde_json::json!(dims), theirs["ne"], "{path}: {}", ours.name);
                assert_eq!(ours.format.name(), theirs["type"], "{path}: {}", ours.name);
                assert_eq!(ours.offset, theirs["offset"], "{path}: {}", ours.name);
                assert_eq!(ours.n_bytes(), theirs["nbytes"], "{path}: {}", ours.name);
            }
            // The bytes as the index serves them, partly from the header's tail.
            let gguf = open(vec![bytes]).unwrap();
            for theirs in list {
                let tensor = gguf.tensor(theirs["name"].as_str().unwrap()).unwrap();
                let mut out = vec![0; tensor.info.n_bytes() as usize];
                block_on(gguf.read(tensor, 0, &mut out)).unwrap();
                assert_eq!(u64::from(crc32(&out)), theirs["crc32"], "{path}: {}", tensor.info.name);
            }
            n_files += 1;
        }
    }
    assert!(n_files >= 2);
}

/// Where the header of [`small`] ends, before padding: the shortest prefix that is enough.
fn header_end(bytes: &[u8]) -> usize {
    (0..).find(|n| matches!(parse(&bytes[..*n], None), Ok(Parsed::Header(_)))).unwrap()
}

#[test]
fn truncation_at_every_byte() {
    let bytes = small().finish();
    let end = header_end(&bytes);
    let whole = format!("{:?}", header(&bytes));
    for n in 0..bytes.len() {
        // Nothing is known of what follows: more is asked for, and never more than there is to the header.
        match parse(&bytes[..n], None).unwrap() {
            Parsed::NeedBytes(need) => assert!(n < end && need > n as u64 && need <= end as u64, "{need} at {n} of {end}"),
            Parsed::Header(h) => {
                assert!(n >= end);
                assert_eq!(format!("{h:?}"), whole, "of {n} bytes");
            }
        }
        // The file goes on: the same.
        match parse(&bytes[..n], Some(bytes.len() as u64)).unwrap() {
            Parsed::NeedBytes(need) => assert!(n < end && need > n as u64 && need <= end as u64),
            Parsed::Header(h) => assert_eq!(format!("{h:?}"), whole),
        }
        // The file ends there: it is truncated, wherever that is.
        assert_eq!(error(&bytes[..n]).code(), "invalid_gguf", "at {n}");
        assert_eq!(open(vec![bytes[..n].to_vec()]).err().expect("truncated").code(), "invalid_gguf", "at {n}");
    }
    println!("cut at {} places", bytes.len());
}

/// The bytes of a header with one claim in place of the truth.
fn claiming(n_tensors: u64, n_pairs: u64) -> Vec<u8> {
    GgufWriter::new().claim(Some(n_tensors), Some(n_pairs)).finish()
}

#[test]
fn counts_that_lie() {
    let around = [1, 65535, 65536, 65537, 1 << 24, (1 << 24) + 1, 1 << 32, u64::MAX / 12, u64::MAX / 8, u64::MAX - 1, u64::MAX];
    for n in around {
        for (n_tensors, n_pairs) in [(n, 0), (0, n), (n, n)] {
            let bytes = claiming(n_tensors, n_pairs);
            assert_eq!(error(&bytes).code(), "invalid_gguf");
            // The same where the length is unknown and the source really is short.
            let (result, peak) = peak(|| block_on(Gguf::open(vec![Box::new(Stream::new(bytes, false))])).map(|_| ()));
            assert_eq!(result.unwrap_err().code(), "invalid_gguf");
            assert!(peak < 1 << 20, "{peak}");
        }
        // A key, a string and a tensor's name of that length.
        let mut key = claiming(0, 1);
        key.extend(n.to_le_bytes());
        assert_eq!(error(&key).code(), "invalid_gguf");
        let mut text = claiming(0, 1);
        text.extend([1, 0, 0, 0, 0, 0, 0, 0, b'k', 8, 0, 0, 0]);
        text.extend(n.to_le_bytes());
        assert_eq!(error(&text).code(), "invalid_gguf");
        let mut name = claiming(1, 0);
        name.extend(n.to_le_bytes());
        assert_eq!(error(&name).code(), "invalid_gguf");
        // Arrays of that length, of each type, and an array of such.
        for kind in 0..14_u32 {
            let mut array = claiming(0, 1);
            array.extend([1, 0, 0, 0, 0, 0, 0, 0, b'k', 9, 0, 0, 0]);
            array.extend(kind.to_le_bytes());
            array.extend(n.to_le_bytes());
            assert_eq!(error(&array).code(), "invalid_gguf");
            let mut nested = claiming(0, 1);
            nested.extend([1, 0, 0, 0, 0, 0, 0, 0, b'k', 9, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
            nested.extend(kind.to_le_bytes());
            nested.extend(n.to_le_bytes());
            assert_eq!(error(&nested).code(), "invalid_gguf");
        }
    }
}

/// A header that claims much, of a source whose length is unknown: memory follows what the source has, not the claim.
#[test]
fn claims_are_not_believed_without_a_length() {
    let mut bytes = claiming(0, 1);
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, b'k', 9, 0, 0, 0, 10, 0, 0, 0]);
    bytes.extend((15_u64 << 20).to_le_bytes());
    bytes.resize(1 << 20, 0);
    let source = Stream::new(bytes, false);
    let (result, peak) = peak(|| block_on(Gguf::open(vec![Box::new(source)])).map(|_| ()));
    assert_eq!(result.unwrap_err().code(), "invalid_gguf");
    assert!(peak < 5 << 20, "{peak}");
}

#[test]
fn memory_is_bounded_by_the_file() {
    let bounded = |bytes: Vec<u8>, what: &str| {
        let (result, peak) = peak(|| parse(&bytes, Some(bytes.len() as u64)).map(|_| ()));
        assert!(peak <= allowance(bytes.len()), "{what}: {peak} bytes for a file of {} ({result:?})", bytes.len());
    };
    let mut many_pairs = GgufWriter::new();
    let mut many_tensors = GgufWriter::new();
    for i in 0..50_000_u64 {
        // The shortest distinct names there are.
        let name: String = [i % 64, i / 64 % 64, i / 4096].map(|c| char::from(b'0' + c as u8)).iter().collect();
        many_pairs = many_pairs.kv(&name, Val::Bool(true));
        many_tensors = many_tensors.tensor_raw(&name, 0, &[], vec![], Some(4 * i));
    }
    bounded(many_pairs.finish(), "pairs");
    let mut bytes = many_tensors.finish();
    bytes.resize(bytes.len() + 300_000, 0);
    bounded(bytes, "tensors");
    let n = 1 << 20;
    bounded(GgufWriter::new().kv("k", Val::Array(0, vec![Val::U8(1); n])).finish(), "bytes");
    bounded(GgufWriter::new().kv("k", Val::strings(std::iter::repeat_n("", n))).finish(), "strings");
    bounded(GgufWriter::new().kv("k", Val::strings(std::iter::repeat_n("ab", n))).finish(), "strings");
    bounded(GgufWriter::new().kv("k", Val::floats(std::iter::repeat_n(0.5, n))).finish(), "floats");
    bounded(GgufWriter::new().kv("k", Val::Array(9, vec![Val::Array(0, vec![]); n])).finish(), "nested");
    // Bytes that are not UTF-8 become three each.
    let mut text = claiming(0, 1);
    text.extend([1, 0, 0, 0, 0, 0, 0, 0, b'k', 8, 0, 0, 0]);
    text.extend((n as u64).to_le_bytes());
    text.resize(text.len() + n, 0xff);
    assert_eq!(header(&text).metadata.str("k").unwrap().chars().count(), n);
    bounded(text, "text");
}

#[test]
fn array_bombs() {
    let mut value = Val::ints([1]);
    for _ in 0..3 {
        value = Val::Array(9, vec![value]);
    }
    assert_eq!(header(&GgufWriter::new().kv("k", value.clone()).finish()).metadata.get("k"), Some(&Value::Nested(1)));
    refused(&GgufWriter::new().kv("k", Val::Array(9, vec![value.clone()])).finish(), "nests");
    for _ in 0..10_000 {
        value = Val::Array(9, vec![value]);
    }
    let bytes = GgufWriter::new().kv("k", value.clone()).finish();
    refused(&bytes, "nests");
    // Taken apart from the outside in: dropping it whole would recurse.
    while let Val::Array(9, mut inner) = value {
        value = inner.pop().unwrap();
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let float = || vec![0_u8; 4];
    refused(&small().kv("u8", Val::U8(1)).finish(), "'u8' is there twice");
    refused(&small().floats("half", &[1], &[0.0]).finish(), "'half' is listed twice");
    let w = GgufWriter::new;
    let two =
        |a: u64, b: u64| w().tensor_raw("a", 0, &[16], vec![0; 64], Some(a)).tensor_raw("b", 0, &[16], vec![0; 64], Some(b));
    assert_eq!(header(&two(0, 64).finish()).tensors.len(), 2);
    assert_eq!(header(&two(64, 0).finish()).tensors.len(), 2, "in any order");
    refused(&two(0, 32).finish(), "overlap");
    refused(&two(32, 0).finish(), "overlap");
    refused(&two(0, 0).finish(), "overlap");
    refused(&two(0, 96).finish(), "truncated");
    refused(&two(0, 1 << 40).finish(), "truncated");
    for misaligned in [1, 4, 31, 33, u64::MAX] {
        refused(&two(64, misaligned).finish(), "offset");
    }
    for far in [u64::MAX - 31, u64::MAX - 63, 1 << 63, (1 << 63) - 32] {
        assert_eq!(error(&two(64, far).finish()).code(), "invalid_gguf");
        assert!(parse(&two(0, u64::MAX - 31).finish(), None).is_err(), "also where the length is unknown");
    }
    for dims in [
        &[0][..],
        &[0, 4],
        &[4, 0],
        &[0, u64::MAX],
        &[u64::MAX],
        &[1 << 32, 1 << 32],
        &[1 << 31, 1 << 31, 4],
        &[1 << 16, 1 << 16, 1 << 16, 1 << 16],
        &[u64::MAX, 2],
        &[3, u64::MAX / 3 + 1],
    ] {
        refused(&w().tensor_raw("a", 0, dims, float(), None).finish(), "shape");
    }
    refused(&w().tensor_raw("a", 0, &[1, 1, 1, 1, 1], float(), None).finish(), "dimensions");
    refused(&w().tensor_raw("a", 2, &[33], vec![0; 18], None).finish(), "multiple of the 32");
    refused(&w().tensor_raw("a", 12, &[128, 2], vec![0; 144], None).finish(), "multiple of the 256");
    // The largest tensor that is believed has a size that the file must hold.
    refused(&w().tensor_raw("a", 0, &[(1 << 31) - 1], float(), None).finish(), "truncated");
    // No dimensions is one number.
    assert_eq!(header(&w().tensor_raw("a", 0, &[], float(), None).finish()).tensors[0].n_bytes(), 4);
    let mut unknown_kind = claiming(0, 1);
    unknown_kind.extend([1, 0, 0, 0, 0, 0, 0, 0, b'k', 13, 0, 0, 0, 0, 0, 0, 0]);
    refused(&unknown_kind, "value type 13");
}

#[test]
fn formats_that_are_not_read_are_named() {
    for (kind, name) in [(24, "an integer type"), (28, "F64"), (4, "4"), (41, "41"), (999, "999"), (u32::MAX, "4294967295")] {
        let bytes = GgufWriter::new().tensor_raw("blk.0.w", kind, &[256], vec![0; 512], None).finish();
        let error = error(&bytes);
        assert_eq!(error.code(), "unsupported_quantization");
        assert!(
            error.message().contains(name) && error.message().contains("'blk.0.w'") && error.message().contains("Q4_0"),
            "{error}"
        );
        assert!(error.message().contains("IQ2_XXS") && error.message().contains("MXFP4"), "{error}");
    }
}

#[test]
fn rows_are_whole_blocks_of_their_format() {
    for format in Stored::all().filter(|format| format.is_quantized()) {
        let (len, bytes) = (format.block_len(), format.block_bytes());
        let with_rows_of = |n: usize| {
            let data = vec![0; 4 * bytes];
            GgufWriter::new().tensor_raw("blk.0.w", format.ggml_type(), &[n as u64, 2], data, None).finish()
        };
        let tensor = header(&with_rows_of(2 * len)).tensors[0].clone();
        assert_eq!((tensor.format, tensor.n_bytes()), (format, 4 * bytes as u64));
        for n in [len / 2, len + 32 % len + 1, 2 * len - 1] {
            let error = error(&with_rows_of(n));
            assert_eq!(error.code(), "invalid_gguf");
            assert!(error.message().contains(&format!("multiple of the {len} of a {} block", format.name())), "{error}");
        }
    }
}

#[test]
fn what_is_no_gguf_is_said_to_be_something_else() {
    for text in [
        "<!DOCTYPE html><html>",
        "\n\n <html>",
        "version https://git-lfs.github.com/spec/v1",
        "{\"error\": \"x\"}",
        "\u{feff}<html>",
    ] {
        refused(text.as_bytes(), "text");
        assert_eq!(open(vec![text.into()]).err().unwrap().code(), "invalid_gguf");
    }
    refused(b"PK\x03\x04 and so on and on and on", "not a GGUF");
    refused(b"ggml\x01\x00\x00\x00", "not a GGUF");
    refused(b"FUGG\x00\x00\x00\x03", "big-endian");
    refused(b"GGUF\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00", "big-endian");
    refused(&small().version(1).finish(), "version 1");
    refused(&small().version(0).finish(), "version 0");
    refused(&small().version(4).finish(), "version 4");
    refused(b"", "truncated");
    refused(b"GGU", "truncated");
}

#[test]
fn split_models() {
    let a = small().kv("general.name", Val::str("A"));
    let parts = a.split(3);
    let gguf = open(parts.clone()).unwrap();
    assert_eq!(gguf.metadata.str("general.name"), Some("A"));
    assert_eq!(gguf.tensors().count(), 3);
    assert_eq!(gguf.n_bytes(), 16 + 36 + 12);
    let order: Vec<_> = gguf.in_file_order().iter().map(|t| (t.info.name.as_str(), t.file)).collect();
    assert_eq!(order, [("norm.weight", 0), ("matrix.weight", 1), ("half", 2)]);
    let mut out = [0; 6];
    block_on(gguf.read(gguf.tensor("half").unwrap(), 6, &mut out)).unwrap();
    assert_eq!(out, [4, 0, 5, 0, 6, 0]);

    let fails = |files: Vec<&Vec<u8>>, reason: &str| {
        let error = open(files.into_iter().cloned().collect()).err().expect("refused");
        assert_eq!(error.code(), "invalid_gguf", "{error}");
        assert!(error.message().contains(reason), "'{reason}' is not in: {error}");
    };
    fails(vec![&parts[1], &parts[0], &parts[2]], "'part0.gguf' is part 2 of a split model but was given as part 1");
    fails(vec![&parts[0], &parts[2], &parts[1]], "'part1.gguf' is part 3");
    fails(vec![&parts[0], &parts[0], &parts[2]], "'part1.gguf' is part 1");
    fails(vec![&parts[0]], "one of 3 parts");
    fails(vec![&parts[0], &parts[1]], "one of 3 parts");
    fails(vec![&parts[0], &parts[1], &parts[2], &parts[2]], "one of 3 parts");
    // Parts of another model: with other tensors, with the same, and of a model that is not split.
    let other = small().floats("more", &[1], &[1.0]).split(3);
    fails(vec![&parts[0], &parts[1], &other[2]], "not parts of one model");
    let shifted = GgufWriter::new().floats("a", &[1], &[1.0]).floats("half", &[1], &[1.0]).floats("c", &[1], &[1.0]).split(3);
    fails(vec![&parts[0], &shifted[1], &parts[2]], "'half' of 'part2.gguf'");
    let whole = small().finish();
    fails(vec![&whole, &whole], "one of 1 parts");
    // A part that lost a tensor on the way.
    let short = GgufWriter::new()
        .kv("split.no", Val::U16(1))
        .kv("split.count", Val::U16(2))
        .kv("split.tensors.count", Val::I32(3))
        .finish();
    fails(vec![&a.split(2)[0], &short], "a part is missing");
    assert_eq!(open(vec![]).err().unwrap().code(), "invalid_request");
}

/// A file whose header is longer than the first read, and whose tensors are longer than all of that.
fn large() -> GgufWriter {
    let mut random = Random::new(7);
    let words: Vec<String> = (0..8000).map(|i| format!("token number {i}")).collect();
    let mut w = GgufWriter::new().kv("tokens", Val::strings(words.iter().map(String::as_str)));
    for (i, n) in [100, 31, 7, 50_000, 1, 200_000, 3].into_iter().enumerate() {
        // Names that sort in another order than they stand in.
        w = w.tensor(&format!("t{}", (i * 3) % 7), Format::F16, &[n], random.bytes(2 * n));
    }
    w
}

/// A server without ranges is one stream: reading in file order never goes back, and no byte is read twice.
#[test]
fn sources_are_read_in_ascending_order() {
    for knows_length in [true, false] {
        for chunk in [1000, 1 << 20] {
            let files = vec![large().finish(), small().finish()];
            // The second is small and its length must be known: no source can be asked for more than it has.
            let sizes: Vec<usize> = files.iter().map(Vec::len).collect();
            let mut logs = vec![];
            let mut index = Vec::new();
            for (i, bytes) in files.iter().enumerate() {
                let source = Stream::new(bytes.clone(), knows_length || i == 1);
                logs.push(source.log.clone());
                let gguf = block_on(Gguf::open(vec![Box::new(source)])).unwrap();
                index.push(gguf);
            }
            for (gguf, bytes) in index.iter().zip(&files) {
                for tensor in gguf.in_file_order() {
                    let n = tensor.info.n_bytes();
                    let mut from = 0;
                    while from < n {
                        let mut out = vec![0; chunk.min((n - from) as usize)];
                        block_on(gguf.read(tensor, from, &mut out)).unwrap();
                        let at = (tensor.position + from) as usize;
                        assert!(out == bytes[at..at + out.len()], "{} at {from}", tensor.info.name);
                        from += out.len() as u64;
                    }
                }
            }
            for (log, size) in logs.iter().zip(sizes) {
                let total: usize = log.borrow().iter().map(|(_, n)| n).sum();
                assert!(total <= size, "{total} of {size}");
            }
        }
    }
}

#[test]
fn prefixes_can_be_let_go() {
    let bytes = small().finish();
    let gguf = open(vec![bytes.clone()]).unwrap();
    let tensor = gguf.tensor("matrix.weight").unwrap();
    let mut first = [0; 36];
    block_on(gguf.read(tensor, 0, &mut first)).unwrap();
    gguf.release_prefixes();
    let mut second = [0; 36];
    block_on(gguf.read(tensor, 0, &mut second)).unwrap();
    assert_eq!(first, second);
    assert_eq!(first[..], bytes[tensor.position as usize..][..36]);
    for (from, n) in [(0, 37), (36, 1), (u64::MAX, 1), (37, 0)] {
        assert_eq!(block_on(gguf.read(tensor, from, &mut vec![0; n])).unwrap_err().code(), "internal");
    }
    block_on(gguf.read(tensor, 36, &mut [])).unwrap();
}

/// Seeded damage to a small header: whatever comes out, it comes out without a panic and without much memory.
#[test]
fn damaged_headers_never_panic() {
    let sound = small().finish();
    let end = header_end(&sound);
    let mut random = Random::new(11);
    let mut n_refused = 0;
    for _ in 0..20_000 {
        let mut bytes = sound.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(end);
            bytes[at] = match random.below(3) {
                0 => bytes[at] ^ 1 << random.below(8),
                1 => [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                _ => random.below(256) as u8,
            };
        }
        let len = [Some(bytes.len() as u64), None][random.below(2)];
        let (result, peak) = peak(|| parse(&bytes, len));
        assert!(peak <= allowance(bytes.len()), "{peak}");
        match result {
            Err(error) => {
                n_refused += 1;
                assert!(["invalid_gguf", "unsupported_quantization"].contains(&error.code()));
            }
            // What is accepted can be read.
            Ok(Parsed::Header(h)) if len.is_some() => {
                let gguf = open(vec![bytes]).unwrap_or_else(|e| panic!("{e}: {h:?}"));
                for tensor in gguf.in_file_order() {
                    let mut out = vec![0; tensor.info.n_bytes() as usize];
                    block_on(gguf.read(tensor, 0, &mut out)).unwrap();
                    let mut row = vec![0.0; tensor.info.n_elements()];
                    tensor.info.format.decode_row(&out, &mut row);
                }
            }
            Ok(_) => {}
        }
    }
    assert!(n_refused > 1000, "{n_refused}");
}
