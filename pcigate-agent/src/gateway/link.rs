//! One end of the socket between the agent and the gateway's process: frames and descriptors.
//! Sending and receiving can be given up at any time: a message went, or it did not.

mod received;

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt,
        socketpair, sockopt,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use super::wire::FRAME_MAX;

/// Bytes the kernel keeps on the way, each way; then sending waits. A frame is a quarter of it at
/// most.
const ON_THE_WAY: usize = 4 * FRAME_MAX;

/// Both ends of a new one, both closed on exec.
///
/// # Errors
/// No descriptors are left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    for end in [&one, &other] {
        setsockopt(end, sockopt::SndBuf, &ON_THE_WAY)?;
    }
    Ok((one, other))
}

/// Sends a message; waits where the socket does.
///
/// # Errors
/// The other end is gone, or the socket would have to wait and is not to.
pub fn send(to: BorrowedFd<'_>, message: &[u8], passed: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let passed = passed.map(|passed| [passed.as_raw_fd()]);
    let rights = passed.as_ref().map(|passed| [ControlMessage::ScmRights(passed)]);
    let rights: &[ControlMessage<'_>] = rights.as_ref().map_or(&[], |rights| rights);
    let parts = [IoSlice::new(message)];
    sendmsg::<()>(to.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives a message of at most [`FRAME_MAX`] bytes, with a descriptor where one may come; waits
/// where the socket does. Nothing is the end.
///
/// # Errors
/// The other end is gone, the message is too long, or the socket would have to wait.
pub fn receive(
    from: BorrowedFd<'_>,
    buffer: &mut [u8],
    takes: bool,
) -> io::Result<(usize, Option<OwnedFd>)> {
    let (length, flags, passed) = received::one(from, &mut [IoSliceMut::new(buffer)], takes)?;
    if flags.contains(MsgFlags::MSG_TRUNC) {
        let message = "a frame between agent and gateway is longer than any is";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok((length, passed))
}

/// An end that a runtime watches.
pub struct Link {
    socket: AsyncFd<OwnedFd>,
}

impl Link {
    /// Must run inside of a tokio runtime.
    ///
    /// # Errors
    /// The runtime takes no more descriptors.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { socket: received::watched(socket)? })
    }

    /// Sends a frame, and waits while the kernel keeps too many.
    ///
    /// # Errors
    /// The other end is gone.
    pub async fn send(&self, frame: &[u8], passed: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, |socket| send(socket.as_fd(), frame, passed)).await
    }

    /// See [`receive`]; waits for a frame.
    ///
    /// # Errors
    /// The other end is gone, or what it sends is too long.
    pub async fn receive(
        &self,
        buffer: &mut [u8],
        takes: bool,
    ) -> io::Result<(usize, Option<OwnedFd>)> {
        self.socket
            .async_io(Interest::READABLE, |socket| receive(socket.as_fd(), buffer, takes))
            .await
    }
}
