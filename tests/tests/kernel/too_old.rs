//! A kernel too old for the programs: refused before anything is loaded, with what would help.

use std::process::Command;

use pcigate_agent::preflight;
use pcigate_tests::needs::{self, Need};

const POLICY: &str = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec: {selector: {}, mode: enforce, egress: {defaultAction: deny}}
";

#[test]
fn a_kernel_too_old_for_the_programs_is_refused_by_name_with_the_release_that_will_do() {
    let (major, minor) = preflight::KERNEL_MIN;
    if !needs::met(&[Need::KernelBefore(major, minor)]) {
        return;
    }
    let agent = pcigate_tests::program("pcigate-agent");
    let doctor = Command::new(&agent).arg("doctor").output().unwrap();
    assert_eq!(doctor.status.code(), Some(1));
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let obstacle = format!("Linux {} is too old for the kernel programs", release.trim());
    let remedy = format!("run Linux {major}.{minor} or newer");
    assert!(doctor.contains(&obstacle) && doctor.contains(&remedy), "{doctor}");

    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let mut exec = Command::new(&agent);
    exec.args(["exec", "--name", "payments/billing-bot", "--service-account", "billing-bot"]);
    exec.arg("--policy").arg(&policy).arg("--state-dir").arg(directory.path().join("state"));
    let exec = exec.args(["--", "/bin/echo", "ran"]).output().unwrap();
    let message = String::from_utf8(exec.stderr).unwrap();
    assert!(!exec.status.success());
    assert!(message.contains(&format!("{obstacle}: {remedy}")), "{message}");
    assert!(exec.stdout.is_empty(), "the command does not run ungoverned");
}
