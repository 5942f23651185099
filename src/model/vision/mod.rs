//! Vision towers: from pixels to one row of features per patch.

mod clip;
mod config;

pub use clip::{Clip, ClipJob};
pub use config::{Activation, ClipConfig};
