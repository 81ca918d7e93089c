//! The DaemonSet's program: pods from a file, governed by their cgroups; enforcement that outlives
//! the agent; no record lost when it is killed.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
};

use nix::{mount::MsFlags, sys::signal::Signal};
use pcigate_agent::cgroup;
use pcigate_tests::{
    site::{CONTAINER_ID, Mounted, POD_UID, Running, Site, rest, start, succeed},
    wait,
};
use serde_json::Value;

/// A node: a site with a pod root in the cgroup tree and a bpffs of its own.
pub struct Node {
    pub site: Site,
    root: cgroup::Owned,
    _bpffs: Mounted,
}

impl Node {
    pub fn new(name: &str) -> Self {
        let site = Site::new();
        let root = cgroup::create(&format!("serve-{name}-{}", std::process::id())).unwrap();
        let bpffs = Mounted::new("bpf", &site.path("bpffs"), "", MsFlags::empty());
        fs::create_dir_all(site.path("policies")).unwrap();
        fs::copy(site.path("policy.yaml"), site.path("policies/billing-bot.yaml")).unwrap();
        site.write("pods.yaml", &Site::pod_list());
        Self { site, root, _bpffs: bpffs }
    }

    pub fn serve(&self) -> Running {
        self.serve_with("")
    }

    /// With more lines in its configuration.
    pub fn serve_with(&self, more: &str) -> Running {
        let directory = self.site.path("");
        let at = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "cgroupRoot: {}\nstateDir: {}\npolicies: [{}]\nworkloads: {{source: file, file: {}}}\n\
             collector: {{url: \"{}\", tlsDir: {}}}\n{more}",
            self.root.cgroup.path.display(),
            at("agent"),
            at("policies"),
            at("pods.yaml"),
            self.site.url(),
            at("tls/node"),
        );
        self.site.write("agent.yaml", &config);
        let mut agent = self.site.command("pcigate-agent");
        agent.args(["serve", "--config", "agent.yaml"]).arg("--bpffs").arg(self.site.path("bpffs"));
        let (running, line) = start(&mut agent);
        assert!(line.starts_with("pcigate-agent ready: governing "), "{line}");
        running
    }

    /// Directory of the pod's container, as the kubelet and containerd make it.
    pub fn container(&self) -> PathBuf {
        let pod = format!("kubepods-burstable-pod{}.slice", POD_UID.replace('-', "_"));
        let path = self.root.cgroup.path.join("kubepods-burstable.slice").join(pod);
        path.join(format!("cri-containerd-{CONTAINER_ID}.scope"))
    }

    fn probe(&self, cgroup: &std::path::Path, action: &str) -> String {
        let mut probe = Command::new(pcigate_tests::program("pcigate-probe"));
        let output = succeed(probe.arg("--cgroup").arg(cgroup).arg(action));
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        line.trim().rsplit(' ').next().unwrap().to_owned()
    }
}

fn of<'a>(records: &'a [Value], pointer: &str, value: &str) -> Vec<&'a Value> {
    let is = |record: &&Value| record.pointer(pointer).and_then(Value::as_str) == Some(value);
    records.iter().filter(is).collect()
}

#[test]
fn a_pod_of_the_list_is_governed_by_its_policies_and_named_with_its_container() {
    let mut node = Node::new("pod");
    node.site.start_collector();
    fs::create_dir_all(node.container()).unwrap();
    let agent = node.serve();
    assert_eq!(node.probe(&node.container(), "tcp:127.0.0.1:9"), "EPERM");
    let stranger = node.root.cgroup.path.join("stranger");
    fs::create_dir(&stranger).unwrap();
    assert_eq!(node.probe(&stranger, "tcp:127.0.0.1:9"), "EPERM");
    agent.end(Signal::SIGTERM);
    let egress = node.site.records(&["--kind", "egress"]);
    let named = of(&egress, "/subject/workload/container", "bot");
    assert_eq!(named.len(), 1, "{egress:#?}");
    assert_eq!(named[0].pointer("/subject/workload/pod_uid").unwrap(), POD_UID);
    assert_eq!(named[0].pointer("/outcome/rule").unwrap(), "default");
    let unknown = of(&egress, "/outcome/rule", "pcigate/unknown-workload");
    assert_eq!(unknown.len(), 1, "{egress:#?}");
}

#[test]
fn a_pod_that_comes_later_and_a_changed_policy_are_seen_without_a_restart() {
    let mut node = Node::new("later");
    node.site.start_collector();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let action = format!("tcp:{}", listener.local_addr().unwrap());
    let agent = node.serve();
    fs::create_dir_all(node.container()).unwrap();
    assert_eq!(node.probe(&node.container(), &action), "EPERM", "unknown or governed: refused");
    let open = pcigate_tests::site::POLICY.replace("defaultAction: deny", "defaultAction: allow");
    node.site.write("policies/billing-bot.yaml", "kind: nonsense\n");
    agent.signal(Signal::SIGHUP);
    wait::until("the refusal of wrong policies", || {
        let changes = node.site.records(&["--kind", "coverage"]);
        changes.iter().any(|record| record.to_string().contains("refused")).then_some(())
    });
    assert_eq!(node.probe(&node.container(), &action), "EPERM", "wrong policies change nothing");
    node.site.write("policies/billing-bot.yaml", &open);
    agent.signal(Signal::SIGHUP);
    wait::until("the new policy", || {
        (node.probe(&node.container(), &action) == "ok").then_some(())
    });
}

#[test]
fn a_killed_agent_leaves_enforcement_in_place_and_loses_no_record() {
    let mut node = Node::new("killed");
    node.site.start_collector();
    fs::create_dir_all(node.container()).unwrap();
    for _ in 0..3 {
        let agent = node.serve();
        node.probe(&node.container(), "repeat:300:tcp:127.0.0.1:9");
        agent.end(Signal::SIGKILL);
        assert_eq!(node.probe(&node.container(), "tcp:127.0.0.1:9"), "EPERM", "no agent runs");
    }
    let agent = node.serve();
    agent.end(Signal::SIGTERM);
    let all = node.site.records(&["--limit", "100000"]);
    let mut numbers: Vec<u64> = all
        .iter()
        .filter_map(|record| {
            record.pointer("/origin/seq")?.to_string().trim_matches('"').parse().ok()
        })
        .filter(|&seq| seq > 0)
        .collect();
    let ordered = numbers.clone();
    numbers.sort_unstable();
    assert_eq!(ordered, numbers, "in order");
    numbers.dedup();
    assert_eq!(ordered, numbers, "none twice");
    assert_eq!(numbers.last().copied(), Some(numbers.len() as u64), "none missing");
    let starts = all.iter().filter(|record| {
        record.pointer("/coverage/state").and_then(Value::as_str) == Some("start")
    });
    assert_eq!(starts.count(), 4 + 1, "each start of the agent, and the collector's");
    let gaps = all.iter().filter(|record| record.to_string().contains("no agent ran"));
    assert_eq!(gaps.count(), 3, "each start after a death says that no agent ran");
    let mut uninstall = node.site.command("pcigate-agent");
    succeed(uninstall.arg("uninstall").arg("--bpffs").arg(node.site.path("bpffs")));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let action = format!("tcp:{}", listener.local_addr().unwrap());
    assert_eq!(node.probe(&node.container(), &action), "ok", "uninstalled");
}

/// Asks the admin port, once it is there; status and body.
pub fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = wait::until("the admin port", || TcpStream::connect(address).ok());
    write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let answer = rest(&mut stream);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn until_ready(address: SocketAddr, line: &str) {
    wait::until(line, || ask(address, "/readyz").1.contains(line).then_some(()));
}

#[test]
fn ready_means_enforcing_and_a_taken_port_keeps_no_agent_from_it() {
    let mut node = Node::new("admin");
    node.site.start_collector();
    fs::create_dir_all(node.container()).unwrap();
    let stranger = "1a2b3c4d-0000-4000-8000-000000000000".replace('-', "_");
    let pod = format!("kubepods-burstable.slice/kubepods-burstable-pod{stranger}.slice");
    fs::create_dir_all(node.root.cgroup.path.join(pod)).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let agent = node.serve_with(&format!("admin: {{listen: {address}}}\n"));
    assert_eq!(node.probe(&node.container(), "tcp:127.0.0.1:9"), "EPERM", "without its port");
    drop(taken);
    until_ready(address, "collector: ok");
    let (status, text) = ask(address, "/readyz");
    let parts =
        "programs: ok\npolicies: ok\nworkloads: ok\ndocuments: ok\ngateway: ok\nspool: ok\n";
    assert_eq!((status, text.as_str()), (200, format!("{parts}collector: ok\n").as_str()));
    assert_eq!(ask(address, "/healthz"), (200, "ok\n".to_owned()));
    let told = |line: &str| {
        wait::until(line, || ask(address, "/metrics").1.contains(line).then_some(()));
    };
    told("pcigate_agent_enforcing 1.0\n");
    told("pcigate_agent_records_total{kind=\"egress\",verdict=\"deny\"} 1\n");
    told("pcigate_agent_workloads{state=\"governed\"} 1.0\n");
    told("pcigate_agent_workloads{state=\"unknown\"} 1.0\n");
    told("pcigate_agent_spool_records 0.0\n");
    let hash = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("pcigate_agent_policy_info"));
        line.unwrap().to_owned()
    };
    let before = hash(&ask(address, "/metrics").1);

    node.site.write("policies/billing-bot.yaml", "kind: nonsense\n");
    agent.signal(Signal::SIGHUP);
    until_ready(address, "documents: documents with mistakes are refused;");
    assert_eq!(ask(address, "/readyz").0, 200, "the policies before are enforced");
    let (_, text) = ask(address, "/metrics");
    assert_eq!(hash(&text), before);
    assert!(text.contains("pcigate_agent_policy_readings_total{result=\"refused\"} 1\n"), "{text}");
    let open = pcigate_tests::site::POLICY.replace("defaultAction: deny", "defaultAction: allow");
    node.site.write("policies/billing-bot.yaml", &open);
    agent.signal(Signal::SIGHUP);
    until_ready(address, "documents: ok");
    assert_ne!(hash(&ask(address, "/metrics").1), before);

    // Nobody can say any more who is there.
    fs::remove_file(node.site.path("pods.yaml")).unwrap();
    until_ready(address, "workloads: the pods or their cgroups cannot be read;");
    assert_eq!(ask(address, "/readyz").0, 503);
    node.site.write("pods.yaml", &Site::pod_list());
    until_ready(address, "workloads: ok");
    agent.end(Signal::SIGTERM);
    assert!(TcpStream::connect(address).is_err(), "the port is closed with the agent");
}
