//! Files below a ledger that its checkpoint does not need.

use std::{fs, path::Path};

use pcigate_ledger::TilePath;

/// Names that are shown; the others are only counted.
const NAMED_MAX: usize = 5;

/// Files nobody needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOver {
    /// Beyond the checkpoint: an unfinished commit, or a collector that runs.
    pub beyond: u64,
    /// Partial tiles of older checkpoints.
    pub older: u64,
    /// Files that are no part of a log.
    pub foreign: u64,
    /// Some of them, below the ledger's directory.
    pub names: Vec<String>,
}

impl LeftOver {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.beyond + self.older + self.foreign
    }

    fn note(&mut self, name: String) {
        if self.names.len() < NAMED_MAX {
            self.names.push(name);
        }
    }
}

/// Looks at every file below a ledger of `size` leaves. What cannot be read is left out: it is not
/// needed, or its absence is an error of the verification.
pub fn left_over(ledger: &Path, size: u64) -> LeftOver {
    let mut found = LeftOver::default();
    let mut dirs = vec![ledger.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(path);
                continue;
            }
            let Some(name) = path.strip_prefix(ledger).ok().and_then(Path::to_str) else {
                found.foreign += 1;
                continue;
            };
            if name == "checkpoint" {
                continue;
            }
            let Some(tile) = TilePath::parse(name) else {
                found.foreign += 1;
                found.note(crate::logging::foreign(name));
                continue;
            };
            let whole = TilePath::in_tree(tile.kind, tile.index, size);
            if whole == Some(tile) {
                continue;
            }
            if tile.is_within(size) {
                found.older += 1;
            } else {
                found.beyond += 1;
            }
            found.note(name.to_owned());
        }
    }
    found
}
