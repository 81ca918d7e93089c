//! The columnar index: what is derived from the ledger so that questions are answered fast.
//!
//! One row per leaf, in Parquet files below `index/events` and, for the newest leaves, in memory.
//! Everything here can be deleted and is derived again from the ledger. The only crate that names
//! DataFusion, Arrow and Parquet; docs/sql.md explains the columns.

mod question;
mod stub;

pub use question::{Column, Destination, Question, Selection, SqlLimits, Value};
pub use stub::{AdvanceError, Answer, Index, OpenError, QueryError, Settings, Status, remove};
