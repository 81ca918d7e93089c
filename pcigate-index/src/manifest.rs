//! The manifest: which files the index consists of, and which tree of the ledger they stand for.
//!
//! A file that is not in it does not count. It is replaced as a whole, after everything it names
//! is durable.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The version of the files' layout. Another one is derived anew.
const VERSION: u32 = 1;

/// One Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Below the index directory, with `/`.
    pub path: String,
    /// Kind of all its rows.
    pub kind: String,
    /// Rows.
    pub rows: u64,
    /// Smallest leaf.
    pub first_leaf: u64,
    /// Largest leaf.
    pub last_leaf: u64,
    /// Earliest time, ns since 1970.
    pub min_time: u64,
    /// Latest time, ns since 1970.
    pub max_time: u64,
    /// Length.
    pub bytes: u64,
    /// CRC-32C of each block of [`crate::blocks::BLOCK_BYTES`], hex.
    pub sums: String,
}

/// What the index consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Leaves `0..covered` are in the files.
    pub covered: u64,
    /// Root of the ledger's tree of the first `covered` leaves, hex.
    pub root: String,
    /// Number of the next file; no number is used twice.
    pub next_file: u64,
    /// The files.
    pub files: Vec<Entry>,
}

/// The file around it.
#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    /// Of `manifest` as it is serialized here.
    crc32c: u32,
    manifest: Manifest,
}

/// Why a manifest does not count.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system cannot read it.
    #[error("{path} cannot be read")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Not what was written.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Of another version.
    #[error("{path} has version {version}, this program makes version {VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

/// Where the manifest lies.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("manifest.json")
}

impl Manifest {
    /// Reads it; `None` when there is none.
    pub fn load(dir: &Path) -> Result<Option<Self>, LoadError> {
        let path = path(dir);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LoadError::Io { path, source }),
        };
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let damaged = |_| LoadError::Damaged { path: path.clone() };
        let Head { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version != VERSION {
            return Err(LoadError::Version { path, version });
        }
        let envelope: Envelope = serde_json::from_slice(&bytes).map_err(damaged)?;
        let again = serde_json::to_vec(&envelope.manifest).map_err(damaged)?;
        if crc32c::crc32c(&again) != envelope.crc32c {
            return Err(LoadError::Damaged { path });
        }
        Ok(Some(envelope.manifest))
    }

    /// Replaces it; durable when this returns.
    pub fn store(&self, dir: &Path) -> io::Result<()> {
        let crc32c = crc32c::crc32c(&serde_json::to_vec(self)?);
        let envelope = Envelope { version: VERSION, crc32c, manifest: self.clone() };
        let temporary = dir.join("manifest.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&envelope)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path(dir))?;
        File::open(dir)?.sync_all()
    }
}
