//! Where the model looked, against the whole decoder in double precision: attention is what is compared, after everything before it.

use crate::common;
#[cfg(feature = "gpu")]
use crate::gpu;

use std::collections::HashMap;
use std::ops::Range;

use common::gguf_writer::{GgufWriter, Val};
use common::llava::{Answer, chat, complete, file, golden, inputs, memory, options, picture, tiny_llava, tiny_llava_on};
use llava_web::backend::cpu::Cpu;
#[cfg(feature = "gpu")]
use llava_web::backend::gpu::{DeviceOptions, Gpu};
use llava_web::backend::{Backend, KvFormat};
use llava_web::gguf::Gguf;
use llava_web::image::RgbImage;
use llava_web::runtime::engine::{Engine, LoadOptions};
use llava_web::runtime::looked_at::LookedAt;
use llava_web::runtime::request;
use serde_json::json;

const MODEL: &str = "tiny-llava-f16.gguf";
const MMPROJ: &str = "mmproj-legacy-f16.gguf";
const PROMPT: &str = "USER: <image>\nWhat is in this image? ASSISTANT:";

/// A LLaMA, Qwen3 or Gemma 3 in double precision, one plain loop for each formula.
struct Reference {
    tensors: HashMap<String, Vec<f64>>,
    n_layers: usize,
    n_embd: usize,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    /// Whether elements are turned with those half a head further rather than with their neighbours.
    halves: bool,
    eps: f64,
    freq_base: f64,
    /// What Gemma 3 has besides.
    gemma: Option<Gemma>,
}

/// Norms behind each half of a block, GELU, embeddings of tokens times a factor; and for its layers:
struct Gemma {
    /// Keys that local layers see, those behind the query in a picture not counted.
    window: usize,
    /// What positions are divided by in the layers that are not local.
    scaling: f64,
    /// The rows of the picture, which see each other.
    picture: Range<usize>,
}

impl Gemma {
    /// Five of six layers are.
    fn is_local(layer: usize) -> bool {
        !(layer + 1).is_multiple_of(6)
    }

    fn sees(&self, layer: usize, query: usize, key: usize) -> bool {
        let is_within = self.picture.contains(&query) && self.picture.contains(&key);
        (key <= query || is_within) && (!Self::is_local(layer) || query < key + self.window)
    }
}

impl Reference {
    fn open(path: &str) -> Self {
        let gguf = pollster::block_on(Gguf::open(file(golden(path)))).expect("opens");
        let tensors = gguf
            .tensors()
            .map(|t| {
                let mut bytes = vec![0; t.info.n_bytes() as usize];
                pollster::block_on(gguf.read(t, 0, &mut bytes)).expect("reads");
                let mut values = vec![0.0f32; t.info.n_elements()];
                t.info.format.decode_row(&bytes, &mut values);
                (t.info.name.clone(), values.into_iter().map(f64::from).collect())
            })
            .collect();
        let m = &gguf.metadata;
        let architecture = m.str("general.architecture").expect("an architecture");
        let key = |name: &str| format!("{architecture}.{name}");
        let number = |name: &str| m.uint(&key(name)).expect(name) as usize;
        let (n_heads, n_embd) = (number("attention.head_count"), number("embedding_length"));
        Self {
            tensors,
            n_layers: number("block_count"),
            n_embd,
            n_heads,
            n_kv_heads: m.uint(&key("attention.head_count_kv")).map_or(n_heads, |n| n as usize),
            head_dim: m.uint(&key("attention.key_length")).map_or(n_embd / n_heads, |n| n as usize),
            halves: architecture != "llama",
            gemma: (architecture == "gemma3").then(|| Gemma {
                window: number("attention.sliding_window"),
                scaling: f64::from(m.float(&key("rope.scaling.factor")).expect("a factor")),
                picture: 0..0,
            }),
            eps: f64::from(m.float(&key("attention.layer_norm_rms_epsilon")).expect("eps")),
            freq_base: m.float(&key("rope.freq_base")).map_or(10000.0, f64::from),
        }
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        self.tensors[name].chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let scale = (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + self.eps).sqrt();
        x.iter().zip(&self.tensors[name]).map(|(x, w)| x / scale * w).collect()
    }

    /// Heads as they meet each other: past their norm where there is one, then turned.
    fn turned(&self, x: Vec<f64>, norm: &str, layer: usize, position: usize) -> Vec<f64> {
        let d = self.head_dim;
        let (base, scaling) = match &self.gemma {
            Some(_) if Gemma::is_local(layer) => (10_000.0, 1.0),
            Some(gemma) => (self.freq_base, gemma.scaling),
            None => (self.freq_base, 1.0),
        };
        let heads =
            x.chunks_exact(d).map(|head| if self.tensors.contains_key(norm) { self.norm(norm, head) } else { head.to_vec() });
        let turn = |mut head: Vec<f64>| {
            for i in 0..d / 2 {
                let (a, b) = if self.halves { (i, i + d / 2) } else { (2 * i, 2 * i + 1) };
                let (sin, cos) = (position as f64 / scaling * f64::powf(base, -2.0 * i as f64 / d as f64)).sin_cos();
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
            head
        };
        heads.flat_map(turn).collect()
    }

    /// The attention of the last of these embeddings over all of them: for each layer the mean over its heads.
    fn attention_of_the_last(&self, mut h: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        let head_dim = self.head_dim;
        let mut of_layers = Vec::new();
        for layer in 0..self.n_layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let normed: Vec<Vec<f64>> = h.iter().map(|h| self.norm(&name("attn_norm"), h)).collect();
            let turned = |part: &str| -> Vec<Vec<f64>> {
                let norm = name(&format!("{part}_norm"));
                normed.iter().enumerate().map(|(i, x)| self.turned(self.linear(&name(part), x), &norm, layer, i)).collect()
            };
            let (q, k) = (turned("attn_q"), turned("attn_k"));
            let v: Vec<Vec<f64>> = normed.iter().map(|x| self.linear(&name("attn_v"), x)).collect();
            let n = h.len();
            let mut mean = vec![0.0; n];
            // What a half of the block adds, past its norm where there is one.
            let added = |norm: &str, x: Vec<f64>| if self.gemma.is_some() { self.norm(&name(norm), &x) } else { x };
            for (i, h) in h.iter_mut().enumerate() {
                let seen: Vec<usize> = match &self.gemma {
                    Some(gemma) => (0..n).filter(|key| gemma.sees(layer, i, *key)).collect(),
                    None => (0..=i).collect(),
                };
                let mut attn = vec![0.0; self.n_heads * head_dim];
                for head in 0..self.n_heads {
                    let (from, kv) = (head * head_dim, head * self.n_kv_heads / self.n_heads * head_dim);
                    let scores = seen
                        .iter()
                        .map(|at| (0..head_dim).map(|d| q[i][from + d] * k[*at][kv + d]).sum::<f64>() / (head_dim as f64).sqrt());
                    let weights: Vec<f64> = scores.map(f64::exp).collect();
                    let total: f64 = weights.iter().sum();
                    for (at, weight) in seen.iter().copied().zip(&weights) {
                        (0..head_dim).for_each(|d| attn[from + d] += weight / total * v[at][kv + d]);
                        if i + 1 == mean.len() {
                            mean[at] += weight / total / self.n_heads as f64;
                        }
                    }
                }
                let out = added("post_attention_norm", self.linear(&name("attn_output"), &attn));
                h.iter_mut().zip(out).for_each(|(h, x)| *h += x);
                let normed = self.norm(&name("ffn_norm"), h);
                let (gate, up) = (self.linear(&name("ffn_gate"), &normed), self.linear(&name("ffn_up"), &normed));
                let activated = |g: f64| match self.gemma {
                    Some(_) => g / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3))).tanh()),
                    None => g / (1.0 + (-g).exp()),
                };
                let product: Vec<f64> = gate.iter().zip(up).map(|(g, u)| activated(*g) * u).collect();
                let out = added("post_ffw_norm", self.linear(&name("ffn_down"), &product));
                h.iter_mut().zip(out).for_each(|(h, x)| *h += x);
            }
            of_layers.push(mean);
        }
        of_layers
    }
}

fn looked_at<B: Backend>(engine: &mut Engine<B>, position: usize, token: Option<u32>) -> LookedAt {
    pollster::block_on(engine.looked_at(position, token)).expect("can be seen")
}

fn ask<B: Backend>(engine: &mut Engine<B>, image: &RgbImage) -> Answer {
    ask_with(engine, PROMPT, image)
}

fn ask_with<B: Backend>(engine: &mut Engine<B>, prompt: &str, image: &RgbImage) -> Answer {
    let request = json!({ "prompt": prompt, "temperature": 0, "max_tokens": 10 });
    complete(engine, request, std::slice::from_ref(image)).expect("answers")
}

/// All it says, next to the largest error allowed.
fn assert_sound(looked: &LookedAt, what: &str) {
    let total: f64 = looked.weights.iter().sum();
    assert!((total - 1.0).abs() < 1e-9, "{what}: the probabilities sum to {total}");
    for picture in &looked.pictures {
        let n = picture.shape[0] * picture.shape[1];
        assert_eq!((picture.data.len(), picture.salience.len()), (n, n), "{what}");
        let largest = picture.salience.iter().copied().fold(0.0, f32::max);
        assert!((largest - 1.0).abs() < 1e-6 && picture.salience.iter().all(|x| *x >= 0.0), "{what}");
        assert!(picture.share > 0.0 && picture.share < 1.0, "{what}");
    }
}

/// The embeddings of a prompt with a picture of these rows and of its answer, and where the first row of the picture stands.
fn embedded<B: Backend>(
    engine: &mut Engine<B>,
    reference: &Reference,
    (prompt, image): (&str, &RgbImage),
    answer: &Answer,
    rows: &[f32],
) -> (Vec<Vec<f64>>, usize) {
    let evaluate = request::parse(&json!({ "prompt": prompt }).to_string()).expect("sound");
    let (_, prompt) = pollster::block_on(engine.evaluate(&evaluate, &inputs(std::slice::from_ref(image)))).expect("evaluates");
    let first_row = prompt.iter().position(Option::is_none).expect("a picture");
    let (table, n) = (&reference.tensors["token_embd.weight"], reference.n_embd);
    let mut rows = rows.chunks_exact(n);
    let embedding = |id: Option<u32>| match id {
        Some(id) => {
            let scale = if reference.gemma.is_some() { (n as f64).sqrt() } else { 1.0 };
            table[id as usize * n..][..n].iter().map(|x| scale * x).collect()
        }
        None => rows.next().expect("a row").iter().copied().map(f64::from).collect(),
    };
    let all = prompt.iter().copied().chain(answer.ids.iter().map(|id| Some(*id)));
    (all.map(embedding).collect(), first_row)
}

/// Qwen3's heads pass a norm before they are turned, also where a position is looked at again. InternVL's tower before it, its rows cut to
/// the decoder's width.
#[test]
fn heads_with_norms_of_their_own_are_seen_as_they_were() {
    const QWEN3: &str = "tiny-qwen3/tiny-qwen3-f16.gguf";
    let reference = Reference::open(QWEN3);
    let tower = pollster::block_on(Gguf::open(file(golden("tiny-internvl3/mmproj-f16.gguf")))).expect("opens");
    let narrow = ["mm.model.mlp.3.weight", "mm.model.mlp.3.bias"]
        .into_iter()
        .fold(GgufWriter::copy_of(&tower), |file, name| file.cut(name, reference.n_embd));
    // The mark of InternVL's pictures in place of a token that this prompt has not.
    const TOKENS: &str = "tokenizer.ggml.tokens";
    let qwen3 = pollster::block_on(Gguf::open(file(golden(QWEN3)))).expect("opens");
    let tokens = qwen3.metadata.strings(TOKENS).expect("a vocabulary");
    let tokens = Val::strings(tokens.iter().map(|token| if token == "<think>" { "<img>" } else { token.as_str() }));
    let qwen3 = GgufWriter::copy_of(&qwen3).set(TOKENS, tokens);
    let load = || {
        let mmproj = Some(memory("mmproj.gguf", narrow.finish()));
        pollster::block_on(Engine::load(Cpu::new(), memory("qwen3.gguf", qwen3.finish()), mmproj, options(), &mut |_| {}))
            .expect("loads")
    };
    let (mut engine, image) = (load(), picture("coffee_tall.png"));
    let answer = ask(&mut engine, &image);
    let (rows, _) = pollster::block_on(engine.embed_image(&image)).expect("embeds");
    let (embeddings, _) = embedded(&mut load(), &reference, (PROMPT, &image), &answer, &rows);
    for i in [0, 2] {
        let position = answer.usage.prompt_tokens + i;
        let looked = looked_at(&mut engine, position, Some(answer.ids[i]));
        assert_sound(&looked, &format!("token {i}"));
        assert_eq!(looked.layers, 0..2);
        let of_layers = reference.attention_of_the_last(embeddings[..position].to_vec());
        let error =
            (0..position).map(|at| (looked.weights[at] - (of_layers[0][at] + of_layers[1][at]) / 2.0).abs()).fold(0.0, f64::max);
        println!("token {i}: largest error {error:.1e}");
        assert!(looked.weights.len() == position && error < 1e-5, "token {i}: {error}");
    }
}

/// Local layers of Gemma 3 look no further than their window, and the rows of a picture see each other; both devices.
fn windows_and_spans_are_seen<B: Backend>(make: impl Fn() -> B) {
    const GEMMA3: &str = "tiny-gemma3/tiny-gemma3-f16.gguf";
    const PROMPT: &str = "<start_of_turn>user\n<image>What is in this image?<end_of_turn>\n<start_of_turn>model\n";
    let mut reference = Reference::open(GEMMA3);
    let load = || {
        let (model, mmproj) = (file(golden(GEMMA3)), Some(file(golden("tiny-gemma3/mmproj-f16.gguf"))));
        pollster::block_on(Engine::load(make(), model, mmproj, options(), &mut |_| {})).expect("loads")
    };
    let (mut engine, image) = (load(), picture("coffee_tall.png"));
    let answer = ask_with(&mut engine, PROMPT, &image);
    let (rows, [n_rows, _]) = pollster::block_on(engine.embed_image(&image)).expect("embeds");
    let (embeddings, first_row) = embedded(&mut load(), &reference, (PROMPT, &image), &answer, &rows);
    let gemma = reference.gemma.as_mut().expect("it is Gemma 3");
    gemma.picture = first_row..first_row + n_rows;
    let window = gemma.window;
    for i in [0, 3, 8] {
        let position = answer.usage.prompt_tokens + i;
        let looked = looked_at(&mut engine, position, Some(answer.ids[i]));
        assert_sound(&looked, &format!("token {i}"));
        assert_eq!(looked.layers, 2..5, "all of them local");
        assert!(looked.weights[..position - window].iter().all(|weight| *weight == 0.0), "token {i}: beyond the window");
        let of_layers = reference.attention_of_the_last(embeddings[..position].to_vec());
        let want = (0..position).map(|at| of_layers[2..5].iter().map(|layer| layer[at]).sum::<f64>() / 3.0);
        let error = looked.weights.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max);
        println!("token {i}: largest error {error:.1e}");
        assert!(looked.weights.len() == position && error < 1e-5, "token {i}: {error}");
    }
    // Before the mark behind the picture: its last row is looked at, and sees all others.
    let last = first_row + n_rows;
    let looked = looked_at(&mut engine, last, None);
    let of_layers = reference.attention_of_the_last(embeddings[..last].to_vec());
    let want = (0..last).map(|at| of_layers[2..5].iter().map(|layer| layer[at]).sum::<f64>() / 3.0);
    let error = looked.weights.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max);
    println!("last row of the picture: largest error {error:.1e}");
    assert!(looked.weights.len() == last && error < 1e-5, "{error}");
}

#[test]
fn windows_and_spans_are_seen_on_the_cpu() {
    windows_and_spans_are_seen(Cpu::new);
}

#[test]
#[cfg(feature = "gpu")]
fn windows_and_spans_are_seen_on_the_gpu() {
    if gpu::is_missing() {
        return;
    }
    windows_and_spans_are_seen(gpu::float_backends());
}

#[test]
fn attention_is_that_of_a_decoder_in_double_precision() {
    let reference = Reference::open(&format!("tiny-llava/{MODEL}"));
    let mut engine = tiny_llava(MODEL, MMPROJ, options()).expect("loads");
    let image = picture("chelsea.png");
    let answer = ask(&mut engine, &image);
    let (rows, _) = pollster::block_on(engine.embed_image(&image)).expect("embeds");
    let before = saved(&mut engine);
    let n_prompt = answer.usage.prompt_tokens;
    let mut other = tiny_llava(MODEL, MMPROJ, options()).expect("loads");
    let (embeddings, first_row) = embedded(&mut other, &reference, (PROMPT, &image), &answer, &rows);
    for i in [0, 1, 4, 9] {
        let position = n_prompt + i;
        let looked = looked_at(&mut engine, position, Some(answer.ids[i]));
        assert_sound(&looked, &format!("token {i}"));
        assert_eq!(looked.layers, 1..2, "the middle one of three layers");
        let want = &reference.attention_of_the_last(embeddings[..position].to_vec())[1];
        let error = looked.weights.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("token {i}: largest error {error:.1e} of probabilities up to {:.3}", want.iter().copied().fold(0.0, f64::max));
        // Weights are 16-bit floats on both sides; activations are 32-bit floats here.
        assert!(looked.weights.len() == position && error < 1e-5, "token {i}: {error}");
        let [picture] = &looked.pictures[..] else { panic!("one picture") };
        assert_eq!(picture.shape, [4, 4]);
        let share: f64 = want[first_row..first_row + 16].iter().sum();
        assert!((picture.share - share).abs() < 1e-5);
        for (got, want) in picture.data.iter().zip(&want[first_row..]) {
            assert!((f64::from(*got) - want).abs() < 1e-5);
        }
    }
    assert_eq!(saved(&mut engine), before, "looking changes nothing");
}

fn saved<B: Backend>(engine: &mut Engine<B>) -> Vec<u8> {
    let mut bytes = Vec::new();
    pollster::block_on(engine.save_session(&mut |piece| bytes.extend_from_slice(piece))).expect("saves");
    bytes
}

#[test]
#[cfg(feature = "gpu")]
fn both_devices_and_both_formats_see_the_same() {
    if gpu::is_missing() {
        return;
    }
    let image = picture("astronaut.png");
    for kv_format in [KvFormat::F32, KvFormat::F16] {
        let load = || LoadOptions { kv_format, ..options() };
        let mut cpu = tiny_llava(MODEL, MMPROJ, load()).expect("loads");
        let backend = Gpu::new(gpu::device(DeviceOptions::default())).expect("a backend");
        let mut gpu = tiny_llava_on(backend, MODEL, MMPROJ, load()).expect("loads");
        let answer = ask(&mut cpu, &image);
        // The very same keys and values.
        let session = saved(&mut cpu);
        pollster::block_on(gpu.restore_session(session.as_slice())).expect("restores");
        for i in [0, 3, 7] {
            let position = answer.usage.prompt_tokens + i;
            let [a, b] = [looked_at(&mut cpu, position, None), looked_at(&mut gpu, position, None)];
            assert_sound(&b, "on the GPU");
            let difference = a.weights.iter().zip(&b.weights).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            println!("{kv_format:?}, token {i}: largest difference {difference:.1e}");
            assert!(difference < 1e-5, "{kv_format:?}, token {i}: {difference}");
        }
        assert_eq!(saved(&mut gpu), session, "looking changes nothing");
    }
}

#[test]
fn pictures_in_tiles_are_laid_over_their_grids() {
    let mut engine = tiny_llava(MODEL, "tiny-llava-next/mmproj-legacy-f16.gguf", options()).expect("loads");
    let images = [picture("coffee_tall.png"), picture("chelsea.png")];
    let content =
        json!([{ "type": "image", "image": 0 }, { "type": "image", "image": 1 }, { "type": "text", "text": "Compare." }]);
    let request = json!({ "messages": [{ "role": "user", "content": content }], "temperature": 0, "max_tokens": 4 });
    let answer = chat(&mut engine, request, &images).expect("answers");
    let looked = looked_at(&mut engine, answer.usage.prompt_tokens + 2, None);
    assert_sound(&looked, "tiles");
    assert_eq!(looked.pictures.len(), 2);
    for (picture, image) in looked.pictures.iter().zip(&images) {
        let [rows, cols] = picture.shape;
        println!("{} × {} pixels: {rows} × {cols}", image.width(), image.height());
        assert_eq!(rows > cols, image.height() > image.width(), "the grid is of the picture's shape");
        assert_eq!(picture.bounds, [0.0, 0.0, 1.0, 1.0]);
        // All but what was on the ends of lines.
        let on_grid: f64 = picture.data.iter().copied().map(f64::from).sum();
        assert!(on_grid < picture.share && on_grid > 0.5 * picture.share, "{on_grid} of {}", picture.share);
    }
}

#[test]
fn the_grid_lies_where_the_picture_was_padded_or_cut() {
    let mut engine = tiny_llava(MODEL, MMPROJ, options()).expect("loads");
    let image = picture("coffee_tall.png");
    let answer = ask(&mut engine, &image);
    let looked = looked_at(&mut engine, answer.usage.prompt_tokens, None);
    let [left, top, right, bottom] = looked.pictures[0].bounds;
    let side = image.width().max(image.height()) as f64;
    let beside = (side - image.width() as f64) / 2.0 / image.width() as f64;
    assert!(image.height() > image.width() && beside > 0.0, "a tall one");
    assert!((left + beside).abs() < 1e-9 && (right - 1.0 - beside).abs() < 1e-9, "{left} … {right}");
    assert_eq!([top, bottom], [0.0, 1.0]);
}

#[test]
fn what_cannot_be_seen_is_said_so() {
    let mut engine = tiny_llava(MODEL, MMPROJ, options()).expect("loads");
    let fails = |engine: &mut Engine<Cpu>, position: usize, token: Option<u32>| {
        let error = pollster::block_on(engine.looked_at(position, token)).expect_err("cannot be seen");
        assert_eq!(error.code(), "invalid_request", "{error}");
        error.message().to_string()
    };
    fails(&mut engine, 0, None);
    fails(&mut engine, 5, None);
    complete(&mut engine, json!({ "prompt": "One two three", "max_tokens": 4 }), &[]).expect("answers");
    assert!(fails(&mut engine, 2, None).contains("No picture"));
    let answer = ask(&mut engine, &picture("chelsea.png"));
    let position = answer.usage.prompt_tokens;
    looked_at(&mut engine, position, Some(answer.ids[0]));
    assert!(fails(&mut engine, position, Some(answer.ids[0] + 1)).contains("any more"));
    assert!(fails(&mut engine, position + 10, None).contains("any more"));
    assert!(fails(&mut engine, 3, None).contains("No picture"));
    // The answer's last token was never run, and yet predicted.
    looked_at(&mut engine, position + 9, Some(answer.ids[9]));
    engine.reset();
    fails(&mut engine, position, None);
}
