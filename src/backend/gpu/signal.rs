//! What the device calls back with, as a future.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Debug, Default)]
struct Slot {
    outcome: Option<bool>,
    waker: Option<Waker>,
}

/// Set by the device, once; resolves to what it was set to. Device callbacks must be `Send`, hence the lock.
#[derive(Debug, Clone, Default)]
pub(super) struct Signal(Arc<Mutex<Slot>>);

impl Signal {
    pub(super) fn set(&self, outcome: bool) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.outcome = Some(outcome);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    }
}

impl Future for Signal {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.outcome {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Maps the first bytes of a buffer for reading.
pub(super) fn map(buffer: &wgpu::Buffer, n_bytes: u64) -> Signal {
    let mapped = Signal::default();
    let set = mapped.clone();
    buffer.map_async(wgpu::MapMode::Read, 0..n_bytes, move |result| set.set(result.is_ok()));
    mapped
}
