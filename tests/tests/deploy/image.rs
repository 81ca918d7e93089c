//! The images: what is in them and what is not, the same bytes for the same input, and a list of
//! what is in them that says so.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pcigate_tests::{program, site::succeed};
use serde_json::Value;
use tempfile::TempDir;

/// Builds images of the programs under test: not compressed, which takes seconds less.
pub fn build(out: &Path, only: &str) -> PathBuf {
    let programs = program("xtask").parent().unwrap().to_owned();
    let mut xtask = Command::new(program("xtask"));
    xtask.args(["image", "--compression", "none", "--tag", "test", "--only", only]);
    xtask.arg("--programs").arg(programs).arg("--out").arg(out);
    xtask.env("SOURCE_DATE_EPOCH", "1700000000");
    succeed(&mut xtask);
    out.join(format!("{only}.tar"))
}

/// An archive, unpacked.
struct Archive {
    directory: TempDir,
    manifest: Value,
}

impl Archive {
    fn open(path: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        succeed(Command::new("tar").arg("-xf").arg(path).arg("-C").arg(directory.path()));
        let mut archive = Self { directory, manifest: Value::Null };
        let index = archive.json("index.json");
        archive.manifest = archive.blob(&index["manifests"][0]["digest"]);
        archive
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.directory.path().join(name)).unwrap()).unwrap()
    }

    fn path_of(&self, digest: &Value) -> PathBuf {
        let digest = digest.as_str().unwrap().replace(':', "/");
        self.directory.path().join("blobs").join(digest)
    }

    fn blob(&self, digest: &Value) -> Value {
        serde_json::from_slice(&fs::read(self.path_of(digest)).unwrap()).unwrap()
    }

    fn config(&self) -> Value {
        self.blob(&self.manifest["config"]["digest"])
    }

    fn layer(&self) -> PathBuf {
        self.path_of(&self.manifest["layers"][0]["digest"])
    }

    /// `tar -tv` of the layer: everything about each entry but its content.
    fn listed(&self) -> String {
        let mut tar = Command::new("tar");
        let output = succeed(tar.args(["--numeric-owner", "-tvf"]).arg(self.layer()));
        String::from_utf8(output.stdout).unwrap()
    }

    fn text(&self, path: &str) -> String {
        let mut tar = Command::new("tar");
        let output = succeed(tar.arg("-xOf").arg(self.layer()).arg(path));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn names(list: &Value) -> BTreeSet<String> {
    let packages = list["packages"].as_array().unwrap().iter();
    packages.map(|package| package["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_image_holds_the_program_its_libraries_and_no_shell_and_says_what_is_in_it() {
    let out = tempfile::tempdir().unwrap();
    let archive = Archive::open(&build(out.path(), "pcigate-agent"));
    let listed = archive.listed();
    let files: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with('-'))
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    let executable = |path: &&str| path.contains("bin/") || path.contains("lib");
    for file in files.iter().filter(|path| executable(path)) {
        let known = ["/ld-linux", "/libc.so", "/libgcc_s.so", "/libm.so", "bin/pcigate-agent"];
        let is_known = known.iter().any(|name| file.contains(name));
        assert!(is_known || file.contains("share/doc"), "{file} in the image:\n{listed}");
    }
    assert!(files.contains(&"usr/bin/pcigate-agent"), "{listed}");
    assert!(files.contains(&"usr/share/doc/libc6/copyright"), "its licence goes with a copy");
    assert!(listed.lines().all(|line| line.contains(" 0/0 ")), "all of it is root's:\n{listed}");
    let writable = |line: &&str| line.as_bytes()[8] == b'w' && !line.starts_with('l');
    let writable: Vec<_> = listed.lines().filter(writable).collect();
    assert!(writable.len() == 1 && writable[0].ends_with(" tmp/"), "{writable:?}");
    assert!(archive.text("etc/passwd").contains("pcigate-gateway:x:65529:65529:"));
    let config = archive.config();
    assert_eq!(config["created"], "2023-11-14T22:13:20Z");
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/pcigate-agent");

    let list = archive.text("usr/share/doc/pcigate-agent/sbom.spdx.json");
    assert_eq!(list, fs::read_to_string(out.path().join("pcigate-agent.spdx.json")).unwrap());
    let list: Value = serde_json::from_str(&list).unwrap();
    let names = names(&list);
    for linked in ["aya", "kube", "aya-ebpf", "pcigate-agent", "rustls", "libc6", "libgcc-s1"] {
        assert!(names.contains(linked), "{linked} is missing");
    }
    for not_linked in ["datafusion", "pcigate-collector", "clap_derive", "proptest", "xtask"] {
        assert!(!names.contains(not_linked), "{not_linked} is not in this image");
    }
    let ids: BTreeSet<_> = list["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| &package["SPDXID"])
        .map(Value::to_string)
        .collect();
    assert_eq!(ids.len(), list["packages"].as_array().unwrap().len(), "each id once");
    for relation in list["relationships"].as_array().unwrap() {
        assert!(ids.contains(&relation["relatedSpdxElement"].to_string()), "{relation}");
    }
}

#[test]
fn the_same_programs_give_the_same_bytes() {
    let out = tempfile::tempdir().unwrap();
    let read = || {
        let path = build(out.path(), "pcigate-agent");
        let archive = fs::read(&path).unwrap();
        (archive, fs::read(path.with_extension("spdx.json")).unwrap())
    };
    let first = read();
    let second = read();
    assert!(first == second, "an archive depends on more than its input");
}
