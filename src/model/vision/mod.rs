//! Vision towers: from pixels to one row of features per patch, or per block of patches.

mod config;
mod positions;
mod vit;

pub use config::{Activation, Corners, PositionTable, VitConfig, Windows, is_siglip};
pub use vit::{Vit, VitJob};
