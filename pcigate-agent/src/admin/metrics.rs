//! Every metric of the agent: its name, its meaning, where its value comes from. docs/metrics.md
//! has the same names, and a test holds both together.
//!
//! Labels are closed sets, but for the hash of the policies in force, of which there is one. No
//! pod, person, policy or text of a record is a label.

use std::{
    fs,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::sys::resource::{Resource, getrlimit};
use pcigate_proto::{Message as _, Record, Verdict, record::KINDS};

use super::{
    board::{Governed, Watched},
    page::{Labels, Page},
};
use crate::{
    draft::{LostReason, Queue},
    exporter::WitnessState,
    recorder::{self, QUEUE_DRAFTS_MAX, lock},
    spool::Spool,
};

/// What every name begins with.
const PREFIX: &str = "pcigate_agent";
/// Kinds that only a collector makes.
const NOT_OURS: [&str; 5] = ["gap", "received", "query", "conflict", "deletion"];
const VERDICTS: [(Verdict, &str); 5] = [
    (Verdict::Unspecified, "none"),
    (Verdict::Allow, "allow"),
    (Verdict::Gate, "gate"),
    (Verdict::Ask, "ask"),
    (Verdict::Deny, "deny"),
];
const RINGS: [Queue; 3] = [Queue::Events, Queue::Verdicts, Queue::Spool];
const REASONS: [LostReason; 7] = [
    LostReason::RingFull,
    LostReason::SpoolFull,
    LostReason::SpoolFailed,
    LostReason::ReaderBehind,
    LostReason::Undecodable,
    LostReason::AgentDied,
    LostReason::OtherVersion,
];
/// Of findings; detectors of one's own are one.
const FINDINGS: [&str; 8] =
    ["pan", "track1", "track2", "cvv", "expiry", "pin", "secret", OWN_DETECTORS];
const OWN_DETECTORS: &str = "custom";

/// What is told.
pub(super) struct Seen {
    pub(super) running: Duration,
    pub(super) ready: bool,
    pub(super) looked: Duration,
    pub(super) watched: Option<Watched>,
    pub(super) governed: Governed,
}

/// The exposition.
pub(super) fn text(seen: &Seen) -> Result<String, std::fmt::Error> {
    let mut page = Page::new(PREFIX);
    let version = label("version", env!("CARGO_PKG_VERSION"));
    page.info("build", "The version of the program", version);
    page.gauge("enforcing", "1 while /readyz answers 200", seen.ready);
    page.gauge("running_seconds", "Since the start of the agent", seen.running.as_secs_f64());
    let looked = seen.looked.as_secs_f64();
    page.gauge("look_age_seconds", "Since the workloads were last looked at", looked);
    governed(&mut page, &seen.governed);
    if let Some(watched) = &seen.watched {
        let pipeline = watched.pipeline.age().as_secs_f64();
        page.gauge("pipeline_age_seconds", "Since the rings were last looked at", pipeline);
        let counters = watched.recorder.counters();
        recorded(&mut page, &counters, watched.recorder.queued());
        spool(&mut page, &watched.spool);
        exported(&mut page, watched);
        gated(&mut page, watched);
    }
    process(&mut page);
    page.text()
}

fn governed(page: &mut Page, governed: &Governed) {
    let policies = &governed.policies;
    page.info("policy", "What is in force, by its hash", label("hash", &policies.hash));
    let documents = [("policy", policies.policies), ("target", policies.targets)];
    let rows = documents.map(|(kind, count)| (label("kind", kind), count));
    page.gauges("policy_documents", "Documents in force, by kind", rows);
    page.gauge("policy_sets", "Distinct sets of policies compiled", policies.compiled);
    let readings = policies.readings;
    let rows = [("taken", readings.taken), ("refused", readings.refused)];
    let rows = rows.map(|(result, count)| (label("result", result), count));
    page.counters("policy_readings", "Readings of documents, by result", rows);
    let refused = readings.last_refused;
    page.gauge("policy_refused", "1 while the newest documents are refused", refused);
    let workloads = governed.workloads;
    let rows = [
        ("governed", workloads.governed),
        ("exempt", workloads.exempt),
        ("refused", workloads.refused),
        ("unknown", workloads.unknown),
    ];
    let rows = rows.map(|(state, count)| (label("state", state), count));
    page.gauges("workloads", "Pods on this node, by how they are treated", rows);
    page.gauge("apply_failures", "Workloads or tables not as they should be", governed.failures);
    page.gauge("grants", "Grants in force", governed.grants);
    let rows = governed.missing.iter().map(|(name, count)| (label("capability", name), *count));
    page.gauges("coverage_missing", "What this node does not do, by capability", rows);
    page.gauge("gateway_networks", "Network namespaces the gateway is in", governed.networks);
    let unheard = governed.unheard;
    page.gauge("gateway_networks_missing", "Network namespaces it could not enter", unheard);
    if let Some(server) = governed.source.api_server {
        page.gauge("api_server_answering", "1 while the API server tells of pods", server.answers);
        if let Some(heard) = server.heard {
            let age = heard.elapsed().as_secs_f64();
            page.gauge("api_server_age_seconds", "Since the API server's last word", age);
        }
    }
}

fn recorded(page: &mut Page, counters: &recorder::Counters, queued: usize) {
    let ours = KINDS.into_iter().filter(|kind| !NOT_OURS.contains(kind));
    let rows = ours.flat_map(|kind| {
        VERDICTS.map(|(verdict, name)| {
            let count = counters.by_verdict.get(&(kind, verdict)).copied().unwrap_or(0);
            (vec![("kind", kind.to_owned()), ("verdict", name.to_owned())], count)
        })
    });
    page.counters("records", "Durable records, by kind and verdict", rows);
    let rows = RINGS.into_iter().flat_map(|ring| {
        REASONS.map(|reason| {
            let count = counters.lost.get(&(ring, reason)).copied().unwrap_or(0);
            let labels =
                vec![("ring", ring.as_str().to_owned()), ("reason", reason.as_str().to_owned())];
            (labels, count)
        })
    });
    page.counters("lost_events", "Events without a record, by ring and reason", rows);
    let untold = counters.lost_unreported;
    page.gauge("lost_events_untold", "Of those, what no durable record tells of yet", untold);
    let none = FINDINGS.map(|kind| (label("kind", kind), 0));
    let found = counters.masked.iter().map(|(kind, count)| {
        let known = FINDINGS.iter().find(|known| *known == kind);
        (label("kind", known.unwrap_or(&OWN_DETECTORS)), *count)
    });
    page.counters("masked_values", "What masking took out, by kind", none.into_iter().chain(found));
    page.gauge("queue_drafts", "Records waiting to be written", queued);
    page.gauge("queue_drafts_limit", "How many may wait", QUEUE_DRAFTS_MAX);
}

fn spool(page: &mut Page, spool: &Mutex<Spool>) {
    let mut spool = lock(spool);
    let waiting = spool.durable_seq().saturating_sub(spool.acked_seq());
    page.gauge("spool_bytes", "Bytes of records kept", spool.used_bytes());
    page.gauge("spool_limit_bytes", "Bytes that may be kept", spool.limits().total_bytes);
    page.gauge("spool_records", "Records the collector has not acknowledged", waiting);
    page.gauge("spool_writable", "1 while the spool takes records", spool.has_room());
    let age = oldest(&mut spool).map_or(0.0, |age| age.as_secs_f64());
    page.gauge("spool_oldest_seconds", "Age of the oldest of these records", age);
}

/// The age of the oldest record without an Ack, by its own time.
fn oldest(spool: &mut Spool) -> Option<Duration> {
    let batch = spool.read(spool.acked_seq() + 1, 1, 1).ok()?;
    let record = Record::decode(batch.records.first()?.as_slice()).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(now.saturating_sub(Duration::from_nanos(record.time_unix_nano)))
}

fn exported(page: &mut Page, watched: &Watched) {
    let counters = watched.exporter.as_ref().map(|exporter| exporter.counters());
    page.gauge("exporter_configured", "1 where there is a collector", counters.is_some());
    let counters = counters.unwrap_or_default();
    page.gauge("exporter_connected", "1 while the collector answers", counters.connected);
    page.counter("exporter_connects", "Connections that were tried", counters.connects);
    page.counter("exporter_sent_records", "Records sent, again included", counters.sent_records);
    page.counter("exporter_refused_records", "Records refused", counters.refused_records);
    let (leaves, alarm) = match counters.witness {
        WitnessState::Nothing => (0, false),
        WitnessState::Verified { tree_size } => (tree_size, false),
        WitnessState::Alarm { tree_size, .. } => (tree_size, true),
    };
    page.gauge("ledger_leaves", "Leaves of the last ledger that was verified", leaves);
    page.gauge("ledger_alarm", "1 while the ledger contradicts what was seen of it", alarm);
}

fn gated(page: &mut Page, watched: &Watched) {
    page.gauge("gateway_sessions", "Gated sessions under way", watched.live.count());
    page.histogram(
        "statement_decision_seconds",
        "From taking up a statement to its verdict",
        &watched.timings.decision,
    );
    page.histogram(
        "durable_wait_seconds",
        "From the records of a session to their place on disk",
        &watched.timings.durable,
    );
}

/// Of /proc; what cannot be read is left out.
fn process(page: &mut Page) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kib) = resident_kib(&status) {
        page.gauge("resident_memory_bytes", "Memory of the process (VmRSS)", kib * 1024);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // The directory being read is one of them.
        page.gauge("open_files", "Open file descriptors", files.count().saturating_sub(1));
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        page.gauge("open_files_limit", "File descriptors the process may have", soft);
    }
}

/// `VmRSS` of a `/proc/PID/status`, KiB.
fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn label(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}
