//! What the agent may still do once it enforces: the capabilities it keeps, each with its reason,
//! and the system calls it gives up. An agent that cannot give the rest up does not go on.
//!
//! The maps need none of them: since Linux 5.19 they can be written through descriptors whatever
//! `kernel.unprivileged_bpf_disabled` says.

mod filter;
mod threads;

use std::{fs, io, path::Path};

use caps::Capability;

/// Needed to start. A test shows that these are enough on every kernel.
pub const TO_START: [Capability; 5] = [
    // Maps and programs.
    Capability::CAP_BPF,
    // Programs that read kernel memory: tracing, LSM.
    Capability::CAP_PERFMON,
    // Programs of cgroups.
    Capability::CAP_NET_ADMIN,
    // The gateway's process becomes another user.
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
];

/// What `serve` keeps.
pub const SERVE: [Capability; 4] = [
    // setns(2) into a pod's network namespace, where its connections are closed, and where the
    // gateway listens and dials.
    Capability::CAP_SYS_ADMIN,
    // Closing connections there (SOCK_DESTROY).
    Capability::CAP_NET_ADMIN,
    // /proc/PID/exe, /proc/PID/root and /proc/PID/ns of processes with other users or privileges.
    Capability::CAP_SYS_PTRACE,
    // Reading containers' files below /proc/PID/root, and keys that belong to another user.
    Capability::CAP_DAC_READ_SEARCH,
];

/// What the agent of `exec` keeps beside its command.
pub const EXEC: [Capability; 3] = [
    // Ending what the command has started as another user.
    Capability::CAP_KILL,
    // As for `serve`.
    Capability::CAP_SYS_PTRACE,
    // The state directory may be anybody's, and the root of the cgroup tree read-only.
    Capability::CAP_DAC_OVERRIDE,
];

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// Why privileges are still there.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    /// A thread still has one.
    #[error(
        "cannot give up capabilities: thread {thread} still has {sets}; give the agent CAP_SETPCAP \
         too, or no others than {kept}"
    )]
    Capabilities {
        /// Thread id.
        thread: String,
        /// The sets, as /proc tells them.
        sets: String,
        /// What it should have at most.
        kept: String,
    },
    /// The kernel does not take the filter.
    #[error("cannot filter the agent's own system calls ({what}): run a kernel with seccomp")]
    Filter {
        /// What the kernel or the compiler of filters says.
        what: String,
    },
    /// A thread has no filter.
    #[error("cannot filter the system calls of thread {thread}: restart the agent")]
    Unfiltered {
        /// Thread id.
        thread: String,
    },
    /// The threads cannot be listed or reached.
    #[error("cannot see the agent's own threads in /proc/self/task: mount proc")]
    Threads(#[source] io::Error),
}

/// Takes everything but `kept` from every thread of this process and of all it makes later: from
/// the effective, permitted, inheritable, ambient and bounding sets; no new privileges; a filter of
/// system calls.
///
/// # Errors
/// Something could not be given up: the process must not go on.
pub fn give_up(kept: &[Capability]) -> Result<(), PrivilegesError> {
    let mask = kept.iter().fold(0, |mask, capability| mask | capability.bitmask());
    // A thread gives up its effective set last, so where that is done, all is that can be done.
    threads::take_capabilities(mask, |status| excess(status, mask, &["CapEff"]).is_none())
        .map_err(PrivilegesError::Threads)?;
    let filter = filter::program().map_err(|what| PrivilegesError::Filter { what })?;
    seccompiler::apply_filter_all_threads(&filter)
        .map_err(|error| PrivilegesError::Filter { what: error.to_string() })?;
    for (thread, status) in threads::all().map_err(PrivilegesError::Threads)? {
        if let Some(sets) = excess(&status, mask, &SETS) {
            let kept = kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(PrivilegesError::Capabilities { thread, sets, kept });
        }
        if field(&status, "NoNewPrivs") != Some("1") || field(&status, "Seccomp") != Some("2") {
            return Err(PrivilegesError::Unfiltered { thread });
        }
    }
    Ok(())
}

/// The filter of the process that starts the gateway's.
///
/// # Errors
/// What the compiler of filters says, as text.
pub(crate) fn keeper_filter() -> Result<seccompiler::BpfProgram, String> {
    filter::keeper()
}

/// The sets in a thread's status that hold more than `mask`.
fn excess(status: &str, mask: u64, sets: &[&str]) -> Option<String> {
    let more: Vec<_> = sets
        .iter()
        .filter(|set| {
            let held = field(status, set).and_then(|set| u64::from_str_radix(set, 16).ok());
            held.is_none_or(|held| held & !mask != 0)
        })
        .map(|set| format!("{set} {}", field(status, set).unwrap_or("unknown")))
        .collect();
    if more.is_empty() { None } else { Some(more.join(", ")) }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim)
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        // The thread has ended meanwhile: ENOENT, or ESRCH while it does.
        Err(error) if matches!(error.raw_os_error(), Some(2 | 3)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_holds_more_than_what_is_kept_is_named() {
        let status = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000020\n\
                      CapEff:\t0000000000000020\nCapBnd:\t0000000000000120\nCapAmb:\t0\n";
        assert_eq!(excess(status, 0x120, &SETS), None);
        assert_eq!(excess(status, 0x20, &SETS).unwrap(), "CapBnd 0000000000000120");
        let unreadable = excess("", 0x20, &SETS).unwrap();
        assert!(unreadable.contains("CapEff unknown"), "errors never mean allow");
    }
}
