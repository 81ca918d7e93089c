//! The start of a container: who makes a cgroup is heard at once, and with the hook of a real
//! runtime a container's first instruction is governed.

use std::{fs, path::PathBuf, process::Command};

use nix::{mount::MsFlags, sys::signal::Signal};
use pcigate_agent::{
    cgroup,
    spool::{Limits, Spool},
};
use pcigate_proto::{
    Message as _, Record,
    record::{Event, Subject},
};
use pcigate_tests::{
    kernel::{Kernel, Setup},
    needs::{self, Need},
    site::{Mounted, Running, output, start},
    wait,
};
use serde_json::json;

const UID: &str = "1a2b3c4d-0000-4000-8000-1234567890ab";
const CONTAINER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const POLICY: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {matchLabels: {app: billing-bot}}
  mode: enforce
  exec: {defaultAction: allow, rules: [{id: no-ls, action: deny, paths: [/bin/ls]}]}
  egress: {defaultAction: deny}
";

#[test]
fn a_new_cgroup_is_heard_of_without_looking_for_it() {
    let mut kernel = Kernel::ungoverned(&Setup::default());
    let doorbell = kernel.doorbell();
    let rung = doorbell.rung();
    let new = kernel.root().join("new");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        fs::create_dir(&new).unwrap();
        tokio::time::timeout(wait::DEADLINE, rung.notified()).await.unwrap();
    });
}

/// An agent that serves a cgroup, and a bundle for runc.
struct Node {
    directory: tempfile::TempDir,
    root: cgroup::Owned,
    _bpffs: Mounted,
}

impl Node {
    fn new(name: &str) -> Self {
        pcigate_tests::need_root();
        let directory = tempfile::tempdir().unwrap();
        let root = cgroup::create(&format!("test-{name}-{}", std::process::id())).unwrap();
        let bpffs = Mounted::new("bpf", &directory.path().join("bpffs"), "", MsFlags::empty());
        let node = Self { directory, root, _bpffs: bpffs };
        node.write("policy.yaml", POLICY);
        node.write("pods.yaml", "apiVersion: v1\nkind: PodList\nitems: []\n");
        let at = |name: &str| node.path(name).display().to_string();
        node.write(
            "agent.yaml",
            &format!(
                "cgroupRoot: {}\nstateDir: {}\npolicies: [{}]\nnodeName: node-1\n\
                 workloads: {{source: file, file: {}}}\n",
                node.root.cgroup.path.display(),
                at("state"),
                at("policy.yaml"),
                at("pods.yaml"),
            ),
        );
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The pod is in the list from now on.
    fn list_pod(&self) {
        let new = "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: billing-bot, \
                   namespace: payments, uid: UID, labels: {app: billing-bot}}\n  spec: \
                   {serviceAccountName: billing-bot, containers: [{name: bot}]}\n";
        // In one step: the agent reads it at any time.
        self.write("pods.new", &new.replace("UID", UID));
        fs::rename(self.path("pods.new"), self.path("pods.yaml")).unwrap();
    }

    fn serve(&self) -> Running {
        let mut agent = Command::new(pcigate_tests::program("pcigate-agent"));
        agent.args(["serve", "--config"]).arg(self.path("agent.yaml"));
        start(agent.arg("--bpffs").arg(self.path("bpffs"))).0
    }

    /// A bundle whose container runs `words` of busybox, with the hook waiting for so many seconds.
    fn bundle(&self, within: u32, words: &[&str]) {
        let bin = self.path("bundle/rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(self.path("bundle/rootfs/proc")).unwrap();
        for name in ["busybox", "ls"] {
            fs::copy("/bin/busybox", bin.join(name)).unwrap();
        }
        let agent = pcigate_tests::program("pcigate-agent").display().to_string();
        let config = self.path("agent.yaml").display().to_string();
        let within = within.to_string();
        let hook = ["pcigate-agent", "oci-hook", "--config", &config, "--within", &within];
        let name = self.root.cgroup.path.file_name().unwrap().to_str().unwrap();
        let bundle = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": words},
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "hooks": {"createRuntime": [{"path": agent, "args": hook}]},
            "linux": {
                "cgroupsPath": format!("/{name}/pod{UID}/{CONTAINER}"),
                "namespaces": [{"type": "pid"}, {"type": "mount"}],
            },
        });
        self.write("bundle/config.json", &bundle.to_string());
    }

    /// Whether the hook of this node's container runs.
    fn hook_waits(&self) -> bool {
        let config = self.path("agent.yaml").display().to_string();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        lines.map(|line| String::from_utf8_lossy(&line).into_owned()).any(|line| {
            let words: Vec<&str> = line.split('\0').collect();
            words.contains(&"oci-hook") && words.contains(&config.as_str())
        })
    }

    fn runc(&self) -> Command {
        let mut runc = Command::new("runc");
        runc.arg("--root").arg(self.path("runc")).args(["run", "--bundle"]);
        runc.arg(self.path("bundle")).arg(CONTAINER);
        runc
    }

    /// Everything that was recorded, once the agent has ended.
    fn records(&self) -> Vec<Record> {
        let mut spool = Spool::open(&self.path("state/spool"), Limits::default()).unwrap();
        let batch = spool.read(1, usize::MAX, usize::MAX).unwrap();
        batch.records.iter().map(|bytes| Record::decode(&bytes[..]).unwrap()).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // runc makes the same cgroup in every hierarchy of a hybrid layout.
        let name = self.root.cgroup.path.file_name().unwrap_or_default().to_owned();
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            for below in [&*format!("pod{UID}/{CONTAINER}"), &format!("pod{UID}"), ""] {
                let _ = fs::remove_dir(hierarchy.path().join(&name).join(below));
            }
        }
    }
}

/// Of the records of programs in the container: whether the workload was known, and what ran.
fn programs(records: &[Record]) -> Vec<(bool, &str)> {
    let known = |record: &Record| match record.subject.as_ref() {
        Some(Subject::Workload(workload)) => !workload.unknown && workload.pod == "billing-bot",
        _ => false,
    };
    let execs = records.iter().filter_map(|record| match record.event.as_ref() {
        Some(Event::Exec(exec)) => Some((known(record), exec.path.as_str())),
        _ => None,
    });
    execs.collect()
}

#[test]
fn the_first_instruction_of_a_container_is_governed_even_when_its_pod_is_known_late() {
    if !needs::met(&[Need::Program("runc")]) {
        return;
    }
    let node = Node::new("runc");
    let agent = node.serve();
    node.bundle(30, &["/bin/busybox", "sh", "-c", "/bin/ls; exit 7"]);
    let mut runc = node.runc();
    let running = std::thread::spawn(move || output(&mut runc));
    // Not before: runc's helper may execute itself again in the container's cgroup, as a file
    // without a path.
    wait::until("the hook", || node.hook_waits().then_some(()));
    node.list_pod();
    let ended = running.join().unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(7), "{errors}");
    agent.end(Signal::SIGTERM);
    let records = node.records();
    assert_eq!(programs(&records), [(true, "/bin/busybox"), (true, "/bin/ls")]);
    let refused = records
        .iter()
        .filter(|record| record.outcome.as_ref().is_some_and(|outcome| outcome.rule == "no-ls"));
    assert!(refused.count() > 0, "its first programs are already under its policy");
}

#[test]
fn a_container_nobody_knows_does_not_start_and_neither_does_any_without_an_agent() {
    if !needs::met(&[Need::Program("runc")]) {
        return;
    }
    let node = Node::new("runc-unknown");
    node.bundle(1, &["/bin/busybox", "true"]);
    let ended = output(&mut node.runc());
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && errors.contains("no agent listens"), "{errors}");

    let agent = node.serve();
    let ended = output(&mut node.runc());
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && errors.contains("did not know it within 1 s"), "{errors}");
    agent.end(Signal::SIGTERM);
    assert_eq!(programs(&node.records()), [], "nothing of it ran");
}
