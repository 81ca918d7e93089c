//! A ledger out of a backup, into a state directory that has none.
//!
//! Everything is copied, made durable and verified before the checkpoint is put in place; without
//! a checkpoint beside tiles the collector does not start. The next start puts into the evidence
//! that the ledger was restored, and from how many leaves.

use std::{
    fs::{self, TryLockError},
    path::{Path, PathBuf},
};

use pcigate_ledger::{Directory, KeyError, SigningKey, VerifyError, verify};

use crate::{
    backup::{
        self, BackupError, Progress,
        copy::{self, CopyError, Pending},
    },
    ledger::{FileError, files, key},
};

const MARKER: &str = "restored";

/// What to restore.
#[derive(Clone, Debug)]
pub struct Order {
    /// The state directory, without a ledger.
    pub state_dir: PathBuf,
    /// The backup.
    pub from: PathBuf,
    /// `origin` of the configuration.
    pub origin: String,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Leaves.
    pub size: u64,
    /// Root of the tree, hex.
    pub root: String,
    /// Files copied.
    pub files: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The backup cannot be used.
    #[error("{dir} cannot be restored; nothing was put in place")]
    Backup {
        /// The backup.
        dir: String,
        /// Why.
        #[source]
        source: Box<BackupError>,
    },
    /// There is a ledger already.
    #[error(
        "{path} exists, and a ledger is never overwritten: move {dir} away, or set another stateDir"
    )]
    Exists {
        /// What is there.
        path: String,
        /// The ledger's directory.
        dir: String,
    },
    /// A collector runs.
    #[error("a collector uses the state directory {dir}: stop it first")]
    InUse {
        /// The state directory.
        dir: String,
    },
    /// The backup is of another log.
    #[error(
        "the backup is of the log {actual}, the configuration says `origin: {origin}`: set origin \
         to {actual}, or give another backup"
    )]
    Origin {
        /// Origin in the configuration.
        origin: String,
        /// The log.
        actual: String,
    },
    /// No key to go on with.
    #[error(
        "there is no signing key for this log: a backup holds it only when made with --with-key; \
         put ledger.key into {dir} from where you keep it, then run this again"
    )]
    NoKey {
        /// The state directory.
        dir: String,
    },
    /// The key is of another log.
    #[error(
        "{path} is not the signing key of the log in the backup: put the right one in its place"
    )]
    Key {
        /// The file.
        path: String,
        /// What does not fit.
        #[source]
        source: KeyError,
    },
    /// Copying failed.
    #[error("the backup cannot be copied; nothing was put in place")]
    Copy {
        /// The file.
        #[source]
        source: CopyError,
    },
    /// What was copied is no ledger.
    #[error("the backup does not verify; nothing was put in place: restore an older backup")]
    Verify {
        /// The first wrong file or leaf.
        #[source]
        source: VerifyError,
    },
}

/// Restores a ledger.
///
/// # Errors
/// No checkpoint was put in place; what was copied has been removed again where possible.
pub fn restore(order: &Order, progress: Progress<'_>) -> Result<Restored, RestoreError> {
    let unusable = |source| {
        let dir = order.from.display().to_string();
        RestoreError::Backup { dir, source: Box::new(source) }
    };
    let verifier = backup::verifier_key(&order.from).map_err(unusable)?;
    let theirs = order.from.join("ledger");
    let note = backup::checkpoint(&theirs)?.ok_or_else(|| {
        let dir = order.from.display().to_string();
        unusable(BackupError::NoLedger { dir, missing: "ledger/checkpoint".to_owned() })
    })?;
    let checkpoint = backup::open(&verifier, &note, &theirs).map_err(unusable)?;
    if verifier.name() != order.origin {
        let (origin, actual) = (order.origin.clone(), verifier.name().to_owned());
        return Err(RestoreError::Origin { origin, actual });
    }
    files::make_dir(&order.state_dir, 0o755)?;
    let _lock = lock(&order.state_dir)?;
    let ours = order.state_dir.join("ledger");
    if let Some(path) =
        ["checkpoint", "tile"].map(|name| ours.join(name)).iter().find(|p| p.exists())
    {
        let (path, dir) = (path.display().to_string(), ours.display().to_string());
        return Err(RestoreError::Exists { path, dir });
    }
    let private = signing_key(order, &verifier.to_string())?;
    files::make_dir(&ours, 0o700)?;
    let copied = fill(&theirs, &ours, &note, checkpoint.size, &verifier, progress);
    let files = copied.inspect_err(|_| {
        // Tiles without a checkpoint would be in the way of the next attempt.
        drop(fs::remove_dir_all(ours.join("tile")));
    })?;
    let state = &order.state_dir;
    files::replace(&state.join("ledger.vkey"), format!("{verifier}\n").as_bytes(), 0o644)?;
    files::replace(&state.join("ledger.key"), private.as_bytes(), 0o600)?;
    files::replace(&state.join(MARKER), format!("{}\n", checkpoint.size).as_bytes(), 0o644)?;
    files::replace(&ours.join("checkpoint"), &note, 0o644)?;
    let root = hex::encode(checkpoint.root);
    Ok(Restored { size: checkpoint.size, root, files })
}

/// Copies and verifies everything but the checkpoint; how many files.
fn fill(
    theirs: &Path,
    ours: &Path,
    note: &[u8],
    size: u64,
    verifier: &pcigate_ledger::VerifierKey,
    progress: Progress<'_>,
) -> Result<u64, RestoreError> {
    let copied = copy::tree(theirs, ours, size, 0, &mut |done, all| progress("copied", done, all));
    let copied = copied.map_err(|source| RestoreError::Copy { source })?;
    copy::sync(ours).map_err(|source| RestoreError::Copy { source })?;
    let pending = Pending { directory: Directory::new(ours), checkpoint: note.to_vec() };
    verify(&pending, verifier, None, |leaves| progress("verified", leaves, size))
        .map_err(|source| RestoreError::Verify { source })?;
    Ok(copied.files)
}

/// The signing key's text: from the state directory if it lies there, else from the backup.
fn signing_key(order: &Order, verifier: &str) -> Result<String, RestoreError> {
    for dir in [&order.state_dir, &order.from] {
        let path = dir.join("ledger.key");
        if let Some(text) = key::read(&path)? {
            let path = path.display().to_string();
            SigningKey::parse(&text, verifier)
                .map_err(|source| RestoreError::Key { path, source })?;
            return Ok(text);
        }
    }
    Err(RestoreError::NoKey { dir: order.state_dir.display().to_string() })
}

fn lock(dir: &Path) -> Result<fs::File, RestoreError> {
    let path = dir.join("ledger.lock");
    let failed = |source| FileError::new("open", &path, source);
    let file = fs::File::options().create(true).append(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(RestoreError::InUse { dir: dir.display().to_string() })
        }
        Err(TryLockError::Error(source)) => Err(failed(source).into()),
    }
}

/// What the first start after a restore has to say; `None` where there was none.
#[must_use]
pub fn marker(state_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(state_dir.join(MARKER)).ok()?;
    let leaves: u64 = text.trim().parse().unwrap_or_default();
    Some(format!(
        "the ledger was restored from a backup of {leaves} leaves: what was acknowledged after \
         that backup is in the ledger only where nodes still had it"
    ))
}

/// Forgets the restore, once it is in the evidence.
pub fn remove_marker(state_dir: &Path) {
    let path = state_dir.join(MARKER);
    if let Err(error) = fs::remove_file(&path) {
        tracing::warn!(path = %path.display(), %error, "the next start tells of the restore again");
    }
}
