//! The sandbox's own view of the mounts: its /proc, no cgroup or kernel knob to write, no device
//! but the harmless ones, nothing of the agent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};

use super::SandboxError;

/// Kernel knobs in /proc that a root process could use to run something outside of the sandbox
/// (`core_pattern` alone is enough).
const PROC_KNOBS: [&str; 6] =
    ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/acpi"];
/// Devices that stay usable; all others (disks!) do not, because /dev becomes `nodev`.
const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
/// File systems through which cgroups, BPF pins, tracing or the firmware could be changed.
const READ_ONLY_KINDS: [&str; 9] =
    ["cgroup", "cgroup2", "bpf", "sysfs", "tracefs", "debugfs", "securityfs", "pstore", "efivarfs"];

/// Cuts the mounts off from the machine's, gives a /proc of the new pid namespace, hides the
/// agent's directories and takes the devices away.
pub(super) fn seal(hidden: &[PathBuf]) -> Result<(), SandboxError> {
    let root = Path::new("/");
    mount(None::<&str>, root, None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(failed("make private", root))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = Path::new("/proc");
    mount(Some("proc"), proc, Some("proc"), flags, None::<&str>).map_err(failed("mount", proc))?;
    for knob in PROC_KNOBS {
        read_only_copy(Path::new(knob))?;
    }
    for directory in hidden {
        hide(directory)?;
    }
    take_devices()
}

/// Makes every mount read-only through which the sandbox could be left. After joining the cgroup,
/// which is a write to one of them.
pub(super) fn forbid_writing() -> Result<(), SandboxError> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(point), Some(kind)) = (fields.nth(1), fields.next()) else { continue };
        let point = unescape(point);
        if READ_ONLY_KINDS.contains(&kind) || point.starts_with("/sys") {
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
    remount(dev, MsFlags::MS_NODEV)
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
