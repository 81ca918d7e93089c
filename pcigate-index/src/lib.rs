//! The columnar index: what is derived from the ledger so that questions are answered fast.
//!
//! One row per leaf, in Parquet files below `index/events` and, for the newest leaves, in memory.
//! Everything here can be deleted and is derived again from the ledger. The only crate that names
//! DataFusion, Arrow and Parquet; docs/sql.md explains the columns.

mod error;
mod question;
mod settings;

mod blocks;
mod compact;
mod files;
mod index;
mod ledger;
mod manifest;
mod narrow;
mod partition;
mod retention;
mod rows;
mod schema;
mod writer;

mod engine;
mod filter;
mod functions;
mod select;
mod sql;
mod statement;
mod store;
mod table;
mod values;

pub use error::{AdvanceError, OpenError, QueryError};
pub use index::{Index, Status, remove};
pub use question::{Column, Destination, Question, Selection, SqlLimits, Value};
pub use settings::Settings;
pub use sql::Answer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
