//! Writes GGUF files, sound ones and such that lie, by the layout of the GGUF specification (`docs/gguf.md` of ggml).

use llava_web::gguf::{Gguf, Value};
use llava_web::quant::{Format, Stored};

/// A metadata value with the type it is stored as.
#[derive(Debug, Clone)]
pub enum Val {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(String),
    /// Elements all of the type of this number; the number stands even where there are none.
    Array(u32, Vec<Val>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Val {
    /// A string.
    pub fn str(text: &str) -> Self {
        Self::Str(text.into())
    }

    /// An array of strings.
    pub fn strings<'a>(all: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Array(8, all.into_iter().map(Self::str).collect())
    }

    /// An array of `f32`.
    pub fn floats(all: impl IntoIterator<Item = f32>) -> Self {
        Self::Array(6, all.into_iter().map(Self::F32).collect())
    }

    /// An array of `i32`.
    pub fn ints(all: impl IntoIterator<Item = i32>) -> Self {
        Self::Array(5, all.into_iter().map(Self::I32).collect())
    }

    /// GGUF's number of the value type.
    pub fn kind(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Str(_) => 8,
            Self::Array(..) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(v) => out.push(*v),
            Self::I8(v) => out.extend(v.to_le_bytes()),
            Self::U16(v) => out.extend(v.to_le_bytes()),
            Self::I16(v) => out.extend(v.to_le_bytes()),
            Self::U32(v) => out.extend(v.to_le_bytes()),
            Self::I32(v) => out.extend(v.to_le_bytes()),
            Self::F32(v) => out.extend(v.to_le_bytes()),
            Self::Bool(v) => out.push((*v).into()),
            Self::Str(v) => string(v, out),
            Self::Array(kind, all) => {
                out.extend(kind.to_le_bytes());
                out.extend((all.len() as u64).to_le_bytes());
                all.iter().for_each(|v| v.write(out));
            }
            Self::U64(v) => out.extend(v.to_le_bytes()),
            Self::I64(v) => out.extend(v.to_le_bytes()),
            Self::F64(v) => out.extend(v.to_le_bytes()),
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    kind: u32,
    dims: Vec<u64>,
    data: Vec<u8>,
    offset: Option<u64>,
}

/// A file under construction. What is not set is written as it should be; [`Self::tensor_raw`] and the `claim_*` methods
/// write what should not be.
#[derive(Debug, Clone)]
pub struct GgufWriter {
    version: u32,
    alignment: u64,
    pairs: Vec<(String, Val)>,
    tensors: Vec<Tensor>,
    n_pairs: Option<u64>,
    n_tensors: Option<u64>,
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self { version: 3, alignment: 32, pairs: vec![], tensors: vec![], n_pairs: None, n_tensors: None }
    }
}

impl GgufWriter {
    /// An empty file of version 3.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the version that the header names.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Aligns tensors by this and says so in the metadata.
    pub fn alignment(mut self, alignment: u32) -> Self {
        self.alignment = alignment.into();
        self.kv("general.alignment", Val::U32(alignment))
    }

    /// A file with everything that another has.
    pub fn copy_of(gguf: &Gguf) -> Self {
        let mut copy = Self::new();
        for (key, value) in gguf.metadata.iter() {
            let value = match value {
                Value::Uint(v) => Val::U32(*v as u32),
                Value::Int(v) => Val::I32(*v as i32),
                Value::Float(v) => Val::F32(*v as f32),
                Value::Bool(v) => Val::Bool(*v),
                Value::String(v) => Val::str(v),
                Value::Ints(v) => Val::ints(v.iter().map(|v| *v as i32)),
                Value::Floats(v) => Val::floats(v.iter().copied()),
                Value::Strings(v) => Val::strings(v.iter().map(String::as_str)),
                Value::Nested(_) => continue,
            };
            copy = copy.kv(key, value);
        }
        for tensor in gguf.tensors() {
            let mut bytes = vec![0; tensor.info.n_bytes() as usize];
            pollster::block_on(gguf.read(tensor, 0, &mut bytes)).expect("reads");
            copy = copy.tensor(&tensor.info.name, tensor.info.format, &tensor.info.dims, bytes);
        }
        copy
    }

    /// Adds a metadata pair, or gives one another value.
    pub fn set(mut self, key: &str, value: Val) -> Self {
        self.pairs.retain(|(other, _)| other != key);
        self.kv(key, value)
    }

    /// Adds a metadata pair.
    pub fn kv(mut self, key: &str, value: Val) -> Self {
        self.pairs.push((key.into(), value));
        self
    }

    /// Adds a tensor; `data` has the size that format and dimensions give.
    pub fn tensor(self, name: &str, format: impl Into<Stored>, dims: &[usize], data: Vec<u8>) -> Self {
        let format = format.into();
        assert_eq!(data.len(), format.row_bytes(dims.iter().product()), "{name}");
        self.tensor_raw(name, format.ggml_type(), &dims.iter().map(|n| *n as u64).collect::<Vec<_>>(), data, None)
    }

    /// Adds a tensor of floats.
    pub fn floats(self, name: &str, dims: &[usize], data: &[f32]) -> Self {
        self.tensor(name, Format::F32, dims, data.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// Leaves the first `n` rows of a tensor.
    pub fn cut(mut self, name: &str, n: usize) -> Self {
        let tensor = self.tensors.iter_mut().find(|t| t.name == name).expect("the tensor is there");
        let rows = tensor.dims.last_mut().expect("dimensions");
        tensor.data.truncate(tensor.data.len() / *rows as usize * n);
        *rows = n as u64;
        self
    }

    /// Leaves a metadata pair out.
    pub fn unset(mut self, key: &str) -> Self {
        self.pairs.retain(|(other, _)| other != key);
        self
    }

    /// Leaves a tensor out.
    pub fn without(mut self, name: &str) -> Self {
        let n = self.tensors.len();
        self.tensors.retain(|t| t.name != name);
        assert_eq!(self.tensors.len() + 1, n, "{name}");
        self
    }

    /// Gives a tensor another name.
    pub fn renamed(mut self, name: &str, to: &str) -> Self {
        self.tensors.iter_mut().find(|t| t.name == name).expect("the tensor is there").name = to.into();
        self
    }

    /// Gives a tensor of floats other dimensions; its bytes are cut off, or filled up with zeros.
    pub fn reshaped(mut self, name: &str, dims: &[u64]) -> Self {
        let tensor = self.tensors.iter_mut().find(|t| t.name == name).expect("the tensor is there");
        let size = tensor.data.len() / tensor.dims.iter().product::<u64>() as usize;
        tensor.data.resize(size * dims.iter().product::<u64>() as usize, 0);
        tensor.dims = dims.to_vec();
        self
    }

    /// Puts tensors into one, one below the other; without a word where there are none of these names.
    pub fn stacked(mut self, parts: &[String], name: &str) -> Self {
        let parts: Vec<Tensor> = parts
            .iter()
            .filter_map(|part| Some(self.tensors.remove(self.tensors.iter().position(|t| t.name == *part)?)))
            .collect();
        let Some(mut whole) = parts.first().cloned() else { return self };
        whole.name = name.into();
        *whole.dims.last_mut().expect("dimensions") = parts.iter().map(|t| *t.dims.last().expect("dimensions")).sum();
        whole.data = parts.into_iter().flat_map(|t| t.data).collect();
        self.tensors.push(whole);
        self
    }

    /// Adds an entry to the tensor list with whatever it is given.
    pub fn tensor_raw(mut self, name: &str, kind: u32, dims: &[u64], data: Vec<u8>, offset: Option<u64>) -> Self {
        self.tensors.push(Tensor { name: name.into(), kind, dims: dims.to_vec(), data, offset });
        self
    }

    /// Writes these counts instead of the right ones.
    pub fn claim(mut self, n_tensors: Option<u64>, n_pairs: Option<u64>) -> Self {
        (self.n_tensors, self.n_pairs) = (n_tensors, n_pairs);
        self
    }

    /// The file's bytes.
    pub fn finish(&self) -> Vec<u8> {
        // Hostile alignments are written but not heeded.
        let align = |n: usize| if self.alignment.is_power_of_two() { n.next_multiple_of(self.alignment as usize) } else { n };
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_pairs.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            string(key, &mut out);
            out.extend(value.kind().to_le_bytes());
            value.write(&mut out);
        }
        let mut data = Vec::new();
        for t in &self.tensors {
            data.resize(align(data.len()), 0);
            string(&t.name, &mut out);
            out.extend((t.dims.len() as u32).to_le_bytes());
            t.dims.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(t.kind.to_le_bytes());
            out.extend(t.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&t.data);
        }
        if !data.is_empty() {
            out.resize(align(out.len()), 0);
        }
        out.extend(data);
        out
    }

    /// The same tensors spread over `n` files, with the pairs that `gguf-split` writes; other pairs are in the first.
    pub fn split(&self, n: usize) -> Vec<Vec<u8>> {
        let per_part = self.tensors.len().div_ceil(n);
        (0..n)
            .map(|no| {
                let from = (no * per_part).min(self.tensors.len());
                let to = (from + per_part).min(self.tensors.len());
                let mut part = Self { tensors: self.tensors[from..to].to_vec(), ..self.clone() };
                if no > 0 {
                    part.pairs.retain(|(key, _)| key == "general.alignment");
                }
                part.kv("split.no", Val::U16(no as u16))
                    .kv("split.count", Val::U16(n as u16))
                    .kv("split.tensors.count", Val::I32(self.tensors.len() as i32))
                    .finish()
            })
            .collect()
    }
}
