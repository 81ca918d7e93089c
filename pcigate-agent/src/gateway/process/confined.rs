//! What the gateway's process may do: nothing but compute, and speak over the sockets it is given.
//!
//! It is a user of its own without any capability, cannot gain privileges, leaves no core, and
//! nobody without privilege can look into it. It opens no file and no socket, starts no program,
//! maps no memory that can be executed, and signals nobody but itself.

use std::{collections::BTreeMap, fs, io};

use caps::CapSet;
use nix::{
    libc,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
    },
    unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid},
};
use seccompiler::{
    BackendError, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompRule,
};

use crate::{
    privileges,
    seccomp::{self, Rules},
    stage,
};

/// User and group of the keeper and the gateway, where the agent is root: below `nobody`, in the
/// range that distributions leave free (65520 to 65533, systemd's UIDS-GIDS.md), and not 65532,
/// which many images run as.
pub const USER: u32 = 65_529;

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum ConfinedError {
    /// A step the kernel refuses.
    #[error(
        "the gateway's process cannot give up its privileges ({what}: {source}); give the agent \
         CAP_SETUID and CAP_SETGID until it enforces, and run a kernel with seccomp"
    )]
    Step {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has privileges after all.
    #[error("the gateway's process still has {what}; it does not run with that")]
    Privileged {
        /// As /proc/self/status has it.
        what: String,
    },
    /// The filter of system calls.
    #[error("the system calls of the gateway's process cannot be filtered: {what}")]
    Filter {
        /// What the kernel or the compiler of filters says.
        what: String,
    },
}

/// Gives up everything, descriptors but the standard three included, for this process and all it
/// starts, and looks whether it is gone. One thread only.
///
/// # Errors
/// See [`ConfinedError`].
pub fn give_up_all() -> Result<(), ConfinedError> {
    stage::close_inherited().map_err(|source| step("descriptors", source))?;
    stage::die_with_parent().map_err(|(what, source)| step(what, source))?;
    if geteuid().is_root() {
        for capability in caps::all() {
            // Without CAP_SETPCAP the set stays: no new privileges makes it worth nothing.
            let _ = caps::drop(None, CapSet::Bounding, capability);
        }
        let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
        let did = |what, result: nix::Result<()>| result.map_err(|errno| step(what, errno.into()));
        did("setgroups", setgroups(&[]))?;
        did("setresgid", setresgid(group, group, group))?;
        did("setresuid", setresuid(user, user, user))?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(|error| step("capset", io::Error::other(error)))?;
    }
    harden()?;
    let status = fs::read_to_string("/proc/self/status").map_err(|error| step("/proc", error))?;
    unprivileged(&status)
}

/// What does not outlast execve(2), or is cheaper done again than looked at.
///
/// # Errors
/// See [`ConfinedError`].
pub fn harden() -> Result<(), ConfinedError> {
    let did = |what, result: nix::Result<()>| result.map_err(|errno| step(what, errno.into()));
    did("PR_SET_NO_NEW_PRIVS", prctl::set_no_new_privs())?;
    did("PR_SET_DUMPABLE", prctl::set_dumpable(false))?;
    did("RLIMIT_CORE", setrlimit(Resource::RLIMIT_CORE, 0, 0))?;
    let files = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    did("RLIMIT_NOFILE", files)
}

/// Whether a process with this status has no capability and can gain none.
fn unprivileged(status: &str) -> Result<(), ConfinedError> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map_or("unknown", str::trim)
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        if u64::from_str_radix(field(set), 16) != Ok(0) {
            return Err(ConfinedError::Privileged { what: format!("{set} {}", field(set)) });
        }
    }
    if field("NoNewPrivs") != "1" || field("Uid").split_whitespace().any(|uid| uid == "0") {
        let what = format!("NoNewPrivs {}, Uid {}", field("NoNewPrivs"), field("Uid"));
        return Err(ConfinedError::Privileged { what });
    }
    Ok(())
}

fn step(what: &'static str, source: io::Error) -> ConfinedError {
    ConfinedError::Step { what, source }
}

/// The keeper's filter: that of an agent that enforces, but that it starts programs and makes
/// sockets of the local kind only. The gateway's process inherits it.
///
/// # Errors
/// See [`ConfinedError`].
pub fn start_programs_only() -> Result<(), ConfinedError> {
    let filter = privileges::keeper_filter().map_err(|what| ConfinedError::Filter { what })?;
    let applied = seccompiler::apply_filter_all_threads(&filter);
    applied.map_err(|error| ConfinedError::Filter { what: error.to_string() })
}

/// Calls the gateway's process makes once its runtime is there; all others fail with EPERM.
const ALLOWED: [libc::c_long; 44] = [
    // The sockets it is given.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_close,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_fcntl,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_poll,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads. clone3 is answered by the other filter.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Its own signals: a stack that overflows, an assertion.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_membarrier,
];

/// Gives up the system calls, for every thread there is and will be.
///
/// # Errors
/// See [`ConfinedError`].
pub fn compute_only() -> Result<(), ConfinedError> {
    let failed = |what: String| ConfinedError::Filter { what };
    // The C library makes threads with clone(2), whose flags a filter can see, where clone3 is
    // missing.
    let missing: Rules = BTreeMap::from([(libc::SYS_clone3, vec![])]);
    let missing = seccomp::refusing(missing, libc::ENOSYS).map_err(failed)?;
    let rules = rules().map_err(|error| failed(error.to_string()))?;
    let allowed = seccomp::allowing(rules, libc::EPERM).map_err(failed)?;
    for filter in [missing, allowed] {
        seccompiler::apply_filter_all_threads(&filter)
            .map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

fn rules() -> Result<Rules, BackendError> {
    let mut rules: Rules = ALLOWED.iter().map(|&call| (call, vec![])).collect();
    let is = |argument, length, op, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, length, op, value)?])
    };
    let number = |value: i32| u64::from(value.cast_unsigned());
    // No memory that can be executed.
    let code = Op::MaskedEq(number(libc::PROT_EXEC));
    rules.insert(libc::SYS_mmap, vec![is(2, Len::Dword, code.clone(), 0)?]);
    rules.insert(libc::SYS_mprotect, vec![is(2, Len::Dword, code, 0)?]);
    // Threads, and no processes.
    let thread = number(libc::CLONE_THREAD);
    rules.insert(libc::SYS_clone, vec![is(0, Len::Qword, Op::MaskedEq(thread), thread)?]);
    rules.insert(libc::SYS_ioctl, vec![is(1, Len::Dword, Op::Eq, libc::FIONBIO)?]);
    rules.insert(libc::SYS_prctl, vec![is(0, Len::Dword, Op::Eq, number(libc::PR_SET_NAME))?]);
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![is(0, Len::Dword, Op::Eq, own)?]);
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_any_privilege_left_does_not_run() {
        let status = |cap: &str, uid: &str| {
            format!(
                "Uid:\t{uid}\nCapInh:\t0000000000000000\nCapPrm:\t{cap}\n\
                 CapEff:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
            )
        };
        let (none, user) = ("0000000000000000", "65529\t65529\t65529\t65529");
        assert!(unprivileged(&status(none, user)).is_ok());
        assert!(unprivileged(&status("0000000000200000", user)).is_err());
        assert!(unprivileged(&status(none, "0\t65529\t65529\t65529")).is_err());
        assert!(unprivileged(&status(none, user).replace("Privs:\t1", "Privs:\t0")).is_err());
        assert!(unprivileged("").is_err(), "errors never mean allow");
    }
}
