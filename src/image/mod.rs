//! From the bytes of a picture to the numbers a vision tower reads.
//!
//! ```text
//! file bytes ─▶ decode ─▶ RgbImage ─▶ preprocess ─▶ Pixels [3, H, W] a tile ─▶ patches [rows, 3·p·p]
//! canvas RGBA ─▶ from_rgba ┘              └ resample: Pillow's 8-bit filters, to the bit
//! ```
//!
//! * [`decode`](mod@decode) turns hostile bytes into upright 8-bit RGB, or into an error a person can act on.
//! * [`resample`] shrinks and enlarges exactly as the reference implementation's imaging library does.
//! * [`preprocess`] follows the recipe that the model's `mmproj` file asks for: pad, crop, or cut into tiles.
//! * [`sizes`] has the arithmetic of sizes that recipes share.
//! * [`place`] knows where the rows that the tiles become lie in the picture.
//!
//! Nothing here knows a backend or a JavaScript type. The models were trained on pixels made by these very recipes, so the
//! result is held to bit equality with the reference rather than to a tolerance.

pub mod decode;
pub mod place;
pub mod preprocess;
pub mod resample;
pub mod sizes;

pub use decode::{RgbImage, decode, from_rgba};
pub use place::{Grid, Layout, Place};
pub use preprocess::{Mode, Pixels, PreprocessSpec, in_blocks, patches, projector_type};
