//! Whose a connection is: the socket at its other end, what the kernel remembers of it, and the
//! process that connected it.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, PoisonError},
};

use pcigate_common::redirect::Redirected;

use super::{Network, Parts};
use crate::{
    digests::Known,
    draft::{Process, Workload},
    governor::Gate,
    processes::Processes,
};

/// Who connected, as the kernel and the source of workloads prove it.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Its pod and container.
    pub workload: Arc<Workload>,
    /// The process that connected, and what it executes now; its program is `None` where it has
    /// ended since.
    pub process: Process,
    /// SHA-256 of what it executes, where it is known (`docs/exec.md`).
    pub digest: Option<[u8; 32]>,
    /// First 8 bytes of the SHA-256 of the compiled policy that decided.
    pub policy_hash: [u8; 8],
}

/// A connection that may go on.
pub(super) struct Found {
    pub original: SocketAddr,
    pub actor: Actor,
    pub gate: Arc<Gate>,
}

/// Why a connection may not.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is gone.
    Unreadable { source: io::Error },
    /// Nobody has the socket at its other end any more: closed before it was looked at.
    Left,
    /// A socket that was not redirected, made in this cgroup (where the kernel can say).
    NotRedirected { cgroup: Option<u64> },
    /// Redirected by programs of an earlier agent, or in another namespace, or by a policy or for
    /// a workload that is not known any more.
    Outdated { cgroup: u64 },
}

/// Looks a connection up whose client is at `peer` and connected to `local`.
pub(super) fn of(
    parts: &Parts,
    known: &Known,
    network: &Network,
    local: SocketAddr,
    peer: SocketAddr,
) -> Result<Found, Refused> {
    let Some(cookie) = parts.redirects.claim(network.cookie, peer) else {
        return Err(Refused::NotRedirected { cgroup: network.cgroup(peer, local) });
    };
    let Some(entry) = parts.redirects.of_socket(cookie) else { return Err(Refused::Left) };
    let outdated = || Refused::Outdated { cgroup: entry.cgroup };
    if entry.network != network.cookie || entry.time_ns < parts.since_ns {
        return Err(outdated());
    }
    let (workload, gate, policy_hash) = {
        let directory = parts.directory.read().unwrap_or_else(PoisonError::into_inner);
        let workload = directory.workload(entry.workload).cloned();
        let table = directory.rules(entry.policy).cloned();
        let table = table.ok_or_else(outdated)?;
        let gate = table.gates.get(&entry.rule).cloned();
        (workload.ok_or_else(outdated)?, gate.ok_or_else(outdated)?, table.hash)
    };
    let (process, digest) = process(&entry, known);
    let actor = Actor { workload, process, digest, policy_hash };
    Ok(Found { original: original(&entry), actor, gate })
}

fn original(entry: &Redirected) -> SocketAddr {
    let address = Ipv6Addr::from(entry.address);
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    SocketAddr::new(address, u16::try_from(entry.port).unwrap_or(0))
}

/// The digest is read before the program's path, which is known only while the process that
/// connected lives: so both are that process's, and not those of another with its pid.
fn process(entry: &Redirected, known: &Known) -> (Process, Option<[u8; 32]>) {
    let task = &entry.task;
    let digest = known.of_process(task.pid);
    let executable = Processes::default().executable((task.pid, task.start_ns));
    let digest = digest.filter(|_| executable.is_some());
    let process = Process {
        pid: task.pid,
        tid: task.tid,
        start_boottime_ns: task.start_ns,
        uid: task.uid,
        executable,
        parent_pid: task.parent_pid,
        parent_start_boottime_ns: task.parent_start_ns,
    };
    (process, digest)
}
