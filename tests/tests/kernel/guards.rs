//! What governed tasks may not do to the agent, to their neighbours and to their own confinement.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{mount::MsFlags, sched::CloneFlags};
use pcigate_agent::{
    coverage::{self, Confinement},
    draft::{CapabilityState, Draft, Ending, Event, Subject},
    enforcer::ExecRefusal,
};
use pcigate_proto::{Enforcement, Verdict};
use pcigate_tests::{
    kernel::{Kernel, Setup},
    needs::{self, Need},
    site::Mounted,
};

const CONFINED: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  egress: {defaultAction: deny}
";

/// Nothing is decided; attacks are refused all the same.
fn open() -> String {
    CONFINED.replace("defaultAction: deny", "defaultAction: allow")
}

/// A process that waits for its end.
struct Victim(Child);

impl Victim {
    fn outside() -> Self {
        Self::start(&[])
    }

    fn in_cgroup(cgroup: &Path) -> Self {
        Self::start(&["--cgroup", cgroup.to_str().unwrap()])
    }

    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(pcigate_tests::program("pcigate-probe"));
        command.args(arguments).args(["attack:open:/dev/null", "read-line"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // The first line says that it is where it should be.
        let mut byte = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
        Self(child)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's default asks for `SYS_ADMIN` before anything else is looked at; upstream has no such
/// value.
struct Paranoid(String);

impl Paranoid {
    const SETTING: &str = "/proc/sys/kernel/perf_event_paranoid";

    fn as_upstream() -> Self {
        let before = fs::read_to_string(Self::SETTING).unwrap();
        fs::write(Self::SETTING, "2").unwrap();
        Self(before)
    }
}

impl Drop for Paranoid {
    fn drop(&mut self) {
        let _ = fs::write(Self::SETTING, &self.0);
    }
}

fn attacks_on(pid: u32) -> Vec<String> {
    let names =
        ["signal:PID,15", "signal:PID,19", "ptrace:PID", "limit:PID", "scheduler:PID", "nice:PID"];
    names.iter().map(|name| format!("attack:{}", name.replace("PID", &pid.to_string()))).collect()
}

fn probe(kernel: &Kernel, cgroup: &Path, actions: &[String]) -> Vec<String> {
    kernel.probe_in(cgroup, &actions.iter().map(String::as_str).collect::<Vec<_>>())
}

/// (rule, operation, object) of every attempt, each of which must be a refusal by the LSM.
fn attempts(drafts: &[Draft]) -> Vec<(String, &'static str, String)> {
    let attempts = drafts.iter().filter_map(|draft| match &draft.event {
        Event::Attempt { operation, object } => Some((draft, *operation, object)),
        _ => None,
    });
    let told = attempts.map(|(draft, operation, object)| {
        assert_eq!(draft.outcome.result, Ending::Refused);
        assert_eq!(draft.outcome.enforcement, Some(Enforcement::Lsm));
        let decision = draft.outcome.decision.as_ref().unwrap();
        assert_eq!(decision.verdict, Verdict::Deny);
        (decision.rule.id.as_str().to_owned(), operation, object.as_str().to_owned())
    });
    told.collect()
}

fn expected(rule: &str, all: &[(&'static str, String)]) -> Vec<(String, &'static str, String)> {
    all.iter().map(|(operation, object)| (rule.to_owned(), *operation, object.clone())).collect()
}

#[test]
fn a_governed_task_reaches_no_process_outside_of_its_pod_whatever_its_policy() {
    if !needs::met(&[Need::Kernel(6, 1), Need::BpfLsm]) {
        return;
    }
    let mut victim = Victim::outside();
    let pid = victim.pid();
    let mut kernel = Kernel::with_policy(&open());
    let mut actions = attacks_on(pid);
    actions.extend(["attack:bpf".into(), format!("attack:signal:{pid},0")]);
    let root = kernel.root().to_owned();
    let results = probe(&kernel, &root, &actions);
    assert_eq!(results[..7], ["EPERM"; 7]);
    assert_eq!(results[7], "ok", "that a process is there is no secret");
    assert!(victim.is_alive());
    let told = [
        ("signal", format!("signal 15 to process {pid}")),
        ("signal", format!("signal 19 to process {pid}")),
        ("ptrace", format!("process {pid}, mode 0x12")),
        ("process", format!("limits of process {pid}")),
        ("process", format!("scheduling of process {pid}")),
        ("process", format!("priority of process {pid}")),
        ("bpf", "command 11".to_owned()),
    ];
    let drafts = kernel.drafts();
    assert_eq!(attempts(&drafts), expected("pcigate/self-protection", &told));
    let memory = probe(&kernel, &root, &[format!("attack:memory:{pid}")]);
    assert!(["EPERM", "EACCES"].contains(&memory[0].as_str()), "{memory:?}");
    assert_eq!(attempts(&kernel.drafts()).len(), 1);
}

#[test]
fn containers_of_a_pod_reach_each_other_and_pods_do_not() {
    if !needs::met(&[Need::Kernel(6, 1), Need::BpfLsm]) {
        return;
    }
    let setup = Setup { policy: open(), ..Setup::default() };
    let mut kernel = Kernel::ungoverned(&setup);
    let root = kernel.root().to_owned();
    let at = |name: &str| root.join(name);
    for name in ["pod", "pod/one", "pod/two", "pod/two/nested", "other"] {
        fs::create_dir(at(name)).unwrap();
    }
    for name in ["pod", "pod/one", "pod/two", "other"] {
        kernel.govern(&at(name), "billing-bot");
    }
    for (name, result) in [("pod/one", "ok"), ("pod/two/nested", "ok"), ("other", "EPERM")] {
        let victim = Victim::in_cgroup(&at(name));
        let mut actions = attacks_on(victim.pid());
        actions.retain(|action| !action.contains("signal"));
        actions.push(format!("attack:signal:{},18", victim.pid()));
        let results = probe(&kernel, &at("pod/two"), &actions);
        assert!(results.iter().all(|one| one == result), "{name}: {actions:?} {results:?}");
    }
    // A cgroup that no workload is known for is a pod of its own.
    fs::create_dir(at("unknown")).unwrap();
    let victim = Victim::in_cgroup(&at("pod/one"));
    let setup = [format!("attack:signal:{},18", victim.pid())];
    assert_eq!(probe(&kernel, &at("unknown"), &setup), ["EPERM"]);
}

#[test]
fn pins_are_kept_from_every_governed_task() {
    if !needs::met(&[Need::Kernel(6, 1), Need::BpfLsm]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let bpffs = Mounted::new("bpf", &directory.path().join("bpffs"), "", MsFlags::empty());
    let at = |name: &str| bpffs.path.join(name).display().to_string();
    std::os::unix::fs::symlink("nowhere", at("pin")).unwrap();
    fs::create_dir(at("links")).unwrap();
    let mut kernel = Kernel::with_policy(&open());
    let actions = [
        format!("attack:unlink:{}", at("pin")),
        format!("attack:rename:{},{}", at("links"), at("elsewhere")),
        format!("attack:mkdir:{}", at("new")),
        format!("attack:umount:{}", bpffs.path.display()),
    ];
    let root = kernel.root().to_owned();
    assert_eq!(probe(&kernel, &root, &actions), ["EPERM"; 4]);
    assert!(fs::symlink_metadata(at("pin")).is_ok() && fs::exists(at("links")).unwrap());
    let told = ["pin", "links", "new", "/"].map(|name| ("write", name.to_owned()));
    assert_eq!(attempts(&kernel.drafts()), expected("pcigate/self-protection", &told));
}

#[test]
fn a_confined_task_stays_in_its_cgroup_and_namespaces_and_cannot_build_a_way_out() {
    if !needs::met(&[Need::Kernel(6, 1), Need::BpfLsm]) {
        return;
    }
    let victim = Victim::outside();
    let directory = tempfile::tempdir().unwrap();
    let _paranoid = Paranoid::as_upstream();
    let mut kernel = Kernel::with_policy(CONFINED);
    let root = kernel.root().to_owned();
    let tree = root.parent().unwrap().display();
    let attacks: [(String, &'static str, &str); 11] = [
        (format!("open:{tree}/cgroup.procs"), "write", "cgroup.procs"),
        (format!("open:{}/cgroup.freeze", root.display()), "write", "cgroup.freeze"),
        (format!("mkdir:{tree}/pcigate-elsewhere"), "write", "pcigate-elsewhere"),
        (format!("mkdir:{}/below", root.display()), "write", "below"),
        (format!("clone:{tree}"), "write", "clone3"),
        ("unshare-user".into(), "namespace", "flags 0x10000000"),
        ("unshare-net".into(), "capability", "CAP_SYS_ADMIN"),
        ("unshare-mount".into(), "capability", "CAP_SYS_ADMIN"),
        (format!("mount:{}", directory.path().display()), "capability", "CAP_SYS_ADMIN"),
        ("buffer".into(), "capability", "CAP_NET_ADMIN"),
        ("perf".into(), "perf", "any event"),
    ];
    let actions = attacks.each_ref().map(|(action, ..)| format!("inside:attack:{action}"));
    assert_eq!(probe(&kernel, &root, &actions), ["EPERM"; 11], "{actions:#?}");
    let told = attacks.each_ref().map(|(_, operation, object)| (*operation, (*object).to_owned()));
    assert_eq!(attempts(&kernel.drafts()), expected("pcigate/isolation", &told));
    // The namespace of another process is out of reach by two guards.
    let setns = [format!("inside:attack:setns:{}", victim.pid())];
    assert!(["EPERM", "EACCES"].contains(&probe(&kernel, &root, &setns)[0].as_str()));
    assert_eq!(attempts(&kernel.drafts())[0].1, "ptrace");
    // The same attacks work for a workload that has another way out anyway.
    let mut open = Kernel::with_policy(&open());
    let root = open.root().to_owned();
    let actions: Vec<String> = actions.iter().filter(|a| !a.contains("mkdir")).cloned().collect();
    assert_eq!(probe(&open, &root, &actions), vec!["ok"; actions.len()], "{actions:#?}");
    assert_eq!(attempts(&open.drafts()), []);
}

#[test]
fn confinement_in_audit_mode_lets_through_and_says_what_it_would_have_refused() {
    if !needs::met(&[Need::Kernel(6, 1), Need::BpfLsm]) {
        return;
    }
    let mut kernel = Kernel::with_policy(&CONFINED.replace("mode: enforce", "mode: audit"));
    let root = kernel.root().to_owned();
    assert_eq!(probe(&kernel, &root, &["inside:attack:unshare-net".into()]), ["ok"]);
    let drafts = kernel.drafts();
    let attempt = drafts.iter().find(|draft| matches!(draft.event, Event::Attempt { .. })).unwrap();
    assert_eq!(attempt.outcome.result, Ending::Success);
    assert_eq!(attempt.outcome.decision.as_ref().unwrap().verdict, Verdict::Allow);
    let remark = attempt.outcome.audit.as_ref().unwrap();
    let told = (remark.verdict, remark.rule.id.as_str());
    assert_eq!(told, (Verdict::Deny, "pcigate/isolation"));
}

#[test]
fn ordinary_programs_go_on_under_confinement_without_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let mut kernel = Kernel::with_policy(CONFINED);
    let action = format!("inside:attack:ordinary:{}", directory.path().display());
    let root = kernel.root().to_owned();
    assert_eq!(probe(&kernel, &root, &[action]), ["ok"]);
    assert_eq!(attempts(&kernel.drafts()), []);
}

#[test]
fn a_process_on_its_way_into_a_container_is_confined_from_its_first_exec_on() {
    if !needs::met(&[Need::Kernel(6, 1), Need::BpfLsm]) {
        return;
    }
    let kernel = Kernel::with_policy(CONFINED);
    let directory = tempfile::tempdir().unwrap();
    let action = format!("attack:mount:{}", directory.path().display());
    let (inside, both) = (format!("inside:{action}"), format!("inside:inside:{action}"));
    let actions = [action.clone(), inside, both, action];
    // As a container runtime's helper does, which is then replaced by the container's program.
    assert_eq!(
        kernel.probe(&actions.each_ref().map(String::as_str)),
        ["ok", "EPERM", "EPERM", "ok"]
    );
    // Made there directly from outside, as newer runtimes do.
    let clone = format!("attack:clone:{}", kernel.root().display());
    let outside =
        Command::new(pcigate_tests::program("pcigate-probe")).arg(clone).output().unwrap();
    assert!(String::from_utf8(outside.stdout).unwrap().ends_with(" ok\n"));
}

/// As `kubectl exec` does: into the cgroup, then into the namespaces, then the command.
#[test]
fn a_process_that_enters_the_namespaces_and_the_cgroup_of_a_pod_is_governed_as_that_pod() {
    let mut kernel = Kernel::ungoverned(&Setup { policy: CONFINED.into(), ..Setup::default() });
    let pod = kernel.root().join("pod");
    fs::create_dir(&pod).unwrap();
    kernel.govern(&pod, "billing-bot");
    let spawned = std::thread::spawn({
        let pod = pod.clone();
        move || {
            // The container's own namespaces, made by this thread alone.
            let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
            nix::sched::unshare(own).unwrap();
            Victim::in_cgroup(&pod)
        }
    });
    let container = spawned.join().unwrap();
    let link = |kind| fs::read_link(format!("/proc/{}/ns/{kind}", container.pid())).unwrap();
    for kind in ["mnt", "net", "pid"] {
        assert_ne!(link(kind), fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
    }
    kernel.drafts();
    let enter = format!("enter:{}", container.pid());
    let actions = [enter, "tcp:127.0.0.1:9".into(), "inside:udp:127.0.0.1:9".into()];
    assert_eq!(probe(&kernel, &pod, &actions), ["ok", "EPERM", "EPERM"]);
    let drafts = kernel.drafts();
    let refused = drafts.iter().filter(|draft| matches!(draft.event, Event::Egress { .. }));
    let mut count = 0;
    for draft in refused {
        count += 1;
        assert_eq!(draft.outcome.decision.as_ref().unwrap().verdict, Verdict::Deny);
        let Subject::Workload(workload) = &draft.subject else { panic!("{:?}", draft.subject) };
        assert_eq!(workload.pod.as_str(), "billing-bot");
        assert_ne!(draft.process.as_ref().unwrap().pid, container.pid());
    }
    assert_eq!(count, 2);
}

#[test]
fn without_bpf_lsm_the_guards_are_named_as_missing_and_are_missing() {
    if !needs::met(&[Need::Kernel(6, 1), Need::NoBpfLsm]) {
        return;
    }
    let victim = Victim::outside();
    let mut kernel = Kernel::with_policy(CONFINED);
    let root = kernel.root().to_owned();
    let directory = tempfile::tempdir().unwrap();
    let actions = [
        format!("attack:signal:{},18", victim.pid()),
        format!("attack:ptrace:{}", victim.pid()),
        "attack:bpf".into(),
        "attack:unshare-net".into(),
        format!("inside:attack:mount:{}", directory.path().display()),
    ];
    assert_eq!(probe(&kernel, &root, &actions), ["ok"; 5]);
    assert_eq!(attempts(&kernel.drafts()), []);
    let ExecRefusal::Kill { reason } = &kernel.refusal else { panic!("there is no BPF-LSM") };
    let all = coverage::capabilities(&kernel.refusal, Confinement::Runtime { pinned: true });
    for name in ["self-protection", "isolation"] {
        let row = all.iter().find(|capability| capability.name == name).unwrap();
        assert_eq!(row.state, CapabilityState::NotEnforceableHere);
        let why = format!(
            ": no BPF-LSM ({reason}); the container runtime's capabilities and seccomp must hold"
        );
        assert!(row.reason.as_str().ends_with(&why), "{}", row.reason.as_str());
    }
}
