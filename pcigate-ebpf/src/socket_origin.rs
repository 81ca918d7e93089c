//! Where a socket was made: the cgroup of the task that made it, which the socket keeps.
//!
//! match-proto: net/core/sock.c `sk_alloc`, which calls `cgroup_sk_alloc(&sk->sk_cgrp_data)` for
//! sockets of every family, unix sockets among them.

use pcigate_common::limits::CLIMB_MAX;

use crate::{
    identity::{self, Subject},
    maps::{offsets, settings},
    memory::Address,
};

pub const AF_UNIX: u32 = 1;
pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;
pub const AF_NETLINK: u32 = 16;

/// Where a socket was made, seen from one who uses it.
#[derive(Clone, Copy)]
pub struct Origin {
    /// In the user's own pod.
    pub own: bool,
    /// Below the governed root, so that the cgroup's programs see the socket.
    pub governed: bool,
}

/// What cannot be read was made elsewhere.
#[inline(always)]
pub fn of(sk: Address, subject: &Subject) -> Origin {
    let offsets = offsets();
    let root = settings().root_cgroup;
    let own_id = identity::pod(subject);
    let mut origin = Origin { own: false, governed: false };
    let Some(mut cgroup) = sk.follow(offsets.sock_cgroup) else { return origin };
    for _ in 0..CLIMB_MAX {
        let id =
            cgroup.follow(offsets.cgroup_kn).and_then(|kn| kn.at(offsets.kernfs_node_id).read());
        let Some(id) = id else { break };
        let id: u64 = id;
        if id == own_id || id == subject.cgroup {
            // Whoever acts is below the root, so what it is in is, too.
            return Origin { own: true, governed: true };
        }
        if id == root {
            origin.governed = true;
            break;
        }
        let parent = cgroup.follow(offsets.cgroup_parent);
        let Some(parent) = parent.and_then(|css| css.follow(offsets.css_cgroup)) else { break };
        cgroup = parent;
    }
    origin
}
