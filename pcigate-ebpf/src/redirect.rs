//! The way to the gateway: a connect that only the gateway may make is turned to its listener in
//! the socket's own network namespace, and what was asked for is remembered by the socket's cookie.
//!
//! match-proto: net/ipv4/af_inet.c `inet_getname` and `inet_release`, net/ipv6/af_inet6.c
//! `inet6_getname`: `BPF_CGROUP_RUN_SA_PROG` (return 1 always) and
//! `BPF_CGROUP_RUN_PROG_INET_SOCK_RELEASE`.
//!
//! A connect with `AF_UNSPEC` runs no program; the entry it leaves behind means nothing without a
//! connection, and the next connect replaces or removes it, or the socket's end does.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock_addr},
    helpers::{
        bpf_ktime_get_boot_ns,
        generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_skb_load_bytes},
    },
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use pcigate_common::{
    limits::GATEWAY_PORT,
    redirect::{Client, Redirected},
};

use crate::{
    egress::{self, Destination},
    grants,
    identity::{self, Subject},
    maps::{CLIENTS, GATEWAYS, REDIRECTED, REDIRECTS_USED, offsets},
    memory::Address,
    socket_origin::AF_INET6,
};

const TCP: u32 = 6;
/// Of IP headers without options, and where the source address is in them.
const V4_BYTES: u32 = 20;
const V4_SOURCE: u32 = 12;
const V6_SOURCE: u32 = 8;
/// RFC 9293 3.1.
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 1 << 1;
const ACK: u8 = 1 << 4;
/// Of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const LOOPBACK_V4: u32 = 0x7f00_0001_u32.to_be();
const MAPPED: u32 = 0xffff_u32.to_be();

/// What an entry holds until it is filled in. The stack has no room for one.
#[unsafe(no_mangle)]
static NOT_REDIRECTED: Redirected = Redirected::NONE;

#[cgroup_sock_addr(getpeername4)]
pub fn peer_name4(ctx: SockAddrContext) -> i32 {
    let address = egress::v4(ctx.sock_addr);
    if let Some(entry) = of_gateway(address, ctx.sock_addr) {
        // SAFETY: a live map value; the context is valid, and volatile keeps the stores apart.
        unsafe {
            let [_, _, _, v4] = words(entry);
            (&raw mut (*ctx.sock_addr).user_ip4).write_volatile(v4);
            (&raw mut (*ctx.sock_addr).user_port).write_volatile(port(entry));
        }
    }
    1
}

#[cgroup_sock_addr(getpeername6)]
pub fn peer_name6(ctx: SockAddrContext) -> i32 {
    let address = egress::v6(ctx.sock_addr);
    if let Some(entry) = of_gateway(address, ctx.sock_addr) {
        // SAFETY: as above.
        unsafe {
            write_v6(ctx.sock_addr, words(entry));
            (&raw mut (*ctx.sock_addr).user_port).write_volatile(port(entry));
        }
    }
    1
}

/// A socket ends: nobody can answer for its entry any more.
#[cgroup_sock(sock_release)]
pub fn socket_release(ctx: SockContext) -> i32 {
    if used() {
        // SAFETY: the helper takes the context of the program.
        remove(unsafe { bpf_get_socket_cookie(ctx.sock.cast()) });
    }
    1
}

/// The entry of a socket whose peer is the gateway's listener.
#[inline(always)]
fn of_gateway(address: [u32; 4], ctx: *mut bpf_sock_addr) -> Option<*mut Redirected> {
    let (_, port) = egress::protocol_and_port(ctx);
    if !used() || port != u32::from(GATEWAY_PORT) || !egress::is_gateway(address) {
        return None;
    }
    // SAFETY: the helper takes the context of the program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    REDIRECTED.get_ptr_mut(cookie)
}

/// Whether a socket can be redirected: a plain TCP one, free to use loopback, where a gateway says
/// it listens. All others are refused: of MPTCP the kernel shows only a socket of its own making
/// (it has an upper layer before it connects), and one bound to a device would leave by it.
#[inline(always)]
pub fn is_possible(ctx: *mut bpf_sock_addr) -> bool {
    let (protocol, _) = egress::protocol_and_port(ctx);
    if protocol != TCP {
        return false;
    }
    // SAFETY: the context is valid for the program's run; the kernel gives a socket or null, and
    // lets its device be read.
    let device = unsafe {
        let socket = (&raw const (*ctx).__bindgen_anon_1.sk).read_volatile();
        if socket.is_null() {
            u32::MAX
        } else {
            (&raw const (*socket).bound_dev_if).read_volatile()
        }
    };
    if device > LOOPBACK_INDEX {
        return false;
    }
    let upper = egress::socket(ctx).follow(offsets().icsk_ulp_ops);
    if upper != Some(Address(0)) {
        return false;
    }
    // SAFETY: the helper takes the context of the program; only whether there is an entry counts.
    unsafe { GATEWAYS.get(bpf_get_netns_cookie(ctx.cast())) }.is_some()
}

/// Remembers where the socket was to go, and turns it to the listener. `false`: there is no room,
/// and nothing has changed.
#[inline(always)]
pub fn begin(ctx: *mut bpf_sock_addr, subject: &Subject, to: &Destination, rule: u32) -> bool {
    // SAFETY: the helper takes the context of the program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.cast()) };
    if REDIRECTED.insert(cookie, &NOT_REDIRECTED, 0).is_err() {
        return false;
    }
    let Some(entry) = REDIRECTED.get_ptr_mut(cookie) else { return false };
    // SAFETY: a live map value that no reader looks at before the connection is made; the time is
    // written last.
    unsafe {
        (&raw mut (*entry).task).write(identity::current_task());
        (&raw mut (*entry).address).cast::<[u32; 4]>().write(to.address);
        (*entry).port = to.port;
        (*entry).family = to.family;
        (*entry).cgroup = subject.cgroup;
        (*entry).workload = subject.workload;
        (*entry).policy = subject.policy;
        (*entry).rule = rule;
        (*entry).network = bpf_get_netns_cookie(ctx.cast());
        (&raw mut (*entry).time_ns).write_volatile(bpf_ktime_get_boot_ns());
    }
    if grants::used() {
        grants::forget(ctx);
    }
    if let Some(used) = REDIRECTS_USED.get_ptr_mut(0) {
        // SAFETY: an aligned slot of a map; everybody writes the same.
        unsafe { used.write_volatile(1) };
    }
    turn(ctx, to);
    true
}

/// A v4-mapped destination stays one: its socket may be for IPv4 only by then.
#[inline(always)]
fn turn(ctx: *mut bpf_sock_addr, to: &Destination) {
    let [a, b, c, _] = to.address;
    let mapped = a == 0 && b == 0 && c == MAPPED;
    // SAFETY: the context is valid, and these fields may be written by a program of connect.
    unsafe {
        if to.family != AF_INET6 {
            (&raw mut (*ctx).user_ip4).write_volatile(LOOPBACK_V4);
        } else if mapped {
            write_v6(ctx, [0, 0, MAPPED, LOOPBACK_V4]);
        } else {
            write_v6(ctx, [0, 0, 0, 1_u32.to_be()]);
        }
        (&raw mut (*ctx).user_port).write_volatile(u32::from(GATEWAY_PORT.to_be()));
    }
}

/// The socket connects to somewhere else, or nowhere: what it asked for before is over.
#[inline(always)]
pub fn forget(ctx: *mut bpf_sock_addr) {
    if used() {
        // SAFETY: the helper takes the context of the program.
        remove(unsafe { bpf_get_socket_cookie(ctx.cast()) });
    }
}

/// A packet to the gateway's port, with its TCP header at `transport`. The first one of a
/// redirected connection says which port the client has; the kernel chooses it behind the connect
/// hook. A function of its own for the sake of the stack.
#[inline(never)]
pub fn leaves(skb: *mut __sk_buff, transport: u32) {
    let mut tcp_flags = 0_u8;
    let mut port = 0_u16;
    let mut client = Client { network: 0, address: [0; 16], port: 0, reserved: 0 };
    // SAFETY: the helpers check the place in the packet and write as many bytes as are given.
    unsafe {
        let read =
            |at: u32, to: *mut c_void, len: u32| bpf_skb_load_bytes(skb.cast(), at, to, len) == 0;
        if !read(transport + TCP_FLAGS, (&raw mut tcp_flags).cast(), 1)
            || tcp_flags & (SYN | ACK) != SYN
        {
            return;
        }
        let cookie = bpf_get_socket_cookie(skb.cast());
        let Some(entry) = REDIRECTED.get_ptr_mut(cookie) else { return };
        let address = (&raw mut client.address).cast::<u8>();
        let read = if transport == V4_BYTES {
            address.add(8).cast::<u32>().write(MAPPED);
            read(V4_SOURCE, address.add(12).cast(), 4)
        } else {
            read(V6_SOURCE, address.cast(), 16)
        } && read(transport, (&raw mut port).cast(), 2);
        if read {
            client.port = u32::from(u16::from_be(port));
            client.network = (*entry).network;
            // Without it the gateway closes the connection.
            let _ = CLIENTS.insert(client, cookie, 0);
        }
    }
}

/// Nearly no socket is there, and to look takes no lock.
#[inline(always)]
fn remove(cookie: u64) {
    // SAFETY: only whether there is an entry counts.
    if unsafe { REDIRECTED.get(cookie) }.is_some() {
        let _ = REDIRECTED.remove(cookie);
    }
}

#[inline(always)]
fn used() -> bool {
    REDIRECTS_USED.get(0).is_some_and(|used| *used != 0)
}

/// # Safety
/// `entry` is a live map value.
#[inline(always)]
unsafe fn words(entry: *mut Redirected) -> [u32; 4] {
    // SAFETY: by the contract of this function; sixteen bytes are four words of any value.
    unsafe { (&raw const (*entry).address).cast::<[u32; 4]>().read() }
}

/// # Safety
/// `entry` is a live map value.
#[inline(always)]
unsafe fn port(entry: *mut Redirected) -> u32 {
    // SAFETY: by the contract of this function.
    u32::from(unsafe { (*entry).port as u16 }.to_be())
}

/// # Safety
/// `ctx` is the context of a program that may write the address.
#[inline(always)]
unsafe fn write_v6(ctx: *mut bpf_sock_addr, address: [u32; 4]) {
    let [a, b, c, d] = address;
    // SAFETY: by the contract of this function; the kernel takes these stores word by word.
    unsafe {
        let words = (&raw mut (*ctx).user_ip6).cast::<u32>();
        words.write_volatile(a);
        words.add(1).write_volatile(b);
        words.add(2).write_volatile(c);
        words.add(3).write_volatile(d);
    }
}
