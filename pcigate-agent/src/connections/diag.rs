//! The messages of sock_diag(7): a list of connections, and the end of one. Bytes only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `AF_INET`.
pub const AF_INET: u8 = 2;
/// `AF_INET6`.
pub const AF_INET6: u8 = 10;

/// include/uapi/linux/netlink.h, sock_diag.h, inet_diag.h.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const SOCKET_ID: usize = 48;
const CONNECTION: usize = 72;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const REQUEST_ACK: u16 = 1 | 4;
const REQUEST_DUMP: u16 = 1 | 0x300;
const REQUEST_ONE: u16 = 1;
/// Of the cookie in the id; all ones ask for any.
const COOKIE: usize = 40;
const TCP: u8 = 6;
const INET_DIAG_CGROUP_ID: u16 = 21;
/// Every state but TIME_WAIT (6), CLOSE (7) and LISTEN (10): those have no peer to speak to.
const CONNECTED: u32 = 0xfff & !(1 << 6 | 1 << 7 | 1 << 10);

/// A connection of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    family: u8,
    /// `struct inet_diag_sockid`, as the kernel gave it.
    id: [u8; SOCKET_ID],
    /// IPv4 as v4-mapped.
    pub peer: Ipv6Addr,
    /// Host order.
    pub peer_port: u16,
    /// Id of the cgroup its socket was made in, where the kernel says it.
    pub cgroup: Option<u64>,
}

/// One message of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of a list.
    Connection(Connection),
    /// The end of a list.
    Done,
    /// The answer to a request: an errno, 0 for success.
    Error(i32),
    /// Not what the kernel sends.
    Broken,
}

/// Asks for all connections of a family and protocol.
pub fn list(family: u8, protocol: u8) -> Vec<u8> {
    request(SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, family, protocol, &[0; SOCKET_ID])
}

/// Asks for the one TCP socket that has these ends, both of one family; the answer is it, or an
/// errno.
pub fn find(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut id = [0; SOCKET_ID];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = id.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, &local.port().to_be_bytes());
    put(2, &peer.port().to_be_bytes());
    for (at, address) in [(4, local.ip()), (20, peer.ip())] {
        match address {
            IpAddr::V4(address) => put(at, &address.octets()),
            IpAddr::V6(address) => put(at, &address.octets()),
        }
    }
    put(COOKIE, &[0xff; 8]);
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    request(SOCK_DIAG_BY_FAMILY, REQUEST_ONE, family, TCP, &id)
}

/// Asks for the end of a connection.
pub fn destroy(connection: &Connection, protocol: u8) -> Vec<u8> {
    request(SOCK_DESTROY, REQUEST_ACK, connection.family, protocol, &connection.id)
}

fn request(kind: u16, flags: u16, family: u8, protocol: u8, id: &[u8; SOCKET_ID]) -> Vec<u8> {
    let len = u32::try_from(HEADER + REQUEST).unwrap_or(0);
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and sender: there is one question at a time.
    bytes.extend([0; 8]);
    bytes.extend([family, protocol, 0, 0]);
    bytes.extend(CONNECTED.to_ne_bytes());
    bytes.extend(id);
    bytes
}

/// The messages of one datagram.
pub fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let len = bytes.first_chunk().map_or(0, |len| u32::from_ne_bytes(*len) as usize);
        let Some(message) = bytes.get(..len).filter(|_| len >= HEADER) else {
            all.push(Answer::Broken);
            break;
        };
        all.push(answer(message).unwrap_or(Answer::Broken));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn answer(message: &[u8]) -> Option<Answer> {
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    let body = message.get(HEADER..)?;
    match kind {
        NLMSG_DONE => Some(Answer::Done),
        // Errno, negative; the request follows.
        NLMSG_ERROR => Some(Answer::Error(i32::from_ne_bytes(*body.first_chunk()?).wrapping_neg())),
        SOCK_DIAG_BY_FAMILY => connection(body).map(Answer::Connection),
        _ => None,
    }
}

/// `struct inet_diag_msg` and its attributes.
fn connection(body: &[u8]) -> Option<Connection> {
    let family = *body.first()?;
    let id: [u8; SOCKET_ID] = *body.get(4..)?.first_chunk()?;
    let peer_port = u16::from_be_bytes(*id.get(2..)?.first_chunk()?);
    let words = id.get(20..)?;
    let peer = match family {
        AF_INET => Ipv4Addr::from(*words.first_chunk::<4>()?).to_ipv6_mapped(),
        AF_INET6 => Ipv6Addr::from(*words.first_chunk::<16>()?),
        _ => return None,
    };
    let cgroup = attribute(body.get(CONNECTION..)?, INET_DIAG_CGROUP_ID);
    let cgroup = cgroup.and_then(|value| Some(u64::from_ne_bytes(*value.first_chunk()?)));
    Some(Connection { family, id, peer, peer_port, cgroup })
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..len)?;
        if kind == wanted {
            return Some(value);
        }
        bytes = bytes.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    /// 10.0.0.5:443 by a socket of cgroup 77.
    fn listed() -> Vec<u8> {
        let mut body = vec![0; CONNECTION];
        body[0] = AF_INET;
        body[6..8].copy_from_slice(&443u16.to_be_bytes());
        body[24..28].copy_from_slice(&[10, 0, 0, 5]);
        // An attribute of one byte, with its padding, and the cgroup's id.
        body.extend([5, 0, 8, 0, 1, 0, 0, 0]);
        body.extend([12, 0, 21, 0]);
        body.extend(77u64.to_ne_bytes());
        message(SOCK_DIAG_BY_FAMILY, &body)
    }

    #[test]
    fn a_list_is_read_to_its_end() {
        let bytes = [listed(), message(NLMSG_DONE, &[0; 4])].concat();
        let [Answer::Connection(found), Answer::Done] = &answers(&bytes)[..] else {
            panic!("{:?}", answers(&bytes));
        };
        assert_eq!(found.peer, Ipv4Addr::new(10, 0, 0, 5).to_ipv6_mapped());
        assert_eq!((found.peer_port, found.cgroup), (443, Some(77)));
        let request = destroy(found, 6);
        assert_eq!(request.len(), HEADER + REQUEST);
        assert_eq!(request[24..], listed()[20..68], "the kernel's own id is sent back");
    }

    #[test]
    fn one_socket_is_asked_for_by_both_of_its_ends() {
        let local = "127.0.0.1:4711".parse().unwrap();
        let bytes = find(local, "127.0.0.1:15099".parse().unwrap());
        assert_eq!(bytes[16], AF_INET);
        assert_eq!(bytes[24..28], [0x12, 0x67, 0x3a, 0xfb]);
        assert_eq!((&bytes[28..32], &bytes[44..48]), (&[127, 0, 0, 1][..], &[127, 0, 0, 1][..]));
        assert_eq!(bytes[64..], [0xff; 8], "whatever its cookie is");
    }

    #[test]
    fn the_answer_to_a_request_is_an_errno() {
        let gone = message(NLMSG_ERROR, &(-2i32).to_ne_bytes());
        assert_eq!(answers(&gone), [Answer::Error(2)]);
        assert_eq!(answers(&message(NLMSG_ERROR, &[0; 20])), [Answer::Error(0)]);
        assert_eq!(answers(&message(NLMSG_ERROR, &[0])), [Answer::Broken]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic_or_go_on_for_ever(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            cut in 0usize..120,
        ) {
            prop_assert!(answers(&bytes).len() <= bytes.len() / HEADER + 1);
            let listed = listed();
            let _ = answers(&listed[..cut.min(listed.len())]);
        }

        #[test]
        fn attributes_of_any_length_end(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = attribute(&bytes, INET_DIAG_CGROUP_ID);
        }
    }
}
