//! System calls that an agent which enforces never makes (EPERM). It runs no program, mounts
//! nothing, loads nothing into the kernel and looks into no process's memory.

use nix::libc;
use seccompiler::BpfProgram;

use crate::seccomp::{self, Rules};

const REFUSED: [libc::c_long; 45] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_unshare,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
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
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];
/// Commands of bpf(2) on maps that are open already, include/uapi/linux/bpf.h `enum bpf_cmd`:
/// look up, update, delete, next key, info, look up and delete, and the four on batches.
const BPF: [u64; 10] = [1, 2, 3, 4, 15, 21, 24, 25, 26, 27];
/// Families of the collector's connection, the gateway, names, the log, and closing connections of
/// pods.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

pub(super) fn program() -> Result<BpfProgram, String> {
    let rules = rules().map_err(|error| error.to_string())?;
    seccomp::refusing(rules, libc::EPERM)
}

/// As [`program`], for the process that starts the gateway's: that it does start programs, and
/// makes local sockets and no bpf(2) call.
pub(super) fn keeper() -> Result<BpfProgram, String> {
    let rules = || {
        let mut rules = rules()?;
        rules.remove(&libc::SYS_execve);
        rules.insert(libc::SYS_bpf, vec![]);
        rules.insert(libc::SYS_setns, vec![]);
        let local = u64::from(libc::AF_UNIX.cast_unsigned());
        rules.insert(libc::SYS_socket, vec![seccomp::none_of(0, &[local])?]);
        Ok(rules)
    };
    let rules = rules().map_err(|error: seccompiler::BackendError| error.to_string())?;
    seccomp::refusing(rules, libc::EPERM)
}

fn rules() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|&call| (call, vec![])).collect();
    let network = u64::from(libc::CLONE_NEWNET.cast_unsigned());
    let families = FAMILIES.map(|family| u64::from(family.cast_unsigned()));
    rules.insert(libc::SYS_setns, vec![seccomp::none_of(1, &[network])?]);
    rules.insert(libc::SYS_bpf, vec![seccomp::none_of(0, &BPF)?]);
    rules.insert(libc::SYS_socket, vec![seccomp::none_of(0, &families)?]);
    Ok(rules)
}
