//! What CMD may not do: capabilities it does not get, system calls it may not make.

use std::collections::BTreeMap;

use caps::{CapSet, Capability};
use nix::{libc, sys::prctl};
use seccompiler::{
    BackendError, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompRule,
};

use super::SandboxError;
use crate::seccomp::{self, Rules};

/// What ordinary programs run as root need. Everything else is dropped from the bounding set too,
/// so that no file capability brings it back: above all SYS_ADMIN, BPF, PERFMON, NET_ADMIN,
/// NET_RAW, SYS_PTRACE, SYS_MODULE, KILL, MKNOD.
const KEPT: [Capability; 9] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_AUDIT_WRITE,
];

/// System calls refused outright (EPERM): BPF and tracing, namespaces and mounts, modules, other
/// processes' memory, and io_uring, whose socket operation no seccomp filter sees.
const REFUSED: [libc::c_long; 28] = [
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Socket families that exist inside: unix, IPv4, IPv6 and (route only) netlink.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// Protocols of internet sockets that the egress hooks see completely: by type, TCP, UDP, MPTCP.
/// Raw, ICMP, SCTP, DCCP and UDP-Lite would pass them by in part.
const PROTOCOLS: [i32; 4] = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_MPTCP];
/// SOCK_STREAM and SOCK_DGRAM: with protocol 0 the others would be raw, SCTP or DCCP.
const TYPES: [u64; 2] = [1, 2];
const NAMESPACES: [i32; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWTIME,
];
/// Requests that put input into a terminal: TIOCSTI, and TIOCLINUX (paste on a console).
const TERMINAL_INPUT: [u64; 2] = [libc::TIOCSTI, 0x541c];
/// Low bits of `socket(2)`'s type without SOCK_NONBLOCK and SOCK_CLOEXEC.
const SOCKET_TYPE: u64 = 0xf;

/// Gives everything up, for this process and all it will start.
pub(super) fn drop_all() -> Result<(), SandboxError> {
    let step =
        |name: &str, error: String| SandboxError::Privileges { what: format!("{name}: {error}") };
    let kept = KEPT.into_iter().collect();
    for capability in caps::all() {
        let known = caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
        if known && !KEPT.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability)
                .map_err(|error| step("bounding set", error.to_string()))?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(|error| step("ambient set", error.to_string()))?;
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let held =
            caps::read(None, set).map_err(|error| step("capabilities", error.to_string()))?;
        let left = held.intersection(&kept).copied().collect();
        caps::set(None, set, &left).map_err(|error| step("capabilities", error.to_string()))?;
    }
    prctl::set_dumpable(false).map_err(|errno| step("PR_SET_DUMPABLE", errno.to_string()))?;
    prctl::set_no_new_privs().map_err(|errno| step("PR_SET_NO_NEW_PRIVS", errno.to_string()))?;
    // The C library falls back to clone(2), whose flags a filter can see, when clone3 is missing.
    let missing = BTreeMap::from([(libc::SYS_clone3, vec![])]);
    let refusals = refusals().map_err(|error| step("seccomp", error.to_string()))?;
    for (rules, errno) in [(missing, libc::ENOSYS), (refusals, libc::EPERM)] {
        let filter = seccomp::refusing(rules, errno).map_err(|error| step("seccomp", error))?;
        seccompiler::apply_filter(&filter).map_err(|error| step("seccomp", error.to_string()))?;
    }
    Ok(())
}

fn refusals() -> Result<Rules, BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|&call| (call, vec![])).collect();
    rules.insert(libc::SYS_socket, sockets()?);
    let namespaces = NAMESPACES.iter().map(|&flag| {
        let flag = u64::from(flag.cast_unsigned());
        SeccompRule::new(vec![SeccompCondition::new(0, Len::Qword, Op::MaskedEq(flag), flag)?])
    });
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    let inject = TERMINAL_INPUT.iter().map(|&request| {
        SeccompRule::new(vec![SeccompCondition::new(1, Len::Dword, Op::Eq, request)?])
    });
    rules.insert(libc::SYS_ioctl, inject.collect::<Result<_, _>>()?);
    Ok(rules)
}

/// `socket(family, type, protocol)` calls that are refused.
fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let argument = |index, op, value: i32| {
        SeccompCondition::new(index, Len::Dword, op, u64::from(value.cast_unsigned()))
    };
    let other_family = FAMILIES.map(|family| argument(0, Op::Ne, family));
    let mut rules = vec![SeccompRule::new(other_family.into_iter().collect::<Result<_, _>>()?)?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = argument(0, Op::Eq, family)?;
        for other in (0..=SOCKET_TYPE).filter(|kind| !TYPES.contains(kind)) {
            let kind = SeccompCondition::new(1, Len::Dword, Op::MaskedEq(SOCKET_TYPE), other)?;
            rules.push(SeccompRule::new(vec![family.clone(), kind])?);
        }
        let mut other_protocol = vec![family];
        for protocol in PROTOCOLS {
            other_protocol.push(argument(2, Op::Ne, protocol)?);
        }
        rules.push(SeccompRule::new(other_protocol)?);
    }
    let netlink = argument(0, Op::Eq, libc::AF_NETLINK)?;
    let other_netlink = argument(2, Op::Ne, libc::NETLINK_ROUTE)?;
    rules.push(SeccompRule::new(vec![netlink, other_netlink])?);
    Ok(rules)
}
