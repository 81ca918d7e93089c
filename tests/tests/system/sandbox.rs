//! `exec` holds its command also where BPF-LSM is missing.

use std::{fs, path::Path, process::Command};

use nix::sys::signal::Signal;
use pcigate_agent::cgroup;
use pcigate_tests::{
    site::{Site, fail, output, start, succeed},
    wait,
};

fn exec(site: &Site, command: &[&str]) -> Command {
    let mut agent = site.command("pcigate-agent");
    agent.args(["exec", "--policy", "policy.yaml", "--state-dir", "exec"]);
    agent.args(["--name", "payments/billing-bot", "--service-account", "billing-bot"]);
    agent.args(["--label", "app=billing-bot", "--"]).args(command);
    agent
}

fn left_over() -> Vec<String> {
    let mount = cgroup::mount_point().unwrap();
    let names = fs::read_dir(mount).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("pcigate-exec-")).collect()
}

#[test]
fn the_command_can_neither_leave_nor_touch_the_agent() {
    let site = Site::new();
    let probe = pcigate_tests::program("pcigate-probe").display().to_string();
    let cgroup = cgroup::mount_point().unwrap().join("cgroup.procs").display().to_string();
    let spool = site.path("exec/node-1/0/spool/epoch").display().to_string();
    let expected = [
        (format!("write:{cgroup}"), "EROFS"),
        ("write:/proc/sys/kernel/core_pattern".into(), "EROFS"),
        ("write:/sys/kernel/uevent_helper".into(), "EROFS"),
        (format!("write:{spool}"), "ENOENT"),
        // What something outside would run, and what governs the command.
        ("write:/etc/hostname".into(), "EROFS"),
        (format!("write:{}", site.path("policy.yaml").display()), "EROFS"),
        ("exec:/usr/sbin/chroot / /usr/bin/true".into(), "code-125"),
        ("call:bpf".into(), "EPERM"),
        ("call:mount".into(), "EPERM"),
        ("call:setns".into(), "EPERM"),
        ("call:unshare-user".into(), "EPERM"),
        // AF_PACKET raw, AF_INET raw, ICMP ping, SCTP, AF_VSOCK, AF_ALG, netlink beyond routes.
        ("socket:17,3,768".into(), "EPERM"),
        ("socket:2,3,255".into(), "EPERM"),
        ("socket:2,2,1".into(), "EPERM"),
        ("socket:2,1,132".into(), "EPERM"),
        ("socket:2,5,0".into(), "EPERM"),
        ("socket:2,6,0".into(), "EPERM"),
        ("socket:40,1,0".into(), "EPERM"),
        ("socket:38,5,0".into(), "EPERM"),
        ("socket:16,3,12".into(), "EPERM"),
        ("socket:16,3,0".into(), "ok"),
        ("socket:2,1,0".into(), "ok"),
        ("socket:1,1,0".into(), "ok"),
        ("write:/dev/null".into(), "ok"),
    ];
    let actions = expected.iter().map(|(action, _)| action.as_str());
    let command: Vec<&str> = std::iter::once(probe.as_str()).chain(actions).collect();
    let output = output(&mut exec(&site, &command));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let results: Vec<(&str, &str)> =
        said.lines().filter_map(|line| line.rsplit_once(' ')).collect();
    let missing = |name: &str| !Path::new(name.trim_start_matches("write:")).exists();
    for ((action, expected), (tried, result)) in expected.iter().zip(&results) {
        assert_eq!(action, tried);
        let absent = missing(action) && action.starts_with("write:/sys/kernel");
        assert!(result == expected || (absent && *result == "ENOENT"), "{action}: {result}");
    }
    assert_eq!(results.len(), expected.len(), "{said}");
}

#[test]
fn privileges_that_would_lead_out_are_gone() {
    let site = Site::new();
    let output = output(&mut exec(&site, &["/usr/bin/cat", "/proc/self/status"]));
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {status}")).trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    // KILL, NET_ADMIN, NET_RAW, SYS_MODULE, SYS_PTRACE, SYS_ADMIN, MKNOD, PERFMON, BPF.
    for bit in [5, 12, 13, 16, 19, 21, 27, 38, 39] {
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            let held = u64::from_str_radix(&field(set), 16).unwrap();
            assert_eq!(held >> bit & 1, 0, "capability {bit} in {set}");
        }
    }
    assert_eq!(field("NStgid:").split_whitespace().count(), 1, "its own /proc: {status}");
}

#[test]
fn it_may_write_where_it_works_and_to_temporary_files_only() {
    let site = Site::new();
    let script =
        "echo 1 > here && echo 1 > /tmp/pcigate-$$ && rm /tmp/pcigate-$$ && ! echo 1 > /there";
    succeed(&mut exec(&site, &["/bin/sh", "-c", script]));
    assert!(site.path("here").exists());
    let name = format!("/run/pcigate-test-{}", std::process::id());
    fs::write(&name, "a service's socket would be here").unwrap();
    let seen = output(&mut exec(&site, &["/bin/ls", "/run"]));
    fs::remove_file(&name).unwrap();
    assert!(seen.status.success() && seen.stdout.is_empty(), "{seen:?}");
}

#[test]
fn a_signal_to_its_own_group_does_not_reach_the_agent() {
    let site = Site::new();
    let said = fail(&mut exec(&site, &["/bin/sh", "-c", "kill -9 0"]), 137);
    assert!(said.contains("pcigate: ") && said.contains(" 0 lost"), "the summary: {said}");
}

#[test]
fn the_command_begins_with_no_signal_blocked() {
    let site = Site::new();
    let output = succeed(&mut exec(&site, &["/bin/grep", "SigBlk", "/proc/self/status"]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "SigBlk:\t0000000000000000\n");
}

#[test]
fn a_command_that_handles_no_signal_is_ended_by_its_own_and_by_those_for_the_agent() {
    let site = Site::new();
    for (signal, code) in [("ALRM", 142), ("INT", 130), ("TERM", 143)] {
        // To its own process group; it is alone in it that hears anything.
        fail(&mut exec(&site, &["/bin/kill", &format!("-{signal}"), "0"]), code);
    }
    site.write("ready", "ready\n");
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let (agent, ready) = start(&mut exec(&site, &["/usr/bin/tail", "-f", "ready"]));
        assert_eq!(ready, "ready");
        agent.signal(signal);
        assert_eq!(agent.code(), code, "{signal}");
    }
}

#[test]
fn descriptors_of_the_caller_are_closed() {
    let site = Site::new();
    let mount = cgroup::mount_point().unwrap();
    let agent = pcigate_tests::program("pcigate-agent");
    let script = format!(
        "exec 9<{}; {} exec --state-dir exec -- /bin/sh -c 'echo $$ >/proc/self/fd/9/cgroup.procs'",
        mount.display(),
        agent.display()
    );
    let mut shell = Command::new("sh");
    shell.current_dir(site.path("")).args(["-c", &script]);
    fail(&mut shell, 2);
}

#[test]
fn policies_that_select_nothing_are_no_policies() {
    let site = Site::new();
    let mut agent = site.command("pcigate-agent");
    agent.args([
        "exec",
        "--policy",
        "policy.yaml",
        "--state-dir",
        "exec",
        "--",
        "/usr/bin/touch",
        "ran",
    ]);
    let said = fail(&mut agent, 125);
    assert!(said.contains("no policy selects local/exec"), "{said}");
    assert!(!site.path("ran").exists());
}

#[test]
fn the_exit_code_is_the_commands_own() {
    let site = Site::new();
    fail(&mut exec(&site, &["/bin/sh", "-c", "exit 3"]), 3);
    fail(&mut exec(&site, &["/bin/sh", "-c", "kill -TERM $$; sleep 5"]), 143);
    fail(&mut exec(&site, &["/no/such/program"]), 127);
    fail(&mut exec(&site, &["/etc/hostname"]), 126);
}

#[test]
fn what_the_command_leaves_running_ends_with_it_and_the_cgroup_is_gone() {
    let site = Site::new();
    let script = "sleep 1000 & sleep 1000 & echo started";
    let (agent, started) = start(&mut exec(&site, &["/bin/sh", "-c", script]));
    assert_eq!(started, "started");
    let own = format!("pcigate-exec-{}", agent.pid());
    assert!(agent.wait(), "the exit code is that of the shell, not of what it left");
    assert!(!left_over().contains(&own));
}

#[test]
fn a_terminated_agent_ends_the_command_records_the_end_and_cleans_up() {
    let site = Site::new();
    let (agent, ready) = start(&mut exec(&site, &["/bin/sh", "-c", "echo ready; exec sleep 1000"]));
    assert_eq!(ready, "ready");
    let own = format!("pcigate-exec-{}", agent.pid());
    assert!(left_over().contains(&own));
    agent.end(Signal::SIGTERM);
    assert!(!left_over().contains(&own));
}

#[test]
fn a_killed_agent_takes_its_command_with_it_and_the_next_run_clears_its_cgroup() {
    let site = Site::new();
    let (agent, _) = start(&mut exec(&site, &["/bin/sh", "-c", "echo ready; exec sleep 1000"]));
    let own = format!("pcigate-exec-{}", agent.pid());
    let procs = cgroup::mount_point().unwrap().join(&own).join("cgroup.procs");
    agent.end(Signal::SIGKILL);
    wait::until("an empty cgroup", || {
        let left = fs::read_to_string(&procs).unwrap_or_default();
        left.is_empty().then_some(())
    });
    succeed(&mut exec(&site, &["/usr/bin/true"]));
    assert!(!left_over().contains(&own));
}
