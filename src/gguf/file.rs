//! A model's files as one index of tensors.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::gguf::header::{self, Header, Parsed, TensorInfo};
use crate::gguf::metadata::Metadata;
use crate::gguf::source::RangedSource;

/// The first read. Large enough for the header of a tiny model, small enough to cost nothing.
const FIRST_PREFIX: u64 = 64 << 10;
/// Magic, version and counts: no GGUF file is shorter.
const LEAST_PREFIX: u64 = 24;
/// No header is longer: the largest vocabularies give about 12 MB.
const MAX_HEADER: u64 = 128 << 20;

/// Where a tensor is.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its entry in the list.
    pub info: TensorInfo,
    /// Which of the files holds it.
    pub file: usize,
    /// Bytes from the start of that file.
    pub position: u64,
}

/// An opened model: one file, or the parts of a split one in order.
pub struct Gguf {
    /// The metadata of the first file.
    pub metadata: Metadata,
    sources: Vec<Box<dyn RangedSource>>,
    tensors: BTreeMap<String, Tensor>,
    /// Of each file, what was read past the header while looking for its end.
    tails: RefCell<Vec<Tail>>,
}

/// A stretch of a file that is already in memory.
struct Tail {
    /// Bytes from the start of the file.
    position: u64,
    bytes: Vec<u8>,
}

impl Tail {
    /// Copies what it has of the bytes from `from` on, and says how many those were. Forgets all its bytes once a read
    /// reaches past them: whoever reads in file order is then done with them.
    fn serve(&mut self, from: u64, out: &mut [u8]) -> usize {
        let Some(here) = from.checked_sub(self.position).and_then(|n| self.bytes.get(usize::try_from(n).ok()?..)) else {
            return 0;
        };
        let n = here.len().min(out.len());
        out[..n].copy_from_slice(&here[..n]);
        if n == here.len() {
            self.bytes = Vec::new();
        }
        n
    }
}

impl Gguf {
    /// Reads the headers of all files. Each source is read in ascending order, without gaps, from its start on.
    ///
    /// # Errors
    /// As [`header::parse`]; `invalid_gguf` also where the parts of a split file do not belong together.
    pub async fn open(sources: Vec<Box<dyn RangedSource>>) -> Result<Self> {
        if sources.is_empty() {
            return Err(Error::invalid_request("No model file was given."));
        }
        let mut metadata = None;
        let mut tensors = BTreeMap::new();
        let mut tails = Vec::with_capacity(sources.len());
        let mut n_listed: u64 = 0;
        for (file, source) in sources.iter().enumerate() {
            let refuse = |error: &Error| {
                if is_of_the_file(error) {
                    source.refuse();
                }
            };
            let (header, tail) = read_header(source.as_ref()).await.inspect_err(refuse)?;
            tails.push(tail);
            check_split(&header.metadata, file, sources.len(), source.name())?;
            check_same_model(metadata.as_ref().unwrap_or(&header.metadata), &header.metadata, source.name())?;
            for info in header.tensors {
                n_listed += 1;
                let position = header.data_offset + info.offset;
                let name = info.name.clone();
                if tensors.insert(name, Tensor { info: info.clone(), file, position }).is_some() {
                    return Err(Error::invalid_gguf(format!(
                        "The tensor '{}' of '{}' is in an earlier part of the split model too: they are not parts of one model.",
                        info.name,
                        source.name()
                    )));
                }
            }
            metadata.get_or_insert(header.metadata);
        }
        let metadata = metadata.unwrap_or_default();
        if let Some(expected) = metadata.uint("split.tensors.count")
            && sources.len() > 1
            && expected != n_listed
        {
            return Err(Error::invalid_gguf(format!(
                "The split model has {expected} tensors, but its parts hold {n_listed}: a part is missing or of another model."
            )));
        }
        Ok(Self { metadata, sources, tensors, tails: RefCell::new(tails) })
    }

    /// Tells the source of a tensor that a load failed because of what the tensor holds.
    pub fn refuse(&self, tensor: &Tensor) {
        self.sources[tensor.file].refuse();
    }

    /// Passes on what was made of the metadata. Where it says nothing sound, the source of the first file, which has it, is told so.
    pub fn accept<T>(&self, made: Result<T>) -> Result<T> {
        made.inspect_err(|error| {
            if is_of_the_file(error) {
                self.sources[0].refuse();
            }
        })
    }

    /// Passes on what was made of the metadata and the lists of tensors. Where they contradict each other, each of the files may be the one
    /// that is damaged, and all their sources are told so.
    pub fn accept_tensors<T>(&self, made: Result<T>) -> Result<T> {
        made.inspect_err(|error| {
            if is_of_the_file(error) {
                self.sources.iter().for_each(|source| source.refuse());
            }
        })
    }

    /// The name of the first file, for messages.
    pub fn name(&self) -> &str {
        self.sources[0].name()
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// All tensors in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.tensors.values()
    }

    /// All tensors in the order in which they stand in the files: the order in which to read them.
    pub fn in_file_order(&self) -> Vec<&Tensor> {
        let mut all: Vec<&Tensor> = self.tensors.values().collect();
        all.sort_by_key(|t| (t.file, t.position));
        all
    }

    /// The bytes of all tensors together.
    pub fn n_bytes(&self) -> u64 {
        self.tensors.values().map(|t| t.info.n_bytes()).sum()
    }

    /// Reads a part of a tensor: `out.len()` bytes from `from` bytes into it. Whoever reads the tensors
    /// [in file order](Self::in_file_order), and each from its start to its end, makes the sources be read in ascending
    /// order with no byte asked for twice: what came along with the headers is served from memory.
    ///
    /// # Errors
    /// As [`RangedSource::read`]; `internal` where the part is not within the tensor.
    pub async fn read(&self, tensor: &Tensor, from: u64, out: &mut [u8]) -> Result<()> {
        if from.checked_add(out.len() as u64).is_none_or(|end| end > tensor.info.n_bytes()) {
            return Err(Error::internal(format!(
                "{} bytes from {from} on were to be read of the tensor '{}', which has {}.",
                out.len(),
                tensor.info.name,
                tensor.info.n_bytes()
            )));
        }
        let position = tensor.position + from;
        // The borrow ends here, before anything is awaited.
        let served = self.tails.borrow_mut()[tensor.file].serve(position, out);
        if served == out.len() {
            return Ok(());
        }
        self.sources[tensor.file].read(position + served as u64, &mut out[served..]).await
    }

    /// Frees what was read past the headers and not asked for yet, for whoever will not read in file order.
    pub fn release_prefixes(&self) {
        self.tails.borrow_mut().iter_mut().for_each(|tail| tail.bytes = Vec::new());
    }
}

/// Whether it is a file's content that an error is about, not what was asked for, how the bytes came, or what there is room for.
fn is_of_the_file(error: &Error) -> bool {
    matches!(error, Error::InvalidGguf(_) | Error::UnsupportedArchitecture(_) | Error::UnsupportedQuantization(_))
}

/// Reads ever longer prefixes until the header is whole; gives also what was read past it.
async fn read_header(source: &dyn RangedSource) -> Result<(Header, Tail)> {
    let name = source.name();
    let named = |e: Error| Error::from_code(e.code(), format!("{name}: {}", e.message()));
    let mut prefix: Vec<u8> = Vec::new();
    // Where the length is unknown, reading past the end is an error that hides what the file is: begin with what is surely there.
    let first = if source.len().is_some() { FIRST_PREFIX } else { LEAST_PREFIX };
    let mut want = first;
    loop {
        // At most doubling each time: where the length is unknown, a header that lies about what follows must not take
        // more memory than a like multiple of what the source really has.
        while (prefix.len() as u64) < want {
            let have = prefix.len();
            let next = (2 * have as u64).clamp(first, MAX_HEADER);
            let next = usize::try_from(source.len().map_or(next, |len| next.min(len))).unwrap_or(usize::MAX);
            if next <= have {
                break;
            }
            prefix.resize(next, 0);
            source.read(have as u64, &mut prefix[have..]).await?;
        }
        match header::parse(&prefix, source.len()).map_err(named)? {
            Parsed::Header(header) => {
                let at = usize::try_from(header.data_offset).map_or(prefix.len(), |at| at.min(prefix.len()));
                prefix.drain(..at);
                prefix.shrink_to_fit();
                return Ok((*header, Tail { position: at as u64, bytes: prefix }));
            }
            Parsed::NeedBytes(n) if n > MAX_HEADER => {
                return Err(named(Error::invalid_gguf(format!(
                    "The header claims to need {n} bytes, which cannot be right. The file is damaged."
                ))));
            }
            Parsed::NeedBytes(n) => want = n,
        }
    }
}

/// The parts of a split model agree about how many tensors all of them have together.
fn check_same_model(first: &Metadata, part: &Metadata, name: &str) -> Result<()> {
    let key = "split.tensors.count";
    match (first.uint(key), part.uint(key)) {
        (Some(a), Some(b)) if a != b => Err(Error::invalid_gguf(format!(
            "'{name}' is part of a split model of {b} tensors, but the first part is of one of {a}: they are not parts of one model."
        ))),
        _ => Ok(()),
    }
}

/// The parts of a split model say which of how many they are.
fn check_split(metadata: &Metadata, file: usize, n_files: usize, name: &str) -> Result<()> {
    let count = metadata.uint("split.count").unwrap_or(1).max(1);
    if count != n_files as u64 {
        return Err(Error::invalid_gguf(format!(
            "'{name}' is one of {count} parts of a split model, but {n_files} were given. Give all parts, in order."
        )));
    }
    if let Some(no) = metadata.uint("split.no")
        && count > 1
        && no != file as u64
    {
        return Err(Error::invalid_gguf(format!(
            "'{name}' is part {} of a split model but was given as part {}. Give the parts in order.",
            no + 1,
            file + 1
        )));
    }
    Ok(())
}
