//! One gated PostgreSQL session: who may say what, what comes back masked, and what is recorded
//! first.

#![forbid(unsafe_code)]

mod cancel;
mod engine;
mod error;
mod framed;
mod known;
mod opening;
mod plan;
mod record;
mod rows;
mod serve;
mod stream;
pub mod tls;
mod upstream;

pub use cancel::Keys;
pub use error::SessionEnd;
pub use known::Knowledge;
pub use plan::{Dial, Dialling, Limits, Password, Plan};
pub use record::{
    Direction, Door, Entry, Event, MaskedCounts, NotRecorded, StatementEnd, StatementEvent, Step,
};
pub use serve::{Client, serve};

pub use pcigate_policy::mask::Masked;
