//! A GPU for tests.

use std::rc::Rc;

use llava_web::backend::gpu::{Device, DeviceOptions};

/// Opens whatever Vulkan adapter there is; one that computes on the CPU will do.
pub fn device(options: DeviceOptions) -> Rc<Device> {
    pollster::block_on(Device::open(options)).unwrap_or_else(|error| {
        panic!("{error}\nThese tests need a Vulkan adapter. Without a GPU: apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1")
    })
}
