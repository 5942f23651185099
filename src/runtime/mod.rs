//! Running a model: what is asked ([`request`]), which token comes next ([`sampler`]), where to stop ([`stop`]), what of the
//! context is already computed ([`session`]), which pictures were seen ([`pictures`]), what is told about it ([`report`]), and the engine that
//! holds it all ([`engine`]).

pub mod ahead;
pub mod engine;
pub mod pictures;
pub mod report;
pub mod request;
pub mod sampler;
pub mod session;
pub mod stop;
