//! Which sockets a confined workload may make, and what no governed process may bind to.
//!
//! match-proto: net/ipv4/af_inet.c and net/ipv6/af_inet6.c `BPF_CGROUP_RUN_PROG_INET_SOCK` (return
//! 0 is EPERM) and `BPF_CGROUP_RUN_PROG_INET_BIND_LOCK`; security/security.c
//! `security_socket_create(int family, int type, int protocol, int kern)` and
//! `security_socket_listen(struct socket *sock, int backlog)`.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    macros::{cgroup_sock, cgroup_sock_addr, lsm},
    programs::{LsmContext, SockAddrContext, SockContext},
};
use pcigate_common::{
    event::{What, flags},
    limits::GATEWAY_PORT,
    maps::{Decision, ingress, rule, verdict},
};

use crate::{
    egress,
    identity::{self, Subject},
    lsm_result,
    maps::offsets,
    memory::Address,
    socket_attempt::report,
    socket_origin::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX},
};

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const TCP: u32 = 6;
const UDP: u32 = 17;
const MPTCP: u32 = 262;
const NETLINK_ROUTE: u32 = 0;

/// What connect and sendmsg decide about. Everything else of these families (raw, ICMP, SCTP,
/// DCCP, UDP-Lite, …) names its destination elsewhere or not at all.
#[inline(always)]
pub fn is_decided_by_destination(kind: u32, protocol: u32) -> bool {
    (kind == SOCK_STREAM && (protocol == TCP || protocol == MPTCP))
        || (kind == SOCK_DGRAM && protocol == UDP)
}

/// Netlink is asked for addresses and routes by the C library and by language runtimes; its other
/// protocols set up devices, tunnels, address translation and audit.
#[inline(always)]
pub fn is_ordinary_family(family: u32, protocol: u32) -> bool {
    matches!(family, AF_UNIX | AF_INET | AF_INET6)
        || (family == AF_NETLINK && protocol == NETLINK_ROUTE)
}

#[cgroup_sock(sock_create)]
pub fn socket_inet(ctx: SockContext) -> i32 {
    // SAFETY: the context is valid for the program's run. Volatile, so that the compiler does not
    // merge neighbouring loads, which the verifier would refuse.
    let (family, kind, protocol) = unsafe {
        (
            (&raw const (*ctx.sock).family).read_volatile(),
            (&raw const (*ctx.sock).type_).read_volatile(),
            (&raw const (*ctx.sock).protocol).read_volatile(),
        )
    };
    if is_decided_by_destination(kind, protocol) {
        return 1;
    }
    let subject = identity::current_or_unknown();
    let decision = subject.confined(rule::SOCKET);
    report(What::Socket, 0, &subject, decision, [family, kind, protocol, 0], [0; 16]);
    i32::from(decision.allows())
}

/// Families that no cgroup hook sees. Inet sockets go on to [`socket_inet`].
#[lsm(hook = "socket_create")]
pub fn socket_any(ctx: LsmContext) -> i32 {
    let (family, kind, protocol) =
        (ctx.arg::<u64>(0) as u32, ctx.arg::<u64>(1) as u32, ctx.arg::<u64>(2) as u32);
    if ctx.arg::<u64>(3) as u32 != 0 || is_ordinary_family(family, protocol) {
        return 0;
    }
    let Some(subject) = identity::current() else { return 0 };
    let decision = subject.confined(rule::SOCKET);
    report(What::Socket, flags::LSM, &subject, decision, [family, kind, protocol, 0], [0; 16]);
    lsm_result::of(decision.allows())
}

#[cgroup_sock_addr(bind4)]
pub fn socket_bind4(ctx: SockAddrContext) -> i32 {
    bind(AF_INET, egress::v4(ctx.sock_addr), ctx.sock_addr)
}

#[cgroup_sock_addr(bind6)]
pub fn socket_bind6(ctx: SockAddrContext) -> i32 {
    bind(AF_INET6, egress::v6(ctx.sock_addr), ctx.sock_addr)
}

/// Whoever held the gateway's address would get what is redirected to it, also while the agent is
/// down; the unspecified address would hold it too.
#[inline(always)]
fn bind(family: u32, address: [u32; 4], ctx: *mut bpf_sock_addr) -> i32 {
    let (protocol, port) = egress::protocol_and_port(ctx);
    if port != u32::from(GATEWAY_PORT) || !egress::is_gateway(egress::effective(address, 0)) {
        return 1;
    }
    let subject = identity::current_or_unknown();
    if is_exempt(&subject) {
        return 1;
    }
    let decision = Decision::enforced(verdict::DENY, rule::GATEWAY_LISTENER);
    // SAFETY: four words are sixteen bytes of any value.
    let address: [u8; 16] = unsafe { core::mem::transmute(address) };
    report(What::Bind, 0, &subject, decision, [family, protocol, port, 0], address);
    0
}

/// The agent's own pod is exempt, and keeps the gateway's listeners.
#[inline(always)]
fn is_exempt(subject: &Subject) -> bool {
    subject.policy().is_ok_and(|policy| policy.exempt != 0)
}

/// A socket that listens without having been bound is given a port, which may be the gateway's; and
/// one that nobody may reach is refused here, where the process is told.
#[lsm(hook = "socket_listen")]
pub fn socket_listens(ctx: LsmContext) -> i32 {
    let Some(subject) = identity::current() else { return 0 };
    let offsets = offsets();
    let Some(sk) = Address(ctx.arg::<u64>(0)).follow(offsets.socket_sk) else { return 0 };
    let family = u32::from(sk.at(offsets.sock_family).read::<u16>().unwrap_or(0));
    if !matches!(family, AF_INET | AF_INET6) {
        return 0;
    }
    let port = u32::from(sk.at(offsets.sock_num).read::<u16>().unwrap_or(0));
    let decision = if port == u32::from(GATEWAY_PORT) && !is_exempt(&subject) {
        Decision::enforced(verdict::DENY, rule::GATEWAY_LISTENER)
    } else {
        match subject.policy() {
            Ok(policy) if policy.ingress & ingress::CLOSED != 0 => policy.ingress_default,
            _ => return 0,
        }
    };
    let protocol = u32::from(sk.at(offsets.sock_protocol).read::<u16>().unwrap_or(0));
    report(What::Listen, flags::LSM, &subject, decision, [family, protocol, port, 0], [0; 16]);
    lsm_result::of(decision.allows())
}
