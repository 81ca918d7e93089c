//! The agent's source of workloads against the API server of the tests: what it knows after what
//! happened there. Pods' cgroups are plain directories here.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use pcigate_agent::workloads::{
    Found,
    exempt::Exempt,
    kubernetes::{Answering, Kubernetes, Settings},
};
use pcigate_tests::{
    apiserver::{ADMIN, ApiServer, Gone, User},
    wait,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const NODE: &str = "node-1";
const PODS: &str = "/api/v1/namespaces/payments/pods";
const CONTAINER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A node: an API server, a directory that stands for the governed root, and the source.
struct Node {
    server: ApiServer,
    directory: TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    fn new() -> Self {
        let server = ApiServer::start();
        let labels = json!({"team": "cards"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                               "metadata": {"name": "payments", "labels": labels}});
        server.put("/api/v1/namespaces", namespace);
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        Self { server, directory, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    fn source_as(&self, token: &str) -> Kubernetes {
        let kubeconfig = Some(self.server.kubeconfig(self.directory.path(), token));
        let state_dir = self.directory.path().to_owned();
        let settings = Settings { node: NODE.to_owned(), kubeconfig, state_dir };
        self.runtime.block_on(Kubernetes::start(&settings)).unwrap()
    }

    /// One that has listed all.
    fn source(&self) -> Kubernetes {
        let source = self.source_as(ADMIN);
        assert!(self.runtime.block_on(source.listed(wait::DEADLINE)));
        source
    }

    /// A pod of the node; its UID.
    fn pod(&self, name: &str, more: Value) -> String {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": NODE, "serviceAccountName": "bot",
                     "containers": [{"name": "main", "image": "x"}]},
            "status": {"containerStatuses": [
                {"name": "main", "containerID": format!("containerd://{CONTAINER}")}]},
        });
        merge(&mut pod, more);
        let made = self.server.put(PODS, pod);
        made["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    /// The cgroup of a pod, as the kubelet's cgroupfs driver names it.
    fn cgroup(&self, uid: &str) {
        let path = self.root().join(format!("burstable/pod{uid}")).join(CONTAINER);
        fs::create_dir_all(path).unwrap();
    }
}

fn merge(target: &mut Value, more: Value) {
    match more {
        Value::Object(more) => {
            for (key, value) in more {
                merge(&mut target[key], value);
            }
        }
        more => *target = more,
    }
}

fn find(source: &mut Kubernetes, root: &Path) -> BTreeMap<String, Found> {
    let found = source.find(root, &Exempt::default()).unwrap();
    let of_containers =
        found.into_iter().filter(|found| !found.workload.container_id.as_str().is_empty());
    of_containers.map(|found| (found.identity.pod.clone(), found)).collect()
}

/// Waits for what is found to be so.
fn until(
    node: &Node,
    source: &mut Kubernetes,
    what: &str,
    is: impl Fn(&BTreeMap<String, Found>) -> bool,
) -> BTreeMap<String, Found> {
    wait::until(what, || {
        let found = find(source, &node.root());
        is(&found).then_some(found)
    })
}

#[test]
fn pods_from_before_and_after_the_start_are_found_with_all_that_policies_select_by() {
    let node = Node::new();
    let before = node.pod("before", json!({}));
    node.pod("elsewhere", json!({"spec": {"nodeName": "node-2"}}));
    node.cgroup(&before);
    let mut source = node.source();
    let found = find(&mut source, &node.root());
    let identity = &found["before"].identity;
    assert_eq!(identity.namespace, "payments");
    assert_eq!(identity.service_account, "bot");
    assert_eq!(identity.labels["app"], "before");
    assert_eq!(identity.namespace_labels["team"], "cards");
    assert_eq!(identity.pod_uid, before);
    assert_eq!(found["before"].workload.container.as_str(), "main");
    // A cgroup that comes before its pod is known is nobody's until then.
    let after = node.pod("after", json!({}));
    node.cgroup(&after);
    until(&node, &mut source, "the new pod", |found| found.contains_key("after"));
    assert_eq!(source.status().pods, 2, "only of this node");
    assert_eq!(source.status().answering, Answering::Yes);
}

#[test]
fn a_relabelled_pod_or_namespace_is_found_with_its_new_labels() {
    let node = Node::new();
    let uid = node.pod("web", json!({}));
    node.cgroup(&uid);
    let mut source = node.source();
    node.server.change(&format!("{PODS}/web"), &json!({"metadata": {"labels": {"app": "db"}}}));
    let is = |found: &BTreeMap<String, Found>| found["web"].identity.labels["app"] == "db";
    until(&node, &mut source, "the pod's label", is);
    let change = json!({"metadata": {"labels": {"team": "shop"}}});
    node.server.change("/api/v1/namespaces/payments", &change);
    let is =
        |found: &BTreeMap<String, Found>| found["web"].identity.namespace_labels["team"] == "shop";
    until(&node, &mut source, "the namespace's label", is);
}

#[test]
fn a_deleted_pod_stays_what_it_was_until_its_cgroup_is_gone() {
    let node = Node::new();
    let uid = node.pod("web", json!({}));
    node.cgroup(&uid);
    let mut source = node.source();
    let other = node.pod("other", json!({}));
    node.cgroup(&other);
    node.server.remove(&format!("{PODS}/web"));
    node.server.remove(&format!("{PODS}/other"));
    let last = node.pod("last", json!({}));
    node.cgroup(&last);
    // The newest pod is seen after both deletions.
    let found = until(&node, &mut source, "the last pod", |found| found.contains_key("last"));
    assert!(found.contains_key("web"), "force-deleted, and its processes live on");
    fs::remove_dir_all(node.root().join(format!("burstable/pod{uid}"))).unwrap();
    // Nobody rings for what is gone; it is seen when the directories are read anew.
    wait::until("forgetting", || {
        find(&mut source, &node.root());
        (source.status().pods <= 2).then_some(())
    });
}

#[test]
fn an_outage_forgets_nothing_and_ends_by_itself() {
    let node = Node::new();
    let uid = node.pod("web", json!({}));
    node.cgroup(&uid);
    let mut source = node.source();
    assert!(find(&mut source, &node.root()).contains_key("web"));
    node.server.set_away(true);
    wait::until("the outage to be noticed", || {
        matches!(source.status().answering, Answering::Away { .. }).then_some(())
    });
    assert!(find(&mut source, &node.root()).contains_key("web"));
    // An agent that starts meanwhile knows what the one before it knew.
    drop(source);
    let mut source = node.source_as(ADMIN);
    assert!(!node.runtime.block_on(source.listed(Duration::from_millis(50))));
    assert_eq!(find(&mut source, &node.root())["web"].identity.labels["app"], "web");
    let late = node.pod("late", json!({}));
    node.cgroup(&late);
    node.server.remove(&format!("{PODS}/web"));
    node.server.set_away(false);
    let found = until(&node, &mut source, "the end of it", |found| found.contains_key("late"));
    assert!(found.contains_key("web"), "deleted meanwhile, and its processes live on");
    wait::until("answers", || (source.status().answering == Answering::Yes).then_some(()));
}

#[test]
fn broken_watches_and_forgotten_events_lose_no_pod() {
    let node = Node::new();
    let mut source = node.source();
    let events: [fn(&ApiServer); 4] = [
        ApiServer::drop_watches,
        |server| server.compact(Gone::InStream),
        |server| server.compact(Gone::Status),
        |server| server.bookmark(),
    ];
    for (number, happens) in events.into_iter().enumerate() {
        happens(&node.server);
        let name = format!("pod-{number}");
        let uid = node.pod(&name, json!({}));
        node.cgroup(&uid);
        until(&node, &mut source, &name, |found| found.contains_key(&name));
    }
    let found = find(&mut source, &node.root());
    assert_eq!(found.len(), 4);
    let lists = node.server.count("GET /api/v1/pods");
    assert!(lists >= 3, "listed anew after each 410: {lists}");
}

#[test]
fn throttling_and_errors_of_the_server_are_waited_out() {
    let node = Node::new();
    let uid = node.pod("web", json!({}));
    node.cgroup(&uid);
    node.server.throttle(3, 1);
    let mut source = node.source();
    assert!(find(&mut source, &node.root()).contains_key("web"));
    let asked = node.server.count("GET /api/v1/pods") + node.server.count("GET /api/v1/namespaces");
    assert!(asked <= 3 + 2 + 2, "{asked} requests: it waits when it is told to");
    node.server.fail(4, 500);
    node.server.drop_watches();
    let late = node.pod("late", json!({}));
    node.cgroup(&late);
    until(&node, &mut source, "the late pod", |found| found.contains_key("late"));
}

#[test]
fn a_server_that_only_fails_is_asked_less_and_less_often() {
    let node = Node::new();
    node.server.fail(usize::MAX, 500);
    let began = Instant::now();
    let _source = node.source_as(ADMIN);
    let asked = || node.server.count("GET /api/v1/pods");
    wait::until("the fifth list", || (asked() >= 5).then_some(()));
    // 0.2, 0.4, 0.8 and 1.6 s between them, at least.
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn many_pods_are_listed_in_chunks() {
    let node = Node::new();
    for number in 0..250 {
        let uid = node.pod(&format!("pod-{number}"), json!({}));
        node.cgroup(&uid);
    }
    let mut source = node.source();
    assert_eq!(find(&mut source, &node.root()).len(), 250);
    assert_eq!(node.server.count("GET /api/v1/pods"), 5);
}

#[test]
fn without_the_right_to_see_namespaces_no_pod_is_named_and_the_reason_is_told() {
    let node = Node::new();
    let uid = node.pod("web", json!({}));
    node.cgroup(&uid);
    let name = "system:serviceaccount:pcigate:agent".to_owned();
    node.server.add_user("token-of-agent", User { name: name.clone(), ..User::default() });
    node.server.forbid(&name, "list", "namespaces");
    let mut source = node.source_as("token-of-agent");
    let why = wait::until("the refusal", || match source.status().answering {
        Answering::Away { why, .. } => Some(why),
        _ => None,
    });
    assert!(why.contains("403") && why.contains("cannot list resource \"namespaces\""), "{why}");
    assert!(find(&mut source, &node.root()).is_empty(), "policies select by namespaces' labels");
}

#[test]
fn static_pods_system_pods_and_pods_on_the_host_are_what_they_are() {
    let node = Node::new();
    let hash = "0123456789abcdef0123456789abcdef";
    let mirror = json!({"metadata": {"annotations": {
        "kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": hash}}});
    node.pod("static", mirror);
    node.cgroup(hash);
    let claims = json!({"metadata": {"annotations": {"kubernetes.io/config.hash": hash}},
                        "spec": {"hostNetwork": true}});
    let uid = node.pod("claims-it", claims);
    node.cgroup(&uid);
    let system = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "proxy"},
                        "spec": {"nodeName": NODE, "containers": [], "hostPID": true}});
    let made = node.server.put("/api/v1/namespaces/kube-system/pods", system);
    node.cgroup(made["metadata"]["uid"].as_str().unwrap());
    let mut source = node.source();
    let found = find(&mut source, &node.root());
    assert!(found["static"].workload.cgroup_path.as_str().contains(hash));
    assert!(found["claims-it"].workload.cgroup_path.as_str().contains(&uid));
    assert!(found["proxy"].exempt && !found["static"].exempt);
    let on_host = ["kube-system/proxy (hostPID)", "payments/claims-it (hostNetwork)"];
    assert_eq!(source.status().on_host, on_host);
}

#[test]
fn the_deployment_and_the_cron_job_behind_a_pod_are_named_and_a_forged_owner_is_not() {
    let node = Node::new();
    let owner = |kind: &str, version: &str, name: &str, uid: &Value| {
        let mut owner = json!({"apiVersion": version, "kind": kind, "name": name, "uid": uid});
        owner["controller"] = json!(true);
        json!([owner])
    };
    let made = |path: &str, kind: &str, name: &str, owners: Value| {
        let version = if kind == "Job" { "batch/v1" } else { "apps/v1" };
        let metadata = json!({"name": name, "ownerReferences": owners});
        let object = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
        node.server.put(path, object)["metadata"]["uid"].clone()
    };
    let (apps, batch) = ("/apis/apps/v1/namespaces/payments", "/apis/batch/v1/namespaces/payments");
    let top = owner("Deployment", "apps/v1", "web", &json!("d-1"));
    let set = made(&format!("{apps}/replicasets"), "ReplicaSet", "web-6d5f", top);
    let top = owner("CronJob", "batch/v1", "report", &json!("c-1"));
    let job = made(&format!("{batch}/jobs"), "Job", "report-1", top);
    let alone = made(&format!("{batch}/jobs"), "Job", "once", json!([]));
    let pods = [
        ("web", owner("ReplicaSet", "apps/v1", "web-6d5f", &set)),
        ("report", owner("Job", "batch/v1", "report-1", &job)),
        ("once", owner("Job", "batch/v1", "once", &alone)),
        ("forged", owner("ReplicaSet", "apps/v1", "web-6d5f", &json!("another"))),
        ("bare", json!([])),
    ];
    for (i, (name, owners)) in pods.iter().enumerate() {
        let id = format!("{i:064x}");
        let image_id = format!("registry/x@sha256:{}", "ab".repeat(32));
        let uid = node.pod(
            name,
            json!({
                "metadata": {"ownerReferences": owners},
                "status": {"containerStatuses": [
                    {"name": "main", "containerID": format!("containerd://{id}"),
                     "image": "registry/x:1", "imageID": image_id}]},
            }),
        );
        fs::create_dir_all(node.root().join(format!("burstable/pod{uid}")).join(id)).unwrap();
    }
    let mut source = node.source();
    let owner_of = |found: &BTreeMap<String, Found>, pod: &str| {
        let workload = &found[pod].workload;
        format!("{}/{}", workload.owner_kind.as_str(), workload.owner_name.as_str())
    };
    let found = until(&node, &mut source, "owners", |found| {
        found.len() == 5
            && owner_of(found, "web") == "Deployment/web"
            && owner_of(found, "report") == "CronJob/report"
    });
    assert_eq!(owner_of(&found, "once"), "Job/once");
    assert_eq!(owner_of(&found, "forged"), "ReplicaSet/web-6d5f", "what it says, and no more");
    assert_eq!(owner_of(&found, "bare"), "/");
    let workload = &found["web"].workload;
    assert_eq!(workload.image.as_str(), "registry/x:1");
    assert_eq!(workload.image_digest.as_str(), format!("sha256:{}", "ab".repeat(32)));
    // Two controllers of that name were asked about, once each.
    let path = format!("GET {apps}/replicasets/web-6d5f");
    wait::until("both to be asked about", || (node.server.count(&path) == 2).then_some(()));
}
