//! Enforcement that outlives the agent: killed, started again, exchanged for another version,
//! uninstalled, while a prober tries every millisecond what is forbidden.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use nix::{mount::MsFlags, sys::signal::Signal};
use pcigate_agent::{
    cgroup, enforcer,
    spool::{Limits, Spool},
};
use pcigate_proto::{
    Message, Record,
    record::{Event, Subject},
};
use pcigate_tests::{
    site::{CONTAINER_ID, Mounted, POD_UID, Running, Site, fail, start, succeed},
    wait,
};
use tempfile::TempDir;

const POLICY: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {matchLabels: {app: billing-bot}}
  mode: enforce
  egress:
    defaultAction: deny
    rules:
      - {id: no-loopback, action: deny, to: [{cidr: 127.0.0.0/8}]}
";
/// What a record of a refusal names.
const NAMES: (&str, &str) = ("payments/billing-bot", "no-loopback");

/// A governed root of its own, a bpffs, and an agent's files; records stay in the spool.
pub(crate) struct Node {
    root: cgroup::Owned,
    bpffs: Mounted,
    directory: TempDir,
}

impl Node {
    pub(crate) fn new(name: &str) -> Self {
        pcigate_tests::need_root();
        let directory = tempfile::tempdir().unwrap();
        let root = cgroup::create(&format!("survival-{name}-{}", std::process::id())).unwrap();
        let bpffs = Mounted::new("bpf", &directory.path().join("bpffs"), "", MsFlags::empty());
        let node = Self { root, bpffs, directory };
        fs::create_dir_all(node.container()).unwrap();
        fs::write(node.path("policy.yaml"), POLICY).unwrap();
        fs::write(node.path("pods.yaml"), Site::pod_list()).unwrap();
        node.configure("");
        node
    }

    fn configure(&self, more: &str) {
        let config = format!(
            "nodeName: node-1\ncgroupRoot: {}\nstateDir: {}\npolicies: [{}]\n\
             workloads: {{source: file, file: {}}}\n{more}",
            self.root.cgroup.path.display(),
            self.path("state").display(),
            self.path("policy.yaml").display(),
            self.path("pods.yaml").display(),
        );
        fs::write(self.path("agent.yaml"), config).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Directory of the pod's container, as the kubelet and containerd make it.
    pub(crate) fn container(&self) -> PathBuf {
        let pod = format!("kubepods-burstable-pod{}.slice", POD_UID.replace('-', "_"));
        let path = self.root.cgroup.path.join("kubepods-burstable.slice").join(pod);
        path.join(format!("cri-containerd-{CONTAINER_ID}.scope"))
    }

    fn agent(&self, verb: &str) -> Command {
        let mut agent = Command::new(pcigate_tests::program("pcigate-agent"));
        agent.arg(verb).stdin(Stdio::null()).arg("--bpffs").arg(&self.bpffs.path);
        agent
    }

    fn command(&self) -> Command {
        let mut agent = self.agent("serve");
        agent.arg("--config").arg(self.path("agent.yaml"));
        agent
    }

    pub(crate) fn serve(&self) -> Running {
        let (running, line) = start(&mut self.command());
        assert!(line.starts_with("pcigate-agent ready: governing "), "{line}");
        running
    }

    /// How an action ends in a cgroup.
    pub(crate) fn try_in(&self, cgroup: &Path, action: &str) -> String {
        let mut probe = Command::new(pcigate_tests::program("pcigate-probe"));
        let output = succeed(probe.arg("--cgroup").arg(cgroup).arg(action));
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim().rsplit(' ').next().unwrap().to_owned()
    }

    /// The generation that is pinned gets the name of another layout of records.
    fn looks_like_another_version(&self) {
        let path = self.generations();
        for generation in enforcer::generations(&path).unwrap() {
            let own = path.join(format!("{}-{}", generation.number, enforcer::own_abi()));
            let other = path.join(format!("{}-0123456789abcdef", generation.number));
            fs::rename(own, other).unwrap();
        }
    }

    /// Everything that is pinned, files only, without those a bpffs is born with.
    fn pins(&self) -> Vec<PathBuf> {
        cgroup::walk(&self.bpffs.path)
            .unwrap()
            .into_iter()
            .flat_map(|directory| fs::read_dir(directory.path).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.is_dir() && path.extension().is_none())
            .collect()
    }

    fn generations(&self) -> PathBuf {
        self.bpffs.path.join("pcigate").join(self.root.cgroup.id.to_string())
    }

    /// Every record of the node. No agent may run.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut spool = Spool::open(&self.path("state/spool"), Limits::default()).unwrap();
        let mut records = Vec::new();
        loop {
            let batch = spool.read(records.len() as u64 + 1, 10_000, usize::MAX).unwrap();
            assert_eq!(batch.hole, None);
            if batch.records.is_empty() {
                return records;
            }
            records.extend(batch.records.iter().map(|bytes| Record::decode(&bytes[..]).unwrap()));
        }
    }
}

/// A process in the container that tries something every millisecond.
struct Prober {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Prober {
    fn start(cgroup: &Path, action: &str) -> Self {
        let mut probe = Command::new(pcigate_tests::program("pcigate-probe"));
        probe.arg("--cgroup").arg(cgroup).arg(format!("until-line:{action}"));
        let mut child = probe.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Waits for further tries.
    fn tries(&mut self, tries: usize) {
        for _ in 0..tries / 10 {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            assert!(line.starts_with("at "), "{line}");
        }
    }

    /// Ends it: tries, and how many succeeded.
    fn end(mut self) -> (u64, u64) {
        drop(self.child.stdin.take());
        let last = self.output.lines().map(Result::unwrap).last().unwrap();
        self.child.wait().unwrap();
        let (tries, succeeded) = last.rsplit_once(' ').unwrap().1.split_once('/').unwrap();
        (tries.parse().unwrap(), succeeded.parse().unwrap())
    }
}

fn ended(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Lost records of a queue: their sum, and the reasons.
fn lost(records: &[Record], queue: &str) -> (u64, Vec<String>) {
    let mut sum = 0;
    let mut reasons = Vec::new();
    for record in records {
        if let Some(Event::Lost(lost)) = &record.event
            && lost.queue == queue
        {
            sum += lost.count;
            reasons.push(format!("{} {}", lost.count, lost.reason));
        }
    }
    (sum, reasons)
}

fn coverage(records: &[Record]) -> Vec<&pcigate_proto::Coverage> {
    records
        .iter()
        .filter_map(|record| match &record.event {
            Some(Event::Coverage(coverage)) => Some(coverage),
            _ => None,
        })
        .collect()
}

fn messages(records: &[Record]) -> Vec<&str> {
    coverage(records).iter().map(|coverage| coverage.message.as_str()).collect()
}

fn refusals(records: &[Record]) -> impl Iterator<Item = &Record> {
    records.iter().filter(|record| matches!(record.event, Some(Event::Egress(_))))
}

#[test]
fn through_kills_restarts_and_upgrades_nothing_forbidden_passes_and_every_try_is_accounted_for() {
    const ROUNDS: usize = 3;
    let node = Node::new("kills");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = node.serve();
    let action = format!("tcp:{}", listener.local_addr().unwrap());
    let mut prober = Prober::start(&node.container(), &action);
    for round in 0..ROUNDS {
        prober.tries(50);
        agent.end(Signal::SIGKILL);
        prober.tries(50);
        if round % 2 == 1 {
            node.looks_like_another_version();
        }
        // Killed somewhere on its way, each time a little later.
        let started = node.command().stdout(Stdio::null()).spawn().unwrap();
        prober.tries(20 + 40 * round);
        ended(started);
        agent = node.serve();
    }
    prober.tries(50);
    let (tries, succeeded) = prober.end();
    agent.end(Signal::SIGTERM);
    assert_eq!(succeeded, 0, "forbidden connects of {tries}");

    let records = node.records();
    let (lost, reasons) = lost(&records, "verdicts");
    let recorded = refusals(&records).count() as u64;
    assert_eq!(recorded + lost, tries, "{recorded} recorded, lost: {reasons:?}");
    assert!(reasons.iter().any(|reason| reason.ends_with(" other-version")), "{reasons:?}");
    for record in refusals(&records) {
        let Some(Subject::Workload(workload)) = &record.subject else { panic!("{record:?}") };
        assert_eq!((workload.pod.as_str(), workload.container.as_str()), ("billing-bot", "bot"));
        let outcome = record.outcome.as_ref().unwrap();
        assert_eq!((outcome.policy.as_str(), outcome.rule.as_str()), NAMES);
    }
    let starts = coverage(&records);
    let told = starts.iter().filter(|start| start.message.contains("no agent ran"));
    assert!(told.count() >= ROUNDS, "{starts:#?}");

    assert!(!node.pins().is_empty());
    succeed(&mut node.agent("uninstall"));
    assert!(node.pins().is_empty(), "uninstall leaves {:?}", node.pins());
    assert_eq!(node.try_in(&node.container(), &action), "ok", "uninstalled");
}

#[test]
fn a_process_event_has_one_record_also_while_two_agents_programs_run() {
    let node = Node::new("twice");
    let mut agent = node.serve();
    let mut prober = Prober::start(&node.container(), "exec:/usr/bin/true");
    for _ in 0..2 {
        agent.end(Signal::SIGKILL);
        agent = node.serve();
        prober.tries(100);
    }
    let (tries, succeeded) = prober.end();
    agent.end(Signal::SIGTERM);
    assert_eq!(tries, succeeded);
    let records = node.records();
    let of = |is: fn(&Event) -> bool| {
        records.iter().filter(|record| record.event.as_ref().is_some_and(is)).count() as u64
    };
    let forks = of(|event| matches!(event, Event::Fork(_)));
    let execs = of(|event| matches!(event, Event::Exec(_)));
    let exits = of(|event| matches!(event, Event::Exit(_)));
    let (lost, reasons) = lost(&records, "events");
    let all = format!("{forks} forks, {execs} execs, {exits} exits of {tries}, lost {reasons:?}");
    // The prober itself ends as well.
    assert_eq!(forks + execs + exits + lost, 3 * tries + 1, "{all}");
    assert!(forks <= tries && execs <= tries && exits <= tries + 1, "{all}");
}

#[test]
fn what_finds_its_ring_full_while_no_agent_runs_is_counted_exactly() {
    const TRIES: u64 = 33_000;
    let node = Node::new("full");
    node.serve().end(Signal::SIGKILL);
    node.try_in(&node.container(), &format!("udp-many:{TRIES}:127.0.0.1:9"));
    node.serve().end(Signal::SIGTERM);
    let records = node.records();
    let (lost, reasons) = lost(&records, "verdicts");
    assert_eq!(refusals(&records).count() as u64 + lost, TRIES, "{reasons:?}");
    assert!(lost > 0 && reasons.iter().all(|reason| reason.ends_with(" ring-full")), "{reasons:?}");
    let messages = messages(&records);
    assert!(
        messages.iter().any(|message| message.contains("ring-full (verdicts)")),
        "{messages:?}"
    );
}

#[test]
fn without_pins_the_uncovered_time_is_told_as_time_without_enforcement() {
    let node = Node::new("reboot");
    node.serve().end(Signal::SIGKILL);
    succeed(&mut node.agent("uninstall"));
    // As another boot would have left it.
    let alive = fs::read_to_string(node.path("state/alive")).unwrap();
    let (_, clocks) = alive.split_once(' ').unwrap();
    fs::write(node.path("state/alive"), format!("another-boot {clocks}")).unwrap();
    node.serve().end(Signal::SIGTERM);
    let records = node.records();
    let starts = coverage(&records);
    let told = " s nothing was enforced: the machine was started anew";
    let start = starts.iter().find(|start| start.message.contains(told)).unwrap();
    let row = start.capabilities.iter().find(|row| row.name == "downtime").unwrap();
    assert_eq!(row.state, "not-enforceable-here");
    assert!(row.reason.ends_with(" s without enforcement"), "{row:?}");
}

#[test]
fn one_agent_at_a_time_and_one_that_does_not_start_leaves_nothing_and_stops_nothing() {
    let node = Node::new("second");
    let agent = node.serve();
    let pins = node.pins();
    // A second one with a spool of its own would take the pins away from the first.
    let config = fs::read_to_string(node.path("agent.yaml")).unwrap();
    fs::write(node.path("agent.yaml"), config.replace("/state\n", "/state-2\n")).unwrap();
    let errors = fail(&mut node.command(), 125);
    assert!(errors.contains("another pcigate-agent enforces with the pins in "), "{errors}");
    assert_eq!(node.pins(), pins);
    agent.end(Signal::SIGKILL);

    fs::write(node.path("agent.yaml"), config).unwrap();
    fs::rename(node.path("state/alive"), node.path("alive")).unwrap();
    fs::create_dir(node.path("state/alive")).unwrap();
    let errors = fail(&mut node.command(), 125);
    assert!(errors.contains("/state/alive (stateDir)"), "{errors}");
    assert_eq!(node.pins(), pins, "what is pinned goes on");
    assert_eq!(node.try_in(&node.container(), "tcp:127.0.0.1:9"), "EPERM");
}

#[test]
fn exempt_pods_are_refused_nothing_and_listed_by_uid() {
    const OTHER: &str = "99999999-0000-4000-8000-1234567890ab";
    let node = Node::new("exempt");
    let other = node.root.cgroup.path.join(format!("kubepods/pod{OTHER}"));
    fs::create_dir_all(&other).unwrap();
    node.configure("exempt: {namespaces: [payments]}\n");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let action = format!("tcp:{}", listener.local_addr().unwrap());
    let agent = node.serve();
    assert_eq!(node.try_in(&node.container(), &action), "ok", "its namespace is exempt");
    assert_eq!(node.try_in(&node.container(), "call:bpf"), "ok", "nor is there a guard");
    let listens = "bind:127.0.0.1:15099";
    assert_eq!(node.try_in(&node.container(), listens), "ok", "as the agent's own pod does");
    assert_eq!(node.try_in(&other, &action), "EPERM", "an unknown pod");
    agent.end(Signal::SIGTERM);
    node.configure(&format!("exempt: {{namespaces: [], podUids: [{OTHER}]}}\n"));
    let agent = node.serve();
    assert_eq!(node.try_in(&node.container(), &action), "EPERM", "its policy counts again");
    assert_eq!(node.try_in(&other, &action), "ok", "exempt by UID, in no list");
    agent.end(Signal::SIGTERM);
    let records = node.records();
    let mut rows = Vec::new();
    for coverage in coverage(&records) {
        rows.extend(coverage.capabilities.iter().filter(|row| row.name == "exempt"));
    }
    let named: Vec<&str> = rows.iter().map(|row| row.reason.as_str()).collect();
    assert!(named.contains(&format!("payments/billing-bot ({POD_UID})").as_str()), "{named:?}");
    assert!(named.contains(&OTHER), "{named:?}");
}

#[test]
fn the_service_manager_is_told_when_enforcement_is_in_place() {
    let node = Node::new("notify");
    let socket = UnixDatagram::bind(node.path("notify")).unwrap();
    socket.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    let mut buffer = [0; 64];
    let mut agent = node.command();
    let (agent, _) = start(agent.env("NOTIFY_SOCKET", node.path("notify")));
    let len = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"READY=1");
    assert_eq!(node.try_in(&node.container(), "tcp:127.0.0.1:9"), "EPERM");
    agent.end(Signal::SIGTERM);
    let len = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"STOPPING=1");
}

#[test]
fn doctor_and_uninstall_name_what_is_pinned_and_by_which_version() {
    let node = Node::new("doctor");
    let agent = node.serve();
    let pinned = || enforcer::pinned(&node.bpffs.path).unwrap().pop().unwrap();
    let own = format!("generation 1 (this version, records {}) enforces", enforcer::own_abi());
    assert_eq!(pinned().generations[0].to_string(), own);
    assert!(pinned().is_read);
    agent.end(Signal::SIGKILL);
    assert!(!pinned().is_read);
    node.looks_like_another_version();
    // Without a deadline of ours: in a virtual machine it has more to do than others.
    let text = String::from_utf8(node.agent("doctor").output().unwrap().stdout).unwrap();
    let other = "generation 1 (another version, records 0123456789abcdef) enforces";
    assert!(text.contains(&format!("{other}; no agent reads it")), "{text}");
    let text = String::from_utf8(succeed(&mut node.agent("uninstall")).stdout).unwrap();
    assert!(text.contains(other) && text.contains("removed "), "{text}");
    assert!(node.pins().is_empty(), "uninstall leaves {:?}", node.pins());
}
