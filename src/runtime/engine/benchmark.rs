//! How fast an engine is.

use super::{BenchmarkReport, Engine, Prompt};
use crate::backend::choice::Choice;
use crate::backend::{Backend, Launches};
use crate::error::{Error, Result};
use crate::runtime::ahead::Ahead;

impl<B: Backend> Engine<B> {
    /// Measures prefill and decode on made-up tokens; forgets the conversation.
    ///
    /// # Errors
    /// `invalid_request` where the tokens do not fit into the context or there are none; what the backend has.
    pub async fn benchmark(&mut self, prompt_tokens: usize, generated_tokens: usize, runs: usize) -> Result<BenchmarkReport> {
        if prompt_tokens == 0
            || generated_tokens == 0
            || runs == 0
            || prompt_tokens.saturating_add(generated_tokens) > self.session.n_ctx
        {
            return Err(Error::invalid_request(format!(
                "A benchmark of {runs} runs with {prompt_tokens} + {generated_tokens} tokens cannot be made in a context of {}. Give at least 1 of \
                 each, and fewer tokens than the context holds.",
                self.session.n_ctx
            )));
        }
        let measured = self.measure(prompt_tokens, generated_tokens, runs).await;
        let (mut prefill, mut decode, launches_before) = self.trusted(measured).await?;
        self.reset();
        let decode = median(&mut decode);
        let launches = self.backend.launches();
        let per_token = |after: u64, before: u64| (after - before) as f64 / generated_tokens as f64;
        Ok(BenchmarkReport {
            dispatches_per_token: per_token(launches.dispatches, launches_before.dispatches),
            submits_per_token: per_token(launches.submits, launches_before.submits),
            prefill_tokens_per_second: median(&mut prefill),
            decode_tokens_per_second: decode,
            bytes_per_second: decode * self.llm_bytes as f64,
        })
    }

    /// The runs' tokens per second of prefill and of decode, and what had been launched before the last run's decode.
    async fn measure(
        &mut self,
        prompt_tokens: usize,
        generated_tokens: usize,
        runs: usize,
    ) -> Result<(Vec<f64>, Vec<f64>, Launches)> {
        let n_vocab = self.llm.dims().n_vocab as u64;
        #[expect(clippy::cast_possible_truncation, reason = "ids of a vocabulary have 32 bits")]
        let ids: Vec<u32> = (0..prompt_tokens as u64).map(|i| (i.wrapping_mul(2_654_435_761) % n_vocab) as u32).collect();
        let (mut prefill, mut decode) = (Vec::new(), Vec::new());
        let mut launches_before = self.backend.launches();
        // One run more than asked for: the first warms up caches and the browser's compiler.
        for counted in (0..=runs).map(|i| i > 0) {
            self.reset();
            let mut run = self.run(&Prompt::Tokens(&ids), &[])?;
            let start = (self.now)();
            while self.run_step(&mut run).await?.is_some() {
                self.pause().await?;
            }
            let mut ahead = Ahead::new(Choice::GREEDY);
            let Self { backend, llm, session, pause, .. } = self;
            ahead.fill(backend, llm.as_mut(), session, 1, || 0.0);
            ahead.next(backend, session).await?;
            let middle = (self.now)();
            launches_before = backend.launches();
            for _ in 0..generated_tokens {
                // As between the tokens of an answer.
                if let Some(pause) = pause {
                    pause().await?;
                }
                ahead.fill(backend, llm.as_mut(), session, 1 + generated_tokens, || 0.0);
                ahead.next(backend, session).await?;
            }
            let end = (self.now)();
            if counted {
                prefill.push(prompt_tokens as f64 / (middle - start).max(1e-3) * 1e3);
                decode.push(generated_tokens as f64 / (end - middle).max(1e-3) * 1e3);
            }
        }
        Ok((prefill, decode, launches_before))
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n.is_multiple_of(2) { (values[n / 2 - 1] + values[n / 2]) / 2.0 } else { values[n / 2] }
}
