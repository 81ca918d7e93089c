//! Keys and values of the maps by which the kernel and the gateway know of redirected connections.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::event::Task;

/// `REDIRECTED`: what is remembered of a socket, by its cookie, whose connect was turned to the
/// gateway's listener: where it was to go, who asked, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Redirected {
    /// Who connected.
    pub task: Task,
    /// The destination asked for, in network order; IPv4 as v4-mapped.
    pub address: [u8; 16],
    /// Its port, host order.
    pub port: u32,
    /// Address family of the connect: 2 `AF_INET`, 10 `AF_INET6`.
    pub family: u32,
    /// cgroup of the task.
    pub cgroup: u64,
    /// The governed cgroup above it.
    pub workload: u64,
    /// Its policy.
    pub policy: u32,
    /// The gate rule, an index into the policy's rule table.
    pub rule: u32,
    /// Cookie of the socket's network namespace.
    pub network: u64,
    /// `bpf_ktime_get_boot_ns` of the connect; 0 = not complete.
    pub time_ns: u64,
}
const _: () = assert!(size_of::<Redirected>() == 96);

/// Key of `CLIENTS`: the client's end of a redirected connection, as the gateway sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Client {
    /// Cookie of the network namespace.
    pub network: u64,
    /// Address in network order; IPv4 as v4-mapped.
    pub address: [u8; 16],
    /// Port, host order.
    pub port: u32,
    /// Unused, zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Client>() == 32);

impl Redirected {
    /// Nothing yet.
    pub const NONE: Self = Self {
        task: Task::NONE,
        address: [0; 16],
        port: 0,
        family: 0,
        cgroup: 0,
        workload: 0,
        policy: 0,
        rule: 0,
        network: 0,
        time_ns: 0,
    };
}
