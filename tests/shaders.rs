//! Every shader, in every format and form, is sound WGSL with the bindings that the table says. Needs no GPU.

use llava_web::backend::gpu::kernels::{Bindings, Kernel, Variant};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Every kernel in every variant it has: its name and source.
fn all() -> impl Iterator<Item = (Kernel, Variant, String, String)> {
    let variants = |kernel: Kernel| Variant::ALL.into_iter().take(if kernel.has_variants() { Variant::ALL.len() } else { 1 });
    Kernel::all()
        .into_iter()
        .flat_map(move |kernel| variants(kernel).map(move |variant| (kernel, variant)))
        .map(|(kernel, variant)| (kernel, variant, format!("{} {variant:?}", kernel.name()), kernel.source(variant)))
}

fn parse(name: &str, source: &str, variant: Variant) -> naga::Module {
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    // What every adapter of WebGPU can do: packing halves into 32 bits counts as a capability with naga, which also serves less.
    let subgroups = if variant.lanes > 0 { Capabilities::SUBGROUP } else { Capabilities::empty() };
    Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16_IN_FLOAT32 | subgroups)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    module
}

#[test]
fn every_shader_is_valid_and_has_its_bindings() {
    for (kernel, variant, name, source) in all() {
        let module = parse(&name, &source, variant);
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
    for (_, variant, name, source) in all() {
        let module = parse(&name, &source, variant);
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
    for (_, _, name, source) in all() {
        assert!(source.starts_with("// "), "{name}: no header");
    }
}
