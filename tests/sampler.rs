//! Choosing tokens and stopping.

use llava_web::backend::choice::Choice;
use llava_web::runtime::sampler::{REPETITION_WINDOW, Sampler, SamplerConfig, top_logprobs};
use llava_web::runtime::stop::{MAX_STOPS, StopMatcher};

fn sampler(config: SamplerConfig, n_vocab: usize) -> Sampler {
    Sampler::new(config, n_vocab).unwrap()
}

fn greedy() -> SamplerConfig {
    SamplerConfig { temperature: 0.0, ..SamplerConfig::default() }
}

/// A small generator for test inputs (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

/// How often each token is drawn in `n` draws from the same logits.
fn counts(config: SamplerConfig, logits: &[f32], n: usize) -> Vec<usize> {
    let mut sampler = sampler(config, logits.len());
    let mut logits = logits.to_vec();
    let mut counts = vec![0; logits.len()];
    for _ in 0..n {
        counts[sampler.sample(&mut logits, &[]).unwrap().id as usize] += 1;
    }
    counts
}

/// Pearson's statistic per degree of freedom; about 1 for a fair sample.
fn chi_square(counts: &[usize], probabilities: &[f64]) -> f64 {
    let n: usize = counts.iter().sum();
    let mut sum = 0.0;
    let mut kinds = 0;
    for (&count, &p) in counts.iter().zip(probabilities) {
        if p == 0.0 {
            assert_eq!(count, 0, "a token without probability was drawn");
            continue;
        }
        kinds += 1;
        sum += (count as f64 - n as f64 * p).powi(2) / (n as f64 * p);
    }
    sum / (kinds - 1) as f64
}

/// The probabilities left when only `keep` stay.
fn restricted(probabilities: &[f64], keep: &[usize]) -> Vec<f64> {
    let sum: f64 = keep.iter().map(|&i| probabilities[i]).sum();
    (0..probabilities.len()).map(|i| if keep.contains(&i) { probabilities[i] / sum } else { 0.0 }).collect()
}

const LOGITS: [f32; 6] = [0.0, 2.0, 1.0, -1.0, 1.5, 0.5];
const DRAWS: usize = 40_000;

#[test]
fn draws_follow_the_distribution() {
    for temperature in [0.5, 1.0, 1.7] {
        let config = SamplerConfig { temperature, seed: 42, ..SamplerConfig::default() };
        let chi = chi_square(&counts(config, &LOGITS, DRAWS), &softmax(&LOGITS, f64::from(temperature)));
        // 99.9 % of fair samples of five degrees of freedom are below 4.1.
        assert!(chi < 4.1, "temperature {temperature}: {chi}");
    }
}

#[test]
fn top_k_top_p_and_min_p_keep_the_right_tokens() {
    let p = softmax(&LOGITS, 1.0);
    let config = SamplerConfig { seed: 3, ..SamplerConfig::default() };
    for (config, keep) in [
        (SamplerConfig { top_k: 3, ..config.clone() }, vec![1, 4, 2]),
        (SamplerConfig { top_k: 1, ..config.clone() }, vec![1]),
        (SamplerConfig { top_k: 600, ..config.clone() }, vec![0, 1, 2, 3, 4, 5]),
        // The probabilities, sorted: .41 .25 .15 .09 .06 .02.
        (SamplerConfig { top_p: 0.6, ..config.clone() }, vec![1, 4]),
        (SamplerConfig { top_p: 0.7, ..config.clone() }, vec![1, 4, 2]),
        (SamplerConfig { top_p: 0.3, ..config.clone() }, vec![1]),
        (SamplerConfig { top_p: 0.0, ..config.clone() }, vec![1]),
        (SamplerConfig { min_p: 0.3, ..config.clone() }, vec![1, 4, 2]),
        (SamplerConfig { min_p: 1.0, ..config.clone() }, vec![1]),
        // Top-p judges what top-k left: .50 .31 .19.
        (SamplerConfig { top_k: 3, top_p: 0.75, ..config.clone() }, vec![1, 4]),
        (SamplerConfig { top_p: 0.7, min_p: 0.5, ..config }, vec![1, 4]),
    ] {
        let expected = restricted(&p, &keep);
        let counts = counts(config.clone(), &LOGITS, DRAWS);
        if keep.len() == 1 {
            assert_eq!(counts[keep[0]], DRAWS, "{config:?}");
        } else {
            assert!(chi_square(&counts, &expected) < 7.0, "{config:?}: {counts:?} for {expected:?}");
        }
    }
}

#[test]
fn temperature_comes_after_top_p() {
    // At temperature 2 the nucleus of .6 would hold three tokens; untempered it holds two.
    let config = SamplerConfig { temperature: 2.0, top_p: 0.6, seed: 9, ..SamplerConfig::default() };
    let counts = counts(config, &LOGITS, DRAWS);
    let expected = restricted(&softmax(&LOGITS, 2.0), &[1, 4]);
    assert!(chi_square(&counts, &expected) < 10.0, "{counts:?}");
}

#[test]
fn a_wide_nucleus_is_found_too() {
    // Even probabilities: the nucleus is the lowest ids, and far wider than the first look.
    let logits = vec![0.25f32; 5000];
    let config = SamplerConfig { top_p: 0.5, seed: 1, ..SamplerConfig::default() };
    let counts = counts(config, &logits, 4_000);
    let last = counts.iter().rposition(|&c| c > 0).unwrap();
    assert!((2480..=2500).contains(&last), "{last}");
}

#[test]
fn ties_go_to_the_lowest_id() {
    let mut logits = vec![1.0, 3.0, 3.0, 3.0, -2.0];
    assert_eq!(sampler(greedy(), 5).sample(&mut logits, &[]).unwrap().id, 1);
    let top: Vec<u32> = top_logprobs(&logits, 3).unwrap().iter().map(|t| t.id).collect();
    assert_eq!(top, [1, 2, 3]);
    let only = SamplerConfig { top_k: 2, seed: 5, ..SamplerConfig::default() };
    let counts = counts(only, &logits, 1000);
    assert_eq!(counts[1] + counts[2], 1000);
    assert_eq!(sampler(greedy(), 2).sample(&mut [0.0, -0.0], &[]).unwrap().id, 0);
}

#[test]
fn the_same_seed_draws_the_same_tokens() {
    let logits: Vec<f32> = (0..1000).map(|i| ((i * 37 % 101) as f32) / 20.0).collect();
    let draw = |seed, top_k, top_p| {
        let mut sampler = sampler(SamplerConfig { seed, top_k, top_p, ..SamplerConfig::default() }, 1000);
        let mut logits = logits.clone();
        (0..50).map(|_| sampler.sample(&mut logits, &[]).unwrap().id).collect::<Vec<_>>()
    };
    for (top_k, top_p) in [(0, 1.0), (40, 0.9), (0, 0.9)] {
        assert_eq!(draw(7, top_k, top_p), draw(7, top_k, top_p));
        assert_ne!(draw(7, top_k, top_p), draw(8, top_k, top_p));
    }
}

#[test]
fn repetition_penalty_divides_and_multiplies() {
    let config = SamplerConfig { repetition_penalty: 2.0, ..greedy() };
    let choose =
        |logits: &[f32], history: &[u32]| sampler(config.clone(), logits.len()).sample(&mut logits.to_vec(), history).unwrap().id;
    // 3 becomes 1.5; −1 becomes −2. Once, however often the token stands there.
    assert_eq!(choose(&[3.0, 1.6], &[0]), 1);
    assert_eq!(choose(&[3.0, 1.4], &[0]), 0);
    assert_eq!(choose(&[3.0, 1.4], &[0, 0, 0, 0]), 0);
    assert_eq!(choose(&[-1.0, -1.9], &[0]), 1);
    assert_eq!(choose(&[-1.0, -2.1], &[0]), 0);
    // Only the window counts, and ids without a token are passed over.
    let mut history = vec![0];
    history.extend(vec![u32::MAX; REPETITION_WINDOW - 1]);
    assert_eq!(choose(&[3.0, 1.6], &history), 1);
    history.push(u32::MAX);
    assert_eq!(choose(&[3.0, 1.6], &history), 0);
}

#[test]
fn frequency_and_presence_penalties_count_what_was_generated() {
    let mut logits = vec![3.0, 2.0, 0.0];
    // 3, then 2.5 and 2.0 (a tie: the lower id), then 1.5 < 2.
    let mut frequency = sampler(SamplerConfig { frequency_penalty: 0.5, ..greedy() }, 3);
    let ids: Vec<u32> = (0..5).map(|_| frequency.sample(&mut logits, &[1, 1, 1, 1]).unwrap().id).collect();
    assert_eq!(ids, [0, 0, 0, 1, 0]);
    let mut presence = sampler(SamplerConfig { presence_penalty: 1.5, ..greedy() }, 3);
    let ids: Vec<u32> = (0..4).map(|_| presence.sample(&mut logits, &[]).unwrap().id).collect();
    assert_eq!(ids, [0, 1, 0, 0]);
    let mut told = sampler(SamplerConfig { presence_penalty: 1.5, ..greedy() }, 3);
    told.record(0);
    assert_eq!(told.sample(&mut logits, &[]).unwrap().id, 1);
    // The caller's logits are as they were.
    assert_eq!(logits, [3.0, 2.0, 0.0]);
}

#[test]
fn biases_add_up_and_are_put_back() {
    let config = SamplerConfig { logit_bias: vec![(2, 1.5), (2, 1.0), (0, -100.0)], repetition_penalty: 1.1, ..greedy() };
    let mut logits = vec![3.0f32, 2.0, 0.0];
    assert_eq!(sampler(config, 3).sample(&mut logits, &[2, 0]).unwrap().id, 2);
    assert_eq!(logits, [3.0, 2.0, 0.0]);
}

#[test]
fn log_probabilities_are_the_models_own() {
    let p = softmax(&LOGITS, 1.0);
    let config = SamplerConfig { logprobs: true, logit_bias: vec![(3, 100.0)], temperature: 0.3, ..SamplerConfig::default() };
    let sampled = sampler(config, 6).sample(&mut LOGITS.to_vec(), &[]).unwrap();
    assert_eq!(sampled.id, 3);
    assert!((f64::from(sampled.logprob.unwrap()) - p[3].ln()).abs() < 1e-6);
    let top = top_logprobs(&LOGITS, 4).unwrap();
    assert_eq!(top.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 4, 2, 5]);
    for t in &top {
        assert!((f64::from(t.logprob) - p[t.id as usize].ln()).abs() < 1e-6);
    }
    assert_eq!(top_logprobs(&LOGITS, 100).unwrap().len(), 6);
    assert!(top_logprobs(&LOGITS, 0).unwrap().is_empty());
    assert_eq!(sampler(greedy(), 6).sample(&mut LOGITS.to_vec(), &[]).unwrap().logprob, None);
}

#[test]
fn broken_logits_are_errors() {
    for temperature in [0.0, 1.0] {
        let config = SamplerConfig { temperature, ..SamplerConfig::default() };
        for bad in [f32::NAN, f32::INFINITY] {
            let error = sampler(config.clone(), 3).sample(&mut [0.0, bad, 1.0], &[]).unwrap_err();
            assert_eq!(error.code(), "invalid_gguf");
            assert!(error.message().contains("not a number"));
        }
        let all = sampler(config.clone(), 3).sample(&mut [f32::NEG_INFINITY; 3], &[]).unwrap_err();
        assert_eq!(all.code(), "invalid_request");
        assert_eq!(sampler(config.clone(), 3).sample(&mut [0.0; 2], &[]).unwrap_err().code(), "internal");
        // Ruled-out tokens are never drawn.
        let mut some = [f32::NEG_INFINITY, -50.0, f32::NEG_INFINITY];
        assert!((0..100).all(|_| sampler(config.clone(), 3).sample(&mut some, &[]).unwrap().id == 1));
    }
    assert_eq!(top_logprobs(&[f32::NAN], 1).unwrap_err().code(), "invalid_gguf");
}

#[test]
fn extreme_temperatures_are_harmless() {
    for temperature in [f32::MIN_POSITIVE, 1e-6, 2.0] {
        let config = SamplerConfig { temperature, ..SamplerConfig::default() };
        let id = sampler(config, 3).sample(&mut [-3e38, 3e38, 0.0], &[]).unwrap().id;
        assert_eq!(id, 1);
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let default = SamplerConfig::default;
    let nan = f32::NAN;
    for (name, config) in [
        ("temperature", SamplerConfig { temperature: -0.1, ..default() }),
        ("temperature", SamplerConfig { temperature: nan, ..default() }),
        ("temperature", SamplerConfig { temperature: f32::INFINITY, ..default() }),
        ("top_p", SamplerConfig { top_p: 1.1, ..default() }),
        ("min_p", SamplerConfig { min_p: nan, ..default() }),
        ("repetition_penalty", SamplerConfig { repetition_penalty: 0.0, ..default() }),
        ("frequency_penalty", SamplerConfig { frequency_penalty: 2.5, ..default() }),
        ("presence_penalty", SamplerConfig { presence_penalty: -2.5, ..default() }),
        ("logit_bias[7]", SamplerConfig { logit_bias: vec![(7, 101.0)], ..default() }),
    ] {
        let error = config.validate().unwrap_err();
        assert_eq!(error.code(), "invalid_request");
        assert!(error.message().contains(&format!("'{name}'")), "{error}");
        assert!(Sampler::new(config, 10).is_err());
    }
    assert!(default().validate().is_ok());
    let error = Sampler::new(SamplerConfig { logit_bias: vec![(10, 1.0)], ..default() }, 10).unwrap_err();
    assert_eq!(error.code(), "invalid_request");
    assert_eq!(greedy().plain_choice(), Some(Choice::GREEDY));
    assert_eq!(default().plain_choice(), Some(Choice::default()));
    for config in [
        SamplerConfig { repetition_penalty: 1.1, ..greedy() },
        SamplerConfig { frequency_penalty: 0.1, ..default() },
        SamplerConfig { presence_penalty: 0.1, ..default() },
        SamplerConfig { logit_bias: vec![(1, 0.0)], ..greedy() },
        SamplerConfig { logprobs: true, ..greedy() },
    ] {
        assert_eq!(config.plain_choice(), None, "{config:?}");
    }
}

// ---- stop strings ----

fn stops(list: &[&str]) -> StopMatcher {
    StopMatcher::new(list.iter().map(|s| s.to_string()).collect()).unwrap()
}

#[test]
fn a_stop_string_is_found_across_tokens() {
    let mut stop = stops(&["</s>", "USER:"]);
    assert_eq!(stop.push("Hello <"), "Hello ");
    assert_eq!(stop.push("b> US"), "<b> ");
    assert_eq!(stop.push("ER"), "");
    assert!(!stop.finished());
    assert_eq!(stop.push(": next"), "");
    assert!(stop.finished());
    assert_eq!(stop.matched(), Some("USER:"));
    assert_eq!(stop.push("more") + &stop.flush(), "");
}

#[test]
fn what_was_held_back_comes_with_the_end() {
    let mut stop = stops(&["STOP"]);
    assert_eq!(stop.push("a ST"), "a ");
    assert_eq!(stop.flush(), "ST");
    assert!(!stop.finished());
    let mut none = stops(&[]);
    assert_eq!(none.push("all of it"), "all of it");
    assert_eq!(none.flush(), "");
}

#[test]
fn the_stop_that_is_complete_first_counts() {
    for pieces in [vec!["abcdX"], vec!["ab", "cdX"], vec!["a", "b", "c", "d", "X"]] {
        let mut stop = stops(&["abcdX", "c"]);
        let out: String = pieces.iter().map(|p| stop.push(p)).collect();
        assert_eq!((out.as_str(), stop.matched()), ("ab", Some("c")));
    }
    let mut longest = stops(&["b", "ab"]);
    assert_eq!(longest.push("xab"), "x");
    assert_eq!(longest.matched(), Some("ab"));
}

#[test]
fn senseless_stops_are_refused() {
    for list in [vec![String::new()], vec!["x".into(); MAX_STOPS + 1], vec!["x".repeat(1025)]] {
        assert_eq!(StopMatcher::new(list).unwrap_err().code(), "invalid_request");
    }
}

#[test]
fn any_chunking_gives_the_text_before_the_stop() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let letters = ['a', 'b', 'ä', '猫', '😀'];
    let mut found = 0;
    for _ in 0..5000 {
        let mut word = |n: usize| (0..n).map(|_| letters[random.below(letters.len())]).collect::<String>();
        let (text, stop) = (word(30), word(1 + 2));
        let mut matcher = stops(&[&stop]);
        let mut out = String::new();
        let mut chars = text.chars().peekable();
        while chars.peek().is_some() {
            let piece: String = chars.by_ref().take(random.below(5)).collect();
            out += &matcher.push(&piece);
            // Never ahead of the answer.
            assert!(text.split(&stop).next().unwrap().starts_with(&out));
        }
        out += &matcher.flush();
        assert_eq!(out, text.split(&stop).next().unwrap());
        assert_eq!(matcher.finished(), text.contains(&stop));
        found += usize::from(matcher.finished());
    }
    assert!(found > 500);
}

#[test]
fn chunking_does_not_matter_with_several_stops() {
    let mut random = Random(99);
    let letters = ['a', 'b', 'é'];
    for _ in 0..3000 {
        let mut word = |n: usize| (0..n).map(|_| letters[random.below(letters.len())]).collect::<String>();
        let text = word(40);
        let list = [word(2), word(3), word(5), word(4)];
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let mut whole = stops(&list);
        let expected = whole.push(&text) + &whole.flush();
        let mut cut = stops(&list);
        let mut out = String::new();
        for c in text.chars() {
            out += &cut.push(c.encode_utf8(&mut [0; 4]));
        }
        out += &cut.flush();
        assert_eq!(out, expected, "{text} {list:?}");
        assert_eq!(cut.matched(), whole.matched());
    }
}
