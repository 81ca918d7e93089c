//! The gateway between real programs and a real PostgreSQL 15: who may say what, what comes back,
//! and what is recorded first.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod approval;
mod budgets;
mod channels;
mod clients;
mod dangers;
mod decisions;
mod drivers;
mod freshness;
mod gate;
mod leaks;
mod load;
#[path = "../postgres/client.rs"]
#[allow(dead_code, reason = "it has more than these tests need")]
mod raw;
mod records;
mod roles;
#[path = "../../../pcigate-sql/tests/suite/dangers.rs"]
mod texts;
