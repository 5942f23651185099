//! Tokens that the device chooses by itself. While the host waits for one, the device runs it already and chooses those behind it
//! ([`Device::LOOK_AHEAD`](crate::backend::Device::LOOK_AHEAD)); what turns out not to be wanted, because the answer ended, is forgotten.

use std::collections::VecDeque;

use crate::backend::Backend;
use crate::backend::choice::Choice;
use crate::error::Result;
use crate::model::decoder::Decoder;
use crate::runtime::sampler::not_a_number;
use crate::runtime::session::{Session, Slot};

/// Tokens under way at most, however late they come.
const MAX_LOOK_AHEAD: usize = 8;
/// A wait of so many milliseconds is long, and one of so few none.
const LONG_WAIT: f64 = 40.0;
const NO_WAIT: f64 = 4.0;

/// How many tokens are under way behind the one that is waited for. Some browsers look only ten times a second whether a device has
/// answered: then several tokens come at once after a long wait, and more under way means fewer waits.
struct LookAhead {
    n: usize,
    waited_long: bool,
}

impl LookAhead {
    fn waited(&mut self, milliseconds: f64) {
        if self.waited_long && milliseconds < NO_WAIT && self.n > 0 {
            self.n = (2 * self.n).min(MAX_LOOK_AHEAD);
        }
        self.waited_long = milliseconds > LONG_WAIT;
    }
}

/// A generation whose tokens were chosen on a device that is gone.
pub struct Drawing {
    choice: Choice,
    again: VecDeque<f64>,
}

/// A generation whose tokens are chosen on the device.
pub struct Ahead<B: Backend> {
    choice: Choice,
    look_ahead: LookAhead,
    /// Chosen on the device and not yet known here, with the random numbers they were drawn by.
    under_way: VecDeque<(B::Chosen, f64)>,
    /// Random numbers of tokens that were under way on a device that is gone.
    again: VecDeque<f64>,
    /// Known here, but the context does not hold them yet.
    pending: VecDeque<u32>,
    /// Tokens that were chosen on a device before this one.
    n_before: usize,
    /// Tokens of this device known here.
    n_known: usize,
    /// Tokens whose run is recorded: the first of them stands behind the prompt.
    n_run: usize,
}

impl<B: Backend> Ahead<B> {
    /// A generation by this rule. The logits of the prompt's last position are in the model.
    pub fn new(choice: Choice) -> Self {
        Self {
            choice,
            look_ahead: LookAhead { n: B::LOOK_AHEAD, waited_long: false },
            under_way: VecDeque::new(),
            again: VecDeque::new(),
            pending: VecDeque::new(),
            n_before: 0,
            n_known: 0,
            n_run: 0,
        }
    }

    /// What is left of it when its device is gone: what was under way will be drawn by the same random numbers again.
    pub fn drawing(self) -> Drawing {
        Drawing { choice: self.choice, again: self.under_way.iter().map(|(_, unit)| *unit).chain(self.again).collect() }
    }

    /// Goes on with it on another device, behind `n_generated` tokens that were given out.
    pub fn resumed(Drawing { choice, again }: Drawing, n_generated: usize) -> Self {
        Self { again, n_before: n_generated, ..Self::new(choice) }
    }

    /// Records what the device can do before the next token is known here, up to `max_tokens` in all; `unit` gives random numbers.
    pub fn fill(
        &mut self,
        backend: &mut B,
        llm: &mut dyn Decoder<B>,
        session: &mut Session<B>,
        max_tokens: usize,
        mut unit: impl FnMut() -> f64,
    ) {
        while self.under_way.len() <= self.look_ahead.n && self.n_before + self.n_known + self.under_way.len() < max_tokens {
            if self.n_known + self.under_way.len() > 0 {
                // Known or under way, all tokens but the last are run; the context holds those that are known.
                let position = session.slots.len() + self.n_run.saturating_sub(self.n_known - self.pending.len());
                llm.embed_chosen(backend);
                llm.step(backend, &mut session.cache, position);
                self.n_run += 1;
            }
            let unit = self.again.pop_front().unwrap_or_else(&mut unit);
            self.under_way.push_back((backend.choose(llm.logits(), &self.choice, unit), unit));
        }
        self.keep(session);
    }

    /// Waits for the next token.
    ///
    /// # Errors
    /// `invalid_gguf` where a logit was no finite number; `device_lost`, after which the same tokens can be chosen on another device.
    pub async fn next(&mut self, backend: &mut B, session: &mut Session<B>) -> Result<Option<u32>> {
        let Some((token, unit)) = self.under_way.pop_front() else { return Ok(None) };
        let id = match backend.chosen(token).await {
            Ok(id) => id.ok_or_else(not_a_number)?,
            Err(error) => {
                let units = std::iter::once(unit).chain(self.under_way.drain(..).map(|(_, unit)| unit));
                self.again = units.chain(std::mem::take(&mut self.again)).collect();
                return Err(error);
            }
        };
        self.n_known += 1;
        self.pending.push_back(id);
        self.keep(session);
        Ok(Some(id))
    }

    /// Learns from how long the last token was waited for, in milliseconds.
    pub fn waited(&mut self, milliseconds: f64) {
        self.look_ahead.waited(milliseconds);
    }

    /// Notes what the context holds now: tokens that are both known and run.
    fn keep(&mut self, session: &mut Session<B>) {
        while self.n_known - self.pending.len() < self.n_run {
            let Some(id) = self.pending.pop_front() else { return };
            session.slots.push(Slot::Token(id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_come_several_at_once_are_looked_further_ahead_for() {
        let mut ahead = LookAhead { n: 2, waited_long: false };
        // A slow device: every token takes its time.
        [90.0, 80.0, 100.0].into_iter().for_each(|ms| ahead.waited(ms));
        assert_eq!(ahead.n, 2);
        for want in [4, 8, 8] {
            [100.0, 0.5, 0.5].into_iter().for_each(|ms| ahead.waited(ms));
            assert_eq!(ahead.n, want);
        }
        let mut never = LookAhead { n: 0, waited_long: false };
        [100.0, 0.5].into_iter().for_each(|ms| never.waited(ms));
        assert_eq!(never.n, 0);
    }
}
