//! Checks a whole state directory, or a backup of one: files, hashes, signature, every record.
//!
//! One thread reads and hashes ([`pcigate_ledger::verify`]), this one decodes what the other has
//! checked: completeness (PCI DSS 10.2.2), and per spool sequence numbers without holes or repeats
//! except where the ledger says so. Read only; beside a running collector it checks as far as the
//! checkpoint said at the start.

mod leaves;
mod tree;

use std::{
    io,
    path::Path,
    sync::{
        Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use pcigate_ledger::{
    Directory, Report, TileKind, TilePath, TileSource, VerifierKey, VerifyError, verify,
};

use crate::{
    backup::{self, BackupError},
    index::Index,
    ledger::Durable,
};
use leaves::Leaves;
pub use leaves::Wrong;
pub use tree::LeftOver;

/// Bundles between the two threads.
const BUNDLES_BETWEEN: usize = 256;
/// Wrong leaves that are named; the others are only counted.
const NAMED_MAX: usize = 10;

/// What was found.
#[derive(Debug)]
pub struct Findings {
    /// The log that was checked: name, leaves, root; or the first thing wrong with it.
    pub verified: Result<Report, VerifyError>,
    /// Leaves that are wrong in themselves or do not follow on the others: the first, in order.
    pub wrong: Vec<Wrong>,
    /// How many there are.
    pub wrong_count: u64,
    /// Records of nodes.
    pub records: u64,
    /// Spools of nodes.
    pub spools: usize,
    /// Gap records, and how many numbers they cover.
    pub gaps: (u64, u64),
    /// Conflict records.
    pub conflicts: u64,
    /// The saved cursors against the ledger.
    pub cursors: CursorState,
    /// Files nobody needs: harmless.
    pub left_over: LeftOver,
}

/// What was found out about `index/cursors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorState {
    /// There is none; it will be rebuilt.
    None,
    /// It does not belong to this ledger or is not whole; it will be rebuilt.
    Ignored,
    /// It says what the ledger says at its size.
    Right(u64),
    /// It is whole, of this ledger, and says something else.
    Wrong(u64),
}

impl Findings {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.verified.is_ok()
            && self.wrong_count == 0
            && !matches!(self.cursors, CursorState::Wrong(_))
    }
}

/// Checks the state directory or backup `dir`; `progress` is told how many leaves are checked, and
/// how many there are.
///
/// # Errors
/// There is no ledger to check, or it cannot be read at all.
pub fn fsck(dir: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Findings, BackupError> {
    let ledger = dir.join("ledger");
    let key = backup::verifier_key(dir)?;
    // The cursors first: they are written after the checkpoint they speak of.
    let saved = Index::saved(dir);
    let note = backup::checkpoint(&ledger)?.ok_or_else(|| BackupError::NoLedger {
        dir: dir.display().to_string(),
        missing: "ledger/checkpoint".to_owned(),
    })?;
    let opened = backup::open(&key, &note, &ledger)?;
    let (size, root) = (opened.size, opened.root);
    let durable = Durable { size, root, checkpoint: note.clone() };
    let source = Directory::new(&ledger);
    let snapshot = saved.as_deref().map(|text| Index::parse(text, &source, &durable));
    let stop_at = match &snapshot {
        Some(Some(index)) => index.snapshot_size(),
        _ => 0,
    };
    let mut leaves = Leaves::new(key.name(), stop_at);
    let verified = check(&source, note, &key, &mut leaves, |done| progress(done, size));
    let cursors = match (&snapshot, &leaves.at_snapshot) {
        (None, _) => CursorState::None,
        (Some(None), _) => CursorState::Ignored,
        (Some(Some(saved)), Some(replayed)) if saved.same_as(replayed) => {
            CursorState::Right(stop_at)
        }
        (Some(Some(_)), Some(_)) => CursorState::Wrong(stop_at),
        // What is wrong before it is named already.
        (Some(Some(_)), None) => CursorState::Ignored,
    };
    let left_over = tree::left_over(&ledger, size);
    let spools = leaves.spools();
    let Leaves { wrong, wrong_count, records, gaps, conflicts, .. } = leaves;
    Ok(Findings {
        verified,
        wrong,
        wrong_count,
        records,
        spools,
        gaps,
        conflicts,
        cursors,
        left_over,
    })
}

/// Verifies in another thread and looks into each bundle that passed.
fn check(
    source: &Directory,
    checkpoint: Vec<u8>,
    key: &VerifierKey,
    leaves: &mut Leaves,
    mut progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    let (bundles, passed) = sync_channel::<(u64, Vec<u8>)>(BUNDLES_BETWEEN);
    thread::scope(|scope| {
        let verifier = scope.spawn(move || {
            let tee = Tee { source, checkpoint, last: Mutex::default() };
            verify(&tee, key, None, |done| tee.pass(done, &bundles))
        });
        for (done, bundle) in passed {
            leaves.bundle(done, &bundle);
            progress(done);
        }
        // A panic there is passed on here.
        verifier.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Keeps the bundle that was read last.
struct Tee<'a> {
    source: &'a Directory,
    checkpoint: Vec<u8>,
    last: Mutex<Vec<u8>>,
}

impl TileSource for Tee<'_> {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if path == "checkpoint" {
            return Ok(Some(self.checkpoint.clone()));
        }
        let read = self.source.read(path)?;
        let is_bundle = TilePath::parse(path).is_some_and(|tile| tile.kind == TileKind::Entries);
        if let (true, Some(bytes)) = (is_bundle, &read) {
            self.last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(bytes);
        }
        Ok(read)
    }
}

impl Tee<'_> {
    /// Hands over the bundle whose last leaf is `done - 1`.
    fn pass(&self, done: u64, bundles: &SyncSender<(u64, Vec<u8>)>) {
        let bytes = std::mem::take(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner));
        // The other side only ends before this one when it panics.
        drop(bundles.send((done, bytes)));
    }
}

#[cfg(test)]
mod tests;
