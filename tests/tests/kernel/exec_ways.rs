//! Every way to have a program executed, against rules by path and by arguments.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use pcigate_agent::{
    coverage::{self, Confinement},
    draft::CapabilityState,
    enforcer::ExecRefusal,
};
use pcigate_tests::kernel::Kernel;

/// Rules of the probe's workload.
pub fn policy(default: &str, rules: &[String]) -> String {
    let rules: Vec<String> = rules.iter().map(|rule| format!("      - {{{rule}}}\n")).collect();
    format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{serviceAccountNames: [billing-bot]}}
  mode: enforce
  exec:
    defaultAction: {default}
    rules:
{}",
        rules.concat()
    )
}

/// What the probe says of a refused program here.
pub fn refused(kernel: &Kernel) -> &'static str {
    match kernel.refusal {
        ExecRefusal::Lsm => "EPERM",
        ExecRefusal::Kill { .. } => "signal-9",
    }
}

/// A copy of `/bin/true`.
pub fn copy_of_true(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    fs::copy("/bin/true", &path).unwrap();
    path.to_str().unwrap().to_owned()
}

fn ask(kernel: &Kernel, actions: &[String]) -> Vec<String> {
    kernel.probe(&actions.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_descriptor_or_a_link_to_a_denied_program_is_refused_as_its_path_is() {
    let directory = tempfile::tempdir().unwrap();
    let denied = copy_of_true(directory.path(), "denied");
    let link = directory.path().join("link");
    symlink(&denied, &link).unwrap();
    let rule = format!("id: not-that, action: deny, paths: [\"{denied}\"]");
    let kernel = Kernel::with_policy(&policy("allow", &[rule]));
    let refused = refused(&kernel);
    let actions = [
        format!("exec:{}", link.display()),
        format!("fd-exec:{denied}"),
        format!("fexecve:{denied}"),
        format!("argv0-exec:harmless {denied}"),
        format!("exec:/proc/self/root{denied}"),
    ];
    let fexecve = match refused {
        "EPERM" => "ok", // the probe that becomes the program reports EPERM and lives
        killed => killed,
    };
    assert_eq!(ask(&kernel, &actions), [refused, refused, fexecve, refused, refused]);
}

#[test]
fn a_hard_link_has_a_path_of_its_own_and_only_a_rule_of_paths_below_covers_it() {
    let directory = tempfile::tempdir().unwrap();
    let denied = copy_of_true(directory.path(), "denied");
    let other = directory.path().join("other").to_str().unwrap().to_owned();
    fs::hard_link(&denied, &other).unwrap();
    let rule = format!("id: not-that, action: deny, paths: [\"{denied}\"]");
    let kernel = Kernel::with_policy(&policy("allow", &[rule]));
    let actions = [format!("exec:{denied}"), format!("exec:{other}")];
    assert_eq!(ask(&kernel, &actions), [refused(&kernel), "ok"], "docs/exec.md says so");
    let rule = format!("id: none, action: deny, paths: [\"{}/**\"]", directory.path().display());
    let kernel = Kernel::with_policy(&policy("allow", &[rule]));
    assert_eq!(ask(&kernel, &actions), [refused(&kernel); 2]);
}

#[test]
fn the_loader_is_a_program_of_its_own_and_can_be_named() {
    let loader = fs::canonicalize("/lib64/ld-linux-x86-64.so.2").unwrap();
    let rule = format!("id: no-loader, action: deny, paths: [\"{}\"]", loader.display());
    let kernel = Kernel::with_policy(&policy("allow", &[rule]));
    let by_loader = "exec:/lib64/ld-linux-x86-64.so.2 /bin/true";
    // As the interpreter of a program it is not executed by itself.
    assert_eq!(kernel.probe(&[by_loader, "exec:/bin/true"]), [refused(&kernel), "ok"]);
}

#[test]
fn inline_code_of_an_interpreter_is_refused_by_its_arguments_and_a_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    fs::write(&script, "exit 0\n").unwrap();
    let rule =
        "id: no-inline, action: deny, paths: [/usr/bin/dash, /bin/sh], args: [\"-*c*\", \"-s\"]";
    let mut kernel = Kernel::with_policy(&policy("allow", &[rule.to_owned()]));
    let actions = [
        "exec:/bin/sh -c true".to_owned(),
        "exec:/bin/sh -ec true".to_owned(),
        "exec:/bin/sh -e -s".to_owned(),
        format!("exec:/bin/sh {}", script.display()),
        "exec:/bin/true -c".to_owned(),
    ];
    // Arguments are in place only when the image is: the refusal is a kill also with BPF-LSM.
    let killed = "signal-9";
    assert_eq!(ask(&kernel, &actions), [killed, killed, killed, "ok", "ok"]);
    let drafts = kernel.drafts();
    let refusals = drafts.iter().filter_map(|draft| draft.outcome.decision.as_ref());
    let refusals = refusals.filter(|decision| decision.rule.id.as_str() == "no-inline");
    assert_eq!(refusals.count(), 3);
}

#[test]
fn arguments_that_are_cut_meet_every_rule_that_asks_for_one() {
    let rule = "id: no-x, action: deny, paths: [/usr/bin/true, /bin/true], args: [\"-x\"]";
    let kernel = Kernel::with_policy(&policy("allow", &[rule.to_owned()]));
    let limit = pcigate_common::limits::ARGV_BYTES_MAX;
    let fitting = "a".repeat(limit - "/bin/true".len() - 2);
    let actions = [
        format!("exec:/bin/true {fitting}"),
        format!("exec:/bin/true {fitting}b"),
        format!("exec:/bin/true {} -x", "a".repeat(100)),
        "exec:/bin/true".to_owned(),
    ];
    assert_eq!(ask(&kernel, &actions), ["ok", "signal-9", "signal-9", "ok"]);
}

#[test]
fn a_rule_with_arguments_in_audit_mode_refuses_nothing_and_is_recorded() {
    let rule = "id: watch, action: deny, mode: audit, paths: [/usr/bin/true], args: [\"-x\"]";
    let mut kernel = Kernel::with_policy(&policy("allow", &[rule.to_owned()]));
    assert_eq!(kernel.probe(&["exec:/bin/true -x"]), ["ok"]);
    let drafts = kernel.drafts();
    let mut audits = drafts.iter().filter_map(|draft| draft.outcome.audit.as_ref());
    assert_eq!(audits.next().unwrap().rule.id.as_str(), "watch");
}

#[test]
fn an_applet_is_refused_by_its_name_as_first_or_zeroth_argument() {
    let rules = ["id: no-wget, action: deny, paths: [\"/**/busybox\"], args: [wget, \"*/wget\"]"];
    let kernel = Kernel::with_policy(&policy("allow", &rules.map(str::to_owned)));
    let actions =
        ["exec:/bin/busybox wget", "argv0-exec:wget /bin/busybox", "exec:/bin/busybox true"];
    assert_eq!(kernel.probe(&actions), ["signal-9", "signal-9", "ok"]);
}

#[test]
fn a_script_is_matched_by_its_interpreter_and_by_its_own_name_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script");
    fs::write(&script, "#!/bin/sh\ntrue\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let link = directory.path().join("link");
    symlink(&script, &link).unwrap();
    let actions = [format!("exec:{}", script.display()), format!("exec:{}", link.display())];
    let rule = "id: no-sh, action: deny, paths: [/usr/bin/dash, /usr/bin/sh]".to_owned();
    let kernel = Kernel::with_policy(&policy("allow", &[rule]));
    assert_eq!(ask(&kernel, &actions), [refused(&kernel); 2], "by the interpreter");
    let rule = format!("id: no-script, action: deny, paths: [\"{}\"]", script.display());
    let kernel = Kernel::with_policy(&policy("allow", &[rule]));
    // Without the LSM only the name as typed is seen of a script; Coverage says so.
    let by_link = match kernel.refusal {
        ExecRefusal::Lsm => "EPERM",
        ExecRefusal::Kill { .. } => "ok",
    };
    assert_eq!(ask(&kernel, &actions), [refused(&kernel), by_link]);
    let rows = coverage::capabilities(&kernel.refusal, Confinement::Runtime { pinned: true });
    let scripts = rows.iter().find(|row| row.name == "exec-scripts").unwrap();
    assert_eq!(scripts.state == CapabilityState::Enforced, by_link == "EPERM");
    // By the interpreter's arguments it is seen without the LSM, too, as it was typed.
    let rule =
        "id: no-script, action: deny, paths: [/usr/bin/dash, /usr/bin/sh], args: [\"*/link\"]";
    let kernel = Kernel::with_policy(&policy("allow", &[rule.to_owned()]));
    assert_eq!(ask(&kernel, &actions), ["ok", "signal-9"]);
}

/// What is looked at is the file that was opened, whatever its name leads to by then.
#[test]
fn swapping_a_program_for_a_denied_one_a_thousand_times_never_runs_the_denied_one() {
    let directory = tempfile::tempdir().unwrap();
    let fine = copy_of_true(directory.path(), "fine");
    let denied = directory.path().join("denied");
    fs::copy("/bin/false", &denied).unwrap();
    let (here, there) = (directory.path().join("here"), directory.path().join("there"));
    symlink(&fine, &here).unwrap();
    symlink(&denied, &there).unwrap();
    let rule = format!("id: not-that, action: deny, paths: [\"{}\"]", denied.display());
    let kernel = Kernel::with_policy(&policy("allow", &[rule]));
    let action = format!("swap-exec:100:{}:{}", here.display(), there.display());
    assert_eq!(kernel.probe(&[&action]), ["denied-ran=0,refused=true,fine=true"]);
}
