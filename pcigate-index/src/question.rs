//! What a question may ask, and how SQL answers look from outside: plain types, no engine.

use std::{net::IpAddr, time::Duration};

use pcigate_proto::Verdict;

/// The filters of a question. All that are set must hold; an empty text or list is not set. The
/// meaning is that of the `QueryRequest` of `evidence.proto`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Earliest time, ns since 1970 UTC; 0 = open.
    pub since_unix_nano: u64,
    /// First time that is too late, ns since 1970 UTC; 0 = open.
    pub until_unix_nano: u64,
    /// Names of kinds as in [`pcigate_proto::record::KINDS`]; empty = all.
    pub kinds: Vec<String>,
    /// `Verdict::Unspecified` and `None` ask for any.
    pub verdict: Option<Verdict>,
    /// Of the workload.
    pub namespace: String,
    /// Of the workload.
    pub pod: String,
    /// Of the workload.
    pub service_account: String,
    /// Path of the acting or requested program; `*` matches any characters.
    pub executable: String,
    /// Where a connection went.
    pub destination: Option<Destination>,
    /// Made by the node, or by the collector about it.
    pub node: String,
    /// Beginning of a gated session's id in hex, small letters.
    pub session: String,
    /// Newest leaves to keep.
    pub limit: usize,
}

/// Where a connection went. A part that is `None` may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// Network address and prefix length. More bits than the address has mean all of them.
    pub network: Option<(IpAddr, u32)>,
    /// Port number.
    pub port: Option<u32>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The newest matching leaves, rising.
    pub leaves: Vec<u64>,
    /// All that match.
    pub matched: u64,
}

/// What one statement may take.
#[derive(Clone, Copy, Debug)]
pub struct SqlLimits {
    /// Most rows of the answer; more are cut off.
    pub rows: usize,
    /// Longest wall time.
    pub time: Duration,
    /// Most memory of the engine, bytes; never more than `Settings::query_memory_bytes`.
    pub memory: usize,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self { rows: 10_000, time: Duration::from_secs(30), memory: 256 << 20 }
    }
}

/// A column of an SQL answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// As the statement names it.
    pub name: String,
    /// As the engine calls its type, for people: `Utf8View`, `UInt64`, …
    pub type_name: String,
}

/// One value of an SQL answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A truth value.
    Bool(bool),
    /// A signed number.
    I64(i64),
    /// An unsigned number.
    U64(u64),
    /// A floating-point number.
    F64(f64),
    /// Text; also values of types without a case of their own, as the engine prints them.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Nanoseconds since 1970 UTC.
    TimeUnixNano(i64),
}
