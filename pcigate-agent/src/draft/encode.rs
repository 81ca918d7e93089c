//! Makes the bytes of a record: bounded field by field, so that no draft can exceed a record.

mod gateway;

use std::collections::BTreeMap;

use pcigate_common::event::Operation;
use pcigate_policy::mask::Masked;
use pcigate_proto::record::check_complete;
use pcigate_proto::record::{Event as ProtoEvent, RECORD_BYTES_MAX, Subject as ProtoSubject};
use pcigate_proto::{self as proto, Message, Record};

use super::{CoverageState, Decided, Draft, Ending, Event, Exec, Outcome, Process, Subject};

/// Capabilities one coverage record names (a node has about ten).
pub const CAPABILITIES_MAX: usize = 40;

// What each text may take of a record, bytes. A text beyond it is cut and ends in `…`. Kubernetes
// names are at most 253 bytes; paths are read up to 1,024 bytes, each of which may become a
// three-byte U+FFFD; arguments likewise from 4,096 bytes, plus two bytes each.
const NAME_BYTES_MAX: usize = 256;
const RULE_BYTES_MAX: usize = 512;
const PATH_BYTES_MAX: usize = 3 * 1024;
const ARGS_BYTES_MAX: usize = 14 * 1024;
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
const REASON_BYTES_MAX: usize = 256;
/// Numbers, tags and lengths of all fields of a record together, generously.
const FIXED_BYTES_MAX: usize = 1024;
/// Tag and length of a field of at most 16 KiB.
const FIELD_OVERHEAD: usize = 5;

/// Node, nine names of the workload, its image and its cgroup path, the executable, two rules.
const COMMON_BYTES_MAX: usize =
    10 * NAME_BYTES_MAX + 2 * PATH_BYTES_MAX + 5 * RULE_BYTES_MAX + FIXED_BYTES_MAX;
const _: () = assert!(COMMON_BYTES_MAX + 2 * PATH_BYTES_MAX + ARGS_BYTES_MAX <= RECORD_BYTES_MAX);
const CAPABILITY_BYTES_MAX: usize = 64 + 24 + REASON_BYTES_MAX + 4 * FIELD_OVERHEAD;
const COVERAGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX + (CAPABILITIES_MAX + 1) * CAPABILITY_BYTES_MAX;
const _: () = assert!(COMMON_BYTES_MAX + COVERAGE_BYTES_MAX <= RECORD_BYTES_MAX);

/// The bytes of a record: deterministic, at most [`RECORD_BYTES_MAX`].
#[must_use]
pub fn encode(draft: &Draft, node: &str, epoch: &[u8; 16], seq: u64) -> Vec<u8> {
    record_of(draft, node, epoch, seq).encode_to_vec()
}

/// The record [`encode`] encodes, for callers that also want to read it.
#[must_use]
pub fn record_of(draft: &Draft, node: &str, epoch: &[u8; 16], seq: u64) -> Record {
    let mut text = Text::default();
    let subject = subject(&draft.subject, &mut text);
    let process = draft.process.as_ref().map(|process| self::process(process, &mut text));
    let outcome = outcome(&draft.outcome, &mut text);
    let event = event(&draft.event, &mut text);
    let record = Record {
        origin: Some(proto::Origin {
            node: cut(node, NAME_BYTES_MAX),
            epoch: epoch.to_vec(),
            seq,
            kernel: draft.kernel.map(|(cpu, seq)| proto::KernelPosition { cpu, seq }),
        }),
        time_unix_nano: draft.time_unix_nano,
        subject: Some(subject),
        process,
        outcome: Some(outcome),
        masked: text.summary(),
        event: Some(event),
    };
    debug_assert_eq!(check_complete(&record), Ok(()), "the caller left out a mandatory field");
    record
}

/// Takes masked text into a record and counts what masking took out of it.
#[derive(Default)]
struct Text {
    findings: BTreeMap<pcigate_policy::mask::Kind, u32>,
}

impl Text {
    fn take(&mut self, text: &Masked, max: usize) -> String {
        self.count(text);
        cut(text.as_str(), max)
    }

    /// A text a complete record needs, which foreign data may have left empty.
    fn required(&mut self, text: &Masked, max: usize) -> String {
        let taken = self.take(text, max);
        if taken.is_empty() { "(unknown)".to_owned() } else { taken }
    }

    fn count(&mut self, text: &Masked) {
        for finding in text.findings() {
            *self.findings.entry(finding.kind).or_default() += 1;
        }
    }

    /// Adds what masking took out of something that is not in the record itself.
    fn add(&mut self, counts: &[(pcigate_policy::mask::Kind, u32)]) {
        for (kind, count) in counts {
            let kept = self.findings.entry(*kind).or_default();
            *kept = kept.saturating_add(*count);
        }
    }

    fn summary(self) -> Vec<proto::Finding> {
        self.findings
            .into_iter()
            .map(|(kind, count)| proto::Finding { kind: kind.to_string(), count })
            .collect()
    }
}

/// At most `max` bytes of `text`; a cut one ends in `…`.
fn cut(text: &str, max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max.saturating_sub(MARK.len()));
    let mut kept = text.get(..end).unwrap_or_default().to_owned();
    kept.push_str(MARK);
    kept
}

fn subject(subject: &Subject, text: &mut Text) -> ProtoSubject {
    match subject {
        Subject::Workload(workload) => ProtoSubject::Workload(proto::Workload {
            unknown: false,
            namespace: text.required(&workload.namespace, NAME_BYTES_MAX),
            pod: text.required(&workload.pod, NAME_BYTES_MAX),
            pod_uid: text.take(&workload.pod_uid, NAME_BYTES_MAX),
            service_account: text.take(&workload.service_account, NAME_BYTES_MAX),
            container: text.take(&workload.container, NAME_BYTES_MAX),
            container_id: text.take(&workload.container_id, NAME_BYTES_MAX),
            cgroup_id: workload.cgroup_id,
            cgroup_path: text.take(&workload.cgroup_path, PATH_BYTES_MAX),
            owner_kind: text.take(&workload.owner_kind, NAME_BYTES_MAX),
            owner_name: text.take(&workload.owner_name, NAME_BYTES_MAX),
            image: text.take(&workload.image, RULE_BYTES_MAX),
            image_digest: text.take(&workload.image_digest, NAME_BYTES_MAX),
        }),
        Subject::Unknown { cgroup_id, cgroup_path } => ProtoSubject::Workload(proto::Workload {
            unknown: true,
            cgroup_id: *cgroup_id,
            cgroup_path: text.take(cgroup_path, PATH_BYTES_MAX),
            ..proto::Workload::default()
        }),
        Subject::Agent => ProtoSubject::Component(proto::Component {
            name: "agent".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }),
    }
}

fn process(process: &Process, text: &mut Text) -> proto::Process {
    let executable = process.executable.as_ref();
    proto::Process {
        pid: process.pid,
        tid: process.tid,
        start_boottime_ns: process.start_boottime_ns,
        uid: process.uid,
        executable: executable.map_or_else(String::new, |path| text.take(path, PATH_BYTES_MAX)),
        parent_pid: process.parent_pid,
        parent_start_boottime_ns: process.parent_start_boottime_ns,
    }
}

fn outcome(outcome: &Outcome, text: &mut Text) -> proto::Outcome {
    let result = match outcome.result {
        Ending::Success => proto::Result::Success,
        Ending::Refused => proto::Result::Refused,
        Ending::Failed => proto::Result::Failed,
    };
    let (verdict, policy, rule) = decided(outcome.decision.as_ref(), text);
    let (audit_verdict, audit_policy, audit_rule) = decided(outcome.audit.as_ref(), text);
    proto::Outcome {
        result: result.into(),
        verdict,
        policy,
        rule,
        enforcement: outcome.enforcement.map_or(0, i32::from),
        audit_verdict,
        audit_policy,
        audit_rule,
        policy_hash: outcome.policy_hash.map_or_else(Vec::new, |hash| hash.to_vec()),
    }
}

fn decided(decided: Option<&Decided>, text: &mut Text) -> (i32, String, String) {
    decided.map_or_else(Default::default, |decided| {
        (
            decided.verdict.into(),
            text.take(&decided.rule.policy, RULE_BYTES_MAX),
            text.take(&decided.rule.id, RULE_BYTES_MAX),
        )
    })
}

fn event(event: &Event, text: &mut Text) -> ProtoEvent {
    match event {
        Event::Exec(exec) => ProtoEvent::Exec(self::exec(exec, text)),
        Event::Fork { child_pid, child_start_boottime_ns } => ProtoEvent::Fork(proto::Fork {
            child_pid: *child_pid,
            child_start_boottime_ns: *child_start_boottime_ns,
        }),
        Event::Exit { code, signal } => {
            ProtoEvent::Exit(proto::Exit { code: *code, signal: *signal })
        }
        Event::Egress { operation, protocol, address, port, v4_mapped } => {
            let operation = match operation {
                Operation::Connect => proto::egress::Operation::Connect,
                Operation::Send => proto::egress::Operation::Send,
                Operation::Packet => proto::egress::Operation::Packet,
            };
            ProtoEvent::Egress(proto::Egress {
                operation: operation.into(),
                protocol: protocol_name(*protocol),
                address: address.to_canonical().to_string(),
                port: u32::from(*port),
                v4_mapped: *v4_mapped,
            })
        }
        Event::Attempt { operation, object } => ProtoEvent::Attempt(proto::Attempt {
            operation: (*operation).to_owned(),
            object: text.required(object, PATH_BYTES_MAX),
        }),
        Event::Session(session) => ProtoEvent::Session(gateway::session(session, text)),
        Event::Statement(statement) => ProtoEvent::Statement(gateway::statement(statement, text)),
        Event::StatementEnd(end) => ProtoEvent::StatementEnd(gateway::statement_end(end, text)),
        Event::Traffic(traffic) => ProtoEvent::Traffic(gateway::traffic(traffic, text)),
        Event::Lost(lost) => ProtoEvent::Lost(proto::Lost {
            count: lost.count,
            reason: lost.reason.as_str().to_owned(),
            queue: lost.queue.as_str().to_owned(),
        }),
        Event::Coverage { state, message, capabilities } => {
            let state = match state {
                CoverageState::Start => proto::coverage::State::Start,
                CoverageState::Stop => proto::coverage::State::Stop,
                CoverageState::Change => proto::coverage::State::Change,
            };
            ProtoEvent::Coverage(proto::Coverage {
                state: state.into(),
                message: text.take(message, MESSAGE_BYTES_MAX),
                capabilities: self::capabilities(capabilities, text),
            })
        }
    }
}

fn exec(exec: &Exec, text: &mut Text) -> proto::Exec {
    let (args, cut_here) = args(&exec.args);
    text.count(&exec.args);
    let path = text.required(&exec.path, PATH_BYTES_MAX);
    let invoked = exec.invoked.as_ref();
    proto::Exec {
        path,
        invoked: invoked.map_or_else(String::new, |name| text.take(name, PATH_BYTES_MAX)),
        args,
        args_truncated: exec.args_truncated || cut_here,
        args_unavailable: exec.args_unavailable,
        path_unresolved: exec.path_unresolved || exec.path.as_str().is_empty(),
        args_bytes: exec.args_bytes,
    }
}

/// The arguments that fit [`ARGS_BYTES_MAX`] encoded, and whether that cut them.
fn args(all: &Masked) -> (Vec<String>, bool) {
    let mut kept = Vec::new();
    let mut room = ARGS_BYTES_MAX;
    if all.as_str().is_empty() {
        return (kept, false);
    }
    for arg in all.split('\0') {
        let overhead = if arg.len() < 128 { 2 } else { FIELD_OVERHEAD };
        let Some(space) = room.checked_sub(overhead) else {
            return (kept, true);
        };
        let taken = cut(arg, space);
        if taken.len() > space {
            return (kept, true);
        }
        room = space - taken.len();
        kept.push(taken);
        if arg.len() > space {
            return (kept, true);
        }
    }
    (kept, false)
}

fn capabilities(all: &[super::Capability], text: &mut Text) -> Vec<proto::Capability> {
    let mut named: Vec<proto::Capability> = all
        .iter()
        .take(CAPABILITIES_MAX)
        .map(|capability| proto::Capability {
            name: cut(capability.name, 64),
            state: capability.state.as_str().to_owned(),
            reason: text.take(&capability.reason, REASON_BYTES_MAX),
        })
        .collect();
    let more = all.len().saturating_sub(CAPABILITIES_MAX);
    if more > 0 {
        named.push(proto::Capability {
            name: "…".to_owned(),
            state: String::new(),
            reason: format!("{more} more capabilities do not fit a record"),
        });
    }
    named
}

fn protocol_name(protocol: u32) -> String {
    match protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => format!("ip-proto-{other}"),
    }
}
