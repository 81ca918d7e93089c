//! Why the index cannot be opened, does not come further, or has no answer.

use std::{io, path::PathBuf};

use pcigate_ledger::{ProveError, ReadError};

use crate::files::FileError;

/// Why the index cannot be opened. What can be derived again is no reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory cannot be used.
    #[error("{path}: the index cannot use the directory; make it readable and writable")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The threads of the query engine cannot be started.
    #[error("the threads of the query engine cannot be started; raise the limit of threads")]
    Threads {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The store refuses the directory.
    #[error("{path}: the object store cannot use the directory")]
    Store {
        /// The directory.
        path: PathBuf,
        /// What it says.
        #[source]
        source: object_store::Error,
    },
}

/// Why the index does not come further, or cannot be kept in order. What it had stays.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError {
    /// A bundle of the ledger cannot be read.
    #[error("the index cannot read the ledger")]
    Read {
        /// The file.
        #[source]
        source: ReadError,
    },
    /// A tile of the ledger cannot be read.
    #[error("the index cannot compute the ledger's root")]
    Root {
        /// The file.
        #[source]
        source: ProveError,
    },
    /// A leaf is not a record.
    #[error(
        "leaf {leaf} is not a record: the ledger was changed; run `pcigate verify` and restore \
         it from a copy"
    )]
    Leaf {
        /// The leaf.
        leaf: u64,
    },
    /// A file of the index cannot be written or read.
    #[error("a file of the index cannot be used")]
    File {
        /// Which, and why.
        #[source]
        source: FileError,
    },
    /// The manifest cannot be replaced.
    #[error("{path}: the manifest of the index cannot be replaced; make room on its disk")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Rows do not fit together.
    #[error("the index cannot put its rows together")]
    Rows {
        /// What the library says.
        #[source]
        source: datafusion::arrow::error::ArrowError,
    },
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The statement is not accepted: for the person.
    #[error("{text}")]
    Statement {
        /// A sentence.
        text: String,
    },
    /// A limit ended it: for the person.
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
    /// A file of the index is damaged.
    #[error("{file} of the index is damaged or cannot be read; run `pcigate-collector reindex`")]
    Damaged {
        /// The file, below the index directory.
        file: String,
    },
    /// The engine failed for a reason of its own.
    #[error("the query engine failed: {text}")]
    Engine {
        /// What it says.
        text: String,
    },
}

impl From<FileError> for AdvanceError {
    fn from(source: FileError) -> Self {
        Self::File { source }
    }
}
