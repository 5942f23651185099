//! One error enum, by cause. Each variant has the stable code that JavaScript sees as `LlavaError.code`.

use std::fmt;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $new:ident;)*) => {
        /// What went wrong. The text says what was wrong (with names and both numbers) and what to do about it, in
        /// sentences a person who opened a web page can read.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Error { $($(#[$doc])* $variant(String),)* }

        impl Error {
            /// The stable code of this cause, as in the JavaScript contract.
            pub fn code(&self) -> &'static str { match self { $(Self::$variant(_) => $code,)* } }

            /// What was wrong and what to do.
            pub fn message(&self) -> &str { match self { $(Self::$variant(m) => m,)* } }

            /// The error of the cause with this code; an unknown code is `internal`.
            pub fn from_code(code: &str, message: impl Into<String>) -> Self {
                match code { $($code => Self::$new(message),)* _ => Self::internal(message) }
            }

            $($(#[$doc])* pub fn $new(message: impl Into<String>) -> Self { Self::$variant(without_long_words(message.into())) })*
        }
    };
}

causes! {
    /// The bytes are not a GGUF file, or are damaged or contradictory.
    InvalidGguf = "invalid_gguf", invalid_gguf;
    /// A sound file whose network this program does not implement.
    UnsupportedArchitecture = "unsupported_architecture", unsupported_architecture;
    /// A tensor is stored in a format this program does not read.
    UnsupportedQuantization = "unsupported_quantization", unsupported_quantization;
    /// The vision file does not belong to this language model.
    MmprojMismatch = "mmproj_mismatch", mmproj_mismatch;
    /// A download failed.
    Network = "network", network;
    /// The bytes are not the ones that were asked for (hash or length).
    Integrity = "integrity", integrity;
    /// The browser's storage failed or is full.
    Storage = "storage", storage;
    /// The model or a request needs more memory than there is.
    OutOfMemory = "out_of_memory", out_of_memory;
    /// The GPU went away.
    DeviceLost = "device_lost", device_lost;
    /// The conversation does not fit into the context.
    ContextOverflow = "context_overflow", context_overflow;
    /// The picture cannot be decoded or is beyond the limits.
    InvalidImage = "invalid_image", invalid_image;
    /// The caller asked for something that makes no sense or does not exist.
    InvalidRequest = "invalid_request", invalid_request;
    /// The browser lacks something this program cannot do without.
    UnsupportedBrowser = "unsupported_browser", unsupported_browser;
    /// The caller stopped it.
    Aborted = "aborted", aborted;
    /// A fault of this program.
    Internal = "internal", internal;
}

/// Bytes of a name or a value from a file or a request that an error shows at most.
pub const MOST_SHOWN: usize = 200;

/// A name or a value from a file or a request as an error shows it: the beginning of a long one.
pub fn shown(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= MOST_SHOWN {
        return text.into();
    }
    let end = text.floor_char_boundary(MOST_SHOWN - 40);
    format!("{}… ({} bytes)", &text[..end], text.len()).into()
}

/// A message whose words are all of a length that somebody could have written: names from a file and what parsers quote of it may be of
/// any length, and come into messages in many places. Values that may have blanks in them take [`shown`].
fn without_long_words(message: String) -> String {
    without_long_middle(with_words_cut(message))
}

/// Bytes of a message at most: names from a file may have blanks in them too.
const MOST_SAID: usize = 3000;

/// The beginning and the end, which says what to do.
fn without_long_middle(message: String) -> String {
    if message.len() <= MOST_SAID {
        return message;
    }
    let (end, start) = (message.floor_char_boundary(MOST_SAID / 2), message.ceil_char_boundary(message.len() - MOST_SAID / 4));
    format!("{} … {}", &message[..end], &message[start..])
}

fn with_words_cut(message: String) -> String {
    if message.split_ascii_whitespace().all(|word| word.len() <= MOST_SHOWN) {
        return message;
    }
    let words = message.split(' ').map(|word| if word.len() > MOST_SHOWN { shown(word) } else { word.into() });
    words.collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_wherever_they_come_from() {
        let name = "ä".repeat(1000);
        for error in [
            Error::invalid_gguf(format!("The tensor '{name}' is listed twice.")),
            Error::from_code("network", format!("{name} {name}")),
        ] {
            let message = error.message();
            assert!(message.len() < 2 * MOST_SHOWN + 50, "{message}");
            assert!(message.contains("(2"), "it says how long it was: {message}");
        }
        assert!(Error::invalid_gguf(format!("The tensor '{name}' is listed twice.")).message().ends_with("is listed twice."));
        let name = "ä b".repeat(4000);
        let error = Error::invalid_gguf(format!("The tensor '{name}' is listed twice."));
        assert!(error.message().len() <= MOST_SAID && error.message().ends_with("is listed twice."), "{error}");
        assert_eq!(shown("short"), "short");
        assert!(shown(&"a b ".repeat(100)).len() <= MOST_SHOWN);
        let plain = "Words of the usual length. ".repeat(100);
        assert_eq!(Error::storage(plain.clone()).message(), plain);
    }

    #[test]
    fn code_survives_the_round_trip() {
        let error = Error::context_overflow("too long");
        assert_eq!(Error::from_code(error.code(), error.message()), error);
        assert_eq!(Error::from_code("nonsense", "x").code(), "internal");
    }
}
