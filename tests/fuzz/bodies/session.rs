//! Saved sessions: any bytes, made to pass the checksum unless they ask not to, restored into a running engine.
//!
//! * A session is taken or refused as the caller's fault, or as damaged.
//! * One that was taken is saved again as the same bytes.
//! * The engine answers afterwards, in both cases.

use std::cell::RefCell;
use std::hash::Hasher;

use llava_web::backend::cpu::Cpu;
use llava_web::image::RgbImage;
use llava_web::runtime::engine::{Engine, ImageInput};
use serde_json::json;
use siphasher::sip::SipHasher13;

use super::{expect_code, memory, models};

const CODES: &[&str] = &["integrity", "invalid_request", "mmproj_mismatch", "context_overflow"];
/// Where the fingerprints are, and the numbers of layers, elements and tokens.
const IDENTITY: std::ops::Range<usize> = 24..52;

struct Running {
    engine: Engine<Cpu>,
    identity: Vec<u8>,
}

thread_local!(static RUNNING: RefCell<Running> = RefCell::new(running()));

fn running() -> Running {
    let mut engine = models::load(&models::language_model(), Some(&models::vision_model())).expect("sound files");
    let identity = example(&mut engine)[IDENTITY].to_vec();
    Running { engine, identity }
}

fn picture() -> ImageInput {
    ImageInput::Pixels(RgbImage::new(3, 2, (0..18).map(|i| i * 13).collect()).expect("a small picture"))
}

fn save(engine: &mut Engine<Cpu>) -> Vec<u8> {
    let mut bytes = Vec::new();
    pollster::block_on(engine.save_session(&mut |piece| bytes.extend_from_slice(piece))).expect("nothing is generated");
    bytes
}

fn example(engine: &mut Engine<Cpu>) -> Vec<u8> {
    models::complete(engine, &json!({ "prompt": "a <image> b", "max_tokens": 2 }), &[picture()]).expect("a sound model");
    save(engine)
}

/// A session with a picture, as the engine of this target saves it: a seed.
pub fn seed() -> Vec<u8> {
    let mut bytes = example(&mut running().engine);
    bytes.truncate(bytes.len() - 8);
    bytes.insert(0, 0);
    bytes
}

/// The body. The bits of the first byte say what is left as it is: 1 the checksum, 2 the length, 4 the model's identity.
pub fn run(data: &[u8]) {
    let Some((&keep, session)) = data.split_first() else { return };
    let mut session = session.to_vec();
    RUNNING.with_borrow_mut(|Running { engine, identity }| {
        memory::within(16 << 20, || {
            if keep & 4 == 0 && session.len() >= IDENTITY.end {
                session[IDENTITY].copy_from_slice(identity);
            }
            if keep & 1 == 0 {
                if keep & 2 == 0 && session.len() >= 24 {
                    let n = session.len() as u64 + 8;
                    session[16..24].copy_from_slice(&n.to_le_bytes());
                }
                let mut checksum = SipHasher13::new();
                checksum.write(&session);
                session.extend(checksum.finish().to_le_bytes());
            }
            match pollster::block_on(engine.restore_session(&session[..])) {
                Ok(()) => assert_eq!(without_names(save(engine)), without_names(session)),
                Err(error) => return expect_code(&error, CODES),
            }
            let request = json!({ "prompt": "a <image> b", "max_tokens": 1, "temperature": 0 });
            models::complete(engine, &request, &[picture()]).expect("the engine is sound");
        });
    });
}

/// Bytes of what a session says of a picture.
const PICTURE_BYTES: usize = 44;

/// A session without what is written anew: its length, the names of the model, pictures that nothing shows, and the checksum.
fn without_names(session: Vec<u8>) -> Vec<u8> {
    let number = |at: usize| u32::from_le_bytes(session[at..at + 4].try_into().expect("four bytes")) as usize;
    let (n_slots, n_pictures) = (number(52), number(56));
    let architecture = 72 + 4 + number(72);
    let pictures = architecture + 4 + number(architecture);
    let slots = pictures + PICTURE_BYTES * n_pictures;
    let mut out = session[slots + 8 * n_slots..session.len() - 8].to_vec();
    // A slot by what it shows, for the numbers of pictures change where one is left out.
    for slot in session[slots..slots + 8 * n_slots].chunks(8) {
        let picture = u32::from_le_bytes(slot[..4].try_into().expect("four bytes")) as usize;
        match picture.checked_sub(1) {
            Some(i) => out.extend(&session[pictures + PICTURE_BYTES * i..pictures + PICTURE_BYTES * i + 8]),
            None => out.extend([0; 8]),
        }
        out.extend(&slot[4..]);
    }
    out
}
