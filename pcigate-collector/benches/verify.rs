//! The ledger by itself: bytes a record takes on disk, records a second committed, and records a
//! second that `pcigate verify` checks.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stderr, reason = "progress goes to people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../../tests/src/figures.rs"]
mod figures;
mod records;

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Instant};

use figures::{Budget, figure, flag, how, option};
use pcigate_collector::ledger::{Leaf, Ledger};
use pcigate_ledger::{VerifierKey, verify};

/// Leaves of the ledger.
const RECORDS: u64 = 3_000_000;
/// Leaves of one commit.
const GROUP: u64 = 32_768;

fn main() {
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 2 } else { 5 });
    let records = option("records", if quick { RECORDS / 10 } else { RECORDS });
    let own = std::env::current_exe().unwrap();
    let directory = tempfile::tempdir_in(own.parent().unwrap()).unwrap();
    let mut ledger = Ledger::open(directory.path(), "example.com/bench").unwrap();
    let key = VerifierKey::parse(&ledger.verifier_key()).unwrap();
    let (mut commits, mut bytes) = (Vec::new(), 0);
    for first in (0..records).step_by(usize::try_from(GROUP).unwrap()) {
        let last = (first + GROUP).min(records);
        let leaves: Vec<Leaf> =
            (first..last).map(|number| Leaf::new(records::of_cluster(number, records))).collect();
        bytes += leaves.iter().map(|leaf| leaf.bytes.len() as u64).sum::<u64>();
        let began = Instant::now();
        ledger.commit(&leaves).unwrap();
        commits.push((last - first) as f64 / began.elapsed().as_secs_f64());
    }
    eprintln!("verify: {records} records are in the ledger");
    let mut rates = Vec::new();
    for round in 0..rounds {
        eprintln!("verify: round {} of {rounds}", round + 1);
        let began = Instant::now();
        let report = verify(&ledger.source(), &key, None, |_| {}).unwrap();
        assert_eq!(report.size, records);
        rates.push(records as f64 / began.elapsed().as_secs_f64());
    }
    let on_disk = disk_bytes(&directory.path().join("ledger")) as f64 / records as f64;
    how(&format!(
        "A ledger of {records} records in commits of {GROUP}, each durable, files in the page \
         cache; verify reads every bundle and tile, hashes every record, and compares every hash \
         up to the signed root, as `pcigate verify` does."
    ));
    how("The records are as `serve` makes them: pod, UID, ServiceAccount, container id and its \
         cgroup path, two of ten a program with its arguments, four a connection, two each a fork \
         and an end. On disk: blocks the file system gives to bundles, tiles and directories.");
    figure("verify", "records/s", Budget::AtLeast(600_000.0), &rates);
    figure("commit by itself, durable", "records/s", Budget::None, &commits);
    figure("a record in the ledger, on disk", "bytes", Budget::AtMost(320.0), &[on_disk]);
    figure("a record, its own bytes", "bytes", Budget::None, &[bytes as f64 / records as f64]);
}

/// Bytes the file system has given to a directory and everything below it.
fn disk_bytes(directory: &Path) -> u64 {
    let mut bytes = fs::metadata(directory).unwrap().blocks() * 512;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        bytes += match metadata.is_dir() {
            true => disk_bytes(&entry.path()),
            false => metadata.blocks() * 512,
        };
    }
    bytes
}
