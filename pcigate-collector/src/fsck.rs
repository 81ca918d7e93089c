//! Checks a whole state directory, or a backup of one: files, hashes, signature, every record.
//!
//! One thread reads and hashes ([`pcigate_ledger::verify`]), others decode what it has checked:
//! completeness (PCI DSS 10.2.2), and per spool sequence numbers without holes or repeats
//! except where the ledger says so. Read only; beside a running collector it checks as far as the
//! checkpoint said at the start.

mod leaves;
mod look;
mod tree;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use pcigate_ledger::{
    Directory, Report, TILE_WIDTH, TileKind, TilePath, TileSource, VerifierKey, VerifyError, verify,
};

use crate::{
    backup::{self, BackupError},
    index::Index,
    ledger::Durable,
};
use leaves::Leaves;
pub use leaves::Wrong;
pub use tree::LeftOver;

/// Bundles on their way to a thread that looks into them, and from it.
const BUNDLES_BETWEEN: usize = 64;
/// Threads that look into bundles.
const LOOKERS_MAX: usize = 4;
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
    let mut leaves = Leaves::new(stop_at);
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

/// A bundle that passed: how many leaves are done with it, and its bytes.
type Passed = (u64, Vec<u8>);

/// Verifies in one thread, looks into the bundles that passed in others, and puts what they found
/// together here, in order: bundles go round.
fn check(
    source: &Directory,
    checkpoint: Vec<u8>,
    key: &VerifierKey,
    leaves: &mut Leaves,
    mut progress: impl FnMut(u64),
) -> Result<Report, VerifyError> {
    let lookers = thread::available_parallelism().map_or(1, usize::from).min(LOOKERS_MAX);
    thread::scope(|scope| {
        let (mut bundles, mut looked) = (Vec::new(), Vec::new());
        for _ in 0..lookers {
            let (bundle, passed) = sync_channel::<Passed>(BUNDLES_BETWEEN);
            let (found, outward) = sync_channel(BUNDLES_BETWEEN);
            bundles.push(bundle);
            looked.push(outward);
            scope.spawn(move || {
                for (done, bytes) in passed {
                    let first = first_leaf(done);
                    let all = look::bundle(key.name(), done - first, &bytes);
                    // The other end only goes away with this whole function.
                    drop(found.send((done, all)));
                }
            });
        }
        let verifier = scope.spawn(move || {
            let tee = Tee { source, checkpoint, bundles: Mutex::default() };
            let mut turn = bundles.iter().cycle();
            verify(&tee, key, None, |done| {
                for passed in tee.passed(done) {
                    // The other end only goes away when it panics.
                    drop(turn.next().map(|bundles| bundles.send(passed)));
                }
            })
        });
        let mut turn = looked.iter().cycle();
        while let Some(Ok((done, all))) = turn.next().map(Receiver::recv) {
            leaves.bundle(first_leaf(done), all);
            progress(done);
        }
        // A panic there is passed on here.
        verifier.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn first_leaf(done: u64) -> u64 {
    done.saturating_sub(1) / TILE_WIDTH * TILE_WIDTH
}

/// Keeps the bundles that were read until they are checked.
struct Tee<'a> {
    source: &'a Directory,
    checkpoint: Vec<u8>,
    bundles: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl TileSource for Tee<'_> {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        if path == "checkpoint" {
            return Ok(Some(self.checkpoint.clone()));
        }
        let read = self.source.read(path)?;
        let tile = TilePath::parse(path).filter(|tile| tile.kind == TileKind::Entries);
        if let (Some(tile), Some(bytes)) = (tile, &read) {
            let mut bundles = self.bundles.lock().unwrap_or_else(PoisonError::into_inner);
            bundles.insert(tile.index, bytes.clone());
        }
        Ok(read)
    }
}

impl Tee<'_> {
    /// The bundles that are checked with `done` leaves, in order.
    fn passed(&self, done: u64) -> Vec<Passed> {
        let mut bundles = self.bundles.lock().unwrap_or_else(PoisonError::into_inner);
        let later = bundles.split_off(&done.div_ceil(TILE_WIDTH));
        let passed = std::mem::replace(&mut *bundles, later);
        let done_with = |index: u64| ((index + 1) * TILE_WIDTH).min(done);
        passed.into_iter().map(|(index, bytes)| (done_with(index), bytes)).collect()
    }
}

#[cfg(test)]
mod tests;
