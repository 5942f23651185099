//! GGUF headers: any bytes, and files whose shape a custom mutator keeps.
//!
//! * Memory: at most eight times the input (an array of `uint8` becomes one of `i64`) and a megabyte.
//! * A prefix that is too short says how long it must be, and that is longer; the whole of a sound header is sound in every prefix.
//! * Tensors that were accepted have sizes that can be computed, and reading them gives their bytes or an error.

use llava_web::gguf::header::{Parsed, parse};
use llava_web::gguf::{Gguf, MemorySource};

use super::{expect_code, memory};

const CODES: &[&str] = &["invalid_gguf", "unsupported_quantization"];

/// The body.
pub fn run(data: &[u8]) {
    memory::within(8 * data.len() + (1 << 20), || parts(data));
    // The same as a file: its bytes are held as well.
    memory::within(16 * data.len() + (1 << 20), || file(data));
}

fn parts(data: &[u8]) {
    let whole = parse(data, Some(data.len() as u64));
    match &whole {
        Ok(Parsed::NeedBytes(n)) => panic!("{n} bytes of a file of {} are needed", data.len()),
        Ok(Parsed::Header(_)) => {}
        Err(error) => expect_code(error, CODES),
    }
    // Without the length nothing can be known to be too long.
    match parse(data, None) {
        Ok(Parsed::NeedBytes(n)) => assert!(n > data.len() as u64, "{n} bytes are needed where {} are there", data.len()),
        Ok(Parsed::Header(header)) => {
            for tensor in &header.tensors {
                assert!(tensor.n_elements() > 0 && tensor.n_bytes() > 0, "{tensor:?}");
            }
        }
        Err(error) => expect_code(&error, CODES),
    }
    if let Ok(Parsed::Header(_)) = whole {
        // A few prefixes; where they are cut depends on the input.
        let sum = data.iter().fold(0usize, |sum, &b| sum.wrapping_mul(31).wrapping_add(usize::from(b)));
        for cut in [sum % data.len(), (sum / 7) % data.len(), data.len() - 1] {
            match parse(&data[..cut], None) {
                Ok(Parsed::NeedBytes(n)) => assert!(n > cut as u64),
                Ok(Parsed::Header(_)) => {}
                Err(error) => panic!("a prefix of {cut} bytes of a sound header is refused: {error}"),
            }
        }
    }
}

fn file(data: &[u8]) {
    let source = MemorySource::new("fuzzed.gguf", data.to_vec());
    let gguf = match pollster::block_on(Gguf::open(vec![Box::new(source)])) {
        Ok(gguf) => gguf,
        Err(error) => return expect_code(&error, CODES),
    };
    for tensor in gguf.in_file_order().into_iter().take(8) {
        let n = tensor.info.n_bytes();
        let mut out = vec![0; n.min(64) as usize];
        for from in [0, n - out.len() as u64] {
            if let Err(error) = pollster::block_on(gguf.read(tensor, from, &mut out)) {
                expect_code(&error, CODES);
            }
        }
    }
    assert!(gguf.tensor("no such tensor \0").is_none());
}
