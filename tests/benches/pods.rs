//! What pods of an API server cost the agent, and how soon it governs what has changed: a new
//! container, another policy, an API server that is back.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stderr, reason = "progress goes to people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "memory/full_node.rs"]
mod full_node;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{mount::MsFlags, sys::signal::Signal};
use pcigate_agent::cgroup;
use pcigate_tests::{
    apiserver::{ADMIN, ApiServer},
    figures::{Budget, cpu_seconds, figure, flag, how, option, status_kib},
    site::{Mounted, Running, Site, start},
};
use serde_json::{Value, json};

use full_node::{PODS, POLICIES, container, container_id, policy};

const COLLECTION: &str = "/api/v1/namespaces/payments/pods";
/// Refused where nothing is known or all is denied, and done at once where it is allowed.
const ACTION: &str = "watch:udp-connected:127.0.0.1:9";
/// Between two pods that come and go.
const CHURN: Duration = Duration::from_millis(100);
const OUTAGE: Duration = Duration::from_secs(5);
const MIB: f64 = 1024.0;

/// What is measured, in the order of the rounds.
#[derive(Default)]
struct Samples {
    rss: Vec<f64>,
    anonymous: Vec<f64>,
    idle: Vec<f64>,
    churn: Vec<f64>,
    after_churn: Vec<f64>,
    governed: [Vec<f64>; 3],
    changed: [Vec<f64>; 2],
    back: Vec<f64>,
}

/// How much of it.
struct Extent {
    seconds: u64,
    containers: usize,
    changes: usize,
}

fn main() {
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 1 } else { 3 });
    let extent = match quick {
        true => Extent { seconds: 2, containers: 20, changes: 10 },
        false => Extent { seconds: 10, containers: 1_000, changes: 200 },
    };
    let mut samples = Samples::default();
    for round in 0..rounds {
        eprintln!("pods: round {} of {rounds}", round + 1);
        one_round(&extent, &mut samples);
    }
    told(&extent);
    figures(&samples);
}

fn one_round(extent: &Extent, samples: &mut Samples) {
    let mut node = Node::new();
    let agent = node.serve();
    let pid = u32::try_from(agent.pid()).unwrap();
    node.until_governed();
    samples.rss.push(status_kib(pid, "VmRSS") / MIB);
    samples.anonymous.push(status_kib(pid, "RssAnon") / MIB);
    let share = |began: (Instant, f64)| {
        (cpu_seconds(pid) - began.1) / began.0.elapsed().as_secs_f64() * 100.0
    };
    let began = (Instant::now(), cpu_seconds(pid));
    thread::sleep(Duration::from_secs(extent.seconds));
    samples.idle.push(share(began));
    let began = (Instant::now(), cpu_seconds(pid));
    node.churn(Duration::from_secs(extent.seconds));
    samples.churn.push(share(began));
    samples.after_churn.push(status_kib(pid, "RssAnon") / MIB);
    let governed = sorted((0..extent.containers).map(|_| node.start_container()).collect());
    for (samples, percent) in samples.governed.iter_mut().zip([50, 99, 100]) {
        samples.push(percentile(&governed, percent));
    }
    let changed = sorted(node.change_policy(&agent, extent.changes));
    for (samples, percent) in samples.changed.iter_mut().zip([50, 99]) {
        samples.push(percentile(&changed, percent));
    }
    samples.back.push(node.come_back());
    agent.end(Signal::SIGTERM);
}

fn told(extent: &Extent) {
    how(&format!(
        "`pcigate-agent serve` with the pods of an API server: {PODS}, a cgroup each and one for \
         its container, {POLICIES} policies, a collector connected. Churn: every {} ms a pod goes \
         and another comes, its cgroups with it.",
        CHURN.as_millis()
    ));
    how(&format!(
        "Start: from making the cgroup of a container, whose pod the API server has told of, to \
         the first connect that its policy allows, tried every millisecond by a process that is \
         started in it; before that it is unknown and refused. {} containers one after the \
         other. Change: from SIGHUP, with a file changed, to the first connect that is decided \
         anew; {} changes. Back: from the API server's return, after {} s away, to the first \
         connect of a pod that it was told of meanwhile.",
        extent.containers,
        extent.changes,
        OUTAGE.as_secs()
    ));
}

fn figures(samples: &Samples) {
    figure("agent RSS, pods of an API server", "MiB", Budget::AtMost(64.0), &samples.rss);
    figure("its anonymous part", "MiB", Budget::None, &samples.anonymous);
    figure("its anonymous part, after the churn", "MiB", Budget::None, &samples.after_churn);
    figure("processor time, nothing happens", "% of one", Budget::None, &samples.idle);
    figure("processor time, 10 pods/s come and go", "% of one", Budget::None, &samples.churn);
    for (samples, which) in samples.governed.iter().zip(["p50", "p99", "worst"]) {
        let name = format!("start of a container to its first allowed connect, {which}");
        figure(&name, "ms", Budget::None, samples);
    }
    for (samples, which) in samples.changed.iter().zip(["p50", "p99"]) {
        figure(&format!("change of a policy to the kernel, {which}"), "ms", Budget::None, samples);
    }
    figure("API server back to the first connect", "ms", Budget::None, &samples.back);
}

/// A full node whose agent learns of pods from an API server.
struct Node {
    site: Site,
    server: ApiServer,
    root: cgroup::Owned,
    _bpffs: Mounted,
    /// Pods there are, in the order they came.
    pods: Vec<Pod>,
    made: usize,
}

struct Pod {
    name: String,
    cgroup: PathBuf,
}

impl Node {
    fn new() -> Self {
        let mut site = Site::new();
        site.start_collector();
        let root = cgroup::create(&format!("bench-pods-{}", std::process::id())).unwrap();
        let bpffs = Mounted::new("bpf", &site.path("bpffs"), "", MsFlags::empty());
        fs::create_dir_all(site.path("policies")).unwrap();
        for number in 0..POLICIES {
            site.write(&format!("policies/{number}.yaml"), &policy(number));
        }
        site.write("policies/open.yaml", &open("allow"));
        let server = ApiServer::start();
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "payments"}});
        server.put("/api/v1/namespaces", namespace);
        let mut node = Self { site, server, root, _bpffs: bpffs, pods: Vec::new(), made: 0 };
        for number in 0..PODS {
            node.add(&format!("bot-{}", number % POLICIES));
        }
        node
    }

    fn serve(&self) -> Running {
        let directory = self.site.path("");
        let at = |name: &str| directory.join(name).display().to_string();
        let config = format!(
            "nodeName: node-1\ncgroupRoot: {}\nstateDir: {}\npolicies: [{}]\n\
             workloads: {{source: kubernetes, kubeconfig: {}}}\n\
             collector: {{url: \"{}\", tlsDir: {}}}\n",
            self.root.cgroup.path.display(),
            at("agent"),
            at("policies"),
            self.server.kubeconfig(&directory, ADMIN).display(),
            self.site.url(),
            at("tls/node"),
        );
        self.site.write("agent.yaml", &config);
        let mut agent = self.site.command("pcigate-agent");
        agent.args(["serve", "--config", "agent.yaml"]).arg("--bpffs").arg(self.site.path("bpffs"));
        start(&mut agent).0
    }

    /// Makes the object of a pod and, where its container starts, its cgroups.
    fn object(&mut self, app: &str) -> Pod {
        self.made += 1;
        let (name, id) = (format!("pod-{}", self.made), container_id(self.made));
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"nodeName": "node-1", "serviceAccountName": "bot",
                     "containers": [{"name": "bot", "image": "registry.example.com/bot:1"}]},
            "status": {"containerStatuses": [
                {"name": "bot", "containerID": format!("containerd://{id}")}]},
        });
        let made: Value = self.server.put(COLLECTION, pod);
        let uid = made["metadata"]["uid"].as_str().unwrap();
        let cgroup = container(&self.root.cgroup.path, uid, &id);
        Pod { name, cgroup }
    }

    fn add(&mut self, app: &str) {
        let pod = self.object(app);
        fs::create_dir_all(&pod.cgroup).unwrap();
        self.pods.push(pod);
    }

    fn remove(&self, pod: &Pod) {
        self.server.remove(&format!("{COLLECTION}/{}", pod.name));
        fs::remove_dir(&pod.cgroup).unwrap();
        fs::remove_dir(pod.cgroup.parent().unwrap()).unwrap();
    }

    /// Until the last of the pods there are is governed.
    fn until_governed(&mut self) {
        let pod = self.object("open");
        fs::create_dir_all(&pod.cgroup).unwrap();
        let mut probe = Probe::start(&self.site, &pod.cgroup);
        probe.until("ok");
        probe.end();
        self.remove(&pod);
    }

    fn churn(&mut self, time: Duration) {
        let began = Instant::now();
        let mut turns = 0;
        while began.elapsed() < time {
            let oldest = self.pods.remove(0);
            self.remove(&oldest);
            self.add(&format!("bot-{}", turns as usize % POLICIES));
            turns += 1;
            thread::sleep((CHURN * turns).saturating_sub(began.elapsed()));
        }
    }

    /// ms from its cgroup to its first allowed connect.
    fn start_container(&mut self) -> f64 {
        let pod = self.object("open");
        let began = Instant::now();
        fs::create_dir_all(&pod.cgroup).unwrap();
        let mut probe = Probe::start(&self.site, &pod.cgroup);
        probe.until("ok");
        let took = millis(began);
        probe.end();
        self.remove(&pod);
        took
    }

    /// ms from each change of a policy to the first connect that is decided anew.
    fn change_policy(&mut self, agent: &Running, times: usize) -> Vec<f64> {
        let pod = self.object("open");
        fs::create_dir_all(&pod.cgroup).unwrap();
        let mut probe = Probe::start(&self.site, &pod.cgroup);
        probe.until("ok");
        let ways = [("deny", "EPERM"), ("allow", "ok")];
        let change = |(action, result): &(&str, &str)| {
            self.site.write("policies/open.yaml", &open(action));
            let began = Instant::now();
            agent.signal(Signal::SIGHUP);
            probe.until(result);
            millis(began)
        };
        let took = ways.iter().cycle().take(times).map(change).collect();
        probe.end();
        self.remove(&pod);
        took
    }

    /// ms from the API server's return to the first connect of a pod made while it was away.
    fn come_back(&mut self) -> f64 {
        self.server.set_away(true);
        thread::sleep(OUTAGE);
        let pod = self.object("open");
        fs::create_dir_all(&pod.cgroup).unwrap();
        let mut probe = Probe::start(&self.site, &pod.cgroup);
        probe.until("EPERM");
        let began = Instant::now();
        self.server.set_away(false);
        probe.until("ok");
        let took = millis(began);
        probe.end();
        self.remove(&pod);
        took
    }
}

/// A process in a pod that tries and says what has changed.
struct Probe {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Probe {
    fn start(site: &Site, cgroup: &Path) -> Self {
        let mut command = site.command("pcigate-probe");
        command.arg("--cgroup").arg(cgroup).arg(ACTION);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn until(&mut self, result: &str) {
        let mut line = String::new();
        while line.trim() != result {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "never {result}");
        }
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// The policy of the pods that start and change.
fn open(action: &str) -> String {
    format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: open, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: open}}}}
  mode: enforce
  egress: {{defaultAction: {action}}}
"
    )
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100]
}
