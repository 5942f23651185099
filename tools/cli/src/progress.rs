//! Progress bars on standard error, where that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar.
pub struct Bar(ProgressBar);

impl Bar {
    /// One for work in so many parts.
    pub fn new(what: &str, n: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(n), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {percent}% {eta}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_string());
        Self(bar)
    }

    /// Says that so many more are done.
    pub fn add(&self, n: u64) {
        self.0.inc(n);
    }

    /// Says how many are done, of how many.
    pub fn set(&self, what: &str, n: u64, of: u64) {
        self.0.set_message(what.to_string());
        self.0.set_length(of);
        self.0.set_position(n);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
