//! Ways out through sockets that were not made inside: opened before, passed, taken, accepted.

use std::{
    io::{IoSlice, IoSliceMut, Write},
    net::{TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};

use super::{Joins, Scene, Stopped, Tried, Under, Vector, calls, network, step};
use crate::system_calls::{open_socket, own};

/// First argument of the process that makes a socket outside and passes it on.
pub const PASS: &str = "--pass";

const FOREIGN: &str = "egress-foreign-sockets";

const fn closed(name: &'static str, named: &'static str, take: fn(&Scene) -> Tried) -> Vector {
    Vector { name, under: Under::Closed, joins: Joins::Itself, named, take }
}

pub(super) const VECTORS: &[Vector] = &[
    closed("tcp-socket-opened-before", FOREIGN, tcp_before),
    closed("tcp-connection-opened-before", FOREIGN, tcp_connected_before),
    closed("udp-socket-opened-before", FOREIGN, udp_before),
    closed("udp-connected-before", FOREIGN, udp_connected_before),
    closed("tcp-socket-passed-from-outside", FOREIGN, passed),
    closed("tcp-connection-taken-from-outside", "self-protection", taken),
    closed("unix-path-of-the-node", "unix-sockets", |s| {
        s.join()?;
        step("connect", UnixStream::connect(s.path("unix"))).map(drop)
    }),
    closed("unix-abstract-of-the-node", "unix-sockets", abstract_name),
    closed("unix-datagram-of-the-node", "unix-sockets", |s| {
        s.join()?;
        let socket = step("socket", UnixDatagram::unbound())?;
        step("sendto", socket.send_to(b"x", s.path("unix-datagram"))).map(drop)
    }),
];

fn tcp_before(scene: &Scene) -> Tried {
    let socket = step("scene", open_socket(libc::AF_INET, libc::SOCK_STREAM, 0))?;
    scene.join()?;
    network::connect(&socket, scene.address("tcp4"))
}

fn tcp_connected_before(scene: &Scene) -> Tried {
    let mut stream = step("scene", TcpStream::connect(scene.address("tcp4")))?;
    scene.join()?;
    step("write", stream.write_all(b"x"))
}

fn udp_before(scene: &Scene) -> Tried {
    let socket = step("scene", UdpSocket::bind("127.0.0.1:0"))?;
    scene.join()?;
    step("sendto", socket.send_to(b"x", scene.address("udp4"))).map(drop)
}

fn udp_connected_before(scene: &Scene) -> Tried {
    let socket = step("scene", UdpSocket::bind("127.0.0.1:0"))?;
    step("scene", socket.connect(scene.address("udp4")))?;
    scene.join()?;
    step("send", socket.send(b"x")).map(drop)
}

/// A helper that stays outside makes a socket and passes it (`SCM_RIGHTS`).
fn passed(scene: &Scene) -> Tried {
    let (ours, theirs) = step("scene", UnixDatagram::pair())?;
    let own = step("scene", std::env::current_exe())?;
    let mut helper = Command::new(own);
    helper.arg(PASS).stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut helper = step("scene", helper.spawn())?;
    let joined = scene.join();
    let socket = joined.and_then(|()| received(&ours));
    let _ = helper.wait();
    network::connect(&socket?, scene.address("tcp4"))
}

fn received(from: &UnixDatagram) -> Result<OwnedFd, Stopped> {
    let mut byte = [0; 1];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut room = nix::cmsg_space!([RawFd; 1]);
    let message = recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::empty());
    let message = step("recvmsg", message)?;
    for control in step("recvmsg", message.cmsgs())? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(&fd) = fds.first()
        {
            return Ok(own(fd));
        }
    }
    Err(Stopped { step: "recvmsg", errno: Errno::EBADF })
}

/// The helper: makes a socket and passes it through standard input.
///
/// # Errors
/// It cannot be made or sent.
pub fn pass() -> std::io::Result<()> {
    let socket = open_socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let fds = [socket.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let to = std::io::stdin().as_raw_fd();
    sendmsg::<()>(to, &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None)?;
    Ok(())
}

/// A connected socket out of a process that is not governed.
fn taken(scene: &Scene) -> Tried {
    scene.join()?;
    let socket = calls::descriptor_of(scene.number("decoy"), scene.number("decoy-socket"));
    let socket = step("pidfd_getfd", socket)?;
    step("write", TcpStream::from(socket).write_all(b"x"))
}

fn abstract_name(scene: &Scene) -> Tried {
    use std::os::linux::net::SocketAddrExt as _;
    scene.join()?;
    let name = std::os::unix::net::SocketAddr::from_abstract_name(scene.word("unix-abstract"));
    step("connect", UnixStream::connect_addr(&step("scene", name)?)).map(drop)
}
