//! An attempt's numbers and text in the words of a record.

use std::net::{IpAddr, Ipv6Addr};

use nix::libc;
use pcigate_common::{
    event::{Attempt, What, flags, setting},
    limits::NAME_BYTES_MAX,
};
use pcigate_policy::mask::{Cut, Masked};
use pcigate_proto::Enforcement;

use crate::draft;

/// What was asked for, and how it was refused.
pub(super) fn event(attempt: &Attempt, text: &[u8]) -> (draft::Event, Option<Enforcement>) {
    let [a, b, c, _] = attempt.numbers;
    let object = match attempt.what {
        What::Socket => plain(&socket(a, b, c)),
        What::Bind | What::Listen | What::Accept => {
            plain(&format!("{} {}", protocol(b), place(attempt.address, c)))
        }
        What::UnixConnect => unix_name(text),
        What::Signal => plain(&format!("signal {a} to process {b}")),
        What::Ptrace => plain(&format!("process {b}, mode {a:#x}")),
        What::Bpf => plain(&format!("command {a}")),
        What::Capability => plain(&capability(a)),
        What::Namespace => plain(&format!("flags {a:#x}")),
        What::Write => Masked::new(text, cut(text)),
        What::Perf => plain("any event"),
        What::Process => plain(&format!("{} of process {b}", setting(a))),
    };
    let refused_by = match attempt.what {
        _ if attempt.header.flags & flags::LSM != 0 => Enforcement::Lsm,
        What::Socket | What::Bind | What::Accept => Enforcement::Cgroup,
        _ => Enforcement::Lsm,
    };
    (draft::Event::Attempt { operation: operation(attempt.what), object }, Some(refused_by))
}

const fn operation(what: What) -> &'static str {
    match what {
        What::Socket => "socket",
        What::Bind => "bind",
        What::Listen => "listen",
        What::Accept => "accept",
        What::UnixConnect => "unix-connect",
        What::Signal => "signal",
        What::Ptrace => "ptrace",
        What::Bpf => "bpf",
        What::Capability => "capability",
        What::Namespace => "namespace",
        What::Write => "write",
        What::Perf => "perf",
        What::Process => "process",
    }
}

fn setting(number: u32) -> String {
    match number {
        setting::LIMIT => "limits".to_owned(),
        setting::SCHEDULER => "scheduling".to_owned(),
        setting::NICE => "priority".to_owned(),
        other => format!("setting {other}"),
    }
}

fn plain(text: &str) -> Masked {
    Masked::new(text.as_bytes(), Cut::Whole)
}

/// Text that fills its room may have been cut.
fn cut(text: &[u8]) -> Cut {
    if text.len() + 1 >= NAME_BYTES_MAX { Cut::End } else { Cut::Whole }
}

fn place(address: [u8; 16], port: u32) -> String {
    let address = Ipv6Addr::from(address);
    match address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4) {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}

/// The name of an abstract unix socket begins with NUL, which `ss` and others print as `@`.
fn unix_name(text: &[u8]) -> Masked {
    match text {
        [] => plain("(unnamed)"),
        [0, name @ ..] => Masked::new(&[b"@", name].concat(), cut(text)),
        path => Masked::new(path, cut(path)),
    }
}

/// `AF_PACKET SOCK_RAW 768`; what has no name here is a number.
fn socket(family: u32, kind: u32, protocol: u32) -> String {
    let named = |number: u32, names: &[(i32, &'static str)]| {
        let name = names.iter().find(|(known, _)| known.cast_unsigned() == number);
        name.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
    };
    format!("{} {} {protocol}", named(family, &FAMILIES), named(kind & 0xf, &TYPES))
}

const FAMILIES: [(i32, &str); 11] = [
    (libc::AF_UNIX, "AF_UNIX"),
    (libc::AF_INET, "AF_INET"),
    (libc::AF_INET6, "AF_INET6"),
    (libc::AF_NETLINK, "AF_NETLINK"),
    (libc::AF_PACKET, "AF_PACKET"),
    (libc::AF_ALG, "AF_ALG"),
    (libc::AF_VSOCK, "AF_VSOCK"),
    (libc::AF_XDP, "AF_XDP"),
    (libc::AF_TIPC, "AF_TIPC"),
    (libc::AF_CAN, "AF_CAN"),
    (libc::AF_BLUETOOTH, "AF_BLUETOOTH"),
];

const TYPES: [(i32, &str); 6] = [
    (libc::SOCK_STREAM, "SOCK_STREAM"),
    (libc::SOCK_DGRAM, "SOCK_DGRAM"),
    (libc::SOCK_RAW, "SOCK_RAW"),
    (libc::SOCK_RDM, "SOCK_RDM"),
    (libc::SOCK_SEQPACKET, "SOCK_SEQPACKET"),
    (6, "SOCK_DCCP"),
];

fn protocol(number: u32) -> String {
    match number {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => format!("ip-proto-{other}"),
    }
}

/// `CAP_NET_ADMIN`, as include/uapi/linux/capability.h numbers them.
fn capability(number: u32) -> String {
    let known = caps::all().into_iter().find(|known| u32::from(known.index()) == number);
    known.map_or_else(|| format!("capability {number}"), |known| known.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_capabilities_are_named_as_manual_pages_name_them() {
        assert_eq!(socket(17, 3, 768), "AF_PACKET SOCK_RAW 768");
        assert_eq!(socket(2, 1 | 0o2_000_000, 262), "AF_INET SOCK_STREAM 262");
        assert_eq!(socket(99, 9, 0), "99 9 0");
        assert_eq!(capability(12), "CAP_NET_ADMIN");
        assert_eq!(capability(63), "capability 63");
    }

    #[test]
    fn an_abstract_unix_name_begins_with_an_at_sign() {
        assert_eq!(unix_name(b"\0shim").as_str(), "@shim");
        assert_eq!(unix_name(b"/run/x.sock").as_str(), "/run/x.sock");
        assert_eq!(unix_name(b"").as_str(), "(unnamed)");
    }
}
