//! Durable writing: a file counts only when it and the directories that name it are synced.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// Files kept open at a time between writing and syncing them.
const OPEN_FILES_MAX: usize = 128;
/// Files synced at a time. One after the other, each new file waits for a journal commit of its
/// own; together they share one.
const SYNCS_AT_ONCE: usize = 8;

/// A file or directory that the system refuses.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// The file.
    pub path: String,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Puts a name to a system error.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.display().to_string(), source }
    }
}

/// Makes a directory and its parents with `mode`, unless it exists.
pub fn make_dir(path: &Path, mode: u32) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|source| FileError::new("create", path, source))
}

/// Makes the names of all directories above `path` durable, as far as they are ours and on its
/// file system. Also for those that exist: whoever made them may not have come as far as this.
pub fn sync_above(path: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::new("look at", path, source);
    let device = fs::metadata(path).map_err(failed)?.dev();
    for above in std::path::absolute(path).map_err(failed)?.ancestors().skip(1) {
        let sync = |dir: File| {
            let same = dir.metadata()?.dev() == device;
            if same { dir.sync_all().map(|()| true) } else { Ok(false) }
        };
        match File::open(above).and_then(sync) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(source) => return Err(FileError::new("sync", above, source)),
        }
    }
    Ok(())
}

/// Writes log files below `root` and syncs them with all directories on the way.
pub fn write_durably(root: &Path, files: &[pcigate_ledger::File]) -> Result<(), FileError> {
    let mut dirs = BTreeSet::new();
    for some in files.chunks(OPEN_FILES_MAX) {
        let mut open = Vec::with_capacity(some.len());
        for file in some {
            let path = root.join(file.path.to_string());
            note_dirs(root, &path, &mut dirs)?;
            let written = File::create(&path).and_then(|mut system_file| {
                system_file.write_all(&file.bytes)?;
                Ok(system_file)
            });
            let system_file = written.map_err(|error| FileError::new("write", &path, error))?;
            open.push((path, system_file));
        }
        sync_together(&open)?;
    }
    let opened = dirs.into_iter().map(|dir| match File::open(&dir) {
        Ok(open) => Ok((dir, open)),
        Err(source) => Err(FileError::new("sync", &dir, source)),
    });
    sync_together(&opened.collect::<Result<Vec<_>, _>>()?)
}

/// Syncs all, in any order, and returns when the last one is on disk. With metadata: fdatasync of
/// a directory need not wait for a name that was added to it, and a new file is all metadata.
fn sync_together(open: &[(PathBuf, File)]) -> Result<(), FileError> {
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some((path, file)) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
            file.sync_all().map_err(|source| FileError::new("sync", path, source))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        // Where the system gives no further thread, those that run do all of it.
        let helpers: Vec<_> = (1..open.len().min(SYNCS_AT_ONCE))
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, some).ok())
            .collect();
        let panicked =
            |_| Err(FileError::new("sync", Path::new("tile"), io::ErrorKind::Other.into()));
        helpers
            .into_iter()
            .fold(some(), |all, helper| all.and(helper.join().unwrap_or_else(panicked)))
    })
}

/// Replaces a file as a whole: after a crash there is the old content or the new one.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut options = OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(mode).open(&temporary);
    let written = opened.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|source| FileError::new("write", &temporary, source))?;
    fs::rename(&temporary, path).map_err(|source| FileError::new("replace", path, source))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes the directories of `path` below `root` and notes all of them for syncing, also those
/// that exist: an earlier attempt may have made them and failed before its sync.
fn note_dirs(root: &Path, path: &Path, dirs: &mut BTreeSet<PathBuf>) -> Result<(), FileError> {
    let Some(parent) = path.parent().filter(|parent| !dirs.contains(*parent)) else {
        return Ok(());
    };
    make_dir(parent, 0o700)?;
    for dir in parent.ancestors().take_while(|dir| dir.starts_with(root)) {
        dirs.insert(dir.to_owned());
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(|source| FileError::new("sync", path, source))
}

#[cfg(test)]
mod tests {
    use super::{File, PathBuf, SYNCS_AT_ONCE, sync_together};

    #[test]
    fn one_file_that_cannot_be_synced_fails_all_wherever_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        for at in 0..3 * SYNCS_AT_ONCE {
            let open = |number: usize| {
                let path = directory.path().join(number.to_string());
                (path.clone(), File::create(path).unwrap())
            };
            let mut files: Vec<_> = (0..3 * SYNCS_AT_ONCE).map(open).collect();
            sync_together(&files).unwrap();
            // A device that has nothing to sync says so.
            files[at] = (PathBuf::from("/dev/null"), File::open("/dev/null").unwrap());
            let error = sync_together(&files).unwrap_err();
            assert_eq!(error.to_string(), "cannot sync /dev/null");
        }
    }
}
