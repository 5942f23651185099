//! Every shader, in every format and form, is sound WGSL with the bindings that the table says. Needs no GPU.

use llava_web::backend::gpu::kernels::{Bindings, Kernel};
use naga::valid::{Capabilities, ValidationFlags, Validator};

fn parse(name: &str, source: &str) -> naga::Module {
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    // What every adapter of WebGPU can do: packing halves into 32 bits counts as a capability with naga, which also serves less.
    Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16_IN_FLOAT32)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    module
}

#[test]
fn every_shader_is_valid_and_has_its_bindings() {
    for kernel in Kernel::all() {
        let (name, source) = (kernel.name(), kernel.source());
        let module = parse(&name, &source);
        let mut read = Vec::new();
        let mut written = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = &variable.binding else { continue };
            match variable.space {
                naga::AddressSpace::Uniform => assert_eq!(binding.binding, 0, "{name}: parameters are binding 0"),
                naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                    written.push(binding.binding);
                }
                naga::AddressSpace::Storage { .. } => read.push(binding.binding),
                other => panic!("{name}: a binding in {other:?}"),
            }
        }
        read.sort_unstable();
        written.sort_unstable();
        let Bindings { n_read, n_write } = kernel.bindings();
        assert_eq!(read, (1..=n_read).collect::<Vec<_>>(), "{name}: buffers that are read come first");
        assert_eq!(written, (n_read + 1..=n_read + n_write).collect::<Vec<_>>(), "{name}: buffers that are written come last");
        assert!(n_read + n_write <= 8, "{name}: WebGPU promises eight storage buffers");
    }
}

#[test]
fn every_shader_stays_within_the_limits_that_every_adapter_has() {
    for kernel in Kernel::all() {
        let name = kernel.name();
        let module = parse(&name, &kernel.source());
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("sizes");
        let shared: u32 = module
            .global_variables
            .iter()
            .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
            .map(|(_, v)| layouter[v.ty].size)
            .sum();
        assert!(shared <= 16384, "{name}: {shared} bytes of workgroup memory");
        let [entry] = &module.entry_points[..] else { panic!("{name}: one entry point") };
        assert_eq!(entry.name, "main");
        assert!(entry.workgroup_size.iter().product::<u32>() <= 256, "{name}: {:?}", entry.workgroup_size);
    }
}

#[test]
fn every_shader_begins_with_what_it_computes() {
    for kernel in Kernel::all() {
        assert!(kernel.source().starts_with("// "), "{}: no header", kernel.name());
    }
}
