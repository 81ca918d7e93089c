//! What a test needs of the kernel it runs on, said by the test itself.
//!
//! A test that needs something special asks first, and returns where the answer is no:
//!
//! ```text
//! if !needs::met(&[Need::Kernel(6, 10), Need::BpfLsm]) {
//!     return;
//! }
//! ```
//!
//! `met` then prints a line `not run: NAME: it needs …`. The chores count such a test as not run,
//! not as passed, list it at the end, and fail when no kernel of the whole run had what it needs.

use std::{fmt, fs, io::Write, path::Path};

use pcigate_agent::{btf, preflight};

/// Something a kernel may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// This release or a newer one.
    Kernel(u32, u32),
    /// A release older than this one.
    KernelBefore(u32, u32),
    /// `bpf` is in the list of active security modules.
    BpfLsm,
    /// `bpf` is not in the list of active security modules, or there is no such list.
    NoBpfLsm,
    /// BPF-LSM is compiled in, the list of active modules is readable, and `bpf` is not in it.
    BpfLsmNotListed,
    /// The kernel lets root close other processes' TCP connections.
    SockDestroy,
    /// It does not: modules are missing.
    NoSockDestroy,
    /// A program of this machine on the PATH.
    Program(&'static str),
    /// Pids are those of the machine: a test that has one used again must see the kernel's own.
    MachinePids,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(major, minor) => write!(f, "Linux {major}.{minor} or newer"),
            Self::KernelBefore(major, minor) => write!(f, "a Linux older than {major}.{minor}"),
            Self::BpfLsm => write!(f, "BPF-LSM active"),
            Self::NoBpfLsm => write!(f, "no active BPF-LSM"),
            Self::BpfLsmNotListed => write!(f, "BPF-LSM compiled in, but not active"),
            Self::SockDestroy => write!(f, "tcp_diag with SOCK_DESTROY"),
            Self::NoSockDestroy => write!(f, "a kernel without tcp_diag"),
            Self::Program(name) => write!(f, "the program {name}"),
            Self::MachinePids => write!(f, "the machine's own pid namespace"),
        }
    }
}

/// Whether this kernel has all of it; where not, a line on standard output says what is lacking.
///
/// # Panics
/// The kernel does not say its release.
#[must_use]
pub fn met(needs: &[Need]) -> bool {
    let Some(lacking) = needs.iter().find(|need| !is_met(**need)) else { return true };
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    // Not by `println!`, which the test harness keeps to itself when a test passes.
    let line = format!("\nnot run: {name}: it needs {lacking}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("standard output is open");
    false
}

fn is_met(need: Need) -> bool {
    match need {
        Need::Kernel(major, minor) => preflight::running_kernel() >= Some((major, minor)),
        Need::KernelBefore(major, minor) => preflight::running_kernel() < Some((major, minor)),
        Need::BpfLsm => preflight::bpf_lsm_listed().is_ok(),
        Need::NoBpfLsm => preflight::bpf_lsm_listed().is_err(),
        Need::BpfLsmNotListed => {
            let readable = fs::read_to_string(preflight::LSM_LIST).is_ok();
            readable && preflight::bpf_lsm_listed().is_err() && is_compiled_in()
        }
        Need::SockDestroy => pcigate_agent::connections::available(),
        Need::NoSockDestroy => !pcigate_agent::connections::available(),
        Need::Program(name) => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
        }
        // include/linux/proc_ns.h `PROC_PID_INIT_INO`.
        Need::MachinePids => {
            let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
            namespace == Path::new("pid:[4026531836]")
        }
    }
}

/// The kernel function BPF programs of this hook are attached to is there only with BPF-LSM.
fn is_compiled_in() -> bool {
    let types = fs::read(Path::new(btf::VMLINUX)).unwrap_or_default();
    let hook = b"\0bpf_lsm_bprm_check_security\0";
    types.windows(hook.len()).any(|window| window == hook)
}
