//! Which program goes to which hook, and how each kind is loaded and attached.

use std::{fs::File, io, os::fd::AsFd};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock,
        CgroupSockAddr, Lsm, Program, ProgramError, links::FdLink,
    },
};

use super::EnforcerError;

/// How often a program is shown to the verifier when signals keep interrupting it.
const LOADS_MAX: u32 = 10;

/// Hooks of the governed cgroup and everything below it.
#[derive(Clone, Copy)]
pub(super) enum CgroupHook {
    /// `connect4/6`, `sendmsg4/6`, `bind4/6`, `getpeername4/6`: the program knows which.
    SockAddr,
    /// `sock_create`, `sock_release`: the same.
    Sock,
    /// Packets of the cgroup's sockets, one way.
    Skb(CgroupSkbAttachType),
}

pub(super) const CGROUP: [(&str, CgroupHook); 12] = [
    ("egress_connect4", CgroupHook::SockAddr),
    ("egress_connect6", CgroupHook::SockAddr),
    ("egress_sendmsg4", CgroupHook::SockAddr),
    ("egress_sendmsg6", CgroupHook::SockAddr),
    ("socket_inet", CgroupHook::Sock),
    ("socket_bind4", CgroupHook::SockAddr),
    ("socket_bind6", CgroupHook::SockAddr),
    ("packet_out", CgroupHook::Skb(CgroupSkbAttachType::Egress)),
    ("packet_in", CgroupHook::Skb(CgroupSkbAttachType::Ingress)),
    ("peer_name4", CgroupHook::SockAddr),
    ("peer_name6", CgroupHook::SockAddr),
    ("socket_release", CgroupHook::Sock),
];

/// Machine-wide; the programs look only at tasks below the governed root.
pub(super) const TRACEPOINTS: [(&str, &str); 5] = [
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
    ("cgroup_attach", "cgroup_attach_task"),
    ("cgroup_made", "cgroup_mkdir"),
];

/// As the tracepoints. The first is the one the canary looks at.
pub(super) const LSM: [(&str, &str); 22] = [
    ("exec_check", "bprm_check_security"),
    ("socket_any", "socket_create"),
    ("socket_listens", "socket_listen"),
    ("foreign_connect", "socket_connect"),
    ("foreign_send", "socket_sendmsg"),
    ("unix_connect", "unix_stream_connect"),
    ("unix_send", "unix_may_send"),
    ("guard_signal", "task_kill"),
    ("guard_ptrace", "ptrace_access_check"),
    ("guard_limit", "task_setrlimit"),
    ("guard_scheduler", "task_setscheduler"),
    ("guard_nice", "task_setnice"),
    ("guard_bpf", "bpf"),
    ("guard_perf", "perf_event_open"),
    ("guard_capability", "capable"),
    ("guard_user_namespace", "userns_create"),
    ("guard_clone", "task_alloc"),
    ("guard_open", "file_open"),
    ("guard_unlink", "inode_unlink"),
    ("guard_rename", "inode_rename"),
    ("guard_mkdir", "inode_mkdir"),
    ("guard_umount", "sb_umount"),
];

/// The kernel's own types, which tracepoints and LSM hooks are found by.
pub(super) fn kernel_types() -> Result<Btf, EnforcerError> {
    Btf::from_sys_fs().map_err(|error| EnforcerError::Btf(Box::new(error)))
}

/// Loads a program that will take the place of another in a link, instead of being attached.
pub(super) fn load_cgroup(
    ebpf: &mut Ebpf,
    name: &'static str,
    hook: CgroupHook,
) -> Result<(), EnforcerError> {
    let loaded = match hook {
        CgroupHook::SockAddr => {
            let program: &mut CgroupSockAddr = of(ebpf, name)?;
            patiently(|| program.load())
        }
        CgroupHook::Sock => {
            let program: &mut CgroupSock = of(ebpf, name)?;
            patiently(|| program.load())
        }
        CgroupHook::Skb(_) => {
            let program: &mut CgroupSkb = of(ebpf, name)?;
            patiently(|| program.load())
        }
    };
    loaded.map_err(refused(name))
}

/// A signal that arrives while the verifier looks at a program ends its look (kernel/bpf/verifier.c
/// `signal_pending`: EAGAIN), which says nothing about the program.
fn patiently(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let mut loaded = load();
    for _ in 1..LOADS_MAX {
        match &loaded {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock => {}
            _ => break,
        }
        loaded = load();
    }
    loaded
}

/// Attaches to a cgroup. "Single" makes a `bpf_link`, and links are always of the multi kind: those
/// above and below this cgroup run too, and one refusal is enough.
pub(super) fn attach_cgroup(
    ebpf: &mut Ebpf,
    name: &'static str,
    hook: CgroupHook,
    cgroup: &File,
) -> Result<FdLink, EnforcerError> {
    let mode = CgroupAttachMode::Single;
    let fd = cgroup.as_fd();
    let kept = |source| EnforcerError::Link { program: name, source };
    load_cgroup(ebpf, name, hook)?;
    match hook {
        CgroupHook::SockAddr => {
            let program: &mut CgroupSockAddr = of(ebpf, name)?;
            let link = program.attach(fd, mode);
            let link = link.and_then(|id| program.take_link(id)).map_err(refused(name))?;
            link.try_into().map_err(kept)
        }
        CgroupHook::Sock => {
            let program: &mut CgroupSock = of(ebpf, name)?;
            let link = program.attach(fd, mode);
            let link = link.and_then(|id| program.take_link(id)).map_err(refused(name))?;
            link.try_into().map_err(kept)
        }
        CgroupHook::Skb(way) => {
            let program: &mut CgroupSkb = of(ebpf, name)?;
            let link = program.attach(fd, way, mode);
            let link = link.and_then(|id| program.take_link(id)).map_err(refused(name))?;
            link.try_into().map_err(kept)
        }
    }
}

pub(super) fn attach_tracepoint(
    ebpf: &mut Ebpf,
    name: &'static str,
    tracepoint: &str,
    btf: &Btf,
) -> Result<FdLink, EnforcerError> {
    let program: &mut BtfTracePoint = of(ebpf, name)?;
    let link = patiently(|| program.load(tracepoint, btf))
        .and_then(|()| program.attach())
        .and_then(|id| program.take_link(id))
        .map_err(refused(name))?;
    Ok(link.into())
}

pub(super) fn attach_lsm(
    ebpf: &mut Ebpf,
    name: &'static str,
    hook: &str,
    btf: &Btf,
) -> Result<FdLink, EnforcerError> {
    let program: &mut Lsm = of(ebpf, name)?;
    let link = patiently(|| program.load(hook, btf))
        .and_then(|()| program.attach())
        .and_then(|id| program.take_link(id))
        .map_err(refused(name))?;
    Ok(link.into())
}

pub(super) fn refused(program: &'static str) -> impl Fn(ProgramError) -> EnforcerError {
    move |source| EnforcerError::Program { program, source: source.into() }
}

fn of<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, EnforcerError>
where
    &'a mut P: TryFrom<&'a mut Program>,
{
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(EnforcerError::Missing(name))
}

#[cfg(test)]
mod tests {
    use super::{CGROUP, LSM, TRACEPOINTS};

    #[test]
    fn every_program_has_its_row_in_the_table_of_verifier_costs() {
        let table = include_str!("../../../docs/verifier-cost.md");
        let names = CGROUP.iter().map(|(name, _)| name);
        let names = names.chain(TRACEPOINTS.iter().chain(&LSM).map(|(name, _)| name));
        for name in names {
            let remedy = "run `cargo xtask vm --all --write`";
            assert!(table.contains(&format!("\n| {name} |")), "{name} has no row: {remedy}");
        }
    }
}
