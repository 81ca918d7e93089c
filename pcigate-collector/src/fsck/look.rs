//! Looks into one leaf: is it a complete record, and which place does it take in its spool? Pure.

use pcigate_proto::{
    Message, Record,
    record::{Event, RECORD_BYTES_MAX, check_complete},
};

use crate::{cursors::Step, ingest};

/// What a leaf is, seen for itself.
#[derive(Debug, Default)]
pub struct Looked {
    /// What is wrong with it, without any text of the record.
    pub wrong: Option<String>,
    /// What it does to the cursors.
    pub step: Option<Step>,
    /// First and last number of a Gap record.
    pub gap: Option<(u64, u64)>,
    /// Whether it is a Conflict record.
    pub is_conflict: bool,
}

/// Looks into the first `count` leaves of a bundle of the log `origin`.
pub fn bundle(origin: &str, count: u64, bytes: &[u8]) -> Vec<Looked> {
    let mut rest = bytes;
    let mut all = Vec::new();
    for _ in 0..count {
        let entry = rest.split_first_chunk::<2>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        let Some((entry, after)) = entry else {
            all.push(wrong("its bundle is cut".to_owned()));
            break;
        };
        rest = after;
        all.push(leaf(origin, entry));
    }
    all
}

fn leaf(origin: &str, bytes: &[u8]) -> Looked {
    let Ok(record) = Record::decode(bytes) else { return wrong("it is not a record".to_owned()) };
    let mut looked = Looked { step: Step::of(&record), ..Looked::default() };
    match &record.event {
        Some(Event::Conflict(_)) => looked.is_conflict = true,
        Some(Event::Gap(gap)) => looked.gap = Some((gap.first_seq, gap.last_seq)),
        _ => {}
    }
    looked.wrong = check(origin, bytes.len(), &record, looked.step.is_some()).err();
    looked
}

fn check(origin: &str, length: usize, record: &Record, has_step: bool) -> Result<(), String> {
    if length > RECORD_BYTES_MAX {
        return Err(format!("it has {length} bytes; at most {RECORD_BYTES_MAX}"));
    }
    check_complete(record)
        .map_err(|(field, why)| format!("its {field} is missing or empty ({why})"))?;
    let from = record.origin.as_ref().ok_or("its origin is missing")?;
    let is_own = from.epoch.is_empty();
    if is_own && from.node != origin {
        return Err("it has no epoch and is not of this log".to_owned());
    }
    if !is_own && (from.node == origin || ingest::speaks_for_others(record)) {
        return Err("a node says in it what only the collector may say".to_owned());
    }
    let needs_step = !is_own || matches!(record.event, Some(Event::Gap(_)));
    if needs_step && !has_step {
        return Err("its epoch does not have 16 bytes".to_owned());
    }
    Ok(())
}

fn wrong(why: String) -> Looked {
    Looked { wrong: Some(why), ..Looked::default() }
}
