//! From a file's tensors to a backend's weights: the plan, its check, the memory, and the reading.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::backend::{Backend, DepthwiseConv, Linear, MatrixSpec};
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Tensor};
use crate::quant::{Format, LoadOnly, Stored, quantize_row};

/// Bytes of weights that are in flight between source and backend at a time.
const STAGING: usize = 4 << 20;
/// Bytes that are asked for before the device has to say whether it has them: few enough that one which has not is not asked for much
/// more, enough that waiting takes no time that counts.
const CONFIRM_EVERY: u64 = 256 << 20;
/// More names than this are counted, not listed, in an error.
const MAX_NAMED: usize = 6;

/// Of a tensor's bytes, every so many is looked at for the fingerprint: what is left of 4 GB takes a millisecond to hash. A prime, so
/// that it falls on every part of every format's blocks.
const FINGERPRINT_EVERY: usize = 4093;

/// What a tensor becomes.
#[derive(Debug, Clone)]
enum Role {
    /// Floats on the host: norms, biases, position tables. Elements `from .. from + n_out` of the tensor under another name.
    Floats(Vec<Part>),
    /// Floats on the host that something is divided by.
    Divisors,
    /// Rows `from .. from + n_out` of the tensor as a weight matrix under another name.
    Matrices(Vec<Part>),
}

#[derive(Debug, Clone)]
struct Part {
    name: String,
    from: usize,
    n_out: usize,
}

#[derive(Debug, Clone)]
struct Want {
    dims: Vec<usize>,
    /// Elements of a matrix row: the product of the leading dimensions.
    n_in: usize,
    role: Role,
}

/// The tensors a model wants of a file.
pub struct Plan<'a> {
    gguf: &'a Gguf,
    wants: BTreeMap<String, Want>,
    /// Matrices that are multiplied by a number as a whole, and the tensors that have it.
    factors: BTreeMap<String, String>,
    ignored: Vec<String>,
    missing: Vec<String>,
    misshaped: Vec<String>,
}

impl<'a> Plan<'a> {
    /// An empty plan for this file.
    pub fn new(gguf: &'a Gguf) -> Self {
        Self {
            gguf,
            wants: BTreeMap::new(),
            factors: BTreeMap::new(),
            ignored: Vec::new(),
            missing: Vec::new(),
            misshaped: Vec::new(),
        }
    }

    /// The file.
    pub fn gguf(&self) -> &'a Gguf {
        self.gguf
    }

    /// Whether the file has the tensor.
    pub fn has(&self, name: &str) -> bool {
        self.gguf.tensor(name).is_some()
    }

    fn want(&mut self, name: &str, dims: &[usize], n_in: usize, role: Role) {
        match self.gguf.tensor(name) {
            None => self.missing.push(name.to_string()),
            // A 32-bit platform cannot hold it, whatever its shape.
            Some(t) if isize::try_from(t.info.n_bytes()).is_err() => {
                self.misshaped.push(format!("'{name}' is {} bytes", t.info.n_bytes()))
            }
            Some(t) if trimmed(&t.info.dims) != trimmed(dims) => {
                self.misshaped.push(format!("'{name}' is {:?} instead of {dims:?}", t.info.dims));
            }
            Some(t) => {
                if t.info.format == LoadOnly::NVFP4.into() && matches!(role, Role::Matrices(_)) {
                    self.factor(name);
                }
                self.wants.insert(name.to_string(), Want { dims: dims.to_vec(), n_in, role });
            }
        }
    }

    /// Notes what a matrix of NVFP4 is multiplied by as a whole, where the file has that, as llama.cpp writes it: one float in `name.scale`
    /// beside `name.weight`.
    fn factor(&mut self, weight: &str) {
        let scale = format!("{}.scale", weight.trim_end_matches(".weight"));
        match self.gguf.tensor(&scale) {
            Some(t) if t.info.n_elements() != 1 => {
                self.misshaped.push(format!("'{scale}' is {:?} instead of [1]", t.info.dims));
            }
            Some(_) => drop(self.factors.insert(weight.to_string(), scale)),
            None => {}
        }
    }

    /// Whether a tensor belongs to a matrix of NVFP4: its factor, or the one that programs multiply 4-bit activations by, which these are not.
    fn is_factor(&self, name: &str) -> bool {
        let of = |end: &str| name.strip_suffix(end).map(|stem| format!("{stem}.weight"));
        let is_nvfp4 = |weight: &String| {
            self.wants.contains_key(weight) && self.gguf.tensor(weight).is_some_and(|t| t.info.format == LoadOnly::NVFP4.into())
        };
        of(".scale").is_some_and(|weight| self.factors.contains_key(&weight)) || of(".input_scale").as_ref().is_some_and(is_nvfp4)
    }

    /// A matrix `[n_out, n_in]` under its own name.
    pub fn matrix(&mut self, name: &str, n_in: usize, n_out: usize) {
        self.matrix_parts(name, n_in, &[(name, n_out)]);
    }

    /// A tensor that holds several matrices one below the other, as Phi-3 stores its projections: `(name, rows)` of each.
    pub fn matrix_parts(&mut self, name: &str, n_in: usize, parts: &[(&str, usize)]) {
        let (parts, n_out) = parts_of(parts.iter().map(|(name, n_out)| ((*name).to_string(), *n_out)));
        self.want(name, &[n_in, n_out], n_in, Role::Matrices(parts));
    }

    /// A linear layer that holds several, one below the other: `(name, outputs)` of each. A bias, where the file has one, is cut in the same
    /// way.
    pub fn linear_parts(&mut self, name: &str, n_in: usize, parts: &[(String, usize)]) {
        let named = |kind: &str| parts_of(parts.iter().map(|(name, n_out)| (format!("{name}.{kind}"), *n_out)));
        let (weights, n_out) = named("weight");
        self.want(&format!("{name}.weight"), &[n_in, n_out], n_in, Role::Matrices(weights));
        let bias = format!("{name}.bias");
        if self.has(&bias) {
            self.want(&bias, &[n_out], n_out, Role::Floats(named("bias").0));
        }
    }

    /// A convolution kernel whose dimensions are `kernel` (their product is the row of a matrix), then `n_out`.
    pub fn convolution(&mut self, name: &str, kernel: &[usize], n_out: usize) {
        let n_in = kernel.iter().product();
        let dims: Vec<usize> = kernel.iter().copied().chain([n_out]).collect();
        let part = Part { name: name.to_string(), from: 0, n_out };
        self.want(name, &dims, n_in, Role::Matrices(vec![part]));
    }

    /// A depthwise convolution of 3 by 3 taps over rows of `n` elements: `name.weight`, and `name.bias` where the file has it.
    pub fn depthwise_conv(&mut self, name: &str, n: usize) {
        self.floats(&format!("{name}.weight"), &[3, 3, n]);
        self.optional_floats(&format!("{name}.bias"), &[n]);
    }

    /// Floats of this shape (contiguous dimension first).
    pub fn floats(&mut self, name: &str, dims: &[usize]) {
        let part = Part { name: name.to_string(), from: 0, n_out: dims.iter().product() };
        self.want(name, dims, dims[0], Role::Floats(vec![part]));
    }

    /// [`Self::floats`] where the file has the tensor.
    pub fn optional_floats(&mut self, name: &str, dims: &[usize]) {
        if self.has(name) {
            self.floats(name, dims);
        }
    }

    /// `n` floats that something is divided by, where the file has the tensor.
    pub fn optional_divisors(&mut self, name: &str, n: usize) {
        if self.has(name) {
            self.want(name, &[n], n, Role::Divisors);
        }
    }

    /// A linear layer: `name.weight`, and `name.bias` where the file has it.
    pub fn linear(&mut self, name: &str, n_in: usize, n_out: usize) {
        self.matrix(&format!("{name}.weight"), n_in, n_out);
        self.optional_floats(&format!("{name}.bias"), &[n_out]);
    }

    /// A norm: `name.weight`, and `name.bias` where the file has it.
    pub fn norm(&mut self, name: &str, n: usize) {
        self.floats(&format!("{name}.weight"), &[n]);
        self.optional_floats(&format!("{name}.bias"), &[n]);
    }

    /// Tensors whose names begin so are known to be of no use here.
    pub fn ignore(&mut self, prefix: &str) {
        self.ignored.push(prefix.to_string());
    }

    /// Checks the plan against the file.
    ///
    /// # Errors
    /// `invalid_gguf` naming missing and mis-shaped tensors, `unsupported_architecture` naming surplus ones: they mean a network
    /// that computes something this program would leave out.
    pub fn check(&self) -> Result<()> {
        let file = self.gguf.name();
        if !self.missing.is_empty() {
            return Err(Error::invalid_gguf(format!(
                "'{file}' lacks {} that its metadata promises: {}. It is incomplete or was made for another program.",
                tensors(self.missing.len()),
                listed(&self.missing)
            )));
        }
        if !self.misshaped.is_empty() {
            return Err(Error::invalid_gguf(format!(
                "'{file}' has {} of a shape that contradicts its metadata: {}.",
                tensors(self.misshaped.len()),
                listed(&self.misshaped)
            )));
        }
        let surplus: Vec<String> = self
            .gguf
            .tensors()
            .filter(|t| {
                !self.wants.contains_key(&t.info.name)
                    && !self.is_factor(&t.info.name)
                    && !self.ignored.iter().any(|p| t.info.name.starts_with(p.as_str()))
            })
            .map(|t| format!("'{}'", t.info.name))
            .collect();
        if !surplus.is_empty() {
            return Err(Error::unsupported_architecture(format!(
                "'{file}' has {} that this program has no use for: {}. Its network is of a kind that is not supported.",
                tensors(surplus.len()),
                listed(&surplus)
            )));
        }
        Ok(())
    }

    /// What the backend is asked for, in the order in which it stands in the file: formats that are converted as what they become.
    /// `quantize_to` stores matrices that the file holds as floats in that format instead.
    fn specs(&self, quantize_to: Option<Format>) -> Vec<MatrixSpec> {
        let mut specs = Vec::new();
        for tensor in self.gguf.in_file_order() {
            let Some(Want { n_in, role: Role::Matrices(parts), .. }) = self.wants.get(&tensor.info.name) else { continue };
            let stored = tensor.info.format;
            let format = quantize_to.filter(|to| !stored.is_quantized() && n_in.is_multiple_of(to.block_len()));
            let format = format.unwrap_or(stored.kept_as());
            specs.extend(parts.iter().map(|p| MatrixSpec { name: p.name.clone(), format, n_in: *n_in, n_out: p.n_out }));
        }
        specs
    }

    /// Bytes that all of it takes on the device.
    pub fn n_bytes<B: Backend>(&self, backend: &B, quantize_to: Option<Format>) -> u64 {
        let floats = self.wants.values().filter(|w| matches!(w.role, Role::Floats(_) | Role::Divisors));
        let floats = floats.map(|w| w.dims.iter().fold(4u64, |n, d| n.saturating_mul(*d as u64)));
        let matrices = self.specs(quantize_to).into_iter().map(|spec| backend.matrix_bytes(&spec));
        floats.chain(matrices).fold(0, u64::saturating_add)
    }

    /// The number of elements of all wanted tensors.
    pub fn n_parameters(&self) -> u64 {
        self.wants.values().map(|w| w.dims.iter().map(|d| *d as u64).product::<u64>()).sum()
    }
}

/// A plan whose matrices have their memory, before the first byte of them is read.
pub struct Reserved<'a, B: Backend> {
    plan: Plan<'a>,
    quantize_to: Option<Format>,
    builders: HashMap<String, (MatrixSpec, B::MatrixBuilder)>,
}

impl<'a, B: Backend> Reserved<'a, B> {
    /// A plan that is checked, whose matrices have no memory yet; `quantize_to` stores those that the file holds as floats in that format
    /// instead.
    pub fn new(plan: Plan<'a>, quantize_to: Option<Format>) -> Self {
        Self { plan, quantize_to, builders: HashMap::new() }
    }

    /// Asks for the memory of every matrix. The backend is between [`Memory::reserve`](crate::backend::Memory::reserve) and [`Memory::reserved`](crate::backend::Memory::reserved).
    ///
    /// # Errors
    /// `out_of_memory`; what was had until then is given back when this is dropped.
    pub async fn take_memory(&mut self, backend: &mut B) -> Result<()> {
        let mut unconfirmed = 0;
        for spec in self.plan.specs(self.quantize_to) {
            let builder = backend.matrix_begin(&spec)?;
            unconfirmed += backend.matrix_bytes(&spec);
            self.builders.insert(spec.name.clone(), (spec, builder));
            if unconfirmed > CONFIRM_EVERY {
                backend.confirm().await?;
                unconfirmed = 0;
            }
        }
        Ok(())
    }

    /// The number of elements of all tensors.
    pub fn n_parameters(&self) -> u64 {
        self.plan.n_parameters()
    }

    /// The formats in which matrices are kept.
    pub fn formats(&self) -> BTreeSet<Format> {
        self.builders.values().map(|(spec, _)| spec.format).collect()
    }

    /// Reads everything, in the order in which it stands in the file. `progress` is called with the bytes read so far of the bytes
    /// in all.
    ///
    /// # Errors
    /// As the source has them, and `invalid_gguf` for values that are not finite.
    pub async fn load(mut self, backend: &mut B, progress: &mut dyn FnMut(u64, u64)) -> Result<Weights<B>> {
        let gguf = self.plan.gguf;
        let names = self.plan.wants.keys().chain(self.plan.factors.values());
        let total: u64 = names.filter_map(|n| gguf.tensor(n)).map(|t| t.info.n_bytes()).sum();
        let mut fingerprint = SipHasher13::new();
        fingerprint.write(self.quantize_to.map_or("", Format::name).as_bytes());
        let mut reader = Reader { gguf, staging: Vec::new(), fingerprint, loaded: 0, total, progress };
        let mut weights = Weights { matrices: HashMap::new(), floats: HashMap::new(), fingerprint: 0 };
        (reader.progress)(0, total);
        for tensor in gguf.in_file_order() {
            let Some(want) = self.plan.wants.get(&tensor.info.name) else { continue };
            let refuse = |error: &Error| {
                if matches!(error, Error::InvalidGguf(_)) {
                    gguf.refuse(tensor);
                }
            };
            reader
                .fingerprint
                .write(format!("{} {} {:?}", tensor.info.name, tensor.info.format.name(), tensor.info.dims).as_bytes());
            match &want.role {
                Role::Floats(parts) => {
                    let all = reader.floats(tensor).await.inspect_err(refuse)?;
                    for Part { name, from, n_out } in parts {
                        weights.floats.insert(name.clone(), all[*from..from + n_out].to_vec());
                    }
                }
                Role::Divisors => {
                    let all = reader.floats(tensor).await.and_then(|all| positive(&tensor.info.name, all)).inspect_err(refuse)?;
                    weights.floats.insert(tensor.info.name.clone(), all);
                }
                Role::Matrices(parts) => {
                    let factor = match self.plan.factors.get(&tensor.info.name).and_then(|name| gguf.tensor(name)) {
                        Some(scale) => Some(reader.factor(scale).await.inspect_err(refuse)?),
                        None => None,
                    };
                    for part in parts {
                        let reserved = self.builders.remove(&part.name);
                        let (spec, builder) = reserved.ok_or_else(|| not_planned(&part.name))?;
                        let matrix = reader.matrix(backend, (tensor, factor), part, &spec, builder).await.inspect_err(refuse)?;
                        weights.matrices.insert(part.name.clone(), matrix);
                    }
                }
            }
        }
        weights.fingerprint = reader.fingerprint.finish();
        Ok(weights)
    }
}

/// Parts that stand one behind the other, and their length together.
fn parts_of(parts: impl Iterator<Item = (String, usize)>) -> (Vec<Part>, usize) {
    let mut from = 0;
    let parts = parts.map(|(name, n_out)| {
        from += n_out;
        Part { name, from: from - n_out, n_out }
    });
    (parts.collect(), from)
}

/// Trailing dimensions of 1 mean nothing.
fn trimmed(dims: &[usize]) -> &[usize] {
    let n = dims.iter().rposition(|d| *d != 1).map_or(1, |i| i + 1);
    &dims[..n.min(dims.len())]
}

fn tensors(n: usize) -> String {
    if n == 1 { "a tensor".into() } else { format!("{n} tensors") }
}

fn listed(names: &[String]) -> String {
    let mut text = names[..names.len().min(MAX_NAMED)].join(", ");
    if names.len() > MAX_NAMED {
        text += &format!(" and {} more", names.len() - MAX_NAMED);
    }
    text
}

struct Reader<'a> {
    gguf: &'a Gguf,
    staging: Vec<u8>,
    /// Of what was read so far.
    fingerprint: SipHasher13,
    loaded: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Reader<'_> {
    async fn fill(&mut self, tensor: &Tensor, from: u64, n: usize) -> Result<()> {
        if self.staging.len() < n {
            let more = n - self.staging.len();
            room(&mut self.staging, more, &tensor.info.name)?;
            self.staging.resize(n, 0);
        }
        self.gguf.read(tensor, from, &mut self.staging[..n]).await?;
        // Chosen by their place in the tensor: in however many pieces it is read, they are the same.
        let every = FINGERPRINT_EVERY as u64;
        let first = usize::try_from(from.next_multiple_of(every) - from).unwrap_or(FINGERPRINT_EVERY);
        let samples: Vec<u8> = self.staging[..n].iter().skip(first).step_by(FINGERPRINT_EVERY).copied().collect();
        self.fingerprint.write(&samples);
        self.loaded += n as u64;
        (self.progress)(self.loaded, self.total);
        Ok(())
    }

    async fn floats(&mut self, tensor: &Tensor) -> Result<Vec<f32>> {
        let info = &tensor.info;
        let n = usize::try_from(info.n_bytes()).map_err(|_| {
            Error::out_of_memory(format!(
                "The tensor '{}' has {} bytes, more than fit into memory. Take a smaller model.",
                info.name,
                info.n_bytes()
            ))
        })?;
        self.fill(tensor, 0, n).await?;
        let bytes = &self.staging[..n];
        if !info.format.check_finite(bytes) {
            return Err(not_finite(&info.name));
        }
        let mut out = vec![0.0; info.n_elements()];
        info.format.decode_row(bytes, &mut out);
        Ok(out)
    }

    /// The only number of a tensor.
    async fn factor(&mut self, tensor: &Tensor) -> Result<f32> {
        Ok(self.floats(tensor).await?[0])
    }

    async fn matrix<B: Backend>(
        &mut self,
        backend: &mut B,
        (tensor, factor): (&Tensor, Option<f32>),
        part: &Part,
        spec: &MatrixSpec,
        mut builder: B::MatrixBuilder,
    ) -> Result<B::Matrix> {
        let (stored, to, n_in) = (tensor.info.format, spec.format, spec.n_in);
        let row_bytes = stored.row_bytes(n_in);
        let group = B::ROW_GROUP;
        let chunk = (STAGING / row_bytes / group * group).max(group);
        let (mut decoded, mut converted) = (Vec::new(), Vec::new());
        let mut row = 0;
        while row < part.n_out {
            let n = chunk.min(part.n_out - row);
            let n_bytes = n * row_bytes;
            self.fill(tensor, (part.from + row) as u64 * row_bytes as u64, n_bytes).await?;
            let bytes = &self.staging[..n_bytes];
            if stored == Stored::Kept(to) {
                backend.matrix_rows(&mut builder, bytes)?;
                row += n;
                continue;
            }
            if !stored.check_finite(bytes) {
                return Err(not_finite(&tensor.info.name));
            }
            converted.clear();
            room(&mut converted, to.row_bytes(n_in) * n, &part.name)?;
            match (stored, factor) {
                (Stored::Converted(format), None) => {
                    format.convert(bytes, &mut converted);
                    if !to.check_finite(&converted) {
                        return Err(too_large(&tensor.info.name, format.name()));
                    }
                }
                _ => {
                    decoded.clear();
                    room(&mut decoded, n * n_in, &part.name)?;
                    decoded.resize(n * n_in, 0.0);
                    stored.decode_row(bytes, &mut decoded);
                    if let Some(factor) = factor {
                        decoded.iter_mut().for_each(|x| *x *= factor);
                    }
                    quantize_row(to, &decoded, &mut converted)
                        .map_err(|e| Error::from_code(e.code(), format!("{}: {}", part.name, e.message())))?;
                }
            }
            backend.matrix_rows(&mut builder, &converted)?;
            row += n;
        }
        backend.matrix_end(builder)
    }
}

/// Makes room for `n` elements more, in which weights are read or converted.
fn room<T>(data: &mut Vec<T>, n: usize, name: &str) -> Result<()> {
    data.try_reserve_exact(n).map_err(|_| {
        let n_bytes = n * size_of::<T>();
        Error::out_of_memory(format!(
            "There is not enough memory to read the weights {name}: {n_bytes} bytes were needed. Close other tabs, or choose a smaller \
             model."
        ))
    })
}

/// Passes on what something is divided by, which is above zero.
fn positive(name: &str, divisors: Vec<f32>) -> Result<Vec<f32>> {
    if divisors.iter().all(|x| *x > 0.0) {
        return Ok(divisors);
    }
    Err(Error::invalid_gguf(format!(
        "The tensor '{name}' holds divisors that are not above zero. The file is damaged; download it again."
    )))
}

fn too_large(name: &str, format: &str) -> Error {
    Error::invalid_gguf(format!(
        "The tensor '{name}' has numbers in {format} that are too large to compute with. The file is damaged; download it again."
    ))
}

fn not_planned(name: &str) -> Error {
    Error::internal(format!("The weight '{name}' was not planned."))
}

fn not_finite(name: &str) -> Error {
    Error::invalid_gguf(format!(
        "The tensor '{name}' holds values that are not numbers (NaN or infinite). The file is damaged; download it again."
    ))
}

/// Loaded weights by name, to be taken out by the model.
pub struct Weights<B: Backend> {
    matrices: HashMap<String, B::Matrix>,
    floats: HashMap<String, Vec<f32>>,
    fingerprint: u64,
}

impl<B: Backend> Weights<B> {
    /// A hash of the tensors' names, formats and shapes, of a sample of their bytes, and of what they were quantized to: the same on every
    /// device, and another for another training of the same network.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Takes a matrix of the plan.
    ///
    /// # Errors
    /// `internal` where the plan had no such matrix.
    pub fn matrix(&mut self, name: &str) -> Result<B::Matrix> {
        self.matrices.remove(name).ok_or_else(|| not_planned(name))
    }

    /// Takes floats of the plan.
    pub fn floats(&mut self, name: &str) -> Option<Vec<f32>> {
        self.floats.remove(name)
    }

    /// Takes floats of the plan as a tensor of rows of `cols`.
    ///
    /// # Errors
    /// `internal` where the plan had no such tensor, `out_of_memory`.
    pub fn tensor(&mut self, backend: &mut B, name: &str, cols: usize) -> Result<B::Tensor> {
        let data = self.floats(name).ok_or_else(|| not_planned(name))?;
        let mut out = backend.tensor(data.len() / cols, cols)?;
        backend.write(&mut out, 0, &data);
        Ok(out)
    }

    /// The sum of two tensors of floats as a matrix of rows of `n_in`, kept as 32-bit floats, which lose nothing of it.
    ///
    /// # Errors
    /// `internal` where the plan had no such tensors, `out_of_memory`.
    pub fn sum(&mut self, backend: &mut B, names: [&str; 2], n_in: usize) -> Result<B::Matrix> {
        let [a, b] = names.map(|name| self.floats(name).ok_or_else(|| not_planned(name)));
        let sum: Vec<f32> = a?.iter().zip(b?).map(|(a, b)| a + b).collect();
        float_matrix(backend, names[0], n_in, sum.into_iter())
    }

    /// Floats `[n_in, n_out]`, those of an output one behind the other only from row to row, as a matrix of rows of `n_in`, kept as 32-bit
    /// floats.
    ///
    /// # Errors
    /// `internal` where the plan had no such tensor, `out_of_memory`.
    pub fn transposed(&mut self, backend: &mut B, name: &str, n_in: usize) -> Result<B::Matrix> {
        let stored = self.floats(name).ok_or_else(|| not_planned(name))?;
        let n_out = stored.len() / n_in;
        float_matrix(backend, name, n_in, (0..n_out).flat_map(|out| stored.iter().skip(out).step_by(n_out).copied()))
    }

    /// [`Self::tensor`] of one row where the file has it.
    ///
    /// # Errors
    /// `out_of_memory`.
    pub fn optional_row(&mut self, backend: &mut B, name: &str) -> Result<Option<B::Tensor>> {
        let Some(data) = self.floats(name) else { return Ok(None) };
        let mut out = backend.tensor(1, data.len())?;
        backend.write(&mut out, 0, &data);
        Ok(Some(out))
    }

    /// A linear layer of the plan: `weight_name` with the bias `bias_name` where there is one.
    ///
    /// # Errors
    /// As [`Self::matrix`] and [`Self::tensor`].
    pub fn linear_named(&mut self, backend: &mut B, weight: &str, bias: &str) -> Result<Linear<B>> {
        Ok(Linear { weight: self.matrix(weight)?, bias: self.optional_row(backend, bias)? })
    }

    /// The linear layer `name.weight`, `name.bias`.
    ///
    /// # Errors
    /// As [`Self::linear_named`].
    pub fn linear(&mut self, backend: &mut B, name: &str) -> Result<Linear<B>> {
        self.linear_named(backend, &format!("{name}.weight"), &format!("{name}.bias"))
    }

    /// The depthwise convolution `name.weight`, `name.bias` over rows of `n` elements.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn depthwise_conv(&mut self, backend: &mut B, name: &str, n: usize, stride: usize) -> Result<DepthwiseConv<B>> {
        let weight = format!("{name}.weight");
        // Files have the taps of each element side by side.
        let stored = self.floats(&weight).ok_or_else(|| not_planned(&weight))?;
        let taps: Vec<f32> = (0..9).flat_map(|tap| stored[tap..].iter().step_by(9).copied()).collect();
        let mut kernel = backend.tensor(9, n)?;
        backend.write(&mut kernel, 0, &taps);
        Ok(DepthwiseConv { kernel, bias: self.optional_row(backend, &format!("{name}.bias"))?, stride })
    }

    /// The weight and bias of a norm; a missing bias is zero.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn norm(&mut self, backend: &mut B, name: &str, n: usize) -> Result<Norm<B>> {
        let weight = self.tensor(backend, &format!("{name}.weight"), n)?;
        let bias = match self.optional_row(backend, &format!("{name}.bias"))? {
            Some(bias) => bias,
            None => backend.tensor(1, n)?,
        };
        Ok(Norm { weight, bias })
    }
}

/// A matrix of 32-bit floats.
fn float_matrix<B: Backend>(backend: &mut B, name: &str, n_in: usize, values: impl Iterator<Item = f32>) -> Result<B::Matrix> {
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    let n_out = bytes.len() / 4 / n_in;
    let spec = MatrixSpec { name: name.to_string(), format: Format::F32, n_in, n_out };
    let mut builder = backend.matrix_begin(&spec)?;
    backend.matrix_rows(&mut builder, &bytes)?;
    backend.matrix_end(builder)
}

/// The parameters of a layer norm.
pub struct Norm<B: Backend> {
    /// `[1, n]`
    pub weight: B::Tensor,
    /// `[1, n]`
    pub bias: B::Tensor,
}
