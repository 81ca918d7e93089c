//! One network namespace: entering it, its listeners, and the question whose a connection is.

use std::{
    fmt,
    fs::{self, File},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{fd::AsFd, unix::fs::MetadataExt},
    sync::{Arc, Mutex},
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};
use pcigate_common::limits::GATEWAY_PORT;
use tokio::{
    net::TcpSocket,
    sync::{Semaphore, watch},
};

use super::cookie;
use crate::{connections::Kernel, recorder::lock};

/// Connections the kernel keeps until they are accepted; what comes beyond waits in the client's
/// own retries.
pub(super) const BACKLOG: u32 = 1024;

/// A namespace the gateway listens in.
pub struct Network {
    /// As the kernel programs know it.
    pub cookie: u64,
    namespace: File,
    kernel: Mutex<Kernel>,
    /// For the connections under way.
    pub(super) room: Arc<Semaphore>,
    closed: watch::Sender<bool>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Network({})", self.cookie)
    }
}

impl Network {
    /// Does something in this namespace, in a thread of its own.
    ///
    /// # Errors
    /// The namespace cannot be entered, or what `act` says.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        inside(&self.namespace, act)
    }

    /// The gateway does not listen here any more: what it let in ends.
    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Waits until that is so.
    pub(super) async fn closed(&self) {
        // The sender lives as long as this does.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// The cgroup in which the socket at `local`, connected to `peer`, was made: where the kernel
    /// has sock_diag, and the socket is still there.
    pub(super) fn cgroup(&self, local: SocketAddr, peer: SocketAddr) -> Option<u64> {
        lock(&self.kernel).find(local, peer).ok().flatten()?.cgroup
    }
}

/// Enters a namespace and binds the listeners there: 127.0.0.1, and `::1` where there is one.
/// Sockets stay in the namespace they were made in; the listening itself is the caller's.
///
/// # Errors
/// What was tried, and what the system says.
pub(super) fn enter(
    namespace: File,
    connections: usize,
) -> Result<(Network, Vec<TcpSocket>), (&'static str, io::Error)> {
    let made = inside(&namespace, || {
        let v4 = TcpSocket::new_v4()?;
        bind(&v4, (Ipv4Addr::LOCALHOST, GATEWAY_PORT).into())?;
        let cookie = cookie::of_network(v4.as_fd())?;
        let mut listeners = vec![v4];
        listeners.extend(v6()?);
        Ok((cookie, Kernel::open()?, listeners))
    });
    let (cookie, kernel, listeners) = made.map_err(|source| ("entering and binding", source))?;
    let room = Arc::new(Semaphore::new(connections));
    let (kernel, closed) = (Mutex::new(kernel), watch::Sender::new(false));
    Ok((Network { cookie, namespace, kernel, room, closed }, listeners))
}

fn bind(socket: &TcpSocket, at: SocketAddr) -> io::Result<()> {
    // Connections of an earlier listener may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(at)
}

/// `None` where the namespace has no IPv6; what connects there over IPv6 then fails.
fn v6() -> io::Result<Option<TcpSocket>> {
    let bound = TcpSocket::new_v6().and_then(|socket| {
        bind(&socket, (Ipv6Addr::LOCALHOST, GATEWAY_PORT).into())?;
        Ok(socket)
    });
    let absent = [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL].map(|errno| errno as i32);
    match bound {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.raw_os_error().is_some_and(|errno| absent.contains(&errno)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A thread of its own enters, acts and ends. Entering one's own namespace takes a privilege that
/// an agent beside a command does not have, and changes nothing.
fn inside<T: Send>(namespace: &File, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let work = || {
        let own = fs::metadata("/proc/thread-self/ns/net")?;
        let wanted = namespace.metadata()?;
        if (own.dev(), own.ino()) != (wanted.dev(), wanted.ino()) {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
        }
        act()
    };
    thread::scope(|scope| {
        let work =
            thread::Builder::new().name("gateway-network".to_owned()).spawn_scoped(scope, work);
        work?.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}
