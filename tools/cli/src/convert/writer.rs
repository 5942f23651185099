//! A GGUF file, written from its beginning to its end: what stands in the header is known before the first weight is read.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use llava_web::quant::Format;

use crate::error::{Error, Result};

/// Tensors begin at multiples of so many bytes.
const ALIGNMENT: usize = 32;

/// A metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Ints(Vec<i32>),
    Floats(Vec<f32>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl Value {
    /// GGUF's number of the type, and of the elements' type.
    fn kind(&self) -> (u32, Option<u32>) {
        match self {
            Self::U32(_) => (4, None),
            Self::F32(_) => (6, None),
            Self::Bool(_) => (7, None),
            Self::Text(_) => (8, None),
            Self::Texts(_) => (9, Some(8)),
            Self::Ints(_) => (9, Some(5)),
            Self::Floats(_) => (9, Some(6)),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        let (kind, of) = self.kind();
        out.extend(kind.to_le_bytes());
        out.extend(of.iter().flat_map(|of| of.to_le_bytes()));
        let count = |n: usize, out: &mut Vec<u8>| out.extend((n as u64).to_le_bytes());
        match self {
            Self::U32(n) => out.extend(n.to_le_bytes()),
            Self::F32(x) => out.extend(x.to_le_bytes()),
            Self::Bool(is) => out.push(u8::from(*is)),
            Self::Text(text) => put_text(text, out),
            Self::Texts(all) => {
                count(all.len(), out);
                all.iter().for_each(|text| put_text(text, out));
            }
            Self::Ints(all) => {
                count(all.len(), out);
                out.extend(all.iter().flat_map(|n| n.to_le_bytes()));
            }
            Self::Floats(all) => {
                count(all.len(), out);
                out.extend(all.iter().flat_map(|x| x.to_le_bytes()));
            }
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// The keys of a file in the order in which they are written.
#[derive(Debug, Clone, Default)]
pub struct Metadata(Vec<(String, Value)>);

impl Metadata {
    /// Adds a key, or gives one that is there another value.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(there, _)| *there == key) {
            Some((_, there)) => *there = value,
            None => self.0.push((key, value)),
        }
    }

    /// A number.
    pub fn u32(&mut self, key: impl Into<String>, n: usize) -> Result<()> {
        let key = key.into();
        let n = u32::try_from(n).map_err(|_| Error::new(format!("{key} would be {n}, which no GGUF file can say")))?;
        self.set(key, Value::U32(n));
        Ok(())
    }
}

/// A tensor of a file: its name, its sizes with the contiguous one last, and how it is stored.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
    pub format: Format,
}

impl Entry {
    /// Elements of a row.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    fn n_bytes(&self) -> u64 {
        let rows: u64 = self.shape.iter().rev().skip(1).map(|n| *n as u64).product();
        rows * self.format.row_bytes(self.cols()) as u64
    }
}

/// A file under way. It has another name until it is whole, and is removed if it never is.
pub struct Writer {
    out: BufWriter<File>,
    path: PathBuf,
    part: PathBuf,
    /// Bytes that each tensor still to come has.
    left: Vec<u64>,
    /// Bytes of the current one that are written.
    written: u64,
    is_done: bool,
}

impl Writer {
    /// Writes the header.
    pub fn create(path: &Path, metadata: &Metadata, tensors: &[Entry]) -> Result<Self> {
        let mut header = b"GGUF".to_vec();
        header.extend(3u32.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.0.len() as u64).to_le_bytes());
        for (key, value) in &metadata.0 {
            put_text(key, &mut header);
            value.put(&mut header);
        }
        let mut offset = 0u64;
        for tensor in tensors {
            put_text(&tensor.name, &mut header);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            header.extend(tensor.shape.iter().rev().flat_map(|n| (*n as u64).to_le_bytes()));
            header.extend((tensor.format as u32).to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset += tensor.n_bytes().next_multiple_of(ALIGNMENT as u64);
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let fault = |cause: std::io::Error| Error::of_file("written", &part, &cause);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&part).map_err(fault)?);
        out.write_all(&header).map_err(fault)?;
        let left = tensors.iter().rev().map(Entry::n_bytes).collect();
        Ok(Self { out, path: path.into(), part, left, written: 0, is_done: false })
    }

    /// Writes the next bytes of the current tensor.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|cause| Error::of_file("written", &self.part, &cause))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Ends the current tensor.
    pub fn end_tensor(&mut self) -> Result<()> {
        let expected = self.left.pop().unwrap_or(0);
        if self.written != expected {
            return Err(Error::new(format!(
                "'{}' got {} bytes of a tensor that has {expected}",
                self.path.display(),
                self.written
            )));
        }
        let pad = self.written.next_multiple_of(ALIGNMENT as u64) - self.written;
        self.put(&[0; ALIGNMENT][..pad as usize])?;
        self.written = 0;
        Ok(())
    }

    /// Ends the file and gives it its name.
    pub fn finish(mut self) -> Result<u64> {
        let fault = |cause: std::io::Error| Error::of_file("written", &self.part, &cause);
        if !self.left.is_empty() {
            return Err(Error::new(format!("'{}' lacks {} tensors", self.path.display(), self.left.len())));
        }
        self.out.flush().map_err(fault)?;
        let size = self.out.get_ref().metadata().map_err(fault)?.len();
        std::fs::rename(&self.part, &self.path).map_err(fault)?;
        self.is_done = true;
        Ok(size)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}
