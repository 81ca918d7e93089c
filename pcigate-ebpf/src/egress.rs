//! The egress decision: connect and unconnected sendmsg, for IPv4 and IPv6.
//!
//! match-proto: net/ipv4/af_inet.c `BPF_CGROUP_RUN_PROG_INET4_CONNECT`, net/ipv4/udp.c
//! `BPF_CGROUP_RUN_PROG_UDP4_SENDMSG_LOCK` and their IPv6 twins. Return 0 is EPERM.

use aya_ebpf::{
    bindings::bpf_sock_addr, macros::cgroup_sock_addr, maps::lpm_trie::Key,
    programs::SockAddrContext,
};
use pcigate_common::{
    event::{Egress, Kind, Operation, flags},
    maps::{Decision, PolicyEntry, PortKey, PrefixKey, rule, verdict},
};

use crate::{
    identity,
    maps::{EGRESS, PORTS},
    names, ring,
};

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const REFUSED: Decision = Decision::enforced(verdict::DENY, rule::INTERNAL_ERROR);

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
fn v4(ctx: *mut bpf_sock_addr) -> [u32; 4] {
    // SAFETY: the context is valid for the program's run. Volatile, because the compiler would
    // otherwise merge this load with that of another field, which the verifier refuses.
    let address = unsafe { (&raw const (*ctx).user_ip4).read_volatile() };
    [0, 0, 0xffff_u32.to_be(), address]
}

#[inline(always)]
fn v6(ctx: *mut bpf_sock_addr) -> [u32; 4] {
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

/// The IPv4 address the socket is bound to; 0 = none.
#[inline(always)]
fn bound_v4(ctx: *mut bpf_sock_addr) -> u32 {
    // SAFETY: as in `v4`; the kernel gives a socket or null, and lets its address be read.
    unsafe {
        let socket = (&raw const (*ctx).__bindgen_anon_1.sk).read_volatile();
        if socket.is_null() { 0 } else { (&raw const (*socket).src_ip4).read_volatile() }
    }
}

#[inline(always)]
fn check(
    operation: Operation,
    family: u32,
    address: [u32; 4],
    source: u32,
    ctx: *mut bpf_sock_addr,
) -> i32 {
    let address = effective(address, source);
    let mapped = address[0] == 0 && address[1] == 0 && address[2] == 0xffff_u32.to_be();
    // SAFETY: as in `v4`.
    let (port, protocol) = unsafe {
        (
            (&raw const (*ctx).user_port).read_volatile(),
            (&raw const (*ctx).protocol).read_volatile(),
        )
    };
    let port = u32::from(u16::from_be(port as u16));
    // SAFETY: four words are sixteen bytes of any value.
    let address: [u8; 16] = unsafe { core::mem::transmute(address) };
    let subject = identity::current_or_unknown();
    let decision = match subject.policy() {
        Ok(policy) => {
            let decision = decide(policy, subject.policy, address, protocol, port);
            names::join(decision, &subject, ctx, address, protocol, port)
        }
        Err(decision) => decision,
    };
    let bits = if mapped && family == AF_INET6 { flags::V4_MAPPED } else { 0 };
    let header = ring::header(Kind::Egress, bits, &subject, decision);
    ring::put(
        ring::for_decision(&decision),
        Egress { header, address, operation, protocol, port, family },
    );
    i32::from(decision.allows())
}

/// The address the kernel will really use: for the unspecified IPv4 address the one the socket is
/// bound to, else loopback (net/ipv4/route.c `ip_route_output_key_hash_rcu`); for `::` always
/// `::1`.
#[inline(always)]
fn effective(mut address: [u32; 4], source: u32) -> [u32; 4] {
    if address[0] == 0 && address[1] == 0 && address[3] == 0 {
        if address[2] == 0 {
            address[3] = 1_u32.to_be();
        } else if address[2] == 0xffff_u32.to_be() {
            address[3] = if source != 0 { source } else { 0x7f00_0001_u32.to_be() };
        }
    }
    address
}

/// Longest prefix first, then (protocol, port), (protocol, any), (any, any) of its block: each
/// entry already holds the folded answer of every rule that covers it.
#[inline(always)]
pub fn decide(
    policy: &PolicyEntry,
    number: u32,
    address: [u8; 16],
    protocol: u32,
    port: u32,
) -> Decision {
    let key = Key::new(160, PrefixKey { policy: number.to_be_bytes(), address });
    match EGRESS.get(&key) {
        Some(&block) => in_block(block, protocol, port),
        None => policy.egress_default,
    }
}

/// What a block of `PORTS` says.
#[inline(always)]
pub fn in_block(block: u32, protocol: u32, port: u32) -> Decision {
    let exact = PortKey { block, port: port as u16, protocol: protocol as u8, reserved: 0 };
    // SAFETY: the entry is copied at once; userspace never writes into a live entry.
    unsafe {
        if let Some(decision) = PORTS.get(exact) {
            return *decision;
        }
        if let Some(decision) = PORTS.get(PortKey { port: 0, ..exact }) {
            return *decision;
        }
        match PORTS.get(PortKey { port: 0, protocol: 0, ..exact }) {
            Some(decision) => *decision,
            None => REFUSED,
        }
    }
}
