//! The adapter and its device: chosen, opened, and watched for failures.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use super::kernels::{Bindings, Kernel, Products, Variant};
use super::signal::map;
use crate::error::{Error, Result};

/// The most that one weight buffer holds, whatever the adapter allows: what every adapter must be able to bind.
const MAX_BINDING: u64 = 128 << 20;
/// Bytes behind the end of each buffer where nothing is checked.
const GUARD_BYTES: u64 = 4096;
/// What they hold: not a number as 32 bits, nor as twice 16; as integers, far beyond any index.
const GUARD: [u8; 4] = [0xff, 0x7f, 0xff, 0x7f];
/// Bytes of memory that is only tried, in one buffer.
const SPARE_PIECE: u64 = 32 << 20;

/// What to open.
#[derive(Debug, Clone, Copy)]
pub struct DeviceOptions {
    /// Whether an adapter that computes on the CPU will do.
    pub allow_software: bool,
    /// The most bytes in a buffer of weights; larger matrices are cut by rows. For tests; the default is 128 MiB.
    pub max_binding: u64,
    /// Threads that the smallest subgroup has, where the device was made with subgroups behind wgpu's back: in a browser wgpu cannot
    /// ask for them, and does not know them. Natively the adapter says it.
    pub subgroup_min_size: u32,
    /// Whether WGSL has `dot4I8Packed` here: a language extension, which a browser tells of apart from its adapters.
    pub packed_dots: bool,
    /// What many rows are multiplied in, whatever the adapter would do best. For tests and benchmarks.
    pub products: Option<Products>,
    /// Neighbouring threads that kernels take for one subgroup, instead of as many as the adapter has. For tests; one of [`Device::lanes`].
    pub lanes: Option<u32>,
    /// Whether shaders are compiled without the checks that keep an index within its buffer, and every buffer ends in numbers that
    /// are not a number. For tests: a kernel that reads only what is its own computes the same. Natively only; no browser leaves its checks out.
    pub unchecked: bool,
    /// Refuses buffers beyond so many bytes in all, as an adapter does whose memory is used up. For tests.
    pub memory_limit: Option<u64>,
    /// Edits the sources of kernels before they are compiled. For tests of the self-test.
    pub edit_source: Option<fn(Kernel, u32, String) -> String>,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self {
            allow_software: true,
            max_binding: MAX_BINDING,
            subgroup_min_size: 0,
            packed_dots: cfg!(not(target_arch = "wasm32")),
            products: None,
            lanes: None,
            unchecked: false,
            memory_limit: None,
            edit_source: None,
        }
    }
}

/// Something went wrong where nobody waited for it.
#[derive(Debug, Clone)]
enum Failure {
    OutOfMemory(String),
    Lost(String),
    Fault(String),
}

/// A kernel, compiled.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: Rc<wgpu::BindGroupLayout>,
}

/// A buffer with a number of its own. When it is dropped the recorder forgets the bind groups that hold it, then frees it.
#[derive(Debug)]
pub(super) struct Buffer {
    pub(super) raw: wgpu::Buffer,
    pub(super) id: u64,
    dropped: Dropped,
    n_bytes: u64,
    /// The device's count of bytes.
    in_use: Rc<Cell<u64>>,
}

/// Buffers that nothing but bind groups and recorded commands holds any more.
pub(super) type Dropped = Rc<RefCell<Vec<(u64, wgpu::Buffer)>>>;

impl Drop for Buffer {
    fn drop(&mut self) {
        self.dropped.borrow_mut().push((self.id, self.raw.clone()));
        self.in_use.set(self.in_use.get() - self.n_bytes);
    }
}

/// Memory that was asked for, and that the device has not said yet whether it has.
struct Asked {
    what: String,
    n_bytes: u64,
    /// What it says: an error where it has not.
    answer: Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes for {}", self.n_bytes, self.what)
    }
}

/// An open device and the kernels compiled for it. Several backends may share one.
#[derive(Debug)]
pub struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    /// The most bytes that may be bound as one buffer of weights.
    pub(super) max_binding: u64,
    /// The most bytes that may be bound at all.
    max_buffer: u64,
    name: String,
    is_software: bool,
    /// Threads of the adapter's smallest subgroup, as far as kernels make use of them.
    max_lanes: u32,
    has_f16: bool,
    has_packed_dots: bool,
    variant: Cell<Variant>,
    unchecked: bool,
    /// What the self-test replaced.
    notes: RefCell<Vec<String>>,
    edit_source: Option<fn(Kernel, u32, String) -> String>,
    layouts: RefCell<HashMap<Bindings, Rc<wgpu::BindGroupLayout>>>,
    pipelines: RefCell<HashMap<Kernel, Rc<Pipeline>>>,
    /// Kernels compiled so far.
    n_pipelines: Cell<u64>,
    next_id: Cell<u64>,
    failure: Arc<Mutex<Option<Failure>>>,
    /// Bytes of all buffers that are in use.
    in_use: Rc<Cell<u64>>,
    memory_limit: u64,
    /// Whether buffers are made in error scopes, whose outcome somebody waits for.
    is_reserving: Cell<bool>,
    asked: RefCell<Vec<Asked>>,
    /// Bytes allocated since [`Self::reserve`], before the first refusal.
    bytes_before_refusal: Cell<u64>,
}

/// Whatever is on a device that nobody uses any more is given back at once, not when a garbage collector finds it.
impl Drop for Device {
    fn drop(&mut self) {
        self.device.destroy();
    }
}

impl Device {
    /// Opens the adapter that the browser, or the Vulkan loader, gives first.
    ///
    /// # Errors
    /// `unsupported_browser` where there is none, or only one that `options` rule out.
    pub async fn open(options: DeviceOptions) -> Result<Rc<Self>> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = wgpu::Backends::BROWSER_WEBGPU | wgpu::Backends::VULKAN;
        let instance = wgpu::Instance::new(descriptor);
        let wanted =
            wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
        let adapter = instance.request_adapter(&wanted).await.map_err(|e| {
            Error::unsupported_browser(format!(
                "There is no GPU adapter ({e}). Update the browser or the graphics driver, or use device \"cpu\"."
            ))
        })?;
        let info = adapter.get_info();
        let is_software = info.device_type == wgpu::DeviceType::Cpu;
        if is_software && !options.allow_software {
            return Err(Error::unsupported_browser(format!(
                "The only GPU adapter, {}, computes on the CPU. Use device \"cpu\", which is faster there.",
                info.name
            )));
        }
        let offered = adapter.limits();
        // The defaults of WebGPU, but for the sizes of buffers.
        let limits = wgpu::Limits {
            max_buffer_size: offered.max_buffer_size,
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            ..wgpu::Limits::default()
        };
        let max_buffer = limits.max_buffer_size.min(limits.max_storage_buffer_binding_size);
        let required_features = adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16);
        let has_subgroups = required_features.contains(wgpu::Features::SUBGROUP);
        let subgroup_min_size = if has_subgroups { info.subgroup_min_size } else { options.subgroup_min_size };
        // Half floats come nearer to what 32 bits would give than bytes do, and no adapter is known where bytes would be faster than both.
        let has_f16 = required_features.contains(wgpu::Features::SHADER_F16);
        let products = match options.products {
            Some(Products::Half) if !has_f16 => Products::Float,
            Some(products) => products,
            None if has_f16 => Products::Half,
            None if options.packed_dots => Products::Bytes,
            None => Products::Float,
        };
        let descriptor =
            wgpu::DeviceDescriptor { label: Some("llava-web"), required_features, required_limits: limits, ..Default::default() };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| {
            Error::unsupported_browser(format!("The GPU {} cannot be opened ({e}). Use device \"cpu\".", info.name))
        })?;
        let failure = Arc::new(Mutex::new(None));
        let seen = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            let failure = match error {
                wgpu::Error::OutOfMemory { source } => Failure::OutOfMemory(source.to_string()),
                wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                    Failure::Fault(description)
                }
            };
            // The first failure is the cause; those that follow are its consequences.
            seen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }));
        let seen = failure.clone();
        device.set_device_lost_callback(move |_, message| {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Failure::Lost(message));
        });
        let max_lanes = Variant::lanes_for(subgroup_min_size);
        Ok(Rc::new(Self {
            device,
            queue,
            max_binding: options.max_binding.min(max_buffer),
            max_buffer,
            name: info.name,
            is_software,
            max_lanes,
            has_f16,
            has_packed_dots: options.packed_dots,
            variant: Cell::new(Variant { lanes: options.lanes.unwrap_or(max_lanes), products }),
            unchecked: options.unchecked,
            notes: RefCell::default(),
            edit_source: options.edit_source,
            layouts: RefCell::default(),
            pipelines: RefCell::default(),
            n_pipelines: Cell::new(0),
            next_id: Cell::new(1),
            failure,
            in_use: Rc::default(),
            memory_limit: options.memory_limit.unwrap_or(u64::MAX),
            is_reserving: Cell::new(false),
            asked: RefCell::default(),
            bytes_before_refusal: Cell::new(0),
        }))
    }

    /// What the adapter calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The optional features that kernels use here.
    pub fn features(&self) -> Vec<&'static str> {
        let Variant { lanes, products } = self.variant.get();
        let products = match products {
            Products::Float => None,
            Products::Half => Some("shader-f16"),
            Products::Bytes => Some("packed_4x8_integer_dot_product"),
        };
        (lanes > 0).then_some("subgroups").into_iter().chain(products).collect()
    }

    /// The form of the kernels.
    pub fn variant(&self) -> Variant {
        self.variant.get()
    }

    /// All numbers of lanes that kernels can have on this adapter; the first needs nothing, the last is the best.
    pub fn lanes(&self) -> Vec<u32> {
        Variant::LANES.into_iter().filter(|lanes| *lanes <= self.max_lanes).collect()
    }

    /// All that products of many rows can be computed in on this adapter; the first needs nothing.
    pub fn products(&self) -> Vec<Products> {
        let all = [(Products::Float, true), (Products::Half, self.has_f16), (Products::Bytes, self.has_packed_dots)];
        all.into_iter().filter(|(_, has)| *has).map(|(products, _)| products).collect()
    }

    /// What the self-test found wrong and replaced, in sentences.
    pub fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// Goes back to a plainer form of the kernels, because of what `note` says.
    pub(super) fn replace(&self, variant: Variant, note: String) {
        self.variant.set(variant);
        self.pipelines.borrow_mut().retain(|kernel, _| !kernel.uses_subgroups());
        self.notes.borrow_mut().push(note);
    }

    /// Kernels compiled so far.
    pub(super) fn n_pipelines(&self) -> u64 {
        self.n_pipelines.get()
    }

    /// Whether it computes on the CPU.
    pub fn is_software(&self) -> bool {
        self.is_software
    }

    /// Gives everything back that is on it. Whoever uses it after that finds it lost.
    pub fn destroy(&self) {
        self.device.destroy();
    }

    /// Bytes of all buffers that are in use.
    pub fn bytes_in_use(&self) -> u64 {
        self.in_use.get()
    }

    /// From here to [`Self::reserved`] or a failure, a buffer that cannot be had is reported by those.
    pub(super) fn reserve(&self) {
        self.is_reserving.set(true);
        self.asked.borrow_mut().clear();
        self.bytes_before_refusal.set(0);
    }

    /// Bytes allocated since [`Self::reserve`], before the first refusal.
    pub(super) fn bytes_before_refusal(&self) -> u64 {
        self.bytes_before_refusal.get()
    }

    /// Waits until the buffers made since [`Self::reserve`] are there.
    pub(super) async fn confirm(&self) -> Result<()> {
        let asked = self.asked.take();
        for Asked { what, n_bytes, answer } in asked {
            match answer.await {
                None => self.bytes_before_refusal.set(self.bytes_before_refusal.get() + n_bytes),
                Some(_) => {
                    self.is_reserving.set(false);
                    return Err(no_room(&what, n_bytes, ""));
                }
            }
        }
        self.check()
    }

    /// [`Self::confirm`], with `spare` bytes more, which are given back at once.
    pub(super) async fn reserved(&self, spare: u64) -> Result<()> {
        let mut tried = Vec::new();
        let dropped = Dropped::default();
        let mut rest = spare;
        while rest > 0 {
            let piece = rest.min(SPARE_PIECE).min(self.max_buffer);
            tried.push(self.buffer(piece, wgpu::BufferUsages::STORAGE, &dropped, "activations")?);
            rest -= piece;
        }
        let confirmed = self.confirm().await;
        self.is_reserving.set(false);
        tried.iter().for_each(|buffer| buffer.raw.destroy());
        confirmed
    }

    /// What is behind an error. A device that is being lost refuses memory and commands before it says that it is lost, so it is asked for
    /// something that no device refuses.
    pub async fn cause(&self, error: Error) -> Error {
        if !matches!(error, Error::OutOfMemory(_) | Error::Internal(_)) {
            return error;
        }
        self.ping().await.err().unwrap_or(error)
    }

    /// Waits for an answer of the device.
    ///
    /// # Errors
    /// `device_lost` where there is none.
    pub async fn ping(&self) -> Result<()> {
        if self.is_alive().await {
            return Ok(());
        }
        if !self.is_lost() {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(Failure::Lost("It does not answer.".into()));
        }
        self.check()
    }

    /// Whether it still does what it is told.
    async fn is_alive(&self) -> bool {
        let probe = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("probe"),
            size: 16,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let answer = map(&probe, 16);
        // In a browser this does nothing: its event loop calls back. Natively it is also what makes a loss known.
        let polled = self.device.poll(wgpu::PollType::wait_indefinitely());
        let is_alive = polled.is_ok() && answer.await;
        probe.destroy();
        is_alive && !self.is_lost()
    }

    /// Whether it is known to have gone away.
    pub fn is_lost(&self) -> bool {
        matches!(&*self.failure.lock().unwrap_or_else(PoisonError::into_inner), Some(Failure::Lost(_)))
    }

    /// Fails where something has failed since the last call, which was not awaited then. A lost device stays lost.
    pub(super) fn check(&self) -> Result<()> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            None => Ok(()),
            Some(Failure::Lost(message)) => {
                Err(Error::device_lost(format!("The GPU went away: {message} Load the model again.")))
            }
            Some(Failure::OutOfMemory(message)) => {
                let error = Error::out_of_memory(format!(
                    "The GPU has not enough memory ({message}). Close other tabs, or choose a smaller model or context."
                ));
                *failure = None;
                Err(error)
            }
            Some(Failure::Fault(message)) => {
                let error = Error::internal(format!("The GPU refused a command: {message}. Please report this."));
                *failure = None;
                Err(error)
            }
        }
    }

    /// A buffer of zeros for `what`, bound as a whole.
    pub(super) fn buffer(&self, n_bytes: u64, usage: wgpu::BufferUsages, dropped: &Dropped, what: &str) -> Result<Buffer> {
        // A failure ends what it was to be reserved for.
        self.try_buffer(n_bytes, usage, dropped, what).inspect_err(|_| self.is_reserving.set(false))
    }

    fn try_buffer(&self, n_bytes: u64, usage: wgpu::BufferUsages, dropped: &Dropped, what: &str) -> Result<Buffer> {
        if n_bytes > self.max_buffer {
            return Err(no_room(what, n_bytes, &format!(", but a buffer can have {} on this GPU", self.max_buffer)));
        }
        self.check()?;
        let size = n_bytes.next_multiple_of(16).max(16);
        let (guarded, usage) = if self.unchecked { (GUARD_BYTES, usage | wgpu::BufferUsages::COPY_DST) } else { (0, usage) };
        let is_refused = self.in_use.get().saturating_add(n_bytes) > self.memory_limit;
        let is_reserving = self.is_reserving.get();
        if is_refused && !is_reserving {
            return Err(no_room(what, n_bytes, ""));
        }
        let scope = is_reserving.then(|| self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory));
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size: size + guarded,
            usage,
            mapped_at_creation: false,
        });
        if guarded > 0 {
            self.queue.write_buffer(&raw, size, &GUARD.repeat((guarded / 4) as usize));
        }
        if let Some(scope) = scope {
            let answer = scope.pop();
            let answer: Pin<Box<dyn Future<Output = Option<wgpu::Error>>>> = if is_refused {
                Box::pin(std::future::ready(Some(wgpu::Error::OutOfMemory { source: "a test's limit".into() })))
            } else {
                Box::pin(answer)
            };
            self.asked.borrow_mut().push(Asked { what: what.to_string(), n_bytes, answer });
        }
        if let Err(error) = self.check() {
            return Err(if matches!(error, Error::OutOfMemory(_)) { no_room(what, n_bytes, "") } else { error });
        }
        let id = self.next_id.replace(self.next_id.get() + 1);
        self.in_use.set(self.in_use.get() + n_bytes);
        Ok(Buffer { raw, id, dropped: dropped.clone(), n_bytes, in_use: self.in_use.clone() })
    }

    /// The kernel, compiled now where it has not been before.
    pub(super) fn pipeline(&self, kernel: Kernel) -> Rc<Pipeline> {
        if let Some(pipeline) = self.pipelines.borrow().get(&kernel) {
            return pipeline.clone();
        }
        let name = kernel.name();
        let lanes = self.variant.get().lanes;
        let mut source = kernel.source(lanes);
        if let Some(edit) = self.edit_source {
            source = edit(kernel, lanes, source);
        }
        self.n_pipelines.set(self.n_pipelines.get() + 1);
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(&name), source: wgpu::ShaderSource::Wgsl(source.into()) };
        let module = if self.unchecked {
            // SAFETY: only tests ask for it, of kernels whose indices they hold to be within their buffers, which have room behind them.
            unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        } else {
            self.device.create_shader_module(descriptor)
        };
        let layout = self.layout(kernel.bindings());
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&name),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let raw = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                // Every kernel writes what it reads there.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        let pipeline = Rc::new(Pipeline { raw, layout });
        self.pipelines.borrow_mut().insert(kernel, pipeline.clone());
        pipeline
    }

    fn layout(&self, bindings: Bindings) -> Rc<wgpu::BindGroupLayout> {
        let make = || {
            let entry = |binding: u32, ty: wgpu::BufferBindingType| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            };
            let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
            entries.extend((1..=bindings.n_read).map(|i| entry(i, wgpu::BufferBindingType::Storage { read_only: true })));
            entries.extend(
                (1..=bindings.n_write).map(|i| entry(bindings.n_read + i, wgpu::BufferBindingType::Storage { read_only: false })),
            );
            if bindings.has_step {
                entries.push(entry(bindings.n_read + bindings.n_write + 1, wgpu::BufferBindingType::Uniform));
            }
            let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            Rc::new(self.device.create_bind_group_layout(&descriptor))
        };
        self.layouts.borrow_mut().entry(bindings).or_insert_with(make).clone()
    }
}

/// The error of a buffer that cannot be had; `limit` says why, where that is known.
fn no_room(what: &str, n_bytes: u64, limit: &str) -> Error {
    Error::out_of_memory(format!(
        "There is not enough GPU memory for {what}: {n_bytes} bytes were needed{limit}. Close other tabs, or choose a smaller model or context."
    ))
}
