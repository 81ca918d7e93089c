//! The egress decision: connect and unconnected sendmsg, for IPv4 and IPv6.
//!
//! match-proto: net/ipv4/af_inet.c `BPF_CGROUP_RUN_PROG_INET4_CONNECT`, net/ipv4/udp.c
//! `BPF_CGROUP_RUN_PROG_UDP4_SENDMSG_LOCK` and their IPv6 twins. Return 0 is EPERM.

use aya_ebpf::{
    bindings::bpf_sock_addr, helpers::generated::bpf_get_netns_cookie, macros::cgroup_sock_addr,
    maps::lpm_trie::Key, programs::SockAddrContext,
};
use pcigate_common::{
    event::{Egress, Kind, Operation, Task, flags},
    limits::GATEWAY_PORT,
    maps::{Decision, PortKey, PrefixKey, Ring, block, rule, verdict},
};

use crate::{
    grants,
    identity::{self, Subject},
    maps::{EGRESS, PORTS, WORKLOADS, offsets},
    memory::Address,
    names, redirect, ring,
    socket_origin::{AF_INET, AF_INET6},
};

const REFUSED: Decision = Decision::enforced(verdict::DENY, rule::INTERNAL_ERROR);
const MAPPED: u32 = 0xffff_u32.to_be();
const LOOPBACK_V4: u32 = 0x7f00_0001_u32.to_be();

/// Where something is to go.
#[derive(Clone, Copy)]
pub struct Destination {
    /// Four words in network order, IPv4 as v4-mapped.
    pub address: [u32; 4],
    /// Host order.
    pub port: u32,
    /// Of the socket call; 0 = there is no destination.
    pub family: u32,
}

impl Destination {
    /// No destination. Not an `Option`: the compiler copies what one does not hold, and the
    /// verifier refuses to read what was never written.
    pub const NONE: Self = Self { address: [0; 4], port: 0, family: 0 };

    /// An IPv4 address in network order.
    #[inline(always)]
    pub fn v4(address: u32, port: u32) -> Self {
        Self { address: [0, 0, MAPPED, address], port, family: AF_INET }
    }

    /// The address as maps and records hold it.
    #[inline(always)]
    pub fn bytes(&self) -> [u8; 16] {
        // SAFETY: four words are sixteen bytes of any value.
        unsafe { core::mem::transmute(self.address) }
    }

    /// With the address the kernel will really use, for a socket that is bound to none.
    #[inline(always)]
    pub fn effective(self) -> Self {
        Self { address: effective(self.address, 0), ..self }
    }
}

#[cgroup_sock_addr(connect4)]
pub fn egress_connect4(ctx: SockAddrContext) -> i32 {
    let source = bound_v4(ctx.sock_addr);
    check(Operation::Connect, AF_INET, v4(ctx.sock_addr), source, ctx.sock_addr)
}

#[cgroup_sock_addr(connect6)]
pub fn egress_connect6(ctx: SockAddrContext) -> i32 {
    let source = bound_v4(ctx.sock_addr);
    check(Operation::Connect, AF_INET6, v6(ctx.sock_addr), source, ctx.sock_addr)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn egress_sendmsg4(ctx: SockAddrContext) -> i32 {
    // SAFETY: as in `v4`. The source a datagram names in its control data goes before the socket's.
    let named = unsafe { (&raw const (*ctx.sock_addr).msg_src_ip4).read_volatile() };
    let source = if named != 0 { named } else { bound_v4(ctx.sock_addr) };
    check(Operation::Send, AF_INET, v4(ctx.sock_addr), source, ctx.sock_addr)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn egress_sendmsg6(ctx: SockAddrContext) -> i32 {
    check(Operation::Send, AF_INET6, v6(ctx.sock_addr), 0, ctx.sock_addr)
}

/// The four words of the destination in network order, IPv4 as v4-mapped.
#[inline(always)]
pub fn v4(ctx: *mut bpf_sock_addr) -> [u32; 4] {
    // SAFETY: the context is valid for the program's run. Volatile, because the compiler would
    // otherwise merge this load with that of another field, which the verifier refuses.
    let address = unsafe { (&raw const (*ctx).user_ip4).read_volatile() };
    [0, 0, MAPPED, address]
}

#[inline(always)]
pub fn v6(ctx: *mut bpf_sock_addr) -> [u32; 4] {
    // SAFETY: as in `v4`; the kernel allows these loads word by word only.
    unsafe {
        let words = (&raw const (*ctx).user_ip6).cast::<u32>();
        [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ]
    }
}

/// The address of the kernel's `struct sock`. The verifier forbids to add to the pointer itself, so
/// it is read from where it lies on the stack, as a number.
#[inline(always)]
pub fn socket(ctx: *mut bpf_sock_addr) -> Address {
    // SAFETY: as in `v4`.
    let socket = unsafe { (&raw const (*ctx).__bindgen_anon_1.sk).read_volatile() };
    Address((&raw const socket) as u64).follow(0).unwrap_or(Address(0))
}

/// The IPv4 address the socket is bound to; 0 = none.
#[inline(always)]
fn bound_v4(ctx: *mut bpf_sock_addr) -> u32 {
    // SAFETY: as in `v4`; the kernel gives a socket or null, and lets its address be read.
    unsafe {
        let socket = (&raw const (*ctx).__bindgen_anon_1.sk).read_volatile();
        if socket.is_null() { 0 } else { (&raw const (*socket).src_ip4).read_volatile() }
    }
}

/// IP protocol of the socket, and the port in host order.
#[inline(always)]
pub fn protocol_and_port(ctx: *mut bpf_sock_addr) -> (u32, u32) {
    // SAFETY: as in `v4`.
    let (port, protocol) = unsafe {
        (
            (&raw const (*ctx).user_port).read_volatile(),
            (&raw const (*ctx).protocol).read_volatile(),
        )
    };
    (protocol, u32::from(u16::from_be(port as u16)))
}

#[inline(always)]
fn check(
    operation: Operation,
    family: u32,
    address: [u32; 4],
    source: u32,
    ctx: *mut bpf_sock_addr,
) -> i32 {
    let (protocol, port) = protocol_and_port(ctx);
    let to = Destination { address: effective(address, source), port, family };
    let subject = identity::current_or_unknown();
    let asked = grants::Asked { operation, family, address: to.bytes(), protocol, port: to.port };
    // SAFETY: the context is valid for the program's run.
    let network = || unsafe { bpf_get_netns_cookie(ctx.cast()) };
    let decision = answer(&subject, &to, protocol, network);
    let mut decision = grants::consider(decision, &subject, &asked, ctx);
    let connects = matches!(operation, Operation::Connect);
    let gated = connects && decision.verdict == verdict::GATE && redirect::is_possible(ctx);
    let mut bits = 0;
    if (decision.allows() || gated) && is_source_routed(socket(ctx), family) {
        decision = stricter(decision, subject.confined(rule::SOCKET));
    } else if gated {
        if redirect::begin(ctx, &subject, &to, decision.rule) {
            bits = flags::REDIRECTED;
        } else {
            decision = REFUSED;
        }
    }
    if connects && bits == 0 {
        redirect::forget(ctx);
    }
    report(operation, bits, &subject, decision, &to, protocol);
    i32::from(decision.allows() || bits != 0)
}

/// Puts one Egress record into the ring its decision belongs into.
#[inline(always)]
pub fn report(
    operation: Operation,
    bits: u32,
    subject: &Subject,
    decision: Decision,
    to: &Destination,
    protocol: u32,
) {
    report_of(identity::current_task(), operation, bits, subject, decision, to, protocol);
}

/// As [`report`], of a task that is named or not known.
#[inline(always)]
pub fn report_of(
    task: Task,
    operation: Operation,
    bits: u32,
    subject: &Subject,
    decision: Decision,
    to: &Destination,
    protocol: u32,
) {
    let [a, b, c, _] = to.address;
    let mapped = a == 0 && b == 0 && c == MAPPED && to.family == AF_INET6;
    let bits = if mapped { bits | flags::V4_MAPPED } else { bits };
    let header = ring::header_of(task, Kind::Egress, bits, subject, decision);
    let (address, port, family) = (to.bytes(), to.port, to.family);
    let proceeds = decision.allows() || bits & flags::REDIRECTED != 0;
    ring::put(
        if proceeds { Ring::Events } else { Ring::Verdicts },
        Egress { header, address, operation, protocol, port, family },
    );
}

/// What the policies say of a destination, which must be [`effective`], in a network.
#[inline(always)]
pub fn answer(
    subject: &Subject,
    to: &Destination,
    protocol: u32,
    network: impl FnOnce() -> u64,
) -> Decision {
    if to.port == u32::from(GATEWAY_PORT) && is_gateway(to.address) {
        return Decision::enforced(verdict::DENY, rule::GATEWAY_LISTENER);
    }
    let posture = match subject.policy() {
        Ok(policy) => {
            let decision = decide(policy.egress_default, subject.policy, to, protocol);
            if policy.names == 0 {
                return decision.shown();
            }
            return names::join(decision, subject, to, protocol, network());
        }
        Err(decision) => decision,
    };
    if !posture.allows() {
        return posture;
    }
    // A lost label opens no Target: what is allowed unseen has entries of its own, under cgroup 0.
    // SAFETY: the entry is read at once; userspace replaces entries, never writes into them.
    let Some(entry) = (unsafe { WORKLOADS.get(0) }) else { return REFUSED };
    let decision = decide(posture, entry.policy, to, protocol);
    if decision.allows() { posture } else { decision }
}

/// Whether a socket sends its packets by way of another address (RFC 791 3.1, RFC 8754, RFC 6554),
/// which is where they go first, and which nobody is asked about.
#[inline(always)]
pub fn is_source_routed(sk: Address, family: u32) -> bool {
    let offsets = offsets();
    let v4 = sk.follow(offsets.inet_opt).unwrap_or(Address(0));
    if v4.0 != 0 && v4.at(offsets.ip_options_srr).read::<u8>().unwrap_or(1) != 0 {
        return true;
    }
    if family != AF_INET6 {
        return false;
    }
    let v6 = sk.follow(offsets.inet_pinet6).unwrap_or(Address(0));
    let options = v6.follow(offsets.ipv6_opt).unwrap_or(Address(0));
    options.0 != 0 && options.follow(offsets.ipv6_options_srcrt).unwrap_or(options).0 != 0
}

/// The stricter half of each of two answers.
#[inline(always)]
pub fn stricter(mut a: Decision, b: Decision) -> Decision {
    if b.verdict > a.verdict {
        return b;
    }
    if b.audit_verdict > a.audit_verdict {
        a.audit_verdict = b.audit_verdict;
        a.audit_rule = b.audit_rule;
    }
    a
}

/// Whether an address is one the gateway listens at: 127.0.0.1 or ::1.
#[inline(always)]
pub fn is_gateway(address: [u32; 4]) -> bool {
    let [a, b, c, d] = address;
    a == 0 && b == 0 && ((c == MAPPED && d == LOOPBACK_V4) || (c == 0 && d == 1_u32.to_be()))
}

/// The address the kernel will really use: for the unspecified IPv4 address the one the socket is
/// bound to, else loopback (net/ipv4/route.c `ip_route_output_key_hash_rcu`); for `::` always
/// `::1`.
#[inline(always)]
pub fn effective(mut address: [u32; 4], source: u32) -> [u32; 4] {
    if address[0] == 0 && address[1] == 0 && address[3] == 0 {
        if address[2] == 0 {
            address[3] = 1_u32.to_be();
        } else if address[2] == MAPPED {
            address[3] = if source != 0 { source } else { LOOPBACK_V4 };
        }
    }
    address
}

/// Longest prefix first, then (protocol, port), (protocol, any), (any, any) of its block: each
/// entry already holds the folded answer of every rule that covers it.
#[inline(always)]
pub fn decide(default: Decision, number: u32, to: &Destination, protocol: u32) -> Decision {
    let key = Key::new(160, PrefixKey { policy: number.to_be_bytes(), address: to.bytes() });
    match EGRESS.get(&key) {
        Some(&block) => in_block(block, protocol, to.port),
        None => default,
    }
}

/// What a block of `PORTS` says.
#[inline(always)]
pub fn in_block(block: u32, protocol: u32, port: u32) -> Decision {
    let exact = PortKey { block, port: port as u16, protocol: protocol as u8, reserved: 0 };
    // SAFETY: the entry is copied at once; userspace never writes into a live entry.
    unsafe {
        if block & block::PORTS != 0
            && let Some(decision) = PORTS.get(exact)
        {
            return *decision;
        }
        if block & block::PROTOCOLS != 0
            && let Some(decision) = PORTS.get(PortKey { port: 0, ..exact })
        {
            return *decision;
        }
        match PORTS.get(PortKey { port: 0, protocol: 0, ..exact }) {
            Some(decision) => *decision,
            None => REFUSED,
        }
    }
}
