//! What the loader tells the kernel programs before they are verified: struct offsets of this
//! kernel, and where and how to govern. Both are frozen read-only data, so the verifier sees
//! constants.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Byte offsets of the fields the programs read, from the running kernel's BTF. They move between
/// kernels (`linux_binprm.file`: 64 up to 6.18, 88 in 7.3), so nothing is compiled in.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Offsets {
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `task_struct.nsproxy`
    pub task_nsproxy: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.real_parent`
    pub task_real_parent: u32,
    /// `task_struct.start_boottime`
    pub task_start_boottime: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.exit_code`
    pub task_exit_code: u32,
    /// `signal_struct.live`
    pub signal_live: u32,
    /// `mm_struct.arg_start`
    pub mm_arg_start: u32,
    /// `mm_struct.arg_end`
    pub mm_arg_end: u32,
    /// `mm_struct.exe_file`
    pub mm_exe_file: u32,
    /// `file.f_path`
    pub file_f_path: u32,
    /// `path.mnt`
    pub path_mnt: u32,
    /// `path.dentry`
    pub path_dentry: u32,
    /// `dentry.d_parent`
    pub dentry_d_parent: u32,
    /// `dentry.d_name` + `qstr.name`
    pub dentry_name: u32,
    /// `dentry.d_name` + `qstr.len`
    pub dentry_name_len: u32,
    /// `vfsmount.mnt_root`
    pub vfsmount_mnt_root: u32,
    /// `mount.mnt`
    pub mount_mnt: u32,
    /// `mount.mnt_parent`
    pub mount_mnt_parent: u32,
    /// `mount.mnt_mountpoint`
    pub mount_mnt_mountpoint: u32,
    /// `nsproxy.mnt_ns`
    pub nsproxy_mnt_ns: u32,
    /// `mnt_namespace.root`
    pub mnt_namespace_root: u32,
    /// `linux_binprm.file`
    pub bprm_file: u32,
    /// `linux_binprm.filename`
    pub bprm_filename: u32,
    /// `sock.__sk_common` + `sock_common.skc_net`
    pub sock_net: u32,
    /// `net.net_cookie`
    pub net_cookie: u32,
}
const _: () = assert!(size_of::<Offsets>() == 29 * 4);

/// Where and how to govern.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Settings {
    /// cgroup id of the governed root; tasks outside of it are never looked at.
    pub root_cgroup: u64,
    /// Level of that cgroup below the root of the cgroup2 tree (the root itself is 0).
    pub root_level: u32,
    /// [`crate::maps::verdict`] for cgroups below the root that no workload is known for.
    pub unknown_verdict: u32,
    /// Whether DNS answers that come over loopback teach names. 1 only in tests on machines that
    /// have no other interface: any process of a network namespace can forge such answers.
    pub loopback_teaches: u32,
    /// Unused, zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Settings>() == 24);
