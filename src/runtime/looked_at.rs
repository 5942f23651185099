//! Where the model looked before it wrote a token: the attention of the position that predicted it over the rows of the pictures.
//!
//! It is computed afterwards and on demand: the position is run once more over the keys and values that the context holds, which changes
//! nothing there, and its queries are held against the keys on the host. An answer costs nothing more for it. Where a model has convolutions,
//! the positions since the last that can be gone on from are run with it.
//!
//! **Layers and heads.** The mean over all heads of the middle third of the layers that have attention. The first layers look almost evenly at everything, and
//! the last ones at what comes next in the sentence; what a word is about is found in a picture between them (Zhang et al. 2025,
//! arXiv 2502.17422).
//!
//! **Sinks.** Some rows draw attention whatever is written (Kang et al. 2025, arXiv 2503.03321), and would outshine all others. So
//! there is, beside the bare probabilities, what sets this position apart: with `a` its distribution over the picture's rows and
//! `b` the mean distribution of other positions of the text behind the picture, `a · ln(a / b)` where that is positive: the row's part of
//! the Kullback-Leibler divergence. A sink has `a ≈ b` and vanishes; a bare quotient would blow up rows that nobody looks at.

use std::ops::Range;

use crate::backend::{Backend, KvPart};
use crate::error::{Error, Result};
use crate::runtime::engine::Engine;
use crate::runtime::session::Slot;

/// Other positions that are compared with: each costs as much as the one that is asked for.
const MAX_OTHERS: usize = 6;
/// Bytes of keys that are held at a time.
const PIECE: usize = 8 << 20;

/// Where the model looked.
#[derive(Debug, Clone, PartialEq)]
pub struct LookedAt {
    /// The layers whose attention this is the mean of.
    pub layers: Range<usize>,
    /// The probabilities over all positions up to the one that predicted the token (or, where that is a row of a picture whose rows see each
    /// other, up to the picture's end); their sum is 1.
    pub weights: Vec<f64>,
    /// The pictures before it, in their order.
    pub pictures: Vec<PictureAttention>,
}

/// Attention over one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureAttention {
    /// Rows and columns of the grid.
    pub shape: [usize; 2],
    /// The probability of each of its places, row by row.
    pub data: Vec<f32>,
    /// What sets the position apart from others, relative to the largest.
    pub salience: Vec<f32>,
    /// Where the grid lies in the picture: left, top, right, bottom in units of its width and height.
    pub bounds: [f64; 4],
    /// How much of the attention was on the picture.
    pub share: f64,
}

/// The middle third.
fn middle(n_layers: usize) -> Range<usize> {
    n_layers / 3..(2 * n_layers).div_ceil(3)
}

/// At most `n` of these, evenly spaced.
fn spaced(all: &[usize], n: usize) -> Vec<usize> {
    (0..n.min(all.len())).map(|i| all[i * all.len() / n.min(all.len())]).collect()
}

/// What sets `a` apart from the mean of the others, all of them distributions up to a factor; the largest is 1.
fn salience(a: &[f64], others: &[Vec<f64>]) -> Vec<f64> {
    let total: f64 = a.iter().sum();
    if total <= 0.0 {
        return vec![0.0; a.len()];
    }
    // One that does not look at the picture at all says nothing of what it draws.
    let others: Vec<(&[f64], f64)> =
        others.iter().map(|other| (other.as_slice(), other.iter().sum::<f64>())).filter(|(_, total)| *total > 0.0).collect();
    let mut mean = vec![0.0; a.len()];
    for (other, total) in &others {
        for (mean, x) in mean.iter_mut().zip(*other) {
            *mean += x / total / others.len() as f64;
        }
    }
    let part = |(a, b): (&f64, &f64)| {
        let a = a / total;
        if others.is_empty() {
            a
        } else if a > *b && *b > 0.0 {
            a * (a / b).ln()
        } else {
            0.0
        }
    };
    let mut out: Vec<f64> = a.iter().zip(&mean).map(part).collect();
    let largest = out.iter().copied().fold(0.0, f64::max);
    if largest > 0.0 {
        out.iter_mut().for_each(|x| *x /= largest);
    }
    out
}

impl<B: Backend> Engine<B> {
    /// Where the model looked before it wrote the token at a position of the context, which may be the one behind the last. With
    /// `token` given, that is what must stand there.
    ///
    /// # Errors
    /// `invalid_request` while an answer is generated, where the context does not hold that position (any more), where something else
    /// stands there, or no picture stands before it; `device_lost`.
    pub async fn looked_at(&mut self, position: usize, token: Option<u32>) -> Result<LookedAt> {
        if self.is_generating() {
            return Err(Error::invalid_request(
                "Where the model looked cannot be seen while an answer is being written. Wait for its end.",
            ));
        }
        let slots = &self.session.slots;
        let found = slots.get(position).and_then(Slot::token);
        if position == 0 || position > slots.len() || (token.is_some() && position < slots.len() && token != found) {
            return Err(Error::invalid_request(format!(
                "The context of {} tokens does not hold what was written at position {position} any more. Ask the question again.",
                slots.len()
            )));
        }
        let query = position - 1;
        let runs = picture_runs(&slots[..position]);
        let Some(last) = runs.last() else {
            return Err(Error::invalid_request(format!("No picture stands before position {position} of the context.")));
        };
        let behind = last.last().map_or(0, |slot| slot + 1);
        let text: Vec<usize> = (behind..slots.len()).filter(|i| *i != query && matches!(slots[*i], Slot::Token(_))).collect();
        let positions: Vec<usize> = [query].into_iter().chain(spaced(&text, MAX_OTHERS)).collect();
        let attending = &self.llm.dims().attention_layers;
        let of_cache = middle(attending.len());
        let layers = attending[of_cache.start]..attending[of_cache.end - 1] + 1;
        let computed = self.attention_of(&positions, &of_cache).await;
        let mut all = self.trusted(computed).await?.into_iter();
        let weights = all.next().unwrap_or_default();
        let others: Vec<Vec<f64>> = all.collect();
        let vision = self.vision.as_ref().ok_or_else(|| Error::internal("The vision model is gone."))?;
        let mut pictures = Vec::new();
        for rows in runs {
            let Slot::Picture { hash, .. } = self.session.slots[rows[0]] else { continue };
            let place = self.session.place(hash).ok_or_else(|| Error::internal("A picture's place is not known."))?;
            let of_rows = |all: &[f64]| rows.iter().map(|slot| all[*slot]).collect::<Vec<f64>>();
            let weights = of_rows(&weights);
            let others: Vec<Vec<f64>> = others.iter().map(|other| of_rows(other)).collect();
            let (data, shape) = place.over_picture(&weights)?;
            let (salience, _) = place.over_picture(&salience(&weights, &others))?;
            let largest = salience.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
            #[expect(clippy::cast_possible_truncation, reason = "summed in f64, told in f32")]
            pictures.push(PictureAttention {
                shape,
                data: data.into_iter().map(|x| x as f32).collect(),
                salience: salience.into_iter().map(|x| (x / largest) as f32).collect(),
                bounds: vision.grid_bounds(place),
                share: weights.iter().sum(),
            });
        }
        Ok(LookedAt { layers, weights, pictures })
    }

    /// For each of some positions of the context its attention over all positions up to itself, the mean over these layers of the cache
    /// and all heads.
    async fn attention_of(&mut self, positions: &[usize], layers: &Range<usize>) -> Result<Vec<Vec<f64>>> {
        let Self { backend, llm, session, pictures, .. } = self;
        let (attention, n_kv) = (llm.dims().attention, llm.dims().n_kv());
        let heads = attention.heads;
        let n_run = llm.dims().attention_layers[layers.end - 1] + 1;
        let mut queries = backend.tensor(positions.len() * layers.end, llm.dims().n_q())?;
        for (i, position) in positions.iter().enumerate() {
            let first = llm.start_again(*position);
            let n = position + 1 - first;
            for (row, slot) in session.slots[first..=*position].iter().enumerate() {
                match *slot {
                    Slot::Token(id) => llm.embed(backend, &[id], row),
                    Slot::Picture { hash, row: from } => {
                        let kept = pictures.get(hash).filter(|picture| (from as usize) < picture.n_rows);
                        let picture = kept.ok_or_else(|| {
                            Error::invalid_request(
                                "The picture is not kept any more, and the token follows it at once. Ask the question again.",
                            )
                        })?;
                        backend.copy_rows(&picture.embedding.rows, from as usize, llm.rows(), row, 1);
                    }
                }
            }
            let mut row = i * layers.end;
            for layer in 0..n_run {
                if let Some(turned) = llm.layer_again(backend, &session.cache, layer, first, n) {
                    backend.copy_rows(turned, n - 1, &mut queries, row, 1);
                    row += 1;
                }
                for (row, slot) in session.slots[first..=*position].iter().enumerate() {
                    if let Slot::Picture { hash, row: from } = *slot
                        && let Some(picture) = pictures.get(hash)
                        && let Some(rows) = picture.embedding.deeper.get(layer)
                    {
                        llm.add_rows(backend, rows, from as usize, row, 1);
                    }
                }
            }
            backend.settle(false).await?;
        }
        let mut turned = Vec::new();
        backend.read(&queries, 0, positions.len() * layers.end, &mut turned).await?;
        let n_q = llm.dims().n_q();
        // Behind the last key that each sees.
        let ends: Vec<usize> = positions.iter().map(|position| llm.end_of(*position)).collect();
        let n_keys = ends.iter().copied().max().unwrap_or(0);
        let spec = llm.dims().kv_spec(session.n_ctx, self.kv_format);
        let n_at_once = (PIECE / spec.row_bytes()).max(1);
        let mut means: Vec<Vec<f64>> = ends.iter().map(|end| vec![0.0; *end]).collect();
        // Scores of each position and head with every key, `[positions, n_heads, n_keys]`.
        let n_scores = positions.len().saturating_mul(heads.n_heads).saturating_mul(n_keys);
        let mut scores: Vec<f64> = Vec::new();
        scores.try_reserve_exact(n_scores).map_err(|_| {
            Error::out_of_memory(format!(
                "There is not enough memory for the attention over {n_keys} positions: {n_scores} numbers."
            ))
        })?;
        scores.resize(n_scores, 0.0);
        let (mut bytes, mut keys) = (Vec::new(), Vec::new());
        for layer in layers.clone() {
            for first in (0..n_keys).step_by(n_at_once) {
                let n = n_at_once.min(n_keys - first);
                backend.kv_read(&session.cache, KvPart::Keys, layer..layer + 1, first, n, &mut bytes).await?;
                spec.floats(&bytes, &mut keys);
                for (i, end) in ends.iter().enumerate() {
                    let q = &turned[(i * layers.end + layer) * n_q..][..n_q];
                    for (head, q) in q.chunks_exact(heads.head_dim).enumerate() {
                        let kv_head = head * heads.n_kv_heads / heads.n_heads * heads.head_dim;
                        let scores = &mut scores[(i * heads.n_heads + head) * n_keys..][..n_keys];
                        for key in first..(first + n).min(*end) {
                            let k = &keys[(key - first) * n_kv + kv_head..][..heads.head_dim];
                            let product = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                            scores[key] = attention.score(product);
                        }
                    }
                }
            }
            // The mask is the layer's own.
            let mask = llm.dims().attention_of(llm.dims().attention_layers[layer]).mask;
            for (i, mean) in means.iter_mut().enumerate() {
                let seen = mask.keys(positions[i], ends[i], ends[i]);
                let mean = &mut mean[seen.clone()];
                for head in 0..heads.n_heads {
                    let scores = &mut scores[(i * heads.n_heads + head) * n_keys..][seen.clone()];
                    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
                    let total = scores.iter().sum::<f64>() * (heads.n_heads * layers.len()) as f64;
                    mean.iter_mut().zip(&*scores).for_each(|(mean, weight)| *mean += weight / total);
                }
            }
        }
        Ok(means)
    }
}

/// Where whole pictures stand: the positions of each one's rows, between which there may be text.
fn picture_runs(slots: &[Slot]) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut last = None;
    for (i, slot) in slots.iter().enumerate() {
        if let Slot::Picture { hash, row } = *slot {
            match runs.last_mut() {
                Some(run) if row > 0 && last == Some((hash, row - 1)) => run.push(i),
                _ => runs.push(vec![i]),
            }
            last = Some((hash, row));
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_vanishes_and_what_is_looked_at_alone_stays() {
        // The first row draws everybody, the third only this position; the fourth is noise that nobody looks at.
        let a = [0.30, 0.01, 0.05, 0.0002, 0.01];
        let other = [0.30, 0.01, 0.005, 0.00002, 0.01];
        let found = salience(&a, &[other.to_vec(), other.to_vec()]);
        assert_eq!(found[2], 1.0);
        assert!(found[0] < 0.1 && found[1] < 0.1 && found[3] < 0.05, "{found:?}");
        // Alone it is the distribution.
        assert_eq!(salience(&[1.0, 3.0], &[]), [1.0 / 3.0, 1.0]);
        assert_eq!(salience(&[1.0, 3.0], &[vec![0.0, 0.0]]), [1.0 / 3.0, 1.0]);
        assert_eq!(salience(&[0.0, 0.0], &[vec![1.0, 1.0]]), [0.0, 0.0]);
    }

    #[test]
    fn layers_in_the_middle() {
        assert_eq!([1, 2, 3, 6, 32].map(middle), [0..1, 0..2, 1..2, 2..4, 10..22]);
        assert_eq!(spaced(&[5, 6, 7, 8, 9, 10, 11], 3), [5, 7, 9]);
        assert_eq!(spaced(&[5, 6], 6), [5, 6]);
        assert_eq!(spaced(&[], 6), [0usize; 0]);
    }
}
