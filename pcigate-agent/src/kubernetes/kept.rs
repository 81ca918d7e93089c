//! What is known of the API server, as files in the state directory, which only root can write: an
//! agent that starts while it is away goes by them.

use std::{fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use crate::atomic_file;

/// What a file of at most `most` bytes holds; nothing where there is none.
///
/// # Errors
/// It cannot be read, or is damaged, in words that show nothing of it.
pub(super) fn read<F: DeserializeOwned>(path: &Path, most: u64) -> Result<Option<F>, String> {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(file) if file.len() > most => return Err(format!("{shown} is too large")),
        _ => {}
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    // The position only: the content is foreign.
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| format!("{shown} is damaged in line {}", error.line()))
}

/// Replaces the file (mode 0600).
///
/// # Errors
/// The disk refuses.
pub(super) fn write<F: Serialize>(path: &Path, file: &F) -> io::Result<()> {
    atomic_file::replace(path, &serde_json::to_vec(file)?)
}
