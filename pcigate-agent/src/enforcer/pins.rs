//! Pins in bpffs: links that outlive the agent. One sub-directory per agent start, so that a new
//! agent attaches and pins before the old links go.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{pin::PinError, programs::links::FdLink};

use super::EnforcerError;

/// Pins `links` into a fresh sub-directory and removes all others; whether there were any.
pub(super) fn replace(
    directory: &Path,
    links: Vec<(&'static str, FdLink)>,
) -> Result<bool, EnforcerError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| EnforcerError::Pin { path, source }
    };
    fs::create_dir_all(directory).map_err(at(directory))?;
    let before = generations(directory).map_err(at(directory))?;
    let newest = before.iter().filter_map(|path| number(path)).max().unwrap_or(0);
    let fresh = directory.join((newest + 1).to_string());
    fs::create_dir(&fresh).map_err(at(&fresh))?;
    for (name, link) in links {
        let path = fresh.join(name);
        if let Err(error) = link.pin(&path) {
            // Half a generation would go on enforcing with tables nobody keeps.
            let _ = remove_generation(&fresh);
            return Err(EnforcerError::Pin { path, source: io_error(error) });
        }
    }
    for old in &before {
        remove_generation(old).map_err(at(old))?;
    }
    Ok(!before.is_empty())
}

/// Removes every pin below `directory`, which ends enforcement unless an agent runs. Whether there
/// were any.
///
/// # Errors
/// bpffs is read-only, or the directory holds what pcigate did not make.
pub fn remove(directory: &Path) -> io::Result<bool> {
    if !directory.exists() {
        return Ok(false);
    }
    for generation in generations(directory)? {
        remove_generation(&generation)?;
    }
    fs::remove_dir(directory)?;
    Ok(true)
}

fn remove_generation(generation: &Path) -> io::Result<()> {
    for pin in fs::read_dir(generation)? {
        fs::remove_file(pin?.path())?;
    }
    fs::remove_dir(generation)
}

fn generations(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if number(&path).is_some() {
            found.push(path);
        }
    }
    Ok(found)
}

fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.parse().ok()
}

fn io_error(error: PinError) -> io::Error {
    match error {
        PinError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
