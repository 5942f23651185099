//! The networks, written once over [`Backend`](crate::backend::Backend): a vision tower and its projector
//! ([`vision`], [`projector`]), a language model ([`lm`], which is to others a [`decoder`]), and the pair of them ([`llava`]). Which there are
//! says the [`registry`].
//!
//! A model is loaded in two steps. From the metadata alone it makes a configuration and a [`weights::Plan`]: every tensor it
//! wants, with its shape. The plan is checked against the files' tensor lists, so that a missing, surplus or mis-shaped tensor
//! is named before a byte of weights is read. Then the tensors are read in the order they stand in the file and go straight to
//! the backend.

pub mod conv_state;
pub mod decoder;
pub mod llava;
pub mod lm;
pub mod markup;
pub mod positions;
pub mod projector;
pub mod registry;
pub mod vision;
pub mod weights;

mod downsample;
mod keys;
mod rope;
