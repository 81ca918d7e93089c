//! What a complete record is: its kind, and the six fields of PCI DSS 10.2.2 by name.

use crate::{Record, Result as Outcome};

/// The generated oneofs of [`Record`].
pub use crate::generated::record::{Event, Subject};

/// Largest encoded record, bytes (a C2SP entry bundle could carry 65,535).
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

/// All kinds, for help texts and the check of a query.
pub const KINDS: [&str; 17] = [
    "exec",
    "fork",
    "exit",
    "egress",
    "lost",
    "gap",
    "coverage",
    "received",
    "query",
    "conflict",
    "deletion",
    "attempt",
    "session",
    "statement",
    "statement-end",
    "traffic",
    "enrollment",
];

/// The name of a record's kind as queries and tables use it.
#[must_use]
pub fn kind(event: &Event) -> &'static str {
    match event {
        Event::Exec(_) => "exec",
        Event::Fork(_) => "fork",
        Event::Exit(_) => "exit",
        Event::Egress(_) => "egress",
        Event::Lost(_) => "lost",
        Event::Gap(_) => "gap",
        Event::Coverage(_) => "coverage",
        Event::Received(_) => "received",
        Event::Query(_) => "query",
        Event::Conflict(_) => "conflict",
        Event::Deletion(_) => "deletion",
        Event::Attempt(_) => "attempt",
        Event::Session(_) => "session",
        Event::Statement(_) => "statement",
        Event::StatementEnd(_) => "statement-end",
        Event::Traffic(_) => "traffic",
        Event::Enrollment(_) => "enrollment",
    }
}

/// The id of the gated session a record belongs to.
#[must_use]
pub fn session(event: &Event) -> Option<&[u8]> {
    match event {
        Event::Session(session) => Some(&session.id),
        Event::Statement(statement) => Some(&statement.session),
        Event::StatementEnd(end) => Some(&end.session),
        Event::Traffic(traffic) => Some(&traffic.session),
        _ => None,
    }
}

/// The first mandatory field (PCI DSS 10.2.2) a record lacks, with what it is for.
///
/// # Errors
/// Field name as in `record.proto`, and the requirement it breaks.
pub fn check_complete(record: &Record) -> Result<(), (&'static str, &'static str)> {
    if record.origin.as_ref().is_none_or(|origin| origin.node.is_empty()) {
        return Err(("origin.node", "10.2.2 origination of the event"));
    }
    if record.time_unix_nano == 0 {
        return Err(("time_unix_nano", "10.2.2 date and time"));
    }
    if !names_someone(record) {
        return Err(("subject", "10.2.2 user identification"));
    }
    let result = record.outcome.as_ref().map(|outcome| outcome.result());
    if result.is_none_or(|result| result == Outcome::Unspecified) {
        return Err(("outcome.result", "10.2.2 success or failure indication"));
    }
    let Some(event) = &record.event else {
        return Err(("event", "10.2.2 type of event"));
    };
    match affected(event) {
        Some(field) => Err((field, "10.2.2 affected data, component or resource")),
        None => Ok(()),
    }
}

fn names_someone(record: &Record) -> bool {
    // Who sends or receives a packet is a socket's workload; no process need be running it then.
    let process = record.process.as_ref().is_some_and(|process| process.pid != 0)
        || record.event.as_ref().is_some_and(is_packet);
    match &record.subject {
        None => false,
        Some(Subject::Workload(workload)) => {
            let named = !workload.namespace.is_empty() && !workload.pod.is_empty();
            process && (named || (workload.unknown && workload.cgroup_id != 0))
        }
        Some(Subject::Component(component)) => !component.name.is_empty(),
        Some(Subject::Person(person)) => !person.identity.is_empty(),
    }
}

fn is_packet(event: &Event) -> bool {
    match event {
        Event::Egress(egress) => egress.operation() == crate::egress::Operation::Packet,
        Event::Attempt(attempt) => attempt.operation == "accept",
        _ => false,
    }
}

/// The field naming what was affected, where it is empty.
fn affected(event: &Event) -> Option<&'static str> {
    let (empty, field) = match event {
        Event::Exec(exec) => (exec.path.is_empty(), "exec.path"),
        Event::Fork(fork) => (fork.child_pid == 0, "fork.child_pid"),
        Event::Exit(_) => (false, "exit"),
        Event::Egress(egress) => {
            (egress.address.is_empty() || egress.protocol.is_empty(), "egress.address")
        }
        Event::Lost(lost) => (lost.queue.is_empty() || lost.count == 0, "lost.queue"),
        Event::Gap(gap) => (gap.node.is_empty(), "gap.node"),
        Event::Coverage(coverage) => (coverage.state == 0, "coverage.state"),
        Event::Received(received) => (received.node.is_empty(), "received.node"),
        Event::Query(query) => (query.operation.is_empty(), "query.operation"),
        Event::Conflict(conflict) => (conflict.node.is_empty(), "conflict.node"),
        Event::Deletion(deletion) => (deletion.class.is_empty(), "deletion.class"),
        Event::Attempt(attempt) => {
            (attempt.operation.is_empty() || attempt.object.is_empty(), "attempt.object")
        }
        Event::Session(session) => {
            (session.id.is_empty() || session.target.is_empty(), "session.target")
        }
        Event::Statement(statement) => {
            (statement.session.is_empty() || statement.target.is_empty(), "statement.target")
        }
        Event::StatementEnd(end) => (end.session.is_empty(), "statement_end.session"),
        Event::Traffic(traffic) => (traffic.session.is_empty(), "traffic.session"),
        Event::Enrollment(asked) => {
            (asked.node.is_empty() && asked.peer.is_empty(), "enrollment.node")
        }
    };
    empty.then_some(field)
}
