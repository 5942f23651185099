//! What the WebGPU backend has to show beside the common table of ops: all forms of its kernels, matrices in pieces, and the self-test. Natively and in browsers alike: no files, and nothing that blocks.

use std::rc::Rc;

use llava_web::backend::choice::Choice;
use llava_web::backend::gpu::kernels::{Kernel, Products, Variant};
use llava_web::backend::gpu::{Device, DeviceOptions, Gpu, MAX_DISPATCHES};
use llava_web::backend::{Choose, KvFormat, MatrixSpec, Memory, Ops, Queue, RopeStyle};
use llava_web::quant::Format;

use crate::decode_ops;
use crate::ops::{self, Test};

/// Opens the first adapter there is; one that computes on the CPU will do.
pub async fn open(options: DeviceOptions) -> Rc<Device> {
    Device::open(options).await.unwrap_or_else(|error| panic!("{error}"))
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
        let is_new = |test: &Test<'_>| lanes == 0 || uses_lanes(&test.name);
        let possible = ops::tests(make).into_iter().filter(|test| test.name != "out_of_memory_matrices" && is_new(test));
        // Fused kernels are the slowest to compile: in their best form only, and in all of them natively.
        let fused = if lanes == device.variant().lanes { decode_ops::tests(make) } else { Vec::new() };
        // Every format is compiled once; its other forms differ in what surrounds the same lines.
        let wanted = possible.chain(fused).filter(|test| lanes == 0 || reads_planes_anew(&test.name));
        all.extend(wanted.map(named(format!("{lanes} lanes"))));
    }
    for (products, nmse, max) in PRODUCTS.into_iter().filter(|(products, ..)| device.products().contains(products)) {
        let make = make(DeviceOptions { products: Some(products), ..options }).await;
        let wanted = decode_ops::products(make, nmse, max).into_iter().filter(|test| reads_planes_anew(&test.name));
        all.extend(wanted.map(named(format!("{products:?}"))));
    }
    let crowd = device.clone();
    all.push(Test::new("crowded", async move { crowded(&crowd).await }));
    let whole = device.clone();
    all.push(Test::new("matrices_in_pieces", async move { matrices_in_pieces(options, &whole).await }));
    let counted = device.clone();
    all.push(Test::new("passes_of_choices", async move { passes_of_choices(&counted) }));
    all.push(Test::new("self_test", self_test(options)));
    // What the self-test does about kernels that are wrong is the same everywhere and tried natively on two drivers; one of them shows that a
    // browser's compiler is asked at all.
    all.push(Test::new("self_test rules the adapter out", wrong_kernel(options, WRONG_KERNELS[0])));
    all.push(Test::new("weight_bytes", async move { ops::weight_bytes(|| backend(&device)) }));
    all
}

/// Whether a test is of no format, or of one of those which have all ways between them in which fragments read their planes.
pub fn reads_planes_anew(test: &str) -> bool {
    let formats = [Format::F16, Format::Q5_0, Format::Q4_K, Format::Q3_K].map(Format::name);
    let all = Format::ALL.map(Format::name);
    let has = |names: &[&str]| test.split([' ', ',']).any(|word| names.contains(&word));
    has(&formats) || !has(&all)
}

/// Whether a test is of kernels that have forms for subgroups; all others are the same for any number of lanes.
pub fn uses_lanes(test: &str) -> bool {
    let of = ["linear", "subnormal_scales", "upload_in_groups", "fused", "normed"];
    of.iter().any(|prefix| test.starts_with(prefix))
}

/// A driver that takes subnormal halves for zero, which it may, makes no difference: scales are not unpacked as halves.
pub async fn flushed_halves(options: DeviceOptions) {
    let edit_source = |_, _, source: String| {
        let flushed = "fn flushed(bits: u32) -> vec2<f32> {
            let x = unpack2x16float(bits);
            return select(x, vec2<f32>(0.0), abs(x) < vec2<f32>(6.1035e-5));
        }";
        if source.contains("unpack2x16float(") { source.replace("unpack2x16float(", "flushed(") + flushed } else { source }
    };
    let device = open(DeviceOptions { edit_source: Some(edit_source), ..options }).await;
    let mut gpu = backend(&device);
    gpu.self_test(KvFormat::Q8_0).await.expect("right with such a driver too");
    assert_eq!(device.notes(), [""; 0]);
    for format in [Format::Q4_0, Format::Q5_1, Format::Q8_0, Format::Q4_K, Format::Q6_K] {
        ops::subnormal_scales(&mut gpu, format).await;
    }
}

/// However a token is chosen, at most four kernels see its logits, and each of them but for a stretch of the last one's once.
pub fn passes_of_choices(device: &Rc<Device>) {
    let mut gpu = backend(device);
    let logits = decode_ops::filled(&mut gpu, 5000, &ops::Random::new(6).floats(5000));
    let base = Choice::default();
    for (choice, n) in [
        (Choice::GREEDY, 2),
        (base, 2),
        (Choice { min_p: 0.1, ..base }, 2),
        (Choice { top_k: 1, ..base }, 2),
        (Choice { top_k: 50, ..base }, 4),
        (Choice { top_p: 0.9, ..base }, 4),
        (Choice { temperature: 1.3, top_k: 50, top_p: 0.9, min_p: 0.1 }, 4),
    ] {
        let before = gpu.launches().dispatches;
        drop(gpu.choose(&logits, &choice, 0.5));
        assert_eq!(gpu.launches().dispatches - before, n, "{choice:?}");
    }
    // One place in its source where each reads logits, none of them in a loop within a loop. The second to read them twice is the one that
    // writes down whom it has counted: four passes with it. The last reads no logits where there are candidates.
    for (kernel, n) in [(Kernel::ChooseBest, 1), (Kernel::ChooseHistogram, 1), (Kernel::ChooseCandidates, 2), (Kernel::Choose, 1)]
    {
        assert_eq!(kernel.source(0).matches("logits[").count(), n, "{}", kernel.name());
    }
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
    backend.self_test(KvFormat::Q8_0).await.expect("passes");
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
    backend.self_test(KvFormat::Q8_0).await.expect("the plain kernels are right");
    assert_eq!(device.variant(), Variant { lanes: 0, ..before });
    assert!(device.notes()[0].contains("subgroups"), "{:?}", device.notes());
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
    backend(&device).self_test(KvFormat::Q8_0).await.expect("floats are right");
    assert_eq!(device.variant(), Variant { products: Products::Float, ..before });
    assert!(device.notes()[0].contains("mat_mul"), "{:?}", device.notes());
}

/// Plain kernels, made wrong, and what an error about them must contain.
pub const WRONG_KERNELS: [(&str, EditSource); 21] = [
    ("rms", edit!(("rms_norm", "1.0 / sqrt", "2.0 / sqrt"))),
    ("attention", edit!(("attention f16", "sum *= fade;", ""))),
    ("attention", edit!(("attention_tile f16 1", "+= weight;", "+= 0.5 * weight;"))),
    ("attention", edit!(("attention_merge", "sum / total", "sum"))),
    ("choose", edit!(("choose", "distance < last", "distance <= 4194303u"))),
    ("choose", edit!(("choose_histogram", "weight >> 20u", "weight >> 21u"))),
    ("choose", edit!(("choose_candidates", ">> 11u <= last", ">> 11u < last"))),
    ("mat", edit!(("mat_mul Q6_K", "-32.0", "-31.0"))),
    // Compilers that take small numbers for zero: halves decoded as integers, and floats.
    ("mat_vec Q4_0", edit!(("mat_vec Q4_0", "f32(magnitude) * 5.9604644775390625e-8", "0.0"))),
    (
        "mat_vec Q6_K",
        edit!((
            "mat_vec Q6_K",
            "return bitcast<f32>(w_plane_word(start, i));",
            "let x = bitcast<f32>(w_plane_word(start, i)); return select(x, 0.0, abs(x) < 6.1035e-5);"
        )),
    ),
    ("activations", edit!(("mat_vec F16", "0.044715", "0.054715"))),
    ("gather", edit!(("gather_rows", "pair.x", "pair.y"))),
    ("join", edit!(("join_rows", "id.y * P.k + part", "id.y + part"))),
    ("head_norm", edit!(("head_norm", "1.0 / sqrt", "2.0 / sqrt"))),
    ("add_scaled", edit!(("add_scaled", "+ scale[id.x] *", "- scale[id.x] *"))),
    ("mean_rows", edit!(("mean_rows", "P.factor / f32(P.k)", "P.factor"))),
    ("activations", edit!(("mat_vec F16", "clamp(y + 3.0", "clamp(y + 2.9"))),
    ("mul_rows", edit!(("mul_rows", "* scale[id.x]", "+ scale[id.x]"))),
    ("hard_swish", edit!(("hard_swish", "x[at] + 3.0", "x[at] + 2.9"))),
    ("depthwise_conv", edit!(("depthwise_conv", "row > P.height", "row >= P.height"))),
    ("short_conv", edit!(("short_conv_keep", "id.x] = u;", "id.x] = 0.5 * u;"))),
];

/// A plain kernel that computes wrongly rules the adapter out.
pub async fn wrong_kernel(options: DeviceOptions, (named, edit_source): (&'static str, EditSource)) {
    let device = open(DeviceOptions { edit_source: Some(edit_source), ..options }).await;
    let error = backend(&device).self_test(KvFormat::Q8_0).await.expect_err(named);
    assert_eq!(error.code(), "unsupported_browser");
    assert!(error.message().contains(named), "{error}");
}
