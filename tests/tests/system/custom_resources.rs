//! Policies and Targets from an API server, as kubectl writes them, through the whole agent.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::PoisonError,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nix::sys::signal::Signal;
use pcigate_tests::{
    apiserver::ADMIN,
    postgres::{PASSWORD, SCRAM},
    site::{Running, succeed},
    wait,
};
use serde_json::{Value, json};

use crate::{
    gated::{Client, ONE, database, inside},
    kubernetes::{Node, listener},
};

const POLICIES: &str = "/apis/pcigate.dev/v1alpha1/namespaces/payments/agentpolicies";
/// Nothing but custom resources.
const FOLLOW: &str = "customResources: true";

fn kubectl(node: &Node, args: &[&str]) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kubectl/bin/kubectl");
    assert!(program.exists(), "kubectl is missing: run `cargo xtask setup`");
    let directory = node.site.path("");
    let mut command = Command::new(program);
    command.arg("--kubeconfig").arg(node.server.kubeconfig(&directory, ADMIN));
    command.args(args).current_dir(&directory).stdin(Stdio::null());
    command.env("HOME", &directory).env_remove("KUBECONFIG");
    String::from_utf8(succeed(&mut command).stdout).unwrap()
}

fn crds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds")
}

fn define(node: &Node) {
    kubectl(node, &["apply", "-f", crds().to_str().unwrap()]);
}

fn apply(node: &Node, document: &Value) {
    node.site.write("document.json", &document.to_string());
    kubectl(node, &["apply", "-f", "document.json"]);
}

/// An AgentPolicy for the pods of one label.
fn policy(name: &str, app: &str, egress: &Value) -> Value {
    json!({"apiVersion": "pcigate.dev/v1alpha1", "kind": "AgentPolicy",
           "metadata": {"name": name, "namespace": "payments"},
           "spec": {"selector": {"matchLabels": {"app": app}}, "egress": egress}})
}

fn says(node: &Node, what: &str) {
    wait::until(what, || {
        let all = node.site.records(&["--kind", "coverage", "--limit", "1000"]);
        all.iter().any(|record| record.to_string().contains(what)).then_some(())
    });
}

impl Node {
    /// Waits for what the node tells of an AgentPolicy in its NodeCoverage.
    fn told(&self, name: &str, is: impl Fn(&Value) -> bool) {
        let path = "/apis/pcigate.dev/v1alpha1/nodecoverages/node-1";
        wait::until("what the node tells", || {
            let object = self.server.object(path)?;
            let rows = object["status"]["documents"].as_array()?.clone();
            rows.iter().any(|row| row["name"] == name && is(row)).then_some(())
        });
    }
}

fn serve(node: &Node) -> Running {
    node.serve_with(FOLLOW)
}

#[test]
fn what_kubectl_applies_is_enforced_and_a_wrong_version_leaves_the_one_before() {
    let mut node = Node::new("resources");
    node.site.start_collector();
    let (_listener, action) = listener();
    define(&node);
    let pod = node.pod();
    let agent = serve(&node);
    node.until(&pod, &action, "ok");
    apply(&node, &policy("bot", "billing-bot", &json!({"defaultAction": "deny"})));
    node.until(&pod, &action, "EPERM");
    apply(&node, &policy("bot", "billing-bot", &json!({"defaultAction": "alow"})));
    says(&node, "generation 1 stays in force");
    assert_eq!(node.probe(&pod, &action), "EPERM");
    apply(&node, &policy("bot", "billing-bot", &json!({"defaultAction": "allow"})));
    node.until(&pod, &action, "ok");
    // One that never was right refuses what it speaks of.
    apply(&node, &policy("new", "billing-bot", &json!({"defaultAction": "alow"})));
    node.until(&pod, &action, "EPERM");
    apply(&node, &policy("new", "billing-bot", &json!({"defaultAction": "allow"})));
    node.until(&pod, &action, "ok");
    apply(&node, &policy("other", "other", &json!({"defaultAction": "deny"})));
    node.label("other");
    node.until(&pod, &action, "EPERM");
    node.told("other", |row| row["state"] == "enforced" && row["workloads"] == 2);
    apply(&node, &policy("other", "other", &json!({"defaultAction": "alow"})));
    node.told("other", |row| {
        let why = row["reason"].as_str().unwrap_or_default();
        row["state"] == "rejected" && why.starts_with("generation 1 stays in force")
    });
    kubectl(&node, &["delete", "agp", "other", "-n", "payments"]);
    node.until(&pod, &action, "ok");
    agent.end(Signal::SIGTERM);
}

#[test]
fn an_outage_opens_nothing_and_deletes_nothing_also_for_a_new_agent() {
    let mut node = Node::new("resources-away");
    node.site.start_collector();
    let (_listener, action) = listener();
    define(&node);
    let pod = node.pod();
    apply(&node, &policy("bot", "billing-bot", &json!({"defaultAction": "deny"})));
    node.label("open");
    let agent = serve(&node);
    node.until(&pod, &action, "ok");
    node.label("billing-bot");
    node.until(&pod, &action, "EPERM");
    // Written once a second at most.
    wait::until("both files", || {
        let kept = |name: &str, text: &str| {
            let kept = std::fs::read_to_string(node.site.path("agent").join(name));
            kept.unwrap_or_default().contains(text)
        };
        let both = kept("pods.json", "\"app\":\"billing-bot\"") && kept("documents.json", "deny");
        both.then_some(())
    });
    node.server.set_away(true);
    says(&node, "policies and Targets as last known");
    agent.end(Signal::SIGKILL);
    let agent = serve(&node);
    assert_eq!(node.probe(&pod, &action), "EPERM", "as the agent before knew");
    // Deleted while nobody could tell.
    node.server.remove(&format!("{POLICIES}/bot"));
    assert_eq!(node.probe(&pod, &action), "EPERM");
    node.server.set_away(false);
    node.until(&pod, &action, "ok");
    agent.end(Signal::SIGTERM);
    // Nothing is known, and nobody answers: the pod is, its policies are not.
    node.server.set_away(true);
    std::fs::remove_file(node.site.path("agent/documents.json")).unwrap();
    let agent = serve(&node);
    assert_eq!(node.probe(&pod, &action), "EPERM");
    says(&node, "so everything is refused");
    node.server.set_away(false);
    node.until(&pod, &action, "ok");
    agent.end(Signal::SIGTERM);
}

#[test]
fn until_the_kinds_are_defined_everything_is_refused() {
    let mut node = Node::new("resources-undefined");
    node.site.start_collector();
    let (_listener, action) = listener();
    let pod = node.pod();
    let agent = node.serve_with(&format!("{FOLLOW}\nunknownWorkloads: allow-and-count"));
    let stranger = node.root.cgroup.path.join("stranger");
    std::fs::create_dir(&stranger).unwrap();
    assert_eq!(node.probe(&pod, &action), "EPERM");
    assert_eq!(node.probe(&stranger, &action), "EPERM", "nor those who are let otherwise");
    define(&node);
    node.until(&pod, &action, "ok");
    node.until(&stranger, &action, "ok");
    agent.end(Signal::SIGTERM);
}

#[test]
fn a_session_has_the_password_of_the_target_s_secret_and_none_is_let_in_without() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let postgres = database();
    let mut node = Node::new("resources-secret");
    node.site.start_collector();
    define(&node);
    let port = postgres.port();
    let statement = json!({"id": "read", "action": "allow", "effects": ["read"]});
    let gate = json!({"id": "db", "action": "gate", "target": "cards-db",
                      "statements": [statement]});
    let egress = json!({"defaultAction": "deny", "rules": [gate]});
    apply(&node, &policy("bot", "billing-bot", &egress));
    let target = |credential: Value| {
        json!({"apiVersion": "pcigate.dev/v1alpha1", "kind": "Target",
               "metadata": {"name": "cards-db", "namespace": "payments"},
               "spec": {"protocol": "postgres", "credential": credential,
                        "endpoints": [{"cidr": "127.0.0.1/32", "port": port}],
                        "upstream": {"address": format!("127.0.0.1:{port}"),
                                     "tls": {"mode": "disable"}}}})
    };
    node.site.write("password", PASSWORD);
    let file = json!({"username": SCRAM, "passwordFile": node.site.path("password")});
    apply(&node, &target(file));
    let pod = node.pod();
    let agent = serve(&node);
    says(&node, "names a file of the node, which only documents on the node may");
    says(&node, "leads nowhere: no Target payments/cards-db");
    let key = json!({"name": "cards-db", "key": "password"});
    apply(&node, &target(json!({"username": SCRAM, "secretRef": key})));
    says(&node, "Secret payments/cards-db: ");
    let mut client = Client::start(&mut inside(&pod, port));
    wait::until("the refusal on record", || {
        let all = node.site.records(&["--limit", "1000"]);
        let said = "Secret payments/cards-db is not known";
        all.iter().any(|record| record.to_string().contains(said)).then_some(())
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret",
                        "metadata": {"name": "cards-db", "namespace": "payments"},
                        "data": {"password": STANDARD.encode(PASSWORD)}});
    apply(&node, &secret);
    assert_eq!(client.line(), "1", "the gate is open");
    writeln!(client.input, "SELECT item FROM orders;").unwrap();
    assert_eq!(client.line(), "tea");
    drop(client);
    agent.end(Signal::SIGTERM);
    assert_eq!(node.site.files_holding(PASSWORD), [node.site.path("password")]);
}
