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
        sock_net: at("sock", "__sk_common.skc_net.net")?,
        net_cookie: at("net", "net_cookie")?,
    })
}
