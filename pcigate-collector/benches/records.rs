//! Records as a cluster makes them, for measurements: 250 pods on ten nodes over 30 days, most of
//! them programs and connections, with names, paths, arguments and addresses of usual lengths.

#![allow(dead_code, reason = "not every bench program needs all of it")]

use pcigate_proto::{
    Egress, Enforcement, Exec, Exit, Fork, KernelPosition, Message, Origin, Outcome, Process,
    Record, Result as Ending, Verdict, Workload,
    egress::Operation,
    record::{Event, Subject},
};

/// Pods of the cluster.
pub const PODS: u64 = 250;
/// Nodes of the cluster.
pub const NODES: u64 = 10;
/// Days the records are spread over.
pub const DAYS: u64 = 30;
/// The first record's time, ns since 1970: 2026-10-01T00:00:00Z.
pub const BEGIN_UNIX_NANO: u64 = 1_790_812_800_000_000_000;
/// Nanoseconds in a day.
pub const DAY_NS: u64 = 86_400_000_000_000;
/// The epoch of each node's spool.
pub const EPOCH: [u8; 16] = *b"\x5a\x11benchmark\x01\x02\x03\x04\x05";

const TOOLS: [(&str, &[&str]); 8] = [
    ("/usr/bin/kubectl", &["kubectl", "get", "pods", "-n", "billing", "-o", "json"]),
    ("/usr/bin/git", &["git", "-C", "/workspace/app", "status", "--porcelain"]),
    ("/usr/local/bin/python3.12", &["python3", "-m", "billing.reconcile", "--day", "yesterday"]),
    ("/bin/busybox", &["sh", "-c", "ls -la /workspace"]),
    ("/usr/bin/curl", &["curl", "-fsS", "https://api.example.com/v1/charges?limit=100"]),
    ("/usr/bin/psql", &["psql", "-h", "cards-db", "-c", "select count(*) from orders"]),
    ("/usr/bin/jq", &["jq", "-r", ".items[].metadata.name"]),
    ("/usr/bin/grep", &["grep", "-rn", "TODO", "/workspace/app/src"]),
];

/// The time of record `number` of `total`.
#[must_use]
pub fn time_of(number: u64, total: u64) -> u64 {
    BEGIN_UNIX_NANO + number * (DAYS * DAY_NS / total.max(1))
}

/// The name of a pod.
#[must_use]
pub fn pod_name(pod: u64) -> String {
    format!("billing-bot-{:08x}-{pod:05}", pod.wrapping_mul(0x9e37_79b9) & 0xffff_ffff)
}

/// The name of a node.
#[must_use]
pub fn node_name(node: u64) -> String {
    format!("node-{node:02}")
}

/// Record `number` of `total` of the cluster, encoded.
#[must_use]
pub fn of_cluster(number: u64, total: u64) -> Vec<u8> {
    let random = mix(number);
    let node = node_name(random % NODES);
    // The number in a spool of its own is not what is measured here: it rises, with jumps.
    encoded(&node, number + 1, time_of(number, total), random)
}

/// A record of `node` with sequence number `seq`, encoded; `random` decides what it says.
#[must_use]
pub fn encoded(node: &str, seq: u64, time_unix_nano: u64, random: u64) -> Vec<u8> {
    let pod = random / NODES % PODS;
    let (event, verdict) = event(random);
    let refused = verdict == Verdict::Deny;
    let pid = u32::try_from(2_000 + random % 30_000).unwrap_or(1);
    let start = 86_000_000_000_000 + seq * 1_000;
    let decided = !matches!(event, Event::Fork(_) | Event::Exit(_));
    let record = Record {
        origin: Some(Origin {
            node: node.to_owned(),
            epoch: EPOCH.to_vec(),
            seq,
            kernel: Some(KernelPosition { cpu: u32::try_from(random % 8).unwrap_or(0), seq }),
        }),
        time_unix_nano,
        subject: Some(Subject::Workload(workload(pod))),
        process: Some(Process {
            pid,
            tid: pid,
            start_boottime_ns: start,
            uid: 1_000,
            executable: TOOLS[(random >> 20) as usize % TOOLS.len()].0.to_owned(),
            parent_pid: pid - 1,
            parent_start_boottime_ns: start - 1_000_000,
        }),
        outcome: Some(outcome(decided, refused, &event, verdict)),
        masked: Vec::new(),
        event: Some(event),
    };
    record.encode_to_vec()
}

fn outcome(decided: bool, refused: bool, event: &Event, verdict: Verdict) -> Outcome {
    if !decided {
        return Outcome { result: Ending::Success.into(), ..Outcome::default() };
    }
    let enforcement = match event {
        Event::Egress(_) => Enforcement::Cgroup,
        _ => Enforcement::Kill,
    };
    Outcome {
        result: if refused { Ending::Refused } else { Ending::Success }.into(),
        verdict: verdict.into(),
        policy: if refused { "payments/billing-bot".to_owned() } else { String::new() },
        rule: if refused { "no-exfiltration" } else { "default" }.to_owned(),
        enforcement: if refused { enforcement.into() } else { 0 },
        policy_hash: b"\x01\x23\x45\x67\x89\xab\xcd\xef".to_vec(),
        ..Outcome::default()
    }
}

/// A pod as `serve` names it: its container's cgroup is the governed one.
fn workload(pod: u64) -> Workload {
    let uid = format!("{:08x}-0000-4000-8000-{pod:012x}", mix(pod) & 0xffff_ffff);
    let id = format!("{:016x}{:016x}{:016x}{pod:016x}", mix(pod), mix(pod + 1), mix(pod + 2));
    let cgroup_path = format!(
        "kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{id}.scope",
        uid.replace('-', "_")
    );
    Workload {
        unknown: false,
        namespace: "payments".to_owned(),
        pod: pod_name(pod),
        pod_uid: uid,
        service_account: format!("billing-bot-{}", pod % 20),
        container: "bot".to_owned(),
        container_id: id,
        cgroup_id: 1_000_000 + pod,
        cgroup_path,
        owner_kind: "Deployment".to_owned(),
        owner_name: format!("billing-bot-{}", pod % 20),
        image: "registry.example.com/billing-bot:1.4".to_owned(),
        image_digest: format!("sha256:{:064x}", u128::from(mix(pod % 20))),
    }
}

/// Four of ten a connection, two each a program, a fork and an end; one of fifty decided ones is
/// refused.
fn event(random: u64) -> (Event, Verdict) {
    let verdict = if (random >> 40).is_multiple_of(50) { Verdict::Deny } else { Verdict::Allow };
    let tool = TOOLS[(random >> 24) as usize % TOOLS.len()];
    let event = match (random >> 32) % 10 {
        0..4 => Event::Egress(Egress {
            operation: Operation::Connect.into(),
            protocol: "tcp".to_owned(),
            address: format!("10.{}.{}.{}", random % 4, (random >> 8) % 250, (random >> 16) % 250),
            port: [443, 5432, 6443, 53][(random >> 5) as usize % 4],
            v4_mapped: false,
        }),
        4..6 => {
            let args: Vec<String> = tool.1.iter().map(|&arg| arg.to_owned()).collect();
            let bytes: usize = args.iter().map(|arg| arg.len() + 1).sum();
            Event::Exec(Exec {
                path: tool.0.to_owned(),
                args,
                args_bytes: u32::try_from(bytes).unwrap_or(0),
                ..Exec::default()
            })
        }
        6..8 => Event::Fork(Fork {
            child_pid: u32::try_from(2_000 + random % 30_000).unwrap_or(1),
            child_start_boottime_ns: 86_000_000_000_000 + (random >> 16),
        }),
        _ => Event::Exit(Exit { code: u32::from(random.is_multiple_of(9)), signal: 0 }),
    };
    (event, verdict)
}

/// A number that looks random, always the same for the same input (splitmix64).
#[must_use]
pub fn mix(number: u64) -> u64 {
    let mut value = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
