//! What turns a model into answers: choosing tokens, knowing where to stop.

pub mod sampler;
pub mod stop;
