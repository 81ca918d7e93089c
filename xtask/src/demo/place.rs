//! Where the demo keeps its data: a temporary directory, or the one to keep.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The directory; a temporary one is removed when this is dropped.
pub struct Place {
    root: PathBuf,
    temporary: bool,
}

impl Place {
    /// Makes it; one to keep must be empty or not exist, so that nothing of anybody is overwritten.
    pub fn make(keep: Option<&Path>) -> Result<Self> {
        let root = match keep {
            Some(keep) => std::path::absolute(keep)?,
            None => std::env::temp_dir().join(format!("pcigate-demo-{}", std::process::id())),
        };
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let empty = fs::read_dir(&root)?.next().is_none();
        ensure!(empty, "{} is not empty: give --keep a new directory", root.display());
        Ok(Self { root, temporary: keep.is_none() })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file in it, for people.
    pub fn shown(&self, file: &str) -> String {
        self.root.join(file).display().to_string()
    }

    /// Writes a file.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.root.join(file), text).with_context(|| format!("cannot write {file}"))
    }

    /// Looks for a text in every file. How many files and bytes were searched.
    pub fn search(&self, text: &str) -> Result<(usize, usize)> {
        let (mut files, mut bytes) = (0, 0);
        let mut directories = vec![self.root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                    continue;
                }
                let content = fs::read(&path)?;
                if content.windows(text.len()).any(|window| window == text.as_bytes()) {
                    bail!("{} holds it in clear", path.display());
                }
                files += 1;
                bytes += content.len();
            }
        }
        Ok((files, bytes))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing can be done about a failure here; the path is in the temporary directory.
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_something_in_it_is_left_alone() {
        let directory = std::env::temp_dir().join(format!("pcigate-place-{}", std::process::id()));
        let place = Place::make(Some(&directory)).unwrap();
        place.write("file", "mine").unwrap();
        assert!(Place::make(Some(&directory)).is_err());
        assert!(place.search("mine").is_err());
        assert_eq!(place.search("yours").unwrap(), (1, 4));
        fs::remove_dir_all(directory).unwrap();
    }
}
