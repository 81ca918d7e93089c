//! The Helm chart as what uses it sees it: helm renders it, kubernetes-validate judges the objects.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use pcigate_tests::site::{output, succeed};
use serde_json::Value;
use tempfile::NamedTempFile;

/// The releases of Kubernetes the product is for.
const RELEASES: [&str; 7] = ["1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36"];

pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A tool that `cargo xtask setup` brings.
fn tool(path: &str) -> PathBuf {
    let path = workspace().join("target").join(path);
    assert!(path.exists(), "{} is missing: run `cargo xtask setup`", path.display());
    path
}

pub fn helm(args: &[&str]) -> Command {
    let mut helm = Command::new(tool("helm/helm/helm"));
    // Nothing of the user's.
    let home = std::env::temp_dir();
    helm.args(args).current_dir(workspace()).stdin(Stdio::null());
    helm.env("HOME", home).env_remove("KUBECONFIG");
    helm
}

/// What kubectl makes of a directory.
pub fn kustomized(directory: &str) -> String {
    let mut kubectl = Command::new(tool("kubectl/bin/kubectl"));
    let output = succeed(kubectl.args(["kustomize", directory]).current_dir(workspace()));
    String::from_utf8(output.stdout).unwrap()
}

/// That every Kubernetes the product is for takes these files.
pub fn valid(files: &[PathBuf]) {
    for release in RELEASES {
        let mut check = python(&["-m", "kubernetes_validate", "-k", release, "--strict"]);
        succeed(check.arg("--no-warn").args(files));
    }
}

pub fn python(args: &[&str]) -> Command {
    let mut python = Command::new("python3");
    python.args(args).env("PYTHONPATH", tool("kubernetes-validate"));
    python
}

/// What the chart makes of these values, as text.
pub fn rendered(values: &str) -> String {
    let file = file_of(values);
    let output = succeed(&mut template(file.path()));
    String::from_utf8(output.stdout).unwrap()
}

/// Why the chart refuses these values.
pub fn refused(values: &str) -> String {
    let file = file_of(values);
    let output = output(&mut template(file.path()));
    assert!(!output.status.success(), "the chart takes {values}");
    String::from_utf8(output.stderr).unwrap()
}

fn template(values: &Path) -> Command {
    let mut helm = helm(&["template", "pcigate", "deploy/helm/pcigate", "-n", "pcigate-system"]);
    helm.arg("--include-crds").arg("-f").arg(values);
    helm
}

fn file_of(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    file
}

/// The objects of a YAML text.
pub fn objects(text: &str) -> Vec<Value> {
    let file = file_of(text);
    let script = "import sys, json, yaml
print(json.dumps([o for o in yaml.safe_load_all(open(sys.argv[1])) if o]))";
    let output = succeed(python(&["-c", script]).arg(file.path()));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The object of this kind and name.
pub fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found =
        objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("the chart renders no {kind} {name}"))
}
