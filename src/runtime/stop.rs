//! Ends a streamed text where one of the caller's stop strings appears, however the tokens cut it.

use crate::error::{Error, Result};

/// The most stop strings of a request.
pub const MAX_STOPS: usize = 16;
/// The longest stop string, in bytes.
pub const MAX_STOP_BYTES: usize = 1024;

/// A filter for streamed text: it lets through what is certainly before any stop string and holds back an end that may
/// be the beginning of one.
///
/// The text ends before the stop string that is complete first; of several complete at the same place, the longest counts.
/// What comes out is therefore the same however the text is cut into pieces.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    matched: Option<usize>,
}

impl StopMatcher {
    /// A filter for these stop strings; with none, everything passes at once.
    ///
    /// # Errors
    /// `invalid_request` where there are more than [`MAX_STOPS`], or one is empty or longer than [`MAX_STOP_BYTES`].
    pub fn new(stops: Vec<String>) -> Result<Self> {
        if stops.len() > MAX_STOPS {
            return Err(Error::invalid_request(format!("'stop' has {} strings; at most {MAX_STOPS} are allowed.", stops.len())));
        }
        if stops.iter().any(String::is_empty) {
            return Err(Error::invalid_request("'stop' has an empty string, which would end every reply at once; leave it out."));
        }
        if let Some(long) = stops.iter().find(|s| s.len() > MAX_STOP_BYTES) {
            return Err(Error::invalid_request(format!(
                "'stop' has a string of {} bytes; at most {MAX_STOP_BYTES} are allowed.",
                long.len()
            )));
        }
        Ok(Self { stops, held: String::new(), matched: None })
    }

    /// Takes the next piece of text and returns what can be shown now. After a stop string nothing more comes out.
    pub fn push(&mut self, piece: &str) -> String {
        if self.finished() {
            return String::new();
        }
        self.held.push_str(piece);
        let found = |(i, stop): (usize, &String)| self.held.find(stop.as_str()).map(|at| (at + stop.len(), at, i));
        if let Some((_, at, i)) = self.stops.iter().enumerate().filter_map(found).min() {
            self.matched = Some(i);
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let rest = self.held.split_off(self.certain());
        std::mem::replace(&mut self.held, rest)
    }

    /// Returns what was held back: for when the text ends without a stop string.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Whether a stop string was found.
    pub fn finished(&self) -> bool {
        self.matched.is_some()
    }

    /// The stop string that was found.
    pub fn matched(&self) -> Option<&str> {
        self.matched.map(|i| self.stops[i].as_str())
    }

    /// How many bytes of the held text no stop string can begin in.
    fn certain(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let begins = |at: &usize| {
            let end = &self.held.as_bytes()[*at..];
            self.stops.iter().any(|stop| stop.as_bytes().starts_with(end))
        };
        (from..self.held.len()).filter(|&at| self.held.is_char_boundary(at)).find(begins).unwrap_or(self.held.len())
    }
}
