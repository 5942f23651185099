//! Every family of models against its reference data: rows of pictures, token layout, logits, greedy tokens; on any backend.

use llava_web::backend::Backend;
use llava_web::image::RgbImage;
use llava_web::runtime::engine::{Engine, LoadOptions};
use llava_web::runtime::request;
use serde_json::{Value, json};

use super::llava::{complete, cosine, file, golden, golden_json, inputs, max_diff, picture, tensors};

/// A family's folder under `tests/golden`, and what of it is tried.
pub struct Family {
    /// The folder, and the beginning of its language models' names.
    pub name: &'static str,
    /// Pictures, by the names of their files.
    pub pictures: &'static [&'static str],
}

/// The families.
pub const FAMILIES: &[Family] = &[Family { name: "tiny-smolvlm", pictures: &["chelsea", "coffee_tall"] }];

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

/// Holds a family against its reference data.
pub fn check<B: Backend>(family: &Family, make: impl Fn() -> B, options: &LoadOptions, bounds: &Bounds) {
    let Family { name, pictures } = family;
    let expected = golden_json(&format!("{name}/expected.json"));
    let numbers = tensors(&format!("{name}/expected.safetensors"));
    for (format, bound) in bounds.logits {
        let model = file(golden(&format!("{name}/{name}-{format}.gguf")));
        let mmproj = Some(file(golden(&format!("{name}/mmproj-f16.gguf"))));
        let mut engine = pollster::block_on(Engine::load(make(), model, mmproj, options.clone(), &mut |_| {}))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let prompt = |kind: &str| {
            let text = expected["prompts"][kind].as_str().or(expected["prompt"].as_str()).expect("a prompt");
            text.replace("{image}", "<image>")
        };
        if format == "f16" {
            for picture in *pictures {
                let (data, shape) = pollster::block_on(engine.embed_image(&shown(picture))).expect("embeds");
                let (rows, _) = &numbers[&format!("{picture}.embeds")];
                let (cosine, diff) = (cosine(&data, rows), max_diff(&data, rows));
                println!("{name} {picture}: {shape:?}, cosine {cosine:.7}, max difference {diff:.6}");
                assert!(cosine > 0.9999 && diff < bounds.embeds, "{name} {picture}: cosine {cosine}, max difference {diff}");
            }
        }
        let two: Vec<&str> = expected["two_images"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let of_one = pictures.iter().map(|picture| (*picture, "one", vec![*picture]));
        let cases = of_one.chain((!two.is_empty()).then_some(("two", "two", two.clone())));
        for (case, kind, shown_pictures) in cases {
            let images: Vec<RgbImage> = shown_pictures.iter().map(|name| shown(name)).collect();
            let request = request::parse(&json!({ "prompt": prompt(kind) }).to_string()).expect("sound");
            let (got, ids) = pollster::block_on(engine.evaluate(&request, &inputs(&images))).expect("evaluates");
            let what = format!("{name} {case} {format}");
            let reference = &expected["results"][case];
            if !reference["chunks"].is_null() {
                assert_eq!(chunks(&ids), expected_chunks(&reference["chunks"]), "{what}");
            }
            if let Some(n) = reference["n_tokens"].as_u64() {
                assert_eq!(ids.len() as u64, n, "{what}");
            }
            let (logits, _) = &numbers[&format!("{case}.{format}.hf.logits")];
            let (cosine, diff) = (cosine(&got, logits), max_diff(&got, logits));
            println!("{what}: cosine {cosine:.7}, max difference {diff:.5}");
            assert!(diff < bound && cosine > 0.999, "{what}: cosine {cosine}, max difference {diff}");
            let reference = &expected["results"][format!("{case}.{format}.hf")];
            let margins: Vec<f64> = reference["margins"].as_array().expect("margins").iter().filter_map(Value::as_f64).collect();
            let tokens: Vec<u64> = reference["tokens"].as_array().expect("tokens").iter().filter_map(Value::as_u64).collect();
            // Up to the first step at which two tokens are so near that either may be first.
            let sure = margins.iter().position(|m| *m < 2.0 * f64::from(bound)).unwrap_or(margins.len());
            let request = json!({ "prompt": prompt(kind), "temperature": 0, "max_tokens": tokens.len() });
            let answer = complete(&mut engine, request, &images).expect("answers");
            let n = sure.min(answer.ids.len());
            let got: Vec<u64> = answer.ids[..n].iter().map(|id| u64::from(*id)).collect();
            assert_eq!(got, tokens[..n], "{what}");
            println!("{what}: {n} of {} tokens compared", tokens.len());
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
