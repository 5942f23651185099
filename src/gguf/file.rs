//! A model's files as one index of tensors.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::gguf::header::{self, Header, Parsed, TensorInfo};
use crate::gguf::metadata::Metadata;
use crate::gguf::source::RangedSource;

/// The first read. Large enough for the header of a tiny model, small enough to cost nothing.
const FIRST_PREFIX: u64 = 64 << 10;
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
}

impl Gguf {
    /// Reads the headers of all files.
    ///
    /// # Errors
    /// As [`header::parse`]; `invalid_gguf` also where the parts of a split file do not belong together.
    pub async fn open(sources: Vec<Box<dyn RangedSource>>) -> Result<Self> {
        if sources.is_empty() {
            return Err(Error::invalid_request("No model file was given."));
        }
        let mut metadata = None;
        let mut tensors = BTreeMap::new();
        let mut n_listed: u64 = 0;
        for (file, source) in sources.iter().enumerate() {
            let header = read_header(source.as_ref()).await?;
            check_split(&header.metadata, file, sources.len(), source.name())?;
            for info in header.tensors {
                n_listed += 1;
                let position = header.data_offset + info.offset;
                let name = info.name.clone();
                if tensors.insert(name, Tensor { info: info.clone(), file, position }).is_some() {
                    return Err(Error::invalid_gguf(format!(
                        "The tensor '{}' is in more than one part of the split model.",
                        info.name
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
        Ok(Self { metadata, sources, tensors })
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

    /// The bytes of all tensors together.
    pub fn n_bytes(&self) -> u64 {
        self.tensors.values().map(|t| t.info.n_bytes()).sum()
    }

    /// Reads a part of a tensor: `out.len()` bytes from `from` bytes into it.
    ///
    /// # Errors
    /// As [`RangedSource::read`].
    pub async fn read(&self, tensor: &Tensor, from: u64, out: &mut [u8]) -> Result<()> {
        self.sources[tensor.file].read(tensor.position + from, out).await
    }
}

/// Reads ever longer prefixes until the header is whole.
async fn read_header(source: &dyn RangedSource) -> Result<Header> {
    let name = source.name();
    let named = |e: Error| Error::from_code(e.code(), format!("{name}: {}", e.message()));
    let mut prefix: Vec<u8> = Vec::new();
    let mut want = FIRST_PREFIX;
    loop {
        let want_now = source.len().map_or(want, |len| want.min(len));
        let have = prefix.len();
        if want_now as usize > have {
            prefix.resize(want_now as usize, 0);
            source.read(have as u64, &mut prefix[have..]).await?;
        }
        match header::parse(&prefix, source.len()).map_err(named)? {
            Parsed::Header(header) => return Ok(*header),
            Parsed::NeedBytes(n) if n > MAX_HEADER => {
                return Err(named(Error::invalid_gguf(format!(
                    "The header claims to need {n} bytes, which cannot be right. The file is damaged."
                ))));
            }
            // Doubling keeps the number of reads logarithmic in the header's length.
            Parsed::NeedBytes(n) => want = n.max(2 * prefix.len() as u64).min(MAX_HEADER),
        }
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
