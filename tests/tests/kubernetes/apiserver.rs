//! The API server of the tests as kubectl sees it: a client that we did not write.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use pcigate_tests::{
    apiserver::{ADMIN, ApiServer, Subject, User},
    site::{output, succeed},
};
use serde_json::Value;
use tempfile::TempDir;

const CRD: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wg], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
const WIDGET: &str = "
apiVersion: example.com/v1
kind: Widget
metadata: {name: one, namespace: default, labels: {app: a}}
spec: {size: 3, colour: red}
";
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default, labels: {app: web, tier: front}}
spec: {nodeName: node-1, containers: [{name: main, image: nginx}]}
";

/// kubectl with a server and a directory of its own.
struct Kubectl {
    server: ApiServer,
    directory: TempDir,
}

impl Kubectl {
    fn new() -> Self {
        Self { server: ApiServer::start(), directory: tempfile::tempdir().unwrap() }
    }

    fn command(&self, token: &str, args: &[&str]) -> Command {
        let mut command = Command::new(kubectl());
        command.arg("--kubeconfig").arg(self.server.kubeconfig(self.directory.path(), token));
        command.args(args).current_dir(&self.directory).stdin(Stdio::null());
        command.env("HOME", self.directory.path()).env_remove("KUBECONFIG");
        command
    }

    fn run(&self, args: &[&str]) -> String {
        String::from_utf8(succeed(&mut self.command(ADMIN, args)).stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[args, &["-o", "json"]].concat())).unwrap()
    }

    fn refused(&self, token: &str, args: &[&str]) -> String {
        let output = output(&mut self.command(token, args));
        assert!(!output.status.success(), "{args:?} succeeds");
        String::from_utf8(output.stderr).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }
}

pub fn kubectl() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kubectl/bin/kubectl");
    assert!(path.exists(), "kubectl is missing: run `cargo xtask setup`");
    path
}

#[test]
fn kubectl_discovers_applies_gets_labels_and_deletes() {
    let kubectl = Kubectl::new();
    kubectl.write("pod.yaml", POD);
    assert!(kubectl.run(&["version"]).contains("Server Version: v1.36.0"));
    let resources = kubectl.run(&["api-resources"]);
    assert!(resources.contains("customresourcedefinitions"), "{resources}");
    assert_eq!(kubectl.run(&["apply", "-f", "pod.yaml"]), "pod/web created\n");
    assert_eq!(kubectl.run(&["apply", "-f", "pod.yaml"]), "pod/web unchanged\n");
    let made = kubectl.json(&["get", "pod", "web"]);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["status"]["phase"], "Pending");
    kubectl.run(&["label", "pod", "web", "tier=back", "--overwrite"]);
    let labelled = kubectl.json(&["get", "po", "web"]);
    assert_eq!(labelled["metadata"]["labels"]["tier"], "back");
    assert_eq!(labelled["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!(labelled["metadata"]["generation"], 1, "labels are no specification");
    assert_ne!(labelled["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let names = |args: &[&str]| kubectl.run(&[&["get", "pods", "-A", "-o", "name"], args].concat());
    assert_eq!(names(&["-l", "app in (web,x),tier!=front"]), "pod/web\n");
    assert_eq!(names(&["-l", "app=other"]), "");
    assert_eq!(names(&["--field-selector", "spec.nodeName=node-1"]), "pod/web\n");
    assert_eq!(names(&["--field-selector", "spec.nodeName=node-2"]), "");
    assert_eq!(
        kubectl.run(&["delete", "pod", "web"]),
        "pod \"web\" deleted from default namespace\n"
    );
    let said = kubectl.refused(ADMIN, &["get", "pod", "web"]);
    assert!(said.contains("pods \"web\" not found"), "{said}");
}

#[test]
fn a_custom_resource_is_served_from_its_definition_on_until_that_is_deleted() {
    let kubectl = Kubectl::new();
    kubectl.write("crd.yaml", CRD);
    kubectl.write("widget.yaml", WIDGET);
    let said = kubectl.refused(ADMIN, &["apply", "-f", "widget.yaml"]);
    assert!(said.contains("no matches for kind \"Widget\""), "{said}");
    kubectl.run(&["apply", "-f", "crd.yaml"]);
    kubectl.run(&["wait", "--for=condition=Established", "crd/widgets.example.com"]);
    kubectl.run(&["apply", "--server-side", "-f", "widget.yaml"]);
    kubectl.write("widget.yaml", &WIDGET.replace(", colour: red", ""));
    kubectl.run(&["apply", "--server-side", "-f", "widget.yaml"]);
    let widget = kubectl.json(&["get", "wg", "one"]);
    assert_eq!(widget["spec"], serde_json::json!({"size": 3}), "no longer applied");
    assert_eq!(widget["metadata"]["generation"], 2);
    let other = ["apply", "--server-side", "--field-manager=other", "-f", "widget.yaml"];
    let said = kubectl.refused(ADMIN, &other);
    assert!(said.contains("conflict"), "{said}");
    kubectl.run(&[&other[..], &["--force-conflicts"]].concat());
    let status = r#"{"status":{"ready":true},"spec":{"size":9}}"#;
    let patch = ["patch", "widget", "one", "--type=merge", "-p", status];
    kubectl.run(&[&patch[..], &["--subresource=status"]].concat());
    let widget = kubectl.json(&["get", "widget", "one"]);
    assert_eq!((&widget["status"]["ready"], &widget["spec"]["size"]), (&true.into(), &3.into()));
    kubectl.run(&patch);
    let widget = kubectl.json(&["get", "widget", "one"]);
    assert_eq!(widget["spec"]["size"], 9);
    assert_eq!(kubectl.run(&["get", "all", "-o", "name"]), "widget.example.com/one\n");
    kubectl.run(&["delete", "crd", "widgets.example.com"]);
    let said = kubectl.refused(ADMIN, &["get", "widgets"]);
    assert!(said.contains("could not find the requested resource"), "{said}");
}

#[test]
fn a_list_in_chunks_is_of_one_moment() {
    let kubectl = Kubectl::new();
    for number in 0..7 {
        let pod = POD.replace("name: web", &format!("name: web-{number}"));
        kubectl.write("pod.yaml", &pod);
        kubectl.run(&["create", "-f", "pod.yaml"]);
    }
    let get = ["get", "pods", "-o", "name", "--chunk-size"];
    let all = kubectl.run(&[&get[..], &["0"]].concat());
    assert_eq!(all.lines().count(), 7);
    assert_eq!(kubectl.run(&[&get[..], &["3"]].concat()), all);
    let lists = kubectl.server.count("GET /api/v1/namespaces/default/pods");
    assert_eq!(lists, 1 + 3, "seven in chunks of three");
    let raw = |query: &str| -> Value {
        let path = format!("/api/v1/namespaces/default/pods?{query}");
        serde_json::from_str(&kubectl.run(&["get", "--raw", &path])).unwrap()
    };
    let first = raw("limit=3");
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    kubectl.run(&["delete", "pod", "web-6"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = raw(&format!("continue={token}"));
    assert_eq!(rest["items"].as_array().unwrap().len(), 4, "as it was");
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
}

#[test]
fn a_watch_tells_what_comes_into_its_selection_and_what_leaves_it() {
    let kubectl = Kubectl::new();
    kubectl.write("pod.yaml", POD);
    kubectl.run(&["create", "-f", "pod.yaml"]);
    let from = kubectl.json(&["get", "pods"])["metadata"]["resourceVersion"].clone();
    let from = from.as_str().filter(|from| !from.is_empty()).map_or_else(
        || kubectl.json(&["get", "pod", "web"])["metadata"]["resourceVersion"].clone(),
        |from| from.into(),
    );
    kubectl.run(&["label", "pod", "web", "tier=back", "--overwrite"]);
    kubectl.run(&["label", "pod", "web", "tier=front", "--overwrite"]);
    kubectl.run(&["annotate", "pod", "web", "note=x"]);
    kubectl.server.bookmark();
    kubectl.run(&["delete", "pod", "web"]);
    let path = format!(
        "/api/v1/pods?watch=1&labelSelector=tier%3Dfront&allowWatchBookmarks=true&\
         timeoutSeconds=1&resourceVersion={}",
        from.as_str().unwrap()
    );
    let lines = kubectl.run(&["get", "--raw", &path]);
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["DELETED", "ADDED", "MODIFIED", "BOOKMARK", "DELETED"], "{lines}");
    let versions: Vec<u64> = events
        .iter()
        .map(|event| event["object"]["metadata"]["resourceVersion"].as_str().unwrap())
        .map(|version| version.parse().unwrap())
        .collect();
    assert!(versions.is_sorted(), "{versions:?}");
    kubectl.server.compact(pcigate_tests::apiserver::Gone::InStream);
    let line = kubectl.run(&["get", "--raw", &path]);
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&"ERROR".into(), &410.into()));
}

#[test]
fn who_is_unknown_or_may_not_is_refused_and_a_conflict_is_one() {
    let kubectl = Kubectl::new();
    kubectl.write("pod.yaml", POD);
    let user = User { name: "reader".to_owned(), ..User::default() };
    kubectl.server.add_user("token-of-reader", user);
    kubectl.server.forbid("reader", "create", "pods");
    let said = kubectl.refused("nobody", &["get", "pods"]);
    assert!(said.contains("Unauthorized") || said.contains("must be logged in"), "{said}");
    let said = kubectl.refused("token-of-reader", &["create", "-f", "pod.yaml"]);
    assert!(said.contains("Forbidden") && said.contains("User \"reader\" cannot create"), "{said}");
    kubectl.run(&["create", "-f", "pod.yaml"]);
    let said = kubectl.refused(ADMIN, &["create", "-f", "pod.yaml"]);
    assert!(said.contains("pods \"web\" already exists"), "{said}");
    let mut stale = kubectl.json(&["get", "pod", "web"]);
    kubectl.run(&["label", "pod", "web", "x=y"]);
    stale["metadata"]["labels"]["x"] = "z".into();
    kubectl.write("stale.json", &stale.to_string());
    let said = kubectl.refused(ADMIN, &["replace", "-f", "stale.json"]);
    assert!(said.contains("the object has been modified"), "{said}");
    kubectl.write("elsewhere.yaml", &POD.replace("default", "nowhere"));
    let said = kubectl.refused(ADMIN, &["create", "-f", "elsewhere.yaml"]);
    assert!(said.contains("namespaces \"nowhere\" not found"), "{said}");
}

#[test]
fn kubectl_waits_out_throttling_and_tells_an_outage() {
    let kubectl = Kubectl::new();
    kubectl.run(&["get", "namespaces"]);
    kubectl.server.throttle(2, 1);
    assert!(kubectl.run(&["get", "namespaces", "-o", "name"]).contains("namespace/default"));
    kubectl.server.set_away(true);
    let said = kubectl.refused(ADMIN, &["get", "namespaces", "--request-timeout=5s"]);
    assert!(!said.is_empty());
    kubectl.server.set_away(false);
    assert!(kubectl.run(&["get", "namespaces", "-o", "name"]).contains("namespace/kube-system"));
}

#[test]
fn a_token_review_names_the_pod_of_a_token_for_the_audience_only() {
    let kubectl = Kubectl::new();
    let pod = Subject { name: "web".into(), uid: "u-1".into(), node: "node-1".into() };
    let user = User {
        name: "system:serviceaccount:default:bot".to_owned(),
        uid: "s-1".to_owned(),
        pod: Some(pod),
        audiences: vec!["pcigate".to_owned()],
    };
    kubectl.server.add_user("bound-token", user);
    let review = |token: &str, audience: &str| {
        kubectl.write(
            "review.json",
            &format!(
                "{{\"apiVersion\": \"authentication.k8s.io/v1\", \"kind\": \"TokenReview\", \
                 \"spec\": {{\"token\": \"{token}\", \"audiences\": [\"{audience}\"]}}}}"
            ),
        );
        kubectl.json(&["create", "-f", "review.json"])["status"].clone()
    };
    let good = review("bound-token", "pcigate");
    assert_eq!(good["authenticated"], true);
    assert_eq!(good["user"]["extra"]["authentication.kubernetes.io/pod-uid"][0], "u-1");
    assert_eq!(review("bound-token", "another")["authenticated"], false);
    assert_eq!(review("forged", "pcigate")["authenticated"], false);
    let said = kubectl.refused("bound-token", &["get", "pods"]);
    assert!(!said.contains("No resources"), "a token for another audience: {said}");
}
