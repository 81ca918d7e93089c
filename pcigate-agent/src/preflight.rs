//! What this node can do, found out before anything is promised. Each check has a name, a finding
//! and, where something is missing, a remedy.

use std::{fs, path::Path};

use caps::{CapSet, Capability};

use crate::{
    btf::{self, Btf},
    cgroup, offsets, privileges,
};

/// The list of active security modules.
pub const LSM_LIST: &str = "/sys/kernel/security/lsm";
/// Where BPF objects are pinned.
pub const BPFFS: &str = "/sys/fs/bpf";
/// The kernel programs use `bpf_loop`, which came with 5.17; no older kernel can load them. They
/// are tested from 6.1 on.
pub const KERNEL_MIN: (u32, u32) = (5, 17);
const KERNEL_REMEDY: &str = "run Linux 5.17 or newer (tested from 6.1 on)";

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is missing.
    Ok,
    /// The agent works, but not as far as it could.
    Limited,
    /// The agent cannot work.
    Missing,
}

/// One thing looked at.
#[derive(Clone, Debug)]
pub struct Check {
    /// Stable name.
    pub name: &'static str,
    /// How it ended.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
}

impl Check {
    fn new(name: &'static str, state: State, detail: impl Into<String>, remedy: &str) -> Self {
        Self { name, state, detail: detail.into(), remedy: remedy.to_owned() }
    }
}

/// Looks at everything that needs no program to be loaded.
#[must_use]
pub fn checks() -> Vec<Check> {
    vec![kernel(), privileges(), types(), cgroups(), bpffs(Path::new(BPFFS)), lsm()]
}

/// The first thing without which nothing can be enforced, as one sentence with its remedy.
#[must_use]
pub fn obstacle() -> Option<String> {
    let needed = [kernel(), privileges(), types(), cgroups()];
    let missing = needed.into_iter().find(|check| check.state == State::Missing)?;
    Some(format!("{}: {}", missing.detail, missing.remedy))
}

fn kernel() -> Check {
    kernel_of(&release())
}

fn kernel_of(release: &str) -> Check {
    if version(release).is_some_and(|version| version < KERNEL_MIN) {
        let detail = format!("Linux {release} is too old for the kernel programs");
        return Check::new("kernel", State::Missing, detail, KERNEL_REMEDY);
    }
    Check::new("kernel", State::Ok, format!("Linux {release}"), "")
}

/// Major and minor number of the running kernel; nothing where it does not say them.
#[must_use]
pub fn running_kernel() -> Option<(u32, u32)> {
    version(&release())
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn privileges() -> Check {
    let has = |held: Capability| caps::has_cap(None, CapSet::Effective, held).unwrap_or(false);
    let lacking = |needed: &[Capability]| -> Vec<Capability> {
        needed.iter().copied().filter(|&capability| !has(capability)).collect()
    };
    let missing = lacking(&privileges::TO_START);
    let unkept = lacking(&privileges::SERVE);
    if missing.is_empty() && unkept.is_empty() {
        let detail = format!(
            "all capabilities needed are there: {} to start; kept afterwards: {}",
            listed(&privileges::TO_START),
            listed(&privileges::SERVE)
        );
        return Check::new("privileges", State::Ok, detail, "");
    }
    if missing.is_empty() {
        let detail = format!("capabilities are missing: {}", listed(&unkept));
        let remedy = "give them too, or programs of other users are not named";
        return Check::new("privileges", State::Limited, detail, remedy);
    }
    let detail = format!("capabilities are missing: {}", listed(&missing));
    Check::new("privileges", State::Missing, detail, "run pcigate-agent as root")
}

fn listed(capabilities: &[Capability]) -> String {
    capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn types() -> Check {
    match Btf::read(Path::new(btf::VMLINUX)).and_then(|btf| offsets::find(&btf)) {
        Ok(_) => Check::new("type-information", State::Ok, "every field needed is known", ""),
        Err(error) => Check::new(
            "type-information",
            State::Missing,
            error.to_string(),
            "run a kernel with CONFIG_DEBUG_INFO_BTF=y",
        ),
    }
}

fn cgroups() -> Check {
    match cgroup::mount_point() {
        Ok(mount) => {
            let detail = format!("cgroup v2 is mounted at {}", mount.display());
            Check::new("cgroup2", State::Ok, detail, "")
        }
        Err(_) => Check::new(
            "cgroup2",
            State::Missing,
            "no cgroup2 filesystem is mounted",
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with \
             systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

/// Whether links can be pinned at `mount`, which `serve` needs.
#[must_use]
pub fn bpffs(mount: &Path) -> Check {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let options = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ');
        let (point, kind) = (fields.nth(1)?, fields.next()?);
        (Path::new(point) == mount && kind == "bpf").then(|| fields.next().unwrap_or(""))
    });
    let shown = mount.display();
    match options {
        None => Check::new(
            "bpffs",
            State::Limited,
            format!("no bpffs at {shown}: enforcement cannot outlive the agent"),
            &format!("mount -t bpf bpf {shown}"),
        ),
        Some(options) if options.split(',').any(|option| option == "ro") => Check::new(
            "bpffs",
            State::Limited,
            format!("the bpffs at {shown} is read-only: enforcement cannot outlive the agent"),
            &format!("mount -o remount,rw {shown}"),
        ),
        Some(_) => Check::new("bpffs", State::Ok, format!("bpffs at {shown}"), ""),
    }
}

fn lsm() -> Check {
    match bpf_lsm_listed() {
        Ok(()) => Check::new("bpf-lsm", State::Ok, "bpf is among the active LSMs", ""),
        Err(detail) => Check::new(
            "bpf-lsm",
            State::Limited,
            format!("{detail}: execs are refused by SIGKILL before the first instruction"),
            "for EPERM instead, mount securityfs at /sys/kernel/security and boot with `bpf` in \
             the lsm= list",
        ),
    }
}

/// Whether `bpf` is in the list of active security modules. A program for an inactive one loads,
/// attaches and never fires.
///
/// # Errors
/// What stands against it, without a remedy.
pub fn bpf_lsm_listed() -> Result<(), String> {
    let list = fs::read_to_string(LSM_LIST).map_err(|error| {
        format!("the list of active LSMs is not readable ({LSM_LIST}: {error})")
    })?;
    if list.trim().split(',').any(|name| name == "bpf") {
        Ok(())
    } else {
        Err(format!("bpf is not among the active LSMs ({})", list.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_compared_as_numbers() {
        assert_eq!(version("6.1.0-32-cloud-amd64"), Some((6, 1)));
        assert!(version("5.4.0").unwrap() < KERNEL_MIN);
        assert!(version("6.1.1").unwrap() > KERNEL_MIN);
        assert_eq!(version("strange"), None);
    }

    #[test]
    fn a_kernel_without_what_the_programs_use_is_refused_with_the_release_that_has_it() {
        let check = kernel_of("5.10.0-46-cloud-amd64");
        assert_eq!(check.state, State::Missing);
        assert_eq!(check.detail, "Linux 5.10.0-46-cloud-amd64 is too old for the kernel programs");
        let (major, minor) = KERNEL_MIN;
        assert!(check.remedy.contains(&format!("Linux {major}.{minor} or newer")), "{check:?}");
        assert_eq!(kernel_of("5.17.1").state, State::Ok);
    }

    #[test]
    fn a_directory_that_is_no_bpffs_is_named_with_the_remedy() {
        let check = bpffs(Path::new("/proc"));
        assert_eq!(check.state, State::Limited);
        assert_eq!(check.remedy, "mount -t bpf bpf /proc");
    }
}
