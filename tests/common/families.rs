//! Every family of models against its reference data: rows of pictures, token layout, logits, greedy tokens; on any backend.

use llava_web::backend::Backend;
use llava_web::gguf::Gguf;
use llava_web::image::{Place, PreprocessSpec, RgbImage};
use llava_web::model::positions::{Standing, positions};
use llava_web::runtime::engine::{Engine, Event, LoadOptions};
use llava_web::runtime::request;
use serde_json::{Value, json};

use super::llava::{Answer, complete, cosine, file, finish, golden, golden_json, inputs, max_diff, picture, tensors};

/// A family's folder under `tests/golden`, and what of it is tried.
pub struct Family {
    /// The folder, and the beginning of its language models' names; behind a dot the variant where one folder has several.
    pub name: &'static str,
    /// Pictures, by the names of their files.
    pub pictures: &'static [&'static str],
}

/// The families.
pub const FAMILIES: &[Family] = &[
    Family { name: "tiny-smolvlm", pictures: &["chelsea", "coffee_tall"] },
    Family { name: "tiny-internvl3", pictures: &["astronaut", "chelsea", "coffee_tall"] },
    Family { name: "tiny-llava-qwen2.pad", pictures: &["astronaut", "chelsea", "coffee_tall"] },
    Family { name: "tiny-lfm2vl", pictures: &["astronaut", "chelsea", "coffee_tall", "astronaut_2x"] },
    Family { name: "tiny-qwen2vl", pictures: &["astronaut", "chelsea", "coffee_tall"] },
    Family { name: "tiny-qwen25vl", pictures: &["astronaut", "chelsea", "coffee_tall"] },
    Family { name: "tiny-qwen3vl", pictures: &["astronaut", "chelsea", "coffee_tall"] },
    Family { name: "tiny-mobilevlm.ldp", pictures: &["chelsea", "coffee_tall"] },
    Family { name: "tiny-mobilevlm.ldpv2", pictures: &["chelsea", "coffee_tall"] },
    Family { name: "tiny-gemma3", pictures: &["astronaut", "chelsea", "coffee_tall"] },
];

impl Family {
    /// The folder, and what its variant's numbers are named by: `.pad`, or nothing.
    fn parts(&self) -> (&'static str, String) {
        match self.name.split_once('.') {
            Some((folder, variant)) => (folder, format!(".{variant}")),
            None => (self.name, String::new()),
        }
    }

    /// The vision file: the variant's own where it has one.
    fn mmproj(&self) -> std::path::PathBuf {
        let (folder, variant) = self.parts();
        let own = golden(&format!("{folder}/mmproj{}-f16.gguf", variant.replace('.', "-")));
        if own.exists() { own } else { golden(&format!("{folder}/mmproj-f16.gguf")) }
    }
}

/// How far logits may be from the reference's, which is computed on dequantized weights.
pub struct Bounds {
    /// The largest difference of a projected row.
    pub embeds: f32,
    /// The largest difference of a logit, by the format of the language model.
    pub logits: [(&'static str, f32); 2],
}

/// A picture by its name; `NAME_2x` is one with every pixel doubled.
fn shown(name: &str) -> RgbImage {
    let Some(name) = name.strip_suffix("_2x") else { return picture(&format!("{name}.png")) };
    let small = picture(&format!("{name}.png"));
    let line = |line: &[u8]| line.chunks_exact(3).flat_map(|pixel| [pixel, pixel].concat()).collect::<Vec<u8>>();
    let data = small.data().chunks_exact(3 * small.width()).flat_map(|row| [line(row), line(row)].concat()).collect();
    RgbImage::new(2 * small.width() as u32, 2 * small.height() as u32, data).expect("four times the pixels")
}

/// Ids with rows of pictures as one `null` a run, as the reference lists them.
fn chunks(ids: &[Option<u32>]) -> Vec<Option<Vec<u32>>> {
    let mut out: Vec<Option<Vec<u32>>> = Vec::new();
    for id in ids {
        match (id, out.last_mut()) {
            (Some(id), Some(Some(run))) => run.push(*id),
            (Some(id), _) => out.push(Some(vec![*id])),
            (None, Some(None)) => {}
            (None, _) => out.push(None),
        }
    }
    out
}

/// What the reference lists, neighbouring `null`s as one.
fn expected_chunks(value: &Value) -> Vec<Option<Vec<u32>>> {
    let mut out: Vec<Option<Vec<u32>>> = value
        .as_array()
        .expect("chunks")
        .iter()
        .map(|chunk| chunk.as_array().map(|ids| ids.iter().map(|id| id.as_u64().expect("an id") as u32).collect()))
        .collect();
    out.dedup_by(|a, b| a.is_none() && b.is_none());
    out
}

/// Compares a greedy answer with the reference's, up to the first step at which two tokens are so near that either may be first.
fn compare_greedy<B: Backend>(
    engine: &mut Engine<B>,
    prompt: &Value,
    images: &[RgbImage],
    reference: &Value,
    bound: f32,
    what: &str,
) {
    let margins: Vec<f64> = reference["margins"].as_array().expect("margins").iter().filter_map(Value::as_f64).collect();
    let tokens: Vec<u64> = reference["tokens"].as_array().expect("tokens").iter().filter_map(Value::as_u64).collect();
    let sure = margins.iter().position(|m| *m < 2.0 * f64::from(bound)).unwrap_or(margins.len());
    let request = json!({ "prompt": prompt, "temperature": 0, "max_tokens": tokens.len() });
    let answer = complete(engine, request, images).expect("answers");
    let n = sure.min(answer.ids.len());
    let got: Vec<u64> = answer.ids.iter().map(|id| u64::from(*id)).collect();
    assert_eq!(got[..n], tokens[..n], "{what}");
    let n_same = got.iter().zip(&tokens).take_while(|(got, want)| got == want).count();
    println!("{what}: {n} of {} tokens compared, {n_same} the same", tokens.len());
}

/// The levels of rows of a picture, each `[rows, n]`, of rows `width` wide that hold them side by side.
fn levels(data: &[f32], width: usize, n: usize) -> Vec<Vec<f32>> {
    (0..width / n).map(|i| data.chunks_exact(width).flat_map(|row| &row[i * n..][..n]).copied().collect()).collect()
}

/// Holds the positions that follow from ids and pictures against the reference's lists of times, heights and widths.
fn check_positions(ids: &[Option<u32>], places: &[Place], expected: &[Value], next: &Value, what: &str) {
    let mut places = places.iter();
    let mut place = None;
    let mut row = 0;
    let mut standing = Vec::new();
    for id in ids {
        if id.is_some() {
            (place, row) = (None, 0);
            standing.push(Standing::Text);
            continue;
        }
        let place = *place.get_or_insert_with(|| places.next().expect("a picture"));
        standing.push(Standing::Row { row, place });
        row += 1;
    }
    let (got, got_next) = positions(standing.into_iter());
    for (axis, expected) in expected.iter().enumerate() {
        let expected: Vec<u64> = expected.as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
        assert_eq!(got.iter().map(|position| position[axis] as u64).collect::<Vec<_>>(), expected, "{what}");
    }
    assert_eq!(Some(got_next as u64), next.as_u64(), "{what}");
}

/// A conversation about pictures goes on in every way there is as if it had been asked at once: behind its own answer, in another engine
/// from a saved session, and on another device.
pub fn check_going_on<B: Backend>(name: &str, make: impl Fn() -> B, options: &LoadOptions) {
    let expected = golden_json(&format!("{name}/expected.json"));
    let load = || {
        let model = file(golden(&format!("{name}/{name}-f16.gguf")));
        let mmproj = Some(file(golden(&format!("{name}/mmproj-f16.gguf"))));
        pollster::block_on(Engine::load(make(), model, mmproj, options.clone(), &mut |_| {})).expect("loads")
    };
    let prompt = expected["prompts"]["two"].as_str().expect("a prompt").replace("{image}", "<image>");
    let pictures = ["coffee_tall", "chelsea"].map(shown);
    let ask = |prompt: &str| json!({ "prompt": prompt, "temperature": 0, "max_tokens": 6, "logprobs": true, "top_logprobs": 3 });
    let mut engine = load();
    let first = complete(&mut engine, ask(&prompt), &pictures).expect("answers");
    assert_eq!(first.ids.len(), 6, "{name}: {:?}", first.finish_reason);
    let position = first.usage.prompt_tokens + 2;
    let looked = pollster::block_on(engine.looked_at(position, Some(first.ids[2]))).expect("looked at something");
    let mut saved = Vec::new();
    pollster::block_on(engine.save_session(&mut |bytes| saved.extend_from_slice(bytes))).expect("saves");
    // The second question begins with the first one's context, tokens and all.
    let more = format!("{prompt}{}", first.text);
    let again = complete(&mut engine, ask(&more), &pictures).expect("answers");
    assert!(again.usage.cached_tokens > first.usage.prompt_tokens - 2, "{name}: {}", again.usage.cached_tokens);
    let close = |got: &Answer, want: &Answer, what: &str| {
        assert_eq!(got.ids, want.ids, "{name}: {what}");
        for (a, b) in got.logprobs.iter().zip(&want.logprobs) {
            // Rows are computed by other kernels, one by one or many at once, which round differently.
            assert!((a.logprob - b.logprob).abs() < 2e-3, "{name}: {what}: {} for {}", a.logprob, b.logprob);
        }
    };
    let mut fresh = load();
    close(&complete(&mut fresh, ask(&more), &pictures).expect("answers"), &again, "from the beginning");
    // A context with a longer tail behind it, then the first one again.
    complete(
        &mut fresh,
        ask(&expected["prompts"]["one"].as_str().expect("a prompt").replace("{image}", "<image>")),
        &pictures[1..],
    )
    .expect("answers");
    close(&complete(&mut fresh, ask(&prompt), &pictures).expect("answers"), &first, "behind another conversation");
    let mut other = load();
    pollster::block_on(other.restore_session(saved.as_slice())).expect("restores");
    let looked_again = pollster::block_on(other.looked_at(position, Some(first.ids[2]))).expect("looked at something");
    let off = looked.weights.iter().zip(&looked_again.weights).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(looked.weights.len() == looked_again.weights.len() && off < 1e-5, "{name}: attention is {off} off");
    assert_eq!(looked_again.pictures.len(), 2);
    let restored = complete(&mut other, ask(&more), &pictures).expect("answers");
    assert_eq!(restored.usage.cached_tokens, again.usage.cached_tokens, "{name}");
    close(&restored, &again, "from a saved session");
    if B::CAN_BE_LOST {
        let mut engine = load();
        engine.start_completion(&request::parse(&ask(&prompt).to_string()).expect("sound"), &inputs(&pictures)).expect("starts");
        let mut ids = Vec::new();
        while ids.len() < 3 {
            if let Event::Token { token_ids, .. } = pollster::block_on(engine.step()).expect("a step") {
                ids.extend(token_ids);
            }
        }
        let rescued = engine.rescue();
        let mut engine = load();
        engine.resume(rescued).expect("takes over");
        ids.extend(finish(&mut engine).expect("answers").ids);
        assert_eq!(ids, first.ids, "{name}: on another device");
    }
    println!(
        "{name}: goes on behind its answer, from a saved session{}",
        if B::CAN_BE_LOST { ", on another device" } else { "" }
    );
}

/// Holds a family against its reference data.
pub fn check<B: Backend>(family: &Family, make: impl Fn() -> B, options: &LoadOptions, bounds: &Bounds) {
    let Family { name, pictures } = family;
    let (folder, variant) = family.parts();
    let expected = golden_json(&format!("{folder}/expected.json"));
    let numbers = tensors(&format!("{folder}/expected.safetensors"));
    for (format, bound) in bounds.logits {
        // A family may share another's language models.
        let model = match expected["text_gguf"].as_str() {
            Some(_) => file(golden(&format!("tiny-llava/tiny-llava-{format}.gguf"))),
            None => file(golden(&format!("{folder}/{folder}-{format}.gguf"))),
        };
        let mmproj = Some(file(family.mmproj()));
        let mut engine = pollster::block_on(Engine::load(make(), model, mmproj, options.clone(), &mut |_| {}))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let prompt = |kind: &str| {
            let text = expected["prompts"][kind].as_str().or(expected["prompt"].as_str()).expect("a prompt");
            text.replace("{image}", "<image>")
        };
        if format == "f16" {
            for picture in *pictures {
                let (data, shape) = pollster::block_on(engine.embed_image(&shown(picture))).expect("embeds");
                let (rows, rows_shape) = &numbers[&format!("{picture}{variant}.embeds")];
                let levels = levels(&data, shape[1], rows_shape[rows_shape.len() - 1]);
                if let Some((deeper, _)) = numbers.get(&format!("{picture}{variant}.deepstack")) {
                    let diff = max_diff(&levels[1..].concat(), deeper);
                    println!("{name} {picture}: {} levels beyond the embedding, max difference {diff:.6}", levels.len() - 1);
                    assert!(diff < bounds.embeds, "{name} {picture}: max difference {diff} beyond the embedding");
                }
                let data = &levels[0];
                let (cosine, diff) = (cosine(data, rows), max_diff(data, rows));
                println!("{name} {picture}: {shape:?}, cosine {cosine:.7}, max difference {diff:.6}");
                assert!(cosine > 0.9999 && diff < bounds.embeds, "{name} {picture}: cosine {cosine}, max difference {diff}");
            }
        }
        let two: Vec<&str> = expected["two_images"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        // The tower is the same in both: on a GPU that computes on the CPU, one picture tells whether the other format's kernels are right.
        let n_pictures = if B::CAN_BE_LOST && format != "f16" { 1 } else { pictures.len() };
        let of_one = pictures[..n_pictures].iter().map(|picture| (*picture, "one", vec![*picture]));
        let has_two = numbers.contains_key(&format!("two{variant}.{format}.hf.logits"));
        assert!(has_two || two.is_empty(), "{name}: the reference has two pictures");
        let cases = of_one.chain(has_two.then_some(("two", "two", two.clone())));
        for (case, kind, shown_pictures) in cases {
            let images: Vec<RgbImage> = shown_pictures.iter().map(|name| shown(name)).collect();
            let request = request::parse(&json!({ "prompt": prompt(kind) }).to_string()).expect("sound");
            let (got, ids) = pollster::block_on(engine.evaluate(&request, &inputs(&images))).expect("evaluates");
            let what = format!("{name} {case} {format}");
            let reference = &expected["results"][case];
            let layout = [&reference["chunks"], &expected["chunks"][kind]].into_iter().find(|chunks| !chunks.is_null());
            if let Some(layout) = layout {
                assert_eq!(chunks(&ids), expected_chunks(layout), "{what}");
            }
            let n_rows = ids.iter().filter(|id| id.is_none()).count() as u64;
            if let Some(n) = variant.strip_prefix('.').and_then(|variant| reference[variant]["rows"].as_u64()) {
                assert_eq!(n_rows, n, "{what}");
            }
            if let Some(n) = reference["n_tokens"].as_u64() {
                assert_eq!(ids.len() as u64, n, "{what}");
            }
            if let Some(expected) = reference["position_ids"].as_array() {
                let places: Vec<Place> = images.iter().map(|image| engine.preprocess(image).expect("pixels").place).collect();
                check_positions(&ids, &places, expected, &reference["next_position"], &what);
            }
            let (logits, _) = &numbers[&format!("{case}{variant}.{format}.hf.logits")];
            let (cosine, diff) = (cosine(&got, logits), max_diff(&got, logits));
            println!("{what}: cosine {cosine:.7}, max difference {diff:.5}");
            assert!(diff < bound && cosine > 0.999, "{what}: cosine {cosine}, max difference {diff}");
            let reference = &expected["results"][format!("{case}{variant}.{format}.hf")];
            compare_greedy(&mut engine, &json!(prompt(kind)), &images, reference, bound, &what);
        }
        if let (Some(ids), Some((logits, _))) =
            (expected.get("text_only_ids"), numbers.get(&format!("text_only.{format}.hf.logits")))
        {
            let request = request::parse(&json!({ "tokens": ids }).to_string()).expect("sound");
            let (got, _) = pollster::block_on(engine.evaluate(&request, &[])).expect("evaluates");
            let diff = max_diff(&got, logits);
            println!("{name} text {format}: max difference {diff:.5}");
            assert!(diff < bound, "{name} text {format}: max difference {diff}");
        }
    }
}

/// Holds a language model without pictures against its reference data.
pub fn check_text<B: Backend>(name: &str, make: impl Fn() -> B, options: &LoadOptions, bounds: &Bounds) {
    let expected = golden_json(&format!("{name}/expected.json"));
    let numbers = tensors(&format!("{name}/expected.safetensors"));
    for (format, bound) in bounds.logits {
        let model = file(golden(&format!("{name}/{name}-{format}.gguf")));
        let mut engine = pollster::block_on(Engine::load(make(), model, None, options.clone(), &mut |_| {}))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        for (case, prompt) in expected["prompts"].as_object().expect("prompts") {
            let what = format!("{name} {case} {format}");
            let request = request::parse(&json!({ "prompt": prompt }).to_string()).expect("sound");
            let (got, ids) = pollster::block_on(engine.evaluate(&request, &[])).expect("evaluates");
            assert_eq!(json!(ids), expected["ids"][case], "{what}");
            let (logits, _) = &numbers[&format!("{case}.{format}.hf.logits")];
            let diff = max_diff(&got, logits);
            println!("{what}: max difference {diff:.5}");
            assert!(diff < bound, "{what}: max difference {diff}");
            compare_greedy(&mut engine, prompt, &[], &expected["results"][format!("{case}.{format}.hf")], bound, &what);
        }
    }
}

/// Holds the pixels of a family's pictures against those that the reference's processor makes, where they are kept; gives how many were
/// compared.
pub fn check_pixels(family: &Family) -> usize {
    let (folder, variant) = family.parts();
    let numbers = tensors(&format!("{folder}/expected.safetensors"));
    let mmproj = pollster::block_on(Gguf::open(file(family.mmproj()))).expect("opens");
    let spec = PreprocessSpec::from_metadata(&mmproj.metadata).expect("a recipe");
    let mut n = 0;
    for name in family.pictures {
        let kept = |kind: &str| {
            [format!("{name}{variant}.{kind}"), format!("{name}.{kind}")].into_iter().find_map(|key| numbers.get(&key))
        };
        let want = match (kept("pixels"), kept("pixels_u8")) {
            (Some((values, _)), _) => values.clone(),
            (None, Some((levels, shape))) => {
                let plane = shape[shape.len() - 3] * shape[shape.len() - 2];
                let of_plane = |tile: &[f32], c: usize| -> Vec<f32> {
                    tile.chunks_exact(3).map(|pixel| (pixel[c] / 255.0 - spec.mean[c]) / spec.std[c]).collect()
                };
                levels
                    .chunks_exact(3 * plane)
                    .flat_map(|tile| (0..3).flat_map(|c| of_plane(tile, c)).collect::<Vec<f32>>())
                    .collect()
            }
            (None, None) => continue,
        };
        let pixels = spec.preprocess(&shown(name), usize::MAX).expect("prepares");
        let diff = max_diff(&pixels.data, &want);
        println!("{} {name}: {:?}, max difference {diff:.1e}", family.name, pixels.tiles);
        // A level is 0.008 at the least; floats are rounded in another order.
        assert!(diff < 1e-5, "{} {name}: max difference {diff}", family.name);
        n += 1;
    }
    n
}
