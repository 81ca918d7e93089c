//! What comes in: packets whose grant is over; who may reach a workload's listeners (the first
//! packets of TCP connections, and datagrams); answers that names are learned from.
//!
//! match-proto: net/ipv4/tcp_ipv4.c `tcp_v4_rcv` (a connection request is filtered for the
//! listening socket) and net/ipv4/udp.c `udp_queue_rcv_one_skb`, both by way of net/core/filter.c
//! `sk_filter_trim_cap`, `BPF_CGROUP_RUN_PROG_INET_INGRESS`; and their IPv6 twins. Return 0 drops.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_ktime_get_boot_ns, generated::bpf_sk_fullsock},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use pcigate_common::{
    event::{Attempt, Kind, Task, What},
    limits::PEER_SILENCE_NS,
    maps::{Decision, INGRESS_POLICY, PeerKey, PolicyEntry, verdict},
};

use crate::{
    egress::{self, Destination},
    grants,
    identity::Subject,
    maps::{INGRESS_USED, PEERS},
    names,
    packet::{self, Shape, Way},
    packets, ring,
    socket_origin::{AF_INET, AF_INET6},
};

const TCP: u32 = 6;
const UDP: u32 = 17;
/// `TCP_LISTEN` (include/net/tcp_states.h).
const LISTEN: u32 = 10;
const IPV6_HEADER_BYTES: usize = 40;
const IPV4_SOURCE: usize = 12;
const IPV6_SOURCE: usize = 8;

/// Where a packet is going in.
struct Arrival {
    /// The source, with the port that a decision about the listener asks for: the local one.
    from: Destination,
    protocol: u32,
    /// The source's port.
    peer_port: u32,
}

#[cgroup_skb(ingress)]
pub fn packet_in(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    if !grants::may_pass(&ctx) || !may_enter(&ctx) {
        return 0;
    }
    if let Shape::Dns(packet) = packet::shape(skb, Way::In) {
        names::answered(skb, &packet);
    }
    1
}

/// An established connection was decided about when it began, a connected datagram socket hears
/// from its peer only. Nearly every packet ends here.
#[inline(always)]
fn may_enter(ctx: &SkBuffContext) -> bool {
    // SAFETY: the context is valid for the program's run, and gives a socket or null, with the
    // fields that are read here.
    let connected = unsafe {
        let sk = (&raw const (*ctx.skb.skb).__bindgen_anon_2.sk).read_volatile();
        sk.is_null()
            || (&raw const (*sk).dst_port).read_volatile() != 0
                && (&raw const (*sk).state).read_volatile() != LISTEN
    };
    let decides = || INGRESS_USED.get(0).is_none_or(|used| *used != 0);
    connected || !decides() || is_welcome(ctx.skb.skb) != 0
}

/// Whether a socket that has no peer may have a packet: 1 or 0. A function of its own, because
/// stacks are small and answers to questions want one as well.
#[inline(never)]
fn is_welcome(skb: *mut __sk_buff) -> u32 {
    let ctx = &SkBuffContext::new(skb);
    // SAFETY: as above; the helper takes the socket and gives it back, or null.
    let (protocol, state, local, connected) = unsafe {
        let sk = (&raw const (*skb).__bindgen_anon_2.sk).read_volatile();
        if sk.is_null() {
            return 1;
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() {
            return 1;
        }
        (
            (&raw const (*sk).protocol).read_volatile(),
            (&raw const (*sk).state).read_volatile(),
            (&raw const (*sk).src_port).read_volatile(),
            (&raw const (*sk).dst_port).read_volatile() != 0,
        )
    };
    let first = match protocol {
        TCP => state == LISTEN,
        UDP => !connected,
        _ => false,
    };
    if !first {
        return 1;
    }
    let subject = packets::subject(ctx);
    let Ok(policy) = subject.policy() else { return 1 };
    if policy.ingress == 0 {
        return 1;
    }
    match arrival(ctx, protocol, local) {
        Some(arrival) => u32::from(decide(&subject, policy, &arrival)),
        None => 0,
    }
}

#[inline(always)]
fn arrival(ctx: &SkBuffContext, protocol: u32, local: u32) -> Option<Arrival> {
    let head = ctx.load::<u8>(0).ok()?;
    let v6 = head >> 4 == 6;
    let (transport, from) = if v6 {
        let address = ctx.load::<[u32; 4]>(IPV6_SOURCE).ok()?;
        (IPV6_HEADER_BYTES, Destination { address, port: local, family: AF_INET6 })
    } else {
        let address = ctx.load::<u32>(IPV4_SOURCE).ok()?;
        (usize::from(head & 0xf) * 4, Destination::v4(address, local))
    };
    // Behind extension headers the port is not found, and nothing counts as an answer.
    let plain = !v6 || ctx.load::<u8>(6).ok()? == protocol as u8;
    let port = if plain { u16::from_be(ctx.load::<u16>(transport).ok()?) } else { 0 };
    Some(Arrival { from, protocol, peer_port: u32::from(port) })
}

#[inline(always)]
fn decide(subject: &Subject, policy: &PolicyEntry, arrival: &Arrival) -> bool {
    let Arrival { from, protocol, peer_port } = arrival;
    let number = subject.policy | INGRESS_POLICY;
    let decision = egress::decide(policy.ingress_default, number, from, *protocol);
    if decision.allows() && decision.audit_verdict == verdict::NONE {
        return true;
    }
    // A datagram from where the workload may send to is taken for an answer.
    if *protocol == UDP && *peer_port != 0 {
        let back = Destination { port: *peer_port, ..*from };
        // By address only: in which network a name was learned is not at hand here.
        if egress::decide(policy.egress_default, subject.policy, &back, UDP).allows() {
            return true;
        }
    }
    record(subject, decision, arrival);
    decision.allows()
}

/// One record a second for each source and port: who knocks is not governed and may do so as often
/// as it likes, and its noise must not take the place of a refusal. The record counts the knocks.
#[inline(always)]
fn record(subject: &Subject, decision: Decision, arrival: &Arrival) {
    let Arrival { from, protocol, .. } = arrival;
    let workload = subject.workload;
    let key = PeerKey { workload, port: from.port, protocol: *protocol, address: from.bytes() };
    // SAFETY: helper without preconditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let mut knocks = 1;
    if let Some(peer) = PEERS.get_ptr_mut(&key) {
        // SAFETY: a live map value; two processors may count one knock as one, not more.
        unsafe {
            (*peer).knocks += 1;
            if now.wrapping_sub((*peer).since_ns) < PEER_SILENCE_NS {
                return;
            }
            knocks = (*peer).knocks as u32;
            (*peer).knocks = 0;
            (*peer).since_ns = now;
        }
    } else {
        let _ = PEERS.insert(&key, &pcigate_common::maps::Peer { since_ns: now, knocks: 0 }, 0);
    }
    let header = ring::header_of(Task::NONE, Kind::Attempt, 0, subject, decision);
    let family = if from.family == AF_INET6 { AF_INET6 } else { AF_INET };
    ring::put(
        ring::for_decision(&decision),
        Attempt {
            header,
            what: What::Accept,
            text_len: 0,
            numbers: [family, *protocol, from.port, knocks],
            address: from.bytes(),
        },
    );
}
