//! Commands on their way to the GPU: one encoder with one compute pass, and what its dispatches refer to. Parameters and bind groups are
//! made once for each dispatch there ever is and found again; what changes from token to token (the position, a random number) is in one
//! small buffer of its own, so that a token's list of commands is always the same.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::device::{Buffer, Device, Dropped};
use super::kernels::Kernel;
use super::signal::{Signal, map};
use crate::backend::{Launches, choice};
use crate::error::{Error, Result};

/// Bytes of parameters a dispatch can have: the alignment that bindings need.
const PARAMS_BYTES: u64 = 256;
/// Different sets of parameters that are kept; a model has some dozens, and some more for each length of a prompt's end.
const MAX_PARAMS: u64 = 1024;
/// Bind groups that are kept.
const MAX_GROUPS: usize = 1 << 14;
/// Dispatches in one submit at most; a token takes some hundreds.
pub const MAX_DISPATCHES: u64 = 2048;
/// Multiply-adds in one submit at most: a second or so of a slow adapter, below what a system takes for a hang.
const MAX_WORK: u64 = 1 << 36;
/// Multiply-adds that are worth a submit of their own: a tenth of a second of a slow adapter.
const SETTLE_WORK: u64 = 1 << 35;
/// Buffers that a dispatch can take.
const MAX_BUFFERS: usize = 8;
/// Bytes of the step, see `step.wgsl`.
const STEP_BYTES: u64 = 16;

#[derive(Debug)]
struct Open {
    // The pass goes before its encoder is finished.
    pass: wgpu::ComputePass<'static>,
    encoder: wgpu::CommandEncoder,
}

/// What changes from token to token; `step.wgsl` has the same.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Step {
    position: u32,
    unit: u32,
}

/// Records dispatches and submits them.
#[derive(Debug)]
pub(super) struct Recorder {
    device: Rc<Device>,
    open: Option<Open>,
    /// Of what is recorded.
    work: u64,
    n_dispatches: u64,
    /// Where each set of parameters is, in `PARAMS_BYTES`.
    params: HashMap<Vec<u32>, u64>,
    arena: Buffer,
    step: Step,
    /// What the device's step is, or will be when what is submitted has run.
    step_there: Option<Step>,
    /// Whether something recorded reads the position.
    uses_position: bool,
    /// Whether something recorded reads ids that the host gave.
    uses_ids: bool,
    step_buffer: Buffer,
    groups: HashMap<[u64; MAX_BUFFERS + 1], wgpu::BindGroup>,
    staging: Option<(wgpu::Buffer, u64)>,
    /// Buffers of one word that wait to be mapped.
    words: Rc<RefCell<Vec<wgpu::Buffer>>>,
    /// The work handed over last, until it is done.
    under_way: Option<Awaited>,
    dropped: Dropped,
    /// Something that went wrong where it could not be said.
    failure: Option<Error>,
    pub(super) launches: Launches,
}

impl Recorder {
    pub(super) fn new(device: Rc<Device>, dropped: Dropped) -> Result<Self> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let arena = device.buffer(MAX_PARAMS * PARAMS_BYTES, usage, &dropped, "the parameters of kernels")?;
        let step_buffer = device.buffer(STEP_BYTES, usage, &dropped, "the position")?;
        Ok(Self {
            device,
            open: None,
            work: 0,
            n_dispatches: 0,
            params: HashMap::new(),
            arena,
            step: Step::default(),
            step_there: None,
            uses_position: false,
            uses_ids: false,
            step_buffer,
            groups: HashMap::new(),
            staging: None,
            words: Rc::default(),
            under_way: None,
            dropped,
            failure: None,
            launches: Launches::default(),
        })
    }

    /// Keeps an error until somebody waits for what is recorded.
    pub(super) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    fn check(&mut self) -> Result<()> {
        // A lost device is the cause of whatever else went wrong.
        self.device.check()?;
        self.failure.take().map_or(Ok(()), Err)
    }

    /// What is recorded from here on is about rows from this position on.
    pub(super) fn at(&mut self, position: usize) {
        let position = position as u32;
        if self.uses_position && self.step.position != position {
            self.submit();
        }
        self.step.position = position;
    }

    /// The host is about to write ids over those it gave before.
    pub(super) fn new_ids(&mut self) {
        if self.uses_ids {
            self.submit();
        }
    }

    /// What the next token is drawn by.
    pub(super) fn draw_by(&mut self, unit: f64) {
        self.step.unit = choice::fraction(unit);
    }

    /// Where these parameters are in the arena, in bytes.
    fn params_at(&mut self, params: &[u32]) -> u64 {
        if let Some(at) = self.params.get(params) {
            return at * PARAMS_BYTES;
        }
        if self.params.len() as u64 == MAX_PARAMS {
            // What is recorded still reads them.
            self.submit();
            self.params.clear();
            self.groups.clear();
        }
        let at = self.params.len() as u64;
        let mut bytes: Vec<u8> = params.iter().flat_map(|p| p.to_le_bytes()).collect();
        bytes.resize(PARAMS_BYTES as usize, 0);
        // write_buffer runs before the commands that are recorded and not yet submitted; none of them reads this slot.
        self.device.queue.write_buffer(&self.arena.raw, at * PARAMS_BYTES, &bytes);
        self.params.insert(params.to_vec(), at);
        at * PARAMS_BYTES
    }

    /// Records a kernel: `read` and `written` are its buffers in the order of their bindings, `params` its parameters word by word,
    /// `work` the multiply-adds it takes.
    pub(super) fn dispatch(
        &mut self,
        kernel: Kernel,
        read: &[&Buffer],
        written: &[&Buffer],
        params: &[u32],
        grid: [u32; 3],
        work: u64,
    ) {
        if grid.contains(&0) {
            return;
        }
        let bindings = kernel.bindings();
        assert!(read.len() == bindings.n_read as usize && written.len() == bindings.n_write as usize, "{kernel:?}: its buffers");
        assert!(params.len() * 4 <= PARAMS_BYTES as usize, "{kernel:?}: too many parameters");
        assert!(grid.iter().all(|n| *n <= 65535), "{kernel:?}: a grid of {grid:?} is beyond WebGPU's limit");
        if self.n_dispatches == MAX_DISPATCHES || self.work > MAX_WORK {
            self.submit();
        }
        if self.groups.len() >= MAX_GROUPS {
            self.groups.clear();
        }
        let params_at = self.params_at(params);
        // From here on it is in the list of commands: what was handed over above read the position and the ids of its own.
        self.uses_position |= bindings.has_step;
        self.uses_ids |= matches!(kernel, Kernel::Embed(_) | Kernel::GatherRows);
        self.work += work;
        self.n_dispatches += 1;
        let pipeline = self.device.pipeline(kernel);
        let mut key = [0; MAX_BUFFERS + 1];
        key[0] =
            params_at << 16 | u64::from(bindings.n_read) << 8 | u64::from(bindings.n_write) << 1 | u64::from(bindings.has_step);
        for (key, buffer) in key[1..].iter_mut().zip(read.iter().chain(written)) {
            *key = buffer.id;
        }
        let group = self.groups.entry(key).or_insert_with(|| {
            self.launches.bind_groups += 1;
            let params =
                wgpu::BufferBinding { buffer: &self.arena.raw, offset: params_at, size: std::num::NonZeroU64::new(PARAMS_BYTES) };
            let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(params) }];
            let step = bindings.has_step.then_some(&self.step_buffer);
            let buffers = read.iter().chain(written).copied().chain(step);
            entries.extend(
                buffers
                    .enumerate()
                    .map(|(i, buffer)| wgpu::BindGroupEntry { binding: i as u32 + 1, resource: buffer.raw.as_entire_binding() }),
            );
            let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries };
            self.device.device.create_bind_group(&descriptor)
        });
        let open = self.open.get_or_insert_with(|| {
            let mut encoder = self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime();
            Open { pass, encoder }
        });
        open.pass.set_pipeline(&pipeline.raw);
        open.pass.set_bind_group(0, &*group, &[]);
        open.pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
        self.launches.dispatches += 1;
    }

    /// Ends the pass; the step is on its way before the commands that read it.
    fn end_pass(&mut self) -> Option<wgpu::CommandEncoder> {
        let Open { pass, encoder } = self.open.take()?;
        drop(pass);
        if self.step_there != Some(self.step) {
            let mut bytes = [0; STEP_BYTES as usize];
            bytes[..4].copy_from_slice(&self.step.position.to_le_bytes());
            bytes[4..8].copy_from_slice(&self.step.unit.to_le_bytes());
            self.device.queue.write_buffer(&self.step_buffer.raw, 0, &bytes);
            self.step_there = Some(self.step);
        }
        self.uses_position = false;
        self.uses_ids = false;
        self.work = 0;
        self.n_dispatches = 0;
        Some(encoder)
    }

    fn submit_encoder(&mut self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        let index = self.device.queue.submit([encoder.finish()]);
        self.launches.submits += 1;
        // Whatever was dropped so far is in no command that is still to be submitted.
        for (id, buffer) in self.dropped.borrow_mut().drain(..) {
            self.groups.retain(|key, _| !key[1..].contains(&id));
            buffer.destroy();
        }
        index
    }

    /// Hands over what is recorded.
    pub(super) fn submit(&mut self) -> Option<wgpu::SubmissionIndex> {
        let encoder = self.end_pass()?;
        Some(self.submit_encoder(encoder))
    }

    /// Where much is recorded: hands it over, and waits until what was handed over before that is done; with `all` for everything.
    pub(super) async fn settle(&mut self, all: bool) -> Result<()> {
        if self.work < SETTLE_WORK && !all {
            return Ok(());
        }
        let index = self.submit();
        let signal = Signal::default();
        let done = signal.clone();
        self.device.queue.on_submitted_work_done(move || done.set(true));
        let last = Awaited { signal, index };
        let awaited = if all { Some(last) } else { self.under_way.replace(last) };
        if let Some(awaited) = awaited {
            self.wait(&awaited).await;
        }
        self.check()
    }

    /// Waits for the device to set a signal that follows a submission.
    async fn wait(&self, awaited: &Awaited) -> bool {
        // In a browser its event loop calls back.
        if cfg!(not(target_arch = "wasm32")) {
            let poll = wgpu::PollType::Wait { submission_index: awaited.index.clone(), timeout: None };
            if self.device.device.poll(poll).is_err() {
                return false;
            }
        }
        awaited.signal.clone().await
    }

    /// Copies whole buffers one behind the other into `to`: pairs of a buffer and its bytes.
    pub(super) fn copy(&mut self, parts: &[(&Buffer, u64)], to: &Buffer) {
        let mut encoder = self.encoder();
        let mut at = 0;
        for (part, n_bytes) in parts {
            encoder.copy_buffer_to_buffer(&part.raw, 0, &to.raw, at, Some(*n_bytes));
            at += n_bytes;
        }
        self.submit_encoder(encoder);
    }

    /// Hands over what is recorded and has a word of `buffer` copied to the host behind it.
    pub(super) fn fetch(&mut self, buffer: &Buffer) -> PendingToken {
        let free = self.words.borrow_mut().pop();
        let staging = free.unwrap_or_else(|| {
            self.launches.buffers += 1;
            self.device.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("a word read back"),
                size: 4,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(&buffer.raw, 0, &staging, 0, Some(4));
        let index = Some(self.submit_encoder(encoder));
        let mapped = Awaited { signal: map(&staging, 4), index };
        PendingToken { staging: Some(staging), mapped, pool: self.words.clone() }
    }

    /// The word, once it is here.
    pub(super) async fn word(&mut self, mut word: PendingToken) -> Result<u32> {
        let is_mapped = self.wait(&word.mapped).await;
        self.check()?;
        let Some(staging) = word.staging.take().filter(|_| is_mapped) else {
            return Err(Error::device_lost("The GPU did not answer. Load the model again."));
        };
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&view(&staging, 4)?);
        staging.unmap();
        self.words.borrow_mut().push(staging);
        Ok(u32::from_le_bytes(bytes))
    }

    fn encoder(&mut self) -> wgpu::CommandEncoder {
        match self.end_pass() {
            Some(encoder) => encoder,
            None => self.device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()),
        }
    }

    /// Hands over what is recorded, then gives parts of buffers, one behind the other, to `take`: of each the first byte and how many.
    pub(super) async fn read(&mut self, parts: &[(&Buffer, u64, u64)], take: impl FnOnce(&[u8])) -> Result<()> {
        let n_bytes = parts.iter().map(|(_, _, n_bytes)| n_bytes).sum();
        // Taken out while it is mapped: a caller that gives up waiting must not leave a mapped buffer behind.
        let (staging, size) = match self.staging.take() {
            Some((staging, size)) if size >= n_bytes => (staging, size),
            _ => {
                let size = n_bytes.next_power_of_two().max(4096);
                let descriptor = wgpu::BufferDescriptor {
                    label: Some("read-back"),
                    size,
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                };
                self.launches.buffers += 1;
                (self.device.device.create_buffer(&descriptor), size)
            }
        };
        let mut encoder = self.encoder();
        let mut at = 0;
        for (buffer, offset, n_bytes) in parts {
            encoder.copy_buffer_to_buffer(&buffer.raw, *offset, &staging, at, Some(*n_bytes));
            at += n_bytes;
        }
        let index = Some(self.submit_encoder(encoder));
        let mapped = Awaited { signal: map(&staging, n_bytes), index };
        let is_mapped = self.wait(&mapped).await;
        self.check()?;
        if !is_mapped {
            return Err(Error::device_lost("The GPU did not answer. Load the model again."));
        }
        take(&view(&staging, n_bytes)?);
        staging.unmap();
        self.staging = Some((staging, size));
        Ok(())
    }
}

fn view(buffer: &wgpu::Buffer, n_bytes: u64) -> Result<wgpu::BufferView> {
    buffer
        .get_mapped_range(0..n_bytes)
        .map_err(|e| Error::internal(format!("The GPU's answer cannot be read ({e}). Please report this.")))
}

/// The id of a chosen token on its way to the host.
#[derive(Debug)]
pub struct PendingToken {
    staging: Option<wgpu::Buffer>,
    mapped: Awaited,
    pool: Rc<RefCell<Vec<wgpu::Buffer>>>,
}

impl Drop for PendingToken {
    fn drop(&mut self) {
        if let Some(staging) = self.staging.take() {
            // Ends the mapping, or the wait for it.
            staging.unmap();
            self.pool.borrow_mut().push(staging);
        }
    }
}

/// A signal, and the submission it comes after.
#[derive(Debug)]
struct Awaited {
    signal: Signal,
    index: Option<wgpu::SubmissionIndex>,
}
