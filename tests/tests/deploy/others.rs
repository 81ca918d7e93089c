//! The other ways to install: kustomize, Compose, Dockerfiles. What they say is what the chart and
//! the images say, and the programs read what they configure.

use std::{collections::BTreeSet, fs, process::Command};

use pcigate_agent::{config::Config, policies, privileges, workloads::file};
use pcigate_tests::{
    program,
    site::{output, succeed},
};
use serde_json::Value;

use crate::chart::{kustomized, object, objects, rendered, valid, workspace};

fn read(path: &str) -> String {
    let path = workspace().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// That the collector finds no mistake in a configuration.
fn collector_reads(text: &str) {
    let file = tempfile::Builder::new().suffix("-collector.yaml").tempfile().unwrap();
    fs::write(&file, text).unwrap();
    let mut collector = Command::new(program("pcigate-collector"));
    let said = output(collector.args(["fsck", "--config"]).arg(file.path()));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(!said.contains("collector.yaml:") && !said.is_empty(), "{said}\n{text}");
}

#[test]
fn kustomize_installs_what_the_chart_renders() {
    let rendered = rendered(&read("deploy/kustomize/base/values.yaml"));
    let path = workspace().join("deploy/kustomize/base/pcigate.yaml");
    if std::env::var_os("PCIGATE_BLESS").is_some() {
        fs::write(&path, &rendered).unwrap();
    }
    let kept = read("deploy/kustomize/base/pcigate.yaml");
    assert!(kept == rendered, "write it anew: PCIGATE_BLESS=1, and look at the difference");
    assert!(!rendered.contains("kind: Secret"), "no key for everybody");

    let directory = tempfile::tempdir().unwrap();
    let mut files = vec![];
    for name in ["base", "overlays/example"] {
        let text = kustomized(&format!("deploy/kustomize/{name}"));
        let path = directory.path().join(name.replace('/', "-"));
        fs::write(&path, text).unwrap();
        files.push(path);
    }
    valid(&files);
    let objects = objects(&fs::read_to_string(&files[1]).unwrap());
    let text = |name: &str, file: &str| {
        object(&objects, "ConfigMap", name)["data"][file].as_str().unwrap().to_owned()
    };
    collector_reads(&text("pcigate-collector", "collector.yaml"));
    let policy = directory.path().join("baseline.yaml");
    fs::write(&policy, text("pcigate-policies", "baseline.yaml")).unwrap();
    policies::read(&[policy]).unwrap();
    let agent = object(&objects, "DaemonSet", "pcigate-agent");
    let image = &agent["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.example.com/pcigate/pcigate-agent:0.1.0");
}

#[test]
fn compose_gives_the_agent_what_it_needs_and_its_files_are_read() {
    let compose = &objects(&read("deploy/compose/docker-compose.yaml"))[0];
    let agent = &compose["services"]["agent"];
    let added: BTreeSet<String> = agent["cap_add"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| format!("CAP_{}", name.as_str().unwrap()))
        .collect();
    let mut needed: BTreeSet<String> = ["CAP_SETPCAP".to_owned()].into();
    let all = privileges::TO_START.iter().chain(&privileges::SERVE);
    needed.extend(all.map(ToString::to_string));
    assert_eq!(added, needed);
    for (field, value) in [("network_mode", "host"), ("pid", "host"), ("cgroup", "host")] {
        assert_eq!(agent[field], value);
    }
    for service in ["agent", "collector"] {
        for volume in compose["services"][service]["volumes"].as_array().unwrap() {
            let volume = volume.as_str().unwrap();
            let (from, _) = volume.split_once(':').unwrap();
            let known = match from.strip_prefix("./") {
                Some(file) => workspace().join("deploy/compose").join(file).exists(),
                None => from.starts_with("/sys/") || compose["volumes"].get(from).is_some(),
            };
            assert!(known, "{service}: {volume}");
        }
    }
    let config = Config::parse("agent.yaml", &read("deploy/compose/agent.yaml")).unwrap();
    collector_reads(&read("deploy/compose/collector.yaml"));
    policies::read(&[workspace().join("deploy/compose/policies")]).unwrap();
    let pods = workspace().join("deploy/compose/pods.yaml");
    file::List::default().read(&pods).unwrap();
    let uid = "1a2b3c4d-0000-4000-8000-1234567890ab";
    assert!(read("deploy/compose/pods.yaml").contains(uid));
    // The cgroup that systemd makes of the service's is that pod's, and below the governed root.
    let slice = compose["services"]["billing-bot"]["cgroup_parent"].as_str().unwrap();
    assert_eq!(slice, format!("pcigate-pod{}.slice", uid.replace('-', "_")));
    assert!(config.cgroup_root.unwrap().ends_with("pcigate.slice"));
}

#[test]
fn dockerfiles_start_what_the_images_start() {
    let xtask = read("xtask/src/image.rs");
    for (name, user) in [("agent", 0), ("collector", 65_528)] {
        let text = read(&format!("deploy/docker/{name}.Dockerfile"));
        for line in [
            "FROM scratch".to_owned(),
            format!("USER {user}:{user}"),
            format!("ENTRYPOINT [\"/usr/bin/pcigate-{name}\"]"),
            format!("CMD [\"serve\", \"--config\", \"/etc/pcigate/{name}.yaml\"]"),
        ] {
            assert!(text.lines().any(|own| own == line), "{name}.Dockerfile lacks `{line}`");
        }
        assert!(
            xtask.contains(&format!("&[\"serve\", \"--config\", \"/etc/pcigate/{name}.yaml\"]"))
        );
        assert!(text.contains(&format!("cargo xtask image --only pcigate-{name} ")));
    }
    // What it is told to do with the archive can be done.
    let out = tempfile::tempdir().unwrap();
    let archive = crate::image::build(out.path(), "pcigate-agent");
    let mut tar = Command::new("tar");
    let said = succeed(tar.arg("-xOf").arg(archive).arg("manifest.json"));
    let manifest: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert!(String::from_utf8(said.stdout).unwrap().contains("\"Layers\":[\"blobs/sha256/"));
    assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 1);
}
