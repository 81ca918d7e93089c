//! Whether the ledger can be written: room on its disk, what failed, and when that was told.
//!
//! A batch is refused while there is less room than [`RESERVE_BYTES`], so that the collector's own
//! records (who asked for evidence, start and stop) still find room when nodes' records do not.

use std::{
    fmt::Display,
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::statvfs::statvfs;

use crate::{
    metrics::{Metrics, gauge},
    occasionally::Occasionally,
};

/// Room kept for the collector's own records; a twentieth of a disk that is smaller than 1.25 GiB.
pub const RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// Whether writing is possible again is tried at most this often.
const TRY_EVERY: Duration = Duration::from_secs(1);
const PROBE_BYTES: usize = 4_096;
const MIB: u64 = 1024 * 1024;

/// Too little room for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the collector's disk has {} MiB left, of which {} MiB are kept for its own records: make \
     room on it", free / MIB, reserve.div_ceil(MIB)
)]
pub struct NoRoom {
    /// Bytes left.
    pub free: u64,
    /// Bytes kept.
    pub reserve: u64,
}

/// The state directory as a place to write to.
#[derive(Debug)]
pub struct Storage {
    ledger_dir: PathBuf,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// When writing was tried last, and what came of it. Not in `state`, so that the writer does
    /// not wait for a slow disk's answer to somebody else.
    tried: Mutex<Option<(Instant, Result<(), String>)>>,
}

#[derive(Debug, Default)]
struct State {
    /// A write failed, and none has succeeded since.
    failing: bool,
    /// Batches are refused for want of room.
    cramped: bool,
    /// Requests refused since the trouble began.
    refused: u64,
    told: Occasionally,
    told_end: Occasionally,
}

impl Storage {
    /// The storage below `state_dir`.
    #[must_use]
    pub fn new(state_dir: &Path, metrics: Arc<Metrics>) -> Self {
        metrics.ledger_writable.set(1);
        // It may be a disk of its own.
        let ledger_dir = state_dir.join("ledger");
        Self { ledger_dir, metrics, state: Mutex::default(), tried: Mutex::default() }
    }

    /// Whether there is room for records of nodes.
    ///
    /// # Errors
    /// There is less than the reserve.
    pub fn room(&self) -> Result<(), NoRoom> {
        // Where the system does not tell, writing will.
        let Some((free, size)) = self.measure() else { return Ok(()) };
        let reserve = RESERVE_BYTES.min(size / 20);
        if free < reserve { Err(NoRoom { free, reserve }) } else { Ok(()) }
    }

    /// Bytes left for us and bytes in all; brings the gauges of the disk up to date.
    pub fn measure(&self) -> Option<(u64, u64)> {
        let (free, size) = space(&self.ledger_dir)?;
        self.metrics.disk_free.set(gauge(free));
        self.metrics.disk_size.set(gauge(size));
        Some((free, size))
    }

    /// Whether a batch may be written now; a refusal is counted, and told now and then.
    ///
    /// # Errors
    /// There is less room than the reserve.
    pub fn admit(&self) -> Result<(), NoRoom> {
        let room = self.room();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(no_room) = &room {
            state.cramped = true;
            self.note(&mut state, 1, no_room);
        } else if std::mem::take(&mut state.cramped) {
            self.settle(&mut state);
        }
        room
    }

    /// Notes that requests were refused because a write failed; told now and then.
    pub fn failed(&self, requests: u64, reason: &dyn Display) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failing = true;
        self.note(&mut state, requests, reason);
    }

    /// Notes that a group is durable.
    pub fn succeeded(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.failing) {
            self.settle(&mut state);
        }
    }

    fn note(&self, state: &mut State, requests: u64, reason: &dyn Display) {
        self.metrics.ledger_write_failures.inc_by(requests);
        self.metrics.ledger_writable.set(0);
        state.refused += requests;
        if state.told.tell().is_some() {
            let refused = state.refused;
            tracing::error!(
                %reason,
                refused,
                "the ledger cannot be written; requests are refused until it can, and nodes keep \
                 their records"
            );
        }
    }

    fn settle(&self, state: &mut State) {
        if state.failing || state.cramped {
            return;
        }
        self.metrics.ledger_writable.set(1);
        let refused = std::mem::take(&mut state.refused);
        if state.told_end.tell().is_some() {
            tracing::info!(refused, "the ledger is written again");
        }
    }

    /// Whether a batch would be taken, as far as can be told.
    ///
    /// After a failure a small file is written and synced (at most once a second), because without
    /// that a collector taken out of service for being unready would never become ready.
    ///
    /// # Errors
    /// A sentence.
    pub fn ready(&self) -> Result<(), String> {
        self.room().map_err(|error| error.to_string())?;
        if !self.state.lock().unwrap_or_else(PoisonError::into_inner).failing {
            return Ok(());
        }
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, result)) = &*tried
            && at.elapsed() < TRY_EVERY
        {
            return result.clone();
        }
        let result = probe(&self.ledger_dir.join("probe"))
            .map_err(|error| format!("the ledger cannot be written: {error}"));
        *tried = Some((Instant::now(), result.clone()));
        result
    }
}

/// Bytes left for us and bytes in all, on the disk of a directory.
fn space(dir: &Path) -> Option<(u64, u64)> {
    let disk = statvfs(dir).ok()?;
    let unit = disk.fragment_size();
    Some((disk.blocks_available().saturating_mul(unit), disk.blocks().saturating_mul(unit)))
}

fn probe(path: &Path) -> io::Result<()> {
    let written = fs::File::create(path).and_then(|mut file| {
        file.write_all(&[0; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_makes_unready_until_writing_works_again() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let storage = Storage::new(dir.path(), Arc::clone(&metrics));
        assert_eq!(storage.ready(), Ok(()));
        let probe = dir.path().join("ledger/probe");
        fs::create_dir_all(&probe).unwrap();
        storage.failed(3, &"no space");
        assert!(storage.ready().unwrap_err().contains("cannot be written"));
        assert_eq!((metrics.ledger_write_failures.get(), metrics.ledger_writable.get()), (3, 0));
        fs::remove_dir(&probe).unwrap();
        *storage.tried.lock().unwrap() = None;
        assert_eq!(storage.ready(), Ok(()));
        storage.succeeded();
        assert_eq!(metrics.ledger_writable.get(), 1);
        assert!(!probe.exists());
    }
}
