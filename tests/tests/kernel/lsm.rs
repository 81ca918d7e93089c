//! How an exec is refused: by BPF-LSM where it works, and by SIGKILL, named as such, where not.

use std::{fs, path::Path, process::Command};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use pcigate_agent::{
    coverage::{self, Confinement},
    draft::{Draft, Ending, Event, Exec},
    enforcer::ExecRefusal,
    preflight,
};
use pcigate_proto::Enforcement;
use pcigate_tests::{
    kernel::Kernel,
    needs::{self, Need},
};

/// One program, and all in one directory, are refused.
fn policy(program: &str) -> String {
    format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{serviceAccountNames: [billing-bot]}}
  mode: enforce
  exec:
    defaultAction: allow
    rules:
      - {{id: not-that, action: deny, paths: [\"{program}\"]}}
"
    )
}

fn copy_of_true(directory: &Path) -> String {
    let path = directory.join("denied");
    fs::copy("/bin/true", &path).unwrap();
    path.to_str().unwrap().to_owned()
}

fn refused(drafts: &[Draft]) -> (&Draft, &Exec) {
    let mut execs = drafts.iter().filter_map(|draft| match &draft.event {
        Event::Exec(exec) if draft.outcome.result == Ending::Refused => Some((draft, exec)),
        _ => None,
    });
    execs.next().unwrap()
}

/// What `doctor` says about one thing.
fn doctor(name: &str) -> String {
    let output = Command::new(pcigate_tests::program("pcigate-agent")).arg("doctor").output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

#[test]
fn where_bpf_lsm_is_active_an_exec_fails_with_eperm_and_the_caller_lives() {
    if !needs::met(&[Need::Kernel(6, 1), Need::BpfLsm]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let denied = copy_of_true(directory.path());
    let mut kernel = Kernel::with_policy(&policy(&denied));
    assert_eq!(kernel.refusal, ExecRefusal::Lsm, "listed, so it must fire");
    let actions = [format!("exec:{denied}"), format!("thread-exec:{denied}")];
    assert_eq!(
        kernel.probe(&[&actions[0], &actions[1], "exec:/bin/true"]),
        ["EPERM", "EPERM", "ok"]
    );
    let drafts = kernel.drafts();
    let (draft, exec) = refused(&drafts);
    assert_eq!(draft.outcome.enforcement, Some(Enforcement::Lsm));
    assert_eq!(exec.path.as_str(), denied);
    assert!(exec.args_unavailable, "arguments are not in place when the LSM is asked");
    assert!(doctor("exec-refusal").contains("EPERM by BPF-LSM"));
}

#[test]
fn where_bpf_lsm_is_active_a_script_is_refused_by_its_own_path() {
    if !needs::met(&[Need::Kernel(6, 1), Need::BpfLsm]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    fs::copy("/bin/true", &script).expect("for its mode");
    fs::write(&script, "#!/bin/sh\ntrue\n").unwrap();
    // Called by another name, so that only the resolved path can match.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&script, &link).unwrap();
    let mut kernel = Kernel::with_policy(&policy(script.to_str().unwrap()));
    assert_eq!(kernel.probe(&[&format!("exec:{}", link.display())]), ["EPERM"]);
    let drafts = kernel.drafts();
    assert_eq!(refused(&drafts).1.path.as_str(), script.to_str().unwrap());
}

#[test]
fn where_bpf_is_not_among_the_active_lsms_execs_are_killed_and_doctor_and_coverage_say_so() {
    if !needs::met(&[Need::BpfLsmNotListed]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let denied = copy_of_true(directory.path());
    let mut kernel = Kernel::with_policy(&policy(&denied));
    let list = fs::read_to_string(preflight::LSM_LIST).unwrap();
    let reason = format!("bpf is not among the active LSMs ({})", list.trim());
    assert_eq!(kernel.refusal, ExecRefusal::Kill { reason: reason.clone() });
    assert_eq!(kernel.probe(&[&format!("exec:{denied}")]), ["signal-9"]);
    assert_eq!(refused(&kernel.drafts()).0.outcome.enforcement, Some(Enforcement::Kill));
    let said = format!("SIGKILL before the first instruction ({reason})");
    let capabilities =
        coverage::capabilities(&kernel.refusal, Confinement::Runtime { pinned: true });
    let refusal = capabilities.iter().find(|capability| capability.name == "exec-refusal").unwrap();
    assert_eq!(refusal.reason.as_str(), said);
    assert!(doctor("exec-refusal").contains(&said));
    assert!(doctor("bpf-lsm").contains(&reason));
}

#[test]
fn an_lsm_that_is_listed_but_does_not_fire_is_found_by_the_canary() {
    if !needs::met(&[Need::BpfLsmNotListed]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let denied = copy_of_true(directory.path());
    // In a mount namespace of this thread's own, the list claims what is not so.
    let list = directory.path().join("lsm");
    fs::write(&list, "lockdown,capability,bpf").unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some(&list), preflight::LSM_LIST, none, MsFlags::MS_BIND, none).unwrap();
    preflight::bpf_lsm_listed().expect("the list says so");
    let kernel = Kernel::with_policy(&policy(&denied));
    let reason = "the LSM program is attached but does not fire".to_owned();
    assert_eq!(kernel.refusal, ExecRefusal::Kill { reason });
    assert_eq!(kernel.probe(&[&format!("exec:{denied}")]), ["signal-9"]);
}
