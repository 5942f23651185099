//! Commands on their way to the GPU: one encoder with one compute pass, the parameters of its dispatches, and the bind groups,
//! which are made once per set of buffers.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::device::{Buffer, Device, Dropped, PARAMS_BYTES};
use super::kernels::Kernel;
use crate::backend::Launches;
use crate::error::{Error, Result};

/// Dispatches in one submit at most; a token takes some hundreds.
const MAX_DISPATCHES: u64 = 1024;
/// Multiply-adds in one submit at most: a second or so of a slow adapter, below what a system takes for a hang.
const MAX_WORK: u64 = 1 << 36;
/// Buffers that a dispatch can take.
const MAX_BUFFERS: usize = 8;

#[derive(Debug)]
struct Open {
    // The pass goes before its encoder is finished.
    pass: wgpu::ComputePass<'static>,
    encoder: wgpu::CommandEncoder,
}

/// Records dispatches and submits them.
#[derive(Debug)]
pub(super) struct Recorder {
    device: Rc<Device>,
    open: Option<Open>,
    work: u64,
    /// The parameters of the dispatches recorded, `PARAMS_BYTES` each.
    params: Vec<u8>,
    arena: Buffer,
    groups: HashMap<[u64; MAX_BUFFERS + 1], wgpu::BindGroup>,
    staging: Option<(wgpu::Buffer, u64)>,
    dropped: Dropped,
    pub(super) launches: Launches,
}

impl Recorder {
    pub(super) fn new(device: Rc<Device>, dropped: Dropped) -> Result<Self> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let arena = device.buffer(MAX_DISPATCHES * PARAMS_BYTES, usage, &dropped, "the parameters of kernels")?;
        Ok(Self {
            device,
            open: None,
            work: 0,
            params: Vec::with_capacity((MAX_DISPATCHES * PARAMS_BYTES) as usize),
            arena,
            groups: HashMap::new(),
            staging: None,
            dropped,
            launches: Launches::default(),
        })
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
        if self.params.len() as u64 == MAX_DISPATCHES * PARAMS_BYTES || self.work > MAX_WORK {
            self.submit();
        }
        self.work += work;
        let offset = self.params.len();
        self.params.extend(params.iter().flat_map(|p| p.to_le_bytes()));
        self.params.resize(offset + PARAMS_BYTES as usize, 0);

        let pipeline = self.device.pipeline(kernel);
        let mut key = [0; MAX_BUFFERS + 1];
        key[0] = u64::from(bindings.n_read) << 32 | u64::from(bindings.n_write);
        for (key, buffer) in key[1..].iter_mut().zip(read.iter().chain(written)) {
            *key = buffer.id;
        }
        let group = self.groups.entry(key).or_insert_with(|| {
            self.launches.bind_groups += 1;
            let params =
                wgpu::BufferBinding { buffer: &self.arena.raw, offset: 0, size: std::num::NonZeroU64::new(PARAMS_BYTES) };
            let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(params) }];
            entries.extend(
                read.iter()
                    .chain(written)
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
        open.pass.set_bind_group(0, &*group, &[offset as u32]);
        open.pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
        self.launches.dispatches += 1;
    }

    /// Ends the pass; the parameters are on their way before the commands that read them.
    fn end_pass(&mut self) -> Option<wgpu::CommandEncoder> {
        let Open { pass, encoder } = self.open.take()?;
        drop(pass);
        self.device.queue.write_buffer(&self.arena.raw, 0, &self.params);
        self.params.clear();
        self.work = 0;
        Some(encoder)
    }

    fn submit_encoder(&mut self, encoder: wgpu::CommandEncoder) {
        self.device.queue.submit([encoder.finish()]);
        self.launches.submits += 1;
        // Whatever was dropped so far is in no command that is still to be submitted.
        for (id, buffer) in self.dropped.borrow_mut().drain(..) {
            self.groups.retain(|key, _| !key[1..].contains(&id));
            buffer.destroy();
        }
    }

    /// Hands over what is recorded.
    pub(super) fn submit(&mut self) {
        if let Some(encoder) = self.end_pass() {
            self.submit_encoder(encoder);
        }
    }

    /// Hands over what is recorded, then gives `n_bytes` of `buffer` from `offset` on to `take`.
    pub(super) async fn read(&mut self, buffer: &Buffer, offset: u64, n_bytes: u64, take: impl FnOnce(&[u8])) -> Result<()> {
        let device = self.device.clone();
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
                (device.device.create_buffer(&descriptor), size)
            }
        };
        let mut encoder =
            self.end_pass().unwrap_or_else(|| device.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()));
        encoder.copy_buffer_to_buffer(&buffer.raw, offset, &staging, 0, Some(n_bytes));
        self.submit_encoder(encoder);
        let mapping = Mapping::default();
        let slot = mapping.0.clone();
        staging.map_async(wgpu::MapMode::Read, 0..n_bytes, move |result| {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            slot.is_mapped = Some(result.is_ok());
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        });
        // In a browser this does nothing: its event loop calls back.
        let polled = device.device.poll(wgpu::PollType::wait_indefinitely());
        let is_mapped = polled.is_ok() && mapping.await;
        device.check()?;
        if !is_mapped {
            return Err(Error::device_lost("The GPU did not answer. Load the model again."));
        }
        {
            let view = staging
                .get_mapped_range(0..n_bytes)
                .map_err(|e| Error::internal(format!("The GPU's answer cannot be read ({e}). Please report this.")))?;
            take(&view);
        }
        staging.unmap();
        self.staging = Some((staging, size));
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Slot {
    is_mapped: Option<bool>,
    waker: Option<Waker>,
}

/// Resolves to whether the buffer was mapped.
#[derive(Debug, Default)]
struct Mapping(Arc<Mutex<Slot>>);

impl Future for Mapping {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.is_mapped {
            Some(is_mapped) => Poll::Ready(is_mapped),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
