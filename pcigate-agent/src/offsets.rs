//! The struct offsets the kernel programs need, from the running kernel's BTF.

use pcigate_common::settings::Offsets;

use crate::btf::{Btf, BtfError};

/// Finds every field the programs read.
///
/// # Errors
/// Names the first field this kernel does not have.
pub fn find(btf: &Btf) -> Result<Offsets, BtfError> {
    let at = |of: &str, field: &str| btf.offset(of, field);
    Ok(Offsets {
        task_mm: at("task_struct", "mm")?,
        task_nsproxy: at("task_struct", "nsproxy")?,
        task_signal: at("task_struct", "signal")?,
        task_group_leader: at("task_struct", "group_leader")?,
        task_real_parent: at("task_struct", "real_parent")?,
        task_start_boottime: at("task_struct", "start_boottime")?,
        task_pid: at("task_struct", "pid")?,
        task_tgid: at("task_struct", "tgid")?,
        task_exit_code: at("task_struct", "exit_code")?,
        signal_live: at("signal_struct", "live")?,
        mm_arg_start: at("mm_struct", "arg_start")?,
        mm_arg_end: at("mm_struct", "arg_end")?,
        mm_exe_file: at("mm_struct", "exe_file")?,
        file_f_path: at("file", "f_path")?,
        path_mnt: at("path", "mnt")?,
        path_dentry: at("path", "dentry")?,
        dentry_d_parent: at("dentry", "d_parent")?,
        dentry_name: at("dentry", "d_name.name")?,
        dentry_name_len: at("dentry", "d_name.len")?,
        vfsmount_mnt_root: at("vfsmount", "mnt_root")?,
        mount_mnt: at("mount", "mnt")?,
        mount_mnt_parent: at("mount", "mnt_parent")?,
        mount_mnt_mountpoint: at("mount", "mnt_mountpoint")?,
        nsproxy_mnt_ns: at("nsproxy", "mnt_ns")?,
        mnt_namespace_root: at("mnt_namespace", "root")?,
        bprm_file: at("linux_binprm", "file")?,
        bprm_filename: at("linux_binprm", "filename")?,
        ..of_sockets(btf)?
    })
}

/// What only the programs about sockets read; the rest as the others find it.
fn of_sockets(btf: &Btf) -> Result<Offsets, BtfError> {
    let at = |of: &str, field: &str| btf.offset(of, field);
    Ok(Offsets {
        socket_sk: at("socket", "sk")?,
        sock_family: at("sock", "__sk_common.skc_family")?,
        sock_num: at("sock", "__sk_common.skc_num")?,
        sock_dport: at("sock", "__sk_common.skc_dport")?,
        sock_daddr: at("sock", "__sk_common.skc_daddr")?,
        // A kernel without IPv6 has no such sockets either.
        sock_v6_daddr: at("sock", "__sk_common.skc_v6_daddr").unwrap_or_default(),
        sock_type: at("sock", "sk_type")?,
        sock_protocol: at("sock", "sk_protocol")?,
        sock_cgroup: at("sock", "sk_cgrp_data.cgroup")?,
        cgroup_kn: at("cgroup", "kn")?,
        msghdr_name: at("msghdr", "msg_name")?,
        unix_addr: at("unix_sock", "addr")?,
        unix_address_len: at("unix_address", "len")?,
        unix_address_name: at("unix_address", "name")?,
        sock_net: at("sock", "__sk_common.skc_net.net")?,
        net_cookie: at("net", "net_cookie")?,
        icsk_ulp_ops: at("inet_connection_sock", "icsk_ulp_ops")?,
        inet_opt: at("inet_sock", "inet_opt")?,
        ip_options_srr: at("ip_options_rcu", "opt.srr")?,
        inet_pinet6: at("inet_sock", "pinet6").unwrap_or_default(),
        ipv6_opt: at("ipv6_pinfo", "opt").unwrap_or_default(),
        ipv6_options_srcrt: at("ipv6_txoptions", "srcrt").unwrap_or_default(),
        ..of_guards(btf)?
    })
}

/// What only the guards read; the rest as the others find it.
fn of_guards(btf: &Btf) -> Result<Offsets, BtfError> {
    let at = |of: &str, field: &str| btf.offset(of, field);
    Ok(Offsets {
        task_cgroups: at("task_struct", "cgroups")?,
        task_real_cred: at("task_struct", "real_cred")?,
        css_set_dfl_cgrp: at("css_set", "dfl_cgrp")?,
        cgroup_parent: at("cgroup", "self.parent")?,
        css_cgroup: at("cgroup_subsys_state", "cgroup")?,
        kernfs_node_id: at("kernfs_node", "id")?,
        file_f_mode: at("file", "f_mode")?,
        file_f_inode: at("file", "f_inode")?,
        inode_i_sb: at("inode", "i_sb")?,
        super_block_s_magic: at("super_block", "s_magic")?,
        vfsmount_mnt_sb: at("vfsmount", "mnt_sb")?,
        ..of_files(btf)?
    })
}

/// What only the look-up of digests reads; the rest is zero.
fn of_files(btf: &Btf) -> Result<Offsets, BtfError> {
    let at = |of: &str, field: &str| btf.offset(of, field);
    // A timespec64 until 6.10, under a private name since 6.6.
    let ctime = |field: &str, of_timespec: &str| {
        at("inode", field)
            .or_else(|_| at("inode", &format!("__i_ctime.{of_timespec}")))
            .or_else(|_| at("inode", &format!("i_ctime.{of_timespec}")))
    };
    Ok(Offsets {
        inode_i_ino: at("inode", "i_ino")?,
        inode_i_size: at("inode", "i_size")?,
        inode_i_writecount: at("inode", "i_writecount")?,
        inode_ctime_sec: ctime("i_ctime_sec", "tv_sec")?,
        inode_ctime_nsec: ctime("i_ctime_nsec", "tv_nsec")?,
        super_block_s_dev: at("super_block", "s_dev")?,
        mm_start_code: at("mm_struct", "start_code")?,
        vma_vm_file: at("vm_area_struct", "vm_file")?,
        ..Offsets::default()
    })
}
