//! What the probe tries against the agent, its neighbours and its own confinement.
//!
//! ```text
//! inside:ACTION               an action by a program started for it: after an exec
//! enter:PID                   join the pid, network and mount namespaces of a process
//! attack:signal:PID,NUMBER    send a signal
//! attack:ptrace:PID           seize a process
//! attack:memory:PID           open its memory
//! attack:limit:PID            limit its processor time to a day
//! attack:scheduler:PID        bind it to the first processor
//! attack:nice:PID             lower its priority
//! attack:bpf                  ask for the first program of the kernel
//! attack:perf                 count its own processor time
//! attack:unshare-user, attack:unshare-net, attack:unshare-mount
//! attack:setns:PID            join the network namespace of a process
//! attack:mount:DIRECTORY      mount a tmpfs there, and unmount it
//! attack:umount:DIRECTORY     unmount it
//! attack:buffer               a larger buffer than the system allows, which needs NET_ADMIN
//! attack:open:PATH            open a file for writing, and write nothing
//! attack:mkdir:PATH, attack:unlink:PATH, attack:rename:PATH,PATH
//! attack:clone:DIRECTORY      make a child in the cgroup of that directory
//! attack:ordinary:DIRECTORY   what ordinary programs live on, below that directory; the first that
//!                             fails is named
//! ```

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{PermissionsExt, chown},
    },
    path::Path,
    process::Command,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount, umount2},
    sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare},
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt::RcvBufForce},
    },
    unistd::{Pid, Uid, chroot, setuid},
};

use crate::system_calls;

/// Runs one action in a program of its own; its result.
///
/// # Errors
/// The program cannot be started.
pub fn inside(action: &str) -> io::Result<String> {
    let output = Command::new("/proc/self/exe").arg(action).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let result = text.trim_end().rsplit(' ').next().unwrap_or_default().to_owned();
    if result.is_empty() { Ok(format!("{}", output.status)) } else { Ok(result) }
}

/// Joins the namespaces of a process; the pid namespace is that of children made from now on.
///
/// # Errors
/// The errno of the first that cannot be joined.
pub fn enter(pid: &str) -> io::Result<()> {
    let open = |kind: &str| fs::File::open(format!("/proc/{pid}/ns/{kind}"));
    let namespaces = [open("pid")?, open("net")?, open("mnt")?];
    for namespace in namespaces {
        setns(namespace, CloneFlags::empty())?;
    }
    Ok(())
}

/// Does what the list above says.
///
/// # Errors
/// The errno, or that there is no such attack.
pub fn attack(action: &str) -> io::Result<()> {
    let (name, rest) = action.split_once(':').unwrap_or((action, ""));
    let (first, second) = rest.split_once(',').unwrap_or((rest, ""));
    match name {
        "bpf" => Ok(system_calls::bpf()?),
        "perf" => Ok(system_calls::perf()?),
        "buffer" => Ok(setsockopt(&udp()?, RcvBufForce, &(1 << 20))?),
        "unshare-user" => Ok(unshare(CloneFlags::CLONE_NEWUSER)?),
        "unshare-net" => Ok(unshare(CloneFlags::CLONE_NEWNET)?),
        "unshare-mount" => Ok(unshare(CloneFlags::CLONE_NEWNS)?),
        "mount" => {
            mount(Some("tmpfs"), rest, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
            Ok(umount(rest)?)
        }
        "umount" => Ok(umount2(rest, MntFlags::empty())?),
        "open" => fs::OpenOptions::new().write(true).open(rest).map(drop),
        "mkdir" => fs::create_dir(rest),
        "unlink" => fs::remove_file(rest),
        "rename" => fs::rename(first, second),
        "clone" => Ok(system_calls::clone_into(fs::File::open(rest)?.as_fd())?),
        "ordinary" => ordinary(Path::new(rest)),
        _ => against(name, first, second),
    }
}

/// Attacks on a process.
fn against(name: &str, pid: &str, more: &str) -> io::Result<()> {
    let number: i32 = pid.parse().map_err(io::Error::other)?;
    let process = Pid::from_raw(number);
    match name {
        "signal" => {
            let signal: i32 = more.parse().map_err(io::Error::other)?;
            let signal = if signal == 0 { None } else { Some(Signal::try_from(signal)?) };
            Ok(kill(process, signal)?)
        }
        "ptrace" => Ok(system_calls::seize(number)?),
        "memory" => fs::File::open(format!("/proc/{pid}/mem")).map(drop),
        "limit" => Ok(system_calls::limit(number, 24 * 3600)?),
        "nice" => Ok(system_calls::nice(number.unsigned_abs(), 10)?),
        "scheduler" => {
            let mut first = CpuSet::new();
            first.set(0)?;
            Ok(sched_setaffinity(process, &first)?)
        }
        "setns" => {
            let namespace = fs::File::open(format!("/proc/{pid}/ns/net"))?;
            Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
        }
        other => Err(io::Error::other(format!("unknown-attack-{other}"))),
    }
}

fn udp() -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)
}

fn ordinary(directory: &Path) -> io::Result<()> {
    let named = |name: &'static str| move |error| io::Error::other(format!("{name}:{error}"));
    let file = directory.join("file");
    fs::write(&file, "x").map_err(named("write"))?;
    chown(&file, Some(7), Some(7)).map_err(named("chown"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).map_err(named("chmod"))?;
    fs::read(&file).map_err(named("read"))?;
    fs::create_dir(directory.join("made")).map_err(named("mkdir"))?;
    fs::rename(&file, directory.join("made/file")).map_err(named("rename"))?;
    fs::remove_dir_all(directory.join("made")).map_err(named("remove"))?;
    fs::File::open("/proc/self/mem").map_err(named("memory"))?;
    fs::read_dir("/proc/self/fd").map_err(named("descriptors"))?;
    udp().map_err(io::Error::from).map_err(named("socket"))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("read-line").stdin(std::process::Stdio::piped());
    let mut child = command.spawn().map_err(named("spawn"))?;
    let pid = child.id().to_string();
    for what in ["limit", "scheduler", "nice", "ptrace"] {
        against(what, &pid, "").map_err(named(what))?;
    }
    against("signal", &pid, "9").map_err(named("signal"))?;
    child.wait().map_err(named("wait"))?;
    chroot("/").map_err(io::Error::from).map_err(named("chroot"))?;
    // Servers give root up as the last step of their start.
    setuid(Uid::from_raw(7)).map_err(io::Error::from).map_err(named("setuid"))
}
