//! The sandbox's own view of the mounts: its /proc and terminals, no file to write but where it
//! may,
//! no device but the harmless ones, nothing of the machine's services and of the agent.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};

use super::{Plan, SandboxError};

/// Devices that stay usable; all others (disks!) do not, because /dev becomes `nodev`.
const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
/// Mounts that stay writable: CMD's own /proc (its knobs are sealed), terminals and shared memory.
const WRITABLE_POINTS: [&str; 4] = ["/proc", "/dev/pts", "/dev/shm", "/dev/mqueue"];
/// Kernel knobs in /proc that a root process could use to run something outside of the sandbox
/// (`core_pattern` alone is enough).
const PROC_KNOBS: [&str; 6] =
    ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi"];
/// Where the sockets of the machine's services are, with which CMD could have things done outside.
const RUN: &str = "/run";
/// Resolver configuration that /etc/resolv.conf links to.
const RESOLVERS: [&str; 2] = ["/run/systemd/resolve", "/run/resolvconf"];

/// Cuts the mounts off from the machine's, gives a /proc of the new pid namespace and terminals of
/// its own, hides services and the agent's directories, and takes the devices away.
pub(super) fn seal(plan: &Plan) -> Result<(), SandboxError> {
    let root = Path::new("/");
    mount(None::<&str>, root, None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(failed("make private", root))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = Path::new("/proc");
    mount(Some("proc"), proc, Some("proc"), flags, None::<&str>).map_err(failed("mount", proc))?;
    for knob in PROC_KNOBS {
        read_only_copy(Path::new(knob))?;
    }
    hide_services()?;
    for directory in &plan.writable {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(directory), directory, None::<&str>, flags, None::<&str>)
            .map_err(failed("make writable", directory))?;
    }
    for directory in &plan.hide {
        hide(directory)?;
    }
    for path in &plan.protect {
        read_only_copy(path)?;
    }
    take_devices()
}

/// Puts an empty directory over /run, with the resolver's configuration put back.
fn hide_services() -> Result<(), SandboxError> {
    let open: Vec<_> = RESOLVERS
        .iter()
        .filter_map(|path| Some((Path::new(path), File::open(path).ok()?)))
        .collect();
    let run = Path::new(RUN);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), run, Some("tmpfs"), flags, Some("size=1m,mode=0755"))
        .map_err(failed("hide", run))?;
    for (path, directory) in open {
        let source = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        fs::create_dir_all(path).map_err(|error| SandboxError::Mount {
            action: "make",
            path: path.to_owned(),
            source: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
        })?;
        mount(Some(&source), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(failed("bind", path))?;
    }
    Ok(())
}

/// Makes every mount read-only but those named, so that nothing outside of the sandbox can be made
/// to run what CMD has written. After joining the cgroup, which is a write.
pub(super) fn forbid_writing(writable: &[PathBuf]) -> Result<(), SandboxError> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let Some(point) = line.split(' ').nth(1).map(unescape) else { continue };
        let stays = WRITABLE_POINTS.iter().any(|known| point == Path::new(known))
            || DEVICES.iter().any(|known| point == Path::new(known))
            || writable.contains(&point);
        if !stays {
            remount(&point, MsFlags::MS_RDONLY)?;
        }
    }
    Ok(())
}

/// A read-only bind mount of something onto itself; what does not exist needs none.
fn read_only_copy(path: &Path) -> Result<(), SandboxError> {
    if !path.exists() {
        return Ok(());
    }
    bind(path)?;
    remount(path, MsFlags::MS_RDONLY)
}

/// Puts an empty read-only directory over one of the agent's.
fn hide(directory: &Path) -> Result<(), SandboxError> {
    if !directory.is_dir() {
        return Ok(());
    }
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some("size=4k,mode=000"))
        .map_err(failed("hide", directory))
}

/// Devices on their own mounts keep working when /dev itself becomes `nodev`.
fn take_devices() -> Result<(), SandboxError> {
    let dev = Path::new("/dev");
    if !is_mount_point(dev) {
        mount(Some(dev), dev, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .map_err(failed("bind", dev))?;
    }
    for device in DEVICES {
        let device = Path::new(device);
        if device.exists() {
            bind(device)?;
        }
    }
    remount(dev, MsFlags::MS_NODEV)?;
    // Terminals of other sessions would be open to root; an inherited one stays usable.
    let terminals = Path::new("/dev/pts");
    if !terminals.exists() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(
        Some("devpts"),
        terminals,
        Some("devpts"),
        flags,
        Some("newinstance,ptmxmode=0666,mode=0620"),
    )
    .map_err(failed("mount", terminals))
}

fn is_mount_point(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(1)).any(|point| unescape(point) == path)
}

fn bind(path: &Path) -> Result<(), SandboxError> {
    mount(Some(path), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(failed("bind", path))
}

/// Adds flags to a mount point of this namespace, without touching the file system below it. The
/// flags it has must be repeated, or the kernel takes the call as a request to drop them.
fn remount(point: &Path, add: MsFlags) -> Result<(), SandboxError> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | add | current_flags(point);
    match mount(None::<&str>, point, None::<&str>, flags, None::<&str>) {
        // Covered by a later mount, so out of reach anyway.
        Err(Errno::EINVAL | Errno::ENOENT) if !is_mount_point(point) => Ok(()),
        result => result.map_err(failed("remount", point)),
    }
}

fn current_flags(point: &Path) -> MsFlags {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let options = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        (unescape(fields.nth(1)?) == point).then(|| fields.nth(1))?
    });
    let mut flags = MsFlags::empty();
    for option in options.unwrap_or("").split(',') {
        flags |= match option {
            "ro" => MsFlags::MS_RDONLY,
            "nosuid" => MsFlags::MS_NOSUID,
            "nodev" => MsFlags::MS_NODEV,
            "noexec" => MsFlags::MS_NOEXEC,
            "noatime" => MsFlags::MS_NOATIME,
            "nodiratime" => MsFlags::MS_NODIRATIME,
            "relatime" => MsFlags::MS_RELATIME,
            _ => MsFlags::empty(),
        };
    }
    flags
}

/// `/proc/self/mounts` writes space, tab, newline and backslash as octal.
fn unescape(point: &str) -> PathBuf {
    let mut plain = point.to_owned();
    for (escaped, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
    {
        plain = plain.replace(escaped, character);
    }
    PathBuf::from(plain)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> SandboxError {
    let path = path.to_owned();
    move |source| SandboxError::Mount { action, path, source }
}
