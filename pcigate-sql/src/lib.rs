//! What a SQL text would do.

#![forbid(unsafe_code)]

mod bounds;
mod catalog;
mod classify;
mod data;
mod ddl;
mod parse;
mod refusal;
mod session;
mod settings;
mod statement;
mod utility;
mod walk;

pub use bounds::{MAX_STATEMENTS, MAX_TEXT, MAX_TOKENS};
pub use catalog::{Catalog, Relation};
pub use classify::{classify, text};
pub use refusal::Refusal;
pub use session::{MAX_HELD, MAX_PREPARED, Session, Settings};
pub use statement::{Copy, CopyEnd, Naming, Output, Source, Statement};
