//! The chart's manifests: valid for every Kubernetes there is, refused where a value is wrong, and
//! what they configure is what the programs read and need.

use std::{collections::BTreeSet, fs, process::Command};

use pcigate_agent::privileges;
use pcigate_tests::{
    program,
    site::{fail, output, succeed},
};
use serde_json::Value;

use crate::chart::{helm, object, objects, python, refused, rendered, valid};

/// All that a value must be given for.
pub const LEAST: &str = "collector: {origin: ledger.example.com/pci}\n";
/// Everything that can be switched on.
const MOST: &str = "collector:
  origin: ledger.example.com/pci
  retention: {fork: 90d}
  names: [collector.example.com, 192.0.2.7]
  networkPolicy:
    metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  storage: {storageClassName: fast}
  service: {annotations: {example.com/x: a}}
image: {registry: registry.example.com/x, tag: v1, pullSecrets: [{name: pull}],
        agentDigest: 'sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}
agent:
  cgroupRoot: /sys/fs/cgroup/kubepods.slice
  customResources: true
  tokenReview: true
  admin: {port: 19464}
  seLinuxType: spc_t
  policies: {a.yaml: 'x: y'}
  files: [{name: cards-db, secretName: cards-db-login}]
  extraEnv: [{name: X, value: a}]
secretAccess: [{namespace: payments, names: [cards-db-login]}]
metrics:
  serviceMonitor: {enabled: true, labels: {release: prometheus}}
  prometheusRule: {enabled: true}
  dashboard: {enabled: true}
";
/// A node's part of a cluster whose collector is elsewhere.
const NODES: &str = "collector: {enabled: false, url: 'https://collector.example.com:7443'}
agent: {certificates: {source: directory}, admin: {enabled: false}, customResources: false}
";
/// Certificates by cert-manager.
const CERT_MANAGER: &str = "collector: {origin: a.example/b}
ca: {source: certManager, certManager: {issuerRef: {name: root}}}
";

#[test]
fn every_object_is_valid_for_every_kubernetes_from_1_30_to_1_36() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = vec![];
    for (name, values) in
        [("least", LEAST), ("most", MOST), ("nodes", NODES), ("cert-manager", CERT_MANAGER)]
    {
        let path = directory.path().join(format!("{name}.yaml"));
        fs::write(&path, rendered(values)).unwrap();
        files.push(path);
    }
    valid(&files);
    let wrong = rendered(LEAST).replace("hostPID:", "hostPid:");
    let path = directory.path().join("wrong.yaml");
    fs::write(&path, wrong).unwrap();
    let mut check = python(&["-m", "kubernetes_validate", "-k", "1.33", "--strict"]);
    fail(check.arg(&path), 1);
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart() {
    succeed(&mut helm(&[
        "lint",
        "--strict",
        "deploy/helm/pcigate",
        "--set",
        "collector.origin=a/b",
    ]));
}

#[test]
fn values_that_are_not_known_or_not_possible_are_refused_by_name() {
    for (values, named) in [
        ("collector: {origin: a.example/b, replicas: 3}", "replicas"),
        ("collector: {origin: a.example/b}\nagnet: {}", "agnet"),
        ("collector: {origin: a.example/b}\nagent: {unknownWorkloads: allow}", "unknownWorkloads"),
        ("collector: {origin: a.example/b}\nagent: {certificates: {source: magic}}", "source"),
        ("collector: {origin: a.example/b}\nimage: {agentDigest: latest}", "agentDigest"),
        ("collector: {origin: a.example/b}\nsecretAccess: [{namespace: x, names: ['*']}]", "names"),
        ("collector: {origin: a.example/b}\nsecretAccess: [{namespace: x, names: []}]", "names"),
        ("collector: {origin: ''}", "origin"),
        ("collector: {enabled: false}", "collector.url is required"),
        ("collector: {enabled: false, url: 'http://x:1'}", "url"),
    ] {
        let said = refused(values);
        assert!(said.contains(named), "{values}: {said}");
    }
}

#[test]
fn the_agents_pod_has_the_capabilities_that_the_agent_says_it_needs_and_no_others() {
    let objects = objects(&rendered(LEAST));
    let agent = object(&objects, "DaemonSet", "pcigate-agent");
    let context = &agent["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    let added = context["capabilities"]["add"].as_array().unwrap().iter();
    let added: BTreeSet<String> =
        added.map(|name| format!("CAP_{}", name.as_str().unwrap())).collect();
    // To give the others up.
    let mut needed: BTreeSet<String> = ["CAP_SETPCAP".to_owned()].into();
    let all = privileges::TO_START.iter().chain(&privileges::SERVE);
    needed.extend(all.map(ToString::to_string));
    assert_eq!(added, needed);
    assert_eq!(context["capabilities"]["drop"][0], "ALL");
    assert_eq!(context["privileged"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
}

/// The text of a file in a ConfigMap.
fn configured(objects: &[Value], name: &str, file: &str) -> String {
    object(objects, "ConfigMap", name)["data"][file].as_str().unwrap().to_owned()
}

#[test]
fn the_programs_read_the_configuration_that_the_chart_writes() {
    let directory = tempfile::tempdir().unwrap();
    for values in [LEAST, NODES, CERT_MANAGER] {
        let objects = objects(&rendered(values));
        let text = configured(&objects, "pcigate-agent", "agent.yaml");
        let text = text.replace("$NODE_NAME", "node-1");
        pcigate_agent::config::Config::parse("agent.yaml", &text)
            .unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
        if values == NODES {
            continue;
        }
        let text = configured(&objects, "pcigate-collector", "collector.yaml");
        let path = directory.path().join("collector.yaml");
        // It reads all of it before it looks for its certificate, which is not there.
        fs::write(&path, &text).unwrap();
        let mut collector = Command::new(program("pcigate-collector"));
        let said = output(collector.args(["fsck", "--config"]).arg(&path));
        let said = String::from_utf8(said.stderr).unwrap();
        assert!(!said.contains("collector.yaml:"), "{said}\n{text}");
        assert_ne!(said, "", "there is no ledger");
    }
}

#[test]
fn agents_read_no_secret_but_those_named_and_write_what_is_theirs() {
    let objects = objects(&rendered(MOST));
    let roles = objects
        .iter()
        .filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Role")));
    for role in roles {
        for rule in role["rules"].as_array().unwrap() {
            let text = rule.to_string();
            assert!(!text.contains('*'), "{}: {rule}", role["metadata"]["name"]);
            let secrets = text.contains("\"secrets\"");
            let by_name = role["kind"] == "Role"
                && role["metadata"]["namespace"] == "payments"
                && rule["resourceNames"][0] == "cards-db-login"
                && rule["verbs"].as_array().unwrap().len() == 1;
            assert!(!secrets || by_name, "{role}");
            let writes = ["create", "update", "patch", "delete"]
                .iter()
                .any(|verb| text.contains(&format!("\"{verb}\"")));
            let of_ours = ["pcigate.dev", "coordination.k8s.io", "tokenreviews"];
            assert!(!writes || of_ours.iter().any(|ours| text.contains(ours)), "{role}");
        }
    }
    let policy = object(&objects, "ValidatingAdmissionPolicy", "pcigate-own-node");
    let expression = policy["spec"]["validations"][0]["expression"].as_str().unwrap();
    assert!(expression.contains("authentication.kubernetes.io/node-name"));
}

#[test]
fn nobody_but_controllers_deletes_an_agents_pod_where_its_successor_would_be_refused() {
    let stays = |values: &str| {
        let objects = objects(&rendered(values));
        let is = |object: &&Value| object["metadata"]["name"] == "pcigate-agents-stay";
        objects.iter().filter(is).cloned().collect::<Vec<_>>()
    };
    let [policy, binding] = &stays(LEAST)[..] else { panic!("a policy and its binding") };
    assert_eq!(binding["spec"]["validationActions"][0], "Deny");
    // It is for the pods of the DaemonSet and no others.
    let selected = &policy["spec"]["matchConstraints"]["objectSelector"]["matchLabels"];
    let objects = objects(&rendered(LEAST));
    let agent = object(&objects, "DaemonSet", "pcigate-agent");
    assert_eq!(selected, &agent["spec"]["selector"]["matchLabels"]);
    let labels = &agent["spec"]["template"]["metadata"]["labels"];
    for (label, value) in selected.as_object().unwrap() {
        assert_eq!(&labels[label], value);
    }
    let counted = LEAST.to_owned() + "agent: {unknownWorkloads: allow-and-count}\n";
    assert!(stays(&counted).is_empty(), "its successor starts there");
}
