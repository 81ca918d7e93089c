//! Opening a spool of foreign segments: it opens, or refuses and can be set aside; what it then
//! reads are records in order that check out, and it goes on writing behind them.

#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcigate_agent::spool::{Limits, Spool, SpoolError, set_aside_corrupt};
use pcigate_fuzz::damage::{Patch, damaged};
use tempfile::TempDir;

const EPOCH: [u8; 16] = [7; 16];
const LIMITS: Limits =
    Limits { total_bytes: 200 * 1024, segment_bytes: 40 * 1024, reserve_bytes: 20 * 1024 };

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    segments: Vec<Segment<'a>>,
    acked: Option<Acked<'a>>,
}

#[derive(Arbitrary, Debug)]
struct Segment<'a> {
    /// Of version 2, otherwise of version 1.
    grouped: bool,
    first_seq: Number,
    salvaged: bool,
    /// Number, frames of its group before it, record.
    frames: Vec<(Number, u8, &'a [u8])>,
    damage: Vec<Patch<'a>>,
}

#[derive(Arbitrary, Debug)]
struct Acked<'a> {
    generation: u64,
    acked: Number,
    newest: Number,
    /// Nothing in the older form.
    durable: Option<Number>,
    damage: Vec<Patch<'a>>,
}

/// Mostly small, so that segments and frames follow each other.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Small(u8),
    Any(u64),
}

impl Number {
    fn get(self) -> u64 {
        match self {
            Self::Small(number) => u64::from(number % 32),
            Self::Any(number) => number,
        }
    }
}

/// As `pcigate_agent::spool` documents the format.
fn segment_bytes(segment: &Segment<'_>) -> Vec<u8> {
    let mut bytes = b"pcgspool".to_vec();
    bytes.extend((1 + u32::from(segment.grouped)).to_le_bytes());
    bytes.extend(u32::from(segment.salvaged).to_le_bytes());
    bytes.extend(EPOCH);
    bytes.extend(segment.first_seq.get().to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    for (seq, before, record) in &segment.frames {
        let before = if segment.grouped { u32::from(*before) } else { 0 };
        let mut covered = vec![0xF5, b'p', b'g', 0xFA];
        covered.extend((record.len() as u32 | before << 16).to_le_bytes());
        covered.extend(seq.get().to_le_bytes());
        bytes.extend(&covered);
        let sum = crc32c::crc32c_append(crc32c::crc32c(&EPOCH), &covered);
        bytes.extend(crc32c::crc32c_append(sum, record).to_le_bytes());
        bytes.extend(*record);
    }
    damaged(&bytes, &[], &segment.damage)
}

fn acked_bytes(acked: &Acked<'_>) -> Vec<u8> {
    let mut bytes = if acked.durable.is_some() { b"pgc2" } else { b"pgck" }.to_vec();
    let numbers = [acked.generation, acked.acked.get(), acked.newest.get()];
    for number in numbers.into_iter().chain(acked.durable.map(Number::get)) {
        bytes.extend(number.to_le_bytes());
    }
    let sum = crc32c::crc32c_append(crc32c::crc32c(&EPOCH), &bytes);
    bytes.extend(sum.to_le_bytes());
    damaged(&bytes, &[], &acked.damage)
}

fn lay_out(input: &Input<'_>, dir: &Path) {
    let write = |name: &str, bytes: &[u8]| {
        fs::write(dir.join(name), bytes).expect("the directory is writable");
    };
    write("epoch", hex::encode(EPOCH).as_bytes());
    for segment in input.segments.iter().take(4) {
        write(&format!("{:020}.seg", segment.first_seq.get()), &segment_bytes(segment));
    }
    if let Some(acked) = &input.acked {
        write("acked", &acked_bytes(acked));
    }
}

/// Opens it, after setting aside what is damaged.
fn open(dir: &Path) -> Option<Spool> {
    match Spool::open(dir, LIMITS) {
        Ok(spool) => return Some(spool),
        Err(SpoolError::Corrupt { .. }) => {}
        Err(_) => return None,
    }
    set_aside_corrupt(dir).ok()?;
    match Spool::open(dir, LIMITS) {
        Err(error @ SpoolError::Corrupt { .. }) => panic!("set aside, and still: {error}"),
        opened => opened.ok(),
    }
}

fn read_all(spool: &mut Spool, from: u64) -> Vec<(u64, Vec<u8>)> {
    let (mut all, mut next) = (Vec::new(), from);
    loop {
        let batch = spool.read(next, 3, usize::MAX).expect("what was opened can be read");
        assert!(batch.first_seq >= next);
        if batch.records.is_empty() && batch.hole.is_none() {
            return all;
        }
        for (seq, record) in (batch.first_seq..).zip(batch.records) {
            next = seq + 1;
            all.push((seq, record));
        }
        next = next.max(batch.first_seq);
    }
}

fuzz_target!(|input: Input<'_>| {
    let dir = TempDir::new().expect("a temporary directory");
    lay_out(&input, dir.path());
    let Some(mut spool) = open(dir.path()) else { return };
    let before = read_all(&mut spool, 1);
    // Another one is made only where nothing was kept under this one.
    assert!(spool.epoch() == EPOCH || before.is_empty());
    let written = |seq: u64, record: &[u8]| {
        input.segments.iter().flat_map(|s| &s.frames).any(|f| f.0.get() == seq && f.2 == record)
    };
    let repaired = input.segments.iter().any(|segment| !segment.damage.is_empty());
    for (seq, record) in &before {
        assert!(repaired || written(*seq, record), "record {seq} was never written");
        assert!(*seq <= spool.durable_seq());
    }
    let next = spool.next_seq();
    assert!(next > spool.durable_seq() && next > spool.acked_seq());
    // Numbers nobody reaches may be refused when they come back.
    let generation = input.acked.as_ref().map_or(0, |acked| acked.generation);
    if next.max(generation) < 1 << 62 && spool.append(next, b"new").is_ok() {
        assert_eq!(spool.sync().expect("the disk has room"), next);
        drop(spool);
        let mut again = open(dir.path()).expect("it was open a moment ago");
        let last = read_all(&mut again, next);
        assert_eq!(last, [(next, b"new".to_vec())]);
    }
});
