//! A file → pieces and a manifest.
//!
//! `NAME.00001-of-00012.piece` … are the file's bytes in order; each but the last has the same whole number of MiB, so that what a browser
//! keeps and checks as one (a MiB) lies in one piece. `NAME.pieces.json`:
//!
//! ```json
//! { "format": "llava-web pieces 1", "name": "NAME", "size": 123, "sha256": "…",
//!   "pieces": [{ "file": "NAME.00001-of-00012.piece", "size": 123, "sha256": "…" }] }
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

pub const FORMAT: &str = "llava-web pieces 1";
const MAGIC: &[u8] = b"GGUF";
const BLOCK: usize = 1 << 20;

/// What was written.
#[derive(Debug)]
pub struct Packed {
    pub manifest: PathBuf,
    pub pieces: usize,
    /// The whole file's, in bytes.
    pub size: u64,
    /// The whole file's, in hex.
    pub sha256: String,
}

/// What kept it from being packed.
#[derive(Debug)]
pub enum PackError {
    Io { what: &'static str, path: PathBuf, cause: io::Error },
    NotGguf(PathBuf),
    NoName(PathBuf),
    TooManyPieces { count: u64, piece_size: u64 },
    Changed(PathBuf),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Io { what, path, cause } => write!(f, "{} could not be {what}: {cause}", path.display()),
            Self::NotGguf(path) => write!(f, "{} is not a GGUF file. Choose the model file itself", path.display()),
            Self::NoName(path) => write!(f, "{} has a name that cannot stand in an address. Rename it", path.display()),
            Self::TooManyPieces { count, piece_size } => {
                write!(f, "{count} pieces of {piece_size} bytes are more than 99999. Give a larger --size")
            }
            Self::Changed(path) => write!(f, "{} changed while it was read. Pack it again", path.display()),
        }
    }
}

impl std::error::Error for PackError {}

/// Cuts `model` into pieces of `piece_size` bytes (whole MiB) in `folder`, which is made where there is none. Nothing is held in memory
/// but a block.
pub fn pack(model: &Path, folder: &Path, piece_size: u64) -> Result<Packed, PackError> {
    let fault = |what, path: &Path| {
        let path = path.to_path_buf();
        move |cause| PackError::Io { what, path, cause }
    };
    let name = model.file_name().and_then(|n| n.to_str()).ok_or_else(|| PackError::NoName(model.to_path_buf()))?;
    let mut file = File::open(model).map_err(fault("opened", model))?;
    let size = file.metadata().map_err(fault("read", model))?.len();
    let count = size.div_ceil(piece_size).max(1);
    if count > 99_999 {
        return Err(PackError::TooManyPieces { count, piece_size });
    }
    std::fs::create_dir_all(folder).map_err(fault("made", folder))?;

    let mut whole = Sha256::new();
    let mut pieces = Vec::new();
    let mut block = vec![0; BLOCK];
    for number in 1..=count {
        let length = piece_size.min(size - (number - 1) * piece_size);
        let piece = format!("{name}.{number:05}-of-{count:05}.piece");
        let path = folder.join(&piece);
        let mut hash = Sha256::new();
        let mut out = None;
        let mut left = length;
        while left > 0 {
            let part = &mut block[..left.min(BLOCK as u64) as usize];
            file.read_exact(part).map_err(|cause| match cause.kind() {
                io::ErrorKind::UnexpectedEof => PackError::Changed(model.to_path_buf()),
                _ => fault("read", model)(cause),
            })?;
            if number == 1 && left == length && !part.starts_with(MAGIC) {
                return Err(PackError::NotGguf(model.to_path_buf()));
            }
            // Only now: nothing is written of what is no model.
            let out = match &mut out {
                Some(out) => out,
                none => none.insert(File::create(&path).map_err(fault("written", &path))?),
            };
            out.write_all(part).map_err(fault("written", &path))?;
            hash.update(&part);
            whole.update(&part);
            left -= part.len() as u64;
        }
        if out.is_none() {
            return Err(PackError::NotGguf(model.to_path_buf()));
        }
        pieces.push(json!({ "file": piece, "size": length, "sha256": hex(&hash.finalize()) }));
    }
    if file.read(&mut block[..1]).map_err(fault("read", model))? > 0 {
        return Err(PackError::Changed(model.to_path_buf()));
    }

    let sha256 = hex(&whole.finalize());
    let manifest = folder.join(format!("{name}.pieces.json"));
    let text = json!({ "format": FORMAT, "name": name, "size": size, "sha256": sha256, "pieces": pieces });
    std::fs::write(&manifest, format!("{text:#}\n")).map_err(fault("written", &manifest))?;
    Ok(Packed { manifest, pieces: count as usize, size, sha256 })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("llava-web-pack-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn bytes(len: usize) -> Vec<u8> {
        let mut all: Vec<u8> = (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let n = MAGIC.len().min(len);
        all[..n].copy_from_slice(&MAGIC[..n]);
        all
    }

    #[test]
    fn the_pieces_are_the_file() {
        let folder = Folder::new("whole");
        for len in [4, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 77] {
            let model = folder.0.join("m.gguf");
            std::fs::write(&model, bytes(len)).unwrap();
            let out = folder.0.join(len.to_string());
            let packed = pack(&model, &out, 2 << 20).unwrap();
            let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&packed.manifest).unwrap()).unwrap();
            assert_eq!(manifest["format"], FORMAT);
            assert_eq!(manifest["size"], len);
            let mut found = Vec::new();
            let pieces = manifest["pieces"].as_array().unwrap();
            assert_eq!(pieces.len(), len.div_ceil(2 << 20));
            for (i, piece) in pieces.iter().enumerate() {
                let content = std::fs::read(out.join(piece["file"].as_str().unwrap())).unwrap();
                assert_eq!(piece["size"], content.len());
                assert!(content.len() == 2 << 20 || i + 1 == pieces.len());
                assert_eq!(piece["sha256"], hex(&Sha256::digest(&content)));
                found.extend(content);
            }
            assert!(found == bytes(len), "{len} bytes");
            assert_eq!(manifest["sha256"], hex(&Sha256::digest(&found)));
        }
    }

    #[test]
    fn a_known_hash() {
        // The SHA-256 of "GGUF" alone, from coreutils.
        let folder = Folder::new("hash");
        let model = folder.0.join("m.gguf");
        std::fs::write(&model, "GGUF").unwrap();
        assert_eq!(
            pack(&model, &folder.0, 1 << 20).unwrap().sha256,
            "b83633aa785344791618f2fddf131b010ea04912a60430760b070bad293f65bd"
        );
    }

    #[test]
    fn what_is_no_model_is_refused_and_nothing_is_written() {
        let folder = Folder::new("none");
        let out = folder.0.join("out");
        for content in [&b""[..], b"GGU", b"PK\x03\x04 and more"] {
            let model = folder.0.join("m.gguf");
            std::fs::write(&model, content).unwrap();
            assert!(matches!(pack(&model, &out, 1 << 20), Err(PackError::NotGguf(_))));
            assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
        }
    }
}
