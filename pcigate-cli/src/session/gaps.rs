//! What is missing of a session, as far as the evidence tells: gaps and losses of its node, an
//! agent that came after it.

use pcigate_proto::record::Event;
use pcigate_proto::{Origin, QueryRequest, Record, coverage};

use super::source::{RECORDS_MAX, Source};
use super::summary::{End, Summary};
use crate::failure::Failure;
use crate::time;

/// The collector's clock, which gaps have, and the node's may differ by this, ns.
const CLOCKS: u64 = 3_600_000_000_000;

/// Something that is missing behind a number of the node's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first number behind it, in the spool the session was recorded in.
    pub seq: u64,
    /// What, in a sentence.
    pub text: String,
}

/// Asks what the evidence says about the node of these sessions since then, and gives each the
/// reason why its end is missing.
pub async fn explain_ends(
    source: &mut Source,
    sessions: &mut [&mut Summary],
) -> Result<(), Failure> {
    let Some(since) = sessions.iter().map(|one| one.began).min() else { return Ok(()) };
    let asked = QueryRequest {
        kinds: vec!["coverage".to_owned(), "gap".to_owned()],
        since_unix_nano: since.saturating_sub(CLOCKS).max(1),
        limit: RECORDS_MAX,
        ..QueryRequest::default()
    };
    source
        .each(&asked, |_, record| {
            for session in sessions.iter_mut().filter(|session| session.end == End::Open) {
                let origin = session.record.origin.as_ref();
                if let Some(why) = origin.and_then(|origin| why_no_end(origin, &record)) {
                    session.end = End::Missing(why);
                }
            }
            Ok(())
        })
        .await
        .map(drop)
}

/// Why a session that began at `began` has no end, if this record tells.
fn why_no_end(began: &Origin, record: &Record) -> Option<String> {
    match &record.event {
        Some(Event::Coverage(coverage)) => {
            let origin = record.origin.as_ref()?;
            if !same_spool(origin, began) || origin.seq <= began.seq {
                return None;
            }
            let word = match coverage.state() {
                coverage::State::Start => "was started anew",
                coverage::State::Stop => "stopped",
                _ => return None,
            };
            Some(format!("its agent {word} at {}", time::rfc3339(record.time_unix_nano, 3)))
        }
        Some(Event::Gap(gap)) => {
            let behind = gap.last_seq == 0 || gap.last_seq > began.seq;
            let here = gap.node == began.node && gap.epoch == began.epoch;
            (here && behind).then(|| gap_words(gap))
        }
        _ => None,
    }
}

/// What is missing between the session's first record and its last.
pub async fn within(source: &mut Source, summary: &Summary) -> Result<Vec<Missing>, Failure> {
    let Some(origin) = summary.record.origin.clone() else { return Ok(Vec::new()) };
    let asked = QueryRequest {
        kinds: vec!["gap".to_owned(), "lost".to_owned()],
        since_unix_nano: summary.began.saturating_sub(CLOCKS).max(1),
        node: origin.node.clone(),
        limit: RECORDS_MAX,
        ..QueryRequest::default()
    };
    let mut missing = Vec::new();
    source
        .each(&asked, |_, record| {
            missing.extend(missing_behind(&origin, &record));
            Ok(())
        })
        .await?;
    missing.sort_by_key(|one| one.seq);
    Ok(missing)
}

fn missing_behind(began: &Origin, record: &Record) -> Option<Missing> {
    match &record.event {
        Some(Event::Gap(gap)) if gap.node == began.node && gap.epoch == began.epoch => {
            let behind = gap.last_seq == 0 || gap.last_seq > began.seq;
            behind.then(|| Missing { seq: gap.first_seq, text: gap_words(gap) })
        }
        Some(Event::Lost(lost)) if lost.queue == "spool" => {
            let origin = record.origin.as_ref()?;
            let here = same_spool(origin, began) && origin.seq > began.seq;
            here.then(|| Missing {
                seq: origin.seq,
                text: format!("{} records of the node were lost ({})", lost.count, lost.reason),
            })
        }
        _ => None,
    }
}

fn gap_words(gap: &pcigate_proto::Gap) -> String {
    let last = if gap.last_seq == 0 { "?".to_owned() } else { gap.last_seq.to_string() };
    format!("records {}–{last} of the node are missing ({})", gap.first_seq, gap.reason)
}

fn same_spool(one: &Origin, other: &Origin) -> bool {
    one.node == other.node && one.epoch == other.epoch
}

/// Takes what is missing before the record with this number.
pub fn before(missing: &mut Vec<Missing>, record: &Record) -> Vec<Missing> {
    let seq = record.origin.as_ref().map_or(0, |origin| origin.seq);
    let count = missing.iter().take_while(|one| one.seq < seq).count();
    missing.drain(..count).collect()
}
