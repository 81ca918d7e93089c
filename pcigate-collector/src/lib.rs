//! The collector: takes records from nodes, keeps them in the ledger, answers people.
//!
//! ```text
//! node ─▶ ingest ─▶ bounded queue ─▶ writer (one thread) ─▶ ledger on disk ─▶ Ack
//!                                      ▲ Query records          │
//! person ─▶ evidence ──────────────────┘◀───────────────────────┤ reads files
//!              └─▶ index ◀─ indexer ◀───────────────────────────┘ follows
//! ```
//!
//! The ledger is the truth; `index/` can be deleted and is rebuilt from it. Nothing here
//! looks into what a record says beyond its completeness, and no record content is ever logged.

pub mod backup;
pub mod certificates;
pub mod clock;
pub mod config;
pub mod cursors;
pub mod enroll;
pub mod evidence;
pub mod fsck;
pub mod guarded;
pub mod identity;
pub mod index;
pub mod indexer;
pub mod ingest;
pub mod issue;
pub mod ledger;
pub mod listener;
pub mod logging;
pub mod metrics;
pub mod occasionally;
pub mod records;
pub mod reindex;
pub mod restore;
pub mod retention;
pub mod server;
pub mod storage;
pub mod web;
pub mod writer;
