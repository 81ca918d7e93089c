//! Ways out through sockets of the workload's own.

use std::{
    io::{self, Write},
    net::{SocketAddr, SocketAddrV6, TcpListener},
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command, Stdio},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    poll::{PollFd, PollFlags, poll},
    sys::socket::{getsockopt, sockopt},
};

use super::{Joins, SILENT_AFTER_MS, Scene, Stopped, Tried, Under, Vector, calls, step};
use crate::{system_calls::open_socket, uring};

const STREAM: i32 = libc::SOCK_STREAM;
const DGRAM: i32 = libc::SOCK_DGRAM;
const RAW: i32 = libc::SOCK_RAW;
const DCCP: i32 = 6;
const UDPLITE: i32 = 136;
/// Families whose sockets ordinary programs need.
const ORDINARY: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// One more than the last family of include/linux/socket.h.
const FAMILIES_END: i32 = 46;

const fn closed(name: &'static str, named: &'static str, take: fn(&Scene) -> Tried) -> Vector {
    Vector { name, under: Under::Closed, joins: Joins::First, named, take }
}

pub(super) const VECTORS: &[Vector] = &[
    closed("tcp-v4", "egress-connect", |s| tcp(s, s.address("tcp4"))),
    closed("tcp-v6", "egress-connect", |s| tcp(s, s.address("tcp6"))),
    closed("tcp-v4-mapped", "egress-connect", |s| tcp(s, mapped(s.address("tcp4")))),
    closed("tcp-unspecified-address", "egress-connect", |s| {
        tcp(s, ([0, 0, 0, 0], s.address("tcp4").port()).into())
    }),
    closed("tcp-fast-open", "egress-connect", fast_open),
    closed("mptcp", "egress-connect", |s| {
        connected(s, libc::AF_INET, STREAM, libc::IPPROTO_MPTCP, s.address("tcp4"))
    }),
    closed("udp-v4-connected", "egress-connect", |s| udp_connected(s, s.address("udp4"))),
    closed("udp-v6-connected", "egress-connect", |s| udp_connected(s, s.address("udp6"))),
    closed("udp-v4-sendto", "egress-send", |s| udp(s, s.address("udp4"))),
    closed("udp-v6-sendto", "egress-send", |s| udp(s, s.address("udp6"))),
    closed("udp-v4-mapped-sendto", "egress-send", |s| udp(s, mapped(s.address("udp4")))),
    closed("udp-sendmmsg", "egress-send", sendmmsg),
    closed("io-uring-connect", "egress-connect", uring_connect),
    closed("io-uring-send", "egress-send", uring_send),
    closed("io-uring-socket", "egress-raw", uring_socket),
    closed("udp-connected-sendto-elsewhere", "egress-send", elsewhere),
    closed("udp-ipv4-source-route", "egress-source-routing", source_route),
    closed("udp-ipv6-routing-header", "egress-source-routing", routing_header),
    closed("sctp", "egress-raw", |s| made(s, libc::AF_INET, STREAM, libc::IPPROTO_SCTP)),
    closed("udplite", "egress-raw", |s| made(s, libc::AF_INET, DGRAM, UDPLITE)),
    closed("dccp", "egress-raw", |s| made(s, libc::AF_INET, DCCP, libc::IPPROTO_DCCP)),
    closed("raw-ipv4", "egress-raw", |s| made(s, libc::AF_INET, RAW, libc::IPPROTO_UDP)),
    closed("raw-ipv6", "egress-raw", |s| made(s, libc::AF_INET6, RAW, libc::IPPROTO_UDP)),
    closed("ping-ipv4", "egress-raw", |s| made(s, libc::AF_INET, DGRAM, libc::IPPROTO_ICMP)),
    closed("ping-ipv6", "egress-raw", |s| made(s, libc::AF_INET6, DGRAM, libc::IPPROTO_ICMPV6)),
    closed("af-packet", "egress-packet-sockets", |s| made(s, libc::AF_PACKET, RAW, 0x0300)),
    closed("af-vsock", "egress-packet-sockets", |s| made(s, libc::AF_VSOCK, STREAM, 0)),
    closed("af-alg", "egress-packet-sockets", |s| made(s, libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    closed("af-xdp", "egress-packet-sockets", |s| made(s, libc::AF_XDP, RAW, 0)),
    closed("any-other-family", "egress-packet-sockets", any_family),
    closed("netlink-netfilter", "egress-packet-sockets", |s| {
        made(s, libc::AF_NETLINK, RAW, libc::NETLINK_NETFILTER)
    }),
    closed("netlink-generic", "egress-packet-sockets", |s| {
        made(s, libc::AF_NETLINK, RAW, libc::NETLINK_GENERIC)
    }),
    Vector {
        name: "gateway-listener-bind",
        under: Under::Open,
        joins: Joins::First,
        named: "gateway",
        take: |s| bound(s, s.address("gateway")),
    },
    Vector {
        name: "gateway-listener-connect",
        under: Under::Open,
        joins: Joins::First,
        named: "gateway",
        take: |s| tcp(s, s.address("gateway6")),
    },
    Vector {
        name: "target-endpoint-without-a-gate-rule",
        under: Under::Open,
        joins: Joins::First,
        named: "targets",
        take: |s| tcp(s, s.address("target")),
    },
    Vector {
        name: "target-endpoint-from-an-unselected-pod",
        under: Under::Unselected,
        joins: Joins::First,
        named: "targets",
        take: |s| tcp(s, s.address("target")),
    },
    Vector { joins: Joins::Itself, ..closed("accept-from-outside", "ingress", accept) },
];

fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        v6 @ SocketAddr::V6(_) => v6,
    }
}

const fn family(address: &SocketAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

pub(super) fn tcp(scene: &Scene, address: SocketAddr) -> Tried {
    connected(scene, family(&address), STREAM, 0, address)
}

fn connected(scene: &Scene, family: i32, kind: i32, protocol: i32, address: SocketAddr) -> Tried {
    scene.join()?;
    let socket = step("socket", open_socket(family, kind, protocol))?;
    connect(&socket, address)
}

/// Connects with a limit of its own: a packet filter may swallow the answer.
pub(super) fn connect(socket: &OwnedFd, address: SocketAddr) -> Tried {
    step("socket", fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)))?;
    match calls::connect(socket, address) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => settled(socket),
        other => step("connect", other),
    }
}

fn settled(socket: &OwnedFd) -> Tried {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    if step("connect", poll(&mut fds, SILENT_AFTER_MS))? == 0 {
        return Err(Stopped { step: "connect", errno: Errno::ETIMEDOUT });
    }
    match step("connect", getsockopt(socket, sockopt::SocketError))? {
        0 => Ok(()),
        number => step("connect", Err(io::Error::from_raw_os_error(number))),
    }
}

fn fast_open(scene: &Scene) -> Tried {
    let address = scene.address("tcp4");
    scene.join()?;
    let socket = step("socket", open_socket(family(&address), STREAM, 0))?;
    step("socket", fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)))?;
    match calls::send_to(&socket, b"x", address, libc::MSG_FASTOPEN) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => settled(&socket),
        other => step("sendto", other),
    }
}

fn udp(scene: &Scene, address: SocketAddr) -> Tried {
    scene.join()?;
    let socket = step("socket", open_socket(family(&address), DGRAM, 0))?;
    step("sendto", calls::send_to(&socket, b"x", address, 0))
}

fn udp_connected(scene: &Scene, address: SocketAddr) -> Tried {
    scene.join()?;
    let socket = step("socket", open_socket(family(&address), DGRAM, 0))?;
    step("connect", calls::connect(&socket, address))
}

fn sendmmsg(scene: &Scene) -> Tried {
    let address = scene.address("udp4");
    scene.join()?;
    let socket = step("socket", open_socket(family(&address), DGRAM, 0))?;
    step("sendmmsg", calls::send_many(&socket, b"x", address))
}

/// System calls that are none: the kernel does what a ring asks for (io_uring(7)).
fn uring_connect(scene: &Scene) -> Tried {
    let address = scene.address("tcp4");
    scene.join()?;
    let socket = step("socket", open_socket(family(&address), STREAM, 0))?;
    step("connect", uring::connect(&socket, &step("scene", calls::complete(address))?))
}

fn uring_send(scene: &Scene) -> Tried {
    let address = scene.address("udp4");
    scene.join()?;
    let socket = step("socket", open_socket(family(&address), DGRAM, 0))?;
    step("sendmsg", uring::send(&socket, &step("scene", calls::complete(address))?))
}

fn uring_socket(scene: &Scene) -> Tried {
    scene.join()?;
    step("socket", uring::socket(libc::AF_INET, RAW, libc::IPPROTO_UDP))
}

/// Connected to where it may go, and then sent to where it may not.
fn elsewhere(scene: &Scene) -> Tried {
    scene.join()?;
    let socket = step("socket", open_socket(libc::AF_INET, DGRAM, 0))?;
    step("connect", calls::connect(&socket, scene.address("open4")))?;
    step("sendto", calls::send_to(&socket, b"x", scene.address("udp4"), 0))
}

/// To where it may go, by way of where it may not (RFC 791, loose source and record route).
fn source_route(scene: &Scene) -> Tried {
    let (SocketAddr::V4(hop), SocketAddr::V4(end)) =
        (scene.address("udp4"), scene.address("open4"))
    else {
        return Err(Stopped { step: "scene", errno: Errno::EINVAL });
    };
    scene.join()?;
    let socket = step("socket", open_socket(libc::AF_INET, DGRAM, 0))?;
    let mut option = vec![0x83, 11, 4];
    option.extend(hop.ip().octets());
    option.extend(end.ip().octets());
    option.push(0);
    step("IP_OPTIONS", calls::set_option(&socket, libc::IPPROTO_IP, libc::IP_OPTIONS, &option))?;
    step("sendto", calls::send_to(&socket, b"x", end.into(), 0))
}

/// The same for IPv6 (RFC 8754, segment routing header).
fn routing_header(scene: &Scene) -> Tried {
    const IPV6_RTHDR: i32 = 57;
    let (SocketAddr::V6(hop), SocketAddr::V6(end)) =
        (scene.address("udp6"), scene.address("open6"))
    else {
        return Err(Stopped { step: "scene", errno: Errno::EINVAL });
    };
    scene.join()?;
    let socket = step("socket", open_socket(libc::AF_INET6, DGRAM, 0))?;
    // Next header (the kernel's), length in 8 bytes, type, segments left, last entry, flags, tag.
    let mut header = vec![0, 4, 4, 1, 1, 0, 0, 0];
    header.extend(end.ip().octets());
    header.extend(hop.ip().octets());
    step("IPV6_RTHDR", calls::set_option(&socket, libc::IPPROTO_IPV6, IPV6_RTHDR, &header))?;
    step("sendto", calls::send_to(&socket, b"x", end.into(), 0))
}

fn made(scene: &Scene, family: i32, kind: i32, protocol: i32) -> Tried {
    scene.join()?;
    step("socket", open_socket(family, kind, protocol)).map(drop)
}

/// The first of all other families that gives a socket.
fn any_family(scene: &Scene) -> Tried {
    scene.join()?;
    let mut last = Err(Stopped { step: "socket", errno: Errno::EAFNOSUPPORT });
    for family in (1..FAMILIES_END).filter(|family| !ORDINARY.contains(family)) {
        for kind in [STREAM, DGRAM, RAW, libc::SOCK_SEQPACKET] {
            match step("socket", open_socket(family, kind, 0)) {
                Ok(_) => return Ok(()),
                Err(stopped) if stopped.errno == Errno::EPERM => last = Err(stopped),
                Err(_) => {}
            }
        }
    }
    last
}

fn bound(scene: &Scene, address: SocketAddr) -> Tried {
    scene.join()?;
    let socket = step("socket", open_socket(family(&address), STREAM, 0))?;
    step("bind", calls::bind(&socket, address))
}

/// Listens; a helper that was there before connects from outside.
fn accept(scene: &Scene) -> Tried {
    let address = scene.address("free4");
    let mut helper = Command::new(crate::program("pcigate-probe"));
    helper.args(["read-line", &format!("tcp:{address}")]);
    let spawned = helper.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut helper = step("helper", spawned)?;
    let tried = scene.join().and_then(|()| accepted(address, &mut helper));
    let _ = helper.kill();
    let _ = helper.wait();
    tried
}

fn accepted(address: SocketAddr, helper: &mut Child) -> Tried {
    let listener = step("bind", TcpListener::bind(address))?;
    let mut line = step("helper", helper.stdin.take().ok_or(io::Error::other("no pipe")))?;
    step("helper", line.write_all(b"\n"))?;
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    if step("accept", poll(&mut fds, SILENT_AFTER_MS))? == 0 {
        return Err(Stopped { step: "accept", errno: Errno::ETIMEDOUT });
    }
    step("accept", listener.accept()).map(drop)
}
