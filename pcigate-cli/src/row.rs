//! A record as one row of the table of `pcigate records`.

use pcigate_proto::record::{Event, Subject};
use pcigate_proto::{
    Enrollment, Exec, Outcome, Record, Result as Success, Session, Verdict, Workload,
    session::Phase,
};

use crate::record_view::{enforcement_word, operation_word, state_word, verdict_word};
use crate::table::{Tone, beginning, ending, plain};
use crate::time;

/// Column heads; with `--wide` also [`MORE_HEADS`].
pub const HEADS: [&str; 10] = [
    "INDEX",
    "TIME",
    "WHO",
    "SERVICE ACCOUNT",
    "PID",
    "EXECUTABLE",
    "WHAT",
    "VERDICT",
    "RULE",
    "HOW",
];
/// The columns `--wide` adds.
pub const MORE_HEADS: [&str; 5] = ["AUDIT RULE", "NODE", "CONTAINER", "UID", "MASKED"];
/// Least widths of the columns while rows are printed as they come.
pub const FOLLOW_WIDTHS: [u16; 10] = [9, 26, 28, 17, 9, 26, 44, 10, 28, 6];

const EXECUTABLE_MAX: usize = 32;
const WHAT_MAX: usize = 60;

/// The cells of one row, in the order of the heads, and how it stands out.
pub fn cells(index: u64, record: &Record, wide: bool) -> (Vec<String>, Tone) {
    let outcome = record.outcome.clone().unwrap_or_default();
    let (mut program, mut what) = (executable(record), what(record.event.as_ref()));
    if !wide {
        program = ending(&program, EXECUTABLE_MAX);
        what = beginning(&what, WHAT_MAX);
    }
    let pid = record.process.as_ref().map(|process| process.pid);
    let mut cells = vec![
        index.to_string(),
        time::rfc3339(record.time_unix_nano, 3),
        plain(&who(record.subject.as_ref())),
        plain(workload(record).map_or("", |workload| &workload.service_account)),
        pid.map(|pid| pid.to_string()).unwrap_or_default(),
        program,
        what,
        verdict(&outcome),
        plain(&rule(&outcome.policy, &outcome.rule)),
        enforcement_word(outcome.enforcement()).to_owned(),
    ];
    if wide {
        let uid = record.process.as_ref().map(|process| process.uid.to_string());
        let masked: Vec<String> =
            record.masked.iter().map(|one| format!("{} {}", one.count, one.kind)).collect();
        cells.extend([
            plain(&rule(&outcome.audit_policy, &outcome.audit_rule)),
            plain(record.origin.as_ref().map_or("", |origin| &origin.node)),
            plain(workload(record).map_or("", |workload| &workload.container)),
            uid.unwrap_or_default(),
            plain(&masked.join(", ")),
        ]);
    }
    (cells, tone(record.event.as_ref(), &outcome))
}

/// The row of a ledger entry that is no record this program can read.
pub fn unreadable(index: u64, reason: &str) -> (Vec<String>, Tone) {
    let mut cells = vec![String::new(); HEADS.len()];
    for (cell, text) in cells.iter_mut().zip([
        index.to_string(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        format!("unreadable: {}", plain(reason)),
    ]) {
        *cell = text;
    }
    (cells, Tone::Warning)
}

fn workload(record: &Record) -> Option<&Workload> {
    match &record.subject {
        Some(Subject::Workload(workload)) => Some(workload),
        _ => None,
    }
}

fn who(subject: Option<&Subject>) -> String {
    match subject {
        None => "nobody".to_owned(),
        Some(Subject::Workload(workload)) if workload.unknown => {
            format!("unknown cgroup {}", workload.cgroup_id)
        }
        Some(Subject::Workload(workload)) => format!("{}/{}", workload.namespace, workload.pod),
        Some(Subject::Component(component)) => component.name.clone(),
        Some(Subject::Person(person)) => person.identity.clone(),
    }
}

/// The program asked for, or else the one that acted.
fn executable(record: &Record) -> String {
    match (&record.event, &record.process) {
        (Some(Event::Exec(exec)), _) => plain(&exec.path),
        (_, Some(process)) => plain(&process.executable),
        _ => String::new(),
    }
}

fn what(event: Option<&Event>) -> String {
    let text = match event {
        None => return "nothing".to_owned(),
        Some(Event::Exec(exec)) => return command_line(exec),
        Some(Event::Fork(fork)) => format!("→ {}", fork.child_pid),
        Some(Event::Exit(exit)) if exit.signal != 0 => format!("signal {}", exit.signal),
        Some(Event::Exit(exit)) => format!("code {}", exit.code),
        Some(Event::Egress(egress)) => {
            let operation = operation_word(egress.operation());
            let place = if egress.address.contains(':') {
                format!("[{}]:{}", egress.address, egress.port)
            } else {
                format!("{}:{}", egress.address, egress.port)
            };
            let form = if egress.v4_mapped { " (v4-mapped)" } else { "" };
            format!("{operation} {} {place}{form}", egress.protocol)
        }
        Some(Event::Lost(lost)) => {
            format!("{} {} lost ({}, {})", lost.count, events(lost.count), lost.reason, lost.queue)
        }
        Some(Event::Gap(gap)) => {
            let last = if gap.last_seq == 0 { "?".to_owned() } else { gap.last_seq.to_string() };
            format!("gap: {} seq {}–{last} ({})", gap.node, gap.first_seq, gap.reason)
        }
        Some(Event::Coverage(coverage)) => {
            let missing = coverage.capabilities.iter().filter(|one| one.state != "enforced");
            let missing: Vec<String> =
                missing.map(|one| format!("{} {}", one.name, one.state)).collect();
            let list = if missing.is_empty() { String::new() } else { missing.join(", ") + "; " };
            format!("coverage {}: {list}{}", state_word(coverage.state()), coverage.message)
        }
        Some(Event::Received(received)) => format!(
            "received {} seq {}–{}, clock {:+} ms",
            received.node,
            received.first_seq,
            received.last_seq,
            received.clock_offset_ns / 1_000_000
        ),
        Some(Event::Attempt(attempt)) => format!("{} {}", attempt.operation, attempt.object),
        Some(Event::Session(session)) => {
            let Session { target, database, user, reason, .. } = session;
            match session.phase() {
                Phase::Ended => format!("session with {target} ended: {reason}"),
                _ => format!("session with {target} began: database {database}, user {user}"),
            }
        }
        Some(Event::Statement(statement)) => format!("{} {}", statement.step, statement.text),
        Some(Event::StatementEnd(end)) => {
            let failed = if end.sqlstate.is_empty() { "done" } else { &end.sqlstate };
            format!("statement {} {failed}: {} rows, {} bytes", end.number, end.rows, end.bytes)
        }
        Some(Event::Traffic(traffic)) => {
            let way = if traffic.from_client { ">" } else { "<" };
            format!("{way} {}", traffic.text)
        }
        Some(Event::Query(query)) => format!("asked for {} {}", query.operation, query.filter),
        Some(Event::Conflict(conflict)) => {
            format!("conflict: {} seq {} came again with other bytes", conflict.node, conflict.seq)
        }
        Some(Event::Deletion(deletion)) => format!(
            "deletion of {} {} records from before {} out of the index (retention)",
            deletion.records,
            deletion.class,
            time::rfc3339(deletion.before_unix_nano, 0)
        ),
        Some(Event::Enrollment(asked)) => enrollment_words(asked),
    };
    plain(text.trim_end())
}

fn enrollment_words(asked: &Enrollment) -> String {
    let Enrollment { node, namespace, pod, peer, serial, reason, count, .. } = asked;
    if !serial.is_empty() {
        return format!("certificate {serial} for node {node} to {namespace}/{pod}");
    }
    let who = match pod.as_str() {
        "" => peer.clone(),
        pod => format!("{namespace}/{pod} at {peer}"),
    };
    let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
    format!("no certificate to {who}: {reason}{times}")
}

fn events(count: u64) -> &'static str {
    if count == 1 { "event" } else { "events" }
}

/// The arguments as a shell would take them, with what is missing.
fn command_line(exec: &Exec) -> String {
    let mut line = if exec.args_unavailable || exec.args.is_empty() {
        quoted(if exec.invoked.is_empty() { &exec.path } else { &exec.invoked })
    } else {
        exec.args.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" ")
    };
    if exec.args_truncated {
        line.push_str(" …");
    }
    if exec.args_unavailable {
        line.push_str(" (arguments not readable)");
    }
    if exec.path_unresolved {
        line.push_str(" (path not resolved)");
    }
    line
}

fn quoted(argument: &str) -> String {
    let bare = |letter: char| letter.is_alphanumeric() || "_@%+=:,./-*[]".contains(letter);
    let shown = plain(argument);
    if !shown.is_empty() && shown.chars().all(bare) {
        shown
    } else {
        format!("'{}'", shown.replace('\'', "'\\''"))
    }
}

fn verdict(outcome: &Outcome) -> String {
    let mut text = match outcome.verdict() {
        Verdict::Unspecified => String::new(),
        verdict => verdict_word(verdict).to_owned(),
    };
    // A refusal that did not take effect must not look like one that did.
    if outcome.verdict() != Verdict::Allow && outcome.result() == Success::Failed {
        text.push_str(" (failed)");
    }
    if outcome.audit_verdict() != Verdict::Unspecified {
        text.push_str(" (audit:");
        text.push_str(verdict_word(outcome.audit_verdict()));
        text.push(')');
    }
    text.trim_start().to_owned()
}

fn rule(policy: &str, rule: &str) -> String {
    match (policy.is_empty(), rule.is_empty()) {
        (true, _) => rule.to_owned(),
        (false, true) => policy.to_owned(),
        (false, false) => format!("{policy}/{rule}"),
    }
}

fn tone(event: Option<&Event>, outcome: &Outcome) -> Tone {
    let verdict = outcome.verdict();
    match event {
        None | Some(Event::Lost(_) | Event::Gap(_) | Event::Conflict(_)) => Tone::Warning,
        _ if outcome.result() == Success::Refused => Tone::Refused,
        _ if matches!(verdict, Verdict::Deny | Verdict::Ask | Verdict::Gate) => Tone::Refused,
        _ if outcome.audit_verdict() != Verdict::Unspecified => Tone::Warning,
        _ => Tone::Plain,
    }
}
