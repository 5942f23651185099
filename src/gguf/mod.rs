//! Reading GGUF files: the header from a prefix, then the tensors one by one from ranged sources.
//!
//! [`source`] is where bytes come from, [`header`] parses the front part, [`metadata`] holds its key-value pairs, and
//! [`Gguf`] joins the one or several files of a model into one index of tensors.

pub mod header;
pub mod metadata;
pub mod source;

mod file;

pub use file::{Gguf, Tensor};
pub use header::{Header, Parsed, TensorInfo};
pub use metadata::{Metadata, Value};
pub use source::{LocalFuture, MemorySource, RangedSource};
