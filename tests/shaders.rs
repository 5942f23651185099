//! Every shader, in every format and form, is sound WGSL with the bindings that the table says. Needs no GPU.

#![allow(clippy::pedantic, reason = "casts: the numbers of tests are chosen")]
#![cfg(feature = "gpu")]

use llava_web::backend::gpu::kernels::{Bindings, Kernel, Variant};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Every kernel in every form it has: the kernel, its name and source.
fn all() -> impl Iterator<Item = (Kernel, String, String)> {
    let lanes = |kernel: Kernel| Variant::LANES.into_iter().take(if kernel.uses_subgroups() { Variant::LANES.len() } else { 1 });
    Kernel::all()
        .into_iter()
        .flat_map(move |kernel| lanes(kernel).map(move |lanes| (kernel, lanes)))
        .map(|(kernel, lanes)| (kernel, format!("{} {lanes}", kernel.name()), kernel.source(lanes)))
}

fn parse(kernel: Kernel, name: &str, source: &str) -> naga::Module {
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    // What every adapter of WebGPU can do: packing halves into 32 bits counts as a capability with naga, which also serves less.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SUBGROUP, kernel.uses_subgroups());
    capabilities.set(Capabilities::SHADER_FLOAT16, kernel.needs_f16());
    Validator::new(ValidationFlags::all(), capabilities)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    module
}

#[test]
fn every_shader_is_valid_and_has_its_bindings() {
    for (kernel, name, source) in all() {
        let module = parse(kernel, &name, &source);
        let mut read = Vec::new();
        let mut written = Vec::new();
        let mut uniform = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = &variable.binding else { continue };
            match variable.space {
                naga::AddressSpace::Uniform => uniform.push(binding.binding),
                naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                    written.push(binding.binding);
                }
                naga::AddressSpace::Storage { .. } => read.push(binding.binding),
                other => panic!("{name}: a binding in {other:?}"),
            }
        }
        read.sort_unstable();
        written.sort_unstable();
        uniform.sort_unstable();
        let Bindings { n_read, n_write, has_step } = kernel.bindings();
        let step = has_step.then_some(n_read + n_write + 1);
        assert_eq!(uniform, [0].into_iter().chain(step).collect::<Vec<_>>(), "{name}: parameters are first, the step is last");
        assert_eq!(read, (1..=n_read).collect::<Vec<_>>(), "{name}: buffers that are read come first");
        assert_eq!(written, (n_read + 1..=n_read + n_write).collect::<Vec<_>>(), "{name}: buffers that are written come last");
        assert!(n_read + n_write <= 8, "{name}: WebGPU promises eight storage buffers");
    }
}

#[test]
fn every_shader_stays_within_the_limits_that_every_adapter_has() {
    for (kernel, name, source) in all() {
        let module = parse(kernel, &name, &source);
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
    for (_, name, source) in all() {
        assert!(source.trim_start_matches("enable f16;\n").starts_with("// "), "{name}: no header");
    }
}
