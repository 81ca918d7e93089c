//! A copy of the ledger that can be verified and restored, made while the collector runs.
//!
//! A backup directory looks like a state directory: `ledger/checkpoint`, `ledger/tile/…`,
//! `ledger.vkey`, and `ledger.key` only where it was asked for. The live checkpoint is read first,
//! then every file its tree needs; the backup's own checkpoint is replaced last, after the copy
//! was made durable and verified as a whole. So a backup that was interrupted is the one before.

pub mod copy;

use std::{
    fs,
    path::{Path, PathBuf},
};

use pcigate_ledger::{
    Checkpoint, Directory, KeyError, NoteError, ProveError, ReadError, TileSource, VerifierKey,
    VerifyError, root, verify,
};

use crate::ledger::{FileError, files, key};
use copy::{Copied, CopyError, Pending};

/// What to back up.
#[derive(Clone, Debug)]
pub struct Order {
    /// The collector's state directory.
    pub state_dir: PathBuf,
    /// The backup: new, or an older backup of the same log.
    pub to: PathBuf,
    /// Copy the signing key too.
    pub with_key: bool,
}

/// What the backup holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Name of the log.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Root of the tree, hex.
    pub root: String,
    /// What was copied this time.
    pub copied: Copied,
}

/// Why there is no new backup. One that was there before stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No ledger where one should be.
    #[error(
        "there is no ledger in {dir}, {missing} is missing: give a state directory or a backup"
    )]
    NoLedger {
        /// The directory.
        dir: String,
        /// The missing file.
        missing: String,
    },
    /// A verifier key is no key.
    #[error("{path} holds no verifier key: restore it from a copy")]
    Key {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// A checkpoint does not open.
    #[error(
        "{path} is not a checkpoint signed by the key of this ledger: restore both from a copy"
    )]
    Checkpoint {
        /// The file.
        path: String,
        /// What is wrong.
        #[source]
        source: NoteError,
    },
    /// Another log.
    #[error("{dir} holds a backup of another log, {other}: give another directory")]
    OtherLog {
        /// The backup.
        dir: String,
        /// The other log.
        other: String,
    },
    /// A backup inside the state directory is none.
    #[error("{dir} is inside the state directory: give a directory on another disk")]
    Inside {
        /// The backup.
        dir: String,
    },
    /// Another process writes the backup.
    #[error("another process uses {dir}: wait until it has ended")]
    InUse {
        /// The backup.
        dir: String,
    },
    /// The backup has more than the ledger.
    #[error(
        "the backup in {dir} has {backup} leaves, the ledger {ledger}: the ledger was set back; \
         keep this backup and give another directory"
    )]
    Shorter {
        /// The backup.
        dir: String,
        /// Its leaves.
        backup: u64,
        /// Those of the ledger.
        ledger: u64,
    },
    /// The ledger is not what the backup was made of.
    #[error(
        "the ledger does not extend the backup in {dir} ({size} leaves): its history was \
         rewritten; keep this backup and give another directory"
    )]
    Rewritten {
        /// The backup.
        dir: String,
        /// Its leaves.
        size: u64,
    },
    /// The ledger cannot be read.
    #[error("the ledger cannot be read: `pcigate-collector fsck` says what is wrong with it")]
    Read {
        /// The file.
        #[source]
        source: ProveError,
    },
    /// Copying failed.
    #[error("the ledger cannot be copied; the backup that was there stays as it was")]
    Copy {
        /// The file.
        #[source]
        source: CopyError,
    },
    /// The copy is not the ledger.
    #[error(
        "the copy in {dir} does not verify, so its checkpoint was left as it was: give an empty \
         directory, and check both disks (`pcigate-collector fsck` checks the ledger)"
    )]
    Verify {
        /// The backup.
        dir: String,
        /// The first wrong file or leaf.
        #[source]
        source: VerifyError,
    },
}

/// How far something is: leaves done, leaves in all, what is done.
pub type Progress<'a> = &'a mut dyn FnMut(&'static str, u64, u64);

/// Makes or extends a backup, and verifies all of it.
///
/// # Errors
/// The backup is as it was before, apart from files its checkpoint does not speak of.
pub fn backup(order: &Order, progress: Progress<'_>) -> Result<Backup, BackupError> {
    let (from, to) = (order.state_dir.join("ledger"), order.to.join("ledger"));
    files::make_dir(&to, 0o700)?;
    keep_apart(&order.state_dir, &order.to)?;
    let _lock = lock(&order.to)?;
    let key = verifier_key(&order.state_dir)?;
    let source = Directory::new(&from);
    let note =
        checkpoint(&from)?.ok_or_else(|| no_ledger(&order.state_dir, "ledger/checkpoint"))?;
    let now = open(&key, &note, &from)?;
    let older = older(order, &key, &source, &now)?;
    let have = older.as_ref().map_or(0, |older| older.size);
    let copied = copy::tree(&from, &to, now.size, have, &mut |done, all| {
        progress("copied", done, all);
    })
    .map_err(|source| BackupError::Copy { source })?;
    copy::sync(&to).map_err(|source| BackupError::Copy { source })?;
    let pending = Pending { directory: Directory::new(&to), checkpoint: note.clone() };
    let verified = verify(&pending, &key, older.as_ref(), |leaves| {
        progress("verified", leaves, now.size);
    });
    verified.map_err(|source| BackupError::Verify { dir: shown(&order.to), source })?;
    files::replace(&order.to.join("ledger.vkey"), format!("{key}\n").as_bytes(), 0o644)?;
    if order.with_key {
        let path = order.state_dir.join("ledger.key");
        let private = fs::read(&path).map_err(|source| FileError::new("read", &path, source))?;
        files::replace(&order.to.join("ledger.key"), &private, 0o600)?;
    }
    files::replace(&to.join("checkpoint"), &note, 0o644)?;
    copy::drop_partials(&to, have, now.size);
    Ok(Backup { origin: now.origin, size: now.size, root: hex::encode(now.root), copied })
}

/// The backup that is there already, if the ledger extends it.
fn older(
    order: &Order,
    key: &VerifierKey,
    source: &Directory,
    now: &Checkpoint,
) -> Result<Option<Checkpoint>, BackupError> {
    let dir = shown(&order.to);
    let path = order.to.join("ledger.vkey");
    if let Some(text) = key::read(&path)? {
        let wrong = |source| BackupError::Key { path: shown(&path), source };
        let theirs = VerifierKey::parse(&text).map_err(wrong)?;
        if theirs.to_string() != key.to_string() {
            return Err(BackupError::OtherLog { dir, other: theirs.to_string() });
        }
    }
    let ledger = order.to.join("ledger");
    let Some(note) = checkpoint(&ledger)? else { return Ok(None) };
    let older = open(key, &note, &ledger)?;
    if older.size > now.size {
        let (backup, ledger) = (older.size, now.size);
        return Err(BackupError::Shorter { dir, backup, ledger });
    }
    match root(source, older.size) {
        Ok(root) if root == older.root => Ok(Some(older)),
        // A ledger keeps the partial tiles of its checkpoints until the full ones are there.
        Ok(_) | Err(ProveError::Read(ReadError::Missing { .. })) => {
            Err(BackupError::Rewritten { dir, size: older.size })
        }
        Err(source) => Err(BackupError::Read { source }),
    }
}

/// The verifier key beside a ledger.
///
/// # Errors
/// It is missing, or no key.
pub(crate) fn verifier_key(dir: &Path) -> Result<VerifierKey, BackupError> {
    let path = dir.join("ledger.vkey");
    let text = key::read(&path)?.ok_or_else(|| no_ledger(dir, "ledger.vkey"))?;
    VerifierKey::parse(&text).map_err(|source| BackupError::Key { path: shown(&path), source })
}

/// The signed checkpoint of a ledger, if there is one.
///
/// # Errors
/// It may exist and cannot be read.
pub(crate) fn checkpoint(ledger: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let read = Directory::new(ledger).read("checkpoint");
    read.map_err(|source| FileError::new("read", &ledger.join("checkpoint"), source))
}

/// Opens a checkpoint.
///
/// # Errors
/// It is not signed by the key.
pub(crate) fn open(
    key: &VerifierKey,
    note: &[u8],
    ledger: &Path,
) -> Result<Checkpoint, BackupError> {
    let path = shown(&ledger.join("checkpoint"));
    key.open(note).map_err(|source| BackupError::Checkpoint { path, source })
}

fn keep_apart(state_dir: &Path, to: &Path) -> Result<(), BackupError> {
    let real =
        |path: &Path| path.canonicalize().map_err(|source| FileError::new("find", path, source));
    let (state_dir, to) = (real(state_dir)?, real(to)?);
    if to.starts_with(&state_dir) || state_dir.starts_with(&to) {
        return Err(BackupError::Inside { dir: shown(&to) });
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<fs::File, BackupError> {
    let path = dir.join("backup.lock");
    let failed = |source| FileError::new("open", &path, source);
    let file = fs::File::options().create(true).append(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(BackupError::InUse { dir: shown(dir) }),
        Err(fs::TryLockError::Error(source)) => Err(failed(source).into()),
    }
}

fn no_ledger(dir: &Path, missing: &str) -> BackupError {
    BackupError::NoLedger { dir: shown(dir), missing: missing.to_owned() }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
