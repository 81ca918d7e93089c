//! The sandbox of `pcigate-agent exec`: two stages of this same binary between the agent and CMD.
//!
//! ```text
//! agent ── outer: new pid, mount and ipc namespaces, waits
//!            └─ init (pid 1 inside): mounts, cgroup, capabilities, seccomp, then starts CMD
//!                 └─ CMD: governed from its first instruction
//! ```
//!
//! The sandbox keeps CMD from leaving its cgroup and from touching the agent also where the kernel
//! has no BPF-LSM. It is no container: CMD sees the machine's files (most of them read-only) and
//! network.

mod mounts;
mod privileges;

use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{
        signal::SigSet,
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, chdir},
};
use pcigate_policy::mask::{Cut, Masked};

use crate::stage;

/// Sub-command of the outer stage; not for people.
pub const OUTER: &str = "sandbox-outer";
/// Sub-command of pid 1.
pub const INIT: &str = "sandbox-init";
/// Exit code where CMD does not exist, as shells have it.
const NOT_FOUND: u8 = 127;
/// Exit code where CMD cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// What the stages need to know.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// Directory of the governed cgroup.
    #[arg(long)]
    pub cgroup: PathBuf,
    /// The directory CMD starts in.
    #[arg(long)]
    pub directory: PathBuf,
    /// Directories of the agent, hidden from CMD.
    #[arg(long)]
    pub hide: Vec<PathBuf>,
    /// Directories CMD may write to; the rest of the machine's files is read-only.
    #[arg(long)]
    pub writable: Vec<PathBuf>,
    /// Files and directories below those that stay read-only.
    #[arg(long)]
    pub protect: Vec<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Why the sandbox cannot be made. CMD has not run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A namespace is refused.
    #[error(
        "cannot make the sandbox's namespaces: run as root, and allow pid and mount namespaces"
    )]
    Namespaces(#[source] Errno),
    /// A mount is refused.
    #[error("cannot {action} {path} in the sandbox")]
    Mount {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The cgroup does not take the process.
    #[error("cannot enter the cgroup {path}")]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A privilege cannot be dropped.
    #[error("cannot drop privileges: {what}")]
    Privileges {
        /// Which step failed and how.
        what: String,
    },
    /// A stage does not start or cannot be waited for.
    #[error("cannot run the next stage of the sandbox")]
    Stage(#[source] io::Error),
}

/// The command that starts the outer stage; it inherits standard input and output. It leads a
/// process group of its own, or CMD could signal the agent as a member of its group (`kill(0, …)`
/// crosses pid namespaces).
#[must_use]
pub fn command(plan: &Plan) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(OUTER).args(arguments(plan)).process_group(0);
    command
}

fn arguments(plan: &Plan) -> Vec<OsString> {
    let mut arguments = vec!["--cgroup".into(), plan.cgroup.clone().into()];
    arguments.extend(["--directory".into(), plan.directory.clone().into()]);
    for (flag, paths) in
        [("--hide", &plan.hide), ("--writable", &plan.writable), ("--protect", &plan.protect)]
    {
        for path in paths {
            arguments.extend([flag.into(), path.clone().into()]);
        }
    }
    arguments.push("--".into());
    arguments.extend(plan.command.iter().cloned());
    arguments
}

/// The outer stage: enters fresh namespaces by starting pid 1 in them. Its exit code is CMD's.
///
/// # Errors
/// Namespaces are refused, or pid 1 does not start.
pub fn outer(plan: &Plan) -> Result<u8, SandboxError> {
    stage::close_inherited().map_err(SandboxError::Stage)?;
    die_with_parent()?;
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)
        .map_err(SandboxError::Namespaces)?;
    let mut init = Command::new("/proc/self/exe");
    init.arg(INIT).args(arguments(plan));
    let status = init.status().map_err(SandboxError::Stage)?;
    Ok(code(status))
}

/// Pid 1 of the sandbox: shuts every door behind itself, starts CMD, reaps until CMD ends.
///
/// # Errors
/// A door does not shut; CMD has not been started then.
pub fn init(plan: &Plan) -> Result<u8, SandboxError> {
    die_with_parent()?;
    mounts::seal(plan)?;
    enter(&plan.directory)?;
    join(&plan.cgroup)?;
    mounts::forbid_writing(&plan.writable)?;
    privileges::drop_all()?;
    let Some((program, arguments)) = plan.command.split_first() else {
        return Ok(NOT_FOUND);
    };
    let mut child = match with_signals(|| Command::new(program).args(arguments).spawn())? {
        Ok(child) => child,
        Err(error) => return Ok(not_started(program, &error)),
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    reap_until(pid).unwrap_or_else(|| child.wait().map(code).map_err(SandboxError::Stage))
}

/// Nothing of the sandbox outlives the agent. Signals are for CMD: the terminal sends them to the
/// whole group, and the agent to CMD's processes.
fn die_with_parent() -> Result<(), SandboxError> {
    stage::die_with_parent()
        .map_err(|(what, error)| SandboxError::Privileges { what: format!("{what}: {error}") })
}

/// What is started here begins with no signal blocked: a mask is inherited, and CMD would hear
/// neither its own alarms nor whoever wants it to end. Pid 1 is deaf meanwhile to all it has no
/// handler for, and it has none.
fn with_signals<T>(start: impl FnOnce() -> T) -> Result<T, SandboxError> {
    let wrong = |what, error| SandboxError::Privileges { what: format!("{what}: {error}") };
    let unblocked = SigSet::empty().thread_set_mask();
    unblocked.map_err(|errno| wrong("unblocking signals", errno.into()))?;
    let started = start();
    stage::block_signals().map_err(|(what, error)| wrong(what, error))?;
    Ok(started)
}

/// Enters the working directory again, by the mount that is there now.
fn enter(directory: &Path) -> Result<(), SandboxError> {
    chdir(directory).map_err(|source| SandboxError::Mount {
        action: "enter",
        path: directory.to_owned(),
        source,
    })
}

fn join(cgroup: &Path) -> Result<(), SandboxError> {
    let procs = cgroup.join("cgroup.procs");
    fs::write(&procs, "0")
        .map_err(|source| SandboxError::Cgroup { path: cgroup.to_owned(), source })
}

#[expect(clippy::print_stderr, reason = "what a shell would say, where a shell would say it")]
fn not_started(program: &OsString, error: &io::Error) -> u8 {
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    let why = if refused { " (by file permissions, or refused by policy)" } else { "" };
    let program = Masked::new(program.as_encoded_bytes(), Cut::Whole);
    eprintln!("pcigate-agent: {}: {error}{why}", program.as_str());
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

/// Reaps every orphan until `pid` ends. `None` where there is nothing left to wait for.
fn reap_until(pid: Pid) -> Option<Result<u8, SandboxError>> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(ended, code)) if ended == pid => {
                return Some(Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
            }
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => {
                return Some(Ok(by_signal(signal as i32)));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Exit code of a stage, 128 + signal where one ended it, as shells have it.
#[must_use]
pub fn code(status: ExitStatus) -> u8 {
    match status.code() {
        Some(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        None => by_signal(status.signal().unwrap_or(0)),
    }
}

fn by_signal(signal: i32) -> u8 {
    u8::try_from(128 + (signal & 0x7f)).unwrap_or(u8::MAX)
}
