//! Bad input gets one clear sentence with the remedy and a non-zero exit; nothing accepted is lost.

use std::{
    fs,
    os::unix::{fs::FileExt, process::CommandExt},
    process::Command,
};

use nix::{mount::MsFlags, sys::signal::Signal};
use pcigate_agent::cgroup;
use pcigate_tests::site::{Mounted, Site, fail, output, succeed};

/// Exit code where the agent cannot do what was asked and has not begun.
const CANNOT: i32 = 125;

fn assert_says(said: &str, needed: &[&str]) {
    for needed in needed {
        assert!(said.contains(needed), "`{needed}` is not in:\n{said}");
    }
}

#[test]
fn a_wrong_policy_is_refused_with_every_mistake_at_its_line_and_nothing_runs() {
    let site = Site::new();
    let wrong = pcigate_tests::site::POLICY
        .replace("mode: enforce", "mode: enforced")
        .replace("defaultAction: deny", "defaultActon: deny");
    site.write("policy.yaml", &wrong);
    let said = fail(&mut site.exec(&["/usr/bin/touch", "ran"]), CANNOT);
    assert_says(&said, &["policy.yaml:6: spec.mode", "policy.yaml:12: spec.egress.defaultActon"]);
    assert!(!site.path("ran").exists());
    let output = output(&mut site.pcigate(&["policy", "check", "policy.yaml"]));
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_says(&said, &["policy.yaml:6: spec.mode", "policy.yaml:12: spec.egress.defaultActon"]);
}

#[test]
fn a_contradictory_configuration_is_refused_with_all_mistakes_at_once() {
    let site = Site::new();
    let config = "workloads: {source: file}\nstateDir: here\nfailMode: open\nnodename: n\n";
    site.write("agent.yaml", config);
    let mut agent = site.command("pcigate-agent");
    let said = fail(agent.args(["serve", "--config", "agent.yaml"]), CANNOT);
    assert_says(
        &said,
        &[
            "agent.yaml:1: workloads.file",
            "agent.yaml:2: stateDir",
            "agent.yaml:3: failMode",
            "agent.yaml:4: nodename: unknown field",
        ],
    );
    site.write("collector.yaml", "listen: nowhere\nretention: 1y\n");
    let mut collector = site.command("pcigate-collector");
    let output = output(collector.args(["serve", "--config", "collector.yaml"]));
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_says(&said, &["collector.yaml:1: listen", "collector.yaml:2: retention", "origin"]);
}

#[test]
fn a_certificate_of_another_authority_keeps_the_records_and_says_why() {
    let mut site = Site::new();
    site.start_collector();
    site.issue("other-ca", ["--node", "node-1"], "tls/foreign");
    fs::copy(site.path("tls/collector/ca.pem"), site.path("tls/foreign/ca.pem")).unwrap();
    let mut agent = site.command("pcigate-agent");
    agent.args(["exec", "--state-dir", "exec", "--tls-dir"]).args([
        "tls/foreign",
        "--collector",
        &site.url(),
        "--",
        "/usr/bin/true",
    ]);
    let output = succeed(&mut agent);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_says(&said, &["not yet at the collector", "cert.pem"]);
    succeed(&mut site.exec(&["/usr/bin/true"]));
    let execs = site.records(&["--kind", "exec", "--executable", "/usr/bin/true"]);
    assert_eq!(execs.len(), 2, "the first run's records came with the second");
}

#[test]
fn a_persons_certificate_is_no_nodes() {
    let site = Site::new();
    let mut agent = site.command("pcigate-agent");
    agent.args(["exec", "--state-dir", "exec", "--tls-dir", "tls/person", "--collector"]);
    let said = fail(agent.args(["https://127.0.0.1:1", "--", "/usr/bin/true"]), CANNOT);
    assert_says(&said, &["tls/person/cert.pem", "node"]);
}

#[test]
fn without_root_the_remedy_is_to_run_as_root() {
    let site = Site::new();
    let agent = pcigate_tests::program("pcigate-agent");
    // Somewhere a stranger may read: the build directory may be closed to them.
    let copy = std::env::temp_dir().join(format!("pcigate-agent-{}", std::process::id()));
    fs::copy(agent, &copy).unwrap();
    let mut agent = Command::new(&copy);
    agent.args(["exec", "--", "/usr/bin/true"]).current_dir("/").uid(65534).gid(65534);
    let said = fail(&mut agent, CANNOT);
    let mut doctor = Command::new(&copy);
    let answer = output(doctor.arg("doctor").current_dir("/").uid(65534).gid(65534));
    fs::remove_file(copy).unwrap();
    assert_says(&said, &["capabilities are missing", "as root"]);
    assert_eq!(answer.status.code(), Some(1));
    drop(site);
}

/// Runs the agent where a part of the system is taken away, in a mount namespace of its own.
fn without(preparation: &str) -> String {
    let site = Site::new();
    let agent = pcigate_tests::program("pcigate-agent").display().to_string();
    let script = format!("{preparation} && exec {agent} exec --state-dir exec -- /usr/bin/true");
    let mut unshare = Command::new("unshare");
    unshare.current_dir(site.path("")).args(["--mount", "sh", "-c", &script]);
    fail(&mut unshare, CANNOT)
}

#[test]
fn without_cgroup2_or_kernel_types_the_remedy_is_named() {
    let mount = cgroup::mount_point().unwrap();
    let said = without(&format!("umount -l {}", mount.display()));
    assert_says(&said, &["no cgroup2 filesystem is mounted", "mount -t cgroup2"]);
    let said = without("mount -t tmpfs none /sys/kernel/btf");
    assert_says(&said, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
}

#[test]
fn in_a_cgroup_namespace_of_its_own_the_agent_refuses_to_start() {
    let site = Site::new();
    let mut unshare = Command::new("unshare");
    unshare.current_dir(site.path("")).args(["--cgroup", "--mount"]);
    unshare.arg(pcigate_tests::program("pcigate-agent"));
    unshare.args(["exec", "--state-dir", "exec", "--", "/usr/bin/true"]);
    let said = fail(&mut unshare, CANNOT);
    assert_says(&said, &["not the machine's whole tree", "host's cgroup namespace"]);
}

#[test]
fn a_read_only_or_missing_bpffs_is_refused_with_the_mount_command() {
    let site = Site::new();
    let root = cgroup::create(&format!("bpffs-{}", std::process::id())).unwrap();
    site.write("pods.yaml", &Site::pod_list());
    let at = |name: &str| site.path(name).display().to_string();
    let config = format!(
        "cgroupRoot: {}\nstateDir: {}\npolicies: [{}]\nworkloads: {{source: file, file: {}}}\n",
        root.cgroup.path.display(),
        at("agent"),
        at("policy.yaml"),
        at("pods.yaml")
    );
    site.write("agent.yaml", &config);
    let serve = |bpffs: &str| {
        let mut agent = site.command("pcigate-agent");
        agent.args(["serve", "--config", "agent.yaml", "--bpffs", bpffs]);
        agent
    };
    assert_says(&fail(&mut serve("/nowhere"), CANNOT), &["no bpffs", "mount -t bpf bpf /nowhere"]);
    let bpffs = Mounted::new("bpf", &site.path("bpffs"), "", MsFlags::MS_RDONLY);
    let path = bpffs.path.display().to_string();
    let said = fail(&mut serve(&path), CANNOT);
    assert_says(&said, &["read-only", &format!("mount -o remount,rw {path}")]);
}

#[test]
fn a_damaged_spool_segment_is_named_and_what_is_readable_is_still_sent() {
    let mut site = Site::new();
    let agent = |site: &Site| {
        let mut agent = site.command("pcigate-agent");
        agent.args(["exec", "--state-dir", "exec", "--tls-dir", "tls/node", "--", "/usr/bin/id"]);
        agent
    };
    succeed(&mut agent(&site));
    let spool = site.path("exec/node-1/0/spool");
    let segment = fs::read_dir(&spool)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .unwrap();
    let content = fs::read(&segment).unwrap();
    let at = content.windows(11).position(|window| window == b"/usr/bin/id").unwrap();
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_at(b"!", at as u64).unwrap();
    let said = fail(&mut agent(&site), CANNOT);
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert_says(&said, &[name, "--set-aside-corrupt-spool", "mv "]);
    let mut agent = site.command("pcigate-agent");
    site.start_collector();
    agent
        .args(["exec", "--set-aside-corrupt-spool", "--state-dir", "exec", "--tls-dir", "tls/node"])
        .args(["--collector", &site.url(), "--", "/usr/bin/whoami"]);
    succeed(&mut agent);
    // The damaged record, and the numbers nobody can tell whether they were ever used.
    let gaps = site.records(&["--kind", "gap"]);
    let first = gaps[0].pointer("/gap/first_seq").unwrap().to_string();
    let last = gaps[0].pointer("/gap/last_seq").unwrap().to_string();
    assert_eq!(first, last, "exactly one record could not be read");
    let exits = site.records(&["--kind", "exit"]);
    assert!(exits.len() > 2, "what stood behind the damaged record arrived: {exits:#?}");
}

#[test]
fn a_truncated_tile_keeps_the_collector_from_starting_and_is_named() {
    let mut site = Site::new();
    site.start_collector();
    succeed(&mut site.exec(&["/usr/bin/true"]));
    site.stop_collector(Signal::SIGTERM);
    let tile = site.newest_partial("ledger/tile/0/000.p");
    let content = fs::read(&tile).unwrap();
    fs::write(&tile, &content[..content.len() - 1]).unwrap();
    let mut collector = site.command("pcigate-collector");
    let output = output(collector.args(["serve", "--config", "collector.yaml"]));
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_says(&said, &["tile/0/000", "restore"]);
    fs::write(&tile, &content).unwrap();
    site.start_collector();
    assert!(!site.records(&["--kind", "exec"]).is_empty(), "put back, everything is there");
}
