//! A record as JSON and as words: every field of `record.proto` under its own name.
//!
//! All scalar fields are present, empty or not; absent messages are left out. `time` is RFC 3339 in
//! UTC with nanoseconds. Bytes are hex. Nanoseconds since boot are strings, because many JSON
//! readers lose digits beyond 2^53 and (pid, start) names a process.

use pcigate_proto::record::{Event, Subject, kind};
use pcigate_proto::{
    Coverage, Egress, Enforcement, Enrollment, Exec, KernelPosition, Origin, Outcome, Process,
    Record, Result as Success, Session, Statement, Verdict, Workload, coverage, egress,
    session::Phase,
};
use serde_json::{Map, Value, json};

use crate::table::is_tricky;
use crate::time;

/// One ledger entry as a JSON object.
pub fn json(index: u64, record: &Record) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(name.to_owned(), value);
        }
    };
    put("index", Some(json!(index)));
    put("time", Some(json!(time::rfc3339(record.time_unix_nano, 9))));
    put("origin", record.origin.as_ref().map(origin));
    put("subject", record.subject.as_ref().map(subject));
    put("process", record.process.as_ref().map(process));
    put("outcome", record.outcome.as_ref().map(outcome));
    let masked = record.masked.iter().map(|one| json!({"kind": one.kind, "count": one.count}));
    put("masked", Some(masked.collect()));
    if let Some(event) = &record.event {
        put("kind", Some(json!(kind(event))));
        put(kind(event), Some(event_fields(event)));
    }
    Value::Object(object)
}

/// The JSON as one line that is safe on a terminal too.
pub fn line(value: &Value) -> String {
    safe(&value.to_string())
}

/// JSON in which what a table escapes is escaped as JSON does it. Such letters stand in strings
/// only.
pub fn safe(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_tricky(letter) {
            line.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            line.push(letter);
        }
    }
    line
}

/// A ledger entry that is no record this program can read.
pub fn unreadable(index: u64, reason: &str) -> Value {
    json!({"index": index, "unreadable": reason})
}

/// `allow`, `gate`, `ask`, `deny`; empty where there is none.
pub fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unspecified => "",
        Verdict::Allow => "allow",
        Verdict::Gate => "gate",
        Verdict::Ask => "ask",
        Verdict::Deny => "deny",
    }
}

/// `cgroup`, `lsm`, `kill`; empty where nothing was refused.
pub fn enforcement_word(enforcement: Enforcement) -> &'static str {
    match enforcement {
        Enforcement::Unspecified => "",
        Enforcement::Cgroup => "cgroup",
        Enforcement::Lsm => "lsm",
        Enforcement::Kill => "kill",
    }
}

/// `connect` or `send`.
pub fn operation_word(operation: egress::Operation) -> &'static str {
    match operation {
        egress::Operation::Unspecified => "",
        egress::Operation::Connect => "connect",
        egress::Operation::Send => "send",
        egress::Operation::Packet => "packet",
    }
}

/// `start`, `stop` or `change`.
pub fn state_word(state: coverage::State) -> &'static str {
    match state {
        coverage::State::Unspecified => "",
        coverage::State::Start => "start",
        coverage::State::Stop => "stop",
        coverage::State::Change => "change",
    }
}

fn result_word(result: Success) -> &'static str {
    match result {
        Success::Unspecified => "",
        Success::Success => "success",
        Success::Refused => "refused",
        Success::Failed => "failed",
    }
}

fn origin(origin: &Origin) -> Value {
    let mut value = json!({
        "node": origin.node, "epoch": hex::encode(&origin.epoch), "seq": origin.seq,
    });
    if let (Some(KernelPosition { cpu, seq }), Some(object)) =
        (origin.kernel, value.as_object_mut())
    {
        object.insert("kernel".to_owned(), json!({"cpu": cpu, "seq": seq}));
    }
    value
}

fn subject(subject: &Subject) -> Value {
    match subject {
        Subject::Workload(workload) => json!({"workload": workload_fields(workload)}),
        Subject::Component(component) => {
            json!({"component": {"name": component.name, "version": component.version}})
        }
        Subject::Person(person) => json!({"person": {"identity": person.identity}}),
    }
}

fn workload_fields(workload: &Workload) -> Value {
    json!({
        "unknown": workload.unknown,
        "namespace": workload.namespace,
        "pod": workload.pod,
        "pod_uid": workload.pod_uid,
        "service_account": workload.service_account,
        "container": workload.container,
        "container_id": workload.container_id,
        "cgroup_id": workload.cgroup_id,
        "cgroup_path": workload.cgroup_path,
        "owner_kind": workload.owner_kind,
        "owner_name": workload.owner_name,
        "image": workload.image,
        "image_digest": workload.image_digest,
    })
}

fn process(process: &Process) -> Value {
    json!({
        "pid": process.pid,
        "tid": process.tid,
        "start_boottime_ns": process.start_boottime_ns.to_string(),
        "uid": process.uid,
        "executable": process.executable,
        "parent_pid": process.parent_pid,
        "parent_start_boottime_ns": process.parent_start_boottime_ns.to_string(),
    })
}

fn outcome(outcome: &Outcome) -> Value {
    json!({
        "result": result_word(outcome.result()),
        "verdict": verdict_word(outcome.verdict()),
        "policy": outcome.policy,
        "rule": outcome.rule,
        "enforcement": enforcement_word(outcome.enforcement()),
        "audit_verdict": verdict_word(outcome.audit_verdict()),
        "audit_policy": outcome.audit_policy,
        "audit_rule": outcome.audit_rule,
        "policy_hash": hex::encode(&outcome.policy_hash),
    })
}

fn event_fields(event: &Event) -> Value {
    match event {
        Event::Exec(exec) => exec_fields(exec),
        Event::Fork(fork) => json!({
            "child_pid": fork.child_pid,
            "child_start_boottime_ns": fork.child_start_boottime_ns.to_string(),
        }),
        Event::Exit(exit) => json!({"code": exit.code, "signal": exit.signal}),
        Event::Egress(egress) => egress_fields(egress),
        Event::Lost(lost) => {
            json!({"count": lost.count, "reason": lost.reason, "queue": lost.queue})
        }
        Event::Gap(gap) => json!({
            "node": gap.node,
            "epoch": hex::encode(&gap.epoch),
            "first_seq": gap.first_seq,
            "last_seq": gap.last_seq,
            "reason": gap.reason,
        }),
        Event::Coverage(coverage) => coverage_fields(coverage),
        Event::Received(received) => json!({
            "node": received.node,
            "epoch": hex::encode(&received.epoch),
            "first_seq": received.first_seq,
            "last_seq": received.last_seq,
            "clock_offset_ns": received.clock_offset_ns.to_string(),
            "place": hex::encode(&received.place),
        }),
        Event::Query(query) => json!({"operation": query.operation, "filter": query.filter}),
        Event::Conflict(conflict) => json!({
            "node": conflict.node,
            "epoch": hex::encode(&conflict.epoch),
            "seq": conflict.seq,
            "stored_sha256": hex::encode(&conflict.stored_sha256),
            "refused_sha256": hex::encode(&conflict.refused_sha256),
        }),
        Event::Attempt(attempt) => {
            json!({"operation": attempt.operation, "object": attempt.object})
        }
        Event::Session(session) => session_fields(session),
        Event::Statement(statement) => statement_fields(statement),
        Event::StatementEnd(end) => json!({
            "session": hex::encode(&end.session),
            "number": end.number,
            "rows": end.rows,
            "bytes": end.bytes,
            "duration_ns": end.duration_ns.to_string(),
            "sqlstate": end.sqlstate,
        }),
        Event::Traffic(traffic) => json!({
            "session": hex::encode(&traffic.session),
            "from_client": traffic.from_client,
            "text": traffic.text,
            "truncated": traffic.truncated,
        }),
        Event::Deletion(deletion) => json!({
            "class": deletion.class,
            "before": time::rfc3339(deletion.before_unix_nano, 9),
            "records": deletion.records,
        }),
        Event::Enrollment(asked) => enrollment_fields(asked),
    }
}

fn enrollment_fields(asked: &Enrollment) -> Value {
    let not_after = match asked.not_after_unix_nano {
        0 => String::new(),
        at => time::rfc3339(at, 0),
    };
    json!({
        "node": asked.node,
        "namespace": asked.namespace,
        "service_account": asked.service_account,
        "pod": asked.pod,
        "pod_uid": asked.pod_uid,
        "peer": asked.peer,
        "serial": asked.serial,
        "certificate_sha256": hex::encode(&asked.certificate_sha256),
        "not_after": not_after,
        "reason": asked.reason,
        "count": asked.count,
    })
}

fn session_fields(session: &Session) -> Value {
    json!({
        "id": hex::encode(&session.id),
        "phase": phase_word(session.phase()),
        "target": session.target,
        "protocol": session.protocol,
        "database": session.database,
        "user": session.user,
        "role": session.role,
        "application": session.application,
        "client": session.client,
        "client_tls": session.client_tls,
        "token_subject": session.token_subject,
        "token_issuer": session.token_issuer,
        "reason": session.reason,
        "statements": session.statements,
        "refused": session.refused,
        "rows": session.rows,
        "bytes": session.bytes,
        "duration_ns": session.duration_ns.to_string(),
    })
}

fn phase_word(phase: Phase) -> &'static str {
    match phase {
        Phase::Unspecified => "",
        Phase::Started => "started",
        Phase::Ended => "ended",
    }
}

fn statement_fields(statement: &Statement) -> Value {
    let parameters = statement.parameters.iter();
    let parameters =
        parameters.map(|one| if one.null { Value::Null } else { Value::from(one.text.as_str()) });
    json!({
        "session": hex::encode(&statement.session),
        "number": statement.number,
        "target": statement.target,
        "step": statement.step,
        "command": statement.command,
        "text": statement.text,
        "text_bytes": statement.text_bytes,
        "parameters": parameters.collect::<Value>(),
        "parameters_truncated": statement.parameters_truncated,
        "effects": statement.effects,
        "tables": statement.tables,
        "reason": statement.reason,
        "request_key": hex::encode(&statement.request_key),
    })
}

fn exec_fields(exec: &Exec) -> Value {
    json!({
        "path": exec.path,
        "invoked": exec.invoked,
        "args": exec.args,
        "args_truncated": exec.args_truncated,
        "args_unavailable": exec.args_unavailable,
        "path_unresolved": exec.path_unresolved,
        "args_bytes": exec.args_bytes,
    })
}

fn egress_fields(egress: &Egress) -> Value {
    json!({
        "operation": operation_word(egress.operation()),
        "protocol": egress.protocol,
        "address": egress.address,
        "port": egress.port,
        "v4_mapped": egress.v4_mapped,
    })
}

fn coverage_fields(coverage: &Coverage) -> Value {
    let capabilities = coverage.capabilities.iter().map(|capability| {
        json!({"name": capability.name, "state": capability.state, "reason": capability.reason})
    });
    json!({
        "state": state_word(coverage.state()),
        "message": coverage.message,
        "capabilities": capabilities.collect::<Value>(),
    })
}
