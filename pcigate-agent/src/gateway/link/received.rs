//! Takes a message and the descriptor with it; has a socket watched.
// unsafe: descriptors arrive as numbers (unix(7), SCM_RIGHTS), and only the receiver can say that
// they are its own; the runtime has to be told that what it watches stays open.
#![allow(unsafe_code)]

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use tokio::io::unix::AsyncFd;

/// A message: its length, the flags it came with, and the last descriptor with it. Without room
/// for them the kernel throws descriptors away.
pub(super) fn one(
    from: BorrowedFd<'_>,
    into: &mut [IoSliceMut<'_>],
    takes: bool,
) -> io::Result<(usize, MsgFlags, Option<OwnedFd>)> {
    let mut space = if takes { cmsg_space!([i32; 1]) } else { Vec::new() };
    let space = takes.then_some(&mut space);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), into, space.map(|space| &mut **space), flags)?;
    let mut passed = None;
    if takes {
        for control in message.cmsgs()? {
            let ControlMessageOwned::ScmRights(numbers) = control else { continue };
            for number in numbers {
                // SAFETY: the kernel has just made this descriptor for us, and nobody else knows
                // its number; each of the message is taken once, so each has one owner.
                passed = Some(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok((message.bytes, message.flags, passed))
}

/// Has the runtime watch a socket.
pub(super) fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is the socket's own, and stays open and the same until it is dropped,
    // because nobody takes it out again.
    Ok(unsafe { AsyncFd::register(socket) }?)
}
