//! Sockets made outside of the governed cgroup and carried in: inherited, passed in a message, or
//! made before the process joined. The cgroup's programs do not see them, so the task decides.
//!
//! match-proto: security/security.c `security_socket_connect(struct socket *sock, struct sockaddr
//! *address, int addrlen)` and `security_socket_sendmsg(struct socket *sock, struct msghdr *msg,
//! int size)`; addresses have been copied into the kernel by then.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use pcigate_common::{
    event::{Operation, What, flags},
    maps::{ForeignKey, rule},
};

use crate::{
    egress::{self, Destination},
    identity::{self, Subject},
    lsm_result,
    maps::{FOREIGN, offsets},
    memory::Address,
    socket_attempt::report,
    socket_origin::{self, AF_INET, AF_INET6, AF_NETLINK, AF_UNIX},
    sockets,
};

const SOCK_STREAM: u32 = 1;

/// What the programs need of a `struct sock`.
struct Socket {
    sk: Address,
    family: u32,
    kind: u32,
    protocol: u32,
}

#[inline(always)]
fn socket(socket: u64) -> Option<Socket> {
    let offsets = offsets();
    let sk = Address(socket).follow(offsets.socket_sk)?;
    let family = u32::from(sk.at(offsets.sock_family).read::<u16>()?);
    let kind = u32::from(sk.at(offsets.sock_type).read::<u16>()?);
    let protocol = u32::from(sk.at(offsets.sock_protocol).read::<u16>()?);
    Some(Socket { sk, family, kind, protocol })
}

#[lsm(hook = "socket_connect")]
pub fn foreign_connect(ctx: LsmContext) -> i32 {
    let Some(subject) = identity::current() else { return 0 };
    let Some(socket) = socket(ctx.arg(0)) else { return lsm_result::of(false) };
    // A unix socket is judged by its peer; below the root, the cgroup's programs decide.
    if socket.family == AF_UNIX || socket_origin::of(socket.sk, &subject).governed {
        return 0;
    }
    let address = Address(ctx.arg::<u64>(1));
    if address.read::<u16>() == Some(0) {
        return 0; // AF_UNSPEC: takes a connection away
    }
    decide(&subject, &socket, named(address), Operation::Connect)
}

#[lsm(hook = "socket_sendmsg")]
pub fn foreign_send(ctx: LsmContext) -> i32 {
    let Some(subject) = identity::current() else { return 0 };
    let Some(socket) = socket(ctx.arg(0)) else { return lsm_result::of(false) };
    if socket.family == AF_UNIX {
        return 0;
    }
    let origin = socket_origin::of(socket.sk, &subject);
    if origin.own {
        return 0;
    }
    let name = Address(ctx.arg::<u64>(1)).follow(offsets().msghdr_name).unwrap_or(Address(0));
    let peer = peer(&socket);
    // A stream goes to its peer, whatever the message names; without one, MSG_FASTOPEN connects.
    let by_name = name.0 != 0 && (socket.kind != SOCK_STREAM || peer.family == 0);
    if by_name && origin.governed {
        return 0; // another pod's socket: the cgroup's programs are asked
    }
    let to = if by_name { named(name) } else { peer };
    if !by_name
        && to.family == 0
        && sockets::is_decided_by_destination(socket.kind, socket.protocol)
    {
        return 0; // connected to nothing: the kernel refuses
    }
    decide(&subject, &socket, to, Operation::Send)
}

/// The destination a `struct sockaddr` in the kernel names.
#[inline(always)]
fn named(address: Address) -> Destination {
    let port = u32::from(u16::from_be(address.at(2).read().unwrap_or(0)));
    let family = u32::from(address.read::<u16>().unwrap_or(0));
    if family == AF_INET {
        return match address.at(4).read() {
            Some(address) => Destination::v4(address, port),
            None => Destination::NONE,
        };
    }
    if family == AF_INET6 { v6(address.at(8), port) } else { Destination::NONE }
}

#[inline(always)]
fn v6(address: Address, port: u32) -> Destination {
    match address.read() {
        Some(address) => Destination { address, port, family: AF_INET6 },
        None => Destination::NONE,
    }
}

/// The cookie of the socket's network namespace; 0, which none has, where it cannot be read.
#[inline(always)]
fn network(sk: Address) -> u64 {
    let offsets = offsets();
    sk.follow(offsets.sock_net).and_then(|net| net.at(offsets.net_cookie).read()).unwrap_or(0)
}

/// What a socket is connected to.
#[inline(always)]
fn peer(socket: &Socket) -> Destination {
    let offsets = offsets();
    let port = u32::from(u16::from_be(socket.sk.at(offsets.sock_dport).read().unwrap_or(0)));
    if socket.family == AF_INET {
        return match socket.sk.at(offsets.sock_daddr).read() {
            Some(address) if address != 0 => Destination::v4(address, port),
            _ => Destination::NONE,
        };
    }
    if socket.family != AF_INET6 {
        return Destination::NONE;
    }
    let peer = v6(socket.sk.at(offsets.sock_v6_daddr), port);
    let [a, b, c, d] = peer.address;
    if a | b | c | d == 0 { Destination::NONE } else { peer }
}

#[inline(always)]
fn decide(subject: &Subject, socket: &Socket, to: Destination, operation: Operation) -> i32 {
    let inet = matches!(socket.family, AF_INET | AF_INET6)
        && sockets::is_decided_by_destination(socket.kind, socket.protocol);
    let decision = if inet {
        if to.family == 0 {
            return lsm_result::of(false); // an address no egress rule could mean
        }
        let to = to.effective();
        let mut decision = egress::answer(subject, &to, socket.protocol, || network(socket.sk));
        if decision.allows() && egress::is_source_routed(socket.sk, socket.family) {
            decision = egress::stricter(decision, subject.confined(rule::SOCKET));
        }
        if !decision.allows() || !is_known(subject, socket, &to, operation) {
            egress::report(operation, flags::LSM, subject, decision, &to, socket.protocol);
        }
        decision
    } else {
        if sockets::is_ordinary_family(socket.family, socket.protocol)
            && socket.family == AF_NETLINK
        {
            return 0;
        }
        let decision = subject.confined(rule::SOCKET);
        let numbers = [socket.family, socket.kind, socket.protocol, 0];
        report(What::Socket, flags::LSM, subject, decision, numbers, [0; 16]);
        decision
    };
    lsm_result::of(decision.allows())
}

/// Whether the allowed use of a socket has a record already. A connection is asked about with every
/// message, and one record of it is enough.
#[inline(always)]
fn is_known(subject: &Subject, socket: &Socket, to: &Destination, operation: Operation) -> bool {
    if operation == Operation::Connect {
        return false;
    }
    let key = ForeignKey {
        socket: socket.sk.0,
        policy: subject.policy,
        port: to.port,
        address: to.bytes(),
    };
    // SAFETY: the value is not used.
    if unsafe { FOREIGN.get(&key) }.is_some() {
        return true;
    }
    let _ = FOREIGN.insert(&key, &1, 0);
    false
}
