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
    /// `socket.sk`
    pub socket_sk: u32,
    /// `sock.__sk_common.skc_family`
    pub sock_family: u32,
    /// `sock.__sk_common.skc_num`
    pub sock_num: u32,
    /// `sock.__sk_common.skc_dport`
    pub sock_dport: u32,
    /// `sock.__sk_common.skc_daddr`
    pub sock_daddr: u32,
    /// `sock.__sk_common.skc_v6_daddr`
    pub sock_v6_daddr: u32,
    /// `sock.sk_type`
    pub sock_type: u32,
    /// `sock.sk_protocol`
    pub sock_protocol: u32,
    /// `sock.sk_cgrp_data` + `sock_cgroup_data.cgroup`
    pub sock_cgroup: u32,
    /// `cgroup.kn`
    pub cgroup_kn: u32,
    /// `msghdr.msg_name`
    pub msghdr_name: u32,
    /// `unix_sock.addr`
    pub unix_addr: u32,
    /// `unix_address.len`
    pub unix_address_len: u32,
    /// `unix_address.name`
    pub unix_address_name: u32,
    /// `task_struct.cgroups`
    pub task_cgroups: u32,
    /// `task_struct.real_cred`
    pub task_real_cred: u32,
    /// `css_set.dfl_cgrp`
    pub css_set_dfl_cgrp: u32,
    /// `cgroup.self` + `cgroup_subsys_state.parent`
    pub cgroup_parent: u32,
    /// `cgroup_subsys_state.cgroup`
    pub css_cgroup: u32,
    /// `kernfs_node.id`
    pub kernfs_node_id: u32,
    /// `file.f_mode`
    pub file_f_mode: u32,
    /// `file.f_inode`
    pub file_f_inode: u32,
    /// `inode.i_sb`
    pub inode_i_sb: u32,
    /// `vfsmount.mnt_sb`
    pub vfsmount_mnt_sb: u32,
    /// `inode.i_ino`
    pub inode_i_ino: u32,
    /// `inode.i_size`
    pub inode_i_size: u32,
    /// `inode.i_writecount`
    pub inode_i_writecount: u32,
    /// Seconds of the inode's change time: `i_ctime_sec` (6.11), `__i_ctime` (6.6), `i_ctime`
    pub inode_ctime_sec: u32,
    /// Its nanoseconds
    pub inode_ctime_nsec: u32,
    /// `super_block.s_dev`
    pub super_block_s_dev: u32,
    /// `super_block.s_magic`
    pub super_block_s_magic: u32,
    /// `mm_struct.start_code`
    pub mm_start_code: u32,
    /// `vm_area_struct.vm_file`
    pub vma_vm_file: u32,
    /// `inet_sock.inet_opt`
    pub inet_opt: u32,
    /// `ip_options_rcu.opt.srr`
    pub ip_options_srr: u32,
    /// `inet_sock.pinet6`
    pub inet_pinet6: u32,
    /// `ipv6_pinfo.opt`
    pub ipv6_opt: u32,
    /// `ipv6_txoptions.srcrt`
    pub ipv6_options_srcrt: u32,
    /// `sock.__sk_common` + `sock_common.skc_net`
    pub sock_net: u32,
    /// `net.net_cookie`
    pub net_cookie: u32,
    /// `inet_connection_sock.icsk_ulp_ops`
    pub icsk_ulp_ops: u32,
}
const _: () = assert!(size_of::<Offsets>() == 68 * 4);

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
