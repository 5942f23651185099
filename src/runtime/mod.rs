//! Running a model: what is asked ([`request`]), which token comes next ([`sampler`]), where to stop ([`stop`]), what of the
//! context is already computed ([`session`]), and the engine that holds it all ([`engine`]).

pub mod engine;
pub mod request;
pub mod sampler;
pub mod session;
pub mod stop;
