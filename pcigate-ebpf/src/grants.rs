//! Grants: what a refusal by default gives way to until a deadline, and the end of connections that
//! outlive theirs. All of it without userspace.
//!
//! `packets` and `packets_in` ask about each packet of a full socket, by the socket's cgroup.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock_addr},
    helpers::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns,
        generated::bpf_sk_storage_get,
    },
    programs::SkBuffContext,
};
use pcigate_common::{
    event::{Egress, Header, Kind, Operation},
    limits,
    maps::{Decision, GrantKey, Granted, Ring, rule, verdict},
};

use crate::{
    atomic,
    identity::{self, Subject},
    maps::{GRANTED, GRANTS, GRANTS_USED, SEQUENCE, settings},
    ring,
};

const TCP: u8 = 6;
const TCP_RESET: u8 = 1 << 2;
/// Length of an IPv6 header; a TCP header's flags are in its 14th byte.
const IPV6_HEADER: usize = 40;
const TCP_FLAGS: usize = 13;

/// What an egress hook was asked.
pub struct Asked {
    pub operation: Operation,
    pub family: u32,
    pub address: [u8; 16],
    pub protocol: u32,
    pub port: u32,
}

/// The decision in the light of the grants: a live one turns a refusal that nobody wrote down (the
/// default) or that waits for somebody's word (`ask`) into an ALLOW. A written deny or gate stands,
/// because a grant is an answer to `ask` and must not open what a policy closes by name.
#[inline(always)]
pub fn consider(
    decision: Decision,
    subject: &Subject,
    asked: &Asked,
    ctx: *mut bpf_sock_addr,
) -> Decision {
    if !used() {
        return decision;
    }
    let connects = matches!(asked.operation, Operation::Connect);
    if decision.allows() {
        if connects {
            forget(ctx);
        }
        return decision;
    }
    let gives_way = decision.verdict == verdict::ASK
        || (decision.verdict == verdict::DENY && decision.rule == rule::DEFAULT);
    if subject.workload == 0 || !gives_way {
        return decision;
    }
    let Some((key, id)) = find(asked) else { return decision };
    if connects && !remember(key, id, subject, asked, ctx) {
        // A connection that could not be ended must not begin.
        return Decision::enforced(verdict::DENY, rule::INTERNAL_ERROR);
    }
    Decision { verdict: verdict::ALLOW, rule: rule::GRANT, ..decision }
}

#[inline(always)]
pub fn used() -> bool {
    GRANTS_USED.get(0).is_some_and(|used| *used != 0)
}

/// The first live grant on the way from the governed root down to the task's own cgroup.
#[inline(always)]
fn find(asked: &Asked) -> Option<(GrantKey, u64)> {
    // SAFETY: helper without preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let first = settings().root_level;
    let mut key = GrantKey {
        workload: 0,
        address: asked.address,
        port: asked.port as u16,
        protocol: asked.protocol as u8,
        reserved: [0; 5],
    };
    for depth in 0..limits::CGROUP_DEPTH_MAX {
        // SAFETY: helper without preconditions; a level below the task's own answers 0.
        key.workload = unsafe { bpf_get_current_ancestor_cgroup_id((first + depth) as i32) };
        if key.workload == 0 {
            break;
        }
        // SAFETY: the entry is read at once; userspace replaces entries, never writes into them.
        if let Some(grant) = unsafe { GRANTS.get(key) }
            && grant.deadline_ns > now
        {
            return Some((key, grant.id));
        }
    }
    None
}

#[inline(always)]
fn remember(
    key: GrantKey,
    id: u64,
    subject: &Subject,
    asked: &Asked,
    ctx: *mut bpf_sock_addr,
) -> bool {
    // SAFETY: the context's socket is alive while its program runs; the helper makes a value of
    // zeros, which is written in place: the stack has no room for it. It may hold the grant of an
    // earlier connection of this socket.
    unsafe {
        let socket = (&raw const (*ctx).__bindgen_anon_1.sk).read_volatile();
        if socket.is_null() {
            return false;
        }
        let map = core::ptr::from_ref(&GRANTED).cast_mut().cast();
        let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        let slot = bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), create);
        if slot.is_null() {
            return false;
        }
        slot.cast::<Granted>().write(Granted {
            key,
            id,
            told: 0,
            task: identity::current_task(),
            cgroup: subject.cgroup,
            workload: subject.workload,
            policy: subject.policy,
            family: asked.family,
        });
    }
    true
}

/// The socket connects to where it needs no grant: its packets are nobody's business any more.
#[inline(always)]
pub fn forget(ctx: *mut bpf_sock_addr) {
    // SAFETY: as in `remember`; a socket without a value is not an error that matters.
    unsafe {
        let socket = (&raw const (*ctx).__bindgen_anon_1.sk).read_volatile();
        if !socket.is_null() {
            let _ = GRANTED.delete(socket);
        }
    }
}

/// Whether the packet's socket needs no grant, or has one that is live.
#[inline(always)]
pub fn may_pass(ctx: &SkBuffContext) -> bool {
    if !used() {
        return true;
    }
    // SAFETY: the context is valid for the program's run; the socket is one the kernel holds, and
    // the helper answers null where nothing was remembered with it. The map is passed by its
    // address, which the loader relocates.
    let granted = unsafe {
        let socket = (&raw const (*ctx.skb.skb).__bindgen_anon_2.sk).read_volatile();
        if socket.is_null() {
            return true;
        }
        let map = core::ptr::from_ref(&GRANTED).cast_mut().cast();
        bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), 0).cast::<Granted>()
    };
    if granted.is_null() {
        return true;
    }
    // SAFETY: the pointer is the socket's value, alive while the program runs.
    unsafe {
        let now = bpf_ktime_get_boot_ns();
        if let Some(grant) = GRANTS.get((*granted).key)
            && grant.id == (*granted).id
            && grant.deadline_ns > now
        {
            return true;
        }
        if atomic::exchange(&raw mut (*granted).told, 1) == 0 {
            tell(&*granted, now);
        }
    }
    false
}

/// Records the end of a connection, once, in the name of who made it. A function of its own for the
/// sake of the stack.
#[inline(never)]
fn tell(granted: &Granted, now: u64) {
    let header = Header {
        kind: Kind::Egress,
        flags: 0,
        time_ns: now,
        seq: ring::increment(&SEQUENCE, 0),
        // SAFETY: helper without preconditions.
        cpu: unsafe { bpf_get_smp_processor_id() },
        policy: granted.policy,
        cgroup: granted.cgroup,
        workload: granted.workload,
        task: granted.task,
        decision: Decision::enforced(verdict::DENY, rule::GRANT),
    };
    ring::put(
        Ring::Verdicts,
        Egress {
            header,
            address: granted.key.address,
            operation: Operation::Packet,
            protocol: u32::from(granted.key.protocol),
            port: u32::from(granted.key.port),
            family: granted.family,
        },
    );
}

/// Whether the packet is a TCP reset: it carries nothing.
#[inline(always)]
pub fn is_reset(ctx: &SkBuffContext) -> Option<bool> {
    let byte = |at: usize| ctx.load::<u8>(at).ok();
    let first = byte(0)?;
    let (protocol, header) = if first >> 4 == 4 {
        (byte(9)?, usize::from(first & 0xf) * 4)
    } else {
        (byte(6)?, IPV6_HEADER)
    };
    Some(protocol == TCP && byte(header + TCP_FLAGS)? & TCP_RESET != 0)
}
