//! What the agent can still do once it enforces, and that it works with no more than that.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
};

use caps::{CapSet, Capability};
use nix::{mount::MsFlags, sys::signal::Signal};
use pcigate_agent::{cgroup, privileges};
use pcigate_tests::{
    kernel::Kernel,
    needs::{self, Need},
    program,
    site::{CONTAINER_ID, Mounted, POD_UID, Running, Site, start},
    wait,
};
use tempfile::TempDir;

/// A pod root, a bpffs and a configuration without a collector.
struct Node {
    directory: TempDir,
    root: cgroup::Owned,
    _bpffs: Mounted,
}

impl Node {
    fn new(name: &str) -> Self {
        pcigate_tests::need_root();
        let directory = tempfile::tempdir().unwrap();
        let root = cgroup::create(&format!("{name}-{}", std::process::id())).unwrap();
        let bpffs = Mounted::new("bpf", &directory.path().join("bpffs"), "", MsFlags::empty());
        let node = Self { directory, root, _bpffs: bpffs };
        node.write("policy.yaml", pcigate_tests::site::POLICY);
        node.write("pods.yaml", &Site::pod_list());
        let config = format!(
            "cgroupRoot: {}\nstateDir: {}\npolicies: [{}]\nnodeName: node-1\n\
             workloads: {{source: file, file: {}}}\n",
            node.root.cgroup.path.display(),
            node.at("state"),
            node.at("policy.yaml"),
            node.at("pods.yaml"),
        );
        node.write("agent.yaml", &config);
        fs::create_dir_all(node.container()).unwrap();
        node
    }

    fn at(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    fn serve(&self) -> Command {
        let mut agent = Command::new(program("pcigate-agent"));
        agent.args(["serve", "--config", &self.at("agent.yaml")]);
        agent.args(["--bpffs", &self.at("bpffs")]).stdin(Stdio::null());
        agent
    }

    /// Directory of the pod's container, as the kubelet and containerd make it.
    fn container(&self) -> std::path::PathBuf {
        let pod = format!("kubepods-burstable-pod{}.slice", POD_UID.replace('-', "_"));
        let path = self.root.cgroup.path.join("kubepods-burstable.slice").join(pod);
        path.join(format!("cri-containerd-{CONTAINER_ID}.scope"))
    }

    fn probe(&self, action: &str) -> String {
        let mut probe = Command::new(program("pcigate-probe"));
        let output = probe.arg("--cgroup").arg(self.container()).arg(action).output().unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        line.trim().rsplit(' ').next().unwrap().to_owned()
    }
}

/// The fields of a thread's status.
type Status = BTreeMap<String, String>;

fn threads(pid: i32) -> Vec<Status> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = |task: Result<fs::DirEntry, _>| {
        // A thread may end meanwhile.
        let text = fs::read_to_string(task.unwrap().path().join("status")).ok()?;
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Some(fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    };
    tasks.filter_map(status).collect()
}

/// Whether a thread has these capabilities and no others anywhere, and a filter.
fn has_only(kept: &[Capability], thread: &Status) -> bool {
    let mask = kept.iter().fold(0, |mask, capability| mask | capability.bitmask());
    let is = |set: &str, mask: u64| u64::from_str_radix(&thread[set], 16).unwrap() == mask;
    ["CapPrm", "CapEff", "CapBnd"].iter().all(|set| is(set, mask))
        && ["CapInh", "CapAmb"].iter().all(|set| is(set, 0))
        && thread["NoNewPrivs"] == "1"
        && thread["Seccomp"] == "2"
}

#[test]
fn every_thread_of_serve_gives_up_what_it_no_longer_needs_and_the_agent_goes_on_working() {
    let node = Node::new("privileges");
    let (agent, line): (Running, String) = start(&mut node.serve());
    assert!(line.starts_with("pcigate-agent ready: governing "), "{line}");
    let all = threads(agent.pid());
    assert!(all.len() > 3, "recorder, sensor and the runtime's: {all:#?}");
    for thread in &all {
        assert!(has_only(&privileges::SERVE, thread), "{thread:#?}");
    }
    // Policies are read again and written to the kernel, records to the spool.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = format!("tcp:{}", listener.local_addr().unwrap());
    wait::until("the pod's policy", || (node.probe(&connect) == "EPERM").then_some(()));
    let open = pcigate_tests::site::POLICY.replace("defaultAction: deny", "defaultAction: allow");
    node.write("policy.yaml", &open);
    agent.signal(Signal::SIGHUP);
    wait::until("the new policy", || (node.probe(&connect) == "ok").then_some(()));
    let spool = node.directory.path().join("state/spool");
    wait::until("records on disk", || (bytes(&spool) > 0).then_some(()));
    for thread in threads(agent.pid()) {
        assert!(has_only(&privileges::SERVE, &thread), "also those made later: {thread:#?}");
    }
    agent.signal(Signal::SIGTERM);
    assert!(agent.wait(), "a good end");
}

fn bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).unwrap();
    files.map(|file| file.unwrap().metadata().map_or(0, |metadata| metadata.len())).sum()
}

#[test]
fn an_agent_in_a_cgroup_namespace_of_its_own_serves_from_the_machines() {
    let node = Node::new("cgroup-namespace");
    let mut agent = node.serve();
    // A namespace belongs to a thread, and a program it starts is in it.
    let started = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).unwrap();
        start(&mut agent)
    });
    let (agent, line) = started.join().unwrap();
    assert!(line.starts_with("pcigate-agent ready: governing "), "{line}");
    let inode = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/cgroup")).unwrap();
    assert_eq!(inode(&agent.pid().to_string()), inode("self"));
    agent.end(Signal::SIGTERM);
}

#[test]
fn the_agent_beside_a_command_gives_up_what_it_no_longer_needs_too() {
    pcigate_tests::need_root();
    let directory = tempfile::tempdir().unwrap();
    let mut agent = Command::new(program("pcigate-agent"));
    agent.args(["exec", "--state-dir"]).arg(directory.path().join("state")).arg("--");
    agent.arg(program("pcigate-probe")).args(["write:/dev/null", "read-line"]);
    let (agent, line) = start(agent.stdin(Stdio::piped()));
    assert_eq!(line, "write:/dev/null ok");
    wait::until("the agent's threads to have given up", || {
        let all = threads(agent.pid());
        all.iter().all(|thread| has_only(&privileges::EXEC, thread)).then_some(())
    });
    agent.end(Signal::SIGTERM);
}

#[test]
fn an_agent_that_cannot_give_up_its_privileges_does_not_start_and_says_what_would_help() {
    let node = Node::new("no-setpcap");
    let (sender, receiver) = mpsc::channel();
    let mut agent = node.serve();
    // Capabilities belong to a thread, and a program it starts has no others.
    std::thread::spawn(move || {
        caps::drop(None, CapSet::Bounding, Capability::CAP_SETPCAP).unwrap();
        sender.send(agent.output().unwrap()).unwrap();
    });
    let output = receiver.recv().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(125), "{message}");
    assert!(output.stdout.is_empty(), "it never says that it is ready");
    assert!(message.contains("cannot give up capabilities: thread "), "{message}");
    assert!(message.contains("CapBnd") && message.contains("CAP_SETPCAP"), "{message}");
}

#[test]
fn the_maps_are_written_without_any_capability() {
    if !needs::met(&[Need::Kernel(5, 19)]) {
        return;
    }
    let unprivileged = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap();
    assert_ne!(unprivileged.trim(), "0", "otherwise this shows nothing");
    let policy = pcigate_tests::site::POLICY;
    let mut kernel = Kernel::with_policy(policy);
    let below = kernel.root().join("below");
    fs::create_dir(&below).unwrap();
    let kernel = std::thread::spawn(move || {
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::clear(None, set).unwrap();
        }
        kernel.govern(&below, "billing-bot");
        kernel
    });
    assert_eq!(kernel.join().unwrap().probe(&["tcp:127.0.0.1:9"]), ["EPERM"]);
}

#[test]
fn the_programs_are_loaded_and_attached_with_the_capabilities_listed() {
    let with_all = Kernel::with_policy(pcigate_tests::site::POLICY).refusal;
    let limited = std::thread::spawn(|| {
        let mut held = caps::CapsHashSet::from(privileges::TO_START);
        // The root of the cgroup tree, where the test makes its own, may be read-only.
        held.insert(Capability::CAP_DAC_OVERRIDE);
        caps::set(None, CapSet::Effective, &held).unwrap();
        caps::set(None, CapSet::Permitted, &held).unwrap();
        let kernel = Kernel::with_policy(pcigate_tests::site::POLICY);
        let result = kernel.probe(&["tcp:127.0.0.1:9"]);
        (kernel.refusal, result)
    });
    assert_eq!(limited.join().unwrap(), (with_all, vec!["EPERM".to_owned()]));
}
