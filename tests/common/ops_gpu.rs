//! What the WebGPU backend has to show beside the common table of ops: all forms of its kernels, matrices in pieces, and the self-test. Natively and in browsers alike: no files, and nothing that blocks.

use std::rc::Rc;

use llava_web::backend::gpu::kernels::{Kernel, Products, Variant};
use llava_web::backend::gpu::{Device, DeviceOptions, Gpu, MAX_DISPATCHES};
use llava_web::backend::{Backend, MatrixSpec, RopeStyle};
use llava_web::quant::Format;

use crate::decode_ops;
use crate::ops::{self, Test};

/// Opens the first adapter there is; one that computes on the CPU will do.
pub async fn open(options: DeviceOptions) -> Rc<Device> {
    Device::open(options).await.unwrap_or_else(|error| {
        panic!("{error}\nThese tests need a Vulkan adapter. Without a GPU: apt-get install -y --no-install-recommends mesa-vulkan-drivers libvulkan1")
    })
}

fn backend(device: &Rc<Device>) -> Gpu {
    Gpu::new(device.clone()).expect("a backend")
}

/// What products of many rows are computed in, and the bounds of their errors: 32-bit sums; operands rounded to 11 bits; activations of
/// 8 bits.
pub const PRODUCTS: [(Products, f64, f64); 3] =
    [(Products::Float, 1e-11, 1e-5), (Products::Half, 1e-6, 4e-3), (Products::Bytes, 4e-4, 0.05)];

/// Every test that a browser can run: the common table once for each number of lanes that kernels can have, products of many rows in all
/// that they can be computed in. `options` are what the page knows of the adapter.
#[allow(dead_code, reason = "natively each is a test of its own")]
pub async fn tests(options: DeviceOptions) -> Vec<Test<'static>> {
    let device = open(options).await;
    let mut all = Vec::new();
    let make = async |options: DeviceOptions| -> &'static _ {
        let device = open(options).await;
        // The tests borrow it, and live as long as whoever runs them.
        &*Box::leak(Box::new(move || backend(&device)))
    };
    let named = |what: String| move |test: Test<'static>| Test { name: format!("{}, {what}", test.name), ..test };
    for lanes in device.lanes() {
        let make = make(DeviceOptions { lanes: Some(lanes), ..options }).await;
        let possible = ops::tests(make).into_iter().filter(|test| test.name != "out_of_memory_matrices");
        // Fused kernels are the slowest to compile: in their best form only, and in all of them natively.
        let fused = if lanes == device.variant().lanes { decode_ops::tests(make) } else { Vec::new() };
        all.extend(possible.chain(fused).map(named(format!("{lanes} lanes"))));
    }
    for (products, nmse, max) in PRODUCTS.into_iter().filter(|(products, ..)| device.products().contains(products)) {
        let make = make(DeviceOptions { products: Some(products), ..options }).await;
        all.extend(decode_ops::products(make, nmse, max).into_iter().map(named(format!("{products:?}"))));
    }
    let crowd = device.clone();
    all.push(Test::new("crowded", async move { crowded(&crowd).await }));
    let whole = device.clone();
    all.push(Test::new("matrices_in_pieces", async move { matrices_in_pieces(options, &whole).await }));
    all.push(Test::new("self_test", self_test(options)));
    if device.lanes().len() > 1 {
        all.push(Test::new("self_test replaces subgroups", wrong_lanes(options)));
    }
    for wrong in WRONG_PRODUCTS.iter().filter(|wrong| device.products().contains(&wrong.0)) {
        all.push(Test::new(format!("self_test replaces {:?}", wrong.0), wrong_products(options, *wrong)));
    }
    // Each compiles every kernel before it; one shows that a browser's compiler is asked at all.
    all.push(Test::new("self_test rules the adapter out", wrong_kernel(options, WRONG_KERNELS[0])));
    all.push(Test::new("weight_bytes", async move { ops::weight_bytes(|| backend(&device)) }));
    all
}

/// Positions and ids stay with the commands recorded for them, wherever a list of commands is full and handed over in between.
pub async fn crowded(device: &Rc<Device>) {
    let mut backend = backend(device);
    let mut random = ops::Random::new(5);
    let (n_out, n) = (64, 64);
    let spec = MatrixSpec { name: "table".into(), format: Format::F32, n_in: n, n_out };
    let mut builder = backend.matrix_begin(&spec).expect("matrix_begin");
    backend.matrix_rows(&mut builder, &random.matrix(Format::F32, n, n_out)).expect("matrix_rows");
    let table = backend.matrix_end(builder).expect("matrix_end");
    let rope = decode_ops::filled(&mut backend, n, &random.floats(8 * n));
    let (x, mut y) = (decode_ops::filled(&mut backend, n, &random.floats(n)), backend.tensor(1, n).expect("tensor"));
    let mut results = Vec::new();
    // As many commands before as leave room for none, one, two of those that count, and for all.
    for n_before in [0, MAX_DISPATCHES - 2, MAX_DISPATCHES - 1, MAX_DISPATCHES] {
        let mut turned: Vec<_> = (0..3).map(|_| decode_ops::filled(&mut backend, n, &[1.0; 64])).collect();
        let mut found = backend.tensor(3, n).expect("tensor");
        backend.settle(true).await.expect("settle");
        (0..n_before).for_each(|_| backend.copy_rows(&x, 0, &mut y, 0, 1));
        for (i, x) in turned.iter_mut().enumerate() {
            backend.rope(x, &rope, RopeStyle::Halves, 1, n, 2 * i + 1, 1);
        }
        let mut of = Vec::new();
        for x in &turned {
            of.extend(ops::read(&mut backend, x, 0, 1).await);
        }
        backend.settle(true).await.expect("settle");
        (0..n_before).for_each(|_| backend.copy_rows(&x, 0, &mut y, 0, 1));
        (0..3).for_each(|i| backend.embed(&table, &[7 * i as u32 + 3], &mut found, i));
        of.extend(ops::read(&mut backend, &found, 0, 3).await);
        results.push(of);
    }
    for crowded in &results[1..] {
        assert_eq!(*crowded, results[0]);
    }
}

/// Matrices beyond the binding limit are cut by rows; products are the same to the bit.
pub async fn matrices_in_pieces(options: DeviceOptions, whole: &Rc<Device>) {
    // Eight rows of 96 floats of 32 bits, or some more of the other formats.
    let device = open(DeviceOptions { max_binding: 3 << 10, ..options }).await;
    for format in [Format::F32, Format::F16, Format::Q4_0, Format::Q5_1, Format::Q8_0] {
        let mut in_pieces = backend(&device);
        ops::upload_in_groups(&mut in_pieces, format).await;
        let mut random = ops::Random::new(1);
        let (weights, x) = (random.matrix(format, 96, 61), random.floats(96 * 6));
        let cut = ops::product_of(&mut in_pieces, format, 96, &weights, &x).await;
        assert_eq!(cut, ops::product_of(&mut backend(whole), format, 96, &weights, &x).await, "{}", format.name());
    }
}

/// A right GPU passes its self-test as it is, which leaves nothing behind.
pub async fn self_test(options: DeviceOptions) {
    let device = open(options).await;
    let (features, mut backend) = (device.features().to_vec(), backend(&device));
    backend.self_test().await.expect("passes");
    assert_eq!(device.notes(), [""; 0]);
    assert_eq!(device.features(), features);
    assert_eq!(backend.weight_bytes(), 0, "the self-test leaves nothing behind");
}

/// Subgroups that compute wrongly are not used any more.
pub async fn wrong_lanes(options: DeviceOptions) {
    let edit_source = |_, _, source: String| source.replace("subgroupShuffleXor(sum, 1u)", "vec3<f32>(0.0)");
    let device = open(DeviceOptions { edit_source: Some(edit_source), ..options }).await;
    let before = device.variant();
    assert!(before.lanes > 0, "this adapter has no subgroups to go wrong");
    let mut backend = backend(&device);
    backend.self_test().await.expect("the plain kernels are right");
    assert_eq!(device.variant(), Variant { lanes: 0, ..before });
    assert!(device.notes()[0].contains("mat_vec"), "{:?}", device.notes());
    assert!(!device.features().contains(&"subgroups"));
    ops::linear_epilogues(&mut backend).await;
}

/// A kernel, and what is replaced in it by what that makes it wrong.
type Edit = (&'static str, &'static str, &'static str);

/// Replaces in the named kernel alone. A function pointer captures nothing, so there is one for each edit.
macro_rules! edit {
    ($edit:expr) => {
        |kernel: Kernel, _, source: String| {
            let (name, from, to): Edit = $edit;
            if kernel.name() != name {
                return source;
            }
            assert!(source.contains(from), "{name} has no '{from}'");
            source.replace(from, to)
        }
    };
}

type EditSource = fn(Kernel, u32, String) -> String;

/// Kernels of products of many rows, made wrong.
pub const WRONG_PRODUCTS: [(Products, EditSource); 2] = [
    (Products::Half, edit!(("mat_mul_64 Q4_K f16", "return vec4<f16>(clamp(x", "return vec4<f16>(clamp(0.9 * x"))),
    (Products::Bytes, edit!(("quantize_rows", "127.0 / all", "100.0 / all"))),
];

/// Products of many rows that are wrong are computed in floats from then on.
pub async fn wrong_products(options: DeviceOptions, (products, edit_source): (Products, EditSource)) {
    let device = open(DeviceOptions { edit_source: Some(edit_source), products: Some(products), ..options }).await;
    let before = device.variant();
    assert_eq!(before.products, products, "this adapter does not have them");
    backend(&device).self_test().await.expect("floats are right");
    assert_eq!(device.variant(), Variant { products: Products::Float, ..before });
    assert!(device.notes()[0].contains("mat_mul"), "{:?}", device.notes());
}

/// Plain kernels, made wrong, and what an error about them must contain.
pub const WRONG_KERNELS: [(&str, EditSource); 6] = [
    ("rms", edit!(("rms_norm", "1.0 / sqrt", "2.0 / sqrt"))),
    ("attention", edit!(("attention f16", "sum *= fade;", ""))),
    ("attention", edit!(("attention_tile f16 1", "+= weight;", "+= 0.5 * weight;"))),
    ("attention", edit!(("attention_merge", "sum / total", "sum"))),
    ("choose", edit!(("choose", "key > least", "key > 0u"))),
    ("mat", edit!(("mat_mul Q6_K", "-32.0", "-31.0"))),
];

/// A plain kernel that computes wrongly rules the adapter out.
pub async fn wrong_kernel(options: DeviceOptions, (named, edit_source): (&'static str, EditSource)) {
    let device = open(DeviceOptions { edit_source: Some(edit_source), ..options }).await;
    let error = backend(&device).self_test().await.expect_err(named);
    assert_eq!(error.code(), "unsupported_browser");
    assert!(error.message().contains(named), "{error}");
}
