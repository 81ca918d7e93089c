//! fork, exec and exit: what is recorded, what is refused and how.

use std::{fs, path::Path};

use pcigate_agent::{
    draft::{Draft, Ending, Event, Exec, Subject},
    enforcer::ExecRefusal,
};
use pcigate_proto::{Enforcement, Verdict};
use pcigate_tests::kernel::Kernel;

fn policy(exec: &str) -> String {
    format!(
        "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {{name: billing-bot, namespace: payments}}
spec:
  selector: {{serviceAccountNames: [billing-bot]}}
  mode: enforce
  exec:
{exec}"
    )
}

fn open() -> String {
    policy("    defaultAction: allow\n")
}

fn execs(drafts: &[Draft]) -> Vec<(&Draft, &Exec)> {
    let mut execs = Vec::new();
    for draft in drafts {
        if let Event::Exec(exec) = &draft.event {
            execs.push((draft, exec));
        }
    }
    execs
}

/// The result of a refused exec and the word for how, on this kernel.
fn refusal(kernel: &Kernel) -> (&'static str, Enforcement) {
    match kernel.refusal {
        ExecRefusal::Lsm => ("EPERM", Enforcement::Lsm),
        ExecRefusal::Kill { .. } => ("signal-9", Enforcement::Kill),
    }
}

/// A program of its own in a directory of its own.
fn program_in(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    fs::copy("/bin/true", &path).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_exec_is_recorded_with_path_arguments_parent_user_and_times() {
    let mut kernel = Kernel::with_policy(&open());
    assert_eq!(kernel.probe(&["exec:/usr/bin/env true --flag value"]), ["ok"]);
    let drafts = kernel.drafts();
    let execs = execs(&drafts);
    let (env, exec) = execs[0];
    assert_eq!(exec.path.as_str(), "/usr/bin/env");
    assert_eq!(
        exec.args.split('\0').collect::<Vec<_>>(),
        ["/usr/bin/env", "true", "--flag", "value"]
    );
    assert!(!exec.args_truncated && !exec.args_unavailable && !exec.path_unresolved);
    let process = env.process.as_ref().unwrap();
    assert_eq!(process.uid, 0);
    assert!(process.start_boottime_ns > process.parent_start_boottime_ns);
    assert!(process.parent_start_boottime_ns > 0);
    // env replaced itself by true: the same process, now running another program.
    let (after, exec) = execs[1];
    assert_eq!(exec.path.as_str(), "/usr/bin/true");
    let after = after.process.as_ref().unwrap();
    assert_eq!((after.pid, after.start_boottime_ns), (process.pid, process.start_boottime_ns));
    assert_eq!(after.executable.as_ref().unwrap().as_str(), "/usr/bin/env");
    let fork = drafts.iter().find_map(|draft| match draft.event {
        Event::Fork { child_pid, child_start_boottime_ns } => {
            Some((draft, child_pid, child_start_boottime_ns))
        }
        _ => None,
    });
    let (fork, child, start) = fork.unwrap();
    assert_eq!((child, start), (process.pid, process.start_boottime_ns));
    assert_eq!(fork.process.as_ref().unwrap().pid, process.parent_pid);
    let Subject::Workload(workload) = &env.subject else { panic!("{:?}", env.subject) };
    assert_eq!(workload.pod.as_str(), "billing-bot");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let age = now.as_nanos().abs_diff(u128::from(env.time_unix_nano));
    assert!(age < 60_000_000_000, "the wall clock of a record is {age} ns off");
}

#[test]
fn the_exit_of_a_process_is_recorded_with_code_or_signal() {
    let mut kernel = Kernel::with_policy(&open());
    kernel.probe(&[
        "exec:/bin/false",
        "exec:/bin/sh -c exit$IFS\\3",
        "exec:/bin/sh -c kill$IFS-9$IFS$$",
    ]);
    let ends: Vec<(u32, u32)> = kernel
        .drafts()
        .iter()
        .filter_map(|draft| match draft.event {
            Event::Exit { code, signal } => Some((code, signal)),
            _ => None,
        })
        .collect();
    assert_eq!(ends, [(1, 0), (3, 0), (0, 9), (0, 0)], "the last is the probe's own");
}

#[test]
fn a_refused_program_never_runs_and_the_record_says_how() {
    let directory = tempfile::tempdir().unwrap();
    let denied = program_in(directory.path(), "denied");
    let fine = program_in(directory.path(), "fine");
    let rules = format!(
        "    defaultAction: allow
    rules:
      - {{id: not-that, action: deny, paths: [\"{}/den*\"]}}
",
        directory.path().display()
    );
    let mut kernel = Kernel::with_policy(&policy(&rules));
    let (result, how) = refusal(&kernel);
    let actions = [format!("exec:{denied}"), format!("exec:{fine}")];
    assert_eq!(kernel.probe(&[&actions[0], &actions[1]]), [result, "ok"]);
    let drafts = kernel.drafts();
    let (draft, exec) = execs(&drafts)[0];
    assert_eq!(exec.path.as_str(), denied);
    assert_eq!(draft.outcome.result, Ending::Refused);
    assert_eq!(draft.outcome.enforcement, Some(how));
    let decision = draft.outcome.decision.as_ref().unwrap();
    assert_eq!((decision.verdict, decision.rule.id.as_str()), (Verdict::Deny, "not-that"));
}

#[test]
fn where_the_default_is_deny_only_listed_programs_run() {
    let directory = tempfile::tempdir().unwrap();
    let listed = program_in(directory.path(), "listed");
    let other = program_in(directory.path(), "other");
    let probe = pcigate_tests::program("pcigate-probe");
    let rules = format!(
        "    defaultAction: deny
    rules:
      - {{id: listed, action: allow, paths: [\"{listed}\", \"{}\"]}}
",
        probe.display()
    );
    let kernel = Kernel::with_policy(&policy(&rules));
    let (result, _) = refusal(&kernel);
    let actions = [format!("exec:{listed}"), format!("exec:{other}")];
    assert_eq!(kernel.probe(&[&actions[0], &actions[1]]), ["ok", result]);
}

#[test]
fn a_symlink_and_a_relative_name_lead_to_the_same_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let denied = program_in(directory.path(), "denied");
    let link = directory.path().join("harmless");
    std::os::unix::fs::symlink(&denied, &link).unwrap();
    let rules = format!(
        "    defaultAction: allow
    rules:
      - {{id: not-that, action: deny, paths: [\"{denied}\"]}}
"
    );
    let kernel = Kernel::with_policy(&policy(&rules));
    let (result, _) = refusal(&kernel);
    let actions = [
        format!("exec:{}", link.display()),
        format!("exec:{}/../{}/denied", directory.path().display(), name(directory.path())),
        format!("exec:/bin/sh -c cd$IFS{}&&exec$IFS./denied", directory.path().display()),
        format!("thread-exec:{denied}"),
    ];
    assert_eq!(
        kernel.probe(&[&actions[0], &actions[1], &actions[2]]),
        [
            result,
            result,
            match result {
                "EPERM" => "code-126",
                killed => killed,
            }
        ]
    );
    if let ExecRefusal::Lsm = kernel.refusal {
        assert_eq!(kernel.probe(&[&actions[3]]), ["EPERM"]);
    }
}

fn name(directory: &Path) -> &str {
    directory.file_name().unwrap().to_str().unwrap()
}

#[test]
fn the_name_a_program_is_called_by_can_only_make_the_answer_stricter() {
    let rules = "    defaultAction: allow
    rules:
      - {id: no-shell, action: deny, paths: [\"/bin/sh\"]}
";
    let kernel = Kernel::with_policy(&policy(rules));
    let (result, _) = refusal(&kernel);
    // /bin/sh is a link to dash here; the rule names the link.
    assert_eq!(kernel.probe(&["exec:/bin/sh -c true"]), [result]);
}

#[test]
fn a_changed_root_gives_a_file_no_other_name() {
    let directory = tempfile::tempdir().unwrap();
    let listed = program_in(directory.path(), "listed");
    // A file of that very name in another root, static, because that root has no libraries.
    let root = directory.path().join("root");
    let inside = root.join(listed.trim_start_matches('/'));
    fs::create_dir_all(inside.parent().unwrap()).unwrap();
    fs::copy("/bin/busybox", &inside).expect("busybox-static is installed by `cargo xtask setup`");
    let probe = pcigate_tests::program("pcigate-probe").display().to_string();
    let rules = format!(
        "    defaultAction: deny
    rules:
      - {{id: listed, action: allow, paths: [\"{listed}\", \"{probe}\", \"/usr/sbin/chroot\"]}}
"
    );
    let mut kernel = Kernel::with_policy(&policy(&rules));
    let action = format!("chroot-exec:{} {listed}", root.display());
    let result = match refusal(&kernel).0 {
        "EPERM" => "code-126",
        killed => killed,
    };
    assert_eq!(kernel.probe(&[&action]), [result]);
    let drafts = kernel.drafts();
    let (refused, exec) = execs(&drafts).into_iter().next_back().unwrap();
    assert_eq!(refused.outcome.result, Ending::Refused);
    assert_eq!(exec.path.as_str(), inside.to_str().unwrap());
}

#[test]
fn a_file_without_a_path_is_refused_where_execs_are_restricted() {
    let rules = "    defaultAction: allow
    rules:
      - {id: some, action: deny, paths: [\"/nowhere\"]}
";
    let mut kernel = Kernel::with_policy(&policy(rules));
    let (result, _) = refusal(&kernel);
    assert_eq!(kernel.probe(&["memfd-exec:/bin/true"]), [result]);
    let drafts = kernel.drafts();
    let unresolved = execs(&drafts).into_iter().find(|(_, exec)| exec.path_unresolved);
    let (draft, _) = unresolved.expect("the exec of the memfd has a record");
    let rule = &draft.outcome.decision.as_ref().unwrap().rule;
    assert_eq!(rule.id.as_str(), "pcigate/unresolved-path");
    let open = Kernel::with_policy(&open());
    let result = open.probe(&["memfd-exec:/bin/true"]);
    assert_eq!(result, ["ok"], "without exec rules nothing is to be refused");
}

/// A program `levels` directories deep, each with a name of `name_bytes`.
fn program_below(directory: &Path, levels: usize, name_bytes: usize) -> String {
    let mut path = directory.to_owned();
    for _ in 0..levels {
        path.push("d".repeat(name_bytes));
    }
    fs::create_dir_all(&path).unwrap();
    program_in(&path, "program")
}

#[test]
fn a_path_too_long_or_too_deep_to_resolve_is_refused_where_execs_are_restricted() {
    let directory = tempfile::tempdir().unwrap();
    let within = [
        program_below(directory.path(), 4, 200),
        program_below(directory.path(), pcigate_common::limits::PATH_DEPTH_MAX - 8, 2),
    ];
    let beyond = [
        program_below(directory.path(), 6, 201),
        program_below(directory.path(), pcigate_common::limits::PATH_DEPTH_MAX + 8, 3),
    ];
    assert!(beyond[0].len() > pcigate_common::limits::PATH_BYTES_MAX);
    let rules = "    defaultAction: allow
    rules:
      - {id: some, action: deny, paths: [\"/nowhere\"]}
";
    let mut kernel = Kernel::with_policy(&policy(rules));
    let (result, _) = refusal(&kernel);
    let actions: Vec<String> =
        within.iter().chain(&beyond).map(|path| format!("exec:{path}")).collect();
    let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
    assert_eq!(kernel.probe(&actions), ["ok", "ok", result, result]);
    let drafts = kernel.drafts();
    let execs = execs(&drafts);
    assert_eq!(execs[0].1.path.as_str(), within[0]);
    assert_eq!(execs[1].1.path.as_str(), within[1]);
    let unresolved = execs.iter().filter(|(_, exec)| exec.path_unresolved);
    for (draft, _) in unresolved.clone() {
        let rule = &draft.outcome.decision.as_ref().unwrap().rule;
        assert_eq!(rule.id.as_str(), "pcigate/unresolved-path");
    }
    assert_eq!(unresolved.count(), 2);
}

#[test]
fn long_arguments_are_cut_at_the_documented_size_and_say_so() {
    let mut kernel = Kernel::with_policy(&open());
    let limit = pcigate_common::limits::ARGV_BYTES_MAX;
    let fitting = "a".repeat(limit - "/bin/true".len() - 2);
    let too_long = format!("{fitting}b");
    let actions = [format!("exec:/bin/true {fitting}"), format!("exec:/bin/true {too_long}")];
    assert_eq!(kernel.probe(&[&actions[0], &actions[1]]), ["ok", "ok"]);
    let drafts = kernel.drafts();
    let execs = execs(&drafts);
    let (_, whole) = execs[0];
    assert!(!whole.args_truncated);
    assert_eq!(whole.args.split('\0').nth(1).unwrap().len(), fitting.len());
    let (_, cut) = execs[1];
    assert!(cut.args_truncated);
    assert_eq!(cut.args_bytes as usize, limit + 1);
}

#[test]
fn a_card_number_in_an_argument_is_masked_before_anything_is_kept() {
    let mut kernel = Kernel::with_policy(&open());
    // A word between them: digits that go on behind a card number may belong to it.
    kernel.probe(&["exec:/bin/true --card=4111111111111111 and 5555 5555 5555 4444"]);
    let drafts = kernel.drafts();
    let (_, exec) = execs(&drafts)[0];
    let args: Vec<&str> = exec.args.split('\0').collect();
    assert_eq!(args[1], "--card=411111******1111");
    assert_eq!(args[2..], ["and", "5555", "55**", "****", "4444"]);
}

#[test]
fn what_a_policy_names_is_masked_in_arguments_too() {
    let mask =
        "  mask:\n    detectors: [{name: staff, pattern: 'E-[0-9]{6}'}]\n    secrets: true\n";
    let mut kernel = Kernel::with_policy(&(open() + mask));
    kernel.probe(&["exec:/bin/true E-123456 --password hunter22 E-12"]);
    let drafts = kernel.drafts();
    let (_, exec) = execs(&drafts)[0];
    let args: Vec<&str> = exec.args.split('\0').collect();
    assert_eq!(args[1..], ["[MASKED]", "--password", "[SECRET]", "E-12"]);
}
