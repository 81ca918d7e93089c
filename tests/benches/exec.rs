//! What an exec costs: a tiny static program run N times, hooks and recording on against off.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a measurement that fails says where")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures go out, progress to people")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::{
    fmt::Write as _,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use pcigate_tests::{
    figures::{Budget, cpu_seconds, figure, flag, how, option},
    line::{Place, driven},
};

/// Program starts a variant and round.
const EXECS: u64 = 6_000;
/// What each is given, as a tool call of an agent would look.
const ARGUMENTS: [&str; 5] = [
    "--cluster=payments-eu-1",
    "--format=json",
    "get",
    "deployments.apps/billing-frontend",
    "--request-timeout=30s",
];

fn main() {
    if let Some(arguments) = driven() {
        return run_many(Path::new(&arguments[0]), arguments[1].parse().unwrap());
    }
    let quick = flag("quick");
    let rounds = option("rounds", if quick { 5 } else { 15 });
    let execs = if quick { EXECS / 3 } else { EXECS };
    let place = Place::new();
    let program = place.directory().join("tiny");
    std::fs::write(&program, tiny_elf()).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (mut alone, mut busy, mut micros, mut agent) =
        <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    let mut lost = 0;
    for round in 0..rounds {
        eprintln!("exec: round {} of {rounds}", round + 1);
        // The variant that goes first changes, so that a drift of the machine favours neither.
        let mut times = [[0.0; 2]; 2];
        for on in if round % 2 == 0 { [false, true] } else { [true, false] } {
            let line = on.then(|| place.start(place.load(&policy())));
            let used = cpu_seconds(std::process::id());
            times[usize::from(on)] = [one(&place, &program, execs), two(&place, &program, execs)];
            if let Some(line) = line {
                let counters = line.stop();
                let used = cpu_seconds(std::process::id()) - used;
                agent.push(used * 1e6 / counters.recorded as f64);
                lost += counters.lost.values().sum::<u64>();
                // Fork, exec and exit of each, on one processor and then on two.
                assert!(counters.recorded >= execs * 9, "only {} records", counters.recorded);
            }
        }
        let [off, on] = times;
        alone.push(on[0] / off[0]);
        busy.push(on[1] / off[1]);
        micros.push(off[0] / execs as f64 * 1e6);
    }
    assert_eq!(lost, 0, "events were lost");
    how(&format!(
        "A static ELF of 129 bytes that only exits, started and waited for {execs} times a \
         variant and round by one process pinned to one processor, five arguments. On: all \
         programs attached, a policy of 200 exec rules, fork, exec with argv, and exit recorded in \
         the spool by the agent's own threads. Off: nothing attached. Programs are loaded anew for \
         each round. Every event was recorded; none was lost."
    ));
    how("Both processors busy: one such process on each, so that the agent's threads take their \
         time from the workload. A node seldom only starts programs; this is the bound.");
    figure("exec, hooks on ÷ off", "ratio", Budget::AtMost(1.03), &alone);
    figure("exec, hooks on ÷ off, both processors busy", "ratio", Budget::None, &busy);
    figure("exec, hooks off", "µs", Budget::None, &micros);
    figure("the agent's processor time for a record", "µs", Budget::None, &agent);
}

/// Seconds for all starts on the second processor; the first is the agent's.
fn one(place: &Place, program: &Path, execs: u64) -> f64 {
    seconds(&place.drive(last_cpu(), &[program.to_str().unwrap(), &execs.to_string()]))
}

/// Seconds, the longer of two that run side by side.
fn two(place: &Place, program: &Path, execs: u64) -> f64 {
    let (program, execs) = (program.to_str().unwrap(), execs.to_string());
    let arguments = [program, execs.as_str()];
    thread::scope(|scope| {
        let first = scope.spawn(|| seconds(&place.drive(0, &arguments)));
        let second = seconds(&place.drive(last_cpu(), &arguments));
        second.max(first.join().unwrap())
    })
}

fn last_cpu() -> usize {
    thread::available_parallelism().unwrap().get() - 1
}

fn seconds(line: &str) -> f64 {
    line.parse().expect("the workload prints seconds")
}

fn run_many(program: &Path, execs: u64) {
    let start = || {
        let mut command = Command::new(program);
        command.args(ARGUMENTS).env_clear().stdin(Stdio::inherit());
        assert!(command.status().unwrap().success());
    };
    for _ in 0..100 {
        start();
    }
    let began = Instant::now();
    for _ in 0..execs {
        start();
    }
    println!("{}", began.elapsed().as_secs_f64());
}

/// 200 exec rules; none of them matches the program, all of them are asked.
fn policy() -> String {
    let mut text = "apiVersion: pcigate.dev/v1alpha1
kind: AgentPolicy
metadata: {name: billing-bot, namespace: payments}
spec:
  selector: {}
  mode: enforce
  egress: {defaultAction: allow}
  exec:
    defaultAction: allow
    rules:
"
    .to_owned();
    for rule in 0..200 {
        let path = match rule % 4 {
            0 => format!("/usr/bin/tool-{rule}"),
            1 => format!("/opt/vendor-{rule}/bin/*"),
            2 => format!("/usr/local/*/shell-{rule}"),
            _ => format!("/home/*/.cache/agent-{rule}/*"),
        };
        writeln!(text, "      - {{id: rule-{rule}, action: deny, paths: [\"{path}\"]}}").unwrap();
    }
    text
}

/// The smallest program there is: an ELF header, one segment, and `exit(0)`.
fn tiny_elf() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    // mov eax, 60; xor edi, edi; syscall
    const CODE: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    let size = 64 + 56 + CODE.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());
    let xword = |elf: &mut Vec<u8>, value: u64| elf.extend(value.to_le_bytes());
    half(&mut elf, 2); // executable
    half(&mut elf, 62); // x86-64
    word(&mut elf, 1);
    xword(&mut elf, BASE + 120); // entry
    xword(&mut elf, 64); // program headers
    xword(&mut elf, 0); // no sections
    word(&mut elf, 0);
    for value in [64, 56, 1, 0, 0, 0] {
        half(&mut elf, value);
    }
    word(&mut elf, 1); // loaded
    word(&mut elf, 5); // readable, executable
    for value in [0, BASE, BASE, size, size, 0x1000] {
        xword(&mut elf, value);
    }
    elf.extend(CODE);
    elf
}
