//! Pins in bpffs: what outlives the agent. One directory per agent start, a *generation*, named
//! `NUMBER-ABI`, with `links/`, `maps/` and `programs/`; a lock on the directory above it is held
//! by the agent that reads them.
//!
//! A new agent takes the cgroup links over (`kernel_link`), attaches its tracepoints and LSM
//! programs beside the old ones, and only then removes those.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use aya::{
    Ebpf,
    maps::{Map, MapData, PerCpuArray, RingBuf},
    pin::PinError,
    programs::links::{FdLink, PinnedLink},
};
use pcigate_common::{abi::LAYOUT, maps::Ring};
use sha2::{Digest, Sha256};

use super::{EnforcerError, Rings};

/// Directory in bpffs below which every agent of the machine pins.
pub const PINS: &str = "pcigate";
const LINKS: &str = "links";
const MAPS: &str = "maps";
const PROGRAMS: &str = "programs";

/// Maps that go from one agent to the next: grants with the sockets they let connect, and what is
/// redirected to the gateway.
pub(super) const INHERITED: [&str; 6] =
    ["GRANTS", "GRANTS_USED", "GRANTED", "GATEWAYS", "REDIRECTED", "REDIRECTS_USED"];

/// What one agent start has pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    path: PathBuf,
    /// Counts up with every start below the same governed root.
    pub number: u64,
    /// Layout of its records; empty where its name does not say.
    pub abi: String,
}

/// Held by the agent that reads the generations of a governed root.
#[derive(Debug)]
pub struct Reading {
    _directory: File,
}

/// The layout of records this program knows: 16 hexadecimal digits.
#[must_use]
pub fn own_abi() -> &'static str {
    static ABI: LazyLock<String> = LazyLock::new(|| {
        let mut hash = Sha256::new();
        let lines = LAYOUT.iter().flat_map(|source| source.lines()).map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with("//")) {
            hash.update(line);
            hash.update("\n");
        }
        hex::encode(hash.finalize().get(..8).unwrap_or_default())
    });
    &ABI
}

/// Makes the directory of a governed root and claims what is in it; `None`: an agent reads it.
///
/// # Errors
/// bpffs is missing or read-only.
pub fn claim(directory: &Path) -> Result<Option<Reading>, EnforcerError> {
    let at = |source| EnforcerError::Pin { path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(at)?;
    let open = File::open(directory).map_err(at)?;
    match open.try_lock() {
        Ok(()) => Ok(Some(Reading { _directory: open })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(at(error)),
    }
}

fn is_read(directory: &Path) -> bool {
    let Ok(open) = File::open(directory) else { return false };
    matches!(open.try_lock(), Err(TryLockError::WouldBlock))
}

/// The generations below `directory`, oldest first.
///
/// # Errors
/// The directory cannot be listed.
pub fn generations(directory: &Path) -> io::Result<Vec<Generation>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        found.extend(Generation::at(entry?.path()));
    }
    found.sort_by_key(|generation| generation.number);
    Ok(found)
}

/// The generations of one governed root.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// Its directory; the name is the cgroup id of the root.
    pub directory: PathBuf,
    /// Oldest first; none where the directory is empty.
    pub generations: Vec<Generation>,
    /// Whether an agent reads them.
    pub is_read: bool,
}

/// Everything that is pinned below a bpffs, by governed root.
///
/// # Errors
/// The directory of pins cannot be listed.
pub fn pinned(bpffs: &Path) -> io::Result<Vec<Pinned>> {
    let mut all = Vec::new();
    let entries = match fs::read_dir(bpffs.join(PINS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries?,
    };
    for entry in entries {
        let directory = entry?.path();
        let (generations, is_read) = (generations(&directory)?, is_read(&directory));
        all.push(Pinned { directory, generations, is_read });
    }
    all.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok(all)
}

/// Removes every pin of every version below `directory`, which ends enforcement unless an agent
/// runs; how many there were.
///
/// # Errors
/// bpffs is read-only, or the directory holds what pcigate did not make.
pub fn remove(directory: &Path) -> io::Result<usize> {
    if !directory.exists() {
        return Ok(0);
    }
    let generations = generations(directory)?;
    let links = generations.iter().map(Generation::unpin_links).sum::<io::Result<usize>>()?;
    Ok(links + remove_all(directory)?)
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, abi, .. } = self;
        let whose = match abi.as_str() {
            "" => "an older version".to_owned(),
            _ if self.is_readable() => format!("this version, records {abi}"),
            _ => format!("another version, records {abi}"),
        };
        let enforces = if self.enforces() { "enforces" } else { "is being replaced" };
        write!(f, "generation {number} ({whose}) {enforces}")
    }
}

impl Generation {
    fn at(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (number, abi) = name.split_once('-').unwrap_or((name, ""));
        let (number, abi) = (number.parse().ok()?, abi.to_owned());
        Some(Self { path, number, abi })
    }

    /// Begins the generation after `before` and pins the maps, so that whatever is attached from
    /// now on leaves records that can be read. Before any map is taken out of `ebpf`.
    pub(super) fn begin(
        directory: &Path,
        before: &[Self],
        ebpf: &Ebpf,
    ) -> Result<Self, EnforcerError> {
        let number = before.last().map_or(1, |newest| newest.number + 1);
        let abi = own_abi().to_owned();
        let path = directory.join(format!("{number}-{abi}"));
        let begun = Self { path, number, abi };
        for part in [LINKS, MAPS, PROGRAMS] {
            let path = begun.path.join(part);
            fs::create_dir_all(&path).map_err(|source| EnforcerError::Pin { path, source })?;
        }
        // The kernel refuses names with a dot, which the frozen settings have.
        for (name, map) in ebpf.maps().filter(|(name, _)| !name.contains('.')) {
            let path = begun.path.join(MAPS).join(name);
            map.pin(&path).map_err(pinning(&path))?;
        }
        Ok(begun)
    }

    pub(super) fn pin_link(&self, name: &str, link: FdLink) -> Result<(), EnforcerError> {
        let path = self.path.join(LINKS).join(name);
        link.pin(&path).map(drop).map_err(pinning(&path))
    }

    pub(super) fn pin_programs(&self, ebpf: &mut Ebpf) -> Result<(), EnforcerError> {
        for (name, program) in ebpf.programs_mut() {
            let path = self.path.join(PROGRAMS).join(name);
            // One that is not loaded (no LSM here) has nothing to pin.
            if program.fd().is_ok() {
                program.pin(&path).map_err(pinning(&path))?;
            }
        }
        Ok(())
    }

    /// The pin of a link, where this generation has it.
    pub(super) fn link(&self, name: &str) -> Option<PathBuf> {
        Some(self.path.join(LINKS).join(name)).filter(|path| path.exists())
    }

    /// The pin of a map, where this generation has it and it is laid out as ours.
    pub(super) fn map(&self, name: &str) -> Option<PathBuf> {
        let path = self.path.join(MAPS).join(name);
        Some(path).filter(|path| self.is_readable() && path.exists())
    }

    /// Takes over a link whose program is ours now.
    pub(super) fn adopt(&self, pin: &Path, name: &str) -> Result<(), EnforcerError> {
        let path = self.path.join(LINKS).join(name);
        fs::rename(pin, &path).map_err(|source| EnforcerError::Pin { path, source })
    }

    /// Whether anything of it is attached.
    #[must_use]
    pub fn enforces(&self) -> bool {
        fs::read_dir(self.path.join(LINKS)).is_ok_and(|mut links| links.next().is_some())
    }

    /// Whether this program can decode its records.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.abi == own_abi()
    }

    /// Its rings and counters, also those of another version: `None` where it has none that could
    /// be read.
    #[must_use]
    pub fn rings(&self) -> Option<Rings> {
        let map = |name: &str| {
            let data = MapData::from_pin(self.path.join(MAPS).join(name)).ok()?;
            Map::from_map_data(data).ok()
        };
        let ring = |name| RingBuf::try_from(map(name)?).ok();
        let counters = |name| PerCpuArray::try_from(map(name)?).ok();
        Some(Rings {
            events: ring("EVENTS")?,
            verdicts: ring("VERDICTS")?,
            lost: counters("LOST")?,
            made: counters("MADE")?,
        })
    }

    /// Detaches what is still attached of it. The maps stay.
    ///
    /// # Errors
    /// bpffs is read-only.
    pub fn detach(&self) -> Result<(), EnforcerError> {
        let at = |source| EnforcerError::Pin { path: self.path.join(LINKS), source };
        self.unpin_links().map(drop).map_err(at)
    }

    /// Detaches; how many links.
    fn unpin_links(&self) -> io::Result<usize> {
        let Ok(links) = fs::read_dir(self.path.join(LINKS)) else { return Ok(0) };
        let mut removed = 0;
        for link in links {
            let path = link?.path();
            // Opened first: closing the last descriptor detaches at once, removing the last pin
            // leaves it to a kernel thread.
            let open = PinnedLink::from_pin(&path);
            fs::remove_file(&path)?;
            drop(open);
            removed += 1;
        }
        Ok(removed)
    }

    /// Removes every pin of it.
    ///
    /// # Errors
    /// bpffs is read-only.
    pub fn remove(&self) -> Result<(), EnforcerError> {
        let at = |source| EnforcerError::Pin { path: self.path.clone(), source };
        remove_all(&self.path).map(drop).map_err(at)
    }
}

/// Records made and records lost so far, by ring (`pcigate_common::maps::Ring`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that were made.
    pub made: [u64; 2],
    /// Those that found their ring full.
    pub ring_full: [u64; 2],
}

impl Rings {
    /// The kernel's counters. A processor without its counter counts nothing.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |counters: &PerCpuArray<MapData, u64>| {
            [Ring::Events, Ring::Verdicts].map(|ring| {
                counters.get(&(ring as u32), 0).map_or(0, |per_cpu| per_cpu.iter().sum())
            })
        };
        Counts { made: of(&self.made), ring_full: of(&self.lost) }
    }

    /// Takes everything out of the rings without looking at it; how many records, by ring.
    pub fn count_out(&mut self) -> [u64; 2] {
        let mut counted = [0, 0];
        for (ring, count) in [&mut self.events, &mut self.verdicts].into_iter().zip(&mut counted) {
            while ring.next().is_some() {
                *count += 1;
            }
        }
        counted
    }
}

/// Removes files and directories; how many files.
fn remove_all(path: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove_all(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    fs::remove_dir(path)?;
    Ok(removed)
}

fn pinning(path: &Path) -> impl Fn(PinError) -> EnforcerError {
    let path = path.to_owned();
    move |error| {
        let source = match error {
            PinError::SyscallError(error) => error.io_error,
            other => io::Error::other(other),
        };
        EnforcerError::Pin { path: path.clone(), source }
    }
}
