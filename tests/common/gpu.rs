//! A GPU for tests.

#![allow(dead_code, reason = "not every test binary opens a device itself")]

use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use llava_web::backend::gpu::kernels::Products;
use llava_web::backend::gpu::{Device, DeviceOptions, Gpu};

/// Opens whatever Vulkan adapter there is; one that computes on the CPU will do. A test that calls it asks [`is_missing`] first.
pub fn device(options: DeviceOptions) -> Rc<Device> {
    pollster::block_on(Device::open(options)).unwrap_or_else(|error| panic!("{error}"))
}

/// What makes backends that compute products of many rows in 32-bit floats, all on one device, and with what was compiled for it.
pub fn float_backends() -> impl Fn() -> Gpu {
    let device = device(DeviceOptions { products: Some(Products::Float), ..DeviceOptions::default() });
    move || Gpu::new(device.clone()).expect("a backend")
}

/// Whether there is no Vulkan adapter, so that a test of it ends here; it is said, with how many such tests that makes in this program. With
/// `LLAVA_WEB_GPU=required` in the environment, as where all checks are to run, a missing adapter fails the test.
pub fn is_missing() -> bool {
    static ERROR: OnceLock<Option<String>> = OnceLock::new();
    static SKIPPED: AtomicU32 = AtomicU32::new(0);
    let error = ERROR.get_or_init(|| pollster::block_on(Device::open(DeviceOptions::default())).err().map(|e| e.to_string()));
    let Some(error) = error else { return false };
    let n = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let how = "Without a GPU: apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1";
    let is_required = std::env::var_os("LLAVA_WEB_GPU").is_some_and(|value| value == "required");
    assert!(!is_required, "{error}\n{how}");
    eprintln!("skipped, the {n}. test of this program for want of a Vulkan adapter: {error}\n{how}");
    true
}
