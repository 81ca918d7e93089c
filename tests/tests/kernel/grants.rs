//! Grants with a deadline: they open, end by themselves, and take their connections with them.

use std::{
    io::{BufRead, BufReader, Lines, Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use nix::mount::MsFlags;
use pcigate_agent::{
    connections::CloseError,
    draft::{Ending, Event},
    enforcer::Grant,
    grants,
};
use pcigate_common::event::Operation;
use pcigate_tests::{
    kernel::{Kernel, Setup},
    needs::{self, Need},
    site::Mounted,
    table, wait,
};

const DENY_BY_DEFAULT: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  egress: {defaultAction: deny}
";
const SECOND: u64 = 1_000_000_000;

/// Sends back what it gets, outside of the governed cgroup, and counts it.
fn echo() -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() {
                    counted.fetch_add(1, Ordering::SeqCst);
                    if stream.write_all(&byte).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, count)
}

fn id_of(cgroup: &Path) -> u64 {
    pcigate_agent::cgroup::open(cgroup).unwrap().id
}

fn grant(id: u64, workload: u64, to: SocketAddr, deadline_ns: u64) -> Grant {
    Grant { id, workload, address: to.ip(), protocol: 6, port: to.port(), deadline_ns }
}

/// In an hour: longer than any test.
fn long() -> u64 {
    grants::now_ns() + 3600 * SECOND
}

/// A probe whose actions are waited for one by one.
pub(crate) struct Probe {
    pub(crate) child: Child,
    input: ChildStdin,
    results: Lines<BufReader<ChildStdout>>,
}

impl Probe {
    fn start(cgroup: &Path, actions: &[&str]) -> Self {
        Self::start_with(&[], cgroup, actions)
    }

    pub(crate) fn start_with(options: &[&str], cgroup: &Path, actions: &[&str]) -> Self {
        let mut child = Command::new(pcigate_tests::program("pcigate-probe"))
            .args(options)
            .arg("--cgroup")
            .arg(cgroup)
            .args(actions)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let results = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, results }
    }

    pub(crate) fn result(&mut self) -> String {
        let line = self.results.next().unwrap().unwrap();
        line.rsplit_once(' ').map_or(line.clone(), |(_, result)| result.to_owned())
    }

    pub(crate) fn results(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.result()).collect()
    }

    /// Ends a `read-line`.
    pub(crate) fn go_on(&mut self) {
        self.input.write_all(b"\n").unwrap();
        assert_eq!(self.result(), "ok");
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_grant_opens_one_destination_of_one_workload_and_the_record_names_it() {
    let (address, _) = echo();
    let setup = Setup { policy: DENY_BY_DEFAULT.into(), ..Setup::default() };
    let mut kernel = Kernel::ungoverned(&setup);
    let (one, other) = (kernel.root().join("one/nested"), kernel.root().join("other"));
    for (cgroup, pod) in [(&one, "one"), (&other, "other")] {
        std::fs::create_dir_all(cgroup).unwrap();
        kernel.govern(cgroup, pod);
    }
    let pod = kernel.root().join("one");
    kernel.govern(&pod, "one");
    let (open, closed) = (format!("tcp:{address}"), format!("tcp:127.0.0.2:{}", address.port()));
    let mapped = format!("tcp:[::ffff:127.0.0.1]:{}", address.port());
    let udp = format!("udp-connected:{address}");
    assert_eq!(kernel.probe_in(&one, &[&open]), ["EPERM"]);
    kernel.governor.grant(grant(1, id_of(&pod), address, long())).unwrap();
    let actions = [&*open, &mapped, &closed, &udp];
    assert_eq!(kernel.probe_in(&one, &actions), ["ok", "ok", "EPERM", "EPERM"]);
    assert_eq!(kernel.probe_in(&other, &[&open]), ["EPERM"]);
    let drafts = kernel.drafts();
    let allowed: Vec<_> = drafts
        .iter()
        .filter(|draft| matches!(draft.event, Event::Egress { .. }))
        .filter(|draft| draft.outcome.result == Ending::Success)
        .map(|draft| draft.outcome.decision.as_ref().unwrap().rule.id.as_str().to_owned())
        .collect();
    assert_eq!(allowed, ["pcigate/grant"; 2]);
}

#[test]
fn a_written_deny_or_gate_is_not_lifted_by_a_grant() {
    let (address, _) = echo();
    let deny = "action: deny, to: [{cidr: 127.0.0.1/32}]";
    let statement = "{id: read, action: allow, effects: [read], tables: [public.cards]}";
    let gate = format!("action: gate, target: db, statements: [{statement}]");
    for action in [deny, &gate] {
        let policy = format!(
            "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{}}
  mode: enforce
  egress: {{defaultAction: deny, rules: [{{id: written, {action}}}]}}
---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {{name: db, namespace: payments}}
spec:
  protocol: postgres
  endpoints: [{{cidr: 127.0.0.1/32, port: {port}}}]
  upstream: {{address: \"db:1\"}}
",
            port = address.port()
        );
        let mut kernel = Kernel::with_policy(&policy);
        let workload = id_of(kernel.root());
        kernel.governor.grant(grant(1, workload, address, long())).unwrap();
        assert_eq!(kernel.probe(&[&format!("tcp:{address}")]), ["EPERM"]);
        let drafts = kernel.drafts();
        let draft = drafts.iter().find(|d| matches!(d.event, Event::Egress { .. })).unwrap();
        assert_eq!(draft.outcome.decision.as_ref().unwrap().rule.id.as_str(), "written");
    }
}

#[test]
fn a_grant_for_what_is_not_governed_is_refused() {
    let mut kernel = Kernel::ungoverned(&Setup::default());
    let workload = id_of(kernel.root());
    let to = "127.0.0.1:9".parse().unwrap();
    let error = kernel.governor.grant(grant(1, workload, to, long())).unwrap_err().to_string();
    assert!(error.contains("is not governed"), "{error}");
}

/// Nobody acts at the deadline: the test only waits for the clock.
#[test]
fn at_its_deadline_a_grant_stops_by_itself_and_its_connections_pass_no_more_bytes() {
    let (address, count) = echo();
    let mut kernel = Kernel::with_policy(DENY_BY_DEFAULT);
    let workload = id_of(kernel.root());
    let (open, connect) = (format!("open:{address}"), format!("tcp:{address}"));
    let actions = [&*open, "ping", "read-line", "ping", &connect];
    // On a slow machine the first two may take longer than a short grant lasts.
    let mut seconds = 2;
    let (mut probe, deadline) = loop {
        let deadline = grants::now_ns() + seconds * SECOND;
        kernel.governor.grant(grant(seconds, workload, address, deadline)).unwrap();
        let mut probe = Probe::start(kernel.root(), &actions);
        if probe.results(2) == ["ok", "ok"] && grants::now_ns() < deadline {
            break (probe, deadline);
        }
        assert!(seconds < 60, "a minute is not enough to connect");
        seconds *= 2;
    };
    wait::until("the deadline", || (grants::now_ns() > deadline).then_some(()));
    let before = count.load(Ordering::SeqCst);
    probe.go_on();
    assert_eq!(probe.results(2), ["EAGAIN", "EPERM"]);
    assert_eq!(count.load(Ordering::SeqCst), before, "the peer got nothing");
    let ends: Vec<_> = kernel
        .drafts()
        .into_iter()
        .filter(|d| matches!(d.event, Event::Egress { operation: Operation::Packet, .. }))
        .collect();
    assert_eq!(ends.len(), 1, "the end of a connection is recorded once");
    assert_eq!(ends[0].outcome.decision.as_ref().unwrap().rule.id.as_str(), "pcigate/grant");
    assert_eq!(ends[0].process.as_ref().unwrap().pid, probe.child.id());
}

#[test]
fn a_revoked_grant_s_connections_pass_no_more_bytes_even_when_it_is_given_anew() {
    let (address, count) = echo();
    let mut kernel = Kernel::with_policy(DENY_BY_DEFAULT);
    let workload = id_of(kernel.root());
    kernel.governor.grant(grant(1, workload, address, long())).unwrap();
    let open = format!("open:{address}");
    let again = ["ping", "read-line", "ping", "read-line", "ping", "read-line"];
    let actions = [&[&*open][..], &again, &[&open, "ping"]].concat();
    let mut probe = Probe::start(kernel.root(), &actions);
    assert_eq!(probe.results(2), ["ok", "ok"]);
    kernel.governor.grants().remove(1).unwrap().unwrap();
    let before = count.load(Ordering::SeqCst);
    probe.go_on();
    assert_eq!(probe.result(), "EAGAIN");
    kernel.governor.grant(grant(2, workload, address, long())).unwrap();
    probe.go_on();
    assert_eq!(probe.result(), "EAGAIN");
    assert_eq!(count.load(Ordering::SeqCst), before, "the peer got nothing");
    probe.go_on();
    assert_eq!(probe.results(2), ["ok", "ok"], "a connection of the new grant");
}

#[test]
fn an_extended_grant_keeps_its_connections() {
    let (address, _) = echo();
    let mut kernel = Kernel::with_policy(DENY_BY_DEFAULT);
    let workload = id_of(kernel.root());
    kernel.governor.grant(grant(1, workload, address, long())).unwrap();
    let open = format!("open:{address}");
    let mut probe = Probe::start(kernel.root(), &[&open, "ping", "read-line", "ping"]);
    assert_eq!(probe.results(2), ["ok", "ok"]);
    let replaced = kernel.governor.grant(grant(1, workload, address, long() + SECOND)).unwrap();
    assert!(replaced.is_none());
    probe.go_on();
    assert_eq!(probe.result(), "ok");
}

#[test]
fn the_agent_that_follows_knows_the_grants_and_ends_their_connections() {
    let (address, count) = echo();
    let directory = tempfile::tempdir().unwrap();
    let bpffs = Mounted::new("bpf", &directory.path().join("bpffs"), "", MsFlags::empty());
    let pins = Some(bpffs.path.clone());
    let setup = Setup { policy: DENY_BY_DEFAULT.into(), pins, ..Setup::default() };
    let mut kernel = Kernel::start(&setup);
    let given = grant(1, id_of(kernel.root()), address, long());
    kernel.governor.grant(given.clone()).unwrap();
    let open = format!("open:{address}");
    let actions = [&*open, "ping", "read-line", "ping", "read-line", "ping"];
    let mut probe = Probe::start(kernel.root(), &actions);
    assert_eq!(probe.results(2), ["ok", "ok"]);
    let mut kernel = kernel.replaced(&setup);
    assert_eq!(kernel.governor.grants().live(), [&given]);
    assert_eq!(kernel.probe_in(kernel.root(), &[&format!("tcp:{address}")]), ["ok"]);
    probe.go_on();
    assert_eq!(probe.result(), "ok");
    kernel.governor.grants().remove(1).unwrap().unwrap();
    let before = count.load(Ordering::SeqCst);
    probe.go_on();
    assert_eq!(probe.result(), "EAGAIN", "a connection made under the agent before");
    assert_eq!(count.load(Ordering::SeqCst), before, "the peer got nothing");
}

/// Revokes while the probe waits for the end of its connection; how it ended, and after how long.
fn revoked(kernel: &mut Kernel, probe: &mut Probe) -> (usize, String, u128) {
    let began = Instant::now();
    let ended = kernel.governor.revoke(1).unwrap().unwrap();
    let closed = ended.closed.unwrap();
    let result = probe.result();
    (closed, result, began.elapsed().as_millis())
}

#[test]
fn a_revoked_grant_s_connections_are_closed_at_both_ends() {
    if !needs::met(&[Need::SockDestroy]) {
        return;
    }
    let (address, _) = echo();
    let mut kernel = Kernel::with_policy(DENY_BY_DEFAULT);
    let workload = id_of(kernel.root());
    kernel.governor.grant(grant(1, workload, address, long())).unwrap();
    // A connection of this test's own to the same destination, from the same namespace.
    let mut own = std::net::TcpStream::connect(address).unwrap();
    let open = format!("open:{address}");
    let mut probe = Probe::start(kernel.root(), &[&open, "ping", "wait-end"]);
    assert_eq!(probe.results(2), ["ok", "ok"]);
    let (closed, result, millis) = revoked(&mut kernel, &mut probe);
    assert_eq!((closed, result.as_str()), (1, "ECONNABORTED"));
    table::measured(&format!("revoked in the same network namespace: {millis} ms"));
    own.write_all(b"x").unwrap();
    own.read_exact(&mut [0]).expect("others' connections go on");
}

#[test]
fn a_revoked_grant_s_connections_are_closed_in_the_workload_s_own_network_namespace() {
    if !needs::met(&[Need::SockDestroy]) {
        return;
    }
    let mut kernel = Kernel::with_policy(DENY_BY_DEFAULT);
    let workload = id_of(kernel.root());
    let to = "127.0.0.1:8080".parse().unwrap();
    kernel.governor.grant(grant(1, workload, to, long())).unwrap();
    let nested = kernel.root().join("nested");
    std::fs::create_dir(&nested).unwrap();
    let actions =
        ["own-network", "serve:127.0.0.1:8080", "open:127.0.0.1:8080", "ping", "wait-end"];
    let mut probe = Probe::start(&nested, &actions);
    assert_eq!(probe.results(4), ["ok"; 4]);
    let (closed, result, millis) = revoked(&mut kernel, &mut probe);
    assert_eq!((closed, result.as_str()), (1, "ECONNABORTED"));
    table::measured(&format!("revoked in another network namespace: {millis} ms"));
}

#[test]
fn a_kernel_without_sock_destroy_says_so_and_refuses_all_the_same() {
    if !needs::met(&[Need::NoSockDestroy]) {
        return;
    }
    let (address, _) = echo();
    let mut kernel = Kernel::with_policy(DENY_BY_DEFAULT);
    let workload = id_of(kernel.root());
    kernel.governor.grant(grant(1, workload, address, long())).unwrap();
    let (open, connect) = (format!("open:{address}"), format!("tcp:{address}"));
    let actions = [&*open, "ping", "read-line", "ping", &connect];
    let mut probe = Probe::start(kernel.root(), &actions);
    assert_eq!(probe.results(2), ["ok", "ok"]);
    let ended = kernel.governor.revoke(1).unwrap().unwrap();
    assert!(matches!(ended.closed, Err(CloseError::Unavailable)), "{:?}", ended.closed);
    probe.go_on();
    assert_eq!(probe.results(2), ["EAGAIN", "EPERM"]);
}
