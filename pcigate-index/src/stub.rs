//! The shape of the public API before its bodies.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use pcigate_ledger::{Directory, Hash, ReadError};

use crate::question::{Column, Question, Selection, SqlLimits, Value};

/// Sizes and times of the index.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rows kept in memory at most; when full they are flushed before more are taken in.
    pub tail_rows: usize,
    /// Age of the oldest row in memory at which `advance` flushes.
    pub flush_after: Duration,
    /// Memory of one query at most, bytes.
    pub query_memory_bytes: usize,
    /// Queries at a time; one more waits.
    pub queries_max: usize,
    /// Rows of a row group.
    pub row_group_rows: usize,
    /// Rows of a file that compaction makes, at most.
    pub file_rows: usize,
    /// How long a query waits for the index to come to its size.
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
            file_rows: 524_288,
            wait_max: Duration::from_secs(10),
        }
    }
}

/// Why the index cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory cannot be used.
    #[error("{path}: the index cannot use it; make it writable or delete {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Why the index does not come further, or cannot be kept in order. What it had stays.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// The ledger cannot be read.
    #[error("the index cannot read the ledger")]
    Read {
        /// The file.
        #[source]
        source: ReadError,
    },
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is not accepted: tell the person.
    #[error("{text}")]
    Statement {
        /// A sentence.
        text: String,
    },
    /// A limit ended it: tell the person.
    #[error("{text}")]
    Limit {
        /// A sentence naming the limit.
        text: String,
    },
    /// The index has not come to the leaf in time.
    #[error(
        "the index has come to leaf {indexed} of {size}; ask again, or see the collector's log"
    )]
    Behind {
        /// Leaves in the index.
        indexed: u64,
        /// Leaves asked for.
        size: u64,
    },
    /// A file of the index is damaged: internal.
    #[error("{file} of the index is damaged; run `pcigate-collector reindex`")]
    Damaged {
        /// The file.
        file: String,
    },
    /// The engine failed: internal.
    #[error("the query engine failed: {text}")]
    Engine {
        /// What it says.
        text: String,
    },
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Leaves that queries see.
    pub indexed: u64,
    /// Leaves that are durable in the index.
    pub flushed: u64,
    /// Rows in memory.
    pub tail_rows: u64,
    /// Parquet files.
    pub files: u64,
    /// Bytes of the Parquet files.
    pub bytes: u64,
}

/// The index.
#[derive(Clone, Debug)]
pub struct Index {
    indexed: Arc<AtomicU64>,
}

impl Index {
    /// Opens.
    ///
    /// # Errors
    /// Io.
    #[allow(clippy::needless_pass_by_value)]
    pub fn open(
        _dir: &Path,
        _ledger: Directory,
        _size: u64,
        _root: Hash,
        _settings: Settings,
    ) -> Result<Self, OpenError> {
        Ok(Self { indexed: Arc::default() })
    }

    /// Leaves `0..indexed()` are answered from the index.
    #[must_use]
    pub fn indexed(&self) -> u64 {
        self.indexed.load(Ordering::Acquire)
    }

    /// Figures for metrics.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::default()
    }

    /// Advances.
    ///
    /// # Errors
    /// Ledger or disk.
    pub fn advance(&self, to: u64) -> Result<u64, AdvanceError> {
        self.indexed.store(to, Ordering::Release);
        Ok(to)
    }

    /// Flushes.
    ///
    /// # Errors
    /// Disk.
    pub fn flush(&self) -> Result<(), AdvanceError> {
        Ok(())
    }

    /// One step of compaction; `true`: there is more to do.
    ///
    /// # Errors
    /// Disk.
    pub fn compact(&self, _now: SystemTime) -> Result<bool, AdvanceError> {
        Ok(false)
    }

    /// Selects.
    ///
    /// # Errors
    /// See [`QueryError`].
    #[allow(clippy::unused_async)]
    pub async fn select(&self, _question: &Question, _size: u64) -> Result<Selection, QueryError> {
        Ok(Selection::default())
    }

    /// Counts what a Deletion would remove.
    ///
    /// # Errors
    /// See [`QueryError`].
    #[allow(clippy::unused_async)]
    pub async fn count_before(
        &self,
        _class: &str,
        _before_unix_nano: u64,
        _size: u64,
    ) -> Result<u64, QueryError> {
        Ok(0)
    }

    /// Answers a statement.
    ///
    /// # Errors
    /// See [`QueryError`].
    #[allow(clippy::unused_async)]
    pub async fn sql(
        &self,
        _statement: &str,
        _limits: SqlLimits,
        _size: u64,
    ) -> Result<Answer, QueryError> {
        Err(QueryError::Statement { text: "sql: not available yet".to_owned() })
    }

    /// Runs the question and shows how.
    ///
    /// # Errors
    /// See [`QueryError`].
    #[allow(clippy::unused_async)]
    pub async fn explain(&self, _question: &Question, _size: u64) -> Result<String, QueryError> {
        Ok(String::new())
    }

    /// Runs the statement and shows how.
    ///
    /// # Errors
    /// See [`QueryError`].
    #[allow(clippy::unused_async)]
    pub async fn explain_sql(
        &self,
        _statement: &str,
        _limits: SqlLimits,
        _size: u64,
    ) -> Result<String, QueryError> {
        Ok(String::new())
    }
}

/// The answer to a statement, row by row.
#[derive(Debug)]
pub struct Answer {
    columns: Vec<Column>,
}

impl Answer {
    /// Its columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The next row; `None` after the last.
    ///
    /// # Errors
    /// A limit, or a damaged file.
    #[allow(clippy::unused_async)]
    pub async fn next(&mut self) -> Result<Option<Vec<Value>>, QueryError> {
        Ok(None)
    }

    /// Whether the limit of rows cut the answer; known after the last row.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        false
    }
}

/// Deletes what the index keeps in `dir` (not the cursors), so that the next `open` starts anew.
///
/// # Errors
/// The system refuses.
pub fn remove(_dir: &Path) -> io::Result<()> {
    Ok(())
}
