//! The files of policy documents: those named, and those in directories named.

use std::fs;
use std::path::{Path, PathBuf};

use pcigate_policy::document::Documents;
use pcigate_policy::yaml::Mistakes;

use crate::failure::Failure;

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// Reads all documents of files and directories (their .yaml, .yml and .json files by name,
/// without subdirectories). The inner error is every mistake in them.
pub fn documents(paths: &[PathBuf]) -> Result<(usize, Result<Documents, Mistakes>), Failure> {
    let files = texts(paths)?;
    Ok((files.len(), Documents::read(&files)))
}

/// The same, unread: names and texts.
pub fn texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            for file in in_directory(path)? {
                files.push(read(&file)?);
            }
        } else {
            files.push(read(path)?);
        }
    }
    Ok(files)
}

fn in_directory(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error| {
        let sentence =
            format!("cannot list {}: give a readable directory or a file", directory.display());
        Failure::because(sentence, error)
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_document = path
            .extension()
            .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        if is_document && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Failure::input(format!(
            "{} holds no .yaml, .yml or .json file: give the directory of the policies",
            directory.display()
        )));
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<(String, String), Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        let sentence = format!("cannot read {}: give a readable YAML file", path.display());
        Failure::because(sentence, error)
    })?;
    Ok((path.display().to_string(), text))
}
