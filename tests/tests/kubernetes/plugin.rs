//! `kubectl pcigate`: our command as kubectl finds and runs it, asking the API server through the
//! same kubectl with the same login.

use std::{
    fs,
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

use pcigate_tests::{
    apiserver::{ADMIN, ApiServer, User},
    program,
    site::output,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const GROUP: &str = "/apis/pcigate.dev/v1alpha1";
const KINDS: [(&str, &str, &str); 4] = [
    ("agentpolicies", "AgentPolicy", "Namespaced"),
    ("clusteragentpolicies", "ClusterAgentPolicy", "Cluster"),
    ("targets", "Target", "Namespaced"),
    ("nodecoverages", "NodeCoverage", "Cluster"),
];

/// A cluster, a user's kubectl, and our command in their PATH.
struct Cluster {
    server: ApiServer,
    directory: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let server = ApiServer::start();
        let directory = tempfile::tempdir().unwrap();
        for (plural, kind, scope) in KINDS {
            let schema = json!({"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
            let definition = json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.pcigate.dev")},
                "spec": {"group": "pcigate.dev", "scope": scope,
                         "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
                         "versions": [{"name": "v1alpha1", "served": true, "storage": true,
                                       "subresources": {"status": {}}, "schema": schema}]}});
            server.put("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition);
        }
        let labels = json!({"zone": "cards"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
                               "metadata": {"name": "payments", "labels": labels}});
        server.put("/api/v1/namespaces", namespace);
        let ours = program("pcigate");
        symlink(fs::canonicalize(ours).unwrap(), directory.path().join("kubectl-pcigate")).unwrap();
        Self { server, directory }
    }

    /// `kubectl ARGS` as a user: exit code, standard output, standard error.
    fn kubectl(&self, token: &str, args: &[&str]) -> (i32, String, String) {
        let kubectl = super::apiserver::kubectl();
        let kubectl = fs::canonicalize(kubectl).unwrap();
        let (bin, own) = (kubectl.parent().unwrap(), self.directory.path());
        let path = format!("{}:{}:/usr/bin:/bin", own.display(), bin.display());
        let mut command = Command::new(&kubectl);
        command.args(args).env("PATH", path).env("HOME", own).stdin(Stdio::null());
        command.env("KUBECONFIG", self.server.kubeconfig(own, token)).current_dir(own);
        command.env_remove("PCIGATE_KUBECTL");
        let output = output(&mut command);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    fn put(&self, kind: &str, object: &Value) {
        let (plural, kind, _) = KINDS.into_iter().find(|(_, known, _)| *known == kind).unwrap();
        let namespace = object["metadata"]["namespace"].as_str();
        let place = namespace.map_or_else(String::new, |name| format!("/namespaces/{name}"));
        let mut whole = json!({"apiVersion": "pcigate.dev/v1alpha1", "kind": kind});
        for (key, value) in object.as_object().unwrap() {
            whole[key] = value.clone();
        }
        self.server.put(&format!("{GROUP}{place}/{plural}"), whole);
    }

    fn node(&self, name: &str) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.server.put("/api/v1/nodes", node);
    }

    fn coverage(&self, node: &str, state: &str) {
        let now = jiff::Timestamp::now().to_string();
        self.put("NodeCoverage", &json!({"metadata": {"name": node}, "status": {
            "agentVersion": "0.1.0", "observedTime": now,
            "documents": [{"kind": "AgentPolicy", "namespace": "payments", "name": "bot",
                           "state": state, "reason": "spec.mode: `dance` is not known"}],
            "missing": [{"name": "egress-services", "reason": "rules by service open nothing yet"}],
        }}));
    }

    /// A policy by a label of the pod and its ServiceAccount.
    fn policy(&self, name: &str, mode: &str) {
        self.put("AgentPolicy", &json!({
            "metadata": {"name": name, "namespace": "payments"},
            "spec": {"selector": {"matchLabels": {"app": "bot"}, "serviceAccountNames": ["bot"]},
                     "mode": mode,
                     "exec": {"defaultAction": "allow", "rules": [
                        {"id": "no-shells", "action": "deny", "paths": ["/usr/bin/dash"]}]},
                     "egress": {"defaultAction": "deny"}},
            "status": {"nodes": {"enforced": 1, "rejected": 0}, "conditions": [
                {"type": "Accepted", "status": "True", "observedGeneration": 1, "message": ""},
                {"type": "Enforced", "status": "True", "observedGeneration": 1, "message": ""}]},
        }));
    }

    fn pod(&self) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "bot-1", "labels": {"app": "bot"}},
            "spec": {"serviceAccountName": "bot", "nodeName": "node-1",
                     "containers": [{"name": "main", "image": "x"}]}});
        self.server.put("/api/v1/namespaces/payments/pods", pod);
    }
}

#[test]
fn kubectl_runs_the_plugin_and_status_names_nodes_that_do_not_enforce() {
    let cluster = Cluster::new();
    let (_, listed, _) = cluster.kubectl(ADMIN, &["plugin", "list"]);
    assert!(listed.contains("kubectl-pcigate"), "{listed}");
    let (code, usage, _) = cluster.kubectl(ADMIN, &["pcigate", "--help"]);
    assert!(code == 0 && usage.contains("Usage: kubectl pcigate "), "{usage}");

    let (code, _, said) = cluster.kubectl(ADMIN, &["pcigate", "status"]);
    assert!(code == 1 && said.contains("is the agent installed?"), "{said}");
    cluster.node("node-1");
    cluster.coverage("node-1", "enforced");
    let (code, shown, said) = cluster.kubectl(ADMIN, &["pcigate", "status"]);
    assert_eq!(code, 0, "{shown}{said}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let row = |shown: &str, name: &str| {
        words(shown.lines().find(|line| line.starts_with(name)).unwrap_or_default())
    };
    assert_eq!(row(&shown, "node-1")[..6], ["node-1", "enforces", "1", "0", "0", "0"], "{shown}");

    cluster.node("node-2");
    cluster.coverage("node-3", "rejected");
    let (code, shown, _) = cluster.kubectl(ADMIN, &["pcigate", "status", "--wide"]);
    assert_eq!(code, 1);
    assert_eq!(row(&shown, "node-2")[1..3], ["no", "agent"], "{shown}");
    assert_eq!(row(&shown, "node-3")[1..3], ["not", "all"], "{shown}");
    assert!(shown.contains("AgentPolicy payments/bot  rejected  spec.mode: `dance`"), "{shown}");
    assert!(shown.contains("egress-services  rules by service open nothing yet"), "{shown}");
    let (code, shown, _) =
        cluster.kubectl(ADMIN, &["pcigate", "status", "node-1", "--output", "json"]);
    let line: Value = serde_json::from_str(shown.trim()).unwrap();
    assert_eq!((code, &line["state"], &line["enforced"]), (0, &json!("enforces"), &json!(1)));
}

#[test]
fn policies_are_listed_with_what_nodes_make_of_their_newest_version() {
    let cluster = Cluster::new();
    cluster.policy("bot", "enforce");
    let (code, shown, said) = cluster.kubectl(ADMIN, &["pcigate", "policies"]);
    assert_eq!(code, 0, "{shown}{said}");
    assert!(shown.contains("AgentPolicy payments/bot  enforce  True      True"), "{shown}");
    let change = json!({"spec": {"mode": "audit"}});
    let path = format!("{GROUP}/namespaces/payments/agentpolicies/bot");
    cluster.server.change(&path, &change);
    let (code, shown, _) = cluster.kubectl(ADMIN, &["pcigate", "policies", "-n", "payments"]);
    assert_eq!(code, 1, "the nodes have not seen it: {shown}");
    assert!(shown.contains("audit  Unknown   Unknown"), "{shown}");
    let (code, shown, said) = cluster.kubectl(ADMIN, &["pcigate", "policies", "-n", "other"]);
    assert!(code == 0 && said.contains("there is no AgentPolicy"), "{shown}{said}");
}

#[test]
fn a_pod_of_the_cluster_is_explained_by_its_labels_and_the_policies_there_are() {
    let cluster = Cluster::new();
    cluster.policy("bot", "enforce");
    cluster.policy("broken", "dance");
    cluster.pod();
    let explain = |token: &str, more: &[&str]| {
        let asked = ["pcigate", "policy", "explain", "pod/bot-1", "-n", "payments"];
        cluster.kubectl(token, &[&asked[..], more].concat())
    };
    let (code, shown, said) = explain(ADMIN, &["--exec", "/usr/bin/dash"]);
    assert_eq!(code, 1, "{said}");
    assert!(shown.contains("verdict: deny\n"), "{shown}");
    assert!(shown.contains("rule no-shells of AgentPolicy payments/bot"), "{shown}");
    assert!(said.contains("AgentPolicy payments/broken has a mistake: spec.mode"), "{said}");
    let (code, shown, _) = explain(ADMIN, &["--connect", "10.0.0.1:443"]);
    assert!(code == 1 && shown.contains("default of payments/bot, payments/broken"), "{shown}");

    // Its labels as they are now.
    let pod = "/api/v1/namespaces/payments/pods/bot-1";
    cluster.server.change(pod, &json!({"metadata": {"labels": {"app": "other"}}}));
    let (code, shown, _) = explain(ADMIN, &["--connect", "10.0.0.1:443"]);
    assert!(code == 0 && shown.contains("No policy selects the workload."), "{shown}");

    // Documents of a file for a pod of the cluster.
    let file = "apiVersion: pcigate.dev/v1alpha1\nkind: ClusterAgentPolicy\nmetadata: {name: all}\n\
                spec:\n  namespaceSelector: {matchLabels: {zone: cards}}\n  selector: {}\n  \
                mode: enforce\n  egress: {defaultAction: deny}\n";
    fs::write(cluster.directory.path().join("new.yaml"), file).unwrap();
    let (code, shown, said) = explain(ADMIN, &["new.yaml", "--connect", "10.0.0.1:443"]);
    assert!(code == 1 && shown.contains("the default of all is deny"), "{shown}{said}");

    let asked = ["pcigate", "policy", "explain", "pod/nobody", "--exec", "/bin/sh"];
    let (code, _, said) = cluster.kubectl(ADMIN, &asked);
    assert!(code == 3 && said.contains("not found"), "{said}");
    let user = User { name: "reader".to_owned(), ..User::default() };
    cluster.server.add_user("of-a-reader", user);
    cluster.server.forbid("reader", "list", "agentpolicies");
    let (code, _, said) = explain("of-a-reader", &["--exec", "/bin/sh"]);
    assert!(code == 3 && said.contains("orbidden"), "{said}");
}
