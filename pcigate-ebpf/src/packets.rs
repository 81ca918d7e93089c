//! What leaves on a path that no destination asked for shows: source routes, and packets of
//! sockets that are older than the programs.
//!
//! match-proto: net/ipv4/ip_output.c `BPF_CGROUP_RUN_PROG_INET_EGRESS` and its IPv6 twin (return 0
//! drops; who sends a datagram sees EPERM).
//!
//! Ordinary packets cost one read: whether they are plain TCP or UDP. Where these may go has been
//! decided when the socket connected or named its destination, and a source route of the socket's
//! own was refused there; one that came with a single message, or later, is seen only here.

use aya_ebpf::{
    helpers::generated::{bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id},
    macros::cgroup_skb,
    programs::SkBuffContext,
};
use pcigate_common::{
    event::{Operation, Task},
    limits::CGROUP_DEPTH_MAX,
    maps::{rule, verdict},
};

use crate::{
    egress::{self, Destination},
    identity::Subject,
    maps::settings,
    socket_origin::AF_INET6,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6_HEADER_BYTES: usize = 40;
const IPV6_DESTINATION: usize = 24;
/// Hop-by-hop options, which the kernel itself puts before large TCP packets (RFC 2675).
const HOP_BY_HOP: u8 = 0;
/// Loose and strict source route (RFC 791 3.1).
const SOURCE_ROUTES: [u8; 2] = [131, 137];
const OPTION_BYTES_MAX: usize = 40;

#[cgroup_skb(egress)]
pub fn packet_out(ctx: SkBuffContext) -> i32 {
    // The first bytes that IPv4 and IPv6 both have.
    let Ok(head) = ctx.load::<[u8; 20]>(0) else { return 0 };
    let v6 = head[0] >> 4 == 6;
    let protocol = if v6 { head[6] } else { head[9] };
    let plain = protocol == TCP || protocol == UDP;
    let options = if v6 { 0 } else { usize::from(head[0] & 0xf) * 4 - 20 };
    if plain && options == 0 {
        return 1;
    }
    if plain && !is_source_routed(&ctx, options) {
        return 1;
    }
    if v6 && protocol == HOP_BY_HOP {
        let next = ctx.load::<u8>(IPV6_HEADER_BYTES);
        if next == Ok(TCP) || next == Ok(UDP) {
            return 1;
        }
    }
    i32::from(decide(&ctx, &head, v6, protocol))
}

#[inline(always)]
fn decide(ctx: &SkBuffContext, head: &[u8; 20], v6: bool, protocol: u8) -> bool {
    let subject = subject(ctx);
    let decision = subject.confined(rule::SOCKET);
    if decision.allows() && decision.audit_verdict == verdict::NONE {
        return true;
    }
    let to = if v6 {
        let address = ctx.load::<[u32; 4]>(IPV6_DESTINATION).unwrap_or([0; 4]);
        Destination { address, port: 0, family: AF_INET6 }
    } else {
        Destination::v4(u32::from_ne_bytes([head[16], head[17], head[18], head[19]]), 0)
    };
    let task = Task::NONE;
    egress::report_of(task, Operation::Packet, 0, &subject, decision, &to, u32::from(protocol));
    decision.allows()
}

/// Whether the options of an IPv4 header, `len` bytes, hold a source route.
#[inline(always)]
fn is_source_routed(ctx: &SkBuffContext, len: usize) -> bool {
    let mut at = 0;
    for _ in 0..OPTION_BYTES_MAX {
        if at >= len || at >= OPTION_BYTES_MAX {
            return false;
        }
        let Ok(kind) = ctx.load::<u8>(20 + at) else { return true };
        if SOURCE_ROUTES.contains(&kind) {
            return true;
        }
        match kind {
            0 => return false, // end of options
            1 => at += 1,      // no operation
            _ => {
                let Ok(length) = ctx.load::<u8>(21 + at) else { return true };
                if length < 2 {
                    return true; // no option is so short
                }
                at += usize::from(length);
            }
        }
    }
    true
}

/// Whose socket sent a packet. Which task did is not known: the kernel may be sending again, or
/// later.
#[inline(always)]
fn subject(ctx: &SkBuffContext) -> Subject {
    let skb = ctx.skb.skb;
    // SAFETY: the helpers take the context of the program.
    let cgroup = unsafe { bpf_skb_cgroup_id(skb) };
    let mut subject = Subject { cgroup, workload: 0, pod: 0, policy: 0 };
    let first = settings().root_level;
    for depth in 0..CGROUP_DEPTH_MAX {
        // SAFETY: as above; a level below the socket's own answers 0.
        let id = unsafe { bpf_skb_ancestor_cgroup_id(skb, (first + depth) as i32) };
        if id == 0 {
            break;
        }
        subject.govern(id);
    }
    subject
}
