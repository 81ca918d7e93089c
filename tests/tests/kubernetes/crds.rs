//! Our CustomResourceDefinitions as kubectl sees them.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use pcigate_tests::{
    apiserver::{ADMIN, ApiServer},
    site::succeed,
};
use tempfile::TempDir;

struct Cluster {
    server: ApiServer,
    directory: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let made = Self { server: ApiServer::start(), directory: tempfile::tempdir().unwrap() };
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
        made.kubectl(&["apply", "-f", crds.to_str().unwrap()]);
        made
    }

    fn kubectl(&self, args: &[&str]) -> String {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kubectl/bin/kubectl");
        assert!(program.exists(), "kubectl is missing: run `cargo xtask setup`");
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(self.server.kubeconfig(self.directory.path(), ADMIN));
        command.args(args).current_dir(&self.directory).stdin(Stdio::null());
        command.env("HOME", self.directory.path()).env_remove("KUBECONFIG");
        String::from_utf8(succeed(&mut command).stdout).unwrap()
    }
}

#[test]
fn kubectl_knows_them_by_short_name_and_category_and_explains_their_fields() {
    let cluster = Cluster::new();
    let resources = cluster.kubectl(&["api-resources", "--categories=pcigate", "-o", "wide"]);
    for (short, kind) in [
        ("agp", "AgentPolicy"),
        ("cagp", "ClusterAgentPolicy"),
        ("pgt", "Target"),
        ("pgnc", "NodeCoverage"),
    ] {
        let is = |line: &str| line.contains(&format!(" {short} ")) && line.contains(kind);
        assert!(resources.lines().any(is), "{kind}: {resources}");
    }
    for (place, says) in [
        ("agp.spec.egress.rules.statements.effects", "What it does; any of them."),
        ("cagp.spec.namespaceSelector", "Namespaces it holds for."),
        ("pgt.spec.credential.secretRef", "The password, in a Secret of the Target's namespace."),
        ("pgt.status.conditions", "In standard form."),
        ("pgnc.status.documents.state", "What the node makes of it."),
    ] {
        let told = cluster.kubectl(&["explain", place]);
        assert!(told.contains(says), "{place}: {told}");
    }
    let spec = cluster.kubectl(&["explain", "pgt.spec.credential"]);
    assert!(spec.contains("secretRef") && !spec.contains("passwordFile"), "{spec}");
}

#[test]
fn the_examples_without_files_are_applied_and_listed() {
    let cluster = Cluster::new();
    let baseline = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/baseline.yaml");
    let said = cluster.kubectl(&["apply", "--server-side", "-f", baseline.to_str().unwrap()]);
    assert!(said.contains("clusteragentpolicy.pcigate.dev/"), "{said}");
    let listed = cluster.kubectl(&["get", "pcigate", "-A", "-o", "name"]);
    assert!(listed.contains("clusteragentpolicy.pcigate.dev/"), "{listed}");
}
