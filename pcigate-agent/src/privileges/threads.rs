//! Capabilities belong to a thread, and only the thread itself can give them up.
// unsafe: so each is interrupted by a signal whose handler does it, as libpsx does; sigaction(2),
// tgkill(2), capset(2) and prctl(2) with these arguments have no safe wrapper.
#![allow(unsafe_code)]

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet},
};

/// How long the threads may take. One that writes to a slow disk answers when that is done.
const WITHIN: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);
/// `_LINUX_CAPABILITY_VERSION_3`
const VERSION: u32 = 0x2008_0522;
/// More capabilities than there are; the kernel refuses numbers it does not know.
const CAPABILITIES: u64 = 64;

static KEPT: AtomicU64 = AtomicU64::new(0);

/// Makes every thread keep only what `mask` holds of what it has, until `is_done` says so of the
/// status of each, or time is up.
pub(super) fn take_capabilities(mask: u64, is_done: impl Fn(&str) -> bool) -> io::Result<()> {
    KEPT.store(mask, Ordering::SeqCst);
    let signal = libc::SIGRTMAX() - 1;
    let action = SigAction::new(SigHandler::Handler(give_up), SaFlags::SA_RESTART, SigSet::all());
    let action: libc::sigaction = action.into();
    // SAFETY: the action is a complete one, and its handler makes system calls only.
    Errno::result(unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) })?;
    let deadline = Instant::now() + WITHIN;
    loop {
        let left: Vec<_> = all()?.into_iter().filter(|(_, status)| !is_done(status)).collect();
        if left.is_empty() || Instant::now() > deadline {
            return Ok(());
        }
        for (thread, _) in left {
            let thread: i32 = thread.parse().map_err(io::Error::other)?;
            // SAFETY: takes integers; a thread that has ended meanwhile is no error.
            unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, signal) };
        }
        std::thread::sleep(PAUSE);
    }
}

/// (thread id, its status) of every thread of this process.
pub(super) fn all() -> io::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        if let Some(status) = super::read(&Path::new(&entry.path()).join("status"))? {
            all.push((entry.file_name().to_string_lossy().into_owned(), status));
        }
    }
    Ok(all)
}

/// What cannot be done here is seen in the thread's status.
extern "C" fn give_up(_signal: libc::c_int) {
    let errno = Errno::last_raw();
    let kept = KEPT.load(Ordering::SeqCst);
    let (mut header, mut data) = ([VERSION, 0], [0_u32; 6]);
    // SAFETY: the kernel reads and writes the structs given, of the sizes of version 3 (two words;
    // effective, permitted and inheritable, low halves first); prctl takes integers. Only system
    // calls, which a signal handler may make.
    unsafe {
        for capability in (0..CAPABILITIES).filter(|capability| (kept >> capability) & 1 == 0) {
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        if libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) == 0 {
            let [_, low, _, _, high, _] = data;
            let low = low & (kept & 0xffff_ffff) as u32;
            let high = high & (kept >> 32) as u32;
            header = [VERSION, 0];
            data = [low, low, 0, high, high, 0];
            libc::syscall(libc::SYS_capset, header.as_mut_ptr(), data.as_mut_ptr());
        }
    }
    Errno::set_raw(errno);
}
