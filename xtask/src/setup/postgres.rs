//! PostgreSQL from Debian's packages, without the cluster they would make and start by themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{command, run};

/// Where Debian puts the programs.
pub const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// The package with the server and, by its dependencies, the clients.
pub const PACKAGE: &str = "postgresql-15";
/// What decides whether installing a server makes a cluster (pg_createcluster(1)).
const SETTINGS: &str = "/etc/postgresql-common/createcluster.conf";

/// Whether server and client are there.
pub fn present() -> bool {
    ["postgres", "initdb", "psql"].iter().all(|name| Path::new(PROGRAMS).join(name).exists())
}

/// Makes installing the server leave the machine without a cluster. Comes before the server is
/// installed; its file is put back when what this gives is dropped.
pub fn prevent_cluster() -> Result<Restored> {
    let get = ["install", "-y", "--no-install-recommends", "postgresql-common"];
    run(command("apt-get", get).env("DEBIAN_FRONTEND", "noninteractive"))?;
    Restored::with(Path::new(SETTINGS), "create_main_cluster = false\n")
}

/// A file with a line more, until this is dropped.
pub struct Restored {
    path: PathBuf,
    before: Option<Vec<u8>>,
}

impl Restored {
    fn with(path: &Path, line: &str) -> Result<Self> {
        let before = match fs::read(path) {
            Ok(before) => Some(before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let mut text = before.clone().unwrap_or_default();
        text.extend_from_slice(format!("\n{line}").as_bytes());
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path: path.to_owned(), before })
    }
}

impl Drop for Restored {
    fn drop(&mut self) {
        // Installing went on meanwhile: nothing better can be done here than to try.
        let _ = match &self.before {
            Some(before) => fs::write(&self.path, before),
            None => fs::remove_file(&self.path),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_afterwards_what_they_were() {
        let path = std::env::temp_dir().join(format!("pcigate-cluster-{}", std::process::id()));
        fs::write(&path, "ssl = on").unwrap();
        let changed = Restored::with(&path, "create_main_cluster = false\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "ssl = on\ncreate_main_cluster = false\n");
        drop(changed);
        assert_eq!(fs::read_to_string(&path).unwrap(), "ssl = on");
        fs::remove_file(&path).unwrap();
        drop(Restored::with(&path, "x").unwrap());
        assert!(!path.exists());
    }
}
