//! Where a file's bytes come from: memory, a browser `Blob`, ranged HTTP requests, a native file.

use std::future::Future;
use std::pin::Pin;

use crate::error::{Error, Result};

/// A future that need not be `Send`: the engine lives on one thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Bytes that can be read by offset. Readers ask in ascending order wherever they can, so that a server without range
/// requests can be read as one stream.
pub trait RangedSource {
    /// A name for messages: a file's name or the last part of a URL.
    fn name(&self) -> &str;

    /// The length in bytes, where it is known beforehand.
    fn len(&self) -> Option<u64>;

    /// Whether the length is known to be zero.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// `invalid_gguf` where the source ends before; `network`, `integrity` or `storage` as the source has them.
    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>>;

    /// Told that a load failed because of what this file says. A source that keeps a copy of its file need not keep that one.
    fn refuse(&self) {}
}

/// A file that is in memory as a whole.
pub struct MemorySource {
    name: String,
    bytes: Vec<u8>,
}

impl MemorySource {
    /// Takes the bytes.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), bytes }
    }
}

/// The error of a read past the end.
pub fn past_the_end(name: &str, offset: u64, wanted: usize, length: u64) -> Error {
    Error::invalid_gguf(format!(
        "The file '{name}' ends at byte {length}, but bytes {offset} to {} are needed: it is truncated. Download or copy it again.",
        offset.saturating_add(wanted as u64)
    ))
}

impl RangedSource for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        let length = self.bytes.len() as u64;
        let piece = usize::try_from(offset).ok().and_then(|at| self.bytes.get(at..at.checked_add(out.len())?));
        let done = match piece {
            Some(piece) => {
                out.copy_from_slice(piece);
                Ok(())
            }
            None => Err(past_the_end(&self.name, offset, out.len(), length)),
        };
        Box::pin(std::future::ready(done))
    }
}

/// A file of the native file system, read piecewise; for examples and tests.
#[cfg(not(target_arch = "wasm32"))]
pub struct FileSource {
    name: String,
    length: u64,
    file: std::cell::RefCell<std::fs::File>,
}

#[cfg(not(target_arch = "wasm32"))]
impl FileSource {
    /// Opens the file.
    ///
    /// # Errors
    /// `storage` where it cannot be opened.
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |e: std::io::Error| Error::storage(format!("The file '{}' cannot be opened: {e}.", path.display()));
        let file = std::fs::File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, length, file: std::cell::RefCell::new(file) })
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl RangedSource for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> Option<u64> {
        Some(self.length)
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        use std::io::{Read, Seek, SeekFrom};
        let done = (|| {
            if offset.saturating_add(out.len() as u64) > self.length {
                return Err(past_the_end(&self.name, offset, out.len(), self.length));
            }
            let mut file = self.file.borrow_mut();
            file.seek(SeekFrom::Start(offset))
                .and_then(|_| file.read_exact(out))
                .map_err(|e| Error::storage(format!("Reading '{}' failed: {e}.", self.name)))
        })();
        Box::pin(std::future::ready(done))
    }
}
