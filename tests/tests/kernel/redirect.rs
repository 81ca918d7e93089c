//! The way to the gateway: a gated connect comes to it from every form of a connect, and nothing
//! else does; it knows whose each connection is and where it was to go.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use nix::sys::signal::Signal;
use pcigate_agent::{
    draft::{Draft, Ending, Event},
    enforcer::Redirects,
    gateway::{Accepted, Gateway, Handler, Parts},
    grants,
    pipeline::now_unix_nano,
};
use pcigate_common::limits::GATEWAY_PORT;
use pcigate_proto::Verdict;
use pcigate_tests::{
    kernel::{Kernel, Setup},
    network::Network,
    wait,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{grants::Probe, survival::Node};

const POLICY: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  egress:
    defaultAction: deny
    rules:
      - id: cards
        action: gate
        target: cards
        statements: [{id: read, action: allow, effects: [read]}]
      - {id: open, action: allow, to: [{cidr: 127.0.0.8/32}]}
---
apiVersion: pcigate.dev/v1alpha1
kind: Target
metadata: {name: cards, namespace: payments}
spec:
  protocol: postgres
  upstream: {address: '127.0.0.1:UPSTREAM', tls: {mode: MODE}}
  endpoints: [{cidr: 127.0.0.9/32, port: 5432}, {cidr: '2001:db8::/32', port: 5432}]
";
const TARGET: &str = "127.0.0.9:5432";
const TARGET_V6: &str = "[2001:db8::9]:5432";
const WITHIN: Duration = Duration::from_secs(10);

fn policy(mode: &str, port: u16) -> String {
    POLICY.replace("MODE", mode).replace("UPSTREAM", &port.to_string())
}

fn setup() -> Setup {
    Setup { policy: policy("verify-full", 5432), ..Setup::default() }
}

/// What the handler was given.
struct Seen {
    original: SocketAddr,
    pod: String,
    pid: u32,
    start_ns: u64,
    executable: String,
    rule: String,
    dialled: Option<String>,
}

/// A gateway whose handler tells the test of each connection and sends back what it gets.
struct Bench {
    runtime: tokio::runtime::Runtime,
    gateway: Gateway,
    redirects: Redirects,
    seen: Receiver<Seen>,
    drafts: Arc<Mutex<Vec<Draft>>>,
}

impl Bench {
    fn new(kernel: &mut Kernel, per_network: usize, dials: bool) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (sender, seen) = channel();
        let handler: Handler = Arc::new(move |mut accepted: Accepted| {
            let sender = sender.clone();
            Box::pin(async move {
                let dialled = match dials {
                    false => None,
                    true => Some(match accepted.dial(WITHIN).await {
                        Ok(stream) => stream.peer_addr().unwrap().to_string(),
                        Err(error) => std::error::Error::source(&error).unwrap().to_string(),
                    }),
                };
                let process = &accepted.actor.process;
                let executable = process.executable.as_ref();
                let seen = Seen {
                    original: accepted.original,
                    pod: accepted.actor.workload.pod.as_str().to_owned(),
                    pid: process.pid,
                    start_ns: process.start_boottime_ns,
                    executable: executable.map_or_else(String::new, |e| e.as_str().to_owned()),
                    rule: accepted.gate.rule.id.as_str().to_owned(),
                    dialled,
                };
                sender.send(seen).unwrap();
                let mut byte = [0];
                while accepted.stream.read_exact(&mut byte).await.is_ok()
                    && accepted.stream.write_all(&byte).await.is_ok()
                {}
            })
        });
        let drafts = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&drafts);
        let redirects = kernel.redirects();
        let parts = Parts {
            redirects: redirects.clone(),
            directory: kernel.governor.directory(),
            files: kernel.governor.files(),
            report: Arc::new(move |draft| kept.lock().unwrap().push(draft)),
            handler,
            per_network,
            in_all: 100,
            since_ns: grants::now_ns(),
        };
        let gateway = {
            let _inside = runtime.enter();
            Gateway::new(parts)
        };
        Self { runtime, gateway, redirects, seen, drafts }
    }

    fn follow(&mut self, kernel: &Kernel) {
        let _inside = self.runtime.enter();
        let errors = self.gateway.follow(kernel.root(), kernel.governor.gated());
        assert!(errors.is_empty(), "{errors:?}");
    }

    fn next(&self) -> Seen {
        let seen = self.seen.recv_timeout(wait::DEADLINE);
        seen.unwrap_or_else(|_| panic!("no connection came: {:?}", self.drafts.lock().unwrap()))
    }

    /// Rule, ending and object of the gateway's own records, once there are as many.
    fn records(&self, count: usize) -> Vec<(String, Ending, String)> {
        wait::until("the gateway's records", || {
            let drafts = self.drafts.lock().unwrap();
            let told = drafts.iter().map(|draft| {
                let Event::Attempt { object, .. } = &draft.event else { panic!("{draft:?}") };
                let rule = &draft.outcome.decision.as_ref().unwrap().rule.id;
                (rule.as_str().to_owned(), draft.outcome.result, object.as_str().to_owned())
            });
            (drafts.len() >= count).then(|| told.collect())
        })
    }
}

/// A process in the governed root and a network of its own that waits before it acts.
fn pod(network: &Network, cgroup: &Path, actions: &[&str]) -> Probe {
    let namespace = network.pod();
    let options = ["--netns", namespace.to_str().unwrap()];
    let actions = [&["write:/dev/null", "read-line"], actions].concat();
    let mut probe = Probe::start_with(&options, cgroup, &actions);
    assert_eq!(probe.result(), "ok", "it is where it should be");
    probe
}

/// Port, rule, verdict and ending of every destination asked for.
fn egress(drafts: &[Draft]) -> Vec<(String, String, Verdict, Ending)> {
    let of = |draft: &Draft| match &draft.event {
        Event::Egress { address, port, .. } => {
            let decided = draft.outcome.decision.as_ref().unwrap();
            let to = SocketAddr::new(*address, *port).to_string();
            Some((to, decided.rule.id.as_str().to_owned(), decided.verdict, draft.outcome.result))
        }
        _ => None,
    };
    drafts.iter().filter_map(of).collect()
}

/// Counts what connects to the real server of the target.
fn server(network: &Network, at: &str) -> Arc<AtomicUsize> {
    let listener = network.in_pod(|| TcpListener::bind(at).unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    count
}

#[test]
fn a_gated_connect_of_every_form_comes_to_the_gateway_and_the_client_sees_the_peer_it_asked_for() {
    let network = Network::new();
    let real = server(&network, TARGET);
    let mut kernel = Kernel::start(&setup());
    let mut bench = Bench::new(&mut kernel, 100, false);
    let mapped = "[::ffff:127.0.0.9]:5432";
    let forms = [
        ("plain", TARGET),
        ("plain", TARGET_V6),
        ("plain", mapped),
        ("later", TARGET),
        ("later", TARGET_V6),
        ("bound", TARGET),
        ("uring", TARGET),
        ("uring", TARGET_V6),
        ("uring", mapped),
    ];
    let actions: Vec<String> = forms.iter().map(|(how, to)| format!("peer:{how}:{to}")).collect();
    let mut actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    actions.push("read-line");
    let mut probe = pod(&network, kernel.root(), &actions);
    bench.follow(&kernel);
    probe.go_on();
    let results = probe.results(forms.len());
    let mut redirected = Vec::new();
    for ((how, to), result) in forms.iter().zip(&results) {
        // A machine may have io_uring switched off.
        if *how == "uring" && ["ENOSYS", "EPERM"].contains(&result.as_str()) {
            continue;
        }
        assert_eq!(result, to, "{how}");
        redirected.push(if *to == mapped { TARGET } else { to });
    }
    assert!(redirected.len() >= 6);
    let mut originals = Vec::new();
    for _ in &redirected {
        let seen = bench.next();
        originals.push(seen.original.to_string());
        assert_eq!((seen.pid, seen.pod.as_str()), (probe.child.id(), "billing-bot"));
        assert_eq!(seen.rule, "cards");
        assert!(seen.executable.ends_with("/pcigate-probe"), "{}", seen.executable);
    }
    // The listeners for IPv4 and IPv6 do not wait for each other.
    originals.sort();
    let mut sorted = redirected.clone();
    sorted.sort_unstable();
    assert_eq!(originals, sorted);
    let wanted = redirected
        .iter()
        .map(|to| ((*to).to_owned(), "cards".to_owned(), Verdict::Gate, Ending::Success));
    assert_eq!(egress(&kernel.drafts()), wanted.collect::<Vec<_>>());
    assert_eq!(real.load(Ordering::SeqCst), 0, "nothing reaches the real server");
    assert!(bench.drafts.lock().unwrap().is_empty());
}

#[test]
fn pods_in_namespaces_of_their_own_and_in_the_agent_s_are_told_apart() {
    let (one, other, own) = (Network::new(), Network::new(), Network::new());
    // The agent's own namespace: a thread in it, and what the thread starts.
    own.in_pod(|| {
        let mut kernel = Kernel::ungoverned(&setup());
        let mut pods = Vec::new();
        let mut bench = Bench::new(&mut kernel, 100, false);
        for (name, network) in [("one", &one), ("other", &other), ("host", &own)] {
            let cgroup = kernel.root().join(name);
            std::fs::create_dir(&cgroup).unwrap();
            kernel.govern(&cgroup, name);
            let probe = pod(network, &cgroup, &[&format!("open:{TARGET}"), "ping", "read-line"]);
            pods.push((name, probe));
        }
        bench.follow(&kernel);
        assert_eq!(bench.gateway.networks().len(), 3);
        for (_, probe) in &mut pods {
            probe.go_on();
        }
        let mut found = HashSet::new();
        for _ in &pods {
            let seen = bench.next();
            let (_, probe) = pods.iter().find(|(name, _)| *name == seen.pod).unwrap();
            assert_eq!(seen.pid, probe.child.id());
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", seen.pid)).unwrap();
            let start = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
            assert_eq!((seen.start_ns / 10_000_000).to_string(), start);
            found.insert(seen.pod);
        }
        assert_eq!(found.len(), 3);
        for (_, probe) in &mut pods {
            assert_eq!(probe.results(2), ["ok", "ok"], "its own connection");
        }
        drop(pods);
        wait::until("the processes' end", || {
            bench.follow(&kernel);
            bench.gateway.networks().is_empty().then_some(())
        });
        assert!(bench.redirects.announced().is_empty());
    });
}

#[test]
fn what_was_not_redirected_is_closed_and_recorded_and_from_inside_it_is_refused() {
    let network = Network::new();
    let mut kernel = Kernel::start(&setup());
    let mut bench = Bench::new(&mut kernel, 100, false);
    let direct = format!("tcp:127.0.0.1:{GATEWAY_PORT}");
    let mut probe = pod(&network, kernel.root(), &[&direct, "read-line"]);
    bench.follow(&kernel);
    for address in [
        (Ipv4Addr::LOCALHOST, GATEWAY_PORT).into(),
        ([0, 0, 0, 0, 0, 0, 0, 1], GATEWAY_PORT).into(),
    ] {
        let address: SocketAddr = address;
        let mut forged = network.in_pod(|| TcpStream::connect(address).unwrap());
        let _ = forged.write_all(b"x");
        assert!(!matches!(forged.read(&mut [0]), Ok(1..)), "nobody answers");
    }
    let records = bench.records(2);
    assert_eq!(records.len(), 2);
    for (rule, ending, object) in &records {
        assert_eq!((rule.as_str(), *ending), ("pcigate/gateway-listener", Ending::Refused));
        assert!(object.ends_with(": not redirected"), "{object}");
    }
    let draft = &bench.drafts.lock().unwrap()[0];
    assert!(draft.time_unix_nano <= now_unix_nano());
    let record = pcigate_agent::draft::record_of(draft, "node", &[0; 16], 1);
    assert_eq!(pcigate_proto::record::check_complete(&record), Ok(()));
    assert!(bench.seen.try_recv().is_err(), "no handler sees it");
    probe.go_on();
    assert_eq!(probe.result(), "EPERM");
}

#[test]
fn an_entry_ends_with_its_socket_and_with_another_connect() {
    let network = Network::new();
    let elsewhere = server(&network, "127.0.0.8:5432");
    let mut kernel = Kernel::start(&setup());
    let mut bench = Bench::new(&mut kernel, 100, false);
    let unspec = format!("peer-after:unspec:{TARGET},127.0.0.8:5432");
    let back = format!("peer-after:unspec:127.0.0.8:5432,{TARGET}");
    let open = format!("open:{TARGET}");
    let actions =
        [&*open, "ping", "read-line", &open, "read-line", &unspec, "read-line", &back, "read-line"];
    let mut probe = pod(&network, kernel.root(), &actions);
    bench.follow(&kernel);
    probe.go_on();
    assert_eq!(probe.results(2), ["ok", "ok"]);
    assert_eq!(bench.redirects.count(), 1);
    probe.go_on();
    assert_eq!(probe.result(), "ok");
    assert_eq!(bench.redirects.count(), 1, "the socket before is closed");
    probe.go_on();
    assert_eq!(probe.result(), "127.0.0.8:5432");
    assert_eq!(bench.redirects.count(), 1, "a socket that goes elsewhere now");
    wait::until("the other server", || (elsewhere.load(Ordering::SeqCst) == 1).then_some(()));
    probe.go_on();
    assert_eq!(probe.result(), TARGET);
    assert_eq!(bench.redirects.count(), 2);
    probe.child.kill().unwrap();
    probe.child.wait().unwrap();
    wait::until("the end of its sockets", || (bench.redirects.count() == 0).then_some(()));
    // One whose connect failed: it counts as listened in, and nobody listens.
    let failed = format!("peer-after:failed:{TARGET},127.0.0.8:5432");
    let mut probe = pod(&network, kernel.root(), &[&failed, "read-line"]);
    bench.follow(&kernel);
    let cookie = bench.gateway.networks()[0].cookie;
    drop(bench.gateway);
    bench.redirects.announce(cookie).unwrap();
    wait::until("the end of the listener", || {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, GATEWAY_PORT).into();
        network.in_pod(|| TcpStream::connect(address)).is_err().then_some(())
    });
    probe.go_on();
    assert_eq!(probe.result(), "127.0.0.8:5432");
    assert_eq!(bench.redirects.count(), 0);
}

#[test]
fn without_room_for_an_entry_a_connect_is_refused_and_the_record_says_why() {
    let network = Network::new();
    let mut kernel = Kernel::start(&Setup { redirected: 2, ..setup() });
    let mut bench = Bench::new(&mut kernel, 100, false);
    let hold = format!("hold:{TARGET}");
    let mut probe = pod(&network, kernel.root(), &[&hold, &hold, &hold, "read-line"]);
    bench.follow(&kernel);
    probe.go_on();
    assert_eq!(probe.results(3), ["ok", "ok", "EPERM"]);
    let found = egress(&kernel.drafts());
    let (_, rule, verdict, ending) = &found[2];
    let wanted = ("pcigate/internal-error", Verdict::Deny, Ending::Refused);
    assert_eq!((rule.as_str(), *verdict, *ending), wanted);
}

#[test]
fn what_cannot_be_redirected_is_refused_as_without_a_gateway() {
    let network = Network::new();
    let mut kernel = Kernel::start(&setup());
    let mut bench = Bench::new(&mut kernel, 100, false);
    let actions = [
        format!("routed-connect:{TARGET}"),
        format!("mptcp:{TARGET}"),
        format!("udp:{TARGET}"),
        "tcp:127.0.0.9:5433".to_owned(),
    ];
    let mut actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    actions.push("read-line");
    let mut probe = pod(&network, kernel.root(), &actions);
    bench.follow(&kernel);
    probe.go_on();
    let results = probe.results(4);
    assert_eq!([&results[0], &results[2], &results[3]], ["EPERM"; 3]);
    // A kernel may have no MPTCP.
    assert!(
        ["EPERM", "EPROTONOSUPPORT", "ENOPROTOOPT"].contains(&results[1].as_str()),
        "{results:?}"
    );
    assert_eq!(bench.redirects.count(), 0);
    assert!(bench.seen.try_recv().is_err());
}

#[test]
fn connections_beyond_what_the_gateway_keeps_are_closed_and_recorded() {
    let network = Network::new();
    let mut kernel = Kernel::start(&setup());
    let mut bench = Bench::new(&mut kernel, 1, false);
    let (hold, open) = (format!("hold:{TARGET}"), format!("open:{TARGET}"));
    let mut probe = pod(&network, kernel.root(), &[&hold, &open, "ping", "read-line"]);
    bench.follow(&kernel);
    probe.go_on();
    let results = probe.results(3);
    assert_eq!(results[0], "ok");
    assert_ne!(results[2], "ok", "nobody answers");
    let records = bench.records(1);
    let (rule, ending, object) = &records[0];
    assert_eq!((rule.as_str(), *ending), ("cards", Ending::Refused));
    assert!(object.contains("as many connections as"), "{object}");
}

#[test]
fn the_upstream_is_dialled_from_the_pod_s_network_only_where_tls_proves_who_answers() {
    let network = Network::new();
    let listener = network.in_pod(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    for (mode, verified) in [("verify-full", true), ("require", false), ("disable", false)] {
        let setup = Setup { policy: policy(mode, address.port()), ..Setup::default() };
        let mut kernel = Kernel::start(&setup);
        let mut bench = Bench::new(&mut kernel, 100, true);
        let mut probe = pod(&network, kernel.root(), &[&format!("hold:{TARGET}"), "read-line"]);
        bench.follow(&kernel);
        probe.go_on();
        assert_eq!(probe.result(), "ok");
        let dialled = bench.next().dialled.unwrap();
        assert_eq!(dialled == address.to_string(), verified, "{mode}: {dialled}");
    }
}

#[test]
fn while_no_agent_runs_gated_connects_are_refused_and_reach_nobody() {
    let network = Network::new();
    let real = server(&network, TARGET);
    network.in_pod(|| {
        let node = Node::new("gateway");
        let policy = policy("verify-full", 5432);
        let selector = "selector: {matchLabels: {app: billing-bot}}";
        std::fs::write(node.path("policy.yaml"), policy.replace("selector: {}", selector)).unwrap();
        let action = format!("open:{TARGET}");
        let mut waits =
            Probe::start_with(&[], &node.container(), &["write:/dev/null", "read-line"]);
        assert_eq!(waits.result(), "ok");
        // Until it is closed, where it is accepted.
        let connect = || {
            let actions = [&*action, "wait-end"];
            let mut probe = Probe::start_with(&[], &node.container(), &actions);
            probe.results(2).swap_remove(0)
        };
        let mut agent = node.serve();
        for _ in 0..2 {
            assert_eq!(connect(), "ok", "to the gateway");
            agent.end(Signal::SIGKILL);
            assert_eq!(connect(), "ECONNREFUSED");
            agent = node.serve();
        }
        assert_eq!(connect(), "ok");
        agent.end(Signal::SIGTERM);
        assert_eq!(connect(), "EPERM");
        drop(waits);
        let records = node.records();
        let closed = records.iter().filter(|record| match &record.event {
            Some(pcigate_proto::record::Event::Attempt(attempt)) => {
                attempt.operation == "gateway"
                    && attempt.object.contains("payments/cards says no upstream.tls.caFile")
            }
            _ => false,
        });
        assert_eq!(closed.count(), 3);
    });
    assert_eq!(real.load(Ordering::SeqCst), 0, "nothing reaches the real server");
}

#[test]
fn beside_a_command_the_gateway_listens_in_the_network_they_share() {
    let network = Network::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, policy("verify-full", 5432)).unwrap();
    let mut agent = Command::new(pcigate_tests::program("pcigate-agent"));
    agent.args(["exec", "--name", "payments/bot", "--policy"]).arg(file);
    agent.arg("--state-dir").arg(directory.path().join("state")).arg("--");
    agent.arg(pcigate_tests::program("pcigate-probe"));
    agent.args([&format!("open:{TARGET}"), "wait-end", "tcp:127.0.0.9:5433"]);
    let output = network.in_pod(|| agent.output().unwrap());
    let text = String::from_utf8(output.stdout).unwrap();
    let results: Vec<&str> = text.lines().map(|line| line.rsplit_once(' ').unwrap().1).collect();
    assert_eq!(results[0], "ok", "to the gateway");
    assert_eq!(results[2], "EPERM");
}

#[test]
fn a_workload_in_more_network_namespaces_than_one_may_have_is_named_and_refused_in_the_others() {
    const MOST: usize = 16;
    let networks: Vec<Network> = (0..=MOST).map(|_| Network::new()).collect();
    let mut kernel = Kernel::start(&setup());
    let mut bench = Bench::new(&mut kernel, 100, false);
    let connect = format!("hold:{TARGET}");
    let actions = [&*connect, "read-line"];
    let pods = networks.iter().map(|network| pod(network, kernel.root(), &actions));
    let mut pods: Vec<Probe> = pods.collect();
    let errors = {
        let _inside = bench.runtime.enter();
        bench.gateway.follow(kernel.root(), kernel.governor.gated())
    };
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert!(error.to_string().contains("gated connections of the others are refused"), "{error}");
    assert_eq!(bench.gateway.networks().len(), MOST);
    let mut results: Vec<String> = Vec::new();
    for probe in &mut pods {
        probe.go_on();
        results.push(probe.result());
    }
    let refused = results.iter().filter(|result| *result == "EPERM").count();
    assert_eq!((refused, results.len() - refused), (1, MOST), "{results:?}");
}
