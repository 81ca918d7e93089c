//! What can be said about a record without the ledger: is it complete, and does it belong here?

use pcigate_proto::{
    Message, Record,
    record::{Event, RECORD_BYTES_MAX, Subject, check_complete},
};

use crate::{
    cursors::{Checked, Spool, is_stop},
    ledger::Leaf,
};

/// Most records in a batch.
pub const BATCH_RECORDS_MAX: usize = 1_024;
/// Most bytes of records in a batch.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Whether a batch is within the limits.
///
/// # Errors
/// A sentence for the node.
pub fn limits(records: &[Vec<u8>]) -> Result<(), String> {
    let bytes: usize = records.iter().map(Vec::len).sum();
    if records.len() > BATCH_RECORDS_MAX || bytes > BATCH_BYTES_MAX {
        return Err(format!(
            "batch.records: {} records with {bytes} bytes; at most {BATCH_RECORDS_MAX} records \
             with {BATCH_BYTES_MAX} bytes: send smaller batches",
            records.len()
        ));
    }
    Ok(())
}

/// Checks record `seq` of a spool, for the log `origin`.
#[must_use]
pub fn record(bytes: Vec<u8>, spool: &Spool, seq: u64, origin: &str) -> Checked {
    match check(&bytes, spool, seq, origin) {
        Ok(stop) => Checked::Good { leaf: Leaf::new(bytes), stop },
        Err((field, reason)) => Checked::Wrong { bytes, field, reason },
    }
}

/// Whether it is a Coverage STOP, or the field that is wrong and why.
fn check(
    bytes: &[u8],
    spool: &Spool,
    seq: u64,
    origin: &str,
) -> Result<bool, (&'static str, String)> {
    if bytes.len() > RECORD_BYTES_MAX {
        let reason = format!("it has {} bytes; at most {RECORD_BYTES_MAX}", bytes.len());
        return Err(("record", reason));
    }
    let record =
        Record::decode(bytes).map_err(|_| ("record", "it cannot be decoded".to_owned()))?;
    check_complete(&record)
        .map_err(|(field, why)| (field, format!("it is missing or empty ({why})")))?;
    let from = record.origin.as_ref().ok_or(("origin", "it is missing".to_owned()))?;
    if from.node != spool.node || from.node == origin {
        let reason = "it is not the node of the certificate";
        return Err(("origin.node", reason.to_owned()));
    }
    if from.epoch != spool.epoch {
        return Err(("origin.epoch", "it is not the epoch of the batch".to_owned()));
    }
    if from.seq != seq {
        let reason = format!("it is {}, its place in the batch is {seq}", from.seq);
        return Err(("origin.seq", reason));
    }
    if speaks_for_others(&record) {
        let reason = "only the collector makes records of this kind or subject";
        return Err(("event", reason.to_owned()));
    }
    Ok(is_stop(&record))
}

/// Whether a node claims what only the collector can know: what people asked, what was received.
pub fn speaks_for_others(record: &Record) -> bool {
    let subject = match &record.subject {
        Some(Subject::Person(_)) => true,
        Some(Subject::Component(component)) => component.name == "collector",
        _ => false,
    };
    // The collector makes the Gap of a hole that a node declares.
    let event = matches!(
        record.event,
        Some(
            Event::Received(_)
                | Event::Query(_)
                | Event::Conflict(_)
                | Event::Gap(_)
                | Event::Deletion(_)
                | Event::Enrollment(_)
        )
    );
    subject || event
}
