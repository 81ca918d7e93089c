//! What the probe does with sockets beyond connecting one: every way a process has to reach out.
//!
//! ```text
//! bind:ADDRESS:PORT           bind a stream socket
//! listen:ADDRESS:PORT         bind one and listen
//! mptcp:ADDRESS:PORT          connect with multipath TCP
//! fastopen:ADDRESS:PORT       connect by sending (MSG_FASTOPEN)
//! sendmmsg:ADDRESS:PORT       two datagrams with one call, on an unconnected socket
//! routed-connect:ADDRESS:PORT connect by way of 127.0.0.1 or ::1 (a source route set before)
//! routed-send:ADDRESS:PORT    a datagram whose message carries a source route (IPv4 only)
//! uring-connect:ADDRESS:PORT, uring-send:ADDRESS:PORT, uring-socket:FAMILY,TYPE,PROTOCOL
//! unix:NAME, unix-datagram:NAME  a path, or an abstract name behind `@`
//! unix-own:NAME               listen at a name and connect to it
//! accept:ADDRESS:PORT         listen, wait for a line on standard input, accept without waiting
//! receive:ADDRESS:PORT        the same for a datagram
//! ask:ADDRESS:PORT            send a datagram on an unconnected socket and wait for one back
//! stdin-connect:ADDRESS:PORT  connect the socket that standard input is
//! stdin-send, stdin-send:ADDRESS:PORT  send on it
//! stdin-write                 write(2) on it
//! passed-send, passed-send:ADDRESS:PORT, passed-connect:ADDRESS:PORT  the same with a socket that
//!                             a message on standard input carries (SCM_RIGHTS)
//! ```

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddress, UnixDatagram, UnixListener, UnixStream},
    },
    time::Duration,
};

use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, bind, connect, listen,
        recvmsg, send, sendmmsg, sendto,
    },
};

use crate::{system_calls, uring};

const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const TCP: i32 = 6;
const UDP: i32 = 17;
const MPTCP: i32 = 262;

/// Does an action; `None` = it is none of ours.
#[must_use]
pub fn act(kind: &str, rest: &str) -> Option<io::Result<()>> {
    Some(match kind {
        "bind" => bound(rest).map(drop),
        "listen" => {
            bound(rest).and_then(|socket| Ok(listen(&socket, nix::sys::socket::Backlog::new(1)?)?))
        }
        "mptcp" => {
            with(rest, libc::SOCK_STREAM, MPTCP, |socket, to| Ok(connect(socket.as_raw_fd(), to)?))
        }
        "fastopen" => with(rest, libc::SOCK_STREAM, TCP, |socket, to| {
            let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
            Ok(sendto(socket.as_raw_fd(), b"x", to, flags).map(drop)?)
        }),
        "sendmmsg" => with(rest, libc::SOCK_DGRAM, UDP, |socket, to| two(socket.as_fd(), to)),
        "routed-connect" => with(rest, libc::SOCK_STREAM, TCP, |socket, to| {
            system_calls::set_source_route(socket, to)?;
            Ok(connect(socket.as_raw_fd(), to)?)
        }),
        "routed-send" => with(rest, libc::SOCK_DGRAM, UDP, system_calls::send_routed),
        "uring-connect" => with(rest, libc::SOCK_STREAM, TCP, uring::connect),
        "uring-send" => with(rest, libc::SOCK_DGRAM, UDP, uring::send),
        "uring-socket" => numbers(rest).and_then(|[f, t, p]| uring::socket(f, t, p)),
        "unix" => unix(rest).and_then(|to| UnixStream::connect_addr(&to)).map(drop),
        "unix-datagram" => {
            unix(rest).and_then(|to| UnixDatagram::unbound()?.send_to_addr(b"x", &to)).map(drop)
        }
        "unix-own" => unix(rest).and_then(|at| {
            let _listener = UnixListener::bind_addr(&at)?;
            UnixStream::connect_addr(&at).map(drop)
        }),
        "accept" => accept(rest),
        "receive" => receive(rest),
        "ask" => ask(rest),
        "stdin-write" => write(io::stdin().as_fd()),
        "stdin-connect" | "stdin-send" => {
            on(io::stdin().as_fd(), kind.trim_start_matches("stdin-"), rest)
        }
        "passed-connect" | "passed-send" => {
            passed().and_then(|socket| on(socket.as_fd(), kind.trim_start_matches("passed-"), rest))
        }
        _ => return None,
    })
}

/// Three numbers, separated by commas.
///
/// # Errors
/// They are not three.
pub fn numbers(text: &str) -> io::Result<[i32; 3]> {
    let numbers: Vec<i32> = text.split(',').filter_map(|n| n.parse().ok()).collect();
    numbers.try_into().map_err(|_| io::Error::other("three numbers are needed"))
}

fn address(text: &str) -> io::Result<(i32, SockaddrStorage)> {
    let address: SocketAddr = text.parse().map_err(io::Error::other)?;
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let storage = system_calls::storage(address);
    Ok((family, storage.ok_or_else(|| io::Error::other("no address"))?))
}

/// A fresh socket for an address.
fn with(
    text: &str,
    kind: i32,
    protocol: i32,
    act: impl FnOnce(&OwnedFd, &SockaddrStorage) -> io::Result<()>,
) -> io::Result<()> {
    let (family, to) = address(text)?;
    act(&system_calls::open_socket(family, kind, protocol)?, &to)
}

fn bound(text: &str) -> io::Result<OwnedFd> {
    let (family, at) = address(text)?;
    let socket = system_calls::open_socket(family, libc::SOCK_STREAM, TCP)?;
    bind(socket.as_raw_fd(), &at)?;
    Ok(socket)
}

fn accept(at: &str) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    io::stdin().read_line(&mut String::new())?;
    listener.accept().map(drop)
}

fn receive(at: &str) -> io::Result<()> {
    let socket = UdpSocket::bind(at)?;
    socket.set_nonblocking(true)?;
    io::stdin().read_line(&mut String::new())?;
    socket.recv(&mut [0]).map(drop)
}

fn ask(to: &str) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    socket.send_to(b"x", to)?;
    socket.recv(&mut [0]).map(drop)
}

fn two(socket: BorrowedFd<'_>, to: &SockaddrStorage) -> io::Result<()> {
    let mut headers = MultiHeaders::preallocate(2, None);
    let parts = [[IoSlice::new(b"x")], [IoSlice::new(b"y")]];
    let to = [Some(*to), Some(*to)];
    sendmmsg(socket.as_raw_fd(), &mut headers, &parts, to, [], MsgFlags::empty())?;
    Ok(())
}

fn on(socket: BorrowedFd<'_>, what: &str, rest: &str) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    match (what, rest) {
        ("send", "") => Ok(send(fd, b"x", MsgFlags::MSG_NOSIGNAL).map(drop)?),
        ("send", to) => Ok(sendto(fd, b"x", &address(to)?.1, MsgFlags::MSG_NOSIGNAL).map(drop)?),
        (_, to) => Ok(connect(fd, &address(to)?.1)?),
    }
}

fn write(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(nix::unistd::write(socket, b"x").map(drop)?)
}

/// The descriptor that comes with the next message on standard input.
fn passed() -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = cmsg_space!([i32; 1]);
    let stdin = io::stdin().as_raw_fd();
    let message = recvmsg::<()>(stdin, &mut parts, Some(&mut space), MsgFlags::empty())?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            return Ok(system_calls::own(*fd));
        }
    }
    Err(io::Error::other("no descriptor came"))
}

fn unix(name: &str) -> io::Result<UnixAddress> {
    match name.strip_prefix('@') {
        Some(name) => UnixAddress::from_abstract_name(name),
        None => UnixAddress::from_pathname(name),
    }
}
