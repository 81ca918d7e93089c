//! Process 1 of the virtual machines of `cargo xtask vm`: mounts what the tests need, runs them,
//! and ends the machine with their result.
//!
//! Its arguments are what stands behind `--` on the kernel's command line: `run PROGRAM ARG…`, or
//! `shell` for a person. Whatever goes wrong ends the machine too; it never returns.
#![allow(clippy::print_stdout, reason = "the console is its only way to speak")]

use std::{
    fs, io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
};

use nix::{
    mount::{MsFlags, mount},
    sys::termios::tcdrain,
};
use pcigate_tests::port::leave_machine;

/// What xtask knows these by (`xtask/src/vm/console.rs`): QEMU's own exit codes are 0 and 1.
const PASSED: u8 = 0x10;
const FAILED: u8 = 0x11;
const CANNOT_RUN: u8 = 0x12;

/// Kind and place of each file system, in the order of mounting.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
    ("tracefs", "/sys/kernel/tracing"),
    ("securityfs", "/sys/kernel/security"),
];

fn main() -> ExitCode {
    let status = match work() {
        Ok(status) => {
            println!("pcigate-vm-init: the program ended: {status}");
            if status.success() { PASSED } else { FAILED }
        }
        Err(error) => {
            println!("pcigate-vm-init: {error}");
            CANNOT_RUN
        }
    };
    // What has been written has to reach the console before the machine is gone.
    let _ = tcdrain(io::stdout());
    if let Err(error) = leave_machine(status) {
        println!("pcigate-vm-init: cannot leave with a status: {error}");
    }
    let _ = tcdrain(io::stdout());
    // The end of process 1 is a kernel panic, which xtask sees.
    ExitCode::FAILURE
}

fn work() -> Result<ExitStatus, String> {
    for (kind, place) in MOUNTS {
        make(kind, place).map_err(|error| format!("cannot mount {kind} on {place}: {error}"))?;
    }
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let release = text("/proc/sys/kernel/osrelease");
    println!("pcigate-vm-init: Linux {release}, LSMs {}", text("/sys/kernel/security/lsm"));
    ended(Command::new("/bin/busybox").args(["ip", "link", "set", "lo", "up"]))?;
    // The kernel hands over what it does not know itself before what stands behind `--`.
    let words: Vec<String> =
        std::env::args().skip_while(|word| word != "run" && word != "shell").collect();
    match words.as_slice() {
        [run, program, args @ ..] if run == "run" => ended(Command::new(program).args(args)),
        [shell] if shell == "shell" => self::shell(),
        _ => Err("neither `run PROGRAM` nor `shell` stands on the kernel's command line".into()),
    }
}

fn make(kind: &str, place: &str) -> io::Result<()> {
    fs::create_dir_all(place)?;
    Ok(mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)?)
}

fn shell() -> Result<ExitStatus, String> {
    let tools = "/opt/busybox";
    fs::create_dir_all(tools).map_err(|error| format!("cannot make {tools}: {error}"))?;
    ended(Command::new("/bin/busybox").args(["--install", "-s", tools]))?;
    println!("{}", fs::read_to_string("/etc/motd").unwrap_or_default());
    let path = format!("/usr/bin:/usr/sbin:{tools}");
    let words = ["setsid", "/bin/busybox", "cttyhack", "/bin/busybox", "sh"];
    ended(Command::new("/bin/busybox").args(words).env("PATH", path).env("PS1", "vm# "))
}

fn ended(command: &mut Command) -> Result<ExitStatus, String> {
    let program = command.get_program().display().to_string();
    let status = command.env("LC_ALL", "C.UTF-8").status();
    let status = status.map_err(|error| format!("cannot run {program}: {error}"))?;
    match status.signal() {
        Some(signal) => Err(format!("{program} was ended by signal {signal}")),
        None => Ok(status),
    }
}
