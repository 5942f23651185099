//! The tensors of a folder: shards of safetensors, or PyTorch's pickles. Their headers are read at once, their numbers a few rows at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::pickle::{Object, PthTensors, Stack};
use candle_core::{DType, Tensor as Array};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata};

use crate::error::{Error, Result};

/// More than any header of a checkpoint.
const MAX_HEADER: u64 = 100 << 20;
/// More than any pickle's list of tensors.
const MAX_PICKLE: u64 = 64 << 20;
/// Sizes beyond this are no tensor's.
const MAX_ELEMENTS: usize = 1 << 40;

/// Fills `bytes` with what stands in a file from `at` on. Threads may do so at once.
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, bytes, at);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < bytes.len() {
            match std::os::windows::fs::FileExt::seek_read(file, &mut bytes[done..], at + done as u64)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    F32,
    F16,
    BF16,
}

impl Number {
    fn n_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    fn read(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Self::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Self::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        }
    }
}

#[derive(Clone)]
enum Place {
    /// So many bytes from the start of a file.
    File { file: Arc<File>, path: Arc<Path>, at: u64 },
    /// An entry of a pickle.
    Pickle { tensors: Arc<PthTensors>, name: String },
}

/// A tensor of a checkpoint.
#[derive(Clone)]
pub struct Tensor {
    /// Its sizes, the contiguous one last.
    pub shape: Vec<usize>,
    number: Number,
    place: Place,
}

impl Tensor {
    /// The same numbers under other sizes.
    pub fn reshaped(&self, shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), ..self.clone() }
    }

    /// Elements of a row: of everything but the first size.
    pub fn cols(&self) -> usize {
        if self.shape.len() < 2 { self.shape.first().copied().unwrap_or(1) } else { self.shape[1..].iter().product() }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        if self.shape.len() < 2 { 1 } else { self.shape[0] }
    }

    /// Makes it ready to be read by rows; a pickle's tensor is held as a whole, in its own format.
    pub fn open(&self) -> Result<Rows> {
        Ok(match &self.place {
            Place::File { file, path, at } => Rows {
                number: self.number,
                cols: self.cols(),
                held: Held::File { file: file.clone(), path: path.clone(), at: *at },
            },
            Place::Pickle { tensors, name } => {
                let array = tensors.get(name)?.ok_or_else(|| Error::new(format!("The tensor '{name}' is gone")))?;
                Rows { number: self.number, cols: self.cols(), held: Held::Array(array.reshape((self.rows(), self.cols()))?) }
            }
        })
    }

    /// All of it.
    pub fn read(&self) -> Result<Vec<f32>> {
        self.open()?.read(0..self.rows())
    }
}

enum Held {
    File { file: Arc<File>, path: Arc<Path>, at: u64 },
    Array(Array),
}

/// A tensor that is being read.
pub struct Rows {
    number: Number,
    cols: usize,
    held: Held,
}

impl Rows {
    /// Rows one after another.
    pub fn read(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        match &self.held {
            Held::File { file, path, at } => {
                let row = self.cols * self.number.n_bytes();
                let mut bytes = vec![0; rows.len() * row];
                read_at(file, &mut bytes, at + (rows.start * row) as u64).map_err(|e| Error::of_file("read", path, &e))?;
                Ok(self.number.read(&bytes))
            }
            Held::Array(array) => {
                Ok(array.narrow(0, rows.start, rows.len())?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?)
            }
        }
    }
}

/// All tensors of a checkpoint.
#[derive(Default)]
pub struct Checkpoint {
    tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Opens what a folder holds: `model.safetensors`, its shards by their index or by their names, or PyTorch's files.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut checkpoint = Self::default();
        for file in files(folder)? {
            checkpoint.add(&file)?;
        }
        Ok(checkpoint)
    }

    /// Adds the tensors of a file; those that are there already give way.
    pub fn add(&mut self, path: &Path) -> Result<()> {
        let is_safetensors = path.extension().is_some_and(|e| e == "safetensors");
        let found = if is_safetensors { safetensors(path)? } else { pickle(path)? };
        self.tensors.extend(found);
        Ok(())
    }

    /// Names and tensors.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// A tensor by its name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// A tensor under another name, beside those that are there or instead of one.
    pub fn insert(&mut self, name: String, tensor: Tensor) {
        self.tensors.insert(name, tensor);
    }
}

/// The files of a folder that hold its weights.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    for index in ["model.safetensors.index.json", "pytorch_model.bin.index.json"] {
        let index = folder.join(index);
        if index.exists() {
            return of_index(folder, &index);
        }
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::of_file("read", folder, &e))? {
        let entry = entry.map_err(|e| Error::of_file("read", folder, &e))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let is_shard = |name: &str| (name.starts_with("model-") || name.starts_with("pytorch_model-")) && name.contains("-of-");
    for end in [".safetensors", ".bin"] {
        let whole = if end == ".bin" { "pytorch_model.bin" } else { "model.safetensors" };
        if names.iter().any(|name| name == whole) {
            return Ok(vec![folder.join(whole)]);
        }
        let shards: Vec<&String> = names.iter().filter(|name| is_shard(name) && name.ends_with(end)).collect();
        if let Some(first) = shards.first() {
            let said = first.trim_end_matches(end).rsplit("-of-").next().and_then(|n| n.parse::<usize>().ok());
            if said != Some(shards.len()) {
                return Err(Error::new(format!(
                    "'{}' has {} shards, but they are numbered as if there were {}. Download the missing ones.",
                    folder.display(),
                    shards.len(),
                    said.map_or("others".to_string(), |n| n.to_string())
                )));
            }
            return Ok(shards.iter().map(|name| folder.join(name)).collect());
        }
    }
    Err(Error::new(format!(
        "'{}' holds no weights: neither model.safetensors nor pytorch_model.bin, nor an index of shards. Give the folder of a Hugging Face model.",
        folder.display()
    )))
}

/// The shards that an index names.
fn of_index(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let json = super::json(index)?;
    let map = json["weight_map"].as_object().ok_or_else(|| Error::new(format!("'{}' has no weight_map", index.display())))?;
    let names: BTreeSet<&str> = map.values().filter_map(serde_json::Value::as_str).collect();
    names
        .into_iter()
        .map(|name| {
            let is_plain = Path::new(name).file_name().is_some_and(|file| file == name);
            let path = folder.join(name);
            if !is_plain || !path.exists() {
                return Err(Error::new(format!(
                    "The shard '{name}' that '{}' lists is not there. Download it.",
                    index.display()
                )));
            }
            Ok(path)
        })
        .collect()
}

/// The tensors that the header of a file lists.
fn safetensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let wrong = |why: &dyn std::fmt::Display| {
        Error::new(format!("'{}' is no sound safetensors file: {why}. Download it again.", path.display()))
    };
    let file = File::open(path).map_err(|e| Error::of_file("opened", path, &e))?;
    let size = file.metadata().map_err(|e| Error::of_file("read", path, &e))?.len();
    let mut length = [0; 8];
    read_at(&file, &mut length, 0).map_err(|_| wrong(&"it is shorter than its header"))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length + 8 > size {
        return Err(wrong(&format!("its header is to have {length} bytes")));
    }
    let mut header = vec![0; usize::try_from(length).map_err(|e| wrong(&e))?];
    read_at(&file, &mut header, 8).map_err(|e| Error::of_file("read", path, &e))?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| wrong(&e))?;
    let end = metadata.tensors().values().map(|t| t.data_offsets.1 as u64).max().unwrap_or(0).saturating_add(8 + length);
    if end > size {
        return Err(wrong(&format!("it has {size} bytes of {end}")));
    }
    let (file, path) = (Arc::new(file), Arc::<Path>::from(path));
    let mut found = Vec::new();
    for (name, info) in metadata.tensors() {
        let number = match info.dtype {
            Dtype::F32 => Number::F32,
            Dtype::F16 => Number::F16,
            Dtype::BF16 => Number::BF16,
            // Positions' ids; whoever needs it will miss it by name.
            Dtype::I64 | Dtype::I32 | Dtype::BOOL => continue,
            other => {
                return Err(Error::new(format!(
                    "The tensor '{name}' in '{}' is stored as {other:?}. Convert from the unquantized checkpoint (F32, F16 or BF16).",
                    path.display()
                )));
            }
        };
        let n: usize =
            info.shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size)).ok_or_else(|| wrong(&"a size overflows"))?;
        let (from, to) = info.data_offsets;
        if from > to || Some(to - from) != n.checked_mul(number.n_bytes()) {
            return Err(wrong(&format!("the bytes of '{name}' do not fit its sizes {:?}", info.shape)));
        }
        let place = Place::File { file: file.clone(), path: path.clone(), at: 8 + length + from as u64 };
        found.push((name.clone(), Tensor { shape: info.shape.clone(), number, place }));
    }
    Ok(found)
}

/// The modules whose classes a checkpoint of plain tensors names.
fn is_of_tensors(module: &str, class: &str) -> bool {
    match module {
        "collections" => class == "OrderedDict",
        "torch._utils" => class.starts_with("_rebuild_"),
        "torch._tensor" => class == "_rebuild_from_type_v2",
        "torch" => class.ends_with("Storage") || ["float16", "float32", "bfloat16", "Size", "device", "Tensor"].contains(&class),
        "torch.nn.parameter" => class == "Parameter",
        _ => false,
    }
}

/// The first class in a pickle that is none of those.
fn foreign_class(object: &Object) -> Option<String> {
    let any = |all: &[Object]| all.iter().find_map(foreign_class);
    match object {
        Object::Class { module_name, class_name } => {
            (!is_of_tensors(module_name, class_name)).then(|| format!("{module_name}.{class_name}"))
        }
        Object::Tuple(all) | Object::List(all) => any(all),
        Object::Dict(all) => all.iter().find_map(|(key, value)| foreign_class(key).or_else(|| foreign_class(value))),
        Object::Reduce { callable, args } | Object::Build { callable, args } => {
            foreign_class(callable).or_else(|| foreign_class(args))
        }
        Object::PersistentLoad(object) => foreign_class(object),
        _ => None,
    }
}

/// The tensors that a pickle lists. Nothing in it is executed: its program only builds a list.
fn pickle(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let wrong = |why: &dyn std::fmt::Display| {
        Error::new(format!(
            "'{}' is no checkpoint of plain tensors: {why}. Save the model as safetensors (save_pretrained).",
            path.display()
        ))
    };
    let file = File::open(path).map_err(|e| Error::of_file("opened", path, &e))?;
    let size = file.metadata().map_err(|e| Error::of_file("read", path, &e))?.len();
    let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| wrong(&e))?;
    for i in 0..zip.len() {
        let entry = zip.by_index(i).map_err(|e| wrong(&e))?;
        let name = entry.name().map_err(|e| wrong(&e))?.to_string();
        if !name.ends_with("data.pkl") {
            continue;
        }
        if entry.size() > MAX_PICKLE {
            return Err(wrong(&format!("its list has {} bytes", entry.size())));
        }
        let mut stack = Stack::empty();
        stack.read_loop(&mut BufReader::new(entry)).map_err(|e| wrong(&e))?;
        if let Some(class) = stack.stack().iter().find_map(foreign_class) {
            return Err(wrong(&format!("it holds an object of the class '{class}' (nothing of it was executed)")));
        }
    }
    let tensors = Arc::new(PthTensors::new(path, None).map_err(|e| wrong(&e))?);
    let mut found = Vec::new();
    for (name, info) in tensors.tensor_infos() {
        let number = match info.dtype {
            DType::F32 => Number::F32,
            DType::F16 => Number::F16,
            DType::BF16 => Number::BF16,
            _ => continue,
        };
        let shape = info.layout.shape().dims().to_vec();
        let n = shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size)).filter(|n| *n < MAX_ELEMENTS);
        // Entries are not compressed, so none is larger than the file.
        if n.is_none_or(|n| (n * number.n_bytes()) as u64 > size) {
            return Err(wrong(&format!("'{name}' is to have the sizes {shape:?}")));
        }
        found.push((
            name.clone(),
            Tensor { shape, number, place: Place::Pickle { tensors: tensors.clone(), name: name.clone() } },
        ));
    }
    if found.is_empty() {
        return Err(wrong(&"it lists no tensor"));
    }
    Ok(found)
}
