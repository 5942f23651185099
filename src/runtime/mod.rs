//! Running a model: what is asked ([`request`]) and with which tools ([`tools`]), which token comes next ([`sampler`]), which may come next ([`grammar`]), where to stop
//! ([`stop`]), what the answer says ([`answer_text`]) and calls ([`call_reader`]), what of the context is already computed ([`session`]) and how it is saved ([`saved_session`]), which pictures were seen
//! ([`pictures`]), where the model looked ([`looked_at`]), what is told about it ([`report`]), how far to
//! compute ahead of the token that is waited for ([`ahead`]), whether a model fits (`memory`), the engine that holds it all
//! ([`engine`]), and what it does when its device goes away ([`recovery`]).

pub mod ahead;
pub mod answer_text;
pub mod call_reader;
pub mod engine;
pub mod grammar;
pub mod looked_at;
mod memory;
pub mod pictures;
pub mod prompt;
pub mod recovery;
pub mod report;
pub mod request;
pub mod sampler;
pub mod saved_session;
pub mod session;
pub mod stop;
pub mod tools;
