//! Whose event it was: processes that hardly live, pids used again, pods made anew, and containers
//! that share processes.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pcigate_agent::draft::{Draft, Event, Subject};
use pcigate_tests::{
    kernel::{Kernel, Setup},
    needs::{self, Need},
    table, wait,
};

const POLICY: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  egress: {defaultAction: deny}
";
const TRUE: &str = "/usr/bin/true";

fn setup() -> Setup {
    Setup { policy: POLICY.into(), ring: 16 * 1024 * 1024, ..Setup::default() }
}

/// The pod a draft is attributed to; `None` for an unknown workload.
fn pod(draft: &Draft) -> Option<&str> {
    match &draft.subject {
        Subject::Workload(workload) => Some(workload.pod.as_str()),
        _ => None,
    }
}

fn executable(draft: &Draft) -> Option<&str> {
    Some(draft.process.as_ref()?.executable.as_ref()?.as_str())
}

/// The program a draft is of: the new one of an exec, the running one of everything else.
fn program(draft: &Draft) -> Option<&str> {
    match &draft.event {
        Event::Exec(exec) => Some(exec.path.as_str()),
        _ => executable(draft),
    }
}

/// Execs, exits and all else of one program.
fn of<'a>(drafts: &'a [Draft], program: &'a str) -> impl Iterator<Item = &'a Draft> {
    drafts.iter().filter(move |draft| self::program(draft) == Some(program))
}

/// As fast as two processes can, until there were 10,000, or a slow machine has had its time.
#[test]
fn ten_thousand_processes_that_live_for_an_instant_are_each_attributed() {
    const AT_A_TIME: usize = 200;
    const ALL: usize = 10_000;
    let mut kernel = Kernel::start(&setup());
    let began = Instant::now();
    let (mut ran, mut drafts) = (0, Vec::new());
    while ran < ALL && (ran == 0 || began.elapsed() < Duration::from_secs(20)) {
        let action = format!("fork-exec:{}:{TRUE}", AT_A_TIME / 2);
        std::thread::scope(|scope| {
            let one = scope.spawn(|| kernel.probe(&[&action]));
            assert_eq!(kernel.probe(&[&action]), ["ok"]);
            assert_eq!(one.join().unwrap(), ["ok"]);
        });
        ran += AT_A_TIME;
        drafts.extend(kernel.drafts());
        assert!(kernel.lost().is_empty(), "a ring was too small");
    }
    let per_second = ran as f64 / began.elapsed().as_secs_f64();
    table::measured(&format!("{ran} processes, {per_second:.0} a second"));
    let nobody: Vec<_> = drafts.iter().filter(|draft| pod(draft) != Some("billing-bot")).collect();
    assert!(nobody.is_empty(), "{} records of nobody: {:?}", nobody.len(), nobody.first());
    let execs = of(&drafts, TRUE).filter(|draft| matches!(draft.event, Event::Exec(_))).count();
    let exits = of(&drafts, TRUE).filter(|draft| matches!(draft.event, Event::Exit { .. })).count();
    assert_eq!((execs, exits), (ran, ran));
}

/// Runs `program` in the cgroup with this pid, where nobody else takes it first.
fn run_as(kernel: &Kernel, pid: u32, program: &str) -> bool {
    let probe = pcigate_tests::program("pcigate-probe");
    let mut command = Command::new(probe);
    command.arg("--cgroup").arg(kernel.root()).arg(format!("exec:{program}"));
    fs::write("/proc/sys/kernel/ns_last_pid", format!("{}", pid - 2)).unwrap();
    // The probe is to have the number before, and its child this one.
    command.stdout(Stdio::null()).status().unwrap().success()
}

#[test]
fn a_pid_used_again_is_another_process_with_its_own_program() {
    if !needs::met(&[Need::MachinePids]) {
        return;
    }
    let mut kernel = Kernel::start(&setup());
    assert!(run_as(&kernel, 30_000, TRUE));
    let first = kernel.drafts();
    let first = of(&first, TRUE).next().unwrap().process.clone().unwrap();
    let again = wait::until("the same pid once more", || {
        assert!(run_as(&kernel, first.pid, "/usr/bin/env"));
        let drafts = kernel.drafts();
        let is_it = |draft: &&Draft| draft.process.as_ref().unwrap().pid == first.pid;
        let again: Vec<Draft> = of(&drafts, "/usr/bin/env").filter(is_it).cloned().collect();
        (!again.is_empty()).then_some(again)
    });
    assert_eq!(again.len(), 2, "an exec and an exit, both of the second program");
    let starts: Vec<u64> =
        again.iter().map(|d| d.process.as_ref().unwrap().start_boottime_ns).collect();
    assert!(starts.iter().all(|start| *start > first.start_boottime_ns && *start == starts[0]));
}

#[test]
fn a_pod_made_anew_is_unknown_until_it_is_governed_and_then_itself_again() {
    let mut kernel = Kernel::ungoverned(&setup());
    let pod_cgroup = kernel.root().join("pod");
    let mut ids = Vec::new();
    for _ in 0..2 {
        fs::create_dir(&pod_cgroup).unwrap();
        ids.push(pcigate_agent::cgroup::open(&pod_cgroup).unwrap().id);
        assert_eq!(kernel.probe_in(&pod_cgroup, &["udp-connected:127.0.0.1:9"]), ["EPERM"]);
        let unknown = kernel.drafts();
        assert!(unknown.iter().all(|draft| pod(draft).is_none()), "a name from before");
        kernel.govern(&pod_cgroup, "billing-bot");
        assert_eq!(kernel.probe_in(&pod_cgroup, &["udp-connected:127.0.0.1:9"]), ["EPERM"]);
        let known = kernel.drafts();
        assert!(known.iter().all(|draft| pod(draft) == Some("billing-bot")));
        let refused = known.iter().find(|d| matches!(d.event, Event::Egress { .. })).unwrap();
        assert_eq!(refused.outcome.decision.as_ref().unwrap().rule.id.as_str(), "default");
        wait::until("an empty cgroup", || fs::remove_dir(&pod_cgroup).ok());
    }
    assert_ne!(ids[0], ids[1], "the kernel gives a new cgroup a new id");
}

#[test]
fn containers_that_share_their_processes_are_each_attributed_to_themselves() {
    let mut kernel = Kernel::ungoverned(&setup());
    let (one, other) = (kernel.root().join("one"), kernel.root().join("other"));
    for (cgroup, pod) in [(&one, "one"), (&other, "other")] {
        fs::create_dir(cgroup).unwrap();
        kernel.govern(cgroup, pod);
    }
    let probe = pcigate_tests::program("pcigate-probe");
    let inner = |cgroup: &Path| format!("{} --cgroup {}", probe.display(), cgroup.display());
    // Process 1 of the namespace is nobody's; each of its children enters a container.
    let first = format!("exec:{} exec:/usr/bin/true", inner(&one));
    let second = format!("exec:{} exec:/usr/bin/env", inner(&other));
    let status = Command::new("/bin/busybox")
        .args(["unshare", "-p", "-f"])
        .arg(&probe)
        .args([second.as_str(), first.as_str()])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let drafts = kernel.drafts();
    let pods = |program| {
        let mut pods: Vec<_> = of(&drafts, program).map(pod).collect();
        pods.dedup();
        pods
    };
    assert_eq!(pods(TRUE), [Some("one")]);
    assert_eq!(pods("/usr/bin/env"), [Some("other")]);
}
