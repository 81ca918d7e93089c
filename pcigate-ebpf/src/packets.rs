//! What leaves: packets whose grant is over, questions for names, and what takes a path that no
//! destination asked for shows: source routes, and packets of sockets older than the programs.
//!
//! match-proto: net/ipv4/ip_output.c `BPF_CGROUP_RUN_PROG_INET_EGRESS` and its IPv6 twin (return 0
//! drops; who sends a datagram sees EPERM).
//!
//! One program, because each costs every packet. Ordinary packets cost a look at whether they are
//! plain TCP or UDP. Where these may go has been
//! decided when the socket connected or named its destination, and a source route of the socket's
//! own was refused there; one that came with a single message, or later, is seen only here.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{
        bpf_loop, bpf_skb_ancestor_cgroup_id, bpf_skb_cgroup_id, bpf_skb_load_bytes,
    },
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
    grants,
    identity::Subject,
    maps::settings,
    names,
    packet::{self, Shape, Way},
    redirect,
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
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const IPV4_HEADER_BYTES: u32 = 20;
/// Steps of the walk: one an option, and one to see the end.
const OPTION_BYTES_MAX: u32 = 41;

#[cgroup_skb(egress)]
pub fn packet_out(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    // The peer is to hear that it is over when userspace destroys the socket.
    if !grants::may_pass(&ctx) && !grants::is_reset(&ctx).unwrap_or(false) {
        return 0;
    }
    match packet::shape(skb, Way::Out) {
        Shape::Plain => {}
        Shape::Gateway(packet) => {
            redirect::leaves(skb, packet.transport);
        }
        Shape::Dns(packet) => {
            names::asked(skb, &packet);
        }
        Shape::Other => return i32::from(may_leave(&ctx)),
    }
    1
}

#[inline(always)]
fn may_leave(ctx: &SkBuffContext) -> bool {
    // The first bytes that IPv4 and IPv6 both have.
    let Ok(head) = ctx.load::<[u8; 20]>(0) else { return false };
    let v6 = head[0] >> 4 == 6;
    let protocol = if v6 { head[6] } else { head[9] };
    let plain = protocol == TCP || protocol == UDP;
    let options = if v6 { 0 } else { u32::from(head[0] & 0xf) * 4 - IPV4_HEADER_BYTES };
    if plain && (options == 0 || !is_source_routed(ctx, options)) {
        return true;
    }
    if v6 && protocol == HOP_BY_HOP {
        let next = ctx.load::<u8>(IPV6_HEADER_BYTES);
        if next == Ok(TCP) || next == Ok(UDP) {
            return true;
        }
    }
    decide(ctx, &head, v6, protocol)
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

/// A walk over the options of a header, on the caller's stack.
#[repr(C)]
struct Options {
    skb: *mut __sk_buff,
    at: u32,
    end: u32,
    routed: u32,
}

/// Whether the options of an IPv4 header, `len` bytes, hold a source route. What cannot be walked
/// to its end counts as one.
#[inline(always)]
fn is_source_routed(ctx: &SkBuffContext, len: u32) -> bool {
    let at = IPV4_HEADER_BYTES;
    let mut options = Options { skb: ctx.skb.skb, at, end: at + len, routed: 1 };
    // SAFETY: the callback has the signature the helper calls it with, and `options` outlives the
    // call.
    unsafe {
        let step = step as unsafe extern "C" fn(u32, *mut Options) -> i64;
        bpf_loop(OPTION_BYTES_MAX, step as *mut c_void, (&raw mut options).cast(), 0);
    }
    // SAFETY: as above; volatile, because the compiler does not see the callback write.
    unsafe { (&raw const options.routed).read_volatile() != 0 }
}

/// One option; 0 = go on, 1 = stop.
///
/// # Safety
/// Only `bpf_loop` calls it, with the `Options` that `is_source_routed` gave it.
unsafe extern "C" fn step(_: u32, options: *mut Options) -> i64 {
    // SAFETY: the caller's `Options`; the helper checks the place in the packet.
    unsafe {
        let at = (*options).at;
        // Kind and length. The last option may be a single byte; what follows it is payload.
        let mut option = [0_u8; 2];
        let to = (&raw mut option).cast::<c_void>();
        if at < (*options).end && bpf_skb_load_bytes((*options).skb.cast(), at, to, 2) != 0 {
            return 1;
        }
        let [kind, length] = option;
        if at >= (*options).end || kind == END_OF_OPTIONS {
            (*options).routed = 0;
            return 1;
        }
        if SOURCE_ROUTES.contains(&kind) || (kind != NO_OPERATION && length < 2) {
            return 1;
        }
        (*options).at = at + if kind == NO_OPERATION { 1 } else { u32::from(length) };
        0
    }
}

/// Whose socket sends or receives a packet. Which task does is not known: the kernel may be sending
/// again, or later.
#[inline(always)]
pub fn subject(ctx: &SkBuffContext) -> Subject {
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
