//! Unix sockets that lead out of a confined workload: to the container runtime, the kubelet, CNI
//! programs, other services of the node, other pods, and this agent.
//!
//! A path says nothing (a bind mount gives it another name), so what counts is where the socket at
//! the other end was made. match-proto: security/security.c `security_unix_stream_connect(struct
//! sock *sock, struct sock *other, struct sock *newsk)` and `security_unix_may_send(struct socket
//! *sock, struct socket *other)`.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use pcigate_common::{
    event::{What, flags},
    maps::rule,
};

use crate::{
    identity, lsm_result, maps::offsets, memory::Address, socket_attempt::report_named,
    socket_origin,
};

/// `sun_family`, before the name.
const FAMILY_BYTES: u32 = 2;

#[lsm(hook = "unix_stream_connect")]
pub fn unix_connect(ctx: LsmContext) -> i32 {
    check(Address(ctx.arg::<u64>(1)))
}

#[lsm(hook = "unix_may_send")]
pub fn unix_send(ctx: LsmContext) -> i32 {
    check(Address(ctx.arg::<u64>(1)).follow(offsets().socket_sk).unwrap_or(Address(0)))
}

#[inline(always)]
fn check(other: Address) -> i32 {
    let Some(subject) = identity::current().map(identity::opaque) else { return 0 };
    if socket_origin::of(other, &subject).own {
        return 0;
    }
    let decision = subject.confined(rule::NODE_SOCKET);
    let offsets = offsets();
    let address = other.follow(offsets.unix_addr).unwrap_or(Address(0));
    let len: u32 = address.at(offsets.unix_address_len).read().unwrap_or(0);
    let name = address.at(offsets.unix_address_name).at(FAMILY_BYTES);
    let len = len.saturating_sub(FAMILY_BYTES);
    report_named(What::UnixConnect, flags::LSM, &subject, decision, name, len);
    lsm_result::of(decision.allows())
}
