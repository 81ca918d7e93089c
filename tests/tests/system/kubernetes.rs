//! Pods from an API server, in real cgroups, through the whole agent: governed, relabelled,
//! deleted, and governed on while the API server is away.

use std::{fs, path::PathBuf, process::Command};

use nix::{
    mount::MsFlags,
    sys::{
        signal::Signal,
        socket::{Backlog, listen},
    },
};
use pcigate_agent::cgroup;
use pcigate_tests::{
    apiserver::{ADMIN, ApiServer, Gone},
    site::{CONTAINER_ID, Mounted, POLICY, Running, Site, start, succeed},
    wait,
};
use serde_json::{Value, json};

const POD: &str = "/api/v1/namespaces/payments/pods/billing-bot";
const DIGEST: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const OPEN: &str = "apiVersion: pcigate.dev/v1alpha1
kind: ClusterAgentPolicy
metadata: {name: open}
spec:
  namespaceSelector: {matchLabels: {zone: open}}
  selector: {matchLabels: {app: open}}
  mode: enforce
  egress: {defaultAction: allow}
";

/// A node whose agent learns of pods from an API server.
pub struct Node {
    pub site: Site,
    pub server: ApiServer,
    pub root: cgroup::Owned,
    _bpffs: Mounted,
}

impl Node {
    pub fn new(name: &str) -> Self {
        let site = Site::new();
        let name = format!("kubernetes-{name}-{}", std::process::id());
        let root = cgroup::create(&name).unwrap();
        let bpffs = Mounted::new("bpf", &site.path("bpffs"), "", MsFlags::empty());
        fs::create_dir_all(site.path("policies")).unwrap();
        site.write("policies/billing-bot.yaml", POLICY);
        site.write("policies/open.yaml", OPEN);
        let server = ApiServer::start();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                               "metadata": {"name": "payments", "labels": {"zone": "open"}}});
        server.put("/api/v1/namespaces", namespace);
        Self { site, server, root, _bpffs: bpffs }
    }

    pub fn serve(&self) -> Running {
        self.serve_with(&format!("policies: [{}]", self.site.path("policies").display()))
    }

    /// With these policies.
    pub fn serve_with(&self, policies: &str) -> Running {
        let directory = self.site.path("");
        let at = |name: &str| directory.join(name).display().to_string();
        let kubeconfig = self.server.kubeconfig(&directory, ADMIN);
        let config = format!(
            "nodeName: node-1\ncgroupRoot: {}\nstateDir: {}\n{policies}\n\
             workloads: {{source: kubernetes, kubeconfig: {}}}\n\
             collector: {{url: \"{}\", tlsDir: {}}}\n",
            self.root.cgroup.path.display(),
            at("agent"),
            kubeconfig.display(),
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

    /// The pod payments/billing-bot on this node, with its container's cgroup; where that is.
    pub fn pod(&self) -> PathBuf {
        let metadata = json!({"name": "billing-7f9c",
                              "ownerReferences": owner("Deployment", "billing", json!("d-1"))});
        let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata});
        let set = self.server.put("/apis/apps/v1/namespaces/payments/replicasets", set);
        let set = set["metadata"]["uid"].clone();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "billing-bot", "labels": {"app": "billing-bot"},
                         "ownerReferences": owner("ReplicaSet", "billing-7f9c", set)},
            "spec": {"nodeName": "node-1", "serviceAccountName": "billing-bot",
                     "containers": [{"name": "bot", "image": "x"}]},
            "status": {"containerStatuses": [
                {"name": "bot", "containerID": format!("containerd://{CONTAINER_ID}"),
                 "image": "registry/bot:1", "imageID": format!("registry/bot@{DIGEST}")}]},
        });
        let made = self.server.put("/api/v1/namespaces/payments/pods", pod);
        let uid = made["metadata"]["uid"].as_str().unwrap().replace('-', "_");
        let pod = format!("kubepods-burstable-pod{uid}.slice");
        let path = self.root.cgroup.path.join("kubepods-burstable.slice").join(pod);
        let path = path.join(format!("cri-containerd-{CONTAINER_ID}.scope"));
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn label(&self, app: &str) {
        self.server.change(POD, &json!({"metadata": {"labels": {"app": app}}}));
    }

    pub fn probe(&self, cgroup: &std::path::Path, action: &str) -> String {
        let mut probe = Command::new(pcigate_tests::program("pcigate-probe"));
        let output = succeed(probe.arg("--cgroup").arg(cgroup).arg(action));
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        line.trim().rsplit(' ').next().unwrap().to_owned()
    }

    pub fn until(&self, cgroup: &std::path::Path, action: &str, answer: &str) {
        wait::until(answer, || (self.probe(cgroup, action) == answer).then_some(()));
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is made in place")]
fn owner(kind: &str, name: &str, uid: Value) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
}

pub fn listener() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // Nobody accepts, and whoever asks often connects often.
    listen(&listener, Backlog::new(4096).unwrap()).unwrap();
    let action = format!("tcp:{}", listener.local_addr().unwrap());
    (listener, action)
}

#[test]
fn a_pod_of_the_api_server_is_governed_by_its_labels_as_they_are_now_and_named_in_records() {
    let mut node = Node::new("pod");
    node.site.start_collector();
    let (_listener, action) = listener();
    let agent = node.serve();
    let stranger = node.root.cgroup.path.join("stranger");
    fs::create_dir(&stranger).unwrap();
    assert_eq!(node.probe(&stranger, &action), "EPERM");
    let pod = node.pod();
    assert_eq!(node.probe(&pod, &action), "EPERM", "unknown or governed: refused");
    node.label("open");
    node.until(&pod, &action, "ok");
    node.server.drop_watches();
    node.label("billing-bot");
    node.until(&pod, &action, "EPERM");
    node.server.compact(Gone::InStream);
    node.label("open");
    node.until(&pod, &action, "ok");
    let change = json!({"metadata": {"labels": {"zone": "closed"}}});
    node.server.change("/api/v1/namespaces/payments", &change);
    node.label("billing-bot");
    node.until(&pod, &action, "EPERM");
    let change = json!({"metadata": {"labels": {"zone": "open"}}});
    node.server.change("/api/v1/namespaces/payments", &change);
    node.label("open");
    node.until(&pod, &action, "ok");
    // More labels than are kept: which policies select it cannot be known any more.
    let many = (0..1200).map(|i| (format!("label-{i:04}"), json!("x".repeat(63))));
    let many: serde_json::Map<_, _> = many.collect();
    node.server.change(POD, &json!({"metadata": {"labels": many}}));
    node.until(&pod, &action, "EPERM");
    agent.end(Signal::SIGTERM);
    let egress = node.site.records(&["--kind", "egress", "--limit", "100000"]);
    let is = |record: &&Value| {
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        text("/subject/workload/pod") == Some("billing-bot")
            && text("/subject/workload/service_account") == Some("billing-bot")
            && text("/subject/workload/container") == Some("bot")
            && text("/subject/workload/owner_kind") == Some("Deployment")
            && text("/subject/workload/owner_name") == Some("billing")
            && text("/subject/workload/image") == Some("registry/bot:1")
            && text("/subject/workload/image_digest") == Some(DIGEST)
            && text("/outcome/rule") == Some("default")
    };
    assert!(egress.iter().any(|record| is(&record)), "{egress:#?}");
}

#[test]
fn while_the_api_server_is_away_pods_stay_governed_as_last_known_also_by_a_new_agent() {
    let mut node = Node::new("away");
    node.site.start_collector();
    let (_listener, action) = listener();
    let pod = node.pod();
    node.label("open");
    let agent = node.serve();
    // What is unknown is refused: this answer needs the pod, its label and its namespace's.
    node.until(&pod, &action, "ok");
    node.server.set_away(true);
    let said = |what: &str| {
        let coverage = node.site.records(&["--kind", "coverage", "--limit", "1000"]);
        coverage.iter().any(|record| record.to_string().contains(what)).then_some(())
    };
    wait::until("the outage in a record", || said("the API server does not answer"));
    assert_eq!(node.probe(&pod, &action), "ok");
    agent.end(Signal::SIGKILL);
    let agent = node.serve();
    assert_eq!(node.probe(&pod, &action), "ok", "known from the agent before");
    let stranger = node.root.cgroup.path.join("stranger");
    fs::create_dir(&stranger).unwrap();
    assert_eq!(node.probe(&stranger, &action), "EPERM");
    // Deleted and closed meanwhile; its processes live on under what was known last.
    node.label("billing-bot");
    node.server.set_away(false);
    node.until(&pod, &action, "EPERM");
    node.server.remove(POD);
    let last = json!({"metadata": {"labels": {"zone": "other"}}});
    node.server.change("/api/v1/namespaces/payments", &last);
    assert_eq!(node.probe(&pod, &action), "EPERM", "its object is gone, it is not");
    agent.end(Signal::SIGTERM);
}
