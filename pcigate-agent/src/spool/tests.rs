//! The spool against a plain model, and against damage.

mod damage;
mod model;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::format::{FRAME_BYTES, HEADER_BYTES};
use super::*;

/// The smallest limits: five records of 7 KiB fill a segment.
const SMALL: Limits =
    Limits { total_bytes: 200 * 1024, segment_bytes: 40 * 1024, reserve_bytes: 20 * 1024 };

fn record(seq: u64, bytes: usize) -> Vec<u8> {
    let mut record = seq.to_le_bytes().to_vec();
    record.resize(bytes.max(8), b'x');
    record
}

fn append(spool: &mut Spool, bytes: usize) -> Result<u64, SpoolError> {
    let seq = spool.next_seq();
    spool.append(seq, &record(seq, bytes)).map(|()| seq)
}

/// Appends and syncs records of `bytes` bytes up to number `last`.
fn fill_to(spool: &mut Spool, last: u64, bytes: usize) {
    while spool.durable_seq() < last {
        append(spool, bytes).unwrap();
        spool.sync().unwrap();
    }
}

fn open(dir: &TempDir) -> Spool {
    Spool::open(dir.path(), SMALL).unwrap()
}

/// A spool with records 1 to 20 of 7 KiB in the segments 1, 6, 11 and 16.
fn four_segments() -> (TempDir, Spool) {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    fill_to(&mut spool, 20, 7 * 1024);
    assert_eq!(segments(dir.path()), [1, 6, 11, 16]);
    (dir, spool)
}

fn segments(dir: &Path) -> Vec<u64> {
    let files = recover::segment_files(dir).unwrap();
    files.into_iter().map(|(first_seq, _)| first_seq).collect()
}

fn segment_path(dir: &TempDir, first_seq: u64) -> PathBuf {
    dir.path().join(segment::file_name(first_seq))
}

/// Everything from `from` on, batch by batch: the numbers seen and the holes.
fn read_all(spool: &mut Spool, from: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut seen, mut holes, mut next) = (Vec::new(), Vec::new(), from);
    loop {
        let batch = spool.read(next, 3, usize::MAX).unwrap();
        holes.extend(batch.hole.map(|hole| (hole.first_seq, hole.last_seq)));
        if batch.records.is_empty() && batch.hole.is_none() {
            return (seen, holes);
        }
        for (seq, bytes) in (batch.first_seq..).zip(&batch.records) {
            assert_eq!(bytes[..8], seq.to_le_bytes());
            seen.push(seq);
        }
        next = batch.first_seq + batch.records.len() as u64;
    }
}

#[test]
fn only_durable_records_are_read() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    append(&mut spool, 100).unwrap();
    assert!(spool.read(1, 10, 1000).unwrap().records.is_empty());
    assert_eq!(spool.sync().unwrap(), 1);
    assert_eq!(spool.read(1, 10, 1000).unwrap().records, [record(1, 100)]);
    append(&mut spool, 100).unwrap();
    drop(spool);
    assert_eq!(open(&dir).next_seq(), 2);
}

#[test]
fn a_batch_ends_at_its_limits_but_is_never_empty_for_them() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    fill_to(&mut spool, 9, 1000);
    let lengths =
        |spool: &mut Spool, records, bytes| spool.read(1, records, bytes).unwrap().records.len();
    assert_eq!(lengths(&mut spool, 4, usize::MAX), 4);
    assert_eq!(lengths(&mut spool, 100, 2999), 2);
    assert_eq!(lengths(&mut spool, 100, 3000), 3);
    assert_eq!(lengths(&mut spool, 100, 1), 1);
    assert_eq!(spool.read(7, 100, usize::MAX).unwrap().first_seq, 7);
    assert_eq!(spool.read(10, 1, 1).unwrap(), Batch { first_seq: 10, ..Batch::default() });
}

#[test]
fn what_is_acknowledged_is_deleted_by_whole_segments_and_not_asked_for_again() {
    let (dir, mut spool) = four_segments();
    spool.ack(9).unwrap();
    assert_eq!(segments(dir.path()), [6, 11, 16]);
    spool.ack(3).unwrap();
    spool.ack(20).unwrap();
    assert_eq!(segments(dir.path()), [16], "the newest stays: it holds the numbering");
    drop(spool);
    let mut spool = open(&dir);
    assert_eq!((spool.acked_seq(), spool.next_seq()), (20, 21));
    assert!(matches!(spool.ack(21), Err(SpoolError::AckBeyond { seq: 21, durable_seq: 20 })));
}

#[test]
fn records_the_collector_lost_after_they_were_deleted_are_a_hole_with_that_reason() {
    let (_dir, mut spool) = four_segments();
    spool.ack(12).unwrap();
    let batch = spool.read(4, 2, usize::MAX).unwrap();
    let hole = batch.hole.unwrap();
    assert_eq!((hole.first_seq, hole.last_seq, batch.first_seq), (4, 10, 11));
    assert!(hole.reason.contains("acknowledged"), "{}", hole.reason);
}

#[test]
fn a_full_spool_writes_nothing_but_keeps_a_reserve() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    let full = loop {
        match append(&mut spool, 7 * 1024) {
            Ok(_) => _ = spool.sync().unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, SpoolError::Full { .. }), "{full}");
    assert!(!spool.has_room());
    let seq = spool.next_seq();
    spool.append_reserved(seq, &record(seq, 7 * 1024)).unwrap();
    assert_eq!(spool.sync().unwrap(), seq);
    while spool.append_reserved(spool.next_seq(), &record(spool.next_seq(), 1024)).is_ok() {}
    spool.sync().unwrap();
    assert!(spool.used_bytes() <= SMALL.total_bytes);
    spool.ack(seq).unwrap();
    assert!(append(&mut spool, 7 * 1024).is_ok());
    spool.sync().unwrap();
    let on_disk: u64 = segments(dir.path())
        .into_iter()
        .map(|first| fs::metadata(segment_path(&dir, first)).unwrap().len())
        .sum();
    assert_eq!(on_disk, spool.used_bytes());
}

#[test]
fn a_full_disk_takes_the_group_back_and_works_again_when_space_returns() {
    let (dir, mut spool) = four_segments();
    let before = fs::read(segment_path(&dir, 16)).unwrap();
    append(&mut spool, 100).unwrap();
    append(&mut spool, 100).unwrap();
    spool.fail_next_write(130, io::ErrorKind::StorageFull);
    assert!(matches!(spool.sync(), Err(SpoolError::DiskFull { .. })));
    assert_eq!((spool.next_seq(), spool.durable_seq()), (21, 20));
    assert_eq!(fs::read(segment_path(&dir, 16)).unwrap(), before);
    append(&mut spool, 50).unwrap();
    assert_eq!(spool.sync().unwrap(), 21);
    drop(spool);
    assert_eq!(read_all(&mut open(&dir), 1).0, (1..=21).collect::<Vec<_>>());
}

#[test]
fn a_group_is_bounded_and_a_record_has_a_size_and_the_next_number() {
    let dir = TempDir::new().unwrap();
    let mut spool = open(&dir);
    append(&mut spool, 32 * 1024).unwrap();
    assert!(matches!(append(&mut spool, 32 * 1024), Err(SpoolError::GroupFull)));
    spool.sync().unwrap();
    let too_large = vec![0; 32 * 1024 + 1];
    assert!(matches!(spool.append(2, &too_large), Err(SpoolError::Size { .. })));
    assert!(matches!(spool.append(2, &[]), Err(SpoolError::Size { .. })));
    assert!(matches!(spool.append(3, &[1]), Err(SpoolError::Order { seq: 3, next_seq: 2 })));
}

#[test]
fn skipping_leaves_a_hole_and_never_goes_back() {
    let (dir, mut spool) = four_segments();
    spool.skip_to(100).unwrap();
    assert!(matches!(spool.skip_to(50), Err(SpoolError::Order { .. })));
    drop(spool);
    let mut spool = open(&dir);
    assert_eq!(append(&mut spool, 10).unwrap(), 100);
    spool.sync().unwrap();
    let (seen, holes) = read_all(&mut spool, 19);
    assert_eq!((seen, holes), (vec![19, 20, 100], vec![(21, 99)]));
}

#[test]
fn one_process_at_a_time() {
    let dir = TempDir::new().unwrap();
    let spool = open(&dir);
    let refused = Spool::open(dir.path(), SMALL).unwrap_err();
    assert!(matches!(refused, SpoolError::Locked { .. }), "{refused}");
    drop(spool);
    open(&dir);
}

#[test]
fn two_spools_have_different_epochs_and_one_keeps_its_own() {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let epoch = open(&one).epoch();
    assert_ne!(epoch, open(&other).epoch());
    assert_eq!(epoch, open(&one).epoch());
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let dir = TempDir::new().unwrap();
    for limits in [
        Limits { total_bytes: 100 * 1024, ..SMALL },
        Limits { segment_bytes: 1024, ..SMALL },
        Limits { reserve_bytes: 150 * 1024, ..SMALL },
        Limits { segment_bytes: SEGMENT_BYTES_MAX + 1, total_bytes: u64::MAX, ..SMALL },
    ] {
        assert!(matches!(Spool::open(dir.path(), limits), Err(SpoolError::Limits { .. })));
    }
    Spool::open(dir.path(), Limits::default()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_named_with_a_remedy() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Spool::open(&file.join("spool"), SMALL).unwrap_err().to_string();
    assert!(error.contains("file/spool") && error.contains("must be a directory"), "{error}");
}
