//! What can go wrong with a spool, each with its remedy.

use std::io;
use std::path::{Path, PathBuf};

use pcigate_proto::record::RECORD_BYTES_MAX;

/// Why the spool cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The limits contradict each other.
    #[error(
        "spool limits: segments of {segment_bytes} bytes and a reserve of {reserve_bytes} do not \
         fit {total_bytes} bytes in all; use at least 16 MiB in all"
    )]
    Limits {
        /// Bytes in all.
        total_bytes: u64,
        /// Bytes per segment.
        segment_bytes: u64,
        /// Bytes in reserve.
        reserve_bytes: u64,
    },
    /// The system refused an operation on a file.
    #[error("spool: cannot {action} {}: {hint}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What to do about it.
        hint: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process uses the spool.
    #[error(
        "spool {} is in use by another process: stop the other agent, or give this one another \
         stateDir", dir.display()
    )]
    Locked {
        /// The spool's directory.
        dir: PathBuf,
    },
    /// Another program version wrote the file.
    #[error(
        "{} has format version {found}; this agent reads version {supported}: start the agent \
         that wrote it until the collector has everything, or set the file aside with \
         `mv {} {}.corrupt`", path.display(), path.display(), path.display()
    )]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The file belongs to another spool.
    #[error(
        "{} belongs to another spool (epoch {found}, this one is {expected}): move it back where \
         it came from, or set it aside with `mv {} {}.corrupt`",
        path.display(), path.display(), path.display()
    )]
    Epoch {
        /// The segment.
        path: PathBuf,
        /// Its epoch, hex.
        found: String,
        /// The spool's epoch, hex.
        expected: String,
    },
    /// The files `epoch` or `acked` cannot be understood.
    #[error("{}: {problem}; {remedy}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Bytes that were durable are damaged.
    #[error(
        "{} is damaged at byte {offset}: {}; start the agent once with \
         --set-aside-corrupt-spool to keep what is readable and report the rest as a gap (or give \
         up the whole file with `mv {} {}.corrupt`)",
        path.display(), at_stake(*first_seq, *last_seq), path.display(), path.display()
    )]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// First byte that does not check out.
        offset: u64,
        /// First seq at stake.
        first_seq: u64,
        /// Last seq at stake, where a later frame or segment tells.
        last_seq: Option<u64>,
    },
    /// The spool holds all it may.
    #[error("the spool is full ({limit_bytes} bytes): {}", emptied_by(*held))]
    Full {
        /// The limit that was met.
        limit_bytes: u64,
        /// Nothing is deleted, see [`super::Spool::hold`].
        held: bool,
    },
    /// The file system holds all it can. The group was taken back.
    #[error("no space left for {}: free space on its file system", path.display())]
    DiskFull {
        /// The segment.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The staged group is as large as it may be: call [`Spool::sync`] and try again.
    #[error("the group of staged records is full; sync it first")]
    GroupFull,
    /// The record is larger than a record may be, or empty.
    #[error("a record of {bytes} bytes; 1 to {RECORD_BYTES_MAX} are allowed")]
    Size {
        /// Its size.
        bytes: usize,
    },
    /// The caller's number is not the next one.
    #[error("record {seq} does not follow: the next one is {next_seq}")]
    Order {
        /// The number given.
        seq: u64,
        /// The number expected.
        next_seq: u64,
    },
    /// Somebody acknowledged what was never durable here.
    #[error("record {seq} is acknowledged, but the last durable one is {durable_seq}")]
    AckBeyond {
        /// The number acknowledged.
        seq: u64,
        /// The last durable number.
        durable_seq: u64,
    },
}

fn emptied_by(held: bool) -> &'static str {
    if held {
        "nothing is deleted while the collector's ledger contradicts what this node has seen; look \
         into that, then restore the ledger, or delete the witness directory below stateDir and \
         start the agent again"
    } else {
        "it empties when the collector can be reached"
    }
}

fn at_stake(first: u64, last: Option<u64>) -> String {
    match last {
        Some(last) if last < first => "no record is lost".to_owned(),
        Some(last) => format!("records {first} to {last} are at stake"),
        None => format!("the records from {first} on are at stake"),
    }
}

/// An error of the system, with the remedy for its kind.
pub(super) fn io(source: io::Error, action: &'static str, path: &Path) -> SpoolError {
    let hint = match source.kind() {
        io::ErrorKind::NotFound => "it does not exist; check stateDir",
        io::ErrorKind::PermissionDenied => "run the agent as the owner of stateDir (root)",
        io::ErrorKind::ReadOnlyFilesystem => "mount stateDir on a writable file system",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free space on its file system"
        }
        io::ErrorKind::NotADirectory => "stateDir must be a directory",
        _ => "check the disk and the kernel log",
    };
    SpoolError::Io { action, path: path.to_owned(), hint, source }
}

/// An error while writing: a full disk is its own case, because it heals.
pub(super) fn write_error(source: io::Error, path: &Path) -> SpoolError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            SpoolError::DiskFull { path: path.to_owned(), source }
        }
        _ => io(source, "write", path),
    }
}
