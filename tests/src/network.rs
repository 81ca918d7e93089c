//! A pod's network of a test's own: a fresh network namespace with a link to a second one, in which
//! servers answer. Where the kernel has no link to offer, everything is on the pod's loopback.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    path::PathBuf,
    process::{Command, Stdio},
};

use nix::sched::{CloneFlags, setns, unshare};

/// Both namespaces; they and their links go when this is dropped.
pub struct Network {
    pod: File,
    outside: File,
    /// Where servers listen, two addresses: the pod's policy names the first.
    pub servers: [IpAddr; 2],
    /// Whether packets between servers and pod pass loopback.
    pub loopback: bool,
}

const POD: [&str; 4] = [
    "addr add 10.77.0.2/24 dev pod",
    "addr add fd77::2/64 dev pod nodad",
    "link set pod up",
    "route add default via 10.77.0.53",
];
const OUTSIDE: [&str; 4] = [
    "addr add 10.77.0.53/24 dev server",
    "addr add 10.77.0.54/24 dev server",
    "addr add fd77::53/64 dev server nodad",
    "link set server up",
];

impl Network {
    /// A new one.
    ///
    /// # Panics
    /// Not root, or the kernel has no network namespaces.
    #[must_use]
    pub fn new() -> Self {
        crate::need_root();
        let (pod, outside) = (namespace(), namespace());
        let link = format!(
            "link add pod type veth peer name server netns /proc/{}/fd/{}",
            std::process::id(),
            outside.as_raw_fd()
        );
        let linked = inside(&pod, || ip(&link) && POD.into_iter().all(ip));
        let loopback = !(linked && inside(&outside, || OUTSIDE.into_iter().all(ip)));
        let servers = if loopback {
            [[127, 0, 0, 53], [127, 0, 0, 54]]
        } else {
            [[10, 77, 0, 53], [10, 77, 0, 54]]
        };
        let servers = servers.map(|address| IpAddr::V4(Ipv4Addr::from(address)));
        Self { pod, outside, servers, loopback }
    }

    /// The pod's namespace as a path, for the probe.
    #[must_use]
    pub fn pod(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.pod.as_raw_fd()).into()
    }

    /// Does something where the servers are.
    pub fn outside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        inside(if self.loopback { &self.pod } else { &self.outside }, act)
    }

    /// Does something in the pod's namespace.
    pub fn in_pod<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        inside(&self.pod, act)
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

/// A fresh network namespace with its loopback up.
fn namespace() -> File {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces are there");
            assert!(ip("link set lo up"), "loopback cannot be set up");
            File::open("/proc/thread-self/ns/net").expect("procfs shows the namespace")
        });
        thread.join().expect("a namespace is made")
    })
}

/// A thread of its own enters, acts and ends.
fn inside<T: Send>(namespace: &File, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter");
            act()
        });
        thread.join().expect("the thread ends well")
    })
}

/// `ip` of iproute2, or of busybox where that is all there is.
fn ip(arguments: &str) -> bool {
    let run = |program: &str, first: &[&str]| {
        let arguments = first.iter().copied().chain(arguments.split(' '));
        let command = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        command.map(|status| status.success())
    };
    run("ip", &[]).or_else(|_| run("/bin/busybox", &["ip"])).is_ok_and(|done| done)
}
