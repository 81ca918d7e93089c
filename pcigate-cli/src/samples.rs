//! One record of every kind, for the golden tests.

use pcigate_proto::record::{Event, Subject};
use pcigate_proto::{
    Attempt, Capability, Component, Conflict, Coverage, Deletion, Egress, Enforcement, Enrollment,
    Exec, Exit, Finding, Fork, Gap, KernelPosition, Lost, Origin, Outcome, Parameter, Person,
    Process, Query, Received, Record, Result as Success, Session, Statement, StatementEnd, Traffic,
    Verdict, Workload, coverage, egress, session,
};

const START: u64 = 1_795_381_486_001_002_003;

/// The records of a small ledger, index 0 first.
pub fn records() -> Vec<Record> {
    let mut records = from_workloads();
    records.extend(from_pcigate());
    records.extend(from_enrollment());
    records.extend(from_gateway());
    for (record, second) in records.iter_mut().zip(0..) {
        record.time_unix_nano = START + second * 1_000_000_000;
    }
    records
}

/// An exec with control characters in it, one without arguments, and one cut off.
fn execs() -> [Exec; 3] {
    let curl = Exec {
        path: "/usr/bin/curl".into(),
        invoked: "curl".into(),
        args: ["curl", "-d", "card=411111******1111", "it's", "http://a/\u{1b}[2J"]
            .map(String::from)
            .to_vec(),
        args_bytes: 56,
        ..Exec::default()
    };
    let refused = Exec {
        path: "/usr/lib/a/very/long/way/down/to/the/program/busybox".into(),
        args_unavailable: true,
        invoked: "/bin/sh".into(),
        ..Exec::default()
    };
    let long = Exec {
        path: "/bin/echo".into(),
        args: vec!["echo".into(), "x".repeat(70)],
        args_truncated: true,
        args_bytes: 5000,
        ..Exec::default()
    };
    [curl, refused, long]
}

fn from_workloads() -> Vec<Record> {
    let [curl, refused, long] = execs();
    let masked = vec![Finding { kind: "pan".into(), count: 1 }];
    let deny = |enforcement: Enforcement, rule: &str| Outcome {
        result: Success::Refused.into(),
        verdict: Verdict::Deny.into(),
        policy: "payments/billing-bot".into(),
        rule: rule.into(),
        enforcement: enforcement.into(),
        policy_hash: vec![1, 2, 3, 4, 5, 6, 7, 8],
        ..Outcome::default()
    };
    let audited = Outcome {
        audit_verdict: Verdict::Deny.into(),
        audit_policy: "cluster".into(),
        audit_rule: "no-plain-http".into(),
        ..allowed()
    };
    let failed = Outcome { result: Success::Failed.into(), ..deny(Enforcement::Kill, "no-echo") };
    let egress = |operation: egress::Operation, protocol: &str, address: &str, port| {
        Event::Egress(Egress {
            operation: operation.into(),
            protocol: protocol.into(),
            address: address.into(),
            port,
            v4_mapped: false,
        })
    };
    let connect = egress(egress::Operation::Connect, "tcp", "127.0.0.2", 80);
    let send = egress(egress::Operation::Send, "udp", "fd00::1", 53);
    let (operation, object) = ("socket".into(), "AF_INET SOCK_RAW 1".into());
    let attempt = Attempt { operation, object };
    let fork = Fork { child_pid: 4243, child_start_boottime_ns: 77_000_000_001 };
    let mut unknown = from_pod(connect.clone(), deny(Enforcement::Cgroup, "pcigate/unknown"));
    unknown.subject = Some(Subject::Workload(Workload {
        unknown: true,
        cgroup_id: 991,
        cgroup_path: "/kubepods.slice/x".into(),
        ..Workload::default()
    }));
    vec![
        Record { masked, ..from_pod(Event::Exec(curl), allowed()) },
        from_pod(Event::Exec(refused), deny(Enforcement::Lsm, "no-shells")),
        from_pod(Event::Exec(long), failed),
        from_pod(Event::Fork(fork), allowed()),
        from_pod(Event::Exit(Exit { code: 1, signal: 0 }), allowed()),
        from_pod(Event::Exit(Exit { code: 0, signal: 9 }), allowed()),
        from_pod(connect, deny(Enforcement::Cgroup, "default")),
        from_pod(send, audited),
        from_pod(Event::Attempt(attempt), deny(Enforcement::Cgroup, "pcigate/socket")),
        unknown,
    ]
}

fn from_pcigate() -> Vec<Record> {
    let epoch = vec![0xab; 16];
    let agent = Subject::Component(Component { name: "agent".into(), version: "0.1.0".into() });
    let collector =
        Subject::Component(Component { name: "collector".into(), version: "0.1.0".into() });
    let person = Subject::Person(Person { identity: "spiffe://pcigate/person/ana".into() });
    let lost = Lost { count: 12, reason: "ring-full".into(), queue: "verdicts".into() };
    let gap = Gap {
        node: "n1".into(),
        epoch: epoch.clone(),
        first_seq: 5,
        last_seq: 9,
        reason: "spool-lost".into(),
    };
    let capability = |name: &str, state: &str, reason: &str| Capability {
        name: name.into(),
        state: state.into(),
        reason: reason.into(),
    };
    let coverage = Coverage {
        state: coverage::State::Start.into(),
        message: "agent 0.1.0".into(),
        capabilities: vec![
            capability("egress-tcp-udp", "enforced", ""),
            capability("exec-refusal", "not-enforceable-here", "BPF LSM is not active"),
        ],
    };
    let received = Received {
        node: "n1".into(),
        epoch: epoch.clone(),
        first_seq: 1,
        last_seq: 20,
        clock_offset_ns: -3_400_000,
        place: vec![0x33; 16],
    };
    let query = Query { operation: "records".into(), filter: "namespace=payments".into() };
    let conflict = Conflict {
        node: "n1".into(),
        epoch,
        seq: 7,
        stored_sha256: vec![0x11; 32],
        refused_sha256: vec![0x22; 32],
    };
    let deletion = Deletion {
        class: "fork".into(),
        before_unix_nano: 1_700_000_000_000_000_000,
        records: 31_004,
    };
    vec![
        from_ourselves(agent.clone(), Event::Lost(lost)),
        from_ourselves(collector.clone(), Event::Gap(gap)),
        from_ourselves(agent, Event::Coverage(coverage)),
        from_ourselves(collector.clone(), Event::Received(received)),
        from_ourselves(person, Event::Query(query)),
        from_ourselves(collector.clone(), Event::Conflict(conflict)),
        from_ourselves(collector, Event::Deletion(deletion)),
    ]
}

fn from_enrollment() -> Vec<Record> {
    let collector = Component { name: "collector".into(), version: "0.1.0".into() };
    let collector = Subject::Component(collector);
    let asked = Enrollment {
        node: "node-1".into(),
        namespace: "pcigate".into(),
        service_account: "pcigate-agent".into(),
        pod: "pcigate-agent-x7k2p".into(),
        pod_uid: "0f3e8c64-5f5d-4d8f-9f3a-1a2b3c4d5e6f".into(),
        peer: "10.0.0.11".into(),
        count: 1,
        ..Enrollment::default()
    };
    let issued = Enrollment {
        serial: "5be1".into(),
        certificate_sha256: vec![0x33; 32],
        not_after_unix_nano: 1_795_467_886_000_000_000,
        ..asked.clone()
    };
    let refused = Enrollment { reason: "the token is for another audience".into(), ..asked };
    let refused = from_ourselves(collector.clone(), Event::Enrollment(refused));
    let outcome = Outcome { result: Success::Refused.into(), ..Outcome::default() };
    vec![
        from_ourselves(collector, Event::Enrollment(issued)),
        Record { outcome: Some(outcome), ..refused },
    ]
}

fn allowed() -> Outcome {
    Outcome {
        result: Success::Success.into(),
        verdict: Verdict::Allow.into(),
        policy: "payments/billing-bot".into(),
        rule: "default".into(),
        ..Outcome::default()
    }
}

fn from_pod(event: Event, outcome: Outcome) -> Record {
    Record {
        origin: Some(Origin {
            node: "n1".into(),
            epoch: vec![0xab; 16],
            seq: 41,
            kernel: Some(KernelPosition { cpu: 1, seq: 40 }),
        }),
        subject: Some(Subject::Workload(Workload {
            unknown: false,
            namespace: "payments".into(),
            pod: "billing-7f9c".into(),
            pod_uid: "5b1f0a34-0000-4000-8000-000000000001".into(),
            service_account: "billing-bot".into(),
            container: "main".into(),
            container_id: "containerd://c0ffee".into(),
            cgroup_id: 4711,
            cgroup_path: "/kubepods.slice/kubepods-pod5b1f.slice".into(),
            owner_kind: "Deployment".into(),
            owner_name: "billing-bot".into(),
            image: "registry.example.com/billing-bot:1.4".into(),
            image_digest: format!("sha256:{}", "4d".repeat(32)),
        })),
        process: Some(Process {
            pid: 4242,
            tid: 4242,
            start_boottime_ns: 76_000_000_001,
            uid: 1000,
            executable: "/usr/bin/python3.13".into(),
            parent_pid: 4000,
            parent_start_boottime_ns: 70_000_000_001,
        }),
        outcome: Some(outcome),
        event: Some(event),
        ..Record::default()
    }
}

fn from_ourselves(subject: Subject, event: Event) -> Record {
    let success = Outcome { result: Success::Success.into(), ..Outcome::default() };
    Record {
        origin: Some(Origin { node: "ledger.example/pci".into(), ..Origin::default() }),
        subject: Some(subject),
        outcome: Some(success),
        event: Some(event),
        ..Record::default()
    }
}

/// What a gated session leaves.
fn from_gateway() -> Vec<Record> {
    let id = vec![0x5e; 16];
    let target = || "payments/cards-db".to_owned();
    let started = Session {
        id: id.clone(),
        phase: session::Phase::Started.into(),
        target: target(),
        protocol: "postgres".into(),
        database: "shop".into(),
        user: "bot".into(),
        role: "billing_ro".into(),
        application: "psql".into(),
        client: "10.0.0.9:40112".into(),
        ..Session::default()
    };
    let ended = Session {
        phase: session::Phase::Ended.into(),
        reason: "the client said goodbye".into(),
        statements: 1,
        rows: 2,
        bytes: 210,
        duration_ns: 1_500_000,
        ..started.clone()
    };
    let text = "SELECT pan FROM cards WHERE id = $1".to_owned();
    let statement = Statement {
        session: id.clone(),
        number: 1,
        target: target(),
        step: "execute".into(),
        command: "SELECT".into(),
        text_bytes: text.len() as u64,
        text,
        parameters: vec![
            Parameter { null: false, text: "7".into() },
            Parameter { null: true, text: String::new() },
        ],
        effects: vec!["read".into()],
        tables: vec!["public.cards".into()],
        ..Statement::default()
    };
    let end = StatementEnd {
        session: id.clone(),
        number: 1,
        rows: 2,
        bytes: 150,
        duration_ns: 900_000,
        sqlstate: String::new(),
    };
    let traffic = Traffic {
        session: id,
        from_client: false,
        text: "DataRow 411111******1111".into(),
        truncated: false,
    };
    [
        Event::Session(started),
        Event::Statement(statement),
        Event::Traffic(traffic),
        Event::StatementEnd(end),
        Event::Session(ended),
    ]
    .map(|event| from_pod(event, allowed()))
    .into()
}
