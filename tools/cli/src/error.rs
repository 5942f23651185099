//! What went wrong, said so that a person can do something about it.

use std::fmt;
use std::path::Path;

/// A fault and its remedy.
#[derive(Debug)]
pub struct Error(String);

/// What most of this program gives back.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// One that says this.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A file that could not be opened, read or written.
    pub fn of_file(what: &str, path: &Path, cause: &dyn fmt::Display) -> Self {
        Self(format!("'{}' could not be {what}: {cause}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<llava_web::Error> for Error {
    fn from(error: llava_web::Error) -> Self {
        Self(error.message().to_string())
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<crate::pack::PackError> for Error {
    fn from(error: crate::pack::PackError) -> Self {
        Self(error.to_string())
    }
}
