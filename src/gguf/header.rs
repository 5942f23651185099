//! Parses the front part of a GGUF file (versions 2 and 3, little-endian) from a prefix of it: magic, counts, key-value
//! pairs, tensor list. The layout is that of the GGUF specification in the ggml repository (`docs/gguf.md`).
//!
//! The file is hostile until shown otherwise: every count is capped before memory is taken for it, and a count that the
//! rest of the file could not hold is an error at once.

use crate::error::{Error, Result};
use crate::gguf::metadata::{Metadata, Value};
use crate::quant::Stored;

/// What some text files begin with: a byte order mark in UTF-8.
const BOM: &[u8] = "\u{feff}".as_bytes();
/// More pairs than any known model has (a large one has about 60).
const MAX_KEY_VALUES: u64 = 1 << 16;
/// More tensors than any model that fits a browser (a 70B has about 720).
const MAX_TENSORS: u64 = 1 << 16;
/// Longest key or tensor name that is accepted; the specification allows 65535 and ggml 64.
const MAX_NAME: u64 = 1 << 16;
/// Longest string value; chat templates are the longest, some 20 kB.
const MAX_STRING: u64 = 1 << 24;
/// Longest array; the largest vocabularies have about 260 000 tokens and twice as many merges.
const MAX_ARRAY: u64 = 1 << 24;
/// Deepest nesting of arrays.
const MAX_DEPTH: u32 = 4;
/// The format allows four dimensions.
const MAX_DIMENSIONS: u32 = 4;
/// More elements than any tensor that fits a browser; below it, counts of elements fit a 32-bit `usize`.
const MAX_ELEMENTS: u64 = 1 << 31;
/// The smallest pair: a key of no bytes, a value type, a value of one byte.
const LEAST_PAIR: u64 = 8 + 4 + 1;
/// The smallest entry of the tensor list: a name of no bytes, no dimensions, a type, an offset.
const LEAST_TENSOR: u64 = 8 + 4 + 4 + 8;

/// One entry of the tensor list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name.
    pub name: String,
    /// How its elements are stored.
    pub format: Stored,
    /// Sizes in elements, the contiguous dimension first (ggml's `ne`): `[n_in, n_out]` for a matrix.
    pub dims: Vec<usize>,
    /// Bytes from the start of the data part.
    pub offset: u64,
}

impl TensorInfo {
    /// The number of elements in a row (the contiguous dimension).
    pub fn row_len(&self) -> usize {
        self.dims.first().copied().unwrap_or(1)
    }

    /// The number of rows: the product of all dimensions but the first.
    pub fn n_rows(&self) -> usize {
        self.dims.iter().skip(1).product()
    }

    /// The number of elements.
    pub fn n_elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// The stored size in bytes.
    pub fn n_bytes(&self) -> u64 {
        // In 64 bits throughout: a 32-bit `usize` counts elements of any tensor, but not the bytes of one in F32.
        (self.row_len() / self.format.block_len()) as u64 * self.format.block_bytes() as u64 * self.n_rows() as u64
    }
}

/// The front part of one file.
#[derive(Debug, Clone)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The key-value pairs.
    pub metadata: Metadata,
    /// The tensors in the order of the list.
    pub tensors: Vec<TensorInfo>,
    /// Where the data part begins, in bytes from the start of the file.
    pub data_offset: u64,
}

/// What became of an attempt to parse a prefix.
#[derive(Debug)]
pub enum Parsed {
    /// The whole header was there.
    Header(Box<Header>),
    /// The prefix must be at least this many bytes long to get further.
    NeedBytes(u64),
}

/// Why a piece could not be read: the prefix is too short, or the file is bad.
enum Stop {
    Need(u64),
    Bad(Error),
}

type Piece<T> = std::result::Result<T, Stop>;

fn bad<T>(message: impl Into<String>) -> Piece<T> {
    Err(Stop::Bad(Error::invalid_gguf(message)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    file_len: Option<u64>,
}

impl<'a> Reader<'a> {
    /// An error where the file is known to end before `n` more bytes.
    fn must_fit(&self, n: u64, what: &str) -> Piece<()> {
        let end = self.at as u64 + n;
        match self.file_len {
            Some(len) if end > len => bad(format!(
                "The file ends at byte {len}, but its header ({what}) needs {end}: it is truncated or its header lies. Download it again."
            )),
            _ => Ok(()),
        }
    }

    /// The next `n` bytes; says how long the prefix must be where they are not in it.
    fn take(&mut self, n: u64, what: &str) -> Piece<&'a [u8]> {
        self.must_fit(n, what)?;
        let needed = self.at as u64 + n;
        let end = usize::try_from(needed).map_err(|_| Stop::Need(needed))?;
        let piece = self.bytes.get(self.at..end).ok_or(Stop::Need(needed))?;
        self.at = end;
        Ok(piece)
    }

    fn u32(&mut self, what: &str) -> Piece<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Piece<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn array<const N: usize>(&mut self, what: &str) -> Piece<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    fn string(&mut self, max: u64, what: &str) -> Piece<String> {
        let n = self.u64(what)?;
        if n > max {
            return bad(format!("The header gives a {what} of {n} bytes; at most {max} are believable. The file is damaged."));
        }
        Ok(String::from_utf8_lossy(self.take(n, what)?).into_owned())
    }

    /// One value of the given GGUF value type.
    fn value(&mut self, kind: u32, key: &str, depth: u32) -> Piece<Value> {
        Ok(match kind {
            0 => Value::Uint(self.array::<1>(key)?[0].into()),
            1 => Value::Int(i64::from(self.array::<1>(key)?[0].cast_signed())),
            2 => Value::Uint(u16::from_le_bytes(self.array(key)?).into()),
            3 => Value::Int(i16::from_le_bytes(self.array(key)?).into()),
            4 => Value::Uint(self.u32(key)?.into()),
            5 => Value::Int(i32::from_le_bytes(self.array(key)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?).into()),
            7 => Value::Bool(self.array::<1>(key)?[0] != 0),
            8 => Value::String(self.string(MAX_STRING, key)?),
            9 => self.array_value(key, depth)?,
            10 => Value::Uint(self.u64(key)?),
            11 => Value::Int(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            _ => {
                return bad(format!(
                    "The metadata key '{key}' has the value type {kind}, which GGUF does not define. The file is damaged."
                ));
            }
        })
    }

    fn array_value(&mut self, key: &str, depth: u32) -> Piece<Value> {
        if depth >= MAX_DEPTH {
            return bad(format!("The metadata key '{key}' nests arrays deeper than {MAX_DEPTH}. The file is damaged."));
        }
        let kind = self.u32(key)?;
        let n = self.u64(key)?;
        if n > MAX_ARRAY {
            return bad(format!(
                "The metadata key '{key}' claims an array of {n} elements; at most {MAX_ARRAY} are believable. The file is damaged."
            ));
        }
        // The smallest size of one element, so that a lying count is found before memory is taken for it.
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 12,
            _ => {
                return bad(format!(
                    "The metadata key '{key}' has elements of type {kind}, which GGUF does not define. The file is damaged."
                ));
            }
        };
        let before = self.at;
        self.take(n * least, key)?;
        self.at = before;
        // Cannot fail: they are all there.
        let n = usize::try_from(n).map_err(|_| Stop::Need(n))?;
        Ok(match kind {
            8 => {
                let mut all = Vec::with_capacity(n);
                for _ in 0..n {
                    all.push(self.string(MAX_STRING, key)?);
                }
                Value::Strings(all)
            }
            6 | 12 => {
                let mut all = Vec::with_capacity(n);
                for _ in 0..n {
                    let Value::Float(v) = self.value(kind, key, depth)? else { unreachable!("types 6 and 12 are floats") };
                    #[expect(clippy::cast_possible_truncation, reason = "lists of floats are kept in f32, rounded")]
                    all.push(v as f32);
                }
                Value::Floats(all)
            }
            9 => {
                for _ in 0..n {
                    self.array_value(key, depth + 1)?;
                }
                Value::Nested(n)
            }
            _ => {
                let mut all = Vec::with_capacity(n);
                for _ in 0..n {
                    all.push(match self.value(kind, key, depth)? {
                        Value::Uint(v) => v.cast_signed(),
                        Value::Int(v) => v,
                        Value::Bool(v) => v.into(),
                        _ => unreachable!("the other element types are handled above"),
                    });
                }
                Value::Ints(all)
            }
        })
    }

    fn tensor(&mut self, index: u64) -> Piece<TensorInfo> {
        let name = self.string(MAX_NAME, "tensor name")?;
        let n_dims = self.u32("tensor list")?;
        if n_dims > MAX_DIMENSIONS {
            return bad(format!(
                "The tensor '{name}' (number {index}) claims {n_dims} dimensions; GGUF allows {MAX_DIMENSIONS}. The file is damaged."
            ));
        }
        let mut dims = Vec::with_capacity(n_dims as usize);
        let mut elements: u64 = 1;
        for _ in 0..n_dims {
            let n = self.u64("tensor list")?;
            elements = elements.checked_mul(n).filter(|e| *e < MAX_ELEMENTS).unwrap_or(0);
            dims.push(n);
        }
        if elements == 0 {
            return bad(format!("The tensor '{name}' has the impossible shape {dims:?}. The file is damaged."));
        }
        // Each is at most the product, which fits.
        let dims: Vec<usize> = dims.into_iter().map(|n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
        let kind = self.u32("tensor list")?;
        let Some(format) = Stored::from_ggml_type(kind) else {
            return Err(Stop::Bad(Error::unsupported_quantization(format!(
                "The tensor '{name}' is stored as {}, which this program does not read. Use a file quantized as one of {}.",
                ggml_type_name(kind),
                Stored::all().map(Stored::name).collect::<Vec<_>>().join(", ")
            ))));
        };
        let row = dims.first().copied().unwrap_or(1);
        if row % format.block_len() != 0 {
            return bad(format!(
                "The tensor '{name}' has rows of {row} elements, not a multiple of the {} of a {} block. The file is damaged.",
                format.block_len(),
                format.name()
            ));
        }
        let offset = self.u64("tensor list")?;
        Ok(TensorInfo { name, format, dims, offset })
    }
}

/// The names ggml gives to types that are not read here, for messages.
fn ggml_type_name(kind: u32) -> String {
    match kind {
        24..=27 => "an integer type".into(),
        28 => "F64".into(),
        other => format!("type number {other}"),
    }
}

/// Parses as much as `prefix` holds of a file that is `file_len` bytes long (where that is known).
///
/// # Errors
/// `invalid_gguf` for anything contradictory, `unsupported_quantization` for a tensor of a type that is not read.
pub fn parse(prefix: &[u8], file_len: Option<u64>) -> Result<Parsed> {
    let mut reader = Reader { bytes: prefix, at: 0, file_len };
    match header(&mut reader) {
        Ok(header) => Ok(Parsed::Header(Box::new(header))),
        Err(Stop::Need(n)) => Ok(Parsed::NeedBytes(n)),
        Err(Stop::Bad(error)) => Err(error),
    }
}

fn header(r: &mut Reader<'_>) -> Piece<Header> {
    let magic: [u8; 4] = r.array("magic")?;
    if &magic != b"GGUF" {
        let start = magic.trim_ascii_start();
        return bad(if start.is_empty() || start[0] == b'<' || start[0] == b'{' || magic == *b"vers" || magic.starts_with(BOM) {
            "This is not a GGUF file but text (a web page or a Git LFS pointer?). Check the address: it must be the file itself."
                .to_string()
        } else if &magic == b"FUGG" {
            "This GGUF file is big-endian, which this program does not read. Use a little-endian one.".to_string()
        } else {
            "This is not a GGUF file (its first four bytes are not 'GGUF').".to_string()
        });
    }
    let version = r.u32("version")?;
    match version {
        2 | 3 => {}
        1 => return bad("This is a GGUF file of version 1, which is no longer read. Convert it to version 3."),
        v if v.swap_bytes() == 2 || v.swap_bytes() == 3 => {
            return bad("This GGUF file is big-endian, which this program does not read. Use a little-endian one.");
        }
        v => return bad(format!("This GGUF file says it is of version {v}; versions 2 and 3 are read.")),
    }
    let n_tensors = r.u64("tensor count")?;
    let n_pairs = r.u64("metadata count")?;
    if n_tensors > MAX_TENSORS || n_pairs > MAX_KEY_VALUES {
        return bad(format!(
            "The header claims {n_tensors} tensors and {n_pairs} metadata pairs, which cannot be right. The file is damaged."
        ));
    }
    r.must_fit(n_pairs * LEAST_PAIR + n_tensors * LEAST_TENSOR, "metadata and tensor list")?;
    let mut metadata = Metadata::default();
    for _ in 0..n_pairs {
        let key = r.string(MAX_NAME, "metadata key")?;
        let kind = r.u32(&key)?;
        let value = r.value(kind, &key, 0)?;
        if metadata.contains(&key) {
            return bad(format!("The metadata key '{key}' is there twice. The file is damaged."));
        }
        metadata.insert(key, value);
    }
    // No more than the prefix can list, whatever the count says.
    let listable = (r.bytes.len() - r.at) as u64 / LEAST_TENSOR;
    let mut tensors: Vec<TensorInfo> = Vec::with_capacity(usize::try_from(n_tensors.min(listable)).unwrap_or(0));
    for index in 0..n_tensors {
        let tensor = r.tensor(index)?;
        tensors.push(tensor);
    }
    let alignment = match metadata.get("general.alignment") {
        None => 32,
        // One that is no integer becomes 0, which is refused.
        Some(_) => metadata.uint("general.alignment").unwrap_or(0),
    };
    if !(1..=1 << 20).contains(&alignment) || !alignment.is_power_of_two() {
        return bad(format!("The metadata gives an alignment of {alignment} bytes, which cannot be right. The file is damaged."));
    }
    let data_offset = (r.at as u64).next_multiple_of(alignment);
    check_places(&tensors, data_offset, alignment, r.file_len)?;
    Ok(Header { version, metadata, tensors, data_offset })
}

/// Every tensor begins at a multiple of the alignment, ends within the file, and overlaps no other; names are unique.
fn check_places(tensors: &[TensorInfo], data_offset: u64, alignment: u64, file_len: Option<u64>) -> Piece<()> {
    let mut places: Vec<(u64, u64, &str)> = Vec::with_capacity(tensors.len());
    let mut names = std::collections::HashSet::with_capacity(tensors.len());
    for t in tensors {
        let end = t.offset.checked_add(t.n_bytes()).and_then(|e| e.checked_add(data_offset));
        let Some(end) = end.filter(|_| t.offset % alignment == 0) else {
            return bad(format!("The tensor '{}' has the impossible offset {}. The file is damaged.", t.name, t.offset));
        };
        if let Some(len) = file_len
            && end > len
        {
            return bad(format!(
                "The tensor '{}' ends at byte {end}, but the file is only {len} bytes long: it is truncated. Download or copy it again.",
                t.name
            ));
        }
        if !names.insert(t.name.as_str()) {
            return bad(format!("The tensor '{}' is listed twice. The file is damaged.", t.name));
        }
        places.push((t.offset, end - data_offset, &t.name));
    }
    places.sort_unstable();
    for pair in places.windows(2) {
        if pair[0].1 > pair[1].0 {
            return bad(format!("The tensors '{}' and '{}' overlap. The file is damaged.", pair[0].2, pair[1].2));
        }
    }
    Ok(())
}
