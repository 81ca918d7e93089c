//! What a packet of a governed socket is: plain, or with a DNS message, where, and whose.

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_probe_read_kernel, bpf_skb_ancestor_cgroup_id, bpf_skb_load_bytes},
};
use pcigate_common::{dns, limits};

use crate::{
    maps::{WORKLOADS, offsets, settings},
    memory::Address,
};

/// IP protocol number of TCP.
pub const TCP: u32 = 6;
const UDP: u32 = 17;
/// `lo` has this number in every network namespace (include/net/net_namespace.h,
/// `LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;
const V4_BYTES: u32 = 20;
const V6_BYTES: u32 = 40;

/// Words from the beginning of a `struct sock` that hold `skc_net` on every kernel (it is the
/// seventh).
pub const SOCK_WORDS: usize = 16;

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the socket to a DNS server.
    Out,
    /// From a DNS server to the socket.
    In,
}

/// What a packet's headers say at a glance.
#[derive(Clone, Copy)]
pub enum Shape {
    /// TCP or UDP without options in the IP header, to or from a DNS server's port.
    Dns(Packet),
    /// The same over TCP, on its way to the gateway's port.
    Gateway(Packet),
    /// TCP or UDP without options in the IP header.
    Plain,
    /// Anything else, or what could not be read.
    Other,
}

/// A packet to or from port 53 over TCP or UDP.
#[derive(Clone, Copy)]
pub struct Packet {
    skb: *mut __sk_buff,
    /// Where TCP or UDP begins.
    pub transport: u32,
    /// 6 or 17.
    pub protocol: u32,
}

/// A message in a packet.
#[derive(Clone, Copy)]
pub struct Place {
    /// Its first byte.
    pub at: u32,
    /// Its length.
    pub len: u32,
}

/// Sorts a packet, after a few instructions. IPv4 options and IPv6 extension headers, which no DNS
/// server sends, are not looked behind.
#[inline(always)]
pub fn shape(skb: *mut __sk_buff, way: Way) -> Shape {
    // SAFETY: the context is valid for the program's run. The kernel has pulled the headers of a
    // packet that has a socket into its linear part; every load is behind a comparison with its
    // end.
    unsafe {
        let data = (&raw const (*skb).data).read_volatile() as usize;
        let end = (&raw const (*skb).data_end).read_volatile() as usize;
        if data + V4_BYTES as usize + 4 > end {
            return Shape::Other;
        }
        let bytes = data as *const u8;
        match *bytes {
            0x45 => {
                let ports = bytes.add(V4_BYTES as usize);
                sort(
                    Packet { skb, transport: V4_BYTES, protocol: u32::from(*bytes.add(9)) },
                    ports,
                    way,
                )
            }
            first if first >> 4 == 6 => {
                if data + V6_BYTES as usize + 4 > end {
                    return Shape::Other;
                }
                let ports = bytes.add(V6_BYTES as usize);
                sort(
                    Packet { skb, transport: V6_BYTES, protocol: u32::from(*bytes.add(6)) },
                    ports,
                    way,
                )
            }
            _ => Shape::Other,
        }
    }
}

/// # Safety
/// Four bytes can be read at `ports`.
#[inline(always)]
unsafe fn sort(packet: Packet, ports: *const u8, way: Way) -> Shape {
    if packet.protocol != UDP && packet.protocol != TCP {
        return Shape::Other;
    }
    let at = if way == Way::In { 0 } else { 2 };
    // SAFETY: by the contract of this function.
    let port = unsafe { [*ports.add(at), *ports.add(at + 1)] };
    match u16::from_be_bytes(port) {
        dns::PORT => Shape::Dns(packet),
        limits::GATEWAY_PORT if way == Way::Out && packet.protocol == TCP => Shape::Gateway(packet),
        _ => Shape::Plain,
    }
}

impl Packet {
    /// Whether it came over loopback, where any process of the same network namespace can have sent
    /// it, from whatever address.
    #[inline(always)]
    pub fn is_loopback(&self) -> bool {
        // SAFETY: as in `shape`.
        unsafe { (&raw const (*self.skb).ifindex).read_volatile() == LOOPBACK }
    }

    /// The address it comes from (IPv4 as v4-mapped).
    #[inline(always)]
    pub fn source(&self) -> Option<[u8; 16]> {
        if self.transport == V6_BYTES {
            return self.load::<16>(8);
        }
        let [a, b, c, d] = self.load::<4>(12)?;
        Some([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The message: a datagram's content, or of a segment what follows a length that is exactly
    /// the rest of it. `Err` = there is content, but no whole message.
    #[inline(always)]
    pub fn message(&self) -> Option<Result<Place, ()>> {
        // SAFETY: as in `shape`.
        let total = unsafe { (&raw const (*self.skb).len).read_volatile() };
        if self.protocol != TCP {
            let place = Place { at: self.transport + 8, len: self.word(self.transport + 4)? };
            let len = place.len.checked_sub(8)?;
            return (total >= place.at + len).then_some(Ok(Place { len, ..place }));
        }
        let [offset] = self.load::<1>(self.transport + 12)?;
        let at = self.transport + u32::from(offset >> 4) * 4;
        if total <= at {
            return None;
        }
        let len = total - at;
        let whole = self.word(at).is_some_and(|said| said + 2 == len);
        Some(if whole { Ok(Place { at: at + 2, len: len - 2 }) } else { Err(()) })
    }

    #[inline(always)]
    fn word(&self, at: u32) -> Option<u32> {
        self.load::<2>(at).map(|bytes| u32::from(u16::from_be_bytes(bytes)))
    }

    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        // SAFETY: the buffer holds `N` bytes.
        let status =
            unsafe { bpf_skb_load_bytes(self.skb.cast(), at, bytes.as_mut_ptr().cast(), N as u32) };
        (status == 0).then_some(bytes)
    }

    /// Cookie of the socket's network namespace, by way of a buffer for the beginning of the
    /// socket: `bpf_get_netns_cookie` is for packets only since 6.18, and the verifier lets nothing
    /// be added to a socket's address.
    #[inline(always)]
    pub fn network(&self, sock: *mut [u64; SOCK_WORDS]) -> Option<u64> {
        let offsets = offsets();
        // SAFETY: as in `shape`; the buffer is the caller's and as large as is said here.
        unsafe {
            let socket = (&raw const (*self.skb).__bindgen_anon_2.sk).read_volatile();
            if socket.is_null() {
                return None;
            }
            let bytes = (SOCK_WORDS * 8) as u32;
            if bpf_probe_read_kernel(sock.cast(), bytes, socket.cast()) < 0 {
                return None;
            }
            let word = offsets.sock_net as usize / 8 & (SOCK_WORDS - 1);
            let net = sock.cast::<u64>().add(word).read_volatile();
            Address(net).at(offsets.net_cookie).read()
        }
    }

    /// The workload of the socket and its policy: the deepest governed cgroup above the socket's.
    #[inline(always)]
    pub fn workload(&self) -> Option<(u64, u32)> {
        let first = settings().root_level;
        let mut found = None;
        for depth in 0..limits::CGROUP_DEPTH_MAX {
            // SAFETY: a level below the socket's own answers 0.
            let id = unsafe { bpf_skb_ancestor_cgroup_id(self.skb, (first + depth) as i32) };
            if id == 0 {
                break;
            }
            // SAFETY: as in `identity`.
            if let Some(entry) = unsafe { WORKLOADS.get(id) } {
                found = Some((id, entry.policy));
            }
        }
        found
    }
}
