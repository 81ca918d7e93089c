//! What a process does first that the agent starts from its own program: keeps no descriptor of
//! the agent's, and ends with it.

use std::{fs, io};

use nix::{
    sys::{
        prctl,
        signal::{SigSet, Signal},
    },
    unistd::close,
};

/// Closes every descriptor but the standard three: a directory of the cgroup tree, or a socket of
/// another cgroup, would lead out.
///
/// # Errors
/// They cannot be listed.
pub fn close_inherited() -> io::Result<()> {
    let entries = fs::read_dir("/proc/self/fd")?;
    let open: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|&fd| fd > 2) {
        // The one the directory was read through is closed already.
        let _ = close(fd);
    }
    Ok(())
}

/// Ends this process by SIGKILL when the thread that started it ends, and leaves all signals that
/// can be left to whoever decides about the end.
///
/// # Errors
/// What was tried, and what the kernel says.
pub fn die_with_parent() -> Result<(), (&'static str, io::Error)> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| ("PR_SET_PDEATHSIG", errno.into()))?;
    block_signals()
}

/// Leaves all signals that can be left to others; what is started inherits that.
///
/// # Errors
/// As [`die_with_parent`].
pub fn block_signals() -> Result<(), (&'static str, io::Error)> {
    let mut all = SigSet::all();
    all.remove(Signal::SIGCHLD);
    all.thread_block().map_err(|errno| ("blocking signals", errno.into()))
}
