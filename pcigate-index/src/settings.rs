//! Sizes and times of the index.

use std::time::Duration;

/// Sizes and times of the index.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rows kept in memory at most; when full they are flushed before more are taken in.
    pub tail_rows: usize,
    /// Age of the oldest row in memory at which `advance` flushes.
    pub flush_after: Duration,
    /// Memory of the engine for one query at most, bytes.
    pub query_memory_bytes: usize,
    /// Queries at a time; one more waits.
    pub queries_max: usize,
    /// Rows of a row group.
    pub row_group_rows: usize,
    /// Rows of a file that compaction makes, at most.
    pub file_rows: usize,
    /// How long a query waits for the index to come to its size, and for its turn.
    pub wait_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tail_rows: 131_072,
            flush_after: Duration::from_secs(60),
            query_memory_bytes: 256 << 20,
            queries_max: 4,
            row_group_rows: 131_072,
            file_rows: 262_144,
            wait_max: Duration::from_secs(10),
        }
    }
}
