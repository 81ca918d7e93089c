//! Policy documents from files and directories.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use pcigate_policy::{document::Documents, yaml::Mistakes};

/// Why there are no documents.
#[derive(Debug, thiserror::Error)]
pub enum PoliciesError {
    /// A file or directory cannot be read.
    #[error("cannot read the policies at {path}: name a YAML file or a directory of them")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The documents have mistakes, one per line.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

/// Reads every file, and every `.yaml`, `.yml` and `.json` of every directory, as one set.
///
/// # Errors
/// One cannot be read, or all mistakes of all of them.
pub fn read(paths: &[PathBuf]) -> Result<Documents, PoliciesError> {
    Ok(Documents::read(&texts(paths)?)?)
}

/// As [`read`], where the rest of the set comes from the API server.
///
/// # Errors
/// As [`read`].
pub fn read_part(paths: &[PathBuf]) -> Result<Documents, PoliciesError> {
    Ok(Documents::read_part(&texts(paths)?)?)
}

/// (name, content) of every file.
fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, PoliciesError> {
    let mut files = Vec::new();
    for path in paths {
        let at = |source| PoliciesError::Read { path: path.clone(), source };
        if path.is_dir() {
            let mut inside = documents_in(path).map_err(at)?;
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    let mut texts = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path)
            .map_err(|source| PoliciesError::Read { path: path.clone(), source })?;
        texts.push((path.display().to_string(), text));
    }
    Ok(texts)
}

fn documents_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) {
            found.push(path);
        }
    }
    Ok(found)
}
