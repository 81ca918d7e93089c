//! Which program goes to which hook, and how each kind is loaded and attached.

use std::{fs::File, os::fd::AsFd};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSockAddr, Lsm,
        Program, ProgramError, links::FdLink,
    },
};

use super::EnforcerError;

/// Hooks of the governed cgroup and everything below it.
#[derive(Clone, Copy)]
pub(super) enum CgroupHook {
    /// `connect4/6`, `sendmsg4/6`, `bind4/6`: the program knows which.
    SockAddr,
    /// Packets of the sockets of these cgroups.
    Packets(CgroupSkbAttachType),
}

pub(super) const CGROUP: [(&str, CgroupHook); 6] = [
    ("egress_connect4", CgroupHook::SockAddr),
    ("egress_connect6", CgroupHook::SockAddr),
    ("egress_sendmsg4", CgroupHook::SockAddr),
    ("egress_sendmsg6", CgroupHook::SockAddr),
    ("grant_egress", CgroupHook::Packets(CgroupSkbAttachType::Egress)),
    ("grant_ingress", CgroupHook::Packets(CgroupSkbAttachType::Ingress)),
];

/// Machine-wide; the programs look only at tasks below the governed root.
pub(super) const TRACEPOINTS: [(&str, &str); 4] = [
    ("process_fork", "sched_process_fork"),
    ("process_exec", "sched_process_exec"),
    ("process_exit", "sched_process_exit"),
    ("cgroup_made", "cgroup_mkdir"),
];

/// As the tracepoints. The first is the one the canary looks at.
pub(super) const LSM: [(&str, &str); 1] = [("exec_check", "bprm_check_security")];

/// Attaches to a cgroup. "Single" makes a `bpf_link`, and links are always of the multi kind: those
/// above and below this cgroup run too, and one refusal is enough.
pub(super) fn attach_cgroup(
    ebpf: &mut Ebpf,
    name: &'static str,
    hook: CgroupHook,
    cgroup: &File,
) -> Result<FdLink, EnforcerError> {
    let mode = CgroupAttachMode::Single;
    match hook {
        CgroupHook::SockAddr => {
            let program: &mut CgroupSockAddr = of(ebpf, name)?;
            let link = program
                .load()
                .and_then(|()| program.attach(cgroup.as_fd(), mode))
                .and_then(|id| program.take_link(id))
                .map_err(refused(name))?;
            link.try_into().map_err(|source| EnforcerError::Link { program: name, source })
        }
        CgroupHook::Packets(direction) => {
            let program: &mut CgroupSkb = of(ebpf, name)?;
            let link = program
                .load()
                .and_then(|()| program.attach(cgroup.as_fd(), direction, mode))
                .and_then(|id| program.take_link(id))
                .map_err(refused(name))?;
            link.try_into().map_err(|source| EnforcerError::Link { program: name, source })
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
    let link = program
        .load(tracepoint, btf)
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
    let link = program
        .load(hook, btf)
        .and_then(|()| program.attach())
        .and_then(|id| program.take_link(id))
        .map_err(refused(name))?;
    Ok(link.into())
}

fn refused(program: &'static str) -> impl Fn(ProgramError) -> EnforcerError {
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
