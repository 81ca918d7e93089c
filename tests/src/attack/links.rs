//! Network links by rtnetlink (include/uapi/linux/rtnetlink.h): loopback up, and a tunnel made and
//! removed.

use std::{io, os::fd::AsRawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const REQUEST_AND_ACK: u16 = 0x5;
const CREATE_EXCLUSIVE: u16 = 0x600;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFF_UP: u32 = 1;
/// Kinds a kernel may know, tunnels first.
const KINDS: [&str; 6] = ["wireguard", "ipip", "gre", "sit", "veth", "dummy"];
const NAME: &str = "pcigate-way-out";
/// `EOPNOTSUPP`, for a kind the kernel does not know.
const UNKNOWN: i32 = 95;

/// Sets the link `lo` of this network namespace up.
///
/// # Errors
/// The errno.
pub fn loopback_up() -> io::Result<()> {
    ask(RTM_NEWLINK, REQUEST_AND_ACK, IFF_UP, &attribute(IFLA_IFNAME, b"lo\0"))
}

/// Makes a link that could be another way out, and removes it.
///
/// # Errors
/// The errno; `EOPNOTSUPP` where this kernel has no such kind.
pub fn make_and_remove() -> io::Result<()> {
    let name = attribute(IFLA_IFNAME, format!("{NAME}\0").as_bytes());
    let mut last = io::Error::from_raw_os_error(UNKNOWN);
    for kind in KINDS {
        let info = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind.as_bytes()));
        let flags = REQUEST_AND_ACK | CREATE_EXCLUSIVE;
        match ask(RTM_NEWLINK, flags, 0, &[name.clone(), info].concat()) {
            Ok(()) => return ask(RTM_DELLINK, REQUEST_AND_ACK, 0, &name),
            Err(error) if error.raw_os_error() == Some(UNKNOWN) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn ask(kind: u16, flags: u16, link_flags: u32, attributes: &[u8]) -> io::Result<()> {
    let route = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, route)?;
    let len = u32::try_from(32 + attributes.len()).unwrap_or(u32::MAX);
    let mut message = len.to_ne_bytes().to_vec();
    message.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    message.extend([0; 8]);
    // struct ifinfomsg: the link is named by an attribute; flags and which of them change.
    message.extend([0; 8]);
    message.extend([link_flags.to_ne_bytes(), link_flags.to_ne_bytes()].concat());
    message.extend(attributes);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 512];
    let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let error = answer.get(16..20).filter(|_| len >= 20).and_then(|four| four.try_into().ok());
    match error.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(-error)),
        None => Err(io::Error::other("the kernel's answer is no netlink error message")),
    }
}
