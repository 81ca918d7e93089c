//! The index as a whole: its state, how it is opened, and how a query waits for it.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::SystemTime,
};

use pcigate_ledger::{Directory, Hash, root};
use tokio::sync::watch;

use crate::{
    engine::Engine,
    error::{AdvanceError, OpenError, QueryError},
    files::DataFile,
    ledger::Prefix,
    manifest::{self, Manifest},
    narrow::Narrow,
    settings::Settings,
    writer::Writer,
};

/// The index over one ledger. Clones share it.
#[derive(Clone, Debug)]
pub struct Index {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    engine: Engine,
    writer: Mutex<Writer>,
    state: RwLock<Arc<Snapshot>>,
    indexed: watch::Sender<u64>,
}

/// What a query sees; never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The files, all in the manifest.
    pub files: Vec<Arc<DataFile>>,
    /// Rows that are only in memory, by kind; leaves rise within a kind.
    pub tail: BTreeMap<&'static str, Vec<Arc<Narrow>>>,
    /// Leaves `0..covered` are in the files.
    pub covered: u64,
    /// Leaves `0..indexed` are in files and tail.
    pub indexed: u64,
}

impl Snapshot {
    /// Rows in memory.
    pub fn tail_rows(&self) -> usize {
        self.tail.values().flatten().map(|part| part.rows).sum()
    }
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

impl Index {
    /// Opens the index in `dir` over a ledger of `size` leaves and root `root`, and removes
    /// leftovers. What does not belong to this ledger, or is damaged, is dropped with one
    /// sentence in the log and derived again by [`Index::advance`].
    ///
    /// # Errors
    /// The directory cannot be used, or threads cannot be started.
    pub fn open(
        dir: &Path,
        ledger: Directory,
        size: u64,
        root: Hash,
        settings: Settings,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { path: dir.to_path_buf(), source };
        fs::create_dir_all(dir.join("events")).map_err(failed)?;
        let (manifest, files) = match load(dir, &ledger, size, root) {
            Ok(loaded) => loaded,
            Err(reason) => {
                tracing::warn!(
                    dir = %dir.display(),
                    "{reason}; the index is derived from the ledger again"
                );
                remove(dir).map_err(failed)?;
                fs::create_dir_all(dir.join("events")).map_err(failed)?;
                <(Manifest, Vec<Arc<DataFile>>)>::default()
            }
        };
        sweep(dir, &files).map_err(failed)?;
        let covered = manifest.covered;
        let engine = Engine::start(dir, &settings)?;
        let snapshot = Snapshot { files, tail: BTreeMap::new(), covered, indexed: covered };
        let writer = Writer::new(dir.to_path_buf(), ledger, size, manifest.next_file);
        Ok(Self {
            shared: Arc::new(Shared {
                settings,
                engine,
                writer: Mutex::new(writer),
                state: RwLock::new(Arc::new(snapshot)),
                indexed: watch::Sender::new(covered),
            }),
        })
    }

    /// Leaves `0..indexed()` are answered from the index.
    #[must_use]
    pub fn indexed(&self) -> u64 {
        *self.shared.indexed.borrow()
    }

    /// Figures for metrics.
    #[must_use]
    pub fn status(&self) -> Status {
        let state = self.snapshot();
        Status {
            indexed: state.indexed,
            flushed: state.covered,
            tail_rows: state.tail_rows() as u64,
            files: state.files.len() as u64,
            bytes: state.files.iter().map(|file| file.entry.bytes).sum(),
        }
    }

    /// Takes in leaves of a ledger of `to` leaves, at most 65,536, writes the tail out when it is
    /// full or old, and returns [`Index::indexed`]. Blocks; one thread calls it, again and again,
    /// also when the ledger does not grow.
    ///
    /// # Errors
    /// The ledger or the disk. What was there stays; calling again goes on from there.
    pub fn advance(&self, to: u64) -> Result<u64, AdvanceError> {
        self.writer().advance(to, &self.shared.settings, &Publisher { index: self })?;
        Ok(self.indexed())
    }

    /// Writes the tail out. Blocks; by the thread of [`Index::advance`].
    ///
    /// # Errors
    /// The disk; the tail stays.
    pub fn flush(&self) -> Result<(), AdvanceError> {
        self.writer().flush(&self.shared.settings, &Publisher { index: self })
    }

    /// Merges small files of one partition into one; `true`: there may be more to merge. Blocks;
    /// by the thread of [`Index::advance`].
    ///
    /// # Errors
    /// The disk; the files stay as they were.
    pub fn compact(&self, now: SystemTime) -> Result<bool, AdvanceError> {
        self.writer().compact(now, &self.shared.settings, &Publisher { index: self })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A snapshot that holds the first `size` leaves; waits for it.
    pub(crate) async fn reached(&self, size: u64) -> Result<Arc<Snapshot>, QueryError> {
        let mut indexed = self.shared.indexed.subscribe();
        let enough = indexed.wait_for(|indexed| *indexed >= size);
        let waited = tokio::time::timeout(self.shared.settings.wait_max, enough).await;
        match waited {
            Ok(Ok(_)) => Ok(self.snapshot()),
            _ => Err(QueryError::Behind { indexed: self.indexed(), size }),
        }
    }
}

/// How the writer shows what it has made.
pub struct Publisher<'a> {
    index: &'a Index,
}

impl Publisher<'_> {
    /// What queries see now.
    pub fn current(&self) -> Arc<Snapshot> {
        self.index.snapshot()
    }

    /// What queries see from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        let indexed = snapshot.indexed;
        let shared = &self.index.shared;
        *shared.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        shared.indexed.send_replace(indexed);
    }
}

/// Deletes what the index keeps in `dir` (not the cursors), so that the next [`Index::open`]
/// starts anew: the first half of `reindex`. No index may be open on `dir`.
///
/// # Errors
/// The system refuses.
pub fn remove(dir: &Path) -> io::Result<()> {
    let present = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    present(fs::remove_file(manifest::path(dir)))?;
    present(fs::remove_dir_all(dir.join("events")))
}

/// The manifest and its files, or in words why they do not count.
fn load(
    dir: &Path,
    ledger: &Directory,
    size: u64,
    whole: Hash,
) -> Result<(Manifest, Vec<Arc<DataFile>>), String> {
    let loaded = Manifest::load(dir).map_err(|error| error.to_string())?;
    let Some(manifest) = loaded else { return Ok(Default::default()) };
    let covered = manifest.covered;
    if covered > size {
        return Err(format!(
            "the index covers {covered} leaves and the ledger has only {size}: the ledger is an \
             older copy"
        ));
    }
    let actual = match covered == size {
        true => whole,
        false => root(&Prefix::new(ledger, size), covered).map_err(|error| error.to_string())?,
    };
    if hex::encode(actual) != manifest.root {
        return Err(format!(
            "the index was made from another ledger: its root at leaf {covered} differs"
        ));
    }
    let open = |entry: &manifest::Entry| DataFile::open(dir, entry.clone()).map(Arc::new);
    let files = manifest.files.iter().map(open).collect::<Result<_, _>>();
    Ok((manifest, files.map_err(|error| error.to_string())?))
}

/// Removes what a stop in the middle of writing left: files the manifest does not name, and
/// directories that became empty.
fn sweep(dir: &Path, files: &[Arc<DataFile>]) -> io::Result<()> {
    let named: HashSet<_> = files.iter().map(|file| dir.join(&file.entry.path)).collect();
    sweep_directory(&dir.join("events"), &named)?;
    match fs::remove_file(dir.join("manifest.tmp")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sweep_directory(directory: &Path, named: &HashSet<std::path::PathBuf>) -> io::Result<bool> {
    let mut empty = true;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if sweep_directory(&path, named)? {
                fs::remove_dir(&path)?;
                continue;
            }
        } else if !named.contains(&path) {
            fs::remove_file(&path)?;
            continue;
        }
        empty = false;
    }
    Ok(empty)
}
