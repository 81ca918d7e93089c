//! What the agent needs in memory on a full node, and what a policy needs in the kernel.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stderr, reason = "progress goes to people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "memory/full_node.rs"]
mod full_node;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{mount::MsFlags, sys::signal::Signal};
use pcigate_agent::cgroup;
use pcigate_tests::{
    figures::{Budget, figure, flag, how, option, status_kib},
    line::{Place, govern},
    site::{Mounted, Running, Site, start, succeed},
};

use full_node::{PODS, POLICIES, RULES, container, container_id, policy};

/// Records of the burst that the agent has to get through.
const BURST: u64 = 100_000;
const MIB: f64 = 1024.0;

fn main() {
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 1 } else { 3 });
    let (mut idle, mut peak, mut anonymous, mut kernel) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        eprintln!("memory: agent, round {} of {rounds}", round + 1);
        let node = Node::new();
        let agent = node.serve();
        let pid = u32::try_from(agent.pid()).unwrap();
        idle.push(status_kib(pid, "VmRSS") / MIB);
        kernel.push(map_bytes(pid) as f64 / MIB / MIB);
        node.burst();
        peak.push(status_kib(pid, "VmHWM") / MIB);
        anonymous.push(status_kib(pid, "RssAnon") / MIB);
        agent.end(Signal::SIGTERM);
    }
    let mut per_policy = Vec::new();
    for round in 0..rounds {
        eprintln!("memory: kernel, round {} of {rounds}", round + 1);
        per_policy.push(bytes_per_policy());
    }
    let per_rule: Vec<f64> = per_policy.iter().map(|bytes| bytes / RULES as f64).collect();
    how(&format!(
        "`pcigate-agent serve` with {PODS} pods (a cgroup each, and one for its container) and \
         {POLICIES} policies of {RULES} rules, a collector connected; `burst`: after {BURST} \
         refused connects as fast as one process can. The resident size counts the pages of both \
         rings (20 MiB) as far as they have been used, and the program itself."
    ));
    how(
        "Kernel memory: `memlock` of the maps in /proc/PID/fdinfo. Per rule: what it grows by from \
         100 policies to 200, over the rules of the second hundred; arrays and hash tables that \
         are as large when empty do not grow.",
    );
    figure("agent RSS, 250 pods, 200 policies", "MiB", Budget::AtMost(64.0), &idle);
    figure("agent RSS, its peak in a burst", "MiB", Budget::AtMost(64.0), &peak);
    figure("agent, anonymous part after the burst", "MiB", Budget::None, &anonymous);
    figure("kernel maps, 250 pods, 200 policies", "MiB", Budget::None, &kernel);
    figure("kernel memory of a further policy", "bytes", Budget::None, &per_policy);
    figure("kernel memory of a further rule", "bytes", Budget::AtMost(4096.0), &per_rule);
}

/// A node with pods in its cgroup tree and policies for them.
struct Node {
    site: Site,
    root: cgroup::Owned,
    _bpffs: Mounted,
}

impl Node {
    fn new() -> Self {
        let mut site = Site::new();
        site.start_collector();
        let root = cgroup::create(&format!("bench-memory-{}", std::process::id())).unwrap();
        let bpffs = Mounted::new("bpf", &site.path("bpffs"), "", MsFlags::empty());
        fs::create_dir_all(site.path("policies")).unwrap();
        for number in 0..POLICIES {
            site.write(&format!("policies/{number}.yaml"), &policy(number));
        }
        let mut list = "apiVersion: v1\nkind: PodList\nitems:\n".to_owned();
        for number in 0..PODS {
            list.push_str(&pod(number));
        }
        site.write("pods.yaml", &list);
        let node = Self { site, root, _bpffs: bpffs };
        for number in 0..PODS {
            fs::create_dir_all(node.container(number)).unwrap();
        }
        node
    }

    fn serve(&self) -> Running {
        let directory = self.site.path("");
        let at = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "cgroupRoot: {}\nstateDir: {}\npolicies: [{}]\nworkloads: {{source: file, file: {}}}\n\
             collector: {{url: \"{}\", tlsDir: {}}}\n",
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
        start(&mut agent).0
    }

    /// Refused connects in one pod, and the wait until the collector has their records.
    fn burst(&self) {
        let mut probe = self.site.command("pcigate-probe");
        let action = format!("repeat:{BURST}:udp-connected:127.0.0.1:9");
        succeed(probe.arg("--cgroup").arg(self.container(7)).arg(&action));
        let spool = self.site.path("agent/spool");
        let deadline = Instant::now() + Duration::from_secs(60);
        // One segment is left when all others are acknowledged.
        while segments(&spool) > 1 {
            assert!(Instant::now() < deadline, "the collector did not take the burst");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn container(&self, number: usize) -> PathBuf {
        container(&self.root.cgroup.path, &uid(number), &container_id(number))
    }
}

fn segments(spool: &Path) -> usize {
    let entries = fs::read_dir(spool).unwrap().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|ext| ext == "seg")).count()
}

/// Bytes the kernel counts for the maps a process has open.
fn map_bytes(pid: u32) -> u64 {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<u64>().ok())
        };
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    assert!(!maps.is_empty(), "process {pid} has no maps open");
    maps.values().sum()
}

/// What the maps grow by for each of 100 further policies.
fn bytes_per_policy() -> f64 {
    let place = Place::new();
    let documents: String = (0..POLICIES).map(|number| policy(number) + "---\n").collect();
    let mut hooks = place.load(documents.trim_end_matches("---\n"));
    let own = std::process::id();
    let mut seen = 0;
    for number in 0..POLICIES {
        if number == POLICIES / 2 {
            seen = map_bytes(own);
        }
        let cgroup_id = (1 << 40) + number as u64;
        govern(&mut hooks.governor, cgroup_id, "/pod", &format!("bot-{number}"));
    }
    (map_bytes(own) - seen) as f64 / (POLICIES / 2) as f64
}

fn uid(number: usize) -> String {
    format!("1a2b3c4d-0000-4000-8000-{number:012}")
}

fn pod(number: usize) -> String {
    let (uid, id) = (uid(number), container_id(number));
    format!(
        "- metadata:
    name: bot-{number}
    namespace: payments
    uid: {uid}
    labels: {{app: bot-{policy}}}
  spec: {{serviceAccountName: bot-{number}, containers: [{{name: bot}}]}}
  status:
    containerStatuses:
    - {{name: bot, containerID: \"containerd://{id}\", image: x, imageID: x, ready: true, \
          restartCount: 0}}
",
        policy = number % POLICIES
    )
}
