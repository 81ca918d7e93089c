//! What the probe says of its peers: whom a socket is connected to, as the process sees it.
//!
//! ```text
//! peer:HOW:ADDRESS:PORT       connect, say who the peer is (getpeername), and keep the socket as
//!                             long as this runs; HOW: plain, later (without waiting), bound (from
//!                             a port of its own), uring
//! peer-after:HOW:ADDRESS:PORT,ADDRESS:PORT  the same on a socket that connected to the first
//!                             address before; HOW: unspec (taken away by AF_UNSPEC), failed
//! hold:ADDRESS:PORT           connect, and keep the socket as long as this runs
//! ```

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    poll::{PollFd, PollFlags, poll},
    sys::socket::{SockaddrStorage, bind, connect, getsockopt, sockopt::SocketError},
};

use crate::{system_calls, uring};

const TCP: i32 = 6;
/// How long a connection may take, ms.
const CONNECT_WITHIN_MS: u16 = 5_000;

static HELD: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Does an action; what it says.
///
/// # Errors
/// The errno, or the action is wrong.
pub fn act(kind: &str, rest: &str) -> io::Result<String> {
    if kind == "hold" {
        let to = address(rest)?;
        let socket = socket(to)?;
        connect_to(&socket, to)?;
        HELD.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
        return Ok("ok".to_owned());
    }
    let (how, rest) = rest.split_once(':').unwrap_or((rest, ""));
    if kind == "peer-after" {
        return after(how, rest);
    }
    let to = address(rest)?;
    let socket = socket(to)?;
    match how {
        "plain" => connect_to(&socket, to)?,
        "later" => later(&socket, to)?,
        "bound" => {
            let port = 40_000 + u16::try_from(std::process::id() % 10_000).unwrap_or(0);
            let any: SocketAddr =
                if to.is_ipv4() { ([0; 4], port).into() } else { ([0_u16; 8], port).into() };
            bind(socket.as_raw_fd(), &storage(any)?)?;
            connect_to(&socket, to)?;
        }
        "uring" => uring::connect(&socket, &storage(to)?)?,
        other => return Err(io::Error::other(format!("unknown way {other}"))),
    }
    keep(socket)
}

fn after(how: &str, rest: &str) -> io::Result<String> {
    let (first, second) = rest.split_once(',').unwrap_or((rest, ""));
    let (first, second) = (address(first)?, address(second)?);
    let socket = socket(first)?;
    match (how, connect_to(&socket, first)) {
        ("unspec", Ok(())) => system_calls::disconnect(&socket)?,
        ("failed", Err(_)) => {}
        (_, other) => return Err(io::Error::other(format!("the first ended in {other:?}"))),
    }
    connect_to(&socket, second)?;
    keep(socket)
}

/// Says who the peer is, and keeps the connection.
fn keep(socket: OwnedFd) -> io::Result<String> {
    let stream = TcpStream::from(socket);
    let peer = stream.peer_addr()?.to_string();
    HELD.lock().unwrap_or_else(PoisonError::into_inner).push(stream.into());
    Ok(peer)
}

fn address(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(io::Error::other)
}

fn storage(address: SocketAddr) -> io::Result<SockaddrStorage> {
    system_calls::storage(address).ok_or_else(|| io::Error::other("no address"))
}

fn socket(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    system_calls::open_socket(family, libc::SOCK_STREAM, TCP)
}

fn connect_to(socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    Ok(connect(socket.as_raw_fd(), &storage(to)?)?)
}

fn later(socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    match connect(socket.as_raw_fd(), &storage(to)?) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    poll(&mut ready, CONNECT_WITHIN_MS)?;
    match getsockopt(socket, SocketError)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
