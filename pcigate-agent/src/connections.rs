//! Closes live connections of a workload: `SOCK_DESTROY` in its network namespaces.
//!
//! The client sees `ECONNABORTED` at once and the peer a reset. A convenience on top of what the
//! kernel programs do: they drop the packets of a connection whose grant is over, with or without.

mod diag;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt,
            socket, sockopt::ReceiveTimeout,
        },
        time::TimeVal,
    },
};

use diag::{Answer, Connection};

/// How long the kernel may take to answer; it answers at once.
const ANSWER_WITHIN_S: i64 = 5;
/// Bytes of an answer: the kernel fills at most 32 KiB of a dump at a time.
const ANSWER_BYTES: usize = 64 * 1024;

/// Bytes of an answer about one socket: some 200, with all attributes below 1,000.
const ONE_BYTES: usize = 4096;

const TCP: u8 = 6;

/// A destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Where to.
    pub address: IpAddr,
    /// IP protocol number (6 TCP, 17 UDP).
    pub protocol: u8,
    /// Where to.
    pub port: u16,
}

/// Why connections cannot be closed; their packets are dropped all the same.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The kernel has no such interface.
    #[error(
        "this kernel cannot close other processes' connections: load its modules tcp_diag, \
         udp_diag and inet_diag (CONFIG_INET_DIAG_DESTROY); packets are dropped meanwhile"
    )]
    Unavailable,
    /// The workload's cgroup cannot be read.
    #[error("cannot read the cgroup {path}")]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A network namespace cannot be entered, or does not answer.
    #[error("cannot close connections in the network namespace of process {pid}: {what}")]
    Namespace {
        /// A process in it.
        pid: u32,
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Closes the connections that sockets of a cgroup (and of those below it) have to a destination,
/// in every network namespace that a process of the cgroup is in. How many there were.
///
/// # Errors
/// See [`CloseError`]; what could be closed is closed.
pub fn close(cgroup: &Path, to: &Destination) -> Result<usize, CloseError> {
    let mut place = Place::default();
    place.read(cgroup).map_err(|source| CloseError::Cgroup { path: cgroup.to_owned(), source })?;
    let (mut closed, mut failed) = (0, None);
    for (pid, namespace) in place.namespaces.values() {
        match in_namespace(*pid, namespace, &place.cgroups, to) {
            Ok(count) => closed += count,
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(closed), Err)
}

/// Whether this kernel lists TCP connections, which closing them needs: asked in the caller's own
/// network namespace.
#[must_use]
pub fn available() -> bool {
    Kernel::open().and_then(|kernel| kernel.ask(&diag::list(diag::AF_INET, TCP))).is_ok()
}

/// The directory of a cgroup, by its id; `None` where it is gone.
#[must_use]
pub fn cgroup_of(tree: &Path, id: u64) -> Option<PathBuf> {
    if fs::metadata(tree).ok()?.ino() == id {
        return Some(tree.to_owned());
    }
    let below = fs::read_dir(tree).ok()?.flatten();
    let directories = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.into_iter().find_map(|entry| cgroup_of(&entry.path(), id))
}

/// A cgroup with everything below it.
#[derive(Default)]
struct Place {
    cgroups: BTreeSet<u64>,
    /// By inode: a process in it, and the namespace.
    namespaces: BTreeMap<u64, (u32, File)>,
}

impl Place {
    fn read(&mut self, cgroup: &Path) -> io::Result<()> {
        self.cgroups.insert(fs::metadata(cgroup)?.ino());
        let processes = fs::read_to_string(cgroup.join("cgroup.procs"))?;
        for pid in processes.lines().filter_map(|line| line.parse().ok()) {
            // A process that ended meanwhile has no namespace any more.
            let Ok(file) = File::open(format!("/proc/{pid}/ns/net")) else { continue };
            self.namespaces.entry(file.metadata()?.ino()).or_insert((pid, file));
        }
        for entry in fs::read_dir(cgroup)?.flatten() {
            if entry.file_type()?.is_dir() {
                match self.read(&entry.path()) {
                    // Removed since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }
}

/// In a thread of its own, which ends in the namespace it entered.
fn in_namespace(
    pid: u32,
    namespace: &File,
    cgroups: &BTreeSet<u64>,
    to: &Destination,
) -> Result<usize, CloseError> {
    let failed = |what| move |source: io::Error| CloseError::Namespace { pid, what, source };
    thread::scope(|scope| {
        let work = thread::Builder::new().name("close-connections".to_owned());
        let work = work.spawn_scoped(scope, || {
            setns(namespace, CloneFlags::CLONE_NEWNET)
                .map_err(|errno| failed("setns")(errno.into()))?;
            let kernel = Kernel::open().map_err(failed("socket"))?;
            match kernel.close(cgroups, to) {
                // What the kernel answers where the module for the address family is missing.
                Err(error) if is(&error, Errno::ENOENT) || is(&error, Errno::EOPNOTSUPP) => {
                    Err(CloseError::Unavailable)
                }
                other => other.map_err(failed("sock_diag")),
            }
        });
        let ended = work.map_err(failed("a thread"))?.join();
        ended.unwrap_or_else(|_| Err(failed("a thread")(io::Error::other("it panicked"))))
    })
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

/// A `NETLINK_SOCK_DIAG` socket in the network namespace of the thread that opened it.
pub(crate) struct Kernel(std::os::fd::OwnedFd);

impl Kernel {
    pub(crate) fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        setsockopt(&fd, ReceiveTimeout, &TimeVal::new(ANSWER_WITHIN_S, 0))?;
        Ok(Self(fd))
    }

    fn close(&self, cgroups: &BTreeSet<u64>, to: &Destination) -> io::Result<usize> {
        let address = mapped(to.address);
        let mut closed = 0;
        for family in [diag::AF_INET, diag::AF_INET6] {
            let found = self.ask(&diag::list(family, to.protocol))?;
            let wanted = found.iter().filter(|connection| {
                connection.peer == address
                    && connection.peer_port == to.port
                    && connection.cgroup.is_none_or(|cgroup| cgroups.contains(&cgroup))
            });
            for connection in wanted {
                match self.ask(&diag::destroy(connection, to.protocol)) {
                    Ok(_) => closed += 1,
                    // It ended by itself.
                    Err(error) if is(&error, Errno::ENOENT) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(closed)
    }

    /// The TCP socket of the namespace that has these ends. One question at a time.
    pub(crate) fn find(
        &self,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> io::Result<Option<Connection>> {
        send(self.0.as_raw_fd(), &diag::find(local, peer), MsgFlags::empty())?;
        let mut buffer = [0; ONE_BYTES];
        let len = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        match diag::answers(buffer.get(..len).unwrap_or_default()).into_iter().next() {
            Some(Answer::Connection(connection)) => Ok(Some(connection)),
            Some(Answer::Error(errno)) if errno == Errno::ENOENT as i32 => Ok(None),
            Some(Answer::Error(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    /// Sends a request and reads until its last answer.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<Connection>> {
        send(self.0.as_raw_fd(), request, MsgFlags::empty())?;
        let mut found = Vec::new();
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let len = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for answer in diag::answers(buffer.get(..len).unwrap_or_default()) {
                match answer {
                    Answer::Connection(connection) => found.push(connection),
                    Answer::Done => return Ok(found),
                    Answer::Error(0) => return Ok(found),
                    Answer::Error(errno) => return Err(io::Error::from_raw_os_error(errno)),
                    Answer::Broken => return Err(io::Error::from(io::ErrorKind::InvalidData)),
                }
            }
        }
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
